// SPDX-License-Identifier: Apache-2.0
/**
 * This device's pre-keys: made, kept before they are published, checked, topped up, and destroyed in time.
 *
 * docs/formats/pre-keys.md for their owner, with its digest check. Does not use them: a session does, with what
 * `loadSigned` and `oneTime` return; claims of others' are in `bundles`.
 */
import { type Bytes, EMPTY, equal, hex, unhex } from "../../core/base/bytes.js";
import { b64u, decode, encode, label } from "../../core/base/encoding.js";
import { SecretBytes } from "../../core/base/secret.js";
import { sha256 } from "../../core/crypto/hashing.js";
import { uuidText } from "../../core/base/uuids.js";
import { buildBatch, generatePreKey } from "../../core/messages/bundle.js";
import { batchFromPayload, signedPreKeyFromPayload, signedPreKeyToPayload } from "../../core/messages/prekeys.js";
import type { OwnPreKey } from "../../core/messages/x3dh.js";
import { sign, Sign1 } from "../../core/signed/cose.js";
import { type Header, MAX_AHEAD_SECONDS, MAX_U32 } from "../../core/signed/payloads.js";
import { AnswerRefused, Problem, ProfileError } from "../errors.js";
import type { Account } from "../profile/account.js";
import * as rows from "./prekey_rows.js";
import type { SignedRow } from "./prekey_rows.js";

/** One-time keys that are made together. */
export const BATCH_SIZE = 100;
/** A quarter: newcomers of a week find one while the device is away. */
export const REFILL_BELOW = 25;
/** What a key that leaks exposes: the first messages of one week. */
export const RENEW_AFTER_SECONDS = 7 * 86_400;
/** As long as a first message may wait in a mailbox. */
export const LIFE_SECONDS = 30 * 86_400;
/** A message waits on the server for at most 30 days, so the last one begun with a replaced key arrives by then. */
export const KEEP_REPLACED_SECONDS = 30 * 86_400;
/**
 * No honest sender begins with an expired key. What a device that was away for long still holds ends here all the same,
 * since replays of what was begun with it are remembered for as long (`sessions.INITIAL_LIFE_SECONDS`).
 */
export const KEEP_SECONDS = LIFE_SECONDS + KEEP_REPLACED_SECONDS;
/** Anybody of the tenant may claim keys and never write: so many private halves are kept for them, the newest. */
export const MOST_GONE = 10_000;
// How far ids jump when the server says that they were used: a profile restored from a backup counts from too low.
const JUMP = 10_000;
// More than any server keeps for one device, and few enough that what is noted of them fits its row.
const MOST_HELD = 10_000;
const JUMPS = 5; // each leaves ten thousand ids aside: a profile restored from a backup is past its own after one
const REUSED = ["pre-key-id-reused", "pre-key-older"];
const STALE = "pre-key-stale";
const PUBLISHED = "pre-keys-published"; // device: [when it last published all that was due]
/**
 * The server holds a signed pre-key that this profile never made: after a restored backup nobody can begin a session, so it
 * is replaced. Not at once after one was made, or two machines with one profile, or a server that lies, would have a new
 * one made at each call.
 */
export const REPLACE_FOREIGN_AFTER_SECONDS = 3_600;
const CLONED =
  "The server has pre-keys of this device that this profile never made: it was restored from an old backup, or it runs " +
  "on two machines.";

/** What the care of pre-keys did. */
export interface Published {
  /** Whether the signed pre-key is new. */
  readonly isRenewed: boolean;
  /** One-time keys uploaded. */
  readonly stored: number;
  /** What the server has now. */
  readonly count: number;
  /** Private halves whose time was over. */
  readonly destroyed: number;
  /** What the server holds that it should not, or no longer holds. */
  readonly warnings: readonly string[];
  /** Whether it was restored from a backup, and hands out none of the one-time keys that it held; others were made. */
  readonly isVoided: boolean;
}

/** What the server says it can still hand out: one-time key ids, and the hash (32 bytes) of the signed pre-key. */
export interface Held {
  readonly count: number;
  readonly signedHash: Bytes;
  readonly epoch: number;
  readonly keyIds: ReadonlySet<number>;
}

