// SPDX-License-Identifier: Apache-2.0
/**
 * The tenant's key log as one client sees it: every head it relies on must be there, and the log must be one.
 *
 * docs/formats/key-log.md for clients; proofs are checked by `core/log/key_log`. Does not prove that a head is the newest,
 * nor prevent a split view: two who compare find it.
 */
import { bigEndian, type Bytes, concat, EMPTY, equal, utf8 } from "../../core/base/bytes.js";
import { b64u, decode, encode, Fields, mapOf } from "../../core/base/encoding.js";
import { Forked, HoldfastError, InvalidSignature, Untrusted } from "../../core/base/errors.js";
import { layout, octets, openRow, sealRow, several, uint } from "../../core/base/rows.js";
import { SecretBytes } from "../../core/base/secret.js";
import { uuidText } from "../../core/base/uuids.js";
import { type ChainState, headOf, seqOf } from "../../core/identity/chain.js";
import { Entry } from "../../core/identity/entries.js";
import { SLACK_SECONDS } from "../../core/log/accepted.js";
import type { Checkpoint, LogVerifier } from "../../core/log/checkpoint.js";
import { type InclusionProof, requireSameLog, verifyChainEntry } from "../../core/log/key_log.js";
import { keyEntryFromLeaf } from "../../core/log/log_entry.js";
import { HASH_SIZE, MAX_PROOF } from "../../core/log/merkle.js";
import { MAX_AHEAD_SECONDS, MAX_U32 } from "../../core/signed/payloads.js";
import { NotYet, Problem, RaceLost, RESTORED, ServerRestored, TrustRefused } from "../errors.js";
import type { Account } from "../profile/account.js";
import { Overtaken, retry, waitFor } from "../waiting.js";
import { Contradiction, keep as keepEvidence } from "./evidence.js";
import * as heads from "./heads.js";
import * as restored from "./restored.js";
import { followLogKeys } from "./tenant.js";

/** The log is sequenced at least every minute; ten leave room for a busy worker and for clocks. */
export const LOGGED_WITHIN_SECONDS = 600;
/** The server takes entries dated up to three hours behind; an hour more leaves room for its clocks. */
export const LOGGED_BEFORE_SECONDS = 4 * 3600;
// Waited for a head that is signed for whoever asks: the sequencer looks five times a second, and may be at work.
const FRESH_HEAD_SECONDS = 5;
const ANCHOR = "chain-anchor", PROOF = "chain-proof", WAITING = "chain-waiting";
const MADE = "own-entry", FOREIGN = "foreign-entry", GOSSIP = "gossip";
/** Bytes: a leaf of this log has some hundred. */
export const MAX_LEAF = 1024;
const KEEP_MADE = 256; // entries: this device makes a few in a month, and asks about the newest alone
const KEEP_GOSSIP = 64; // heads: one for each of as many contacts; an older one proves no less

/** The log's own key signed two histories: different people are shown different keys, or a backup was put back. */
export class SplitView extends ServerRestored {
  override get name(): string {
    return "SplitView";
  }
}

/** Where a chain head stands. UNANCHORED: no log key is known, by a code or by the root, so nothing vouches. */
export const Anchor = { ANCHORED: "anchored", WAITING: "waiting", UNANCHORED: "unanchored" } as const;
export type Anchor = (typeof Anchor)[keyof typeof Anchor];

/** An entry of one's own chain that this device did not make. */
export interface ForeignEntry {
  readonly seq: number;
  readonly type: (typeof TYPES)[keyof typeof TYPES];
  /** What the entry says of itself: a UUID's text. */
  readonly device: string | undefined;
  /** UTC seconds. */
  readonly issuedAt: number;
}

const TYPES = {
  1: "Genesis", 2: "AddDevice", 3: "RevokeDevice", 4: "RotateKey", 5: "SetRecoveryKey", 6: "ArchiveGeneration",
  7: "ShareManifest", 8: "ReGenesis",
} as const;

/** One entry of a user's chain, by which the log is asked for its newest head. */
interface Place {
  readonly user: Bytes;
  readonly seq: number;
  readonly head: Bytes;
}

function placeOf(state: ChainState): Place {
  return { user: state.user, seq: seqOf(state), head: headOf(state) };
}

// Heads

