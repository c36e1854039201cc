// SPDX-License-Identifier: Apache-2.0
/**
 * A user's account chain: which identity key, devices and archive generations are theirs, entry by entry.
 *
 * docs/formats/statements.md "Account chains". Reads no clock: a chain is held to its own dates, and that these are true
 * when written, the server sees to.
 */
import { type Bytes, equal, hex } from "../base/bytes.js";
import { Forked, InvalidSignature, Malformed, Untrusted } from "../base/errors.js";
import type { PublicKey } from "../crypto/public_keys.js";
import type { Sign1 } from "../signed/cose.js";
import { beginsFrom, verifyAttestations } from "./cases.js";
import type {
  AddDevice, ArchiveGeneration, Entry, Genesis, ReGenesis, RevokeDevice, RotateKey, SetRecoveryKey, ShareManifest,
} from "./entries.js";
import { historyOf, type Policy, type SignedPolicy } from "./policy.js";

/** At once. Everybody who writes to this user seals each message for every device, so it is a cost for others. */
export const MAX_DEVICES = 64;
/** How long an identity key alone must wait to change a recovery key that is set: time for the owner to notice. */
export const RECOVERY_KEY_DELAY_SECONDS = 7 * 86_400;
/** How far an entry may be dated before one that it follows: an hour behind and five minutes ahead. */
export const BACKWARDS_SECONDS = 3_900;
/** A policy version is published up to so long after its date; a resolution is acted on within it. */
export const MAX_AGE_SECONDS = 30 * 86_400;

/** What a peer keeps of a chain: the newest entry it has accepted. */
export interface ChainPin {
  readonly seq: number;
  readonly head: Bytes;
}

/** A recovery key that the identity key alone has announced, and the UTC seconds at which it did. */
export interface AnnouncedKey {
  readonly key: PublicKey;
  readonly at: number;
}

/** Return the UTC seconds from which the same announcement, made again, takes effect. */
export function dueAtOf(announced: AnnouncedKey): number {
  return announced.at + RECOVERY_KEY_DELAY_SECONDS;
}

/** The last re-genesis: a peer shows it, closes sessions and asks a human before it trusts again. */
export interface ReGenesisMark {
  readonly seq: number;
  readonly caseId: Bytes;
  readonly policyHash: Bytes;
}

/** What a verified chain says after its newest entry. Made by `verifyChain` and `extend` only. */
export interface ChainState {
  readonly tenant: Bytes;
  readonly user: Bytes;
  readonly aik: PublicKey;
  readonly recoveryKey: PublicKey | undefined;
  /** Of all entries, by seq. */
  readonly hashes: readonly Bytes[];
  /** By id in hex: the hash of the device statement, of the devices that are the user's now. */
  readonly devices: ReadonlyMap<string, Bytes>;
  /** Ids in hex. */
  readonly revoked: ReadonlySet<string>;
  readonly generations: readonly ArchiveGeneration[];
  readonly manifestHash: Bytes | undefined;
  readonly reGenesis: ReGenesisMark | undefined;
  /** Keys that may sign no more; what they sign now is a fork. */
  readonly formerAiks: readonly PublicKey[];
  readonly attestedDevice: Bytes | undefined;
  readonly isRotationDue: boolean;
  /** UTC seconds, the latest date in the chain. */
  readonly time: number;
  /** A recovery key that still waits. */
  readonly announced: AnnouncedKey | undefined;
}

/** The number of the newest entry; the first is 0. */
export function seqOf(state: ChainState): number {
  return state.hashes.length - 1;
}

/** The 32-byte hash of the newest entry. */
export function headOf(state: ChainState): Bytes {
  return state.hashes.at(-1) as Bytes;
}

/** What to keep in order to notice a rollback or a fork later. */
export function pinOf(state: ChainState): ChainPin {
  return { seq: seqOf(state), head: headOf(state) };
}

/** Whose chain it is to be, and what it is held to. */
export interface Expected {
  readonly tenant: Bytes;
  readonly user: Bytes;
  /** The newest entry this verifier has accepted before. */
  readonly pinned?: ChainPin | undefined;
  /** Every version the verifier holds, oldest first; a re-genesis stands on one of them. */
  readonly policies?: readonly SignedPolicy[];
}