// What a responder takes

/**
 * Return the private half of a signed pre-key of this device, or undefined when there is none or its time is over.
 *
 * Over by a time that was confirmed: a clock that jumps would have honest messages refused, and so lost.
 */
export async function loadSigned(account: Account, keyId: number): Promise<OwnPreKey | undefined> {
  const row = await rows.loadSignedRow(account.store, keyId), now = account.api.clock.confirmed();
  if (row === undefined || (now !== undefined && now >= endsAt(row))) return undefined;
  return rows.ownSigned(row, account.suite);
}

/** Return the private half of a one-time pre-key of this device; undefined when there is none: unknown, or used. */
export async function oneTime(account: Account, keyId: number): Promise<OwnPreKey | undefined> {
  const row = await rows.loadOneTimeRow(account.store, keyId);
  const batch = row && (await rows.loadBatch(account.store, row.batchId));
  return row && batch && rows.ownOneTime(row, account.suite, batch);
}

/** Destroy the private half of a one-time pre-key. In the transaction that keeps the session made with it. */
export async function useUp(account: Account, keyId: number): Promise<void> {
  await account.store.delete(rows.ONE_TIME, rows.idKey(keyId));
}

/** Return when each signed pre-key was made whose private half is here, in UTC seconds. */
export async function listMade(account: Account): Promise<number[]> {
  return (await rows.allSigned(account.store)).map((row) => row.madeAt);
}

// Care

/**
 * Do all that this device's pre-keys need: renew, hold the server to what it was given, refill, destroy.
 *
 * The signed pre-key is renewed when it is a week old, one-time keys are refilled below 25, private halves go when no honest
 * message can need them, by a time that was confirmed (`keyLog.confirmTime`). They are kept durably before their public
 * halves leave, so a crash costs at most unused keys. Rejects with ProfileError on a device that is not in its chain.
 */
export async function publish(account: Account): Promise<Published> {
  if (!account.device.isActive)
    throw new ProfileError("This device is not part of your account yet, so it publishes nothing.", {
      wayOut: "Approve it on another device of yours: client.devices.approve().",
    });
  let held = await fetchHeld(account);
  const [isRenewed, isSent] = await publishSigned(account, held);
  // A batch whose upload was not acknowledged goes first, as it was: a second batch would be one too many.
  let [stored, count] = await uploadUnsent(account);
  if (isSent || stored > 0) held = await fetchHeld(account);
  const findings = await compareHeld(account, held);
  if (held.count < REFILL_BELOW || (findings.isFreshBatchDue && stored === 0)) {
    const [more, now] = await refill(account);
    stored += more;
    count = now;
  }
  const destroyed = await destroyDue(account), { store } = account;
  await store.transaction(async () => {
    for (const device of await store.keys(PUBLISHED)) await store.delete(PUBLISHED, device);
    await store.put(PUBLISHED, account.device.id, new SecretBytes(encode([account.api.clock.now()])));
  });
  const { warnings, isVoided } = findings;
  return { isRenewed, stored, count: Math.max(held.count, count), destroyed, warnings, isVoided };
}

/** Publish if this device of the account never has. Rejects as `publish` does. */
export async function publishFirst(account: Account): Promise<void> {
  if (account.device.isActive && (await account.store.get(PUBLISHED, account.device.id)) === undefined)
    await publish(account);
}

/**
 * Have the server hold this device's newest signed pre-key, in place of the one that it was seen to hold.
 *
 * Returns whether the key is new, and whether it was sent: not when the server has it.
 */
async function publishSigned(account: Account, held: Held): Promise<[isNew: boolean, isSent: boolean]> {
  const before = await current(account);
  let isDue = before === undefined || (await isRenewalDue(account, before, held));
  let row = before === undefined || isDue ? await makeSigned(account) : before;
  for (let jump = 0; jump < JUMPS; jump++) {
    if (equal(hashOf(row), held.signedHash)) {
      await markReplaced(account, row);
      return [isDue, false];
    }
    try {
      const document = { v: 1, signed_pre_key: b64u(row.statement) };
      await account.api.put(`devices/${uuidText(account.device.id)}/bundle`, document, {
        ifMatch: `"${b64u(held.signedHash)}"`,
      });
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      if (error.code === STALE) {
        // Another page of this profile published meanwhile: read what, and decide again.
        held = await fetchHeld(account);
      } else if (REUSED.includes(error.code)) {
        await jumpAhead(account);
        row = await makeSigned(account);
        isDue = true;
      } else {
        throw error;
      }
      continue;
    }
    await markReplaced(account, row);
    return [isDue, true];
  }
  throw new ProfileError(CLONED);
}

