// SPDX-License-Identifier: Apache-2.0
/** A client reaches officers and escrow keys from its pin, by one path, and by no other. */
import { describe, expect, test } from "vitest";
import { EMPTY, hex } from "../../../src/core/base/bytes.js";
import { label } from "../../../src/core/base/encoding.js";
import {
  Forked, type HoldfastError, InvalidSignature, Malformed, OutOfBounds, QuorumNotMet, Untrusted,
} from "../../../src/core/base/errors.js";
import { sha256 } from "../../../src/core/crypto/hashing.js";
import { KeyKind, PublicKey, SigningKey } from "../../../src/core/crypto/keys.js";
import { Act, type Resolution, type ResolutionAbout, resolutionToPayload } from "../../../src/core/identity/acts.js";
import {
  policyToPayload, type SignedPolicy, verifySuccessor,
} from "../../../src/core/identity/policy.js";
import {
  findEnding, founderWords, GRACE_SECONDS, type KeysExpected, NOTICE_SECONDS, pinWords, rootPin, type TenantExpected,
  type TrustedTenant, verifyEscrowKeys, verifyOfflineKeys, verifyTenant,
} from "../../../src/core/identity/trust.js";
import { Sign1 } from "../../../src/core/signed/cose.js";
import { type TenantKey, tenantKeyToPayload } from "../../../src/core/signed/statements.js";
import {
  ACME, CAROL, DAN, DAY, escrowKey, FOUNDING, hashOf, idOf, MALLORY_TENANT, nextPolicy, NOW, OFFICER_KEYS, OFFICERS,
  POLICY, RITA, ROOT, RSA, SEALING, SIGNED_POLICY, signedBy, signedKey, TENANT,
} from "../../cast/statements.js";
import { refused, refusedAs } from "../../vectors.js";

type Statements = readonly Sign1[];
const PIN = rootPin(ACME, ROOT.public, SIGNED_POLICY.hash);
const FIRST_TWO = OFFICER_KEYS.slice(0, 2);
// In version 2 erin's place is rita's.
const RITA_KEY = await SigningKey.generate();
const SECOND = nextPolicy({
  roster: [OFFICERS[0], OFFICERS[1], { ...OFFICERS[2], person: RITA, signingKey: RITA_KEY.public }],
});
const SECOND_SIGNED = await signedBy(FIRST_TWO, policyToPayload(SECOND), "policy");
const SECOND_POLICY = await verifySuccessor(SECOND_SIGNED, { predecessor: SIGNED_POLICY });
// Another modulus of the same size: nothing here opens what is sealed to it.
const modulus = RSA.raw.slice();
modulus[100] = (modulus[100] as number) ^ 1;
const NEXT_RSA = new PublicKey(KeyKind.RSA_3072, modulus);

function acme(
  history: readonly Statements[] = [FOUNDING, SECOND_SIGNED],
  changes: Partial<TenantExpected> = {},
): Promise<TrustedTenant> {
  return verifyTenant(history, { tenant: ACME, rootKey: ROOT.public, pin: PIN, ...changes });
}

const FIRST = await signedKey(escrowKey(), ROOT, ...FIRST_TWO);
const hashOfFirst = (FIRST[0] as Sign1).payloadHash;

function rotated(changes: Partial<TenantKey> = {}): TenantKey {
  const next = { version: 2, key: NEXT_RSA, predecessor: hashOfFirst, policyHash: SECOND_POLICY.hash };
  return escrowKey({ ...next, ...changes });
}

const ROTATED = await signedKey(rotated(), ROOT, OFFICER_KEYS[0], RITA_KEY);

/** Refuse at enrolment, by the path that rotation takes as well. */
function refusedKey(
  statements: Statements,
  error: typeof HoldfastError,
  of: Partial<KeysExpected> = {},
): Promise<Error> {
  return refusedAs(error, async () => verifyEscrowKeys([statements], { trusted: await acme(), ...of }));
}

