// SPDX-License-Identifier: Apache-2.0
/** Keys are replaced in seven steps, and an end between any two loses nothing. docs/spec/protocol.md section 5. */
import { beforeAll, describe, expect, test } from "vitest";
import { type Bytes, EMPTY, hex, utf8 } from "../src/core/base/bytes.js";
import { Malformed } from "../src/core/base/errors.js";
import { SecretBytes } from "../src/core/base/secret.js";
import { uuidText } from "../src/core/base/uuids.js";
import { Suite } from "../src/core/crypto/suites.js";
import { Entry, Reason } from "../src/core/identity/entries.js";
import { NotPossible, ProfileError, WrongInput } from "../src/client/errors.js";
import * as archive from "../src/client/escrow/archive.js";
import * as securityEvents from "../src/client/identity/security_events.js";
import * as letters from "../src/client/messages/letters.js";
import * as messages from "../src/client/messages/messages.js";
import type { Account } from "../src/client/profile/account.js";
import * as rotation from "../src/client/rotation/rotation.js";
import { EVERYTHING, Step } from "../src/client/rotation/rotation.js";
import * as record from "../src/client/rotation/rotation_record.js";
import * as pairing from "../src/client/vault/pairing.js";
import * as vault from "../src/client/vault/vault.js";
import { ALICE, BOB, DAY } from "./cast/members.js";
import { Moments, Rotating, RowsStore } from "./cast/rotating.js";
import { refused as refusal } from "./cast/server.js";

const text = (one: Uint8Array): string => uuidText(one);

// Made once and copied: to make keys takes longer than a test does. Alice has a laptop and a phone, and talks to bob.
let first: Rotating, people: Account[];

async function person(world: Rotating, user: Bytes): Promise<Account> {
  const account = await world.members.published(user, Suite.CLASSICAL, new RowsStore(user));
  return world.opened(account.store as RowsStore);
}

async function exchange(account: Account, ...expected: string[]): Promise<void> {
  const found = await messages.receive(account);
  expect(found.map((one) => new TextDecoder().decode(one.body))).toEqual(expected);
  for (const one of found) await one.done();
}

beforeAll(async () => {
  first = new Rotating();
  const alice = await person(first, ALICE), bob = await person(first, BOB);
  const other = await first.members.another(alice), phone = await first.opened(await RowsStore.of(other.store));
  await vault.save(alice);
  phone.state.vault = { ...alice.state.vault };
  await phone.save();
  await messages.send(alice, BOB, utf8("hello bob"));
  await exchange(bob, "hello bob");
  await messages.send(bob, ALICE, utf8("hello alice"));
  await exchange(alice, "hello alice");
  people = [alice, bob, phone];
}, 60_000);

interface Scene {
  readonly world: Rotating;
  readonly alice: Account;
  readonly bob: Account;
  readonly phone: Account;
}

async function scene(): Promise<Scene> {
  const [world, ...stores] = await first.again(...people);
  const [alice, bob, phone] = await Promise.all(stores.map((store) => world.opened(store)));
  return { world, alice: alice as Account, bob: bob as Account, phone: phone as Account };
}

test("a rotation replaces identity, vault key and archive generation", async () => {
  const { alice } = await scene();
  await archive.newGeneration(alice);
  const before = await alice.chain(), { key, epoch } = alice.state.vault;
  const done = await rotation.rotate(alice, EVERYTHING, { reason: Reason.USER_REQUEST });
  expect([done.step, done.unreached]).toEqual([Step.DESTROY, []]);
  const state = await alice.chain();
  expect(state.aik.equals((await alice.identityKey()).public)).toBe(true);
  expect(state.formerAiks.map((one) => hex(one.encoded))).toEqual([hex(before.aik.encoded)]);
  expect(state.generations.map((one) => one.generation)).toEqual([1, 2]);
  expect(alice.state.generations.map((one) => one.number)).toEqual([1, 2]);
  expect([alice.state.vault.epoch, alice.state.vault.key.equals(key)]).toEqual([epoch + 1, false]);
  expect(await vault.load(alice)).toBeDefined();
});

test.each<rotation.What[][]>([[["identity"]], [["archive"]], [["vault"]], [["device"]]])("%s by itself", async (what) => {
  const { alice, phone } = await scene(), before = await alice.chain(), device = alice.device.id, { key } = alice.state.vault;
  await rotation.rotate(alice, what, { reason: Reason.USER_REQUEST });
  const after = await alice.chain(), isOf = (...names: string[]): boolean => what.some((name) => names.includes(name));
  expect(!after.aik.equals(before.aik)).toBe(isOf("identity", "device"));
  expect(hex(alice.device.id) !== hex(device)).toBe(isOf("device"));
  expect(!alice.state.vault.key.equals(key)).toBe(isOf("vault"));
  expect(after.generations.length).toBe(Number(isOf("archive")));
  expect([...after.devices.keys()].sort()).toEqual([hex(alice.device.id), hex(phone.device.id)].sort());
});