/** Say where a chain's head stands, by what is kept and without asking anybody. */
export async function standing(account: Account, state: ChainState): Promise<Anchor> {
  if (heads.verifier(account) === undefined) return Anchor.UNANCHORED;
  return (await isAnchored(account, state)) ? Anchor.ANCHORED : Anchor.WAITING;
}

/**
 * See that the newest entry of a verified chain is in the key log, and keep the log's head.
 *
 * Rejects with TrustRefused when the log has not got it ten minutes after its date, or has another; SplitView, after
 * keeping both heads, when this log is not the one seen before.
 */
export async function anchor(account: Account, state: ChainState): Promise<Anchor> {
  const known = heads.verifier(account), isHeld = await isAnchored(account, state);
  const kept = await findProof(account, state.user);
  if (known === undefined || (isHeld && kept?.seq === seqOf(state))) return standing(account, state);
  const place = placeOf(state), shown = await advance(account, place, known);
  if (shown !== undefined) {
    await account.store.transaction(async () => {
      const row = new SecretBytes(encode(mapOf({ 1: place.seq, 2: place.head })));
      await account.store.put(ANCHOR, state.user, row);
      await account.store.put(PROOF, state.user, sealRow(KEPT, keptOf(place.seq, shown)));
    });
  } else if (!isHeld) {
    await requireRecent(account, place, state.time);
    return Anchor.WAITING;
  }
  return Anchor.ANCHORED;
}

/** What showed that a chain's entry `seq` was in the key log, kept for a server that loses both. */
export interface KeptProof {
  readonly seq: number;
  /** As of `InclusionProof`, like the fields that follow. */
  readonly index: number;
  readonly leaf: Bytes;
  readonly hashes: readonly Bytes[];
  readonly note: Bytes;
}

const KEPT = layout<KeptProof>(
  "kept proof",
  {
    seq: uint({ maximum: MAX_U32 }),
    index: uint(),
    leaf: octets(undefined, { maximum: MAX_LEAF }),
    hashes: several(octets(HASH_SIZE)),
    note: octets(undefined, { maximum: heads.MAX_NOTE }),
  },
  { rowSize: 16 * 1024 },
);

/** Return a kept proof as a server takes it. */
export function proofDocument(kept: KeptProof): Readonly<Record<string, unknown>> {
  return {
    leaf_index: kept.index,
    leaf: b64u(kept.leaf),
    proof: kept.hashes.map(b64u),
    checkpoint: new TextDecoder().decode(kept.note),
  };
}

function keptOf(seq: number, { proof }: Shown): KeptProof {
  const { index, leaf, hashes, checkpoint } = proof as InclusionProof;
  return { seq, index, leaf, hashes, note: utf8(checkpoint) };
}

/** Return what last showed that a user's chain (16 bytes) was in the key log, if anything is kept of it. */
export async function findProof(account: Account, user: Bytes): Promise<KeptProof | undefined> {
  const row = await account.store.get(PROOF, user);
  return row && openRow(KEPT, row);
}

/**
 * Hold the date of a re-genesis to this device's clock and to the key log, since its delay is counted on that date.
 *
 * Rejects with TrustRefused for one that is still to come, or that lies long before the log took the entry; and as `anchor`
 * does. Without a log key only the clock speaks.
 */
export async function requireDated(account: Account, user: Bytes, entry: Entry): Promise<void> {
  const at = entry.header.issuedAt;
  // By the earlier of both clocks: a server that is ahead shortens nobody's time to object.
  if (at > account.api.clock.earliest() + MAX_AHEAD_SECONDS)
    throw new TrustRefused(
      "This account was begun again at a date that is still to come: its owner's time to object is not over.",
      { wayOut: "Wait for that date. If it is past, this device's clock is wrong: set it." },
    );
  const known = heads.verifier(account);
  if (known === undefined) return;
  const place = { user, seq: entry.seq, head: entry.hash }, shown = await advance(account, place, known);
  if (shown === undefined) await requireRecent(account, place, at);
  else if (loggedAt(shown) > at + LOGGED_BEFORE_SECONDS) await requireGivenBack(account, entry, loggedAt(shown));
}

/**
 * Refuse a re-genesis that the log took long after its date, unless a restored backup explains that.
 *
 * Then the log's date is no witness of the entry's own. So whoever left office before the officers accepted the backup has
 * signed in vain, and the owner's time to object runs again from the day on which the log took it.
 */
