// SPDX-License-Identifier: Apache-2.0
/** One tenant's people, keys and statements, as pure values: the twin of tests/cast/statements.py. */
import { type Bytes, EMPTY, utf8 } from "../../src/core/base/bytes.js";
import { sha256 } from "../../src/core/crypto/hashing.js";
import { AgreementKey, KeyKind, type PublicKey, SigningKey } from "../../src/core/crypto/keys.js";
import { SealingKey } from "../../src/core/crypto/sealing.js";
import { Suite } from "../../src/core/crypto/suites.js";
import { type ChainState, verifyChain } from "../../src/core/identity/chain.js";
import { addDevice, type Author, genesis } from "../../src/core/identity/chain_author.js";
import type { Entry } from "../../src/core/identity/entries.js";
import {
  ApproveWith, DepositRule, type Officer, type Policy, policyToPayload, type SignedPolicy, type Terms, verifyFounding,
} from "../../src/core/identity/policy.js";
import { type Purpose, sign, type Sign1 } from "../../src/core/signed/cose.js";
import type { Header } from "../../src/core/signed/payloads.js";
import {
  type DeviceStatement, type TenantKey, tenantKeyFromPayload, tenantKeyToPayload,
} from "../../src/core/signed/statements.js";
import { type Json, octets, vectors } from "../vectors.js";

export const NOW = 1_800_000_000;
export const DAY = 86_400;

/** The 16-byte id of one of the cast. */
export const idOf = (name: string): Bytes => sha256(utf8(name)).slice(0, 16);
/** A 32-byte hash of something that the test at hand does not need to exist. */
export const hashOf = (name: string): Bytes => sha256(utf8(name));

export const [ACME, ALICE, LAPTOP, PHONE] = ["acme", "alice", "alice's laptop", "alice's phone"].map(idOf) as [Bytes, Bytes, Bytes, Bytes];
export const [MALLORY_TENANT, MALLORY] = [idOf("mallory's tenant"), idOf("mallory")];
export const [CAROL, DAN, ERIN, RITA] = ["carol", "dan", "erin", "rita"].map(idOf) as [Bytes, Bytes, Bytes, Bytes];

export const TENANT: Header = { tenant: ACME, user: EMPTY, device: EMPTY, issuedAt: NOW, expiresAt: 0 };
export const USER: Header = { ...TENANT, user: ALICE };
export const DEVICE: Header = { ...USER, device: LAPTOP };

export const ROOT = await SigningKey.generate(KeyKind.P256_SIGNING);
export const AIK = await SigningKey.generate();
export const ISK = await SigningKey.generate();
// Out of a vector: to make one takes a second, and nobody here needs its private half.
const published = vectors("statements").statements.find((one: Json) => one.name === "escrow key");
export const RSA: PublicKey = tenantKeyFromPayload(octets(published.payload), "escrow-key").key;
export const SEALING = await SealingKey.generate();
export const OFFICER_KEYS = [
  await SigningKey.generate(),
  await SigningKey.generate(KeyKind.P256_SIGNING),
  await SigningKey.generate(),
] as const;
export const OFFICERS = (await Promise.all(
  [CAROL, DAN, ERIN].map(async (person, at): Promise<Officer> => ({
    index: at + 1,
    person,
    signingKey: (OFFICER_KEYS[at] as SigningKey).public,
    sealingKey: (await SealingKey.generate()).public,
  })),
)) as [Officer, Officer, Officer];
export const TERMS: Terms = {
  delaySeconds: 3 * DAY,
  maxNoticeDelaySeconds: 30 * DAY,
  coolingOffSeconds: DAY,
  undeliveredDelaySeconds: 14 * DAY,
  approveWith: ApproveWith.CLI,
  purposes: ["device-loss", "leaver", "legal"],
  deposits: DepositRule.FROM_CONSENT,
  releaseSigningKey: (await SigningKey.generate()).public,
  releaseSealingKey: (await SealingKey.generate()).public,
  consentBindsSeconds: 0,
  text: "",
};
export const POLICY: Policy = {
  header: TENANT,
  version: 1,
  m: 2,
  roster: OFFICERS,
  terms: TERMS,
  predecessor: EMPTY,
  heldInForce: EMPTY,
  givenUp: undefined,
};

/** One payload, signed by each key. */
export function signedBy(keys: readonly SigningKey[], payload: Bytes, purpose: Purpose): Promise<Sign1[]> {
  return Promise.all(keys.map((key) => sign(payload, purpose, key)));
}

export const FOUNDING = await signedBy(OFFICER_KEYS, policyToPayload(POLICY), "policy");
export const SIGNED_POLICY = await verifyFounding(FOUNDING, ACME);

/** The version after `before`, naming it. */
export function nextPolicy(changes: Partial<Policy> = {}, before: SignedPolicy = SIGNED_POLICY): Policy {
  const follows = { version: before.policy.version + 1, predecessor: before.hash, heldInForce: before.hash };
  return { ...before.policy, ...follows, givenUp: undefined, ...changes };
}

/** An escrow-key statement. */
export function escrowKey(changes: Partial<TenantKey> = {}): TenantKey {
  const made: TenantKey = {
    purpose: "escrow-key",
    header: TENANT,
    key: RSA,
    version: 1,
    algorithm: "oaep-sha256",
    predecessor: EMPTY,
    policyHash: SIGNED_POLICY.hash,
  };
  return { ...made, ...changes };
}

/** A tenant key's statement, signed by each key. */
export function signedKey(key: TenantKey, ...keys: SigningKey[]): Promise<Sign1[]> {
  return signedBy(keys, tenantKeyToPayload(key), key.purpose);
}

/** A device's statement, under ISK. */
export async function deviceStatement(changes: Partial<DeviceStatement> = {}): Promise<DeviceStatement> {
  return {
    header: DEVICE,
    suite: Suite.HYBRID,
    signingKey: ISK.public,
    agreementKey: (await AgreementKey.generate()).public,
    sealingKey: SEALING.public,
    person: ALICE,
    name: "laptop",
    enrolmentHash: hashOf("code"),
    ...changes,
  };
}

export const BY: Author = { device: LAPTOP, issuedAt: NOW, key: AIK };

/** Alice's chain with the laptop in it. */
export async function begin(recoveryKey?: PublicKey): Promise<{ entries: Entry[]; state: ChainState }> {
  const of = { tenant: ACME, user: ALICE };
  const first = await genesis({ ...of, by: BY, ...(recoveryKey && { recoveryKey }) });
  const begun = await verifyChain([first], of);
  const second = await addDevice(begun, { by: BY, device: LAPTOP, statementHash: hashOf("laptop") });
  const entries = [first, second];
  return { entries, state: await verifyChain(entries, of) };
}
