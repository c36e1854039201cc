// SPDX-License-Identifier: Apache-2.0
/**
 * A server that was put back from a backup: what m officers accepted of its logs, verified and taken once by a client.
 *
 * docs/formats/key-log.md "After a restored backup", docs/spec/escrow.md "What it believes of the log". An acceptance
 * excuses what lies before it and nothing that comes after: a head that was signed later is held to as ever. Gives nothing
 * back to the server by itself, and believes no word of it: what counts is signed by officers and by the log's key.
 */
import { type Bytes, concat, EMPTY, equal, hex, utf8 } from "../../core/base/bytes.js";
import { MAX_BLOB } from "../../core/base/encoding.js";
import { HoldfastError, InvalidSignature, Untrusted } from "../../core/base/errors.js";
import { flag, layout, octets, openRow, sealRow, text, uint } from "../../core/base/rows.js";
import { acceptedLog, Act, resolutionFromPayload, verifyResolution } from "../../core/identity/acts.js";
import { type AcceptedLog, isOutrunBy, leavesBehind, requireGoesOn, SLACK_SECONDS } from "../../core/log/accepted.js";
import type { Checkpoint, LogVerifier } from "../../core/log/checkpoint.js";
import { requireSameLog } from "../../core/log/key_log.js";
import { HASH_SIZE, MAX_PROOF } from "../../core/log/merkle.js";
import { encodeMany, parseMany, type Sign1 } from "../../core/signed/cose.js";
import { MAX_AHEAD_SECONDS } from "../../core/signed/payloads.js";
import { ClientError, RaceLost } from "../errors.js";
import type { Account } from "../profile/account.js";
import { Overtaken, retry } from "../waiting.js";
import { Contradiction, explain, listEvidence } from "./evidence.js";
import * as heads from "./heads.js";
import type { Log } from "./heads.js";
import { followLogKeys, refresh as refreshTenant } from "./tenant.js";

/** For as long the server takes back what it lost: a device that was put away for a season is in. */
export const HEALING_SECONDS = 90 * 86_400;
const KIND = "accepted-log";
const MOST_KEPT = 32; // of each log: nobody puts a backup back once a month for years
const MOST_SHOWN = 20; // that a server shows of them

/** What m officers accepted of one log, as this device has verified and taken it. */
export interface Taken extends AcceptedLog {
  readonly log: Log;
  /** What the officers signed. */
  readonly statement: Bytes;
  /** How many they were. */
  readonly signers: number;
  /**
   * UTC seconds, from which this device gives back what the server lost: the date of the resolution, or, of a device that
   * was away then, when it took it by its own clock.
   */
  readonly healsFrom: number;
  /** The head that this device held to until then, none where that was of the same log. */
  readonly note: Bytes;
  /** Whether the person was told. */
  readonly isTold: boolean;
}

const TAKEN = layout<Omit<Taken, "log"> & { readonly log: string }>(
  "accepted log",
  {
    log: text({ maximum: 8 }),
    size: uint(),
    root: octets(HASH_SIZE),
    at: uint(),
    hash: octets(HASH_SIZE),
    statement: octets(undefined, { maximum: MAX_BLOB }),
    signers: uint(),
    healsFrom: uint(),
    note: octets(undefined, { maximum: heads.MAX_NOTE }),
    isTold: flag(),
  },
  { rowSize: 2 * MAX_BLOB },
);

/** Whether this device had seen more of the log, or another, than was accepted. */
export function isLeftBehind(one: Taken): boolean {
  return one.note.length > 0;
}

/** The key of its row. */
function nameOf(one: { readonly log: Log; readonly hash: Bytes }): Bytes {
  return concat(utf8(one.log), one.hash);
}

/** Tell whether the server may still lack what was lost then: at a time by this machine's clock. */
export function healsAt(one: Taken, now: number): boolean {
  return -MAX_AHEAD_SECONDS <= now - one.healsFrom && now - one.healsFrom <= HEALING_SECONDS;
}

/** Return what this device has taken of one log, newest first. Asks nobody. */
export async function taken(account: Account, log: Log = "keys"): Promise<Taken[]> {
  const found: Taken[] = [];
  for (const name of await account.store.keys(KIND)) {
    const row = await account.store.get(KIND, name);
    if (row !== undefined) found.push(openRow(TAKEN, row) as Taken);
  }
  return found.filter((one) => one.log === log).sort((one, other) => other.at - one.at);
}

/** Tell whether the server may lack what is kept here, by an acceptance of the log of keys: for 90 days. */
export async function isHealing(account: Account): Promise<boolean> {
  const now = account.clock.now();
  return (await taken(account)).some((one) => healsAt(one, now));
}

/** Tell whether the server may have lost what is dated then (UTC seconds), by an acceptance that still heals. */
export async function mayBeLost(account: Account, dated: number): Promise<boolean> {
  const now = account.clock.now();
  return (await taken(account)).some((one) => healsAt(one, now) && dated <= one.at + SLACK_SECONDS);
}

/** Do what may be refused by the server or by what it shows; undefined then. */
async function quietly<T>(work: () => Promise<T>): Promise<T | undefined> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof ClientError || error instanceof HoldfastError) return undefined;
    throw error;
  }
}

