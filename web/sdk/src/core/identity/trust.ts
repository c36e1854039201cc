// SPDX-License-Identifier: Apache-2.0
/**
 * From the pin to the key: the one path by which a client comes to trust a tenant's officers and escrow key.
 *
 * docs/spec/escrow.md "Keys" and "Policy and officers". Does not keep the pin or the highest versions seen; the caller
 * does, and hands them in.
 */
import { type Bytes, equal, hex } from "../base/bytes.js";
import { label } from "../base/encoding.js";
import { Forked, Malformed, OutOfBounds, QuorumNotMet, Untrusted } from "../base/errors.js";
import { eightWords } from "../base/words.js";
import { sha256 } from "../crypto/hashing.js";
import type { PublicKey } from "../crypto/public_keys.js";
import type { Sign1 } from "../signed/cose.js";
import type { Header } from "../signed/payloads.js";
import { type TenantKey, tenantKeyFromPayload } from "../signed/statements.js";
import { Act, resolutionFromPayload, type Resolution, verifyResolution, type WithdrawVersion } from "./acts.js";
import {
  historyOf, officersWhoSigned, policyFromPayload, type SignedPolicy, verifyFounding, verifySuccessor,
} from "./policy.js";

/** An alarm 30 days before policy or key run out: docs/spec/escrow.md "Officers change". */
export const NOTICE_SECONDS = 30 * 86_400;
/** And 30 days of grace after, in which officers sign the next one; until then the old one is better than none. */
export const GRACE_SECONDS = 30 * 86_400;

/** Return the 32 bytes that every client pins: tenant, root key, founding policy. */
export function rootPin(tenant: Bytes, rootKey: PublicKey, foundingPolicyHash: Bytes): Bytes {
  // Root and founders together: with the root alone pinned, its holder could found another set of officers. The policy's
  // hash holds the founders' keys, so nothing else has to be pinned.
  return sha256(label("root", tenant, rootKey.encoded, foundingPolicyHash));
}

/** Return the 8 BIP-39 words of a pin (32 bytes), for people to compare. */
export function pinWords(pin: Bytes): string[] {
  return eightWords(pin);
}

/**
 * Return the 8 BIP-39 words by which others hear that a person means the same policy version, with their own keys.
 *
 * policyHash: 32 bytes, of the version that names them; the hash holds every row with its keys. person: 16 bytes.
 */
export function founderWords(tenant: Bytes, rootKey: PublicKey, policyHash: Bytes, person: Bytes): string[] {
  // The person is in it: each reads out other words, so nobody can repeat what another has read.
  return eightWords(sha256(label("founder", tenant, rootKey.encoded, policyHash, person)));
}

/**
 * A policy or a key that runs out soon or has. at: UTC seconds; isOver: so is its grace: nothing is sealed to it.
 *
 * What was sealed before stays, and is released as ever.
 */
export interface Ending {
  readonly what: string;
  readonly at: number;
  readonly hasEnded: boolean;
  readonly isOver: boolean;
}

/**
 * Return the end of a statement that is 30 days away or less, or past; undefined for one that is further, or has none.
 *
 * what: how people call it. now: UTC seconds.
 */
export function findEnding(what: string, header: Header, now: number): Ending | undefined {
  const at = header.expiresAt;
  if (at === 0 || now <= at - NOTICE_SECONDS) return undefined;
  return { what, at, hasEnded: now > at, isOver: now > at + GRACE_SECONDS };
}

/** A tenant reached from its pin: root key and every policy version, oldest first. Made by `verifyTenant` only. */
export class TrustedTenant {
  constructor(
    readonly tenant: Bytes,
    readonly rootKey: PublicKey,
    readonly policies: readonly SignedPolicy[],
    /** Whether the pin marks a tenant for development, which alone may use oaep-sha1. */
    readonly isDevelopment: boolean,
    /** Hashes, in hex, of the versions that officers withdrew, and of those that fall with them. */
    readonly withdrawn: ReadonlySet<string> = new Set(),
  ) {}

  /** The newest policy that stands. Whether its cooling-off is over is the caller's question: no clock here. */
  get newest(): SignedPolicy {
    return this.standing.at(-1) as SignedPolicy;
  }

  /** Every version that was not withdrawn, oldest first. */
  get standing(): SignedPolicy[] {
    return this.policies.filter((signed) => !this.withdrawn.has(hex(signed.hash)));
  }

  /** Return the version in force at a time (UTC seconds), as the statements date themselves. */
  inForce(at: number): SignedPolicy {
    const { standing } = this;
    return historyOf(standing, standing.map((signed) => signed.policy.header.issuedAt)).inForce(at);
  }

