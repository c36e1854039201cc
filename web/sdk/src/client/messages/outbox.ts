// SPDX-License-Identifier: Apache-2.0
/**
 * Messages on their way: encrypted for each device, stored beside the new session state, and only then sent.
 *
 * docs/formats/messages.md ("Sending"). Does not know what a message says; `messages` makes contents, and `inbox` reads
 * them.
 */
import { type Bytes, EMPTY, equal, hex, unhex } from "../../core/base/bytes.js";
import { b64u } from "../../core/base/encoding.js";
import { layout, octets, openRow, pair, sealRow, several, uint } from "../../core/base/rows.js";
import { randomBytes } from "../../core/crypto/webcrypto.js";
import { type ChainState, headOf } from "../../core/identity/chain.js";
import { uuidText } from "../../core/base/uuids.js";
import { decodeContent, nameOf } from "../../core/messages/content.js";
import type { Session } from "../../core/messages/session.js";
import { ClientError, NotYet, Problem, ServerReadOnly, TrustRefused, Unreachable } from "../errors.js";
import * as chains from "../identity/chains.js";
import * as peers from "../identity/peers.js";
import type { Account } from "../profile/account.js";
import * as sessions from "../sessions/sessions.js";
import type { Place } from "../sessions/sessions.js";
import { Overtaken, retry } from "../waiting.js";
import * as bundles from "./bundles.js";
import * as handshakes from "./handshakes.js";
import * as inbox from "./inbox.js";
import * as prekeys from "./prekeys.js";
import { add, ReportKind } from "./reports.js";
import * as sent from "./sent.js";

/** Rows: messages that the server has not taken yet. */
export const OUTBOX = "outbox";
const MAX_ROW = 2 * 1024 * 1024; // bytes: large content and an envelope for each of 64 devices
/** Codes by which the server speaks of a message's own bytes, and would again: anything else may pass. */
export const FINAL: ReadonlySet<string> = new Set([
  "invalid", "invalid-json", "malformed", "malformed-request", "out-of-bounds", "too-large",
]);
// Refused otherwise, by what should pass: an account that is put back, a server that is older or newer. Not for ever.
const REFUSED_SECONDS = 30 * 86_400;
/** Statuses by which the server refuses a message. */
export const REFUSED: ReadonlySet<number> = new Set([400, 404, 413, 422]);
const ENDLESS = "The message waits here and goes out by itself later. If this goes on, tell your officers.";
/** What the person can do to whom nobody can write. */
export const NO_DEVICE = "Ask the person to use one of their devices: `client.maintain()` there publishes its keys.";

/** Everyone that a message for one user goes to: sessions with their devices, under the chain that lists them. */
export interface Ready {
  readonly state: ChainState;
  /** By device in hex: sessions begun for this message. */
  readonly chosen: ReadonlyMap<string, readonly [Place, Session]>;
  /** Devices (16 bytes) that have published no keys, so that nobody can write to them yet. */
  readonly withoutKeys: readonly Bytes[];
}

/** One message in the outbox. */
export interface OutboxRow {
  /** Of the row. */
  readonly key: Bytes;
  /** The idempotency key, another one for each time it is encrypted. */
  readonly act: Bytes;
  readonly queuedAt: number;
  readonly user: Bytes;
  /** The chain head that it was encrypted for. */
  readonly head: Bytes;
  /** The content, should it have to be encrypted anew. */
  readonly plaintext: Bytes;
  /** Large ciphertext, or none. */
  readonly content: Bytes;
  readonly envelopes: readonly (readonly [device: Bytes, message: Bytes])[];
  /** Of one's own, in whose sessions it is encrypted. */
  readonly device: Bytes;
}

const ROW = layout<Omit<OutboxRow, "key">>(
  "outbox",
  {
    act: octets(16),
    queuedAt: uint(),
    user: octets(16),
    head: octets(32),
    plaintext: octets(),
    content: octets(),
    envelopes: several(pair(octets(16), octets())),
    device: octets(16),
  },
  { rowSize: MAX_ROW },
);

/** Read a row of the outbox that is there. */
export async function loadRow(account: Account, key: Bytes): Promise<OutboxRow> {
  const kept = await account.store.get(OUTBOX, key);
  if (kept === undefined) throw new RangeError("no such row in the outbox");
  return { key, ...openRow(ROW, kept) };
}

/** What is posted. */
function documentOf(row: OutboxRow): Record<string, unknown> {
  const envelopes = row.envelopes.map(([device, message]) => ({ device_id: uuidText(device), message: b64u(message) }));
  return { chain_head: b64u(row.head), envelopes, ...(row.content.length > 0 ? { content: b64u(row.content) } : {}) };
}

/** The server refused a message itself, and would again. Caught by `flush`. */
class RefusedForGood extends Error {
  constructor(readonly problem: Problem) {
    super(problem.message);
  }
}

