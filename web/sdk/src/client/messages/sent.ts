// SPDX-License-Identifier: Apache-2.0
/**
 * What was sent and not acknowledged yet: kept sealed, message by message, for the devices that have not said so.
 *
 * "Acknowledged and sent again" of docs/formats/messages.md, on `core/messages/repeats`. Sends nothing, and believes an
 * acknowledgement of nobody but the device that it is from.
 */
import { type Bytes, concat, EMPTY, equal, hex } from "../../core/base/bytes.js";
import { flag, layout, octets, openRow, pair, sealRow, several, uint } from "../../core/base/rows.js";
import { uuidText } from "../../core/base/uuids.js";
import { ContentKind, decodeContent, nameOf } from "../../core/messages/content.js";
import * as repeats from "../../core/messages/repeats.js";
import { MAX_AHEAD_SECONDS } from "../../core/signed/payloads.js";
import type { Account } from "../profile/account.js";
import type { Store } from "../profile/store.js";
import type { Address } from "../sessions/sessions.js";
import * as reports from "./reports.js";
import { ReportKind } from "./reports.js";

const SENT = "sent", BODY = "sent-body", TOTAL = "sent-total";
const MAX_BODY = 2 * 1024 * 1024; // bytes of a row: large content beside the content that names it
const DAY = 86_400;
const USER = 16; // octets at the beginning of a key: to whom

/** A device, with the id of the session that it was sent in; empty where it is still to be sent. */
type Waiting = readonly [device: Bytes, session: Bytes];

/** One message to the devices of one user. Times are UTC seconds. */
export interface Sent {
  /** That user, and the message's name (`nameOf`), 16 bytes each. */
  readonly key: Bytes;
  /** When it was written. */
  readonly sentAt: number;
  /** When it was last sent again. */
  readonly triedAt: number;
  /** What it counts as. */
  readonly octets: number;
  /** By at least one device. */
  readonly isAcknowledged: boolean;
  /** Each device that has not acknowledged it. */
  readonly waiting: readonly Waiting[];
  /** Those of them that have acknowledged a later message. */
  readonly overtaken: readonly Bytes[];
  /** Of the message. */
  readonly id: Bytes;
}

const ROW = layout<Omit<Sent, "key">>("sent", {
  sentAt: uint(),
  triedAt: uint(),
  octets: uint(),
  isAcknowledged: flag(),
  waiting: several(pair(octets(16), octets([0, 16]))),
  overtaken: several(octets(16)),
  id: octets(16),
});

/** To whom a message is. */
export function userOf(row: Sent): Bytes {
  return row.key.slice(0, USER);
}

/** The devices that have not acknowledged a message. */
export function devicesOf(row: Sent): Bytes[] {
  return row.waiting.map(([device]) => device);
}

/** Return the session in which a device was sent it, empty before it was; undefined when it is not waited for. */
export function sessionWith(row: Sent, device: Bytes): Bytes | undefined {
  return row.waiting.find(([other]) => equal(other, device))?.[1];
}

/** What is sent again: the encoded content, and the large ciphertext that it names, or none. */
export interface Body {
  readonly plaintext: Bytes;
  readonly content: Bytes;
}

const BODY_ROW = layout<Body>("sent message", { plaintext: octets(), content: octets() }, { rowSize: MAX_BODY });

/** A message that is kept here since not every device of `user` has said that it is there. */
export interface Unconfirmed {
  /** 16 bytes. */
  readonly id: Bytes;
  /** 16 bytes. A message to oneself is a copy. */
  readonly user: Bytes;
  readonly sentAt: Date;
  /** Those that have not, 16 bytes each. */
  readonly devices: readonly Bytes[];
  /** Whether at least one has. */
  readonly isConfirmed: boolean;
}

/**
 * Keep a message until its devices have acknowledged it, in the transaction that encrypts it for them.
 *
 * at: when it was written. places: each device, with the id of the session that it is sent in. What is not for a person is
 * not kept.
 */
