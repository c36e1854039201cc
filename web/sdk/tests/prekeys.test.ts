// SPDX-License-Identifier: Apache-2.0
/** This device's pre-keys: renewed and refilled in time, held against what the server says, destroyed when over. */
import { expect, test } from "vitest";
import { type Bytes, equal, hex } from "../src/core/base/bytes.js";
import { decode, MAX_VAULT, unb64u } from "../src/core/base/encoding.js";
import { Suite } from "../src/core/crypto/suites.js";
import { oneTimeStatement } from "../src/core/messages/bundle.js";
import { fromLeaf, signedPreKeyFromPayload } from "../src/core/messages/prekeys.js";
import { Sign1 } from "../src/core/signed/cose.js";
import { AnswerRefused, Problem, ProfileError, Unreachable } from "../src/client/errors.js";
import * as rows from "../src/client/messages/prekey_rows.js";
import * as prekeys from "../src/client/messages/prekeys.js";
import type { Account } from "../src/client/profile/account.js";
import { ALICE, BOB, DAY, Members } from "./cast/members.js";
import { type Answered, NOW, refused } from "./cast/server.js";
import type { Json } from "./vectors.js";

/** Move an account's clock, and the log's, to a day after the first; a log head says the same time. */
async function at(world: Members, account: Account, day: number): Promise<Account> {
  world.now = NOW + Math.floor(day * DAY);
  const moved = await world.opened(account.store);
  moved.api.clock.confirm(world.now);
  return moved;
}

async function oneTimeIds(account: Account): Promise<number[]> {
  return (await rows.allOneTime(account.store)).map((row) => row.keyId);
}

/** Let the server hand out a one-time key of an account's; returns its id. */
function claim(world: Members, account: Account): number {
  const row = world.server.batches.get(account.deviceText)?.shift();
  return fromLeaf(unb64u(row.leaf), account.suite).keyId;
}

function signedOf(world: Members, account: Account): Sign1 {
  return Sign1.parse(unb64u(world.server.bundles.get(account.deviceText).signed_pre_key));
}

const made = new Map<Suite, Promise<[Members, Account]>>();

async function published(suite: Suite = Suite.CLASSICAL): Promise<[Members, Account]> {
  if (!made.has(suite)) {
    const first = new Members();
    made.set(suite, first.published(ALICE, suite).then((alice) => [first, alice]));
  }
  const [first, account] = await (made.get(suite) as Promise<[Members, Account]>);
  const [world, alice] = (await first.again(account)) as [Members, Account];
  alice.api.clock.confirm(world.now);
  return [world, alice];
}

async function enrolled(): Promise<[Members, Account]> {
  const world = new Members();
  return [world, await world.enrolled(ALICE, Suite.CLASSICAL)];
}

test("the first publishing makes one signed and a hundred one-time keys", async () => {
  const [, alice] = await enrolled();
  const done = await prekeys.publish(alice);
  expect([done.isRenewed, done.stored, done.count, done.warnings]).toEqual([true, 100, 100, []]);
  const again = await prekeys.publish(alice);
  expect([again.isRenewed, again.stored, again.count, again.destroyed, again.warnings]).toEqual([false, 0, 100, 0, []]);
});

test("a batch whose answer was lost is sent again without a key, and stored once", async () => {
  const [world, alice] = await enrolled(), path = `devices/${alice.deviceText}/pre-keys`;
  world.server.lost.add(`POST ${path}`);
  await expect(prekeys.publish(alice)).rejects.toBeInstanceOf(Unreachable);
  world.server.lost.clear();
  await prekeys.publish(alice);
  expect(world.server.posted(path).length).toBeGreaterThan(1);
  expect(world.server.batches.get(alice.deviceText)?.length).toBe(100);
  expect(world.server.keys.get(path)).toEqual(new Set([""]));
});

test("a signed pre-key of a clock that was ahead is replaced at once", async () => {
  const [world, first] = await enrolled(), alice = await at(world, first, 1 / 12);
  await prekeys.publish(alice);
  const back = await at(world, alice, 0);
  expect((await prekeys.publish(back)).isRenewed).toBe(true);
  expect((await prekeys.publish(back)).isRenewed).toBe(false);
});

test("a pending device publishes nothing", async () => {
  const world = new Members(), pending = await world.pending(ALICE, Suite.CLASSICAL);
  await expect(prekeys.publish(pending)).rejects.toThrow(/not part of your account/);
  await prekeys.publishFirst(pending);
  expect(world.server.bundles.size).toBe(0);
});