describe("a tenant", () => {
  test("pin is the hash that the page gives, and eight words", async () => {
    expect(hex(PIN)).toBe(hex(sha256(label("root", ACME, ROOT.public.encoded, SIGNED_POLICY.hash))));
    const others = [
      rootPin(MALLORY_TENANT, ROOT.public, SIGNED_POLICY.hash),
      rootPin(ACME, RITA_KEY.public, SIGNED_POLICY.hash),
      rootPin(ACME, ROOT.public, SECOND_POLICY.hash),
    ];
    expect(new Set([PIN, ...others].map(hex)).size).toBe(4);
    expect(new Set([PIN, ...others].map((pin) => pinWords(pin).join(" "))).size).toBe(4);
    expect(pinWords(PIN)).toHaveLength(8);
  });

  test("is followed from the pin to the newest policy", async () => {
    const trusted = await acme();
    expect(trusted.policies.map((signed) => signed.policy.version)).toEqual([1, 2]);
    expect(trusted.newest).toEqual(SECOND_POLICY);
    expect(trusted.policyNamed(SIGNED_POLICY.hash)).toEqual(SIGNED_POLICY);
    await refusedAs(Untrusted, () => trusted.policyNamed(hashOf("unknown")));
  });

  test.each<[string, Partial<TenantExpected>]>([
    ["pin", { pin: new Uint8Array(32) }],
    ["empty pin", { pin: EMPTY }],
    ["root", { rootKey: RITA_KEY.public }],
    ["tenant", { tenant: MALLORY_TENANT }],
  ])("refuses another %s", async (_, changes) => {
    await refusedAs(Untrusted, () => acme(undefined, changes));
  });

  test("refuses mallory's own founders under the right root", async () => {
    const keys = await Promise.all(OFFICERS.map(() => SigningKey.generate()));
    const roster = OFFICERS.map((row, at) => ({ ...row, signingKey: (keys[at] as SigningKey).public }));
    const coup = await signedBy(keys, policyToPayload({ ...POLICY, roster }), "policy");
    await refusedAs(Untrusted, () => acme([coup]), "not the pinned");
  });

  test("refuses no history, a reordered one and one with a gap", async () => {
    const third = await signedBy(FIRST_TWO, policyToPayload(nextPolicy({}, SECOND_POLICY)), "policy");
    expect((await acme([FOUNDING, SECOND_SIGNED, third])).newest.policy.version).toBe(3);
    const wrong = [[], [SECOND_SIGNED], [SECOND_SIGNED, FOUNDING], [FOUNDING, third], [FOUNDING, FOUNDING], [[]]];
    for (const history of wrong) await refused(() => acme(history));
  });

  test("refuses an old history after a newer one was seen", async () => {
    for (const seen of [SECOND_POLICY, SIGNED_POLICY])
      expect((await acme(undefined, { seen })).newest).toEqual(SECOND_POLICY);
    await refusedAs(Untrusted, () => acme([FOUNDING], { seen: SECOND_POLICY }), "older than the one seen");
  });

  test("calls two second versions a fork", async () => {
    const other = { ...SECOND, terms: { ...SECOND.terms, delaySeconds: 0 } };
    const signed = await signedBy(FIRST_TWO, policyToPayload(other), "policy");
    expect((await acme([FOUNDING, signed])).newest.policy.terms.delaySeconds).toBe(0);
    await refusedAs(Forked, () => acme([FOUNDING, signed], { seen: SECOND_POLICY }));
  });

  test("the version that waits is the newest and not the one in force", async () => {
    const trusted = await acme();
    // Erin has not signed that rita takes their place.
    for (const [seconds, version] of [[0, 1], [DAY - 1, 1], [DAY, 2]] as const)
      expect(trusted.inForce(NOW + seconds).policy.version).toBe(version);
    const without = await acme(undefined, { withdrawn: [SECOND_POLICY.hash] });
    expect(without.inForce(NOW + DAY)).toEqual(SIGNED_POLICY);
  });

  test("versions from before field 12 are followed as far as the verifier has known them", async () => {
    const early = await signedBy(FIRST_TWO, policyToPayload(nextPolicy({ heldInForce: EMPTY })), "policy");
    await refusedAs(Untrusted, () => acme([FOUNDING, early]), "in force");
    expect((await acme([FOUNDING, early], { early: 2 })).newest.policy.version).toBe(2);
  });
});