async function requireGivenBack(account: Account, { header, body }: Entry, loggedAt: number): Promise<void> {
  if (body.type !== 8) throw new TypeError("only a re-genesis is given back with a delay");
  const accepted = await excuseOf(account, header.issuedAt, loggedAt);
  const named = (await account.policies()).find((one) => equal(one.hash, body.policyHash));
  const isInOffice =
    accepted !== undefined &&
    named !== undefined &&
    named.policy.version >= (await account.trusted()).inForce(accepted.at).policy.version;
  if (!isInOffice)
    throw new TrustRefused("This account was begun again at a date long before its public key log heard of it.", {
      wayOut: "Trust nothing under it, and tell your officers: officers who have left may have signed for it.",
    });
  const due = loggedAt + named.policy.terms.delaySeconds;
  if (account.api.clock.earliest() < due) {
    const day = new Date(due * 1000).toISOString().slice(0, 16).replace("T", " ");
    throw new TrustRefused(
      "This account was begun again, and that was given back to a server that was put back from a backup: its owner " +
        "has time to object once more.",
      { wayOut: `Wait until ${day} UTC.` },
    );
  }
}

/** Return what explains that an entry of one date came into the log at a later one: it was lost and given back. */
async function excuseOf(account: Account, at: number, loggedAt: number): Promise<restored.Taken | undefined> {
  const find = async (): Promise<restored.Taken | undefined> =>
    (await restored.taken(account)).find((one) => {
      const isAfter = one.at - SLACK_SECONDS <= loggedAt && loggedAt <= one.at + restored.HEALING_SECONDS;
      return at <= one.at + SLACK_SECONDS && isAfter;
    });
  return (await find()) ?? ((await restored.look(account)) ? find() : undefined);
}

/** Tell whether an entry of this date (UTC seconds) may have been lost with the log, and be given back just now. */
async function mayBeLate(account: Account, at: number): Promise<boolean> {
  if (await restored.mayBeLost(account, at)) return true;
  return (await restored.look(account)) && (await restored.mayBeLost(account, at));
}

/** Refuse an entry of a date (UTC seconds) that the log has not got although it had ten minutes to take it. */
async function requireRecent(account: Account, place: Place, at: number): Promise<void> {
  const { clock } = account.api;
  // Whichever of two clocks is ahead would have every entry look overdue, also one that this device has just made. Which
  // is wrong cannot be known: the ten minutes then begin when the entry is first seen, by our own clock. They do so as
  // well for what a restored backup lost: it is of its own day, and comes into the log again.
  if (clock.latest() <= at + LOGGED_WITHIN_SECONDS) return;
  if ((clock.isOff || (await mayBeLate(account, at))) && (await isNewlySeen(account, place))) return;
  throw new TrustRefused(
    "The newest entry of this account is not in the public key log, and should have been for long.",
    {
      wayOut:
        "Do not rely on its keys. If this goes on, tell your officers: a key may be shown to you alone.",
    },
  );
}

/** Tell whether this device has seen a head wait for less than ten minutes, and remember since when. */
async function isNewlySeen(account: Account, place: Place): Promise<boolean> {
  const now = account.api.clock.now(), kept = await account.store.get(WAITING, place.user);
  const row = kept && Fields.of(decode(kept.reveal()), "waiting head", [1, 2]);
  // Seen in what is the future now: by a clock that was ahead then.
  if (!row || !equal(row.octets(1, HASH_SIZE), place.head) || row.uint(2) > now + MAX_AHEAD_SECONDS) {
    await account.store.put(WAITING, place.user, new SecretBytes(encode(mapOf({ 1: place.head, 2: now }))));
    return true;
  }
  return now <= row.uint(2) + LOGGED_WITHIN_SECONDS;
}

/**
 * Tell whether the log's newest head, signed within five minutes, confirms this machine's clock; asks for one.
 *
 * Until then nothing is destroyed by its age. Waits for a head for a few seconds when no clock is known to be off: the log
 * signs anew for whoever asks. False without a log key, and while the log does not hold this account yet. Rejects as
 * `anchor` does, and with Problem.
 */