test.each(Object.values(Suite))("a responder gets the private halves of what the server hands out: suite %i", async (suite) => {
  const [world, alice] = await published(suite), handed = world.server.batches.get(alice.deviceText)?.[0];
  const leaf = unb64u(handed.leaf), made = fromLeaf(leaf, suite), own = await prekeys.oneTime(alice, made.keyId);
  expect(own?.dh.public.equals(made.dh)).toBe(true);
  expect(own?.kem === undefined).toBe(made.kem === undefined);
  if (made.kem) expect(own?.kem?.public.equals(made.kem)).toBe(true);
  const statement = oneTimeStatement(Sign1.parse(unb64u(handed.batch)).payload, leaf);
  expect(hex(own?.statement as Bytes)).toBe(hex(statement));
  const { payload } = signedOf(world, alice), said = signedPreKeyFromPayload(payload);
  const signed = await prekeys.loadSigned(alice, said.keyId);
  expect(hex(signed?.statement as Bytes)).toBe(hex(payload));
  expect(signed?.dh.public.equals(said.dh)).toBe(true);
});

test("a used one-time key is gone, and comes back with an undone transaction", async () => {
  const [, alice] = await published(), [first, second] = (await oneTimeIds(alice)) as [number, number];
  await prekeys.useUp(alice, first);
  expect(await prekeys.oneTime(alice, first)).toBeUndefined();
  const undone = alice.store.transaction(async () => {
    await prekeys.useUp(alice, second);
    expect(await prekeys.oneTime(alice, second)).toBeUndefined();
    throw new EvalError("undone");
  });
  await expect(undone).rejects.toBeInstanceOf(EvalError);
  expect(await prekeys.oneTime(alice, second)).toBeDefined();
  expect(await prekeys.oneTime(alice, 9_999)).toBeUndefined();
});

test.each([[25, 0], [24, 100]])("a pool of %i is refilled by %i", async (left, stored) => {
  const [world, alice] = await published();
  for (let number = left; number < 100; number++) claim(world, alice);
  const done = await prekeys.publish(alice);
  expect([done.stored, done.count, done.warnings]).toEqual([stored, left + stored, []]);
  expect(new Set(await oneTimeIds(alice)).size).toBe(100 + stored);
});

test.each([[6.9, false], [7, true]])("a signed pre-key of %d days is renewed: %s", async (days, isRenewed) => {
  const [world, alice] = await published();
  expect((await prekeys.publish(await at(world, alice, days))).isRenewed).toBe(isRenewed);
  const { header } = signedPreKeyFromPayload(signedOf(world, alice).payload);
  expect(header.expiresAt - header.issuedAt).toBe(30 * DAY);
});

test("a replaced signed pre-key is kept for 30 days, and then destroyed", async () => {
  const [world, alice] = await published(), [row] = (await rows.allSigned(alice.store)) as [rows.SignedRow];
  for (const day of [7, 14, 21, 28, 35, 36.9]) {
    const moved = await at(world, alice, day);
    await prekeys.publish(moved);
    expect(await prekeys.loadSigned(moved, row.keyId), `day ${day}`).toBeDefined();
  }
  const last = await at(world, alice, 37);
  expect(await prekeys.loadSigned(last, row.keyId)).toBeUndefined();
  expect((await prekeys.publish(last)).destroyed).toBe(1);
  expect(await rows.loadSignedRow(last.store, row.keyId)).toBeUndefined();
});

test("a device that was away for months opens what was begun in time, and nothing later", async () => {
  const [world, alice] = await published(), [row] = (await rows.allSigned(alice.store)) as [rows.SignedRow];
  expect(await prekeys.loadSigned(await at(world, alice, 59.9), row.keyId)).toBeDefined();
  const last = await at(world, alice, 60);
  expect(await prekeys.loadSigned(last, row.keyId)).toBeUndefined();
  expect(await rows.loadSignedRow(last.store, row.keyId), "destroyed once another is published").toBeDefined();
  expect((await prekeys.publish(last)).destroyed).toBe(1);
  expect(await rows.loadSignedRow(last.store, row.keyId)).toBeUndefined();
});

test("nothing is destroyed, and nothing refused, by a time that no log head confirms", async () => {
  const [world, alice] = await published(), [row] = (await rows.allSigned(alice.store)) as [rows.SignedRow];
  world.now = NOW + 90 * DAY;
  const later = await world.opened(alice.store);
  expect(await prekeys.loadSigned(later, row.keyId)).toBeDefined();
  expect((await prekeys.publish(later)).destroyed).toBe(0);
  expect(await rows.loadSignedRow(later.store, row.keyId)).toBeDefined();
});