/** Return the newest signed pre-key, published or about to be. */
async function current(account: Account): Promise<SignedRow | undefined> {
  return (await rows.allSigned(account.store)).reverse().find((row) => row.replacedAt === 0);
}

/** Note that the server hands out one signed pre-key in place of the others: from now on they are left to end. */
async function markReplaced(account: Account, by: SignedRow): Promise<void> {
  const now = account.api.clock.latest(), { store } = account;
  await store.transaction(async () => {
    for (const row of await rows.allSigned(store))
      if (row.keyId !== by.keyId && row.replacedAt === 0) await rows.saveSigned(store, { ...row, replacedAt: now });
  });
}

async function isRenewalDue(account: Account, of: SignedRow, held: Held): Promise<boolean> {
  const age = account.api.clock.earliest() - of.madeAt, made = await rows.allSigned(account.store);
  const isForeign = held.signedHash.length > 0 && made.every((row) => !equal(hashOf(row), held.signedHash));
  return (
    age >= RENEW_AFTER_SECONDS ||
    // Made under a clock that was ahead: nobody takes a pre-key of the future.
    isOfTheFuture(account, of.madeAt) ||
    (isForeign && age >= REPLACE_FOREIGN_AFTER_SECONDS) ||
    !isOfThisDevice(account, signedPreKeyFromPayload(Sign1.parse(of.statement).payload).header)
  );
}

function isOfTheFuture(account: Account, issuedAt: number): boolean {
  return issuedAt > account.api.clock.earliest() + MAX_AHEAD_SECONDS;
}

function hashOf(row: SignedRow): Bytes {
  return Sign1.parse(row.statement).payloadHash;
}

/** After a rotation of the device's keys the same profile is another device. */
function isOfThisDevice(account: Account, header: Header): boolean {
  return equal(header.device, account.device.id);
}

/** Make and keep a signed pre-key. The one before counts as replaced when the server has this one. */
async function makeSigned(account: Account): Promise<SignedRow> {
  const { suite, store } = account, before = await current(account);
  let madeAt = account.api.clock.earliest();
  // The server takes none that is older than the one that it has; clocks are set back by seconds all the time.
  if (before !== undefined && !isOfTheFuture(account, before.madeAt)) madeAt = Math.max(madeAt, before.madeAt);
  return store.transaction(async () => {
    const ledger = await rows.loadLedger(store), [own, published] = await generatePreKey(ledger.nextId, suite);
    const header = account.header({ issuedAt: madeAt, lastsSeconds: LIFE_SECONDS });
    const payload = signedPreKeyToPayload({ header, suite, ...published });
    const signed = await sign(payload, "prekey", await account.signingKey());
    const made: SignedRow = {
      keyId: own.keyId,
      dhSeed: own.dh,
      kemSeed: own.kem ?? new SecretBytes(EMPTY),
      madeAt,
      statement: signed.encode(),
      replacedAt: 0,
    };
    await rows.saveSigned(store, made);
    await rows.saveLedger(store, { ...ledger, nextId: ledger.nextId + 1 });
    return made;
  });
}

/** Make, keep and upload a fresh batch; returns how many keys were stored, and how many the server has. */
async function refill(account: Account): Promise<[stored: number, count: number]> {
  for (let jump = 0; jump < JUMPS; jump++) {
    await makeBatch(account);
    try {
      return await uploadUnsent(account);
    } catch (error) {
      if (!(error instanceof Problem) || !REUSED.includes(error.code)) throw error;
      await dropUnsent(account);
      await jumpAhead(account);
    }
  }
  throw new ProfileError(CLONED);
}

