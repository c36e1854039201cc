// SPDX-License-Identifier: Apache-2.0
/**
 * Letters from device to device, and the server's notices: sent, and kept on this device until they were read.
 *
 * The mailbox of docs/formats/rest-messages.md for all that is no message of a session. Does not open a letter; `pairing`
 * and `trusted` do, and believe nothing of the sender but what is signed inside. The sender whom the server names decides
 * only whose quota a letter fills: a lie there takes nothing that silence would not.
 */
import { type Bytes, concat, EMPTY, equal, hex } from "../../core/base/bytes.js";
import { b64u, encode, MAX_BLOB } from "../../core/base/encoding.js";
import { HoldfastError } from "../../core/base/errors.js";
import { choice, layout, octets, openRow, sealRow, uint } from "../../core/base/rows.js";
import { SecretBytes } from "../../core/base/secret.js";
import { uuidText } from "../../core/base/uuids.js";
import { sha256 } from "../../core/crypto/hashing.js";
import { ShareLetter } from "../../core/vault/contact_shares.js";
import { indexOf } from "../../core/vault/share_manifest.js";
import { AnswerRefused, type ClientError, PeerChanged } from "../errors.js";
import type { Account } from "../profile/account.js";
import { type Answer, parse } from "../server/answers.js";
import * as quotas from "./quotas.js";
import type { Quota } from "./quotas.js";
import * as reports from "./reports.js";
import { ReportKind } from "./reports.js";

/**
 * Rows: a letter that was put away, by its row's key. A lost acknowledgement brings it again, and so does a server that was
 * put back from a backup: what was read or done is neither told nor done twice.
 */
export const PUT_AWAY = "letter-put-away";
const PUT_AWAY_QUOTA: Quota = { ofOne: 500, ofAll: 4000 }; // more than come back with any backup of a month
/** Twice as long as a letter waits on the server. */
export const PUT_AWAY_SECONDS = 60 * 86_400;
/** Rows of all kinds, as they were kept before each kind had its own. */
export const LETTER = "letter";
const PAGE = 100; // letters in one answer, as of messages
const PAGES = 50; // more than a mailbox holds: a server that always has one more is left
// Octets. A share letter: the manifest of 16 contacts, signed, is below 3 KiB; the sealed share below 4. A notice of ours
// has an event and a few ids.
const MAX_SHARE = 8192, MAX_NOTICE = 4096;

/** What a letter is about. A notice is the server's own word, and nothing but a hint. */
export const LetterKind = { SYNC: "sync", SHARE: "share", PAIRING: "pairing", NOTICE: "notice" } as const;
export type LetterKind = (typeof LetterKind)[keyof typeof LetterKind];

// What may wait at once, and what an honest year brings; `client.maintain()` acts on letters within hours, and drops those
// of 30 days. Together below 100 MiB, little more than one full mailbox on the server.
const QUOTAS: Readonly<Record<LetterKind, Quota>> = {
  // From each own device a letter for every change of the vault's key: a dozen a year, 50 for who rotates every week.
  [LetterKind.SYNC]: { ofOne: 100, ofAll: 500 },
  // From each owner a letter for every change of their key: a dozen a year, of which only the newest counts. All fetched in
  // one go (`PAGES`) fit, so that even a tenant of nothing but liars takes nobody's place.
  [LetterKind.SHARE]: { ofOne: 16, ofAll: 6000 },
  // Three letters for a pairing by digits; a person pairs a few devices a year.
  [LetterKind.PAIRING]: { ofOne: 30, ofAll: 200 },
  // Of one event about one person: doors read and devices joined, a handful in a year; a request has two or three.
  [LetterKind.NOTICE]: { ofOne: 100, ofAll: 1000 },
};
const STRANGERS = new Uint8Array(quotas.SENDER);
// What may happen to one's own account: notices of these, about oneself or naming nobody, are the last to give way.
const EVENTS = [
  "door-read",
  "code-issued",
  "device-enrolled",
  "device-joined",
  "device-restored",
  "case-opened",
  "case-cancelled",
  "contacts-request",
  "contacts-collected",
  "contacts-request-ended",
  "messages-dropped",
];

/** One letter as the server handed it over. Sender (16 bytes each, empty in a notice) and time are its word only. */
export interface Letter {
  readonly id: Bytes;
  readonly kind: LetterKind;
  readonly senderUser: Bytes;
  readonly senderDevice: Bytes;
  readonly message: Bytes;
  readonly receivedAt: number;
}