test("a claimed key whose message never came goes with the signed key of its bundle", async () => {
  const [world, alice] = await published(), keyId = claim(world, alice);
  await prekeys.publish(await at(world, alice, 1));
  expect((await rows.loadOneTimeRow(alice.store, keyId))?.goneAt).toBe(NOW + DAY);
  for (const day of [7, 14, 21, 28, 35, 36.9])
    expect((await prekeys.publish(await at(world, alice, day))).destroyed).toBe(0);
  expect(await prekeys.oneTime(alice, keyId)).toBeDefined();
  // The signed key, and the one-time key that was handed out with it.
  expect((await prekeys.publish(await at(world, alice, 37))).destroyed).toBe(2);
  expect(await rows.loadOneTimeRow(alice.store, keyId)).toBeUndefined();
  expect((await oneTimeIds(alice)).length, "what the server still hands out is kept however old it is").toBe(99);
});

test("the statement of a batch goes with its last key", async () => {
  const [world, alice] = await published(), [batchId] = (await alice.store.keys(rows.BATCH)) as [Bytes];
  for (const keyId of await oneTimeIds(alice)) {
    claim(world, alice);
    await prekeys.useUp(alice, keyId);
  }
  expect((await prekeys.publish(alice)).stored).toBe(100);
  expect(await rows.loadBatch(alice.store, batchId)).toBeUndefined();
  expect((await alice.store.keys(rows.BATCH)).length).toBe(1);
});

test("a damaged row is told as a damaged profile", async () => {
  const [, alice] = await published(), [row] = (await rows.allSigned(alice.store)) as [rows.SignedRow];
  await alice.store.put(rows.SIGNED, rows.idKey(row.keyId), row.dhSeed);
  await expect(prekeys.loadSigned(alice, row.keyId)).rejects.toBeInstanceOf(ProfileError);
});

// What the server says that it holds

test.each<[string, (answer: Json) => Json]>([
  ["hides one", (answer) => (answer.batches[0].key_ids.pop(), answer)],
  ["names one twice", (answer) => (answer.batches[0].key_ids.push(answer.batches[0].key_ids[0]), answer)],
  ["counts another number", (answer) => ({ ...answer, count: answer.count + 1 })],
  ["names an id above 32 bits", (answer) => (answer.batches[0].key_ids.push(2 ** 32), answer)],
  ["names more than there can be", (answer) => ({ ...answer, batches: [...answer.batches, ...Array(2).fill({ batch_id: answer.batches[0].batch_id, key_ids: Array.from({ length: 6000 }, (_, one) => one) })] })],
  ["names another signed pre-key", (answer) => ({ ...answer, signed_pre_key_hash: answer.digest })],
])("an answer that %s is refused, and nothing is noted as gone", async (_, lie) => {
  const [world, alice] = await published();
  world.server.lies.set(`POST devices/${alice.deviceText}/check`, lie);
  await expect(prekeys.publish(alice)).rejects.toBeInstanceOf(AnswerRefused);
  expect((await rows.allOneTime(alice.store)).every((row) => row.goneAt === 0)).toBe(true);
});

test("voided keys are replaced, and the person is told once", async () => {
  const [world, alice] = await published();
  world.server.batches.clear();
  world.server.epoch += 1;
  const done = await prekeys.publish(alice);
  expect([done.stored, done.count, done.isVoided, done.warnings]).toEqual([100, 100, true, []]);
  expect((await prekeys.publish(alice)).isVoided).toBe(false);
  expect((await oneTimeIds(alice)).length, "what was handed out before may still be used").toBe(200);
});

test("a key that is handed out again after its use is told, and fresh ones are made", async () => {
  const [world, alice] = await published(), pool = world.server.batches.get(alice.deviceText) as Json[], [first] = pool;
  await prekeys.useUp(alice, claim(world, alice));
  await prekeys.publish(alice);
  pool.unshift(first);
  const done = await prekeys.publish(alice);
  expect(done.stored).toBe(100);
  expect(done.warnings[0]).toMatch(/holds 1 one-time pre-keys/);
  const again = await prekeys.publish(alice);
  expect([again.stored, again.warnings], "told once, not at every call").toEqual([0, []]);
});

test("another signed pre-key than the newest is told", async () => {
  const [world, alice] = await published(), bob = await world.published(BOB, Suite.CLASSICAL);
  world.server.instead.set(`PUT devices/${alice.deviceText}/bundle`, () => [204, {}]);
  world.server.bundles.set(alice.deviceText, world.server.bundles.get(bob.deviceText));
  expect((await prekeys.publish(alice)).warnings[0]).toMatch(/another signed pre-key/);
});

test("a signed pre-key is sent only when the server has another one", async () => {
  const [world, alice] = await published(), put = `devices/${alice.deviceText}/bundle`;
  const before = world.server.posted(put).length;
  await prekeys.publish(alice);
  expect(world.server.posted(put).length).toBe(before);
  world.server.bundles.delete(alice.deviceText);
  await prekeys.publish(alice);
  expect(world.server.posted(put).length).toBe(before + 1);
});

