// SPDX-License-Identifier: Apache-2.0
/**
 * The public halves of pre-keys: the signed one, the one-time ones, and the statement over a batch of them.
 *
 * docs/formats/pre-keys.md. Does not verify anything: `bundle` does.
 */
import type { Bytes } from "../base/bytes.js";
import { decode, encode, Fields, mapOf } from "../base/encoding.js";
import { KeyKind, type PublicKey } from "../crypto/public_keys.js";
import { agreementKind, hasKem, type Suite } from "../crypto/suites.js";
import {
  closePayload, HASH_SIZE, type Header, ID_SIZE, MAX_U32, openPayload, readBack, readKey, readSuite, requireDevice,
} from "../signed/payloads.js";

/**
 * A sender may begin with a kept bundle until this ends. It bounds, too, for how long a stolen private half opens first
 * messages that had no one-time key: X3DH "Key compromise" asks for replacement on a schedule.
 */
export const SIGNED_PRE_KEY_LIFE_SECONDS = 30 * 86_400;
/** Seven hashes prove one of up to 128 leaves; 100 hybrid keys are some 127 KB to upload. */
export const MAX_BATCH = 100;

/** What every pre-key has: an id, a DH half, and an ML-KEM half where the suite has one. */
export interface PreKeyHalves {
  readonly keyId: number;
  readonly dh: PublicKey;
  readonly kem: PublicKey | undefined;
}

function readHalves(fields: Fields, suite: Suite, dh: number, kem: number): Pick<PreKeyHalves, "dh" | "kem"> {
  // Exactly as the suite says: a hybrid pre-key without its ML-KEM half would make a classical session.
  if (fields.has(kem) !== hasKem(suite)) throw fields.refuse(kem, "does not fit the suite");
  return {
    dh: readKey(fields, dh, agreementKind(suite)),
    kem: hasKem(suite) ? readKey(fields, kem, KeyKind.ML_KEM_768) : undefined,
  };
}

/** The signed pre-key of a device: used when no one-time key is left, and in every handshake. */
export interface SignedPreKey extends PreKeyHalves {
  readonly header: Header;
  readonly suite: Suite;
}

/** Return the payload bytes of a `prekey` statement of kind 1. */
export function signedPreKeyToPayload(of: SignedPreKey): Bytes {
  const fields = { 7: of.suite, 8: of.keyId, 9: 1, 11: of.dh.encoded, 12: of.kem?.encoded };
  return readBack(closePayload(of.header, fields), signedPreKeyFromPayload);
}

/** Read the payload; throws Malformed, also for a life above 30 days or none stated. */
export function signedPreKeyFromPayload(payload: Uint8Array): SignedPreKey {
  const [header, fields] = openPayload(payload, "signed pre-key", [7, 8, 9, 11], { optional: [12] });
  requireDevice(header, "signed pre-key");
  if (fields.uint(9) !== 1) throw fields.refuse(9, "is not the kind of a signed pre-key");
  if (!(header.expiresAt > 0 && header.expiresAt <= header.issuedAt + SIGNED_PRE_KEY_LIFE_SECONDS))
    throw fields.refuse(6, "is not within 30 days of issue");
  const suite = readSuite(fields, 7);
  const halves = readHalves(fields, suite, 11, 12);
  return { header, suite, keyId: fields.uint(8, { maximum: MAX_U32 }), ...halves };
}

/** One signature over a batch of up to 100 one-time pre-keys. */
export interface BatchStatement {
  readonly header: Header;
  readonly suite: Suite;
  readonly batchId: Bytes;
  readonly size: number;
  readonly root: Bytes;
}

/** Return the payload bytes of a `prekey` statement of kind 2. */
export function batchToPayload(of: BatchStatement): Bytes {
  const fields = { 7: of.suite, 9: 2, 10: of.batchId, 13: of.size, 14: of.root };
  return readBack(closePayload(of.header, fields), batchFromPayload);
}

/** Read the payload; throws Malformed, also for more than 100 leaves. */
export function batchFromPayload(payload: Uint8Array): BatchStatement {
  const [header, fields] = openPayload(payload, "pre-key batch", [7, 9, 10, 13, 14]);
  requireDevice(header, "pre-key batch");
  if (fields.uint(9) !== 2) throw fields.refuse(9, "is not the kind of a batch");
  return {
    header,
    suite: readSuite(fields, 7),
    batchId: fields.octets(10, ID_SIZE),
    size: fields.uint(13, { minimum: 1, maximum: MAX_BATCH }),
    root: fields.octets(14, HASH_SIZE),
  };
}

/** The public half of a one-time pre-key, as its leaf in a batch, whose statement is its header. */
export type OneTimePreKey = PreKeyHalves;

/** Return dCBOR{1: key id, 2: DH public, 3: ML-KEM public}. */
export function toLeaf(of: OneTimePreKey): Bytes {
  return encode(mapOf({ 1: of.keyId, 2: of.dh.encoded, 3: of.kem?.encoded }));
}

/** Read a leaf of a batch of `suite`; throws Malformed. */
export function fromLeaf(leaf: Uint8Array, suite: Suite): OneTimePreKey {
  const fields = Fields.of(decode(leaf), "one-time pre-key", [1, 2], [3]);
  const halves = readHalves(fields, suite, 2, 3);
  return { keyId: fields.uint(1, { maximum: MAX_U32 }), ...halves };
}