test("sessions go on under the new identity, and what was on its way is read by the new device", async () => {
  const { alice, bob } = await scene();
  await messages.send(bob, ALICE, utf8("on its way"));
  await rotation.rotate(alice, ["device"], { reason: Reason.SCHEDULE });
  await exchange(alice, "on its way");
  await exchange(bob);
  await messages.send(bob, ALICE, utf8("to the new one"));
  await exchange(alice, "to the new one");
  await messages.send(alice, BOB, utf8("from the new one"));
  await exchange(bob, "from the new one");
});

test("a device refuses to revoke itself and what is not the person's, and a rotation of nothing is a mistake", async () => {
  const { alice, bob } = await scene(), reason = Reason.DEVICE_LOST;
  const revoke = (device: Bytes) => rotation.rotate(alice, EVERYTHING, { reason, revoke: [text(device)] });
  await expect(revoke(alice.device.id)).rejects.toThrow(NotPossible);
  await expect(revoke(bob.device.id)).rejects.toThrow(WrongInput);
  await expect(rotation.rotate(alice, [], { reason })).rejects.toThrow(RangeError);
  expect(await rotation.listRotations(alice)).toEqual([]);
});

test("a revoked device knows nothing of what comes after", async () => {
  const { alice, phone } = await scene(), was = phone.state.vault.key;
  const revoke = [text(phone.device.id)];
  const done = await rotation.rotate(alice, [], { reason: Reason.DEVICE_LOST, revoke });
  const state = await alice.chain();
  expect([done.revoked, [...state.devices.keys()]]).toEqual([revoke, [hex(alice.device.id)]]);
  expect(state.aik.equals((await phone.identityKey()).public)).toBe(false);
  expect(alice.state.vault.key.equals(was)).toBe(false);
  await expect(vault.load(phone)).rejects.toThrow(ProfileError);
  await expect(rotation.rotate(phone, ["identity"], { reason: Reason.USER_REQUEST })).rejects.toThrow(ProfileError);
});

test("the other device follows, and the next identity is in the vault before the chain names it", async () => {
  const { world, alice, phone } = await scene(), { server } = world.members, mark = server.log.length;
  await rotation.rotate(alice, ["identity"], { reason: Reason.SCHEDULE });
  const acts = server.log.slice(mark).map(([method, path]) => `${method} ${path}`);
  expect(acts.indexOf("PUT vault")).toBeLessThan(acts.indexOf(`POST users/${text(ALICE)}/chain`));
  await letters.fetch(phone);
  await pairing.catchUp(phone);
  expect((await phone.identityKey()).public.equals((await alice.chain()).aik)).toBe(true);
});

test("a rotation that another device overtakes is signed again on top", async () => {
  const { world, alice } = await scene(), { server } = world.members, upload = `POST users/${text(ALICE)}/chain`;
  server.instead.set(upload, () => {
    server.instead.delete(upload);
    return refusal(409, "chain-stale");
  });
  await rotation.rotate(alice, EVERYTHING, { reason: Reason.USER_REQUEST });
  expect((await alice.chain()).formerAiks.length).toBe(1);
});

test("old keys are destroyed once their grace is over by a confirmed time, and the row holds none of the new", async () => {
  const { world, alice } = await scene(), seed = alice.state.identitySeed, before = alice.device.id;
  await rotation.rotate(alice, [...EVERYTHING, "device"], { reason: Reason.SCHEDULE });
  const [row] = (await record.loadRotations(alice.store)) as [record.Rotation];
  const keys = [row.identity, row.archiveKey, row.oldIdentity, row.vault.key, row.oldVault.key];
  expect([keys.map((one) => one.length), row.device]).toEqual([[0, 0, 0, 0, 0], undefined]);
  const retired = async (): Promise<string> => {
    const rows = (await alice.store.keys("retired-key")).map((key) => alice.store.get("retired-key", key));
    return (await Promise.all(rows)).map((one) => hex((one as SecretBytes).reveal())).join();
  };
  const destroyed = async (): Promise<boolean[]> => (await rotation.maintain(alice)).map((one) => one.isDestroyed);
  expect(await retired()).toContain(hex(seed.reveal()));
  expect((await alice.store.keys("former-device")).map(hex)).toEqual([hex(before)]);
  world.members.now += 29 * DAY;
  alice.clock.confirm(world.members.now);
  expect(await destroyed()).toEqual([]);
  world.members.now += 1.1 * DAY;
  // Nobody has confirmed the time: only what is due by age alone begins.
  expect(await destroyed()).toEqual([false]);
  alice.clock.confirm(world.members.now);
  expect(await destroyed()).toEqual([true]);
  expect(await retired()).not.toContain(hex(seed.reveal()));
  expect(await alice.store.keys("former-device")).toEqual([]);
});