export async function confirmTime(account: Account): Promise<boolean> {
  const known = heads.verifier(account), { clock } = account.api;
  if (known === undefined || account.state.chain.length === 0) return false;
  const place = (await findAnchored(account, account.user)) ?? placeOf(await account.chain());
  const isConfirmed = (): boolean => clock.confirmed() !== undefined;
  const attempt = async (): Promise<boolean> => {
    if (!isConfirmed() && (await advance(account, place, known)) !== undefined && !isConfirmed())
      throw new NotYet("The key log shows no head that was signed within five minutes.");
    return isConfirmed();
  };
  try {
    return await waitFor(attempt, clock.isOff ? 0 : FRESH_HEAD_SECONDS);
  } catch (error) {
    if (error instanceof NotYet) return false;
    throw error;
  }
}

async function findAnchored(account: Account, user: Bytes): Promise<Place | undefined> {
  const kept = await account.store.get(ANCHOR, user);
  if (kept === undefined) return undefined;
  const row = Fields.of(decode(kept.reveal()), "anchor", [1, 2]);
  return { user, seq: row.uint(1), head: row.octets(2, HASH_SIZE) };
}

async function isAnchored(account: Account, state: ChainState): Promise<boolean> {
  return equal((await findAnchored(account, state.user))?.head ?? EMPTY, headOf(state));
}

/** A head that the server shows, proven to hold the entry asked about; its note; the proof from an older head. */
interface Shown {
  readonly checkpoint: Checkpoint;
  readonly note: string;
  readonly consistency: readonly Bytes[];
  /** That the entry asked about is in it; undefined where none was. */
  readonly proof?: InclusionProof;
}

/** Return the UTC seconds at which the entry asked about came into the log, by the leaf; 0 where none was. */
function loggedAt({ proof }: Shown): number {
  return proof === undefined ? 0 : keyEntryFromLeaf(proof.leaf).time;
}

/** Ask for the newest head with the proofs that a chain's entry is in it and that it follows from `oldSize`. */
async function show(
  account: Account,
  place: Place,
  known: LogVerifier,
  oldSize: number,
): Promise<Shown | undefined> {
  const query = { seq: String(place.seq), ...(oldSize > 0 ? { old_size: String(oldSize) } : {}) };
  let answer;
  try {
    answer = await account.api.get(`users/${uuidText(place.user)}/chain/proof`, { query });
  } catch (error) {
    if (error instanceof Problem && error.status === 404) return undefined;
    throw error;
  }
  const note = answer.text("checkpoint", { maximum: heads.MAX_NOTE });
  const hashes = answer.manyOctets("proof", { maximum: MAX_PROOF });
  const leaf = answer.octets("leaf", undefined, { maximum: MAX_LEAF });
  const proof: InclusionProof = { index: answer.number("leaf_index"), leaf, hashes, checkpoint: note };
  let checkpoint: Checkpoint;
  try {
    checkpoint = await verified(account, proof, place, known);
  } catch (error) {
    if (!(error instanceof HoldfastError)) throw error;
    throw new TrustRefused(`The key log does not vouch for this account: ${error.message}.`, { cause: error });
  }
  account.api.clock.confirm(checkpoint.time);
  const consistency = answer.has("consistency") ? answer.manyOctets("consistency", { maximum: MAX_PROOF }) : [];
  return { checkpoint, note, consistency, proof };
}

async function verified(
  account: Account,
  proof: InclusionProof,
  place: Place,
  known: LogVerifier,
): Promise<Checkpoint> {
  const checked = (verifier: LogVerifier): Promise<Checkpoint> => {
    const of = { verifier, tenant: account.tenant, user: place.user, seq: place.seq, entryHash: place.head };
    return verifyChainEntry(proof, of);
  };
  try {
    return await checked(known);
  } catch (error) {
    if (!(error instanceof InvalidSignature)) throw error;
    // The log's key may have been replaced since this client last asked whose it is.
    await followLogKeys(account);
    return checked(heads.verifier(account) ?? known);
  }
}

/**
 * Ask for the newest head, hold it to the one seen last, and keep it.
 *
 * Where a backup was put back and officers have accepted that, the log is followed from there on.
 */
async function advance(account: Account, place: Place, known: LogVerifier): Promise<Shown | undefined> {
  const last = await heads.kept(account, known);
  const shown = await show(account, place, known, last?.size ?? 0);
  if (shown === undefined) return undefined;
  const error = last && findContradiction(last, shown);
  if (error !== undefined) {
    if (await restored.look(account)) return advance(account, place, known);
    throw await accused(account, error, account.state.trust.checkpoints.get(known.name) as string, shown.note);
  }
  if (last === undefined || shown.checkpoint.size > last.size) await heads.keep(account, known, shown.note);
  return shown;
}