function withdrawal(
  of: SignedPolicy,
  under: SignedPolicy,
  keys: readonly SigningKey[],
  about: ResolutionAbout = { act: Act.WITHDRAW_VERSION, version: of.policy.version, hash: of.hash },
): Promise<Sign1[]> {
  const made: Resolution = { ...about, header: TENANT, policyHash: under.hash, nonce: idOf("nonce") };
  return signedBy(keys, resolutionToPayload(made), "resolution");
}

describe("a version that was withdrawn", async () => {
  const skipping = nextPolicy({ version: 3, heldInForce: SIGNED_POLICY.hash });
  const third = await signedBy(FIRST_TWO, policyToPayload(skipping), "policy");
  const history = [FOUNDING, SECOND_SIGNED, third];

  test("is skipped, and no other", async () => {
    await refusedAs(Untrusted, () => acme(history));
    const trusted = await acme(history, { withdrawals: [await withdrawal(SECOND_POLICY, SIGNED_POLICY, FIRST_TWO)] });
    expect(trusted.policies.map((signed) => signed.policy.version)).toEqual([1, 2, 3]);
    expect(trusted.newest.policy.version).toBe(3);
    expect([...trusted.withdrawn]).toEqual([hex(SECOND_POLICY.hash)]);
    // The caller's own knowledge, where it took the resolution itself.
    expect(await acme(history, { withdrawn: [SECOND_POLICY.hash] })).toEqual(trusted);
    expect((await acme(history.slice(0, 2), { withdrawn: [SECOND_POLICY.hash] })).newest).toEqual(SIGNED_POLICY);
  });

  const unknown = { ...SIGNED_POLICY, hash: hashOf("x") };
  const log: ResolutionAbout = { act: Act.ACCEPT_LOG, size: 1, hash: hashOf("root"), keyLog: undefined };
  test.each<[string, typeof HoldfastError, () => Promise<Sign1[]>]>([
    ["too few", QuorumNotMet, () => withdrawal(SECOND_POLICY, SIGNED_POLICY, [OFFICER_KEYS[0]])],
    ["an outsider", Untrusted, () => withdrawal(SECOND_POLICY, SIGNED_POLICY, [...FIRST_TWO, RITA_KEY])],
    ["under another policy", Untrusted, () => withdrawal(SECOND_POLICY, unknown, FIRST_TWO)],
    ["of another version", Untrusted, () => withdrawal({ ...SECOND_POLICY, hash: hashOf("x") }, SIGNED_POLICY, FIRST_TWO)],
    ["about a log", Malformed, () => withdrawal(SECOND_POLICY, SIGNED_POLICY, OFFICER_KEYS, log)],
  ])("is not by the word of: %s", async (_, error, make) => {
    const made = await make();
    await refusedAs(error, () => acme(history, { withdrawals: [made] }));
    if (error !== QuorumNotMet) await refusedAs(error, () => acme(history.slice(0, 2), { withdrawals: [made] }));
  });

  test("takes with it what follows it", async () => {
    const follower = nextPolicy({ heldInForce: SIGNED_POLICY.hash }, SECOND_POLICY);
    const signed = await signedBy(FIRST_TWO, policyToPayload(follower), "policy");
    const all = [FOUNDING, SECOND_SIGNED, signed];
    expect((await acme(all)).newest.policy.version).toBe(3);
    const trusted = await acme(all, { withdrawn: [SECOND_POLICY.hash] });
    expect([trusted.newest, trusted.withdrawn.size]).toEqual([SIGNED_POLICY, 2]);
  });
});

