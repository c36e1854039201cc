// SPDX-License-Identifier: Apache-2.0
/**
 * Disclosures: another person's archive keys as a case opened them, until its end; each file opened is a signed line.
 *
 * docs/spec/escrow.md "Case" (a recipient who is not the subject), docs/formats/custody.md, and the rows of profile.md.
 * These keys stand apart from the person's own: they are in no vault, and encrypt nothing.
 */
import { type Bytes, concat, EMPTY, equal } from "../../core/base/bytes.js";
import { MAX_BLOB } from "../../core/base/encoding.js";
import { Malformed, Untrusted } from "../../core/base/errors.js";
import {
  type Column, flag, layout, nested, octets, openRow, sealRow, secret, several, uint,
} from "../../core/base/rows.js";
import { SecretBytes } from "../../core/base/secret.js";
import { uuidText } from "../../core/base/uuids.js";
import { Sha256 } from "../../core/crypto/hashing.js";
import { SigningKey } from "../../core/crypto/keys.js";
import { signingKind } from "../../core/crypto/suites.js";
import { readPrefix } from "../../core/escrow/archive.js";
import {
  custodyToPayload, type Manifest, MAX_LINES, MAX_TEXT, type OpenedFile, readManifest, writeManifest,
} from "../../core/escrow/custody.js";
import { caseFromPayload, disclosedUntil } from "../../core/identity/cases.js";
import { sign, Sign1 } from "../../core/signed/cose.js";
import { deviceFromPayload } from "../../core/signed/statements.js";
import { damaged, NotPossible } from "../errors.js";
import type { Account } from "../profile/account.js";
import { type Generation, GENERATION } from "../profile/state.js";
import * as archive from "./archive.js";
import type { FileDone, Watching } from "./archive.js";
import { piecesOf, readAt, type Target, wholeFile } from "./whole_file.js";

const KIND = "disclosure";
const KEYS = "disclosed-keys";
const LINE = "custody-line";
const WRITTEN = "disclosure-written";
/**
 * In one profile, those that have ended among them until their person forgets them: what is written here is evidence, and
 * no program throws it away by itself.
 */
export const MAX_KEPT = 1000;
const READ_AT_ONCE = 1024 * 1024; // bytes

/** What one case disclosed; times in UTC seconds. */
export interface Disclosure {
  /** 16 bytes. */
  readonly caseId: Bytes;
  /** Whose archive: 16 bytes. */
  readonly subject: Bytes;
  readonly endsAt: number;
  readonly generations: readonly number[];
  /** The statements of the case and of the device that received, as signed. */
  readonly case: Bytes;
  readonly device: Bytes;
  /** When the newest line was written; before the first, when the keys were opened. */
  readonly latest: number;
  /** How many lines the manifest has, and the hash of the newest. */
  readonly lines: number;
  readonly last: Bytes;
  /** Whether the keys are destroyed. */
  readonly isEnded: boolean;
}

const DISCLOSURE = layout<Omit<Disclosure, "caseId">>(
  "disclosure",
  {
    subject: octets(16),
    endsAt: uint(),
    generations: several(uint()) as Column<readonly number[]>,
    case: octets(),
    device: octets(),
    latest: uint(),
    lines: uint(),
    last: octets([0, 32]),
    isEnded: flag(),
  },
  { rowSize: MAX_BLOB },
);

/** Return how many files a case opened. The line that closes the manifest names none. */
export function filesOf(kept: Disclosure): number {
  return kept.lines - Number(kept.isEnded);
}

/** The archive keys, and the key that signed the case: lines are signed by it, whatever key the device has now. */
interface Keys {
  signingSeed: SecretBytes;
  opened: Generation[];
}

const KEYS_ROW = layout<Keys>(
  "disclosed keys",
  { signingSeed: secret(32), opened: several(nested({ ...GENERATION, name: "disclosed key" })) },
  { rowSize: MAX_BLOB },
);