/** Return the refusal of a head that does not follow from an older one, by the proof that came with it; or undefined. */
function findContradiction(older: Checkpoint, shown: Shown): ServerRestored | undefined {
  if (shown.checkpoint.size < older.size)
    return new ServerRestored("The server shows an older key log than it has shown before.", { wayOut: RESTORED });
  try {
    requireSameLog(older, shown.checkpoint, shown.consistency);
  } catch (error) {
    if (!(error instanceof Forked || error instanceof Untrusted)) throw error;
    // A missing proof is no proof of a split, but the server owes it for any two heads that its key signed.
    return new SplitView(`The key log shows two histories: ${error.message}.`, { wayOut: RESTORED, cause: error });
  }
  return undefined;
}

/** Keep both notes, show the server the one that it does not have, and return the refusal. */
async function accused(
  account: Account,
  error: ServerRestored,
  ours: string,
  theirs: string,
): Promise<ServerRestored> {
  const what = error instanceof SplitView ? Contradiction.LOG_FORK : Contradiction.LOG_ROLLED_BACK;
  await keepEvidence(account, what, { user: account.user, ours: utf8(ours), theirs: utf8(theirs) });
  await restored.tell(account, ours);
  return error;
}

// Gossip

/** Return the newest head of the key log that this client has accepted, to be put into messages; "" for none. */
export function ownCheckpoint(account: Account): string {
  return heads.own(account);
}

/**
 * Keep a head that came inside a message, to be compared later; asks nobody, so a transaction may be open.
 *
 * Returns false for what the pinned log key has not signed: anybody could raise an alarm with it otherwise.
 */
export async function hear(account: Account, checkpointText: string): Promise<boolean> {
  const known = heads.verifier(account), heard = await heads.read(account, known, checkpointText);
  if (heard === undefined) return false;
  if (ownCheckpoint(account) !== checkpointText && (await account.store.keys(GOSSIP)).length < KEEP_GOSSIP) {
    const name = concat(bigEndian(heard.size, 8), heard.root);
    await account.store.put(GOSSIP, name, new SecretBytes(utf8(checkpointText)));
  }
  return true;
}

/**
 * Compare every head kept by `hear`; returns how many were. Rejects as `compareGossip` does, but for NotYet.
 *
 * What cannot be compared yet is kept for the next call.
 */
export async function compareHeard(account: Account): Promise<number> {
  let compared = 0;
  for (const name of await account.store.keys(GOSSIP)) {
    const kept = (await account.store.get(GOSSIP, name)) as SecretBytes;
    try {
      await compareGossip(account, new TextDecoder().decode(kept.reveal()));
    } catch (error) {
      if (error instanceof NotYet) break;
      // It is kept as evidence now; kept here as well, it would end every later comparison.
      if (error instanceof SplitView) await account.store.delete(GOSSIP, name);
      throw error;
    }
    await account.store.delete(GOSSIP, name);
    compared += 1;
  }
  return compared;
}

/**
 * Hold a head that a peer has seen against the one seen here. Returns false for a head that says nothing.
 *
 * Rejects with SplitView, after keeping both, when they are not of one log; TrustRefused when the server gives no proof
 * either way; NotYet while the log holds no entry of this account, which is only minutes old. Heads of one size are
 * compared here; of two sizes, the server is asked for the proof between them.
 */
export async function compareGossip(account: Account, checkpointText: string): Promise<boolean> {
  const known = heads.verifier(account), heard = await heads.read(account, known, checkpointText);
  if (known === undefined || heard === undefined) return false;
  const last = await heads.kept(account, known);
  if (last === undefined) {
    // Nothing was seen yet that it could contradict: what is asked for from now on must follow from it.
    await heads.keep(account, known, checkpointText);
  } else if (heard.size === last.size) {
    const error = findContradiction(last, { checkpoint: heard, note: checkpointText, consistency: [] });
    // Either of both may be of the past that officers gave up: it is known now, and compared by that.
    if (error && (await restored.look(account))) return compareGossip(account, checkpointText);
    if (error && !(await restored.explains(account, known, heard))) {
      const ours = account.state.trust.checkpoints.get(known.name) as string;
      throw await accused(account, error, ours, checkpointText);
    }
  } else if (heard.size > 0) {
    await compareSizes(account, known, heard, checkpointText);
  }
  return true;
}