test("a publishing that another page overtook reads anew and goes on", async () => {
  const [world, alice] = await enrolled();
  let stale = 2;
  world.server.instead.set(`PUT devices/${alice.deviceText}/bundle`, (body): Answered =>
    stale-- > 0 ? refused(409, "pre-key-stale") : world.server.putBundle(alice.deviceText, body),
  );
  expect((await prekeys.publish(alice)).warnings).toEqual([]);
  const [kept] = (await rows.allSigned(alice.store)) as [rows.SignedRow];
  expect(equal(signedOf(world, alice).encode(), kept.statement)).toBe(true);
});

test("a restored profile replaces the signed pre-key that it never made, and not twice within an hour", async () => {
  const [world, alice] = await published(), bob = await world.published(BOB, Suite.CLASSICAL);
  const foreign = world.server.bundles.get(bob.deviceText);
  world.server.bundles.set(alice.deviceText, foreign);
  const later = await at(world, alice, prekeys.REPLACE_FOREIGN_AFTER_SECONDS / DAY);
  expect((await prekeys.publish(later)).isRenewed).toBe(true);
  const newest = (await rows.allSigned(later.store)).find((row) => row.replacedAt === 0);
  expect(equal(signedOf(world, later).encode(), newest?.statement as Bytes)).toBe(true);
  world.server.bundles.set(alice.deviceText, foreign);
  expect((await prekeys.publish(later)).isRenewed).toBe(false);
});

// Interruptions and restored profiles

test("keys are kept before the server has them", async () => {
  const [world, alice] = await enrolled(), put = `PUT devices/${alice.deviceText}/bundle`;
  world.server.instead.set(put, () => refused(500, "internal"));
  await expect(prekeys.publish(alice)).rejects.toBeInstanceOf(Problem);
  world.server.instead.delete(put);
  const [kept] = (await rows.allSigned(alice.store)) as [rows.SignedRow];
  await prekeys.publish(await at(world, alice, 0));
  expect(equal(signedOf(world, alice).encode(), kept.statement)).toBe(true);
});

/** Have the server know pre-keys of this device up to an id: this profile was restored from an older backup. */
function refuseBelow(world: Members, account: Account, first: number): void {
  world.server.instead.set(`POST devices/${account.deviceText}/pre-keys`, (body): Answered => {
    const [leaf] = decode(unb64u(body.leaves), MAX_VAULT) as [Bytes];
    if (fromLeaf(leaf, account.suite).keyId < first) return refused(409, "pre-key-id-reused");
    return world.server.putBatch(account.deviceText, body);
  });
}

test("a restored profile finds ids that were never used", async () => {
  const [world, alice] = await enrolled();
  refuseBelow(world, alice, 20_000);
  const done = await prekeys.publish(alice);
  expect([done.stored, done.count]).toEqual([100, 100]);
  const ids = await oneTimeIds(alice);
  expect(Math.min(...ids)).toBeGreaterThanOrEqual(20_000);
  expect(ids.length, "private halves of the refused batches are destroyed").toBe(100);
  expect((await rows.loadLedger(alice.store)).nextId).toBeGreaterThan(20_000);
  expect((await prekeys.publish(alice)).stored).toBe(0);
});

test("a server that refuses every id is given up on", async () => {
  const [world, alice] = await enrolled();
  refuseBelow(world, alice, 2 ** 32);
  await expect(prekeys.publish(alice)).rejects.toThrow(/two machines/);
  expect(await oneTimeIds(alice)).toEqual([]);
});

test("what another device of this profile made is not uploaded under the new one, and runs out", async () => {
  const [world, alice] = await enrolled(), path = `devices/${alice.deviceText}/pre-keys`;
  world.server.lost.add(`POST ${path}`);
  await expect(prekeys.publish(alice)).rejects.toBeInstanceOf(Unreachable);
  const oldIds = await oneTimeIds(alice), next = await world.another(alice);
  // As a rotation of device keys leaves it: the same profile, another device.
  alice.state.device = next.device;
  alice.state.chain = next.state.chain;
  await alice.save();
  await alice.signAsDevice();
  world.server.batches.delete(next.deviceText);
  world.server.bundles.delete(next.deviceText);
  await prekeys.publish(alice);
  const ids = await oneTimeIds(alice);
  expect(ids.slice(0, 100), "messages that wait on the server were begun with these").toEqual(oldIds);
  expect(world.server.batches.get(alice.deviceText)?.length).toBe(100);
  expect(Math.min(...ids.slice(100))).toBeGreaterThan(Math.max(...oldIds));
  const current = (await rows.allSigned(alice.store)).filter((row) => row.replacedAt === 0);
  expect(current.length).toBe(1);
  const { header } = signedPreKeyFromPayload(Sign1.parse((current[0] as rows.SignedRow).statement).payload);
  expect(equal(header.device, alice.device.id)).toBe(true);
});
