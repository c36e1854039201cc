// SPDX-License-Identifier: Apache-2.0
/**
 * What was encrypted for one device and not taken by the server yet, and how long it is waited before the next try.
 *
 * "Acknowledged and sent again" of docs/formats/messages.md: a message is encrypted once for each session, since a session
 * opens only so many after one that it did not get. Sends nothing.
 */
import { type Bytes, concat, EMPTY, equal, hex } from "../../core/base/bytes.js";
import { MAX_BLOB } from "../../core/base/encoding.js";
import { layout, octets, openRow, sealRow, several, uint } from "../../core/base/rows.js";
import { MAX_ACKNOWLEDGED } from "../../core/messages/content.js";
import * as repeats from "../../core/messages/repeats.js";
import { type ClientError, Problem } from "../errors.js";
import type { Account } from "../profile/account.js";
import type { Store } from "../profile/store.js";
import type { Address, Place } from "../sessions/sessions.js";

const UNSENT = "unsent", PAUSE = "pause";

/** One message as it was encrypted. */
export interface Unsent {
  /** The 16-byte id of its session. */
  readonly session: Bytes;
  readonly message: Bytes;
  /** The ids that it acknowledges. */
  readonly acknowledged: readonly Bytes[];
}

const ROW = layout<Unsent>(
  "unsent message",
  { session: octets(16), message: octets(), acknowledged: several(octets(16), { maximum: MAX_ACKNOWLEDGED }) },
  { rowSize: 2 * MAX_BLOB },
);

/**
 * Keep a message for a device, in the transaction that writes its session.
 *
 * what: the key of what is sent again, empty for acknowledgements; one message is kept for each.
 */
export async function keep(store: Store, peer: Address, what: Bytes, row: Unsent): Promise<void> {
  await store.put(UNSENT, keyOf(peer, what), sealRow(ROW, row));
}

/** Return what was encrypted in a session and is not taken yet; undefined where it was in another, or not at all. */
export async function find(store: Store, place: Place, what: Bytes): Promise<Unsent | undefined> {
  const kept = await store.get(UNSENT, keyOf(place.peer, what)), row = kept && openRow(ROW, kept);
  return row && equal(row.session, place.id) ? row : undefined;
}

/** Destroy a message that is taken, or given up, and its wait; in the caller's transaction. */
export async function forget(store: Store, peer: Address, what: Bytes): Promise<void> {
  for (const kind of [UNSENT, PAUSE]) await store.delete(kind, keyOf(peer, what));
}

/** Destroy what was to be sent to a device again and is waited for no more, but for acknowledgements. */
export async function forgetOthers(store: Store, peer: Address, still: readonly Bytes[]): Promise<void> {
  const head = keyOf(peer, EMPTY), waited = new Set(still.map(hex));
  for (const kind of [UNSENT, PAUSE])
    for (const key of await store.keys(kind)) {
      const isOfDevice = key.length > head.length && equal(key.subarray(0, head.length), head);
      if (isOfDevice && !waited.has(hex(key.subarray(head.length)))) await store.delete(kind, key);
    }
}

// How long the server is left alone after a refusal

/** refused: how often in a row. until: UTC seconds. */
interface Pause {
  readonly refused: number;
  readonly until: number;
}

const PAUSE_ROW = layout<Pause>("pause", { refused: uint(), until: uint() });

/** Leave the server alone after a refusal, the longer the more there were. what: as in `keep`, empty for a device. */
export async function pause(account: Account, peer: Address, what: Bytes, error: ClientError): Promise<void> {
  const row = await load(account.store, keyOf(peer, what)), refused = (row?.refused ?? 0) + 1;
  const asked = error instanceof Problem ? error.retryAfter : 0;
  const until = account.api.clock.now() + repeats.pauseSeconds(refused, asked);
  await account.store.put(PAUSE, keyOf(peer, what), sealRow(PAUSE_ROW, { refused, until }));
}

/** Tell whether it is too early for another try. A clock that was ahead when it was refused holds up nothing for long. */
export async function isPaused(account: Account, peer: Address, what: Bytes = EMPTY): Promise<boolean> {
  const row = await load(account.store, keyOf(peer, what)), left = row ? row.until - account.api.clock.now() : 0;
  return left > 0 && left <= repeats.MOST_PAUSED_SECONDS;
}

/** Wait no more for a device: the server has taken all that could be sent to it. */
export async function resume(store: Store, peer: Address): Promise<void> {
  if ((await store.get(PAUSE, keyOf(peer, EMPTY))) !== undefined) await store.delete(PAUSE, keyOf(peer, EMPTY));
}

/** Destroy the waits that are over for as long as one lasts at most; returns how many. */
export async function prune(account: Account): Promise<number> {
  const now = account.api.clock.now(), { store } = account;
  let over = 0;
  for (const key of await store.keys(PAUSE)) {
    const row = await load(store, key);
    if (row === undefined || Math.abs(now - row.until) <= repeats.MOST_PAUSED_SECONDS) continue;
    await store.delete(PAUSE, key);
    over += 1;
  }
  return over;
}

async function load(store: Store, key: Bytes): Promise<Pause | undefined> {
  const kept = await store.get(PAUSE, key);
  return kept && openRow(PAUSE_ROW, kept);
}

function keyOf(peer: Address, what: Bytes): Bytes {
  return concat(peer.user, peer.device, what);
}
