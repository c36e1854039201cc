// SPDX-License-Identifier: Apache-2.0
/**
 * Messages received: fetched, opened once, kept with the new session state in one transaction, then acknowledged.
 *
 * docs/formats/messages.md ("Receiving"). Uses nothing of what a message says as an address; a message that does not open is
 * kept aside and blocks nothing. One that is wrong by itself is refused for good. A doubt about a chain or the log, or a
 * contact whom nobody confirmed, says nothing against the message: it is held and opened later. A server that does not
 * answer ends the fetching.
 */
import { type Bytes, compare, concat, EMPTY, equal, hex } from "../../core/base/bytes.js";
import { encode, MAX_BLOB } from "../../core/base/encoding.js";
import { HoldfastError, UnwrapFailed } from "../../core/base/errors.js";
import { RowTooLong } from "../../core/base/rows.js";
import { SecretBytes } from "../../core/base/secret.js";
import { uuidText } from "../../core/base/uuids.js";
import { sha256 } from "../../core/crypto/hashing.js";
import { randomBytes } from "../../core/crypto/webcrypto.js";
import {
  acknowledged, type Content, ContentKind, decodeContent, nameOf, openLarge,
} from "../../core/messages/content.js";
import type { Session } from "../../core/messages/session.js";
import { type Incoming, readMessage } from "../../core/messages/wire.js";
import { AnswerRefused, ClientError, PeerChanged, Problem, TrustRefused, Unreachable } from "../errors.js";
import * as keyLog from "../identity/key_log.js";
import * as peers from "../identity/peers.js";
import * as securityEvents from "../identity/security_events.js";
import type { Account } from "../profile/account.js";
import type { Answer } from "../server/answers.js";
import * as sessions from "../sessions/sessions.js";
import type { Address, Place } from "../sessions/sessions.js";
import * as handshakes from "./handshakes.js";
import { MessageRefused, OneTimeKeyReused, Replayed } from "./handshakes.js";
import { type Envelope, hashOf, openEnvelope, sealEnvelope, sealKept } from "./inbox_rows.js";
import * as letters from "./letters.js";
import { type Quota, trim } from "./quotas.js";
import * as renewals from "./renewals.js";
import * as reports from "./reports.js";
import { ReportKind } from "./reports.js";
import * as sent from "./sent.js";

/** Rows: messages that the app has not taken. */
export const INBOX = "inbox";
/** Rows: the bytes of messages that were dealt with, by their hash. */
export const HAD = "had";
/** Rows: the names of messages that were delivered. */
export const HEARD = "heard";
/** Rows: what stays in the mailbox. */
export const LEFT = "left";
const HELD = "held";
// Messages that wait for a human's yes to their sender, or for the end of a doubt: 20 a day for the 50 days that nobody
// looks. Who writes more loses the oldest of their own, and strangers before contacts.
const HELD_QUOTA: Quota = { ofOne: 1000, ofAll: 4000 };
/** As long as a message waits on the server. */
export const SERVER_KEEPS_SECONDS = 30 * 86_400;
/** What the server brings again after twice that does not open any more. */
export const REMEMBER_SECONDS = 2 * SERVER_KEEPS_SECONDS;
// Senders whose chain is still in doubt, asked about in one fetch: a flood of made-up ones is not asked about for ever.
const MOST_DOUBTED = 20;
// Rows left on the server, whose large content did not come or whose kind is unknown: half a page, so others still come.
const MOST_LEFT = 50;
const PAGE = 100; // messages in one answer: acknowledged together, so little is fetched twice after a cut
const MOST_PAGES = 1000; // a full mailbox has fewer: a server that always has one more is left
const MAX_PAGE_ANSWER = 10 * 1024 * 1024; // bytes: a page of the longest messages, in base64
const MAX_CONTENT = 1024 * 1024; // bytes: what the server takes as large content
const DAY = 86_400;
// What the server refuses for good is laid to the message that asked for it; anything else ends the fetching.
const FINAL: ReadonlySet<number> = new Set([400, 403, 404, 422]);
/** So many sessions of a day without a one-time key are no coincidence while this device keeps 25 to 100 on the server. */
export const LAST_RESORT_ALARM = 10;