export async function keep(
  account: Account,
  user: Bytes,
  what: Body,
  of: { at: number; places: readonly Waiting[] },
): Promise<void> {
  const said = decodeContent(what.plaintext);
  if (said.kind !== ContentKind.BYTES && said.kind !== ContentKind.LARGE) return;
  const { store } = account, key = concat(user, nameOf(said)), before = await load(store, key);
  // Encrypted anew: it keeps its place among the others.
  if (before) await count(store, -before.octets);
  const row: Sent = {
    key,
    sentAt: of.at,
    triedAt: of.at,
    octets: repeats.counted(what.plaintext.length + what.content.length),
    isAcknowledged: false,
    waiting: of.places,
    overtaken: [],
    id: said.messageId,
  };
  await save(store, row);
  await store.put(BODY, key, sealRow(BODY_ROW, what));
  await count(store, row.octets);
  if ((await total(store)) > repeats.KEPT_OCTETS) await trim(account);
}

/** Keep a message no longer, in the caller's transaction: it was never sent, or nobody is waited for. */
export async function forget(store: Store, user: Bytes, name: Bytes): Promise<void> {
  const row = await load(store, concat(user, name));
  if (row) await drop(store, row);
}

/**
 * Take a device's word that it has messages of this one, in the caller's transaction.
 *
 * names: `nameOf` of each; one of nothing that was sent to its user changes nothing. What was kept before one that the
 * device has, and is not among them, is noted as overtaken by it: told by the order of the rows, for a second may have many.
 */
export async function acknowledge(account: Account, sender: Address, names: readonly Bytes[]): Promise<void> {
  const { store } = account, named = new Set(names.map(hex));
  const keys = (await store.keys(SENT)).filter((key) => equal(key.subarray(0, USER), sender.user));
  const had = keys.map((key) => named.has(hex(key.subarray(USER))));
  for (const [at, key] of keys.slice(0, had.lastIndexOf(true) + 1).entries()) {
    const row = (await load(store, key)) as Sent;
    if (had[at]) {
      const waiting = row.waiting.filter(([device]) => !equal(device, sender.device));
      await saveOrDrop(store, { ...row, isAcknowledged: true, waiting });
    } else if (includes(devicesOf(row), sender.device) && !includes(row.overtaken, sender.device)) {
      await save(store, { ...row, overtaken: [...row.overtaken, sender.device] });
    }
  }
}

function includes(devices: readonly Bytes[], device: Bytes): boolean {
  return devices.some((other) => equal(other, device));
}

/**
 * Have what was overtaken, and not sent again within a day, be due again, in the caller's transaction.
 *
 * Returns the devices that it is due to.
 */
export async function findLost(account: Account): Promise<Address[]> {
  const now = account.api.clock.now(), found = new Map<string, Address>();
  for (const row of await all(account.store)) {
    // One that was tried in the future, by a clock that was ahead, is due as well. Without a session it is due already, or
    // waited for no longer.
    if (Math.abs(now - row.triedAt) < DAY) continue;
    const lost = row.overtaken.filter((device) => (sessionWith(row, device)?.length ?? 0) > 0);
    if (lost.length === 0) continue;
    const waiting = row.waiting.map(([device, session]): Waiting => [device, includes(lost, device) ? EMPTY : session]);
    await save(account.store, { ...row, waiting });
    note(found, row, lost);
  }
  return [...found.values()];
}

function note(found: Map<string, Address>, row: Sent, devices: readonly Bytes[]): void {
  const user = userOf(row);
  for (const device of devices) found.set(hex(user) + hex(device), { user, device });
}

/**
 * Have all that was last sent before a time (UTC seconds), and is not acknowledged, be due again.
 *
 * In the caller's transaction: the server may have lost it. Returns the devices that it is due to, each of which delivers
 * once what it has already.
 */