/**
 * Verify a whole chain from its genesis and return what it says.
 *
 * Rejects with Malformed, InvalidSignature, QuorumNotMet; Untrusted for another tenant or user, a gap, a chain shorter than
 * pinned, a key, device or date out of place; Forked for two valid entries with one seq.
 */
export async function verifyChain(entries: readonly Entry[], expected: Expected): Promise<ChainState> {
  const [first, ...rest] = entries;
  if (first === undefined) throw new Untrusted("chain is empty");
  // The whole chain is verified before it is compared with the pin: a fork is only said of entries that hold.
  const state = await extend(await begin(first, expected), rest, { policies: expected.policies ?? [] });
  const { pinned } = expected;
  if (pinned !== undefined) {
    // A shorter chain may lack a revocation, so a verifier that has seen more takes no less.
    if (seqOf(state) < pinned.seq) throw new Untrusted("chain is shorter than the one seen before");
    // The pin's own place is compared, not the newest: a fork that has grown longer since is still a fork.
    if (!equal(state.hashes[pinned.seq] as Bytes, pinned.head))
      throw new Forked("chain differs from the one seen before");
  }
  return state;
}

/**
 * Verify further entries on top of `state`, all of them or none. Rejects as `verifyChain` does.
 *
 * oldestPolicy: the version in force when the verifier was last told that `state` is the newest there is. A revocation
 * must be followed by the rotation in the same call: the revoked device knew the old seed, so between the two entries it
 * could still sign.
 */
export async function extend(
  state: ChainState,
  entries: readonly Entry[],
  of: { policies?: readonly SignedPolicy[]; oldestPolicy?: number } = {},
): Promise<ChainState> {
  let reached = state;
  // States are values: when a later entry is refused, the caller still holds the state of before, and nothing of the call.
  for (const entry of entries) reached = await apply(reached, entry, of.policies ?? [], of.oldestPolicy ?? 0);
  if (reached.isRotationDue) throw new Untrusted("a revocation comes together with a rotation");
  return reached;
}

/**
 * Return what a chain said when `head` (32 bytes) was its newest entry: what a handshake of that day rests on.
 *
 * Rejects as `verifyChain` does, and with Untrusted when no entry is `head` or when it stands between a revocation and its
 * rotation.
 */
export async function stateAt(entries: readonly Entry[], head: Bytes, expected: Expected): Promise<ChainState> {
  const at = entries.findIndex((entry) => equal(entry.hash, head));
  if (at < 0) throw new Untrusted("chain does not contain the head that is named");
  return verifyChain(entries.slice(0, at + 1), expected);
}

function timesOf(policies: readonly SignedPolicy[]): readonly number[] {
  return historyOf(policies, policies.map((signed) => signed.policy.header.issuedAt)).inForceFrom;
}

/** Return the newest version in force at `now` (UTC seconds) as the statements date themselves; 0 without any. */
export function versionInForce(policies: readonly SignedPolicy[], now: number): number {
  const times = timesOf(policies);
  return Math.max(0, ...policies.filter((_, at) => (times[at] as number) <= now).map((one) => one.policy.version));
}

async function begin(entry: Entry, { tenant, user }: Expected): Promise<ChainState> {
  const { body } = entry;
  if (body.type !== 1 || entry.seq !== 0) throw new Untrusted("chain does not begin with a genesis");
  requireAccount(entry, tenant, user);
  await requireSigners(entry, body.aik);
  // Whoever steals the one would have the other, and a rotation by the recovery key would stop no thief.
  if (body.recoveryKey?.equals(body.aik)) throw new Untrusted("recovery key is the identity key");
  return {
    tenant,
    user,
    aik: body.aik,
    recoveryKey: body.recoveryKey,
    hashes: [entry.hash],
    devices: new Map(),
    revoked: new Set(),
    generations: [],
    manifestHash: undefined,
    reGenesis: undefined,
    formerAiks: [],
    attestedDevice: undefined,
    isRotationDue: false,
    time: entry.header.issuedAt,
    announced: undefined,
  };
}

