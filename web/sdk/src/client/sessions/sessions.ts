// SPDX-License-Identifier: Apache-2.0
/**
 * The sessions of this device with other devices, as rows of its store: at most four for each, newest first.
 *
 * docs/formats/messages.md (repeated initial parts, the seen-set) and docs/spec/protocol.md (a revoked device's go). Begins
 * no session and opens no message: `handshakes` and `inbox` do, inside the caller's transaction.
 */
import { type Bytes, concat, equal, hex } from "../../core/base/bytes.js";
import { decode, encode, type Encodable, MAX_BLOB, type Value } from "../../core/base/encoding.js";
import { decodeRow, encodeRow, layout, octets, openRow, sealRow, spread, uint } from "../../core/base/rows.js";
import { SecretBytes } from "../../core/base/secret.js";
import { readBack } from "../../core/base/writing.js";
import type { ChainState } from "../../core/identity/chain.js";
import { Session } from "../../core/messages/session.js";
import { MAX_AHEAD_SECONDS } from "../../core/signed/payloads.js";
import type { Account } from "../profile/account.js";
import type { Store } from "../profile/store.js";

/** With one device: both ends may begin at once, and again after a loss; Sesame keeps few as well. */
export const MOST_SESSIONS = 4;
/** An initial part may come again for as long as its signed pre-key's private half is kept: 30 days in use, 30 after. */
export const INITIAL_LIFE_SECONDS = 60 * 86_400;
/**
 * A session is sent on for 7 days from when its end has it, a message waits for 30 at most: the responder may have it 30
 * days late, so the initiator hears from it for 67.
 */
export const SESSION_LIFE_SECONDS = 67 * 86_400;
/** The kind of the rows by which an initial part is found again. */
export const INITIAL = "initial";
/** The kind of the rows of handshakes that used no key up. */
export const SEEN = "seen";
const PEER = "peer", SESSION = "session", SKIPPED = "skipped";
const MAX_INDEX = 64 * 1024; // bytes: four sessions with each of hundreds of devices
const MAX_ROW = 2 * MAX_BLOB; // bytes: what a used one-time key is kept with, a whole first message

/** One end of a session: a user and one of their devices, 16 bytes each. */
export interface Address {
  readonly user: Bytes;
  readonly device: Bytes;
}

/** How an end of a session lies in a row. */
export const ADDRESS = layout<Address>("address", { user: octets(16), device: octets(16) });

/** Tell whether two ends of sessions are the same device. */
export function isSameAddress(one: Address, other: Address): boolean {
  return equal(one.user, other.user) && equal(one.device, other.device);
}

/** Where a session lies: with whom, its 16-byte id, and the own device (16 bytes) that it was begun with. */
export interface Place {
  readonly peer: Address;
  readonly id: Bytes;
  readonly own: Bytes;
}

/** Return the key of a session's rows. */
export function keyOf({ peer, id }: Place): Bytes {
  return concat(peer.user, peer.device, id);
}

/** Where an initial part led, kept until nobody can send it again. until: UTC seconds, first in every such row. */
interface Initial {
  readonly until: number;
  readonly peer: Address;
  readonly id: Bytes;
  readonly own: Bytes;
}

const INITIAL_ROW = layout<Initial>("initial part", {
  until: uint(),
  peer: spread(ADDRESS),
  id: octets(16),
  own: octets(16),
});

/** One session in the index of a user: with which device, its 16-byte id, and the own device it was begun with. */
interface Seat {
  readonly device: Bytes;
  readonly id: Bytes;
  readonly own: Bytes;
}

const SEAT = layout<Seat>("peer", { device: octets(16), id: octets(16), own: octets(16) });

function isSamePlace(one: Place, other: Place): boolean {
  return isSameAddress(one.peer, other.peer) && equal(one.id, other.id) && equal(one.own, other.own);
}

/** Return the sessions with one device, the one received on most recently first. */
export async function places(store: Store, peer: Address): Promise<Place[]> {
  return (await indexOf(store, peer.user)).filter((place) => isSameAddress(place.peer, peer));
}

/** Return the sessions with all devices of a user (16 bytes). */
export function placesOf(store: Store, user: Bytes): Promise<Place[]> {
  return indexOf(store, user);
}

/** Return the users (16 bytes each) with whom there are sessions. */
export function peers(store: Store): Promise<Bytes[]> {
  return store.keys(PEER);
}