const ROW = layout<Omit<Letter, "id">>(
  "kept letter",
  {
    kind: choice(LetterKind, "LetterKind"),
    senderUser: octets([0, 16]),
    senderDevice: octets([0, 16]),
    message: octets(),
    receivedAt: uint(),
  },
  { rowSize: 2 * MAX_BLOB },
);

/** Something that happened to the account, in the server's word: `event`, and what it says of it. */
export interface Notice {
  readonly id: Bytes;
  readonly event: string;
  readonly said: Answer;
  readonly receivedAt: number;
}

type Place = readonly [kind: string, key: Bytes];

/** Return where a letter or notice is kept, among those of its kind and sender. own: the user whose device this is. */
function placeOf(of: Letter | Notice, own: Bytes): Place {
  if ("said" in of) return placeOfNotice(of.id, of.said);
  if (of.kind === LetterKind.NOTICE) return placeOfNotice(of.id, readNotice(of.message));
  if (of.kind === LetterKind.SHARE) return [rowKind(of.kind), concat(of.senderUser, of.id)];
  // Between the devices of one person: all others have one place, in which they may take each other's.
  return [rowKind(of.kind), concat(equal(of.senderUser, own) ? of.senderDevice : STRANGERS, of.id)];
}

function rowKind(kind: LetterKind): string {
  return `${LETTER}-${kind}`;
}

/** A member of the tenant can cause notices that name them: those take the place of none about somebody else. */
function placeOfNotice(id: Bytes, said: Answer | undefined): Place {
  return [rowKind(LetterKind.NOTICE), concat(about(textOf(said, "event"), textOf(said, "owner")), id)];
}

/** Return a text of a notice, none where there is none. */
function textOf(said: Answer | undefined, name: string): string {
  try {
    return said?.has(name) ? said.text(name) : "";
  } catch (error) {
    if (error instanceof AnswerRefused) return "";
    throw error;
  }
}

function about(event: string, owner: string): Bytes {
  return sha256(encode([event, owner])).slice(0, quotas.SENDER);
}

/** Send one letter, sealed or public by itself, to one device of the tenant (16 bytes). */
export async function send(account: Account, device: Bytes, kind: LetterKind, message: Bytes): Promise<void> {
  await account.api.post(`devices/${uuidText(device)}/messages`, { kind, message: b64u(message) });
}

/**
 * Keep a row of the mailbox if it is a letter; false for a message of a session. The caller acknowledges it.
 *
 * Once kept it is this device's, whatever becomes of the mailbox: so it is kept before it is acknowledged. What has not the
 * form of its kind is dropped. The caller ends the page with `trim`.
 */
export async function keep(account: Account, row: Answer): Promise<boolean> {
  const named = row.text("kind"), kind = Object.values(LetterKind).find((one) => one === named);
  if (kind === undefined) return false;
  const isNotice = kind === LetterKind.NOTICE;
  const letter: Letter = {
    id: row.identifier("message_id"),
    kind,
    senderUser: isNotice ? EMPTY : row.identifier("sender_user"),
    senderDevice: isNotice ? EMPTY : row.identifier("sender_device"),
    message: row.octets("message", undefined, { maximum: MAX_BLOB }),
    receivedAt: row.time("received_at"),
  };
  const [rows, key] = placeOf(letter, account.user), isHad = (await account.store.get(PUT_AWAY, key)) !== undefined;
  if (!isHad && !isJunk(account, letter)) await account.store.put(rows, key, sealRow(ROW, letter));
  return true;
}

/** Tell whether nobody would read it: it has not the form of its kind, or its sender could not have sent such a one. */
function isJunk(account: Account, letter: Letter): boolean {
  if (letter.kind === LetterKind.NOTICE) return readNotice(letter.message) === undefined;
  if (letter.kind !== LetterKind.SHARE) return false;
  if (letter.message.length > MAX_SHARE) return true;
  try {
    const { manifest } = ShareLetter.parse(letter.message), { header } = manifest;
    const isOfSender = equal(header.tenant, account.tenant) && equal(header.user, letter.senderUser);
    return !isOfSender || indexOf(manifest, account.user) < 0;
  } catch (error) {
    if (error instanceof HoldfastError) return true;
    throw error;
  }
}

