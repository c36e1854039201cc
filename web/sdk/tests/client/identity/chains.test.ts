// SPDX-License-Identifier: Apache-2.0
/** Chains as a server shows them: continued, never shortened, never rewritten without evidence. */
import { describe, expect, test } from "vitest";
import { type Bytes, hex, utf8 } from "../../../src/core/base/bytes.js";
import { uuidText } from "../../../src/core/base/uuids.js";
import { SigningKey } from "../../../src/core/crypto/keys.js";
import { extend, headOf, seqOf, verifyChain } from "../../../src/core/identity/chain.js";
import { archiveGeneration, genesis, shareManifest } from "../../../src/core/identity/chain_author.js";
import { Entry } from "../../../src/core/identity/entries.js";
import { Sign1 } from "../../../src/core/signed/cose.js";
import { MAX_AHEAD_SECONDS } from "../../../src/core/signed/payloads.js";
import { AnswerRefused, ClientError, RaceLost, TrustRefused } from "../../../src/client/errors.js";
import * as chains from "../../../src/client/identity/chains.js";
import { ForkSeen } from "../../../src/client/identity/chains.js";
import * as contacts from "../../../src/client/identity/contacts.js";
import { Contradiction, listEvidence } from "../../../src/client/identity/evidence.js";
import { LOGGED_BEFORE_SECONDS, LOGGED_WITHIN_SECONDS } from "../../../src/client/identity/key_log.js";
import * as tenant from "../../../src/client/identity/tenant.js";
import type { Account } from "../../../src/client/profile/account.js";
import { VerifiedChains } from "../../../src/client/profile/verified.js";
import { ALICE, begunAgain, BOB, grow, House, NOW, refused, renew, TENANT } from "../../cast/house.js";
import { founders, payloadHash } from "../../cast/tenant.js";
import { type Json, refusedAs } from "../../vectors.js";

const PATH = "users/[0-9a-f-]+/chain";

/** Alice with a chain of some length, and bob, who has not met her. */
async function grown(entries = 4): Promise<[House, Account, Account]> {
  const [world, alice, bob] = (await House.with(ALICE, BOB)) as [House, Account, Account];
  await grow(alice, entries);
  return [world, alice, bob];
}

/** An entry by alice's own key in a place that is taken: what a thief, or a clone of the device, would write. */
async function rival(alice: Account, at: number): Promise<Entry> {
  const before = alice.state.chain.slice(0, at).map((one) => Entry.parse(one));
  const state = await verifyChain(before, { tenant: TENANT, user: ALICE });
  const by = { device: alice.device.id, issuedAt: NOW, key: await alice.identityKey() };
  return shareManifest(state, { by, manifestHash: utf8("rival".padEnd(32, "-")) });
}

/** The same, and bob has met her. */
async function met(): Promise<[House, Account, Account]> {
  const [world, alice, bob] = await grown();
  await contacts.refresh(bob, ALICE);
  return [world, alice, bob];
}

const pinned = (account: Account): Bytes[] | undefined => account.state.contacts.get(hex(ALICE))?.entries;