function requireAccount(entry: Entry, tenant: Bytes, user: Bytes): void {
  if (!equal(entry.header.tenant, tenant) || !equal(entry.header.user, user))
    throw new Untrusted("chain entry of another tenant or user");
}

async function requireSigners(entry: Entry, ...keys: readonly PublicKey[]): Promise<void> {
  // Exactly the keys of the type, in order: a further signature would be a signer nobody has judged.
  if (entry.signatures.length !== keys.length)
    throw new InvalidSignature("chain entry is not signed by the keys its type asks for");
  for (const [at, key] of keys.entries()) await (entry.signatures[at] as Sign1).verify(key, "chain");
}

async function holds(statement: Sign1, key: PublicKey): Promise<boolean> {
  try {
    await statement.verify(key, "chain");
    return true;
  } catch (error) {
    if (error instanceof InvalidSignature) return false;
    throw error;
  }
}

/** Refuse an entry that does not stand directly on the head, and say whether it is evidence of a fork. */
async function requirePlace(state: ChainState, entry: Entry): Promise<void> {
  const seq = seqOf(state);
  // Only an entry out of place is held against the keys in force; in place, the rules of its own type do that.
  const isInPlace = entry.seq === seq + 1 && equal(entry.prev, headOf(state));
  const first = entry.signatures[0] as Sign1;
  // Only what a key of this chain has signed is evidence: anybody could otherwise raise a false alarm. Former keys count
  // in both cases: the device that was revoked still has them, and this is how its use of them shows.
  const known = [...state.formerAiks, ...(isInPlace ? [] : [state.aik, state.recoveryKey])];
  let isAuthentic = false;
  for (const key of known) isAuthentic ||= key !== undefined && (await holds(first, key));
  if (isInPlace) {
    if (isAuthentic) throw new Forked("entry signed by a key that has been rotated away");
    return;
  }
  // A gap is asked about again and not called a fork: entries may only be missing on the way.
  if (entry.seq > seq + 1) throw new Untrusted("chain has a gap");
  if (entry.seq <= seq && equal(state.hashes[entry.seq] as Bytes, entry.hash))
    throw new Untrusted("chain repeats an entry");
  if (isAuthentic) throw new Forked("two valid entries claim one place in the chain");
  throw new InvalidSignature("chain entry is not signed by a key of this chain");
}

async function apply(
  state: ChainState,
  entry: Entry,
  policies: readonly SignedPolicy[],
  oldestPolicy: number,
): Promise<ChainState> {
  // In this order: whose it is, whether it stands on the head, when it says it was made, and only then what it does.
  requireAccount(entry, state.tenant, state.user);
  await requirePlace(state, entry);
  const { body, header } = entry;
  // A week that must pass could otherwise lie in the past. A re-genesis may go back: it is the way out for a chain that a
  // server with a wrong clock let into the future.
  if (header.issuedAt < state.time - BACKWARDS_SECONDS && body.type !== 8)
    throw new Untrusted("chain entry is dated before the ones it follows");
  // Nothing comes between: signed by a key that the revoked device still knows, it could be that device's work.
  if (state.isRotationDue && body.type !== 3 && body.type !== 4)
    throw new Untrusted("a revocation comes together with a rotation");
  const changed = await change(state, entry, policies, oldestPolicy);
  // The latest date and not the newest entry's: dates may go back a little, and waits must not get shorter by it. But for
  // a re-genesis, which has set its own.
  const time = Math.max(changed.time, header.issuedAt);
  return { ...changed, hashes: [...changed.hashes, entry.hash], time };
}

async function change(
  state: ChainState,
  entry: Entry,
  policies: readonly SignedPolicy[],
  oldestPolicy: number,
): Promise<ChainState> {
  const { body } = entry;
  switch (body.type) {
    case 4: return rotate(state, entry, body);
    case 5: return setRecoveryKey(state, entry, body);
    case 8: return beginAgain(state, entry, body, policyOf(policies, entry, body, oldestPolicy));
    default:
      await requireSigners(entry, state.aik);
      return applyPlain(state, body);
  }
}