/** Reject with NotPossible when this profile keeps as many disclosures as it may. */
export async function requireRoom(account: Account): Promise<void> {
  if ((await account.store.keys(KIND)).length >= MAX_KEPT)
    throw new NotPossible(`This profile keeps ${MAX_KEPT} disclosures already.`, {
      wayOut:
        "Write the manifests of those that have ended (client.disclosures.manifest()), then forget them: " +
        "client.disclosures.forget()",
    });
}

/** Keep what a case opened of another person's archive. In the caller's transaction, if there is one. */
export async function keep(account: Account, statement: Sign1, opened: readonly Generation[]): Promise<Disclosure> {
  const asked = caseFromPayload(statement.payload), { caseId, subject } = asked, { device } = account;
  const made: Disclosure = {
    caseId,
    subject,
    endsAt: disclosedUntil(asked),
    generations: opened.map((generation) => generation.number),
    case: statement.encode(),
    device: device.statement,
    latest: account.clock.earliest(),
    lines: 0,
    last: EMPTY,
    isEnded: false,
  };
  const keys: Keys = { signingSeed: device.signingSeed, opened: [...opened] };
  await account.store.transaction(async () => {
    await account.store.put(KEYS, caseId, sealRow(KEYS_ROW, keys));
    await account.store.put(KIND, caseId, sealRow(DISCLOSURE, made));
  });
  return made;
}

/** Return every disclosure of this profile, in the order in which they were collected, ended ones too. */
export async function listDisclosures(account: Account): Promise<Disclosure[]> {
  const found: Disclosure[] = [];
  for (const caseId of await account.store.keys(KIND)) found.push(await load(account, caseId));
  return found;
}

/**
 * Decrypt a file of somebody else's archive by what a case disclosed, after a line of the manifest was written.
 *
 * The line is kept before the first byte of the plaintext is written: a line without a file can come of a crash, a file
 * without a line cannot. Rejects with NotPossible after the end, and for a file that this case does not open; TrustRefused
 * for a changed one; MachineError where it cannot be read or written.
 */
export async function decryptFile(
  account: Account,
  caseId: Bytes,
  source: Blob,
  target: Target,
  { advance = () => undefined }: Watching = {},
): Promise<FileDone> {
  const seconds = archive.stopwatch(), kept = await requireUsable(account, caseId);
  const keys = await loadKeys(account, caseId);
  try {
    const prefix = await archive.readStart(source), [header] = readPrefix(prefix);
    const found = keys.opened.find((one) => one.number === header.generation);
    if (!equal(header.tenant, account.tenant) || !equal(header.user, kept.subject) || found === undefined)
      throw new NotPossible("This case does not open that file.", {
        wayOut: `It opens generations ${kept.generations.join(", ")} of the archive of ${uuidText(kept.subject)}.`,
      });
    const rest = noted(account, kept, keys, source, prefix.length);
    const size = await archive.decryptRest(prefix, rest, target, found.key, advance);
    return { generation: header.generation, size, seconds: seconds() };
  } catch (error) {
    throw archive.notDecrypted(error);
  }
}

/**
 * Give the pieces of a record after its line was written, and only as long as they are the bytes of that line.
 *
 * Nothing of this runs before the target is known to be free and the key to be the record's: `decryptSegments` asks for the
 * first piece then.
 */
async function* noted(
  account: Account,
  kept: Disclosure,
  keys: Keys,
  source: Blob,
  start: number,
): AsyncGenerator<Bytes> {
  const named = await hashOf(source);
  await writeLine(account, kept, keys, named);
  const seen = new Sha256();
  seen.update(await readAt(source, 0, start));
  for await (const piece of archive.pieces(source, start)) {
    seen.update(piece);
    yield piece;
  }
  if (!equal(seen.digest(), named.digest)) throw new Untrusted("it was changed while it was read");
}

type Named = Pick<OpenedFile, "digest" | "size">;