  /** Return the version with this hash. Throws Untrusted if there is none. */
  policyNamed(policyHash: Bytes): SignedPolicy {
    const found = this.policies.find((signed) => equal(signed.hash, policyHash));
    if (found === undefined) throw new Untrusted("names a policy that the pin does not lead to");
    return found;
  }
}

/** An escrow or offline key whose signatures have been checked, and the hash that others name it by. */
export interface SignedTenantKey {
  readonly statement: TenantKey;
  readonly hash: Bytes;
}

/** What a tenant's history is held to. */
export interface TenantExpected {
  readonly tenant: Bytes;
  readonly rootKey: PublicKey;
  /** 32 bytes. */
  readonly pin: Bytes;
  readonly isDevelopment?: boolean;
  /** The highest version this verifier has known. */
  readonly seen?: SignedPolicy | undefined;
  /** How many of the first versions were made before field 12 was, and need none. */
  readonly early?: number;
  /**
   * The signatures of each resolution that withdraws a version, held here to the policy that it names; whether it came in
   * time is the caller's question.
   */
  readonly withdrawals?: readonly (readonly Sign1[])[];
  /** Hashes of versions of which the caller knows that they were withdrawn. */
  readonly withdrawn?: readonly Bytes[];
}

/**
 * Follow all policy versions from the founding one to the newest, and hold the first to the pin.
 *
 * history: every version's signatures, oldest first. Rejects with Untrusted if the pin is another or the history ends
 * below `seen`, Forked if it passes `seen` by, and as `verifyFounding`, `verifySuccessor` and `verifyResolution` do.
 */
export async function verifyTenant(history: readonly (readonly Sign1[])[], of: TenantExpected): Promise<TrustedTenant> {
  const { tenant, rootKey, pin, seen, early = 0, withdrawals = [] } = of, [founding, ...later] = history;
  if (founding === undefined) throw new Untrusted("no policy: nothing leads from the pin to an officer");
  // From the first version on, each time: an officer is trusted because a row of signatures leads there, never because a
  // server says who is in office.
  const first = await verifyFounding(founding, tenant);
  // Only version 1 is held to the pin. All later ones follow from it by signatures, so the pin never has to change.
  if (!equal(rootPin(tenant, rootKey, first.hash), pin))
    throw new Untrusted("tenant root and founders are not the pinned ones");
  const policies = [first];
  // By its own word here; below each is held to its signatures, or nothing of all this is believed.
  const withdrawn = [...(of.withdrawn ?? []), ...withdrawals.map((statements) => withdrawalOf(statements).hash)];
  const fallen = new Set(withdrawn.map(hex));
  for (const statements of later) {
    const predecessor = versionBefore(statements, policies, fallen), isEarly = policies.length < early;
    const signed = await verifySuccessor(statements, { predecessor, history: policies, isEarly });
    // What rests on a withdrawn version falls with it.
    if (fallen.has(hex(predecessor.hash))) fallen.add(hex(signed.hash));
    policies.push(signed);
  }
  for (const statements of withdrawals) await requirePassed(statements, policies);
  if (seen !== undefined) {
    const held = policies[seen.policy.version - 1];
    // Hiding the newest versions would bring back officers who have left.
    if (held === undefined) throw new Untrusted("policy history is older than the one seen before");
    // Compared in its own place: two histories that both lead from the pin mean that m officers signed twice.
    if (!equal(held.hash, seen.hash)) throw new Forked("two histories lead from the pin to one policy version");
  }
  return new TrustedTenant(tenant, rootKey, policies, of.isDevelopment ?? false, fallen);
}

/**
 * Return the version that the next one has to follow: the last, or an earlier one if all between were withdrawn.
 *
 * policies: every version so far, at least the founding one. fallen: hashes in hex. Throws Malformed.
 */
export function versionBefore(
  statements: readonly Sign1[],
  policies: readonly SignedPolicy[],
  fallen: ReadonlySet<string>,
): SignedPolicy {
  const last = policies.at(-1) as SignedPolicy, [first] = statements;
  if (!fallen.has(hex(last.hash))) return last;
  const named = first && policyFromPayload(first.payload).predecessor;
  // The founding version ends the search: it was in force before anybody could have withdrawn it.
  return policies.findLast((signed) => {
    const isNamed = named !== undefined && equal(signed.hash, named);
    return isNamed || !fallen.has(hex(signed.hash)) || signed.policy.version === 1;
  }) as SignedPolicy;
}

function withdrawalOf(statements: readonly Sign1[]): Resolution & WithdrawVersion {
  const resolution = statements[0] && resolutionFromPayload(statements[0].payload);
  if (resolution?.act !== Act.WITHDRAW_VERSION) throw new Malformed("resolution: withdraws no policy version");
  return resolution;
}