/** Set or announce a recovery key: a thief of a device must not lock the owner's phrase out unnoticed. */
async function setRecoveryKey(state: ChainState, entry: Entry, { recoveryKey }: SetRecoveryKey): Promise<ChainState> {
  // A former AIK may be in a thief's hands; as recovery key it would rotate the account away from its owner.
  if ([state.aik, ...state.formerAiks].some((key) => key.equals(recoveryKey)))
    throw new Untrusted("recovery key is, or was, the identity key");
  // At once where nobody is locked out: none was set yet, or the old phrase agrees.
  if (state.recoveryKey === undefined || entry.signatures.length > 1) {
    await requireSigners(entry, state.aik, ...(state.recoveryKey === undefined ? [] : [state.recoveryKey]));
    return { ...state, recoveryKey, announced: undefined };
  }
  await requireSigners(entry, state.aik);
  // The way to cancel: it changes nothing but what was announced, so one signature is enough.
  if (recoveryKey.equals(state.recoveryKey)) return { ...state, announced: undefined };
  // Another key begins to wait anew. Otherwise a harmless announcement could be swapped on the last day.
  const { issuedAt } = entry.header;
  if (state.announced === undefined || !state.announced.key.equals(recoveryKey))
    return { ...state, announced: { key: recoveryKey, at: issuedAt } };
  // Counted between the dates of two entries of the chain, so that every verifier comes to the same answer at any time.
  if (issuedAt < dueAtOf(state.announced))
    throw new Untrusted("the recovery key announced has not waited for seven days");
  return { ...state, recoveryKey, announced: undefined };
}

function applyPlain(
  state: ChainState,
  body: Genesis | AddDevice | RevokeDevice | ArchiveGeneration | ShareManifest,
): ChainState {
  switch (body.type) {
    case 1: throw new Untrusted("a second genesis");
    case 2: return addDevice(state, body);
    case 3: {
      const id = hex(body.device), devices = new Map(state.devices);
      if (!devices.delete(id)) throw new Untrusted("revokes a device that is not the user's");
      const revoked = new Set(state.revoked).add(id);
      // What the revoked device may have announced under the key it knew does not outlive it.
      return { ...state, devices, revoked, isRotationDue: true, announced: undefined };
    }
    case 6: {
      const newest = state.generations.at(-1);
      // The first accepted wins; the other device re-reads the chain and takes the next number.
      if (newest !== undefined && (body.generation <= newest.generation || body.notBefore < newest.notBefore))
        throw new Untrusted("archive generation is not after the newest");
      return { ...state, generations: [...state.generations, body] };
    }
    case 7: return { ...state, manifestHash: body.manifestHash };
  }
}

function addDevice(state: ChainState, body: AddDevice): ChainState {
  const id = hex(body.device);
  // Once in a lifetime: a device id that comes back would bring a revoked device's sessions and messages with it.
  if (state.devices.has(id) || state.revoked.has(id)) throw new Untrusted("device has been in this chain before");
  // One statement under two ids would be one set of keys twice, of which only one could be revoked.
  if ([...state.devices.values()].some((known) => equal(known, body.statementHash)))
    throw new Untrusted("device statement is in this chain already");
  if (state.devices.size >= MAX_DEVICES) throw new Malformed("chain: more than 64 devices");
  // The officers saw one device; the first one added after them is that one and no other.
  if (state.attestedDevice !== undefined && !equal(state.attestedDevice, body.statementHash))
    throw new Untrusted("first device after a re-genesis is not the attested one");
  return { ...state, devices: new Map(state.devices).set(id, body.statementHash), attestedDevice: undefined };
}

/** Return the keys that may not become the identity key. */
function isUsed(state: ChainState, key: PublicKey): boolean {
  const used = [state.aik, state.recoveryKey, state.announced?.key, ...state.formerAiks];
  return used.some((one) => one?.equals(key));
}

