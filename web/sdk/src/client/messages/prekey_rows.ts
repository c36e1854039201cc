// SPDX-License-Identifier: Apache-2.0
/**
 * The private halves of this device's pre-keys as rows of its store, each with the bytes it was published under.
 *
 * docs/formats/profile.md (pre-key rows). Decides nothing: `prekeys` says when a key is made, published, found gone and
 * destroyed.
 */
import { type Bytes, EMPTY } from "../../core/base/bytes.js";
import { MAX_BLOB } from "../../core/base/encoding.js";
import { Malformed } from "../../core/base/errors.js";
import { inOrder, type Layout, layout, octets, openRow, sealRow, secret, uint } from "../../core/base/rows.js";
import type { SecretBytes } from "../../core/base/secret.js";
import { AgreementKey, KemKey } from "../../core/crypto/keys.js";
import { agreementKind, type Suite } from "../../core/crypto/suites.js";
import { oneTimeStatement } from "../../core/messages/bundle.js";
import type { OwnPreKey } from "../../core/messages/x3dh.js";
import { Sign1 } from "../../core/signed/cose.js";
import { damaged } from "../errors.js";
import type { Store } from "../profile/store.js";

/** Rows: signed pre-keys by their id. */
export const SIGNED = "signed-pre-key";
/** Rows: one-time pre-keys by their id. */
export const ONE_TIME = "one-time-pre-key";
/** Rows: the statements over batches of one-time keys, by the batch's id. */
export const BATCH = "pre-key-batch";
const LEDGER = "pre-keys";
const MAX_BATCH_ROW = 256 * 1024; // bytes: 100 hybrid leaves of 1.3 KiB, and their statement
const KEM_SEED_SIZES = [0, 64]; // bytes: none in a classical suite, or d and z of FIPS 203

/** Return the row key of a pre-key id: 4 bytes, big-endian. */
export function idKey(keyId: number): Bytes {
  return Uint8Array.of((keyId >>> 24) & 0xff, (keyId >>> 16) & 0xff, (keyId >>> 8) & 0xff, keyId & 0xff);
}

function idOf(key: Bytes): number {
  return key.reduce((id, octet) => id * 256 + octet, 0);
}

/** A signed pre-key: seeds (the KEM's is empty in a classical suite), its Sign1, and when it was made. */
export interface SignedRow {
  readonly keyId: number;
  readonly dhSeed: SecretBytes;
  readonly kemSeed: SecretBytes;
  readonly madeAt: number;
  readonly statement: Bytes;
  /** UTC seconds; 0 while it is the current one. */
  readonly replacedAt: number;
}

const SIGNED_ROW = layout<Omit<SignedRow, "keyId">>(
  "profile signed-pre-key",
  {
    dhSeed: secret(32),
    kemSeed: secret(KEM_SEED_SIZES),
    madeAt: uint(),
    statement: octets(),
    replacedAt: uint(),
  },
  { rowSize: MAX_BLOB },
);

/** Write the row of a signed pre-key. */
export async function saveSigned(store: Store, row: SignedRow): Promise<void> {
  await store.put(SIGNED, idKey(row.keyId), sealRow(SIGNED_ROW, row));
}

/** Read the row of a signed pre-key, if there is one. Rejects with ProfileError for a damaged one. */
export async function loadSignedRow(store: Store, keyId: number): Promise<SignedRow | undefined> {
  const row = await load(store, SIGNED_ROW, SIGNED, idKey(keyId));
  return row && { keyId, ...row };
}

/** Return what a responder takes of a signed pre-key. */
export function ownSigned(row: SignedRow, suite: Suite): Promise<OwnPreKey> {
  return own(row, suite, Sign1.parse(row.statement).payload);
}

/** A one-time pre-key: seeds, its batch's 16-byte id, its leaf, and when the server was first seen without it. */
export interface OneTimeRow {
  readonly keyId: number;
  readonly dhSeed: SecretBytes;
  readonly kemSeed: SecretBytes;
  readonly batchId: Bytes;
  readonly leaf: Bytes;
  /** UTC seconds; 0 while the server still holds it, or has not been given it yet. */
  readonly goneAt: number;
}

const ONE_TIME_ROW = layout<Omit<OneTimeRow, "keyId">>(
  "profile one-time-pre-key",
  { dhSeed: secret(32), kemSeed: secret(KEM_SEED_SIZES), batchId: octets(16), leaf: octets(), goneAt: uint() },
  { rowSize: MAX_BLOB },
);

