// SPDX-License-Identifier: Apache-2.0
/**
 * What is owed to each device that writes to this one: acknowledgements, a session begun anew, what it did not read.
 *
 * The rows of "Acknowledged and sent again" of docs/formats/messages.md, on `core/messages/repeats`. Sends nothing;
 * `settling` does, once what came is safe.
 */
import { type Bytes, concat, EMPTY, equal, hex, unhex } from "../../core/base/bytes.js";
import { encode, MAX_BLOB } from "../../core/base/encoding.js";
import { flag, layout, octets, openRow, sealRow, several, uint } from "../../core/base/rows.js";
import { SecretBytes } from "../../core/base/secret.js";
import * as repeats from "../../core/messages/repeats.js";
import type { Session } from "../../core/messages/session.js";
import type { Account } from "../profile/account.js";
import type { Store } from "../profile/store.js";
import type { Address, Place } from "../sessions/sessions.js";
import { type Quota, trim } from "./quotas.js";
import * as unsent from "./unsent.js";

const RENEWAL = "renewal", OWED = "owed-acknowledgement";
// Devices in whose name something came that did not open. The server names them, so there is an end; whoever is one too
// many stands in a report like every other.
const MOST = 1000;
// What was read and could not be acknowledged yet, since the server is away. Who is above it is sent nothing twice that
// would be lost: their device sends again what is not acknowledged, and is told then.
const OWED_QUOTA: Quota = { ofOne: 2000, ofAll: 10_000 };

/** What is owed to one device. Times are UTC seconds. */
export interface Renewal {
  readonly peer: Address;
  /** Whether something of it did not open. */
  readonly isUnread: boolean;
  /** The 16-byte id of the session begun last, or none. */
  readonly session: Bytes;
  /** That session's first message while the server has not taken it, or none. */
  readonly greeting: Bytes;
  /** When a session with it was tried. */
  readonly begun: readonly number[];
  /** Whether it has begun anew, and awaits an answer. */
  readonly isGreeted: boolean;
  /** When its greetings were answered. */
  readonly answered: readonly number[];
  /** Whether what it has not acknowledged is to be sent again. */
  readonly isAgain: boolean;
}

const ROW = layout<Omit<Renewal, "peer">>(
  "renewal",
  {
    isUnread: flag(),
    session: octets([0, 16]),
    greeting: octets(),
    begun: several(uint(), { maximum: 64 }),
    isGreeted: flag(),
    answered: several(uint(), { maximum: 64 }),
    isAgain: flag(),
  },
  { rowSize: 2 * MAX_BLOB },
);
const NOTHING: Omit<Renewal, "peer"> = {
  isUnread: false, session: EMPTY, greeting: EMPTY, begun: [], isGreeted: false, answered: [], isAgain: false,
};

/** Tell whether there is anything to send. */
export function isOwed(row: Renewal): boolean {
  return row.isUnread || row.greeting.length > 0 || row.isGreeted || row.isAgain;
}

/** Return what is owed to a device. */
export async function load(store: Store, peer: Address): Promise<Renewal> {
  const kept = await store.get(RENEWAL, keyOf(peer));
  return { peer, ...(kept ? openRow(ROW, kept) : NOTHING) };
}

/** Write what is owed to a device, or destroy the row of one to which nothing is, a day after the last. */
export async function save(account: Account, row: Renewal): Promise<void> {
  const now = account.api.clock.now(), key = keyOf(row.peer);
  const begun = repeats.ofTheDay(row.begun, now), answered = repeats.ofTheDay(row.answered, now);
  if (isOwed(row) || begun.length > 0 || answered.length > 0)
    await account.store.put(RENEWAL, key, sealRow(ROW, { ...row, begun, answered }));
  else await account.store.delete(RENEWAL, key);
}

async function change(account: Account, peer: Address, by: Partial<Renewal>): Promise<Renewal> {
  const row = { ...(await load(account.store, peer)), ...by };
  await save(account, row);
  return row;
}

/**
 * Note that something in another device's name did not open, in the caller's transaction.
 *
 * Nobody is believed by it: `settling` asks that device's own account, and bounds how often. False where nothing comes of
 * it: in this device's own name, and when there are too many names.
 */
export async function noteUnread(account: Account, peer: Address): Promise<boolean> {
  if (equal(peer.device, account.device.id)) return false;
  const keys = await account.store.keys(RENEWAL), own = keyOf(peer);
  if (keys.length >= MOST && !keys.some((key) => equal(key, own))) return false;
  await change(account, peer, { isUnread: true });
  return true;
}