describe("a chain that went back", () => {
  test.each([0, 1, 2, 3, 4])("to %i entries is refused from every pinned state", async (cut) => {
    const [world, , bob] = await grown();
    const whole = [...world.server.chainOf(ALICE)], id = uuidText(ALICE);
    for (let held = cut + 1; held <= whole.length; held++) {
      bob.state.contacts.clear();
      world.server.chains.set(id, whole.slice(0, held));
      await contacts.refresh(bob, ALICE);
      world.server.chains.set(id, whole.slice(0, cut));
      await refusedAs(ClientError, () => contacts.refresh(bob, ALICE));
      expect(pinned(bob)).toEqual(whole.slice(0, held));
    }
  });

  test.each([2, 3, 5])("and was written otherwise from entry %i is a fork with both sides kept", async (place) => {
    const [world, alice, bob] = await met();
    const theirs = (await rival(alice, place)).encode(), ours = alice.state.chain[place];
    world.server.chains.set(alice.userText, [...alice.state.chain.slice(0, place), theirs]);
    for (const [account, look] of [
      [bob, () => contacts.refresh(bob, ALICE)],
      [alice, () => chains.refresh(alice)],
    ] as const) {
      for (let times = 0; times < 2; times++) await refusedAs(ForkSeen, look);
      const kept = await listEvidence(account);
      expect(kept).toHaveLength(1);
      expect(kept[0]).toMatchObject({ what: Contradiction.CHAIN_FORK, user: ALICE, ours, theirs });
    }
  });

  test("and was signed by no key of the account is refused, and is no evidence", async () => {
    const [world, alice, bob] = await met();
    const by = { device: alice.device.id, issuedAt: NOW, key: await SigningKey.generate() };
    world.server.chains.set(alice.userText, [(await genesis({ tenant: TENANT, user: ALICE, by })).encode()]);
    expect(await refusedAs(TrustRefused, () => contacts.refresh(bob, ALICE))).not.toBeInstanceOf(ForkSeen);
    expect(await listEvidence(bob)).toEqual([]);
  });
});

describe("an entry on top of what is known", () => {
  test("that continues another history is a fork with both sides kept", async () => {
    const [world, alice, bob] = await met(), last = alice.state.chain.length - 1;
    const theirs = (await rival(alice, last)).encode();
    world.server.chainOf(ALICE).push(theirs);
    await refusedAs(ForkSeen, () => contacts.refresh(bob, ALICE));
    expect(await listEvidence(bob)).toMatchObject([{ ours: alice.state.chain[last], theirs }]);
  });

  test("of a key that was rotated away is a fork", async () => {
    const [world, alice, bob] = await met(), key = await alice.identityKey();
    await renew(alice);
    await contacts.refresh(bob, ALICE);
    const by = { device: alice.device.id, issuedAt: NOW, key };
    const thief = await shareManifest(await alice.chain(), { by, manifestHash: new Uint8Array(32) });
    world.server.chainOf(ALICE).push(thief.encode());
    await refusedAs(ForkSeen, () => contacts.refresh(bob, ALICE));
    expect((await listEvidence(bob)).map((one) => one.theirs)).toEqual([thief.encode()]);
  });
});

describe("two devices of one person", () => {
  test("that announce one generation end with two", async () => {
    const [world, laptop] = await grown(0), phone = await world.enrolled(ALICE);
    phone.state.identitySeed = laptop.state.identitySeed;
    const announce = (account: Account): Promise<unknown> =>
      chains.append(account, async (state) => {
        const generation = (state.generations.at(-1)?.generation ?? 0) + 1, by = await account.author(state);
        return [await archiveGeneration(state, { by, generation, notBefore: NOW, commitment: new Uint8Array(32) })];
      });
    // Both have read the same head; the laptop's upload comes first.
    world.server.instead.set(`POST ${PATH}`, async () => {
      world.server.instead.clear();
      await announce(laptop);
      return refused(409, "chain-stale");
    });
    await announce(phone);
    expect((await chains.refresh(laptop))?.generations.map((one) => one.generation)).toEqual([1, 2]);
  });

  test("one with an old identity key is told so before anything is sent", async () => {
    const [world] = await grown(0), phone = await world.enrolled(ALICE), posted = world.server.posted(PATH).length;
    phone.state.identitySeed = (await SigningKey.generate()).seed();
    const said = await refusedAs(RaceLost, () => grow(phone), "does not follow");
    expect(said.wayOut).toContain("client.maintain()");
    expect(world.server.posted(PATH)).toHaveLength(posted);
  });

  test("of which one keeps writing: the other gives up after five times", async () => {
    const [world, alice] = await grown(0);
    world.server.instead.set(`POST ${PATH}`, () => refused(409, "chain-stale"));
    await refusedAs(ClientError, () => grow(alice), "keeps writing");
    expect(world.server.posted(PATH)).toHaveLength(5);
  });
});