async function hashOf(source: Blob): Promise<Named> {
  const seen = new Sha256();
  let size = 0;
  for await (const piece of piecesOf(source, 0, READ_AT_ONCE)) {
    seen.update(piece);
    size += piece.length;
  }
  return { digest: seen.digest(), size };
}

/** Add a line, dated now, durably. opened: a file; without one it closes the manifest. */
async function writeLine(account: Account, kept: Disclosure, keys: Keys, opened?: Named): Promise<Disclosure> {
  // The last place is the closing line's.
  if (opened !== undefined && kept.lines + 1 >= MAX_LINES)
    throw new NotPossible(`The manifest of this case is full: it has opened ${filesOf(kept)} files.`, {
      wayOut: "Read the rest in another case: client.disclosures.ask()",
    });
  const device = deviceFromPayload(Sign1.parse(kept.device).payload);
  // No earlier than the line before: a clock that was set back since orders nothing anew.
  const now = Math.max(account.clock.earliest(), kept.latest), seq = kept.lines + 1;
  const { tenant, user } = account;
  const payload = custodyToPayload({
    header: { tenant, user, device: device.header.device, issuedAt: now, expiresAt: 0 },
    caseHash: Sign1.parse(kept.case).payloadHash,
    seq,
    previous: kept.last,
    files: opened === undefined ? [] : [{ ...opened, time: now }],
  });
  const key = await SigningKey.fromSeed(signingKind(device.suite), keys.signingSeed);
  const signed = await sign(payload, "custody", key), isEnded = opened === undefined;
  const grown: Disclosure = { ...kept, lines: seq, last: signed.payloadHash, latest: now, isEnded };
  await account.store.transaction(async () => {
    await account.store.put(LINE, lineKey(kept.caseId, seq), new SecretBytes(signed.encode()));
    await account.store.put(KIND, kept.caseId, sealRow(DISCLOSURE, grown));
    if (isEnded) await account.store.delete(KEYS, kept.caseId);
  });
  return grown;
}

/** Write the custody manifest of a disclosure to a new file, as docs/formats/custody.md has it. */
export async function writeFile(account: Account, caseId: Bytes, target: Target): Promise<Disclosure> {
  const kept = await load(account, caseId), statements = await linesOf(account, kept);
  await wholeFile(target, async (put) => {
    for (const line of writeManifest(Sign1.parse(kept.device), Sign1.parse(kept.case), statements)) await put(line);
  });
  await account.store.put(WRITTEN, caseId, new SecretBytes(kept.last));
  return kept;
}

/** Read and verify a custody manifest, on any machine. Rejects with Malformed and Untrusted as `readManifest` does. */
export function readFile(source: Blob): Promise<Manifest> {
  return readManifest(textLines(source));
}

async function* textLines(source: Blob): AsyncGenerator<Uint8Array> {
  let held: Uint8Array = EMPTY;
  for await (const piece of piecesOf(source, 0, READ_AT_ONCE)) {
    held = concat(held, piece);
    for (;;) {
      const end = held.indexOf(10), size = Math.min(end < 0 ? held.length : end + 1, MAX_TEXT);
      // A line longer than any is cut here, and refused there.
      if (end < 0 && size < MAX_TEXT) break;
      yield held.subarray(0, size);
      held = held.subarray(size);
    }
  }
  if (held.length > 0) yield held;
}

async function linesOf(account: Account, kept: Disclosure): Promise<Sign1[]> {
  const lines: Sign1[] = [];
  for (let seq = 1; seq <= kept.lines; seq++) {
    const line = await account.store.get(LINE, lineKey(kept.caseId, seq));
    if (line === undefined) throw damaged("a line of a custody manifest is missing");
    lines.push(Sign1.parse(line.reveal()));
  }
  return lines;
}

/** Destroy the keys of a disclosure, and close its manifest. The manifest stays. Done once, however often asked. */
export async function end(account: Account, caseId: Bytes): Promise<Disclosure> {
  const kept = await load(account, caseId);
  return kept.isEnded ? kept : writeLine(account, kept, await loadKeys(account, caseId));
}