// What the server shows

/** The newest head of a log, its note, the proof from the size asked about; what the server says was accepted. */
interface Newest {
  readonly head: Checkpoint;
  readonly note: string;
  readonly proof: readonly Bytes[];
  readonly accepted: readonly Bytes[];
}

/** Ask for the newest head; undefined for a log without one. Rejects with HoldfastError for what is no head. */
async function newestOf(account: Account, known: LogVerifier, oldSize = 0): Promise<Newest | undefined> {
  const query = { log: logOf(known), ...(oldSize > 0 ? { old_size: String(oldSize) } : {}) };
  const answer = await account.api.get("audit/head", { query });
  const accepted = answer.manyOctets("accepted", { maximum: MOST_SHOWN });
  const note = answer.text("checkpoint", { maximum: heads.MAX_NOTE });
  if (note === "") return undefined;
  const proof = answer.manyOctets("consistency", { maximum: MAX_PROOF });
  return { head: await opened(account, known, note), note, proof, accepted };
}

async function opened(account: Account, known: LogVerifier, note: string): Promise<Checkpoint> {
  try {
    return await known.openCheckpoint(note);
  } catch (error) {
    if (!(error instanceof InvalidSignature)) throw error;
    // The log's key may have been replaced since this client last asked whose it is.
    await followLogKeys(account);
    return (heads.verifier(account, logOf(known)) ?? known).openCheckpoint(note);
  }
}

function logOf(known: LogVerifier): Log {
  return known.name.endsWith("/audit") ? "audit" : "keys";
}

/**
 * Take what officers have accepted since this device last looked; returns whether there was something.
 *
 * Where the log that it is about is not the one that this device holds to, the acceptance has to explain that. What does
 * not hold is left alone, and no refusal: without an acceptance everything is as strict as it was.
 */
export async function look(account: Account, log: Log = "keys"): Promise<boolean> {
  const known = heads.verifier(account, log);
  if (known === undefined) return false;
  let count = 0;
  await quietly(async () => {
    const shown = await newestOf(account, known);
    for (const one of shown ? await verified(account, known, shown.accepted) : [])
      if (await quietly(() => take(account, known, one))) count++;
  });
  return count > 0;
}

/**
 * Tell whether a head that somebody else has seen is of what was lost: beyond what was accepted, and older.
 *
 * One within the accepted log that contradicts it is none of this: two histories were shown before, and that is said.
 */
export async function explains(account: Account, known: LogVerifier, head: Checkpoint): Promise<boolean> {
  const log = logOf(known);
  if (await isLost(account, log, head)) return true;
  return (await look(account, log)) && (await isLost(account, log, head));
}

async function isLost(account: Account, log: Log, head: Checkpoint): Promise<boolean> {
  return (await taken(account, log)).some((one) => isOutrunBy(one, head) && leavesBehind(one, head));
}

/** Show the server a head that it does not have any more: by that alone can it know that it was put back. */
export async function tell(account: Account, note: string): Promise<void> {
  try {
    await account.api.post("audit/head", { note });
  } catch (error) {
    if (!(error instanceof ClientError)) throw error;
  }
}

// Verified and taken

/** Return those that officers of this tenant accepted, by the policies known here; newest first, none taken yet. */
async function verified(account: Account, known: LogVerifier, statements: readonly Bytes[]): Promise<Taken[]> {
  const log = logOf(known), had = new Set((await account.store.keys(KIND)).map(hex));
  const fresh = new Map<string, Sign1[]>();
  for (const statement of statements) {
    const signed = await quietly(async () => parseMany(statement));
    if (signed === undefined) continue;
    const name = hex(nameOf({ log, hash: (signed[0] as Sign1).payloadHash }));
    if (!had.has(name)) fresh.set(name, signed);
  }
  if (fresh.size === 0) return [];
  // Who is in office is asked first: officers may have come, or gone, since this device last looked.
  try {
    await refreshTenant(account);
  } catch (error) {
    if (!(error instanceof ClientError)) throw error;
  }
  const found: Taken[] = [];
  for (const signed of fresh.values()) {
    const one = await quietly(() => verify(account, log, signed));
    if (one !== undefined) found.push(one);
  }
  return found.sort((one, other) => other.at - one.at);
}

/** Check one acceptance; undefined for a resolution that is not about this log. Rejects with HoldfastError. */
async function verify(account: Account, log: Log, signed: readonly Sign1[]): Promise<Taken | undefined> {
  const [first] = signed as [Sign1], statement = encodeMany(signed);
  const { act, header } = resolutionFromPayload(first.payload), at = header.issuedAt;
  // One that is dated ahead would excuse what has not happened yet. By the earlier clock: no server moves that on.
  if (act !== Act.ACCEPT_LOG || at > account.clock.earliest() + MAX_AHEAD_SECONDS) return undefined;
  if (account.state.trust.policies.length === 0 || statement.length > MAX_BLOB) return undefined;
  // Of its own day, however long ago that is: what it excuses is bound by its date, and so is who could sign it.
  const resolution = await verifyResolution(signed, (await account.trusted()).inForce(at), { at });
  // One that names the audit log alone dates a first reading, and speaks of no backup.
  if (resolution.act !== Act.ACCEPT_LOG || resolution.keyLog === undefined) return undefined;
  const accepted = acceptedLog(resolution, first.payloadHash, log);
  if (accepted === undefined) return undefined;
  // A device that was enrolled later has lost nothing by it, and is not told.
  const isYounger =
    account.state.device !== undefined && account.deviceStatement.header.issuedAt > at + SLACK_SECONDS;
  return { ...accepted, log, statement, signers: signed.length, healsFrom: at, note: EMPTY, isTold: isYounger };
}

