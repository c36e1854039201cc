// SPDX-License-Identifier: Apache-2.0
/** Sessions in their store: at most four with a device, newest first, dropped with it, and gone when their time is over. */
import { beforeEach, describe, expect, test } from "vitest";
import { type Bytes, hex, utf8 } from "../../../src/core/base/bytes.js";
import { decode, encode, type Encodable, MAX_VAULT } from "../../../src/core/base/encoding.js";
import { SecretBytes } from "../../../src/core/base/secret.js";
import { sha256 } from "../../../src/core/crypto/hashing.js";
import type { ChainState } from "../../../src/core/identity/chain.js";
import { Session } from "../../../src/core/messages/session.js";
import type { Account } from "../../../src/client/profile/account.js";
import { MemoryStore, type Store } from "../../../src/client/profile/store.js";
import * as sessions from "../../../src/client/sessions/sessions.js";
import { octets, vectors } from "../../vectors.js";

const NOW = 1_800_000_000, DAY = 86_400;
const idOf = (name: string): Bytes => sha256(utf8(name)).slice(0, 16);
const [ALICE, BOB, CAROL] = ["alice", "bob", "carol"].map(idOf) as [Bytes, Bytes, Bytes];
const [LAPTOP, PHONE, TABLET] = ["laptop", "phone", "tablet"].map(idOf) as [Bytes, Bytes, Bytes];
const OWN = idOf("own device");

// A session of the published ones, before a message that leaves skipped keys, under other names and dates.
const EVENTS = vectors("ratchet").sessions[0].events as { state: string; skipped?: string }[];
const STATE = decode(octets((EVENTS[0] as { state: string }).state), MAX_VAULT) as Map<number, Encodable>;
let made = 0;
function session(of: { createdAt?: number; isLastResort?: boolean; sent?: number } = {}): Session {
  const { createdAt = NOW, isLastResort = false, sent = 0 } = of, name = `session ${++made}`;
  const changed = new Map([...STATE, [3, sha256(utf8(name))], [4, createdAt], [6, Number(isLastResort)], [7, sha256(utf8(`${name} initial`))], [9, sent]] as [number, Encodable][]);
  return Session.fromSecret(new SecretBytes(encode(changed)));
}

const at = (user: Bytes, device: Bytes): sessions.Address => ({ user, device });
const placeOf = (one: Session, peer: sessions.Address, own = OWN): sessions.Place => ({ peer, id: one.id, own });
const accountOf = (store: Store, now = NOW): Account =>
  ({ store, device: { id: OWN }, api: { clock: { latest: () => now } } }) as unknown as Account;

let store: MemoryStore;
beforeEach(() => {
  store = new MemoryStore({ tenant: idOf("acme"), user: CAROL });
});

async function begun(peer: sessions.Address, of: Parameters<typeof session>[0] = {}, own = OWN): Promise<Session> {
  const one = session(of);
  await sessions.put(store, placeOf(one, peer, own), one, { wasReceivedOn: true });
  return one;
}
const idsOf = async (peer: sessions.Address): Promise<string[]> => (await sessions.places(store, peer)).map(({ id }) => hex(id));

describe("the sessions with one device", () => {
  const peer = at(ALICE, LAPTOP);

  test("are four, the one received on last first, and what is beyond is destroyed with its rows", async () => {
    const all: Session[] = [];
    for (let count = 0; count < 6; count++) all.push(await begun(peer));
    const ids = all.map(({ id }) => hex(id));
    expect(await idsOf(peer)).toEqual(ids.slice(2).reverse());
    expect(await store.keys("session")).toHaveLength(sessions.MOST_SESSIONS);
    const third = all[2] as Session;
    await sessions.put(store, placeOf(third, peer), third, { wasReceivedOn: false });
    expect((await idsOf(peer))[0]).toBe(ids[5]);
    await sessions.put(store, placeOf(third, peer), third, { wasReceivedOn: true });
    expect(await idsOf(peer)).toEqual([ids[2], ids[5], ids[4], ids[3]]);
  });

  test("are sent on while they are young, and were begun with the device of now", async () => {
    const account = accountOf(store), old = await begun(peer, { createdAt: NOW - 7 * DAY });
    await begun(peer, {}, idOf("own device of before"));
    expect(await sessions.toSend(account, peer)).toBeUndefined();
    expect(hex(((await sessions.newest(account, peer)) as [sessions.Place, Session])[0].id)).toBe(hex(old.id));
    const young = await begun(peer, { createdAt: NOW - 7 * DAY + 1 });
    await begun(peer, { sent: 1000 });
    const [place, found] = (await sessions.toSend(account, peer)) as [sessions.Place, Session];
    expect([hex(place.id), hex(found.transcript)]).toEqual([hex(young.id), hex(young.transcript)]);
    expect(await sessions.newest(account, at(BOB, LAPTOP))).toBeUndefined();
  });

  test("have their skipped keys when they are to receive", async () => {
    const skipping = EVENTS.find(({ skipped }) => skipped !== undefined && octets(skipped).length > 2) as { skipped: string };
    const one = session();
    one.restoreSkipped(new SecretBytes(octets(skipping.skipped)));
    await store.put("session", sessions.keyOf(placeOf(one, peer)), one.toSecret());
    await store.put("skipped", sessions.keyOf(placeOf(one, peer)), one.skippedToSecret());
    const [sending, receiving] = (await Promise.all([false, true].map((forReceiving) => sessions.load(store, placeOf(one, peer), { forReceiving })))) as [Session, Session];
    expect(hex(receiving.skippedToSecret().reveal())).toBe(skipping.skipped);
    expect(hex(sending.skippedToSecret().reveal())).not.toBe(skipping.skipped);
    expect(await sessions.load(store, placeOf(session(), peer), { forReceiving: true })).toBeUndefined();
  });
});