/** Connect the head heard of with the server's newest, and that one with what was seen here. */
async function compareSizes(account: Account, known: LogVerifier, heard: Checkpoint, text: string): Promise<void> {
  // An entry that the log is known to hold: the newest one may have been made a moment ago, and is not in it then.
  const anchored = await findAnchored(account, account.user), chain = await account.chain();
  const place = anchored ?? placeOf(chain);
  const attempt = async (): Promise<void> => {
    const newest = await advance(account, place, known);
    if (newest === undefined) {
      if (anchored && !((await restored.look(account)) || (await restored.isHealing(account)))) {
        await restored.tell(account, ownCheckpoint(account));
        const denies = "The key log denies an entry of your account that it held before.";
        throw new ServerRestored(denies, { wayOut: RESTORED });
      }
      if (!anchored) await requireRecent(account, place, chain.time);
      throw new NotYet("The key log does not hold your account yet.", { wayOut: "Try again in a minute." });
    }
    if (newest.checkpoint.size < heard.size) {
      if (await restored.explains(account, known, heard)) return;
      const both = { user: account.user, ours: utf8(text), theirs: utf8(newest.note) };
      await keepEvidence(account, Contradiction.LOG_ROLLED_BACK, both);
      await restored.tell(account, text);
      const more = "A contact has seen more of the key log than the server shows you.";
      throw new SplitView(more, { wayOut: RESTORED });
    }
    const shown = await show(account, place, known, heard.size);
    if (shown?.checkpoint.size !== newest.checkpoint.size) throw new Overtaken(); // the log grew in between
    const own = findContradiction(newest.checkpoint, shown);
    if (own !== undefined) throw await accused(account, own, newest.note, shown.note);
    const theirs = findContradiction(heard, shown);
    if (theirs !== undefined && !(await restored.explains(account, known, heard)))
      throw await accused(account, theirs, text, newest.note);
  };
  await retry(attempt, { lost: new RaceLost("The key log grew faster than it could be compared.") });
}

// The own chain

/** Remember entries as made by this device, before they are sent. */
export async function rememberMade(account: Account, entries: readonly Entry[]): Promise<void> {
  await account.store.transaction(async () => {
    for (const entry of entries)
      await account.store.put(MADE, entry.hash, new SecretBytes(bigEndian(entry.seq, 4)));
    for (const name of (await account.store.keys(MADE)).slice(0, -KEEP_MADE)) await account.store.delete(MADE, name);
  });
}

/**
 * Keep, for the person to see, which fresh entries of their own chain this device did not make.
 *
 * known: how many were known before; what stood there when this device first looked is not news, nor is that this device
 * itself was added, which it asked for.
 */
export async function watch(account: Account, known: number, fresh: readonly Bytes[]): Promise<void> {
  if (known === 0) return;
  for (const encoded of fresh) {
    const entry = Entry.parse(encoded);
    const isAskedFor = entry.body.type === 2 && equal(entry.body.device, account.device.id);
    if (!isAskedFor && (await account.store.get(MADE, entry.hash)) === undefined)
      await account.store.put(FOREIGN, bigEndian(entry.seq, 4), new SecretBytes(encoded));
  }
}

/** Return the entries of one's own chain that this device did not make, oldest first, until they are put away. */
export async function foreignEntries(account: Account): Promise<ForeignEntry[]> {
  const found: ForeignEntry[] = [];
  for (const name of await account.store.keys(FOREIGN)) {
    const kept = (await account.store.get(FOREIGN, name)) as SecretBytes;
    const { seq, body, header } = Entry.parse(kept.reveal());
    const device = header.device.length > 0 ? uuidText(header.device) : undefined;
    found.push({ seq, type: TYPES[body.type], device, issuedAt: header.issuedAt });
  }
  return found;
}

/** Strike out entries that the person has looked at and recognised. */
export async function putAwaySeen(account: Account, ...entries: readonly ForeignEntry[]): Promise<void> {
  for (const entry of entries) await account.store.delete(FOREIGN, bigEndian(entry.seq, 4));
}