const ASK_AGAIN = "Ask the sender to send it again. It is kept in this report as it came.";
const FETCHED_AGAIN =
  "It stays on the server and is fetched again the next time. If this goes on, tell your officers.";
const SENT_AGAIN =
  "Nothing to do: a session is begun anew with that device, which then sends again what was not read. If it has not come " +
  "within two days, ask the sender to send it again. It is kept in this report as it came.";

/** Say in what was refused of a device that it does not come again, in the caller's transaction: it is gone. */
export async function comesNoMore(account: Account, sender: Address): Promise<void> {
  await reports.changeWayOut(account, sender.user, sender.device, SENT_AGAIN, ASK_AGAIN);
}

/**
 * Fetch what waits for this device, open and keep all of it, and acknowledge it.
 *
 * Rejects with Unreachable and Problem when the server does not answer; what was kept before that is kept.
 */
export async function collect(account: Account): Promise<void> {
  const seen = new Set<string>(), senders = new Map<string, Bytes>();
  const note = (user: Bytes): void => {
    if (user.length > 0) senders.set(hex(user), user);
  };
  for (const user of await retryHeld(account)) note(user);
  for (let page = 0; page < MOST_PAGES; page++) {
    const answer = await account.api.get("messages", { query: { limit: String(PAGE) }, maximum: MAX_PAGE_ANSWER });
    const rows = answer.many("messages", { maximum: PAGE }), ids = rows.map((row) => row.identifier("message_id"));
    // A server that hands the same messages over for ever after they were acknowledged ends this, not the client.
    if (ids.every((id) => seen.has(hex(id)))) break;
    const taken: string[] = [];
    for (const [at, row] of rows.entries()) {
      try {
        note(await take(account, row));
      } catch (error) {
        if (error instanceof Left) continue;
        throw error;
      }
      taken.push(uuidText(ids[at] as Bytes));
    }
    await account.store.transaction(() => letters.trim(account));
    if (taken.length > 0) await account.api.post("messages/ack", { message_ids: taken });
    for (const id of ids) seen.add(hex(id));
    if (!answer.flag("more")) break;
  }
  // Last, since a chain that has moved takes the sessions of revoked devices with it, and what those sent before.
  for (const user of await peers.listExpected(account)) note(user);
  for (const user of [...senders.values()].sort(compare)) await follow(account, user);
  await compareLogs(account);
}

/**
 * Keep one row of the mailbox, whatever it is, and return whose message it was, if it was one that opened.
 *
 * Nothing in it may keep the others from being taken. Rejects with Left for a message that stays on the server.
 */
async function take(account: Account, row: Answer): Promise<Bytes> {
  try {
    if (row.text("kind") === "message") return await takeMessage(account, row);
    if (!(await account.store.transaction(() => letters.keep(account, row)))) {
      // A newer program may know it.
      const what = sha256(row.identifier("message_id"));
      await leave(account, what, () => reportRow(account, "Something of an unknown kind is in the mailbox."));
    }
  } catch (error) {
    let text: string;
    if (error instanceof AnswerRefused) text = error.message;
    // No size that the server takes makes one; what is behind it must come all the same.
    else if (error instanceof RowTooLong) text = "The server hands over something larger than can be kept.";
    else throw error;
    await account.store.transaction(() => reportRow(account, text));
  }
  return EMPTY;
}

async function reportRow(account: Account, text: string): Promise<void> {
  const wayOut = "Update this program, or tell your officers.";
  await reports.add(account, ReportKind.UNDECRYPTABLE, text, { wayOut });
}

async function takeMessage(account: Account, row: Answer): Promise<Bytes> {
  const envelope: Envelope = {
    sender: { user: row.identifier("sender_user"), device: row.identifier("sender_device") },
    toDevice: row.identifier("to_device"),
    message: row.octets("message", undefined, { maximum: MAX_BLOB }),
    receivedAt: row.time("received_at"),
    content: EMPTY,
    lacksContent: false,
  };
  const hasContent = row.flag("has_content");
  if ((await account.store.get(HAD, hashOf(envelope))) !== undefined || (await isHeld(account, envelope))) return EMPTY;
  const content = hasContent ? await fetchContent(account, row) : EMPTY, lacksContent = hasContent && content.length === 0;
  if (lacksContent) {
    const text = "The server withholds the large content of a message.";
    await leave(account, hashOf(envelope), () =>
      report(account, envelope, text, ReportKind.CONTENT_WITHHELD, [], FETCHED_AGAIN),
    );
  }
  return open(account, { ...envelope, content, lacksContent });
}