describe("pages", () => {
  test.each([1, 2, 3])("of %i entries are read, whatever one ends with", async (page) => {
    const [world, alice, bob] = await grown(2), phone = await world.another(alice);
    await renew(alice, phone.device.id);
    expect(world.server.chainOf(ALICE).some((one) => Entry.parse(one).body.type === 3)).toBe(true);
    world.server.page = page;
    const state = await contacts.refresh(bob, ALICE);
    expect(headOf(state)).toEqual(headOf(await alice.chain()));
    expect(pinned(bob)).toEqual(world.server.chainOf(ALICE));
  });

  test("of a chain of many entries are asked for once each", async () => {
    const [world, alice, bob] = await grown(0);
    const by = await alice.author();
    let state = await alice.chain();
    const written: Entry[] = [];
    while (written.length < 518) {
      const entry = await shareManifest(state, { by, manifestHash: new Uint8Array(32) });
      state = { ...state, hashes: [...state.hashes, entry.hash] };
      written.push(entry);
    }
    world.server.chainOf(ALICE).push(...written.map((entry) => entry.encode()));
    world.server.keysLog.append(ALICE, written.at(-1) as Entry);
    world.server.log.length = 0;
    const theirs = await contacts.refresh(bob, ALICE), asked = world.server.log.filter(([, path]) => path.endsWith("/chain"));
    expect([seqOf(theirs), asked.length]).toEqual([519, 3]);
    expect(headOf(theirs)).toEqual(headOf((await chains.refresh(alice)) as typeof theirs));
  });

  test("between which the head moves lead to the new one", async () => {
    const [world, alice, bob] = await grown();
    world.server.page = 2;
    const moving = await shareManifest(await alice.chain(), { by: await alice.author(), manifestHash: new Uint8Array(32) });
    world.server.lies.set(`GET ${PATH}`, (answer: Json) => {
      world.server.lies.clear();
      world.server.chainOf(ALICE).push(moving.encode());
      world.server.keysLog.append(ALICE, moving);
      return answer;
    });
    expect(headOf(await contacts.refresh(bob, ALICE))).toEqual(moving.hash);
  });

  test.each<[string, (answer: Json) => Json]>([
    ["more for ever", (answer) => ({ ...answer, more: true, seq: answer.seq + 1 })],
    ["empty pages", (answer) => ({ ...answer, more: true, entries: [] })],
    ["a head too far", (answer) => ({ ...answer, more: true, seq: 2 ** 40 })],
    ["a head that is never reached", (answer) => ({ ...answer, more: false, seq: answer.seq + 1 })],
    ["more after the head", (answer) => ({ ...answer, more: true, seq: 1 })],
    ["another head", (answer) => ({ ...answer, head: "A".repeat(43) })],
    ["entries that are none", (answer) => ({ ...answer, entries: answer.entries.map(() => "AAAA") })],
    ["entries that are no text", (answer) => ({ ...answer, entries: [7] })],
    ["no entries", ({ entries: _, ...answer }) => answer],
  ])("that lie are refused and nothing of them is kept: %s", async (_, lie) => {
    const [world, , bob] = await grown();
    world.server.page = 2;
    world.server.lies.set(`GET ${PATH}`, lie);
    world.server.log.length = 0;
    const error = await refusedAs(ClientError, () => contacts.refresh(bob, ALICE));
    expect(error instanceof TrustRefused || error instanceof AnswerRefused).toBe(true);
    expect(pinned(bob)).toBeUndefined();
    expect(world.server.log.length).toBeLessThan(10);
  });

  test("with made up entries are refused at the first of them", async () => {
    const [world, alice, bob] = await grown(6);
    world.server.page = 2;
    const other = (await rival(alice, 3)).signatures[0] as Sign1;
    const forged = new Sign1(other.header, other.payload, new Uint8Array(64));
    world.server.chainOf(ALICE)[3] = forged.encode();
    world.server.log.length = 0;
    await refusedAs(TrustRefused, () => contacts.refresh(bob, ALICE));
    expect(world.server.log).toHaveLength(2);
  });
});

