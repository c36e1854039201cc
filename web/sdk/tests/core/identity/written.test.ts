// SPDX-License-Identifier: Apache-2.0
/** A chain written entry by entry says what was written, and what is given back of one is a run of it. */
import { describe, expect, test } from "vitest";
import { hex } from "../../../src/core/base/bytes.js";
import { Forked, Malformed, Untrusted } from "../../../src/core/base/errors.js";
import { KeyKind, SigningKey } from "../../../src/core/crypto/keys.js";
import { type Attestation, attestationToPayload } from "../../../src/core/identity/cases.js";
import * as author from "../../../src/core/identity/chain_author.js";
import { type ChainState, extend, headOf, seqOf, verifyChain } from "../../../src/core/identity/chain.js";
import { Entry, Reason } from "../../../src/core/identity/entries.js";
import { added, requireOnOwnWord, requireRun, verifyProven } from "../../../src/core/identity/given_back.js";
import { keysVerifier } from "../../../src/core/log/key_log.js";
import { sign } from "../../../src/core/signed/cose.js";
import {
  ACME, ALICE, begin, BY, DAY, hashOf, idOf, LAPTOP, NOW, OFFICER_KEYS, PHONE, SIGNED_POLICY, TERMS, USER,
} from "../../cast/statements.js";
import { octets, refusedAs, vectors } from "../../vectors.js";

const RECOVERY = await SigningKey.generate(), NEW = await SigningKey.generate(KeyKind.P256_SIGNING);
const FINAL = await SigningKey.generate();
const POLICIES = { policies: [SIGNED_POLICY] };
const WHOSE = { tenant: ACME, user: ALICE, ...POLICIES };
// As soon as two officers' words of NOW allow.
const AGAIN = NOW + TERMS.delaySeconds;

async function beginAgain(state: ChainState, at = AGAIN): Promise<Entry> {
  const said: Attestation = {
    header: USER,
    oldHead: headOf(state),
    newAik: FINAL.public,
    caseId: idOf("case"),
    deviceHash: hashOf("new phone"),
  };
  const payload = attestationToPayload(said);
  const attestations = await Promise.all(OFFICER_KEYS.slice(0, 2).map((key) => sign(payload, "attestation", key)));
  const by = { device: PHONE, issuedAt: at, key: FINAL };
  return author.reGenesis(state, { by, attestations, policyHash: SIGNED_POLICY.hash });
}

/** Every type of entry once, as a life would have them. */
async function life(): Promise<{ entries: Entry[]; state: ChainState }> {
  const { entries, state: begun } = await begin(RECOVERY.public);
  let state = begun;
  const append = async (...more: Entry[]): Promise<void> => {
    state = await extend(state, more, POLICIES);
    entries.push(...more);
  };
  await append(await author.addDevice(state, { by: BY, device: PHONE, statementHash: hashOf("phone") }));
  await append(await author.archiveGeneration(state, { by: BY, generation: 1, notBefore: NOW, commitment: hashOf("ak") }));
  await append(await author.shareManifest(state, { by: BY, manifestHash: hashOf("manifest") }));
  await append(await author.setRecoveryKey(state, { by: BY, recoveryKey: NEW.public, old: RECOVERY }));
  const aik = await SigningKey.generate(), lost = { device: LAPTOP, reason: Reason.DEVICE_LOST, since: NOW - 60 };
  await append(...(await author.revokeDevice(state, { by: BY, ...lost, newAik: aik })));
  const next = await SigningKey.generate(), by = { device: PHONE, issuedAt: NOW, key: aik };
  await append(await author.rotateKey(state, { by, newAik: next, reason: Reason.SCHEDULE }));
  await append(await beginAgain(state));
  const again = { device: PHONE, issuedAt: AGAIN, key: FINAL };
  await append(await author.addDevice(state, { by: again, device: idOf("new phone"), statementHash: hashOf("new phone") }));
  return { entries, state };
}

const { entries: LIFE, state: STATE } = await life();