/**
 * Take an acceptance that the server's log goes on from, and hold to that log from now on.
 *
 * False where it does not, and where the head kept here is of another log and was signed after the officers decided: that
 * is another rollback, or a split view, which they did not accept.
 */
async function take(account: Account, known: LogVerifier, accepted: Taken): Promise<boolean> {
  let one = accepted;
  const last = await heads.kept(account, known);
  const attempt = async (): Promise<[Newest, boolean]> => {
    const shown = await newestOf(account, known, one.size);
    if (shown === undefined) throw new Untrusted("the log has no head");
    requireGoesOn(one, shown.head, shown.proof);
    return [shown, last === undefined || (await goesTogether(account, known, last, shown))];
  };
  const lost = new RaceLost("The log grew faster than it could be compared.");
  const [shown, isTogether] = await retry(attempt, { lost });
  if (!isTogether) {
    if (!leavesBehind(one, last as Checkpoint)) return false;
    one = { ...one, note: utf8(account.state.trust.checkpoints.get(known.name) as string) };
  }
  // Who has seen no head since the officers decided was away, and gives back from now on. To whoever has, one that is
  // shown late opens nothing any more: a server would keep it for the day on which it shows something old.
  if (last?.time !== undefined && last.time <= one.at + SLACK_SECONDS)
    one = { ...one, healsFrom: account.clock.now() };
  await account.store.transaction(async () => {
    if (last === undefined || isLeftBehind(one) || shown.head.size > last.size)
      await heads.keep(account, known, shown.note);
    await account.store.put(KIND, nameOf(one), sealRow(TAKEN, one));
    for (const old of (await taken(account, one.log)).slice(MOST_KEPT)) await account.store.delete(KIND, nameOf(old));
    await explainEvidence(account, known, one);
  });
  return true;
}

/** Tell whether the head kept here and the one shown are of one log, by the proof that the server owes for it. */
async function goesTogether(
  account: Account,
  known: LogVerifier,
  last: Checkpoint,
  shown: Newest,
): Promise<boolean> {
  if (last.size > shown.head.size) return false;
  let proof: readonly Bytes[] = [];
  if (0 < last.size && last.size < shown.head.size) {
    const again = await newestOf(account, known, last.size);
    if (again?.head.size !== shown.head.size) throw new Overtaken(); // the log grew in between
    ({ proof } = again);
  }
  try {
    requireSameLog(last, shown.head, proof);
    return true;
  } catch (error) {
    if (error instanceof HoldfastError) return false;
    throw error;
  }
}

/** Mark as explained what is kept as evidence because of a head that was left behind. It is not thrown away. */
async function explainEvidence(account: Account, known: LogVerifier, one: Taken): Promise<void> {
  const decoder = new TextDecoder();
  for (const seen of await listEvidence(account)) {
    if (seen.what === Contradiction.CHAIN_FORK || seen.explained !== undefined) continue;
    let isExplained = equal(one.note, seen.ours) || equal(one.note, seen.theirs);
    for (const side of [seen.ours, seen.theirs]) {
      const head = await heads.read(account, known, decoder.decode(side));
      isExplained ||= head !== undefined && isOutrunBy(one, head) && leavesBehind(one, head);
    }
    if (isExplained) await explain(account, seen, one.hash);
  }
}

// Told once

/** Return what the person was not told of yet, newest first; of a resolution about both logs one. */
export async function untold(account: Account): Promise<Taken[]> {
  const found = new Map<string, Taken>();
  for (const log of heads.LOGS)
    for (const one of await taken(account, log))
      if (!one.isTold && !found.has(hex(one.hash))) found.set(hex(one.hash), one);
  return [...found.values()];
}

/** Remember that the person was told of one resolution. */
export async function noteTold(account: Account, told: Taken): Promise<void> {
  for (const log of heads.LOGS)
    for (const one of await taken(account, log))
      if (equal(one.hash, told.hash))
        await account.store.put(KIND, nameOf(one), sealRow(TAKEN, { ...one, isTold: true }));
}

/** Say what happened, for the person. */
export function wordsOf(one: Taken): string {
  const day = new Date(one.at * 1000).toISOString().slice(0, 10);
  const lost = isLeftBehind(one) ? "what this device had seen of it since then" : "what came after the backup";
  return (
    `Your organisation's server was put back from a backup, and has lost ${lost}. ${one.signers} officers accepted ` +
    `that on ${day}. What this device holds of it is given back by itself.`
  );
}