export async function findGivenUp(account: Account, before: number): Promise<Address[]> {
  const found = new Map<string, Address>();
  for (const row of await all(account.store)) {
    if (row.triedAt > before) continue;
    await save(account.store, { ...row, waiting: row.waiting.map(([device]): Waiting => [device, EMPTY]) });
    note(found, row, devicesOf(row));
  }
  return [...found.values()];
}

/**
 * Wait for those devices alone that a user's chain lists, in the caller's transaction.
 *
 * listed: of 16 bytes each, without this one. What nobody has acknowledged is due to the devices that remain; where the
 * chain lists none for now, to those that come within its month. Returns those that are to be sent something.
 */
export async function revise(account: Account, user: Bytes, listed: readonly Bytes[]): Promise<Bytes[]> {
  const due = new Map<string, Bytes>();
  for (const row of await ofUser(account.store, user)) {
    // Of a recovery the server may show the half that removes the devices: nothing is given up by that unsaid.
    if (listed.length === 0 && !row.isAcknowledged && !equal(user, account.user)) continue;
    const before = devicesOf(row), still = repeats.stillDue(before, listed, row.isAcknowledged);
    if (still.length === before.length && still.every((device) => includes(before, device))) continue;
    for (const device of still) if (!includes(before, device)) due.set(hex(device), device);
    const waiting = still.map((device): Waiting => [device, sessionWith(row, device) ?? EMPTY]);
    await saveOrDrop(account.store, { ...row, waiting });
  }
  return [...due.values()];
}

/**
 * Return each user to whom something was sent, with the devices that are waited for; 16 bytes each.
 *
 * Of all users at once: looked up for each by itself, the rows would be gone through once for every user.
 */
export async function devicesOfUsers(store: Store): Promise<[user: Bytes, devices: Bytes[]][]> {
  const found = new Map<string, [Bytes, Map<string, Bytes>]>();
  for (const row of await all(store)) {
    const user = userOf(row), of = found.get(hex(user)) ?? [user, new Map<string, Bytes>()];
    found.set(hex(user), of);
    for (const device of devicesOf(row)) of[1].set(hex(device), device);
  }
  return [...found.values()].map(([user, devices]) => [user, [...devices.values()]]);
}

/** Return the users (16 bytes each) to whom something was sent that is not acknowledged by all. */
export async function users(store: Store): Promise<Bytes[]> {
  const found = new Map<string, Bytes>();
  for (const key of await store.keys(SENT)) found.set(hex(key.subarray(0, USER)), key.slice(0, USER));
  return [...found.values()];
}

/** Return what a device has not acknowledged and may still be sent, oldest first. */
export async function waitingFor(account: Account, peer: Address): Promise<Sent[]> {
  const rows = await ofUser(account.store, peer.user);
  return rows.filter((row) => sessionWith(row, peer.device) !== undefined && !isOver(account, row));
}

/** Return what is sent again. */
export async function body(store: Store, row: Sent): Promise<Body> {
  const kept = await store.get(BODY, row.key);
  if (kept === undefined) throw new RangeError("no such message is kept");
  return openRow(BODY_ROW, kept);
}

/** Note in which session (its 16-byte id) a message was sent to a device again. */
export async function sentAgain(account: Account, row: Sent, device: Bytes, session: Bytes): Promise<void> {
  const waiting = row.waiting.map(([other, was]): Waiting => [other, equal(other, device) ? session : was]);
  await save(account.store, { ...row, waiting, triedAt: account.api.clock.now() });
}

/** Wait for a device no more, in the caller's transaction: the server never takes this message for it. */
export async function giveUpOn(store: Store, row: Sent, device: Bytes): Promise<void> {
  await saveOrDrop(store, { ...row, waiting: row.waiting.filter(([other]) => !equal(other, device)) });
}

/** Return what is kept, oldest first. */
export async function unconfirmed(account: Account): Promise<Unconfirmed[]> {
  return (await oldestFirst(account.store)).map((row) => ({
    id: row.id,
    user: userOf(row),
    sentAt: new Date(row.sentAt * 1000),
    devices: devicesOf(row),
    isConfirmed: row.isAcknowledged,
  }));
}