async function uploadUnsent(account: Account): Promise<[stored: number, count: number]> {
  const { store } = account;
  let stored = 0, count = 0;
  for (const batch of await rows.allBatches(store)) {
    if (batch.leaves.length === 0) continue;
    const { header } = batchFromPayload(Sign1.parse(batch.statement).payload);
    if (!isOfThisDevice(account, header) || isOfTheFuture(account, header.issuedAt)) {
      // The device was replaced before the answer came, or a clock was ahead: the server would refuse the batch for as
      // long. It may have handed these out meanwhile, so they run out like every other key.
      await rows.saveBatch(store, { ...batch, leaves: EMPTY });
      continue;
    }
    const document = { v: 1, batch: b64u(batch.statement), leaves: b64u(batch.leaves) };
    const path = `devices/${uuidText(account.device.id)}/pre-keys`;
    // A batch is known by its signed id: sent again, it stores nothing.
    const answer = await account.api.post(path, document, { isOnceByItself: true });
    stored += answer.number("stored");
    count = answer.number("count");
    await rows.saveBatch(store, { ...batch, leaves: EMPTY });
  }
  return [stored, count];
}

/** Make 100 one-time keys and keep their private halves, all of them or none. */
async function makeBatch(account: Account): Promise<void> {
  const { store, suite } = account;
  await store.transaction(async () => {
    const ledger = await rows.loadLedger(store);
    const built = await buildBatch(account.header(), {
      suite,
      firstKeyId: ledger.nextId,
      size: BATCH_SIZE,
      signingKey: await account.signingKey(),
    });
    const { batchId } = batchFromPayload(built.statement.payload);
    await rows.saveBatch(store, { batchId, statement: built.statement.encode(), leaves: built.leaves });
    const leaves = decode(built.leaves, built.leaves.length) as Bytes[];
    for (const [at, { keyId, dh, kem }] of built.privateKeys.entries())
      await rows.saveOneTime(store, {
        keyId,
        dhSeed: dh,
        kemSeed: kem ?? new SecretBytes(EMPTY),
        batchId,
        leaf: leaves[at] as Bytes,
        goneAt: 0,
      });
    // Ids only grow: a used one never comes back under another key.
    await rows.saveLedger(store, { ...ledger, nextId: ledger.nextId + BATCH_SIZE });
  });
}

/** Destroy a batch that the server has refused: nobody was ever given a key of it. */
async function dropUnsent(account: Account): Promise<void> {
  const { store } = account;
  const unsent = (await rows.allBatches(store)).filter((batch) => batch.leaves.length > 0);
  const ids = new Set(unsent.map((batch) => hex(batch.batchId)));
  await store.transaction(async () => {
    for (const row of await rows.allOneTime(store))
      if (ids.has(hex(row.batchId))) await store.delete(rows.ONE_TIME, rows.idKey(row.keyId));
    for (const batch of unsent) await store.delete(rows.BATCH, batch.batchId);
  });
}

async function jumpAhead(account: Account): Promise<void> {
  const ledger = await rows.loadLedger(account.store);
  await rows.saveLedger(account.store, { ...ledger, nextId: ledger.nextId + JUMP });
}

// What the server holds

/** Ask what the server can still hand out. Rejects with AnswerRefused when its digest is not of what it names. */
export async function fetchHeld(account: Account): Promise<Held> {
  const answer = await account.api.post(`devices/${uuidText(account.device.id)}/check`, {});
  const batches = [...answer.many("batches")].map((row): [Bytes, number[]] => [
    row.octets("batch_id", 16),
    row.numbers("key_ids"),
  ]);
  const named = batches.flatMap(([, ids]) => ids), keyIds = new Set(named);
  if (named.length > MOST_HELD || named.some((keyId) => keyId > MAX_U32))
    throw new AnswerRefused("The server names more pre-keys of this device than there can be.");
  const signedHash = answer.octets("signed_pre_key_hash"), count = answer.number("count");
  const digest = sha256(label("server-holds", account.device.id, signedHash, batches));
  if (keyIds.size !== named.length || named.length !== count || !equal(digest, answer.octets("digest", 32)))
    throw new AnswerRefused("The server's digest of this device's pre-keys is not of the keys that it names.");
  return { count, signedHash, epoch: answer.number("epoch"), keyIds };
}