describe("an escrow key", async () => {
  const server = await Promise.all([1, 2, 3].map(() => SigningKey.generate()));
  const key = escrowKey({ key: NEXT_RSA });
  const carried = FIRST.map((one) => new Sign1(one.header, tenantKeyToPayload(key), one.signature));

  test("is followed from the first to the newest", async () => {
    const trusted = await acme();
    const [first, second] = await verifyEscrowKeys([FIRST, ROTATED], { trusted });
    expect(first?.statement.key.equals(RSA)).toBe(true);
    expect(second?.statement.key.equals(NEXT_RSA)).toBe(true);
    expect(second?.hash).toEqual(ROTATED[0]?.payloadHash);
    expect(await verifyEscrowKeys([], { trusted })).toEqual([]);
    const same = await signedKey(rotated({ policyHash: SIGNED_POLICY.hash }), ROOT, ...FIRST_TWO);
    expect((await verifyEscrowKeys([FIRST, same], { trusted })).at(-1)?.statement.key.equals(NEXT_RSA)).toBe(true);
  });

  test.each<[string, typeof HoldfastError, () => Promise<Statements> | Statements]>([
    ["the server's keys alone", QuorumNotMet, () => signedKey(key, ...server)],
    ["the root alone", QuorumNotMet, () => signedKey(key, ROOT)],
    ["root and one officer", QuorumNotMet, () => signedKey(key, ROOT, OFFICER_KEYS[0])],
    ["officers without the root", QuorumNotMet, () => signedKey(key, ...OFFICER_KEYS)],
    ["officers and another root", QuorumNotMet, () => signedKey(key, server[0] as SigningKey, ...OFFICER_KEYS)],
    ["the root and strangers", Untrusted, () => signedKey(key, ROOT, ...server)],
    ["root, officer and stranger", Untrusted, () => signedKey(key, ROOT, OFFICER_KEYS[0], server[0] as SigningKey)],
    ["nobody", Malformed, () => []],
    ["an officer twice", QuorumNotMet, () => signedKey(escrowKey(), ROOT, OFFICER_KEYS[0], OFFICER_KEYS[0])],
    ["signatures of another key", InvalidSignature, () => carried],
    ["officers of another key", InvalidSignature, async () => [...(await signedKey(key, ROOT)), ...carried.slice(1)]],
    ["the root of another key", InvalidSignature, async () => [carried[0] as Sign1, ...(await signedKey(key, ...FIRST_TWO))]],
    ["another purpose", InvalidSignature, () => signedBy([ROOT, ...FIRST_TWO], tenantKeyToPayload(key), "offline-key")],
    ["two payloads", Malformed, async () => [FIRST[0] as Sign1, ...(await signedKey(key, ...FIRST_TWO))]],
    ["another tenant", Untrusted, () => signedKey(escrowKey({ header: { ...TENANT, tenant: MALLORY_TENANT } }), ROOT, ...FIRST_TWO)],
    ["an unknown policy", Untrusted, () => signedKey(escrowKey({ policyHash: hashOf("x") }), ROOT, ...FIRST_TWO)],
    ["an officer of a later version", Untrusted, () => signedKey(escrowKey(), ROOT, OFFICER_KEYS[0], RITA_KEY)],
    ["SHA-1", OutOfBounds, () => signedKey(escrowKey({ algorithm: "oaep-sha1" }), ROOT, ...FIRST_TWO)],
    ["SHA-1 with a context", OutOfBounds, () => signedKey(escrowKey({ algorithm: "oaep-sha1-ctx" }), ROOT, ...FIRST_TWO)],
  ])("is refused: %s", async (_, error, make) => {
    await refusedKey(await make(), error);
  });

  test.each<[string, typeof HoldfastError, () => Promise<Statements> | Statements]>([
    ["without the root", QuorumNotMet, () => signedKey(rotated(), ...FIRST_TWO)],
    ["by too few", QuorumNotMet, () => signedKey(rotated(), ROOT, OFFICER_KEYS[0])],
    ["after another key", Forked, () => signedKey(rotated({ predecessor: hashOf("x") }), ROOT, ...FIRST_TWO)],
    ["that skips a number", Untrusted, () => signedKey(rotated({ version: 3 }), ROOT, ...FIRST_TWO)],
    ["by an officer who has left", Untrusted, () => signedKey(rotated(), ROOT, OFFICER_KEYS[0], OFFICER_KEYS[2])],
    ["to the first again", Untrusted, () => FIRST],
  ])("is not rotated %s", async (_, error, make) => {
    const made = await make();
    await refusedAs(error, async () => verifyEscrowKeys([FIRST, made], { trusted: await acme() }));
  });

  test("is not rotated under a policy older than its predecessor's", async () => {
    const first = await signedKey(escrowKey({ policyHash: SECOND_POLICY.hash }), ROOT, ...FIRST_TWO);
    const back = rotated({ predecessor: (first[0] as Sign1).payloadHash, policyHash: SIGNED_POLICY.hash });
    const made = await signedKey(back, ROOT, ...FIRST_TWO);
    await refusedAs(Untrusted, async () => verifyEscrowKeys([first, made], { trusted: await acme() }), "older policy");
  });

  test("is refused when it is older than, or beside, the one seen", async () => {
    const trusted = await acme(), newest = (await verifyEscrowKeys([FIRST, ROTATED], { trusted })).at(-1);
    expect((await verifyEscrowKeys([FIRST, ROTATED], { trusted, seen: newest })).at(-1)).toEqual(newest);
    for (const history of [[FIRST], []])
      await refusedAs(Untrusted, () => verifyEscrowKeys(history, { trusted, seen: newest }), "older");
    const other = await signedKey(rotated({ key: RSA }), ROOT, ...FIRST_TWO);
    await refusedAs(Forked, () => verifyEscrowKeys([FIRST, other], { trusted, seen: newest }));
  });

  test("may use SHA-1 where the pin marks the tenant for development", async () => {
    const trusted = await acme(undefined, { isDevelopment: true });
    for (const algorithm of ["oaep-sha1", "oaep-sha1-ctx", "oaep-sha256-ctx"]) {
      const made = await signedKey(escrowKey({ algorithm }), ROOT, ...FIRST_TWO);
      expect((await verifyEscrowKeys([made], { trusted }))[0]?.statement.algorithm).toBe(algorithm);
    }
  });

  test("that nobody entitled signed raises no cry of a fork", async () => {
    const stranger = server[0] as SigningKey;
    const made = await signedKey(rotated({ predecessor: hashOf("x") }), ROOT, stranger);
    const found = await refused(async () => verifyEscrowKeys([FIRST, made], { trusted: await acme() }));
    expect(found).toBeInstanceOf(Untrusted);
    expect(found).not.toBeInstanceOf(Forked);
    const policy = policyToPayload(nextPolicy({ predecessor: hashOf("x") }));
    const forged = await signedBy([stranger], policy, "policy");
    expect(await refused(() => acme([FOUNDING, forged]))).not.toBeInstanceOf(Forked);
  });
});