/** Fetch large content before its message is acknowledged, with which it goes. Empty when the server has none now. */
async function fetchContent(account: Account, row: Answer): Promise<Bytes> {
  try {
    const answer = await account.api.get(`messages/${uuidText(row.identifier("message_id"))}/content`);
    return answer.octets("content", undefined, { maximum: MAX_CONTENT });
  } catch (error) {
    if (error instanceof AnswerRefused || (error instanceof Problem && error.status === 404)) return EMPTY;
    throw error;
  }
}

/** A row stays in the mailbox, and is fetched again the next time. */
class Left extends Error {}

/**
 * Reject with Left while there is room for it, having told so the first time. what: 32 bytes that name the row.
 *
 * Above that the row is taken as it is: those that stay stand in the way of what comes behind them.
 */
async function leave(account: Account, what: Bytes, tell: () => Promise<void>): Promise<void> {
  const { store } = account;
  if ((await store.get(LEFT, what)) === undefined) {
    const isLeft = await store.transaction(async () => {
      await tell();
      if ((await store.keys(LEFT)).length >= MOST_LEFT) return false;
      await store.put(LEFT, what, untilOf(account, SERVER_KEEPS_SECONDS));
      return true;
    });
    if (!isLeft) return;
  }
  throw new Left();
}

/**
 * Open what was held, now that its doubt may have passed or its human's yes come; returns whose messages opened.
 *
 * Of one sender, oldest first, until one is held again. Whom nobody here knows comes last, and in any order: whoever is in
 * doubt for ever keeps nobody else from being asked about.
 */
async function retryHeld(account: Account): Promise<Bytes[]> {
  const held = new Map<string, Envelope[]>(), { contacts } = account.state;
  for (const key of await account.store.keys(HELD)) {
    const kept = await account.store.get(HELD, key);
    if (kept === undefined) continue;
    const envelope = openEnvelope(kept), user = hex(envelope.sender.user), mine = held.get(user);
    if ((contacts.get(user)?.unconfirmed.length ?? 0) > 0) continue;
    if (mine) mine.push(envelope);
    else held.set(user, [envelope]);
  }
  const shuffled = [...held.keys()].map((user) => [randomBytes(8), user] as const);
  const senders = shuffled.sort(([one], [other]) => compare(one, other)).map(([, user]) => user);
  const isKnown = (user: string): boolean => contacts.has(user), opened: Bytes[] = [];
  let doubted = 0;
  for (const user of [...senders.filter(isKnown), ...senders.filter((one) => !isKnown(one))]) {
    for (const envelope of held.get(user) ?? []) {
      opened.push(await open(account, envelope));
      if (await isHeld(account, envelope)) {
        doubted += 1;
        break;
      }
    }
    if (doubted >= MOST_DOUBTED) break;
  }
  return opened;
}

/**
 * Open a message and keep it, keep the refusal, or hold it as it came: each in one transaction.
 *
 * Returns the sender if it opened, else nothing. Rejects with Unreachable and Problem when the server does not answer.
 */
async function open(account: Account, envelope: Envelope): Promise<Bytes> {
  let incoming: Incoming | undefined, isVerified = false;
  try {
    const read = (incoming = readMessage(envelope.message));
    const verified = await verifySender(account, read, envelope);
    isVerified = true;
    await account.store.transaction(async () => {
      const [session, plaintext] = verified
        ? await respond(account, envelope, read, verified)
        : await decrypt(account, envelope, read);
      await mark(account, envelope);
      await renewals.noteOpened(account, envelope.sender, session);
      await keep(account, envelope, session, plaintext);
    });
    return envelope.sender.user;
  } catch (error) {
    await refuseOrHold(account, envelope, error, incoming, isVerified);
    return EMPTY;
  }
}