/** Note that a message opened: in the session begun last, what was unread before it was sent before it. */
export async function noteOpened(account: Account, peer: Address, session: Session): Promise<void> {
  const row = await load(account.store, peer);
  if (row.isUnread && equal(row.session, session.id)) await save(account, { ...row, isUnread: false });
}

/** Note that a device has begun a session anew, as one that could not read what it was sent. */
export async function noteGreeted(account: Account, peer: Address): Promise<void> {
  await change(account, peer, { isGreeted: true });
}

/** Note that what a device has not acknowledged is to be sent to it again. */
export async function noteAgain(account: Account, peer: Address): Promise<void> {
  await change(account, peer, { isAgain: true });
}

/** Note that a key of a device is about to be claimed: it is used up also where no session comes of it. */
export async function noteTried(account: Account, peer: Address): Promise<void> {
  const row = await load(account.store, peer);
  await save(account, { ...row, begun: [...row.begun, account.api.clock.now()] });
}

/** Note the session that was begun anew with a device, and its first message, until the server has taken that. */
export function noteBegun(account: Account, peer: Address, place: Place, greeting: Bytes): Promise<Renewal> {
  return change(account, peer, { isUnread: false, session: place.id, greeting, isAgain: true });
}

/** How many sessions were tried within a day, by the users of the devices. */
export class Begun {
  readonly #counts = new Map<string, number>();

  /** Count some more of a user (16 bytes). */
  add(user: Bytes, more = 1): void {
    this.#counts.set(hex(user), this.of(user) + more);
  }

  /** Return how many were of a user. */
  of(user: Bytes): number {
    return this.#counts.get(hex(user)) ?? 0;
  }

  /** Return how many there were of all. */
  get total(): number {
    return [...this.#counts.values()].reduce((sum, count) => sum + count, 0);
  }

  /** Return the users (16 bytes each), with how many were of each. */
  users(): [user: Bytes, count: number][] {
    return [...this.#counts].map(([user, count]) => [unhex(user), count]);
  }
}

/** Count the sessions that were tried within a day, by the users of the devices. */
export async function begunOfAll(account: Account): Promise<Begun> {
  const now = account.api.clock.now(), found = new Begun();
  for (const key of await account.store.keys(RENEWAL)) {
    const row = await load(account.store, addressOf(key)), today = repeats.ofTheDay(row.begun, now);
    if (today.length > 0) found.add(row.peer.user, today.length);
  }
  return found;
}

/** Owe a device nothing more, in the caller's transaction. */
export async function forget(store: Store, peer: Address): Promise<void> {
  await store.delete(RENEWAL, keyOf(peer));
  await unsent.forget(store, peer, EMPTY);
  await unsent.forgetOthers(store, peer, []);
  await settle(store, peer, await owed(store, peer));
}

/** Destroy rows that bound nothing any more; returns how many. */
export async function prune(account: Account): Promise<number> {
  const { store } = account, before = await store.keys(RENEWAL);
  await store.transaction(async () => {
    for (const key of before) await save(account, await load(store, addressOf(key)));
  });
  return before.length - (await store.keys(RENEWAL)).length;
}

// Acknowledgements

/** Owe a device the acknowledgement of a message (16 bytes) that an app has taken, in the caller's transaction. */
export async function owe(store: Store, peer: Address, messageId: Bytes): Promise<void> {
  await store.put(OWED, concat(keyOf(peer), messageId), new SecretBytes(encode(1)));
  await trim(store, OWED, OWED_QUOTA);
}

/** Return the ids that a device is owed, oldest first. */
export async function owed(store: Store, peer: Address): Promise<Bytes[]> {
  const head = keyOf(peer);
  const keys = (await store.keys(OWED)).filter((key) => equal(key.subarray(0, head.length), head));
  return keys.map((key) => key.slice(head.length));
}

/** Owe a device these acknowledgements no more, in the caller's transaction. */
export async function settle(store: Store, peer: Address, messageIds: readonly Bytes[]): Promise<void> {
  for (const messageId of messageIds) await store.delete(OWED, concat(keyOf(peer), messageId));
}

/** Return the devices to which something is owed. */
export async function peers(store: Store): Promise<Address[]> {
  const found = new Map<string, Address>();
  for (const key of await store.keys(OWED)) found.set(hex(key.subarray(0, 32)), addressOf(key));
  for (const key of await store.keys(RENEWAL))
    if (!found.has(hex(key)) && isOwed(await load(store, addressOf(key)))) found.set(hex(key), addressOf(key));
  return [...found.values()];
}

function keyOf(peer: Address): Bytes {
  return concat(peer.user, peer.device);
}

function addressOf(key: Bytes): Address {
  return { user: key.slice(0, 16), device: key.slice(16, 32) };
}