/** What became of the outbox, by the rows' keys in hex. */
export interface Flushed {
  /** With the devices (16 bytes each) that it went to in the end. */
  readonly sent: Map<string, Bytes[]>;
  /** What the next flush sends. */
  waiting: Bytes[];
  /** What is never sent, or not before a person acts (that waits as well). */
  readonly refused: Map<string, ClientError>;
  /** Whether the server did not answer, or takes nothing from anybody. */
  isCutOff: boolean;
}

/**
 * Have a session with each active device of a user, this one left out; claims bundles where there is none.
 *
 * anew: begin a session with every device, whether there is one or not. Rejects with PeerChanged, TrustRefused.
 */
export async function prepare(
  account: Account,
  user: Bytes,
  { anew = false }: { readonly anew?: boolean } = {},
): Promise<Ready> {
  let state = await chainOf(account, user), begun = new Map<string, readonly [Place, Session]>();
  const attempt = async (): Promise<Ready> => {
    const lacking: Bytes[] = [];
    for (const device of devicesOf(account, state))
      if (!begun.has(hex(device)) && (anew || !(await sessions.toSend(account, { user, device })))) lacking.push(device);
    if (lacking.length > 0) {
      const [newest, claimed] = await bundles.claimDevices(account, state, lacking, { refresh });
      if (!equal(headOf(newest), headOf(state))) {
        // They added or revoked a device in between: who is to get the message is looked at again.
        state = newest;
        begun = new Map();
        throw new Overtaken();
      }
      for (const bundle of claimed) begun.set(hex(bundle.device), await handshakes.begin(account, state, bundle));
    }
    return { state, chosen: begun, withoutKeys: lacking.filter((device) => !begun.has(hex(device))) };
  };
  const lost = new TrustRefused("The server keeps naming newer chains than it shows.", { wayOut: ENDLESS });
  return retry(attempt, { lost });
}

/** The devices that a chain lists, in its order, without this one. */
function devicesOf(account: Account, state: ChainState): Bytes[] {
  return [...state.devices.keys()].map(unhex).filter((device) => !equal(device, account.device.id));
}

/** Return a user's chain, fetched lately; without a server, as it is known, for a message that waits here anyway. */
async function chainOf(account: Account, user: Bytes): Promise<ChainState> {
  if (await peers.isFresh(account, user)) return peers.current(account, user);
  try {
    return await refresh(account, user);
  } catch (error) {
    const state = error instanceof Unreachable ? await peers.findKnown(account, user) : undefined;
    if (state === undefined) throw error;
    return state;
  }
}

/** Fetch a user's chain; what has come before is read first, for revoked devices' sessions go with the fetch. */
async function refresh(account: Account, user: Bytes): Promise<ChainState> {
  await inbox.collect(account);
  const state = await peers.refresh(account, user);
  await peers.requireShown(account, user);
  return state;
}

/**
 * Encrypt a message for everyone, and keep it with the new state of the sessions, in the caller's transaction.
 *
 * plaintext: an encoded content. replaced: the row that this one takes the place of. Returns the row's key, or undefined
 * when nobody can be written to. Nothing has left this device then: `flush` sends.
 */
export async function queue(
  account: Account,
  ready: Ready,
  plaintext: Bytes,
  content: Bytes = EMPTY,
  replaced?: { readonly key: Bytes; readonly queuedAt: number },
): Promise<Bytes | undefined> {
  const envelopes: [Bytes, Bytes][] = [], went: [Bytes, Bytes][] = [];
  const skipped = new Set(ready.withoutKeys.map(hex)), { user } = ready.state;
  for (const device of devicesOf(account, ready.state)) {
    const found = ready.chosen.get(hex(device)) ?? (await sessions.toSend(account, { user, device }));
    if (skipped.has(hex(device)) || found === undefined) continue;
    const [place, session] = found;
    envelopes.push([device, await session.encrypt(plaintext)]);
    went.push([device, place.id]);
    await sessions.put(account.store, place, session, { wasReceivedOn: false });
  }
  if (envelopes.length === 0) return undefined;
  const key = replaced?.key ?? randomBytes(16), queuedAt = replaced?.queuedAt ?? account.api.clock.latest();
  const row = {
    act: randomBytes(16),
    queuedAt,
    user,
    head: headOf(ready.state),
    plaintext,
    content,
    envelopes,
    device: account.device.id,
  };
  await account.store.put(OUTBOX, key, sealRow(ROW, row));
  // Before it leaves: its acknowledgement may come before the answer to the request that sent it does.
  await sent.keep(account, user, { plaintext, content }, { at: queuedAt, places: went });
  return key;
}

/**
 * Send what waits, oldest first, each as it was encrypted. What cannot be sent now stays; nothing is sent twice.
 *
 * Before a device has published its pre-keys it sends nothing, since nobody could answer: they are published first.
 */