describe("what was verified", () => {
  test("is left when another history is shown", async () => {
    const [, alice] = await grown(), seen = new VerifiedChains(TENANT);
    const read = async (known: Bytes[], fresh: Bytes[]): Promise<number> =>
      seqOf(await seen.read(ALICE, known, fresh, { policies: async () => [] }));
    const { chain } = alice.state, other = (await rival(alice, 3)).encode();
    expect(await read([], chain)).toBe(5);
    expect(await read(chain.slice(0, 2), chain.slice(2, 4))).toBe(3);
    expect(await read([...chain.slice(0, 3), other], [])).toBe(3);
    expect(await read(chain, [])).toBe(5);
  });

  test("of one's own is what peers will verify, before it is sent", async () => {
    const [, alice] = await grown(), state = await alice.chain();
    const made = await shareManifest(state, { by: await alice.author(), manifestHash: new Uint8Array(32) });
    const next = await chains.requireExtends(alice, state, [made]);
    expect(headOf(next)).toEqual(headOf(await extend(state, [made])));
  });
});

describe("an account that is begun again", () => {
  test("under a policy that had been replaced is refused", async () => {
    // Officers who have left cannot begin an account again, whatever the server shows.
    const [world, alice, bob] = await grown(0);
    const first = world.tenant.policies[0] as Bytes, fresh = await founders();
    await world.tenant.nextPolicy(fresh);
    await tenant.refresh(bob);
    await contacts.refresh(bob, ALICE);
    const second = world.tenant.policies[1] as Bytes;
    for (const [policy, officers, said] of [
      [first, world.tenant.officers, "no longer in force"],
      [second, fresh, "begun again"],
    ] as const) {
      const entry = await begunAgain(alice, { policyHash: payloadHash(policy), officers });
      world.server.chains.set(alice.userText, [...alice.state.chain, entry.encode()]);
      world.server.keysLog.leaves = world.server.keysLog.leaves.slice(0, 4);
      world.server.keysLog.append(ALICE, entry);
      await refusedAs(TrustRefused, () => contacts.refresh(bob, ALICE), said);
    }
  });

  test.each([true, false])("is held to its date by this clock and by the key log, met before: %s", async (haveMet) => {
    // Officers who have left would date it back, and whoever will not wait for the delay would date it ahead.
    const [world, alice, bob] = await grown(0);
    if (haveMet) await contacts.refresh(bob, ALICE);
    const of = { policyHash: world.tenant.policyHash, officers: world.tenant.officers };
    for (const [at, isLogged, said] of [
      [NOW + MAX_AHEAD_SECONDS + 1, true, "still to come"],
      [NOW - LOGGED_WITHIN_SECONDS - 1, false, "not in the public key log"],
      [NOW - LOGGED_BEFORE_SECONDS - 1, true, "long before"],
    ] as const) {
      const entry = await begunAgain(alice, { ...of, at });
      world.server.chains.set(alice.userText, [...alice.state.chain, entry.encode()]);
      world.server.keysLog.leaves = world.server.keysLog.leaves.slice(0, 4);
      if (isLogged) world.server.keysLog.append(ALICE, entry);
      await refusedAs(TrustRefused, () => contacts.refresh(bob, ALICE), said);
      expect(pinned(bob) !== undefined).toBe(haveMet);
    }
    // A server that says that it is later gains nothing by it: the date is waited for by this machine's own clock.
    bob.api.clock.correct(NOW + 86_400);
    const later = await begunAgain(alice, { ...of, at: NOW + 80_000 });
    world.server.chains.set(alice.userText, [...alice.state.chain, later.encode()]);
    await refusedAs(TrustRefused, () => contacts.refresh(bob, ALICE), "still to come");
  });
});