async function refuseOrHold(
  account: Account,
  envelope: Envelope,
  error: unknown,
  incoming: Incoming | undefined,
  isVerified: boolean,
): Promise<void> {
  if (error instanceof OneTimeKeyReused) {
    await securityEvents.note(account, "A one-time key of this device was handed out to two senders.");
    await refuse(account, envelope, error, ReportKind.KEY_REUSED, !error.isReplay, [error.first]);
  } else if (error instanceof HoldfastError || error instanceof MessageRefused) {
    const isUnread = isVerified && !(error instanceof Replayed);
    await refuse(account, envelope, error, ReportKind.UNDECRYPTABLE, isUnread);
  } else if (error instanceof ClientError) {
    if (error instanceof Unreachable || (error instanceof Problem && !FINAL.has(error.status))) throw error;
    const initial = incoming?.initial;
    if (initial === undefined || (await handshakes.hasKeys(account, initial))) await hold(account, envelope, error);
    // Nothing that the server may show later would open it.
    else await refuse(account, envelope, error, ReportKind.UNDECRYPTABLE, true);
  } else {
    throw error;
  }
}

/** Verify the sender of an initial message; undefined for one whose session is here already. */
async function verifySender(
  account: Account,
  incoming: Incoming,
  envelope: Envelope,
): Promise<handshakes.Verified | undefined> {
  const { initial, initialHash } = incoming, { sender, toDevice } = envelope;
  if (initial === undefined || initialHash === undefined) return undefined;
  if ((await sessions.route(account.store, initialHash)) !== undefined) return undefined;
  return handshakes.verify(account, initial, { sender, toDevice });
}

async function respond(
  account: Account,
  envelope: Envelope,
  incoming: Incoming,
  verified: handshakes.Verified,
): Promise<[Session, Bytes]> {
  const begun = await handshakes.respond(account, incoming, verified);
  const place: Place = { peer: envelope.sender, id: begun.session.id, own: envelope.toDevice };
  await handshakes.keep(account, begun, place, envelope.message);
  if (begun.session.isLastResort) await countLastResorts(account);
  return [begun.session, begun.plaintext];
}

/** Open a message of a session that is here: the one its initial part names, or each with the sender's device. */
async function decrypt(account: Account, envelope: Envelope, incoming: Incoming): Promise<[Session, Bytes]> {
  let found = await sessions.places(account.store, envelope.sender);
  if (incoming.initialHash !== undefined) {
    const routed = await sessions.route(account.store, incoming.initialHash);
    found = found.filter((place) => routed !== undefined && isSamePlace(place, routed));
  }
  for (const place of found) {
    const session = await sessions.load(account.store, place, { forReceiving: true });
    if (session === undefined) continue;
    let plaintext: Bytes;
    try {
      plaintext = await session.decrypt(incoming, account.api.clock.latest());
    } catch (error) {
      if (error instanceof UnwrapFailed) continue;
      throw error;
    }
    await sessions.put(account.store, place, session, { wasReceivedOn: true });
    return [session, plaintext];
  }
  if (found.length === 0)
    throw new MessageRefused("The message is of a session that this device does not have.", { wayOut: ASK_AGAIN });
  throw new MessageRefused("The message does not open in any session with the sender's device.", { wayOut: ASK_AGAIN });
}

function isSamePlace(one: Place, other: Place): boolean {
  return equal(sessions.keyOf(one), sessions.keyOf(other)) && equal(one.own, other.own);
}

/** Remember that these bytes were dealt with: a lost acknowledgement brings them again. */
async function mark(account: Account, envelope: Envelope): Promise<void> {
  const { store } = account, { user } = envelope.sender;
  await store.put(HAD, hashOf(envelope), untilOf(account));
  await store.delete(LEFT, hashOf(envelope));
  if (!(await isHeld(account, envelope))) return;
  for (const key of heldKeys(envelope)) await store.delete(HELD, key);
  const left = await store.keys(HELD);
  if (!left.some((key) => equal(key.subarray(0, user.length), user))) await reports.forgetTold(account, user);
}