/** Return a session, with its skipped keys when it is to receive; they are left alone in sending. */
export async function load(
  store: Store,
  place: Place,
  { forReceiving }: { readonly forReceiving: boolean },
): Promise<Session | undefined> {
  const secret = await store.get(SESSION, keyOf(place));
  if (secret === undefined) return undefined;
  const session = Session.fromSecret(secret);
  const skipped = forReceiving ? await store.get(SKIPPED, keyOf(place)) : undefined;
  if (skipped !== undefined) session.restoreSkipped(skipped);
  return session;
}

/** Return the newest session of this device with another that is not due for a new handshake, or undefined. */
export async function toSend(account: Account, peer: Address): Promise<[Place, Session] | undefined> {
  const now = account.api.clock.latest();
  for (const place of await places(account.store, peer)) {
    if (!equal(place.own, account.device.id)) continue;
    const session = await load(account.store, place, { forReceiving: false });
    if (session !== undefined && !session.needsHandshake(now)) return [place, session];
  }
  return undefined;
}

/** Return the newest session of this device with another, also one that is due for a new handshake, or undefined. */
export async function newest(account: Account, peer: Address): Promise<[Place, Session] | undefined> {
  for (const place of await places(account.store, peer)) {
    if (!equal(place.own, account.device.id)) continue;
    const session = await load(account.store, place, { forReceiving: false });
    if (session !== undefined) return [place, session];
  }
  return undefined;
}

/** Write a session's rows. One that is new, or was received on, becomes the newest; beyond four the oldest goes. */
export async function put(
  store: Store,
  place: Place,
  session: Session,
  { wasReceivedOn }: { readonly wasReceivedOn: boolean },
): Promise<void> {
  await store.transaction(async () => {
    await store.put(SESSION, keyOf(place), session.toSecret());
    if (session.isSkippedChanged) await store.put(SKIPPED, keyOf(place), session.skippedToSecret());
    const index = await indexOf(store, place.peer.user);
    const ofDevice = index.filter((other) => isSameAddress(other.peer, place.peer));
    const at = ofDevice.findIndex((other) => isSamePlace(other, place));
    if (at >= 0 && (!wasReceivedOn || at === 0)) return;
    const ordered = [place, ...ofDevice.filter((_, index) => index !== at)];
    for (const old of ordered.slice(MOST_SESSIONS)) await destroy(store, old);
    const others = index.filter((other) => !isSameAddress(other.peer, place.peer));
    await write(store, place.peer.user, [...others, ...ordered.slice(0, MOST_SESSIONS)]);
  });
}

/** Destroy the sessions with one device of a user, or with all of them; returns how many there were. */
export function drop(store: Store, user: Bytes, device?: Bytes): Promise<number> {
  return store.transaction(async () => {
    const index = await indexOf(store, user);
    const isGone = (place: Place): boolean => device === undefined || equal(place.peer.device, device);
    const gone = index.filter(isGone);
    for (const place of gone) await destroy(store, place);
    if (gone.length > 0) await write(store, user, index.filter((place) => !isGone(place)));
    return gone.length;
  });
}

/** Return the devices with which there are sessions although the user's chain lists them no longer. */
export async function gone(store: Store, state: ChainState): Promise<Bytes[]> {
  const known = new Map((await indexOf(store, state.user)).map(({ peer }) => [hex(peer.device), peer.device]));
  return [...known].filter(([id]) => !state.devices.has(id)).map(([, device]) => device);
}

/** Destroy the sessions with every device that the user's chain no longer lists; returns how many there were. */
export async function dropGone(store: Store, state: ChainState): Promise<number> {
  const devices = await gone(store, state);
  if (devices.length === 0) return 0;
  return store.transaction(async () => {
    let count = 0;
    for (const device of devices) count += await drop(store, state.user, device);
    return count;
  });
}

/** Return the session that an initial part began here, found by its hash before any key is looked up. */
export async function route(store: Store, initialHash: Bytes): Promise<Place | undefined> {
  const row = await store.get(INITIAL, initialHash);
  if (row === undefined) return undefined;
  const { peer, id, own } = openRow(INITIAL_ROW, row);
  return { peer, id, own };
}

/** Keep the hash of the initial part of a session begun by the peer, and its transcript when no key was used up. */
export async function rememberInitial(
  store: Store,
  { peer, id, own }: Place,
  session: Session,
  { now }: { readonly now: number },
): Promise<void> {
  const until = now + INITIAL_LIFE_SECONDS;
  await store.put(INITIAL, session.initialHash, sealRow(INITIAL_ROW, { until, peer, id, own }));
  if (session.isLastResort) await store.put(SEEN, session.transcript, new SecretBytes(encode([until])));
}