/** Write the row of a one-time pre-key. */
export async function saveOneTime(store: Store, row: OneTimeRow): Promise<void> {
  await store.put(ONE_TIME, idKey(row.keyId), sealRow(ONE_TIME_ROW, row));
}

/** Read the row of a one-time pre-key, if there is one. Rejects with ProfileError for a damaged one. */
export async function loadOneTimeRow(store: Store, keyId: number): Promise<OneTimeRow | undefined> {
  const row = await load(store, ONE_TIME_ROW, ONE_TIME, idKey(keyId));
  return row && { keyId, ...row };
}

/** Return what a responder takes of a one-time pre-key of a batch. */
export function ownOneTime(row: OneTimeRow, suite: Suite, batch: BatchRow): Promise<OwnPreKey> {
  return own(row, suite, oneTimeStatement(Sign1.parse(batch.statement).payload, row.leaf));
}

/** The signed statement over one batch. leaves: what the server has not acknowledged yet, empty once it has. */
export interface BatchRow {
  readonly batchId: Bytes;
  readonly statement: Bytes;
  readonly leaves: Bytes;
}

const BATCH_ROW = layout<Omit<BatchRow, "batchId">>(
  "profile pre-key-batch",
  { statement: octets(), leaves: octets() },
  { rowSize: MAX_BATCH_ROW },
);

/** Write the row of a batch. */
export async function saveBatch(store: Store, row: BatchRow): Promise<void> {
  await store.put(BATCH, row.batchId, sealRow(BATCH_ROW, row));
}

/** Read the row of a batch, if there is one. Rejects with ProfileError for a damaged one. */
export async function loadBatch(store: Store, batchId: Bytes): Promise<BatchRow | undefined> {
  const row = await load(store, BATCH_ROW, BATCH, batchId);
  return row && { batchId, ...row };
}

/** What is remembered of pre-keys as a whole. */
export interface Ledger {
  /** Above every id ever used, so it only grows. */
  readonly nextId: number;
  /** How often the server said it had voided its keys. */
  readonly epoch: number;
  /** Ids that the server holds and this device does not, told to the person once. */
  readonly foreign: ReadonlySet<number>;
}

const LEDGER_ROW = layout<Ledger>(
  "profile pre-keys",
  { nextId: uint({ minimum: 1 }), epoch: uint(), foreign: inOrder(uint()) },
  { rowSize: MAX_BLOB },
);

/** Write the ledger. */
export async function saveLedger(store: Store, row: Ledger): Promise<void> {
  await store.put(LEDGER, EMPTY, sealRow(LEDGER_ROW, row));
}

/** Read the ledger; a fresh one when there is none yet. Rejects with ProfileError for a damaged one. */
export async function loadLedger(store: Store): Promise<Ledger> {
  return (await load(store, LEDGER_ROW, LEDGER, EMPTY)) ?? { nextId: 1, epoch: 0, foreign: new Set() };
}

/** Return the signed pre-keys whose private halves are kept, oldest first. */
export async function allSigned(store: Store): Promise<SignedRow[]> {
  const found: SignedRow[] = [];
  for (const key of await store.keys(SIGNED)) {
    const row = await loadSignedRow(store, idOf(key));
    if (row) found.push(row);
  }
  return found;
}

/** Return the one-time pre-keys whose private halves are kept, in the order they were made. */
export async function allOneTime(store: Store): Promise<OneTimeRow[]> {
  const found: OneTimeRow[] = [];
  for (const key of await store.keys(ONE_TIME)) {
    const row = await loadOneTimeRow(store, idOf(key));
    if (row) found.push(row);
  }
  return found;
}

/** Return the batches of which a statement is kept, in the order they were made. */
export async function allBatches(store: Store): Promise<BatchRow[]> {
  const found: BatchRow[] = [];
  for (const key of await store.keys(BATCH)) {
    const row = await loadBatch(store, key);
    if (row) found.push(row);
  }
  return found;
}

async function own(
  { keyId, dhSeed, kemSeed }: Pick<SignedRow, "keyId" | "dhSeed" | "kemSeed">,
  suite: Suite,
  statement: Bytes,
): Promise<OwnPreKey> {
  const kem = kemSeed.length > 0 ? await KemKey.fromSeed(kemSeed) : undefined;
  return { keyId, dh: await AgreementKey.fromSeed(agreementKind(suite), dhSeed), kem, statement };
}

async function load<R>(store: Store, kind: Layout<R>, name: string, key: Bytes): Promise<R | undefined> {
  const kept = await store.get(name, key);
  try {
    return kept && openRow(kind, kept);
  } catch (error) {
    if (error instanceof Malformed) throw damaged(error);
    throw error;
  }
}