function untilOf(account: Account, seconds = REMEMBER_SECONDS): SecretBytes {
  return new SecretBytes(encode([account.api.clock.latest() + seconds]));
}

/** Put what a message says into the inbox, or act on it when it is not for the person. */
async function keep(account: Account, envelope: Envelope, session: Session, plaintext: Bytes): Promise<void> {
  const { sender } = envelope;
  let said: Content, conversation: Bytes;
  try {
    said = decodeContent(plaintext);
    conversation = conversationOf(account, envelope, said);
  } catch (error) {
    if (!(error instanceof HoldfastError) && !(error instanceof ClientError)) throw error;
    const text = `The message opened, but is not in the format: ${error.message}.`;
    return report(account, envelope, text, ReportKind.UNDECRYPTABLE);
  }
  if (said.chainHead !== undefined) await peers.expect(account, sender.user, said.chainHead);
  if (said.checkpoint !== undefined) await keyLog.hear(account, said.checkpoint);
  if (said.kind === ContentKind.MOVED) await peers.expect(account, sender.user, said.body as Bytes);
  if (said.kind === ContentKind.GREETING) await renewals.noteGreeted(account, sender);
  if (said.kind === ContentKind.ACKNOWLEDGEMENT) await sent.acknowledge(account, sender, acknowledged(said));
  if (said.kind !== ContentKind.BYTES && said.kind !== ContentKind.LARGE) return;
  if (!(await wasHeard(account, envelope, said))) await deliver(account, envelope, session, said, conversation);
}

/** Return the user whom a message is to or from. Only an own device may say that it was to somebody else. */
function conversationOf(account: Account, envelope: Envelope, said: Content): Bytes {
  if (said.conversation === undefined) return envelope.sender.user;
  if (!equal(envelope.sender.user, account.user))
    throw new MessageRefused("it claims to be a copy of this person's own message");
  return said.conversation;
}

/** Tell whether the same content came already: sent again, it is delivered once. */
async function wasHeard(account: Account, envelope: Envelope, said: Content): Promise<boolean> {
  const { store } = account, { sender } = envelope;
  // Earlier versions kept copies under their id alone.
  for (const name of [nameOf(said), said.messageId]) {
    const key = concat(sender.user, name);
    if ((await store.get(HEARD, key)) === undefined) continue;
    // The app has it, and what told the sender so was lost.
    if ((await store.get(INBOX, key)) === undefined) await renewals.owe(store, sender, nameOf(said));
    return true;
  }
  return false;
}

async function deliver(
  account: Account,
  envelope: Envelope,
  session: Session,
  said: Content,
  conversation: Bytes,
): Promise<void> {
  let body = said.body instanceof Uint8Array ? said.body : EMPTY;
  let reference = said.body instanceof Uint8Array ? undefined : said.body;
  if (reference !== undefined && envelope.lacksContent) {
    const text = "The server withholds the large content of a message.";
    return report(account, envelope, text, ReportKind.CONTENT_WITHHELD);
  }
  if (reference !== undefined && envelope.content.length > 0) {
    try {
      body = await openLarge(envelope.content, reference);
      reference = undefined;
    } catch (error) {
      if (!(error instanceof UnwrapFailed)) throw error;
      const text = "The large content of a message is not the one that its sender sealed.";
      return report(account, envelope, text, ReportKind.CONTENT_WITHHELD);
    }
  }
  const { sender, receivedAt } = envelope, { messageId, sentAt } = said, { isLastResort } = session;
  const kept = { receivedAt, sender, messageId, sentAt, conversation, isLastResort, body, reference };
  const key = concat(sender.user, nameOf(said));
  await account.store.put(INBOX, key, sealKept(kept));
  await account.store.put(HEARD, key, untilOf(account));
}