/** Keep each kind of letters, and each sender of them, within their quotas, in the caller's transaction. */
export async function trim(account: Account): Promise<void> {
  const own = uuidText(account.user), isOwnDevice = (sender: Bytes): boolean => !equal(sender, STRANGERS);
  const ofOwn = new Set(EVENTS.flatMap((event) => [about(event, ""), about(event, own)]).map(hex));
  const known: Readonly<Record<LetterKind, (sender: Bytes) => boolean>> = {
    [LetterKind.SYNC]: isOwnDevice,
    [LetterKind.SHARE]: (sender) => account.state.contacts.has(hex(sender)),
    [LetterKind.PAIRING]: isOwnDevice,
    [LetterKind.NOTICE]: (sender) => ofOwn.has(hex(sender)),
  };
  for (const kind of Object.values(LetterKind))
    await quotas.trim(account.store, rowKind(kind), QUOTAS[kind], { isKnown: known[kind] });
}

/** Bring the letters that wait in this device's mailbox, leaving messages of sessions; returns how many came. */
export async function fetch(account: Account): Promise<number> {
  let came = 0;
  for (let page = 0; page < PAGES; page++) {
    const answer = await account.api.get("messages", { query: { limit: String(PAGE) } });
    const rows = answer.many("messages", { maximum: PAGE }), kept: string[] = [];
    await account.store.transaction(async () => {
      for (const row of rows) if (await keep(account, row)) kept.push(row.text("message_id"));
      await trim(account);
    });
    if (kept.length > 0) await account.api.post("messages/ack", { message_ids: kept });
    came += kept.length;
    if (kept.length === 0 || !answer.flag("more")) break;
  }
  return came;
}

/** Return the letters of a kind that were kept and not yet put away, oldest first. */
export async function waiting(account: Account, kind: LetterKind): Promise<Letter[]> {
  const found: Letter[] = [];
  for (const rows of [LETTER, rowKind(kind)])
    for (const key of await account.store.keys(rows)) {
      const kept = await account.store.get(rows, key);
      const letter = kept && { id: key.slice(-16), ...openRow(ROW, kept) };
      if (letter?.kind === kind) found.push(letter);
    }
  return found;
}

/** Destroy letters that were read, or that nobody will, and remember that they were here. */
export async function putAway(account: Account, letters: readonly (Letter | Notice)[]): Promise<void> {
  const { store } = account, until = new SecretBytes(encode([account.clock.latest() + PUT_AWAY_SECONDS]));
  await store.transaction(async () => {
    for (const letter of letters) {
      const [rows, key] = placeOf(letter, account.user);
      await store.delete(rows, key);
      await store.put(PUT_AWAY, key, until);
      await store.delete(LETTER, letter.id);
      await reports.forgetTold(account, letter.id);
    }
    await quotas.trim(store, PUT_AWAY, PUT_AWAY_QUOTA);
  });
}

/** Let a letter wait, since what stands against it may pass, and say so once for each reason. */
export async function hold(account: Account, letter: Letter, error: ClientError): Promise<void> {
  const isShare = letter.kind === LetterKind.SHARE;
  const what = isShare ? "A recovery share" : `A letter of your device ${uuidText(letter.senderDevice)}`;
  const text = `${what} is held here unread; nothing of it is lost. ${error.message}`;
  const kind = error instanceof PeerChanged ? ReportKind.WAITING : ReportKind.IN_DOUBT;
  await reports.addOnce(account, letter.id, kind, text, { wayOut: error.wayOut, user: letter.senderUser });
}

/** Return the server's notices that were not put away yet. One that is no JSON object of ours is destroyed. */
export async function notices(account: Account): Promise<Notice[]> {
  const found: Notice[] = [], junk: Letter[] = [];
  for (const letter of await waiting(account, LetterKind.NOTICE)) {
    const said = readNotice(letter.message);
    if (said === undefined) junk.push(letter);
    else found.push({ id: letter.id, event: said.text("event"), said, receivedAt: letter.receivedAt });
  }
  await putAway(account, junk);
  return found;
}

/** Return what a notice says, with text under `event`; undefined for what is no notice of ours. */
function readNotice(message: Bytes): Answer | undefined {
  if (message.length > MAX_NOTICE) return undefined;
  try {
    const said = parse(message);
    said.text("event");
    return said;
  } catch (error) {
    if (error instanceof AnswerRefused) return undefined;
    throw error;
  }
}