test("a chain of every type is verified from its bytes and says what it says", async () => {
  const again = await verifyChain(LIFE.map((entry) => Entry.parse(entry.encode())), WHOSE);
  expect(LIFE.map((entry) => entry.body.type)).toEqual([1, 2, 2, 6, 7, 5, 3, 4, 4, 8, 2]);
  expect([seqOf(again), hex(headOf(again))]).toEqual([10, hex((LIFE.at(-1) as Entry).hash)]);
  expect([...again.devices]).toEqual([[hex(idOf("new phone")), hashOf("new phone")]]);
  expect([LAPTOP, PHONE].every((id) => again.revoked.has(hex(id)))).toBe(true);
  expect(again.generations.map((one) => one.generation)).toEqual([1]);
  expect(again.reGenesis?.caseId).toEqual(idOf("case"));
  expect(again.formerAiks).toHaveLength(3);
  expect(headOf(again)).toEqual(headOf(STATE));
});

test.each(LIFE.map((_, at) => at))("entry %i goes to bytes and back", (at) => {
  const written = (LIFE[at] as Entry).encode();
  expect(hex(Entry.parse(written).encode())).toBe(hex(written));
});

test("several devices are revoked in one upload, of which no part stands alone", async () => {
  const { state } = await begin();
  const both = await extend(state, [await author.addDevice(state, { by: BY, device: PHONE, statementHash: hashOf("x") })]);
  const devices = [LAPTOP, PHONE].map((device) => ({ device, reason: Reason.DEVICE_RETIRED, since: NOW }));
  const made = await author.revokeDevices(both, { by: BY, devices, reason: Reason.SCHEDULE, newAik: NEW });
  expect(made.map((entry) => entry.body.type)).toEqual([3, 3, 4]);
  const done = await extend(both, made);
  expect([done.devices.size, done.aik.equals(NEW.public)]).toEqual([0, true]);
  for (const count of [1, 2]) await refusedAs(Untrusted, () => extend(both, made.slice(0, count)), "rotation");
});

test("a recovery key that the identity key alone names waits for a week", async () => {
  const { state } = await begin(RECOVERY.public);
  const named = (at: number, of: ChainState): Promise<Entry> =>
    author.setRecoveryKey(of, { by: { ...BY, issuedAt: at }, recoveryKey: NEW.public });
  const announced = await extend(state, [await named(NOW, state)]);
  expect(announced.recoveryKey?.equals(RECOVERY.public)).toBe(true);
  const [early, due] = [await named(NOW + 6 * DAY, announced), await named(NOW + 7 * DAY, announced)];
  await refusedAs(Untrusted, () => extend(announced, [early]), "seven days");
  expect((await extend(announced, [due])).recoveryKey?.equals(NEW.public)).toBe(true);
});

test("an entry by a key that was rotated away is a fork", async () => {
  const { state } = await begin();
  const rotated = await extend(state, [await author.rotateKey(state, { by: BY, newAik: NEW, reason: Reason.SCHEDULE })]);
  const stale = await author.addDevice(rotated, { by: BY, device: PHONE, statementHash: hashOf("phone") });
  await refusedAs(Forked, () => extend(rotated, [stale]));
});

describe("what is given back", () => {
  test("is a run of entries, each naming the one before it", async () => {
    requireRun(LIFE);
    requireRun(LIFE.slice(3, 4));
    for (const wrong of [[], [...LIFE.slice(0, 2), ...LIFE.slice(3)], [...LIFE].reverse(), [LIFE[1], LIFE[1]]])
      await refusedAs(Malformed, () => requireRun(wrong as Entry[]));
  });

  test("names the devices that it adds", () => {
    expect([...added(LIFE)].map(([id]) => id)).toEqual([LAPTOP, PHONE, idOf("new phone")].map(hex));
  });

  test("goes on an owner's own word but for a new beginning", async () => {
    requireOnOwnWord(LIFE.slice(0, 9));
    await refusedAs(Untrusted, () => requireOnOwnWord(LIFE), "began anew");
  });

  test("is proven by the log's leaf for its last entry, and by none for another", async () => {
    const { logs, tenant, user } = vectors("log"), [log] = logs, one = log.inclusion[0];
    const proof = {
      index: one.index,
      leaf: octets(log.leaves[one.index].leaf),
      hashes: one.proof.map(octets),
      checkpoint: log.checkpoints[one.size - 1],
    };
    const verifier = keysVerifier([log.verifier_key], octets(tenant));
    if (verifier === undefined) throw new Error("not pinned");
    const of = { verifier, tenant: octets(tenant), user: octets(user) };
    // The published leaf is of no chain here: the entry of its number is another one, and that is a fork.
    await refusedAs(Untrusted, () => verifyProven(LIFE, proof, of));
    await refusedAs(Malformed, () => verifyProven([], proof, of));
  });
});