interface Findings {
  readonly warnings: string[];
  isFreshBatchDue: boolean;
  isVoided: boolean;
}

/** Hold what the server has to what it was given and what was used, and remember what it no longer has. */
async function compareHeld(account: Account, held: Held): Promise<Findings> {
  const findings: Findings = { warnings: [], isFreshBatchDue: false, isVoided: false };
  const { store } = account, now = account.api.clock.latest();
  await store.transaction(async () => {
    const ledger = await rows.loadLedger(store);
    const kept = new Map((await rows.allOneTime(store)).map((row) => [row.keyId, row]));
    if (held.epoch !== ledger.epoch) findings.isFreshBatchDue = findings.isVoided = true;
    const unknown = new Set([...held.keyIds].filter((keyId) => kept.get(keyId)?.goneAt !== 0));
    if ([...unknown].some((keyId) => !ledger.foreign.has(keyId))) {
      findings.isFreshBatchDue = true;
      findings.warnings.push(
        `The server holds ${unknown.size} one-time pre-keys that it handed out before or that this profile never made: ` +
          "what is begun with them may not open here, and its senders have to write again. Was this profile, or the " +
          "server, restored from a backup? Does the profile run on two machines?",
      );
    }
    for (const row of kept.values())
      if (row.goneAt === 0 && !held.keyIds.has(row.keyId)) await rows.saveOneTime(store, { ...row, goneAt: now });
    await rows.saveLedger(store, { ...ledger, epoch: held.epoch, foreign: unknown });
  });
  const newest = await current(account);
  if (newest === undefined || !equal(held.signedHash, hashOf(newest)))
    findings.warnings.push(
      "The server hands out another signed pre-key than this device's newest: nobody can begin a session with it.",
    );
  return findings;
}

// The end

function endsAt(row: SignedRow): number {
  const ends = row.madeAt + KEEP_SECONDS;
  return row.replacedAt === 0 ? ends : Math.min(ends, row.replacedAt + KEEP_REPLACED_SECONDS);
}

/**
 * Destroy the private halves that no honest message can need any more; returns how many. None without a confirmed time
 * (`Clock.confirmed`).
 *
 * A one-time key is handed out together with the signed pre-key of that moment, and neither works without the other: once
 * the server is without it, it goes with the last signed pre-key that was made before then. Not at once, since the server's
 * word alone would otherwise decide what can still be read.
 */
export async function destroyDue(account: Account): Promise<number> {
  const { store } = account, now = account.api.clock.confirmed();
  if (now === undefined) return 0;
  let destroyed = 0;
  await store.transaction(async () => {
    let oldest: number | undefined;
    for (const row of await rows.allSigned(store)) {
      // Replaced under a clock that was ahead: its month begins today.
      const replacedAt = row.replacedAt > now + MAX_AHEAD_SECONDS ? now : row.replacedAt;
      if (replacedAt !== row.replacedAt) await rows.saveSigned(store, { ...row, replacedAt });
      // The current one is replaced before it ends; a device that cannot publish keeps it until it can.
      if (row.replacedAt !== 0 && now >= endsAt(row)) {
        await store.delete(rows.SIGNED, rows.idKey(row.keyId));
        destroyed += 1;
      } else {
        oldest = Math.min(oldest ?? row.madeAt, row.madeAt);
      }
    }
    const batches = new Set((await store.keys(rows.BATCH)).map(hex)), kept = await rows.allOneTime(store);
    const gone = kept.filter((key) => key.goneAt !== 0).sort((one, other) => one.goneAt - other.goneAt);
    const over = new Set(gone.slice(0, Math.max(0, gone.length - MOST_GONE)).map((key) => key.keyId));
    for (const key of kept) {
      if (over.has(key.keyId) || (key.goneAt !== 0 && key.goneAt < (oldest ?? now))) {
        await store.delete(rows.ONE_TIME, rows.idKey(key.keyId));
        destroyed += 1;
      } else {
        batches.delete(hex(key.batchId));
      }
    }
    for (const batchId of batches) await store.delete(rows.BATCH, unhex(batchId));
  });
  return destroyed;
}