describe("when", () => {
  test("an identity is due after a month", async () => {
    const { world, alice } = await scene(), begun = world.members.now;
    world.members.now = begun + 30 * DAY - 1;
    expect([await rotation.isDue(alice), await rotation.maintain(alice)]).toEqual([false, []]);
    world.members.now = begun + 30 * DAY;
    expect(await rotation.due(alice)).toMatchObject({ what: ["identity"], reason: Reason.SCHEDULE });
    expect((await rotation.maintain(alice)).map((one) => one.reason)).toEqual([Reason.SCHEDULE]);
    expect(await rotation.isDue(alice)).toBe(false);
  });

  test("a security event is answered by a new identity once a day", async () => {
    const { world, alice } = await scene();
    for (let times = 0; times < 2; times++) await securityEvents.note(alice, "A one-time key was handed out twice.");
    expect(await rotation.isDue(alice)).toBe(false); // the identity is of today
    world.members.now += DAY;
    const why = "A one-time key was handed out twice.";
    expect(await rotation.due(alice)).toEqual({ what: ["identity"], reason: Reason.SECURITY_EVENT, why });
    await rotation.maintain(alice);
    expect([await securityEvents.listEvents(alice), await rotation.isDue(alice)]).toEqual([[], false]);
  });

  test("a device that may not rotate is not asked to", async () => {
    const { world, phone } = await scene();
    world.members.now += 90 * DAY;
    phone.device.isActive = false;
    expect(await rotation.due(phone)).toBeUndefined();
  });

  test("dates are this device's own while the server's clock is ahead, and go on where the chain lies in the future", async () => {
    const { world, alice, phone } = await scene(), { now } = world.members;
    alice.clock.correct(now + 7200);
    await rotation.rotate(alice, EVERYTHING, { reason: Reason.USER_REQUEST });
    const dates = (): number[] => alice.state.chain.map((entry) => Entry.parse(entry).header.issuedAt);
    expect(new Set(dates())).toEqual(new Set([now]));
    alice.clock.correct(now);
    world.members.now = now + 7200;
    await rotation.rotate(alice, ["identity"], { reason: Reason.USER_REQUEST });
    world.members.now = now;
    await rotation.rotate(alice, [], { reason: Reason.DEVICE_LOST, revoke: [text(phone.device.id)] });
    expect([dates().at(-1), (await alice.chain()).time]).toEqual([now + 7200, now + 7200]);
  });
});

test("a row of a rotation is read as it was written, and nothing else is", () => {
  const made = record.newRotation({ id: new Uint8Array(16), parts: 5, reason: Reason.RECOVERY, revoke: [], since: 1, startedAt: 2 });
  expect(record.rotationFromSecret(record.rotationToSecret(made))).toEqual(made);
  for (const parts of [0, 16]) expect(() => record.rotationToSecret({ ...made, parts })).toThrow(RangeError);
  expect(() => record.rotationToSecret({ ...made, head: new Uint8Array(31) })).toThrow(RangeError);
  const octets = record.rotationToSecret(made).reveal();
  for (let at = 0; at < octets.length; at++)
    expect(() => record.rotationFromSecret(new SecretBytes(octets.slice(0, at)))).toThrow(Malformed);
  expect(() => record.rotationFromSecret(new SecretBytes(EMPTY))).toThrow(Malformed);
});

/** Alice's keys are those of the chain, all of them, and the phone can follow. */
async function requireWhole({ alice, phone }: Scene): Promise<void> {
  const state = await alice.chain();
  expect(state.aik.equals((await alice.identityKey()).public)).toBe(true);
  expect(state.formerAiks.length).toBe(1);
  expect([...state.devices.keys()].sort()).toEqual([hex(alice.device.id), hex(phone.device.id)].sort());
  const announced = state.generations.map((one) => [one.generation, hex(one.commitment)]);
  expect(announced.map(([number]) => number)).toEqual([1]);
  expect(alice.state.generations.map((one) => [one.number, hex(one.commitment)])).toEqual(announced);
  expect((await rotation.listRotations(alice)).map((one) => one.step)).toEqual([Step.DESTROY]);
  await letters.fetch(phone);
  await pairing.catchUp(phone);
  expect((await phone.identityKey()).public.equals(state.aik)).toBe(true);
  expect(phone.state.vault.key.equals(alice.state.vault.key)).toBe(true);
}

// Every how manieth moment is tried; all of them when HOLDFAST_CUTS is 1.
const STEP = Number(process.env["HOLDFAST_CUTS"] ?? 9);

test("a rotation survives its end at every moment", async () => {
  let at = 1, hasEnded = true;
  for (; hasEnded; at += STEP) {
    const { world, alice: before, bob, phone } = await scene(), moments = new Moments(at);
    await messages.send(bob, ALICE, utf8("on its way"));
    const store = before.store as RowsStore, what = [...EVERYTHING, "device"] as const;
    const cut = await world.opened(store, moments);
    const done = await moments.within(() => rotation.rotate(cut, what, { reason: Reason.USER_REQUEST }));
    hasEnded = done === undefined;
    // What is in memory is gone; what was committed is there, as a new page finds it.
    const alice = await world.opened(store.copy()), isBegun = (await rotation.resume(alice)).length > 0;
    if (isBegun || !hasEnded) await requireWhole({ world, alice, bob, phone });
    else if ((await rotation.listRotations(alice)).length > 0) await requireWhole({ world, alice, bob, phone });
    await exchange(alice, "on its way");
    await messages.send(bob, ALICE, utf8("afterwards"));
    await exchange(alice, "afterwards");
  }
  expect(at).toBeGreaterThan(60);
}, 600_000);