/** End the disclosures whose time is over; returns them. */
export async function endDue(account: Account): Promise<Disclosure[]> {
  const due = (await listDisclosures(account)).filter((kept) => !kept.isEnded && isOver(account, kept));
  const ended: Disclosure[] = [];
  for (const { caseId } of due) ended.push(await end(account, caseId));
  return ended;
}

/**
 * Take an ended disclosure and its manifest out of the profile.
 *
 * Rejects with NotPossible for one that has not ended, and for one whose manifest was not written to a file since it has.
 */
export async function forget(account: Account, caseId: Bytes): Promise<void> {
  const kept = await load(account, caseId);
  if (!kept.isEnded)
    throw new NotPossible("This disclosure has not ended: its keys are still here.", {
      wayOut: "End it first: client.disclosures.end()",
    });
  const written = await account.store.get(WRITTEN, caseId);
  if (written === undefined || !equal(written.reveal(), kept.last))
    throw new NotPossible("The manifest of this disclosure lies in this profile alone: it is evidence, and would be gone.", {
      wayOut: "Write it to a file first: client.disclosures.manifest()",
    });
  await account.store.transaction(async () => {
    for (let seq = 1; seq <= kept.lines; seq++) await account.store.delete(LINE, lineKey(caseId, seq));
    await account.store.delete(WRITTEN, caseId);
    await account.store.delete(KIND, caseId);
  });
}

async function requireUsable(account: Account, caseId: Bytes): Promise<Disclosure> {
  let kept = await load(account, caseId);
  if (!kept.isEnded && isOver(account, kept)) kept = await end(account, caseId);
  if (!kept.isEnded && account.clock.latest() >= kept.endsAt)
    throw new NotPossible(`By the clocks at hand this disclosure has ended (${day(kept.endsAt)}).`, {
      wayOut:
        "Its keys are destroyed once that is sure: client.maintain(). If this machine's clock is wrong, set it.",
    });
  if (kept.isEnded)
    throw new NotPossible(
      `This disclosure has ended (${day(Math.min(kept.endsAt, kept.latest))}), and its keys are destroyed.`,
      { wayOut: "Its manifest stays: client.disclosures.manifest(). To read on, ask anew: client.disclosures.ask()" },
    );
  return kept;
}

function isOver(account: Account, kept: Disclosure): boolean {
  // By a confirmed time alone, since nothing brings the keys back. Until then the later of the clocks there are is enough
  // to open nothing with them.
  const now = account.clock.confirmed();
  return now !== undefined && now >= kept.endsAt;
}

const LAST_DAY = 253_402_214_400; // 9999-12-31, the last that is written with four digits

/** Return a date (UTC seconds) for people, in UTC. */
export function day(at: number): string {
  return new Date(Math.min(at, LAST_DAY) * 1000).toISOString().slice(0, 10);
}

async function load(account: Account, caseId: Bytes): Promise<Disclosure> {
  const kept = await account.store.get(KIND, caseId);
  if (kept === undefined)
    throw new NotPossible("This profile has no disclosure of that case.", {
      wayOut: "See those there are: client.disclosures.all()",
    });
  return { caseId, ...opened(() => openRow(DISCLOSURE, kept)) };
}

async function loadKeys(account: Account, caseId: Bytes): Promise<Keys> {
  const kept = await account.store.get(KEYS, caseId);
  if (kept === undefined) throw damaged("the keys of a disclosure are missing");
  return opened(() => openRow(KEYS_ROW, kept));
}

function opened<T>(read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (error instanceof Malformed) throw damaged(error);
    throw error;
  }
}

function lineKey(caseId: Bytes, seq: number): Bytes {
  const number = new Uint8Array(4);
  new DataView(number.buffer).setUint32(0, seq);
  return concat(caseId, number);
}