/** Tell whether something has waited for 30 days. */
export async function isDue(account: Account): Promise<boolean> {
  return (await all(account.store)).some((row) => isOver(account, row));
}

/** Destroy what has waited for 30 days, each told if no device has it; returns how many there were. */
export async function expire(account: Account): Promise<number> {
  const now = account.api.clock.confirmed(), rows = await all(account.store);
  const over = rows.filter((row) => isOver(account, row));
  await account.store.transaction(async () => {
    for (const row of over) await giveUp(account, row);
    // Written under a clock that was ahead: its month begins today.
    if (now !== undefined)
      for (const row of rows)
        if (row.sentAt > now + MAX_AHEAD_SECONDS) await save(account.store, { ...row, sentAt: now });
  });
  return over.length;
}

/** Tell whether its month is over, by a confirmed time: a clock that jumps gives no message up. */
function isOver(account: Account, row: Sent): boolean {
  const now = account.api.clock.confirmed();
  return now !== undefined && now - row.sentAt >= repeats.KEPT_SECONDS;
}

async function trim(account: Account): Promise<void> {
  for (const row of await oldestFirst(account.store)) {
    if ((await total(account.store)) <= repeats.KEPT_OCTETS) return;
    await giveUp(account, row);
  }
}

async function giveUp(account: Account, row: Sent): Promise<void> {
  await drop(account.store, row);
  // A copy that an own device never took is no message that somebody does not have.
  if (row.isAcknowledged || equal(userOf(row), account.user)) return;
  const written = new Date(row.sentAt * 1000).toISOString();
  await reports.add(
    account,
    ReportKind.NOT_CONFIRMED,
    `Not confirmed: no device has said that it has the message that you wrote to ${uuidText(userOf(row))} on ` +
      `${written.slice(0, 10)} at ${written.slice(11, 16)} UTC (${hex(row.id)}).`,
    {
      wayOut: "It is kept here no longer. Ask the person whether it came, and send it again if it still matters.",
      user: userOf(row),
    },
  );
}

async function all(store: Store): Promise<Sent[]> {
  const found: Sent[] = [];
  for (const key of await store.keys(SENT)) {
    const row = await load(store, key);
    if (row) found.push(row);
  }
  return found;
}

async function oldestFirst(store: Store): Promise<Sent[]> {
  return (await all(store)).sort((one, other) => one.sentAt - other.sentAt);
}

async function ofUser(store: Store, user: Bytes): Promise<Sent[]> {
  const found: Sent[] = [];
  for (const key of await store.keys(SENT)) {
    const row = equal(key.subarray(0, USER), user) ? await load(store, key) : undefined;
    if (row) found.push(row);
  }
  return found;
}

async function load(store: Store, key: Bytes): Promise<Sent | undefined> {
  const kept = await store.get(SENT, key);
  return kept && { key, ...openRow(ROW, kept) };
}

async function save(store: Store, row: Sent): Promise<void> {
  await store.put(SENT, row.key, sealRow(ROW, row));
}

async function saveOrDrop(store: Store, row: Sent): Promise<void> {
  await (row.waiting.length > 0 ? save(store, row) : drop(store, row));
}

async function drop(store: Store, row: Sent): Promise<void> {
  await store.delete(SENT, row.key);
  await store.delete(BODY, row.key);
  await count(store, -row.octets);
}

const TOTAL_ROW = layout<{ readonly octets: number }>("sent total", { octets: uint() });

async function total(store: Store): Promise<number> {
  const kept = await store.get(TOTAL, EMPTY);
  return kept ? openRow(TOTAL_ROW, kept).octets : 0;
}

async function count(store: Store, octets: number): Promise<void> {
  await store.put(TOTAL, EMPTY, sealRow(TOTAL_ROW, { octets: Math.max(0, (await total(store)) + octets) }));
}