async function requirePassed(statements: readonly Sign1[], policies: readonly SignedPolicy[]): Promise<void> {
  const said = withdrawalOf(statements);
  const passedUnder = policies.find((signed) => equal(signed.hash, said.policyHash));
  const isKnown = policies.some((one) => one.policy.version === said.version && equal(one.hash, said.hash));
  if (passedUnder === undefined || !isKnown)
    throw new Untrusted("a resolution names a policy that the pin does not lead to");
  // Its age was judged by whoever took it; here it is long past.
  await verifyResolution(statements, passedUnder, { at: said.header.issuedAt });
}

/** What a history of keys is held to. seen: the highest version this verifier has known. */
export interface KeysExpected {
  readonly trusted: TrustedTenant;
  readonly seen?: SignedTenantKey | undefined;
}

/**
 * Check every version of the escrow key, oldest first, by one path for the first key and each rotation.
 *
 * Each is signed by the tenant root and by m officers of the policy it names, and names its predecessor. Rejects with
 * Malformed, InvalidSignature, QuorumNotMet; Untrusted or Forked as `verifyTenant` does; OutOfBounds for oaep-sha1 in a
 * tenant that the pin does not mark `development`.
 */
export async function verifyEscrowKeys(
  history: readonly (readonly Sign1[])[],
  of: KeysExpected,
): Promise<SignedTenantKey[]> {
  // Every key of the history is checked, not the newest alone: each rests on the one before, back to the first.
  const keys = await verifyKeys("escrow-key", history, of);
  // Any and not the newest: deposits under an older key stay releasable. What the client was told when it enrolled
  // decides, since a server could use a flag of its own only to loosen this.
  if (!of.trusted.isDevelopment && keys.some((key) => key.statement.algorithm.startsWith("oaep-sha1")))
    throw new OutOfBounds("escrow key uses oaep-sha1, which only a development tenant may");
  return keys;
}

/** Check every version of the offline key as `verifyEscrowKeys` does the escrow key's. */
export function verifyOfflineKeys(
  history: readonly (readonly Sign1[])[],
  of: KeysExpected,
): Promise<SignedTenantKey[]> {
  return verifyKeys("offline-key", history, of);
}

async function verifyKeys(
  purpose: TenantKey["purpose"],
  history: readonly (readonly Sign1[])[],
  { trusted, seen }: KeysExpected,
): Promise<SignedTenantKey[]> {
  const keys: SignedTenantKey[] = [];
  for (const statements of history) keys.push(await verifyKey(purpose, statements, trusted, keys.at(-1)));
  if (seen !== undefined) {
    const held = keys[seen.statement.version - 1];
    if (held === undefined) throw new Untrusted("key history is older than the one seen before");
    if (!equal(held.hash, seen.hash)) throw new Forked("two keys claim one version");
  }
  return keys;
}

async function verifyKey(
  purpose: TenantKey["purpose"],
  statements: readonly Sign1[],
  trusted: TrustedTenant,
  predecessor: SignedTenantKey | undefined,
): Promise<SignedTenantKey> {
  const [first, ...others] = statements;
  if (first === undefined || !others.every((one) => equal(one.payload, first.payload)))
    throw new Malformed("tenant key: no signature, or of differing payloads");
  const key = tenantKeyFromPayload(first.payload, purpose);
  if (!equal(key.header.tenant, trusted.tenant)) throw new Untrusted("key of another tenant");
  // No gaps: `seen` finds a key by its number in the list.
  if (key.version !== (predecessor?.statement.version ?? 0) + 1) throw new Untrusted("key is not the next version");
  // The policy that it names and not the newest: a key stays valid when the roster changes after it.
  const { policy } = trusted.policyNamed(key.policyHash);
  // Officers who have left could otherwise be made to sign a rotation under their old roster.
  if (predecessor && policy.version < trusted.policyNamed(predecessor.statement.policyHash).policy.version)
    throw new Untrusted("key names an older policy than its predecessor");
  // Root and officers both. The root alone, in one pair of hands, could give everybody a key of its own; the officers
  // alone could as well, without the ceremony that keeps its private half in the HSM.
  const isByRoot = (one: Sign1): boolean => equal(one.kid, trusted.rootKey.kid);
  const byRoot = statements.find(isByRoot);
  if (byRoot === undefined) throw new QuorumNotMet("the tenant root has not signed");
  await byRoot.verify(trusted.rootKey, purpose);
  // The rest must all be officers: the root's own signature never counts as one of them.
  const rest = statements.filter((one) => !isByRoot(one));
  if ((await officersWhoSigned(rest, [policy], purpose)).length < policy.m)
    throw new QuorumNotMet("too few officers have signed");
  // Only now: a key that nobody entitled has signed is no evidence of a fork.
  if (predecessor && !equal(key.predecessor, predecessor.hash))
    throw new Forked("key follows another version than the one known");
  return { statement: key, hash: first.payloadHash };
}