async function rotate(state: ChainState, entry: Entry, body: RotateKey): Promise<ChainState> {
  const first = entry.signatures[0] as Sign1;
  // The `kid` only picks the key to verify under; a wrong one makes the signature fail.
  const isByRecovery = state.recoveryKey !== undefined && equal(first.kid, state.recoveryKey.kid);
  const by = isByRecovery ? (state.recoveryKey as PublicKey) : state.aik;
  // Back to a used key: whoever has the old seed would be the account again. The recovery key may not become AIK either.
  if (isUsed(state, body.aik)) throw new Untrusted("rotates to a key that this chain has used");
  // Old and new both sign: the old one says who follows, the new one that somebody really has it.
  await requireSigners(entry, by, body.aik);
  return {
    ...state,
    aik: body.aik,
    formerAiks: [...state.formerAiks, state.aik],
    isRotationDue: false,
    // The old recovery key has spoken: whatever would have replaced it is void.
    announced: isByRecovery ? undefined : state.announced,
  };
}

/** Return the policy that a re-genesis names, if the verifier holds it and it was in force. */
function policyOf(policies: readonly SignedPolicy[], entry: Entry, body: ReGenesis, oldest: number): Policy {
  // Only among those verified from the pin: a policy inside the entry would bring officers of its own.
  const place = policies.findIndex((version) => equal(version.hash, body.policyHash));
  const signed = policies[place];
  if (signed === undefined || !equal(signed.policy.header.tenant, entry.header.tenant))
    throw new Untrusted("re-genesis under a policy that this verifier does not hold");
  // Officers who left with an older version could otherwise begin accounts again for as long as they keep their keys.
  if (signed.policy.version < oldest) throw new Untrusted("re-genesis under a policy that is no longer in force");
  // A lowered guard must not be used while it cools off. The same leeway as for dates: clocks may differ by it.
  const times = timesOf(policies), { issuedAt } = entry.header;
  if ((times[place] as number) > issuedAt + BACKWARDS_SECONDS)
    throw new Untrusted("re-genesis under a policy that was not in force yet");
  // Nor may one that was replaced by then for certain, which a verifier without `oldest` would not know of. A version is
  // published up to MAX_AGE_SECONDS after its date, and its cooling-off runs from then.
  const longest = Math.max(...policies.map((version) => version.policy.terms.coolingOffSeconds));
  const certain = issuedAt - MAX_AGE_SECONDS - longest - BACKWARDS_SECONDS;
  if (times.slice(place + 1).some((at) => at <= certain))
    throw new Untrusted("re-genesis under a policy that was no longer in force at its date");
  return signed.policy;
}

async function beginAgain(state: ChainState, entry: Entry, body: ReGenesis, policy: Policy): Promise<ChainState> {
  // The new key signs alone: the old one is lost. What it may be is said by the officers below, about this very head.
  await requireSigners(entry, body.aik);
  if (isUsed(state, body.aik)) throw new Untrusted("re-genesis to a key that this chain has used");
  const of = { user: state.user, oldHead: headOf(state), newAik: body.aik };
  const said = await verifyAttestations(body.attestations, policy, of);
  // The owner's time to object, held to the dates that officers and the new key signed: a server that lets the account
  // begin at once is found out by every reader. The same leeway as for dates.
  if (entry.header.issuedAt < beginsFrom(body.attestations, policy) - BACKWARDS_SECONDS)
    throw new Untrusted("re-genesis before the policy's delay was over");
  // Nothing that the lost identity vouched for is carried over: devices, recovery key, contacts start anew. Archive
  // generations stay, since they are what the officers release.
  return {
    ...state,
    aik: body.aik,
    recoveryKey: undefined,
    devices: new Map(),
    // As revoked, not forgotten: a lost device must not come back under its old id.
    revoked: new Set([...state.revoked, ...state.devices.keys()]),
    manifestHash: undefined,
    // The lost key counts as rotated away: if it signs again, somebody has found it, and that is a fork.
    formerAiks: [...state.formerAiks, state.aik],
    // Not the maximum here: this is the way back for a chain that was dated into the future.
    time: entry.header.issuedAt,
    announced: undefined,
    reGenesis: { seq: entry.seq, caseId: said.caseId, policyHash: body.policyHash },
    attestedDevice: said.deviceHash,
  };
}