test("an offline key is held to the same path", async () => {
  const key = escrowKey({ purpose: "offline-key", key: SEALING.public, algorithm: "x-wing" });
  const statements = await signedKey(key, ROOT, ...FIRST_TWO), trusted = await acme();
  const [kept] = await verifyOfflineKeys([statements], { trusted });
  expect(kept?.hash).toEqual(statements[0]?.payloadHash);
  await refusedAs(QuorumNotMet, () => verifyOfflineKeys([statements.slice(0, 2)], { trusted }));
  await refusedAs(Malformed, () => verifyOfflineKeys([FIRST], { trusted }));
  const seen = kept && { ...kept, hash: hashOf("another") };
  await refusedAs(Forked, () => verifyOfflineKeys([statements], { trusted, seen }));
});

test("founders' words are of one person, one policy and one root", () => {
  const own = founderWords(ACME, ROOT.public, SIGNED_POLICY.hash, CAROL);
  const others = [
    founderWords(MALLORY_TENANT, ROOT.public, SIGNED_POLICY.hash, CAROL),
    founderWords(ACME, RITA_KEY.public, SIGNED_POLICY.hash, CAROL),
    founderWords(ACME, ROOT.public, hashOf("edited"), CAROL),
    founderWords(ACME, ROOT.public, SIGNED_POLICY.hash, DAN),
  ];
  expect(own).toHaveLength(8);
  expect(new Set([own, ...others].map((words) => words.join(" "))).size).toBe(5);
});

test("an end is told thirty days before and is over thirty days after", () => {
  const header = { ...TENANT, expiresAt: NOW };
  expect(findEnding("policy", TENANT, NOW)).toBeUndefined();
  expect(findEnding("policy", header, NOW - NOTICE_SECONDS)).toBeUndefined();
  const rows = [
    [1 - NOTICE_SECONDS, false, false],
    [0, false, false],
    [1, true, false],
    [GRACE_SECONDS, true, false],
    [GRACE_SECONDS + 1, true, true],
  ] as const;
  for (const [seconds, hasEnded, isOver] of rows)
    expect(findEnding("policy", header, NOW + seconds)).toEqual({ what: "policy", at: NOW, hasEnded, isOver });
});