describe("the sessions with people", () => {
  beforeEach(async () => {
    for (const peer of [at(ALICE, LAPTOP), at(ALICE, LAPTOP), at(ALICE, PHONE), at(BOB, TABLET)]) await begun(peer);
  });

  test("are found by user and by device", async () => {
    expect((await sessions.peers(store)).map(hex)).toEqual([hex(ALICE), hex(BOB)]);
    expect([(await sessions.placesOf(store, ALICE)).length, (await idsOf(at(ALICE, LAPTOP))).length]).toEqual([3, 2]);
  });

  test("are dropped with a device, or with all of a user's, and nobody else's", async () => {
    expect(await sessions.drop(store, ALICE, LAPTOP)).toBe(2);
    expect([(await sessions.placesOf(store, ALICE)).length, (await store.keys("session")).length]).toEqual([1, 2]);
    expect([await sessions.drop(store, ALICE), await sessions.drop(store, ALICE)]).toEqual([1, 0]);
    expect((await sessions.peers(store)).map(hex)).toEqual([hex(BOB)]);
  });

  test("go with the devices that a chain lists no longer", async () => {
    const state = { user: ALICE, devices: new Map([[hex(PHONE), new Uint8Array(32)]]) } as unknown as ChainState;
    expect((await sessions.gone(store, state)).map(hex)).toEqual([hex(LAPTOP)]);
    expect([await sessions.dropGone(store, state), await sessions.dropGone(store, state)]).toEqual([2, 0]);
    expect((await sessions.placesOf(store, ALICE)).map(({ peer }) => hex(peer.device))).toEqual([hex(PHONE)]);
  });
});

describe("an initial part", () => {
  const peer = at(ALICE, LAPTOP);

  test("leads to the session that it began, and one without a one-time key is known again", async () => {
    const plain = session(), replayable = session({ isLastResort: true });
    for (const one of [plain, replayable]) await sessions.rememberInitial(store, placeOf(one, peer), one, { now: NOW });
    const place = await sessions.route(store, plain.initialHash);
    expect(place && [hex(place.id), hex(place.own), hex(place.peer.device)]).toEqual([hex(plain.id), hex(OWN), hex(LAPTOP)]);
    expect(await sessions.route(store, new Uint8Array(32))).toBeUndefined();
    expect([await sessions.wasSeen(store, plain), await sessions.wasSeen(store, replayable)]).toEqual([false, true]);
  });

  test("without a one-time key is counted from a time on", async () => {
    for (const now of [NOW - 3 * DAY, NOW - DAY, NOW]) {
      const one = session({ isLastResort: true });
      await sessions.rememberInitial(store, placeOf(one, peer), one, { now });
    }
    expect([await sessions.lastResortsSince(store, NOW - DAY), await sessions.lastResortsSince(store, NOW - 9 * DAY)]).toEqual([2, 3]);
  });

  test("is forgotten when nobody can send it again, and of a clock that was ahead a life after that is seen", async () => {
    const life = sessions.INITIAL_LIFE_SECONDS;
    for (const now of [NOW, NOW + 1]) {
      const one = session();
      await sessions.rememberInitial(store, placeOf(one, peer), one, { now });
    }
    expect(await sessions.prune(store, sessions.INITIAL, { now: NOW + life - 1, life })).toBe(0);
    expect(await sessions.prune(store, sessions.INITIAL, { now: NOW + life, life })).toBe(1);
    const ahead = session();
    await sessions.rememberInitial(store, placeOf(ahead, peer), ahead, { now: NOW + 10 * 365 * DAY });
    await sessions.prune(store, sessions.INITIAL, { now: NOW + life + 1, life });
    expect(await store.keys(sessions.INITIAL)).toHaveLength(1);
    expect(await sessions.prune(store, sessions.INITIAL, { now: NOW + 2 * life, life })).toBe(0);
    expect(await sessions.prune(store, sessions.INITIAL, { now: NOW + 2 * life + 1, life })).toBe(1);
  });
});

test("sessions in which nothing can arrive any more are destroyed, and of a clock that was ahead dated today", async () => {
  const peer = at(ALICE, LAPTOP), life = sessions.SESSION_LIFE_SECONDS;
  await begun(peer, { createdAt: NOW - life });
  const last = await begun(peer, { createdAt: NOW - life + 1 }), ahead = await begun(peer, { createdAt: NOW + 9 * DAY });
  expect(await sessions.pruneSessions(store, { now: NOW })).toBe(1);
  expect(await idsOf(peer)).toEqual([hex(ahead.id), hex(last.id)]);
  expect((await sessions.load(store, placeOf(ahead, peer), { forReceiving: false }))?.createdAt).toBe(NOW);
  expect(await sessions.pruneSessions(store, { now: NOW + life })).toBe(2);
  expect([await sessions.peers(store), await store.keys("session")]).toEqual([[], []]);
});