/** Fetch the chain of somebody who wrote, if it is not fresh or they have named a newer head than is known. */
async function follow(account: Account, user: Bytes): Promise<void> {
  try {
    await peers.current(account, user);
    await peers.requireShown(account, user);
  } catch (error) {
    // What is kept is handed out all the same. A changed contact says so wherever it matters, and what could not be asked
    // now is asked before anything is sent to them.
    if (error instanceof PeerChanged || error instanceof Problem || error instanceof Unreachable) return;
    if (!(error instanceof TrustRefused) && !(error instanceof AnswerRefused)) throw error;
    const { message, wayOut } = error;
    await account.store.transaction(() => reports.add(account, ReportKind.CHAIN_HIDDEN, message, { wayOut, user }));
  }
}

/** Hold the log heads that came inside messages against the one seen here. */
async function compareLogs(account: Account): Promise<void> {
  try {
    await keyLog.compareHeard(account);
  } catch (error) {
    if (error instanceof Problem || error instanceof Unreachable) return; // they are kept, and compared the next time
    if (!(error instanceof TrustRefused) && !(error instanceof AnswerRefused)) throw error;
    const { message, wayOut } = error;
    await account.store.transaction(() => reports.add(account, ReportKind.SPLIT_VIEW, message, { wayOut }));
  }
}

async function countLastResorts(account: Account): Promise<void> {
  const since = account.api.clock.now() - DAY;
  if ((await sessions.lastResortsSince(account.store, since)) !== LAST_RESORT_ALARM) return;
  await reports.add(
    account,
    ReportKind.LAST_RESORT,
    `In one day, ${LAST_RESORT_ALARM} sessions began without a one-time key.`,
    {
      wayOut:
        "Call `client.maintain()`. If it finds one-time keys on the server, the server withholds them from your contacts: " +
        "tell your officers.",
    },
  );
}

/** Return where a message is held, and where it was held before senders had a quota. */
function heldKeys(envelope: Envelope): [Bytes, Bytes] {
  const hash = hashOf(envelope);
  return [concat(envelope.sender.user, hash), hash];
}

async function isHeld(account: Account, envelope: Envelope): Promise<boolean> {
  for (const key of heldKeys(envelope)) if ((await account.store.get(HELD, key)) !== undefined) return true;
  return false;
}

/** Keep a message as it came until it can be told whether it is good, and say so once for each reason. */
async function hold(account: Account, envelope: Envelope, error: ClientError): Promise<void> {
  const { store } = account, { user } = envelope.sender;
  await store.transaction(async () => {
    if (await isHeld(account, envelope)) return;
    await store.put(HELD, heldKeys(envelope)[0], sealEnvelope(envelope));
    await trim(store, HELD, HELD_QUOTA, { isKnown: (sender) => account.state.contacts.has(hex(sender)) });
  });
  const isWaiting = error instanceof PeerChanged, kind = isWaiting ? ReportKind.WAITING : ReportKind.IN_DOUBT;
  const text = isWaiting
    ? `A message waits until you have confirmed its sender. ${error.message}`
    : `A message is held here unopened; nothing of it is lost. ${error.message}`;
  await reports.addOnce(account, user, kind, text, { wayOut: error.wayOut, user });
}

/** Keep the refusal. isUnread: the device that is named may well have written it, and has to begin anew. */
async function refuse(
  account: Account,
  envelope: Envelope,
  error: HoldfastError | ClientError,
  kind: ReportKind,
  isUnread: boolean,
  before: readonly Bytes[] = [],
): Promise<void> {
  await account.store.transaction(async () => {
    await mark(account, envelope);
    const isOfClient = error instanceof ClientError;
    const text = isOfClient ? error.message : `The message cannot be opened: ${error.message}.`;
    const isRenewed = isUnread && (await renewals.noteUnread(account, envelope.sender));
    const wayOut = isRenewed && kind === ReportKind.UNDECRYPTABLE ? SENT_AGAIN : isOfClient ? error.wayOut : "";
    await report(account, envelope, text, kind, before, wayOut);
  });
}

async function report(
  account: Account,
  envelope: Envelope,
  text: string,
  kind: ReportKind,
  before: readonly Bytes[] = [],
  wayOut = "",
): Promise<void> {
  const { user, device } = envelope.sender;
  const said = { wayOut: wayOut || ASK_AGAIN, user, device, evidence: [...before, envelope.message] };
  await reports.add(account, kind, text, said);
}