/** Whether a handshake without a one-time key has begun a session here before: a replay. */
export async function wasSeen(store: Store, session: Session): Promise<boolean> {
  return (await store.get(SEEN, session.transcript)) !== undefined;
}

/** Count the sessions begun here without a one-time key from a time on, in UTC seconds. */
export async function lastResortsSince(store: Store, since: number): Promise<number> {
  let count = 0;
  for (const key of (await store.keys(SEEN)).reverse()) {
    if ((await rowOf(store, SEEN, key))[0] - INITIAL_LIFE_SECONDS < since) break;
    count += 1;
  }
  return count;
}

/**
 * Destroy the rows of a kind whose time, their first item, is over. They were written in the order of it.
 *
 * now: UTC seconds that were confirmed. life: the seconds that a row of now has. One of longer was written under a clock
 * that was ahead: it has that long from now on, and keeps none after it from its end.
 */
export function prune(
  store: Store,
  kind: string,
  { now, life }: { readonly now: number; readonly life: number },
): Promise<number> {
  return store.transaction(async () => {
    let destroyed = 0;
    for (const key of await store.keys(kind)) {
      const [until, rest] = await rowOf(store, kind, key);
      if (until > now + life + MAX_AHEAD_SECONDS) {
        await store.put(kind, key, new SecretBytes(encode([now + life, ...rest])));
      } else if (until > now) {
        break;
      } else {
        await store.delete(kind, key);
        destroyed += 1;
      }
    }
    return destroyed;
  });
}

/** Return the time in front of a row, and the rest of it. */
async function rowOf(store: Store, kind: string, key: Bytes): Promise<[until: number, rest: Encodable[]]> {
  const row = await store.get(kind, key), value = row && decode(row.reveal(), MAX_ROW);
  if (!Array.isArray(value)) throw new TypeError(`rows of ${kind} have no time in front`);
  const [until, ...rest] = value;
  if (typeof until !== "number") throw new TypeError(`rows of ${kind} have no time in front`);
  return [until, rest];
}

async function destroy(store: Store, place: Place): Promise<void> {
  await store.delete(SESSION, keyOf(place));
  await store.delete(SKIPPED, keyOf(place));
}

async function indexOf(store: Store, user: Bytes): Promise<Place[]> {
  const kept = await store.get(PEER, user), value: Value = kept === undefined ? [] : decode(kept.reveal(), MAX_INDEX);
  if (!Array.isArray(value)) throw new TypeError("the index of a user's sessions is no array");
  return value.map((row) => {
    const { device, id, own } = decodeRow(SEAT, row);
    return { peer: { user, device }, id, own };
  });
}

async function write(store: Store, user: Bytes, index: readonly Place[]): Promise<void> {
  if (index.length === 0) return store.delete(PEER, user);
  const rows = index.map(({ peer, id, own }) => encodeRow(SEAT, { device: peer.device, id, own }));
  return store.put(PEER, user, new SecretBytes(readBack(encode(rows), (written) => decode(written, MAX_INDEX))));
}

/**
 * Destroy sessions in which nothing can arrive any more, and skipped keys past their time; returns how many rows.
 *
 * now: UTC seconds that were confirmed. Nothing else does: receiving asks for no head of the log, and without one no clock
 * is believed to destroy.
 */
export function pruneSessions(store: Store, { now }: { readonly now: number }): Promise<number> {
  return store.transaction(async () => {
    let count = 0;
    for (const user of await peers(store))
      for (const place of await indexOf(store, user)) {
        const session = await load(store, place, { forReceiving: true });
        if (session === undefined || now - session.createdAt >= SESSION_LIFE_SECONDS) {
          await destroy(store, place);
          const left = (await indexOf(store, user)).filter((other) => !isSamePlace(other, place));
          await write(store, user, left);
          count += 1;
          continue;
        }
        if (session.createdAt > now + MAX_AHEAD_SECONDS) {
          // Begun under a clock that was ahead: it has its time from today.
          session.createdAt = now;
          await store.put(SESSION, keyOf(place), session.toSecret());
        }
        session.expire(now);
        if (session.isSkippedChanged) {
          await store.put(SKIPPED, keyOf(place), session.skippedToSecret());
          count += 1;
        }
      }
    return count;
  });
}