export async function flush(account: Account): Promise<Flushed> {
  const done: Flushed = { sent: new Map(), waiting: [], refused: new Map(), isCutOff: false };
  const keys = await account.store.keys(OUTBOX);
  for (const [at, key] of keys.entries()) {
    try {
      await prekeys.publishFirst(account);
      done.sent.set(hex(key), await send(account, await loadRow(account, key)));
    } catch (error) {
      if (error instanceof Unreachable || error instanceof ServerReadOnly) {
        // Of a server that takes nothing, what it takes is not asked for message by message.
        done.waiting.push(...keys.slice(at));
        done.isCutOff = true;
        break;
      } else if (error instanceof RefusedForGood) {
        await giveUp(account, key, error.problem);
        done.refused.set(hex(key), error.problem);
      } else if (error instanceof Problem) {
        done.waiting.push(key);
        if (REFUSED.has(error.status) || error.status === 401 || error.status === 403)
          done.refused.set(hex(key), error);
      } else if (error instanceof ClientError) {
        done.waiting.push(key);
        done.refused.set(hex(key), error);
      } else {
        throw error;
      }
    }
  }
  return done;
}

async function send(account: Account, row: OutboxRow): Promise<Bytes[]> {
  // It has waited, and the keys of this device were replaced: nobody has its session with the new device.
  if (!equal(row.device, account.device.id)) row = await anew(account, row, true);
  // It has waited, and its recipient's devices have changed: a server that took it as it is would get it wrong.
  if (!(await peers.isFresh(account, row.user)) && !equal(headOf(await refresh(account, row.user)), row.head))
    row = await anew(account, row);
  const attempt = async (): Promise<Bytes[]> => {
    try {
      await account.api.post(`users/${uuidText(row.user)}/messages`, documentOf(row), { key: b64u(row.act) });
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      const isReused = error.code === "idempotency-key-reused";
      if (error.code !== chains.STALE && error.field !== "envelopes" && !isReused) {
        requirePassing(account, row, error);
        throw error;
      }
      row = await anew(account, row, isReused);
      throw new Overtaken();
    }
    await account.store.delete(OUTBOX, row.key);
    return row.envelopes.map(([device]) => device);
  };
  const lost = new TrustRefused(
    "The server keeps saying that the recipient's devices have changed, and shows another set each time.",
    { wayOut: ENDLESS },
  );
  return retry(attempt, { lost });
}

/** Throw RefusedForGood for a refusal of the message itself that will not pass, or has not passed in a month. */
function requirePassing(account: Account, row: OutboxRow, problem: Problem): void {
  // By a confirmed time: a clock that jumps gives no message up.
  const now = account.api.clock.confirmed(), waited = now === undefined ? 0 : now - row.queuedAt;
  if (FINAL.has(problem.code) || (REFUSED.has(problem.status) && waited >= REFUSED_SECONDS))
    throw new RefusedForGood(problem);
}

/**
 * Encrypt a message again for the devices that its recipient has now. The answer's own head is not looked at.
 *
 * isSameFine: also when they are those it was encrypted for. Otherwise the server is not believed that it was not, unless
 * it is because devices with which there are sessions have no pre-keys there: those are left out.
 */
async function anew(account: Account, row: OutboxRow, isSameFine = false): Promise<OutboxRow> {
  await peers.expire(account, row.user);
  let ready = await prepare(account, row.user);
  const before = row.envelopes.map(([device]) => device), without = new Set(ready.withoutKeys.map(hex));
  const after = devicesOf(account, ready.state).filter((device) => !without.has(hex(device)));
  const isSame = new Set([...before, ...after].map(hex)).size === before.length && before.length === after.length;
  if (!isSameFine && equal(headOf(ready.state), row.head) && isSame) {
    const keyless: Bytes[] = [];
    for (const device of before) if (!(await bundles.hasKeys(account, device))) keyless.push(device);
    if (keyless.length === 0)
      throw new TrustRefused("The server says that the recipient's devices have changed, but shows no change.", {
        wayOut: ENDLESS,
      });
    ready = { ...ready, withoutKeys: [...ready.withoutKeys, ...keyless] };
  }
  return account.store.transaction(async () => {
    const key = await queue(account, ready, row.plaintext, row.content, row);
    if (key === undefined)
      throw new NotYet("That person has no device that can be written to yet. The message waits.", {
        wayOut: NO_DEVICE,
      });
    return loadRow(account, key);
  });
}

async function giveUp(account: Account, key: Bytes, problem: Problem): Promise<void> {
  const row = await loadRow(account, key);
  await account.store.transaction(async () => {
    await account.store.delete(OUTBOX, key);
    await sent.forget(account.store, row.user, nameOf(decodeContent(row.plaintext)));
    await add(account, ReportKind.NOT_SENT, `A message could not be sent: ${problem.message}`, {
      wayOut: problem.wayOut || "Send it again if it still matters.",
      user: row.user,
      evidence: [row.plaintext],
    });
  });
}
