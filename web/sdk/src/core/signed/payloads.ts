// SPDX-License-Identifier: Apache-2.0
/**
 * What every payload has in common: the header (fields 1 to 6), its times, and the reading of keys and suites.
 *
 * Does not know any one statement; those are in `statements`, `prekeys`, `policy` and `cases`.
 */
import { type Bytes } from "../base/bytes.js";
import { decode, type Encodable, encode, Fields, mapOf, MAX_STATEMENT } from "../base/encoding.js";
import { Expired, Malformed } from "../base/errors.js";
import { decodePublicKey, type KeyKind, type PublicKey } from "../crypto/public_keys.js";
import { isSuite, type Suite } from "../crypto/suites.js";

export { readBack } from "../base/writing.js";
export { HASH_SIZE } from "../crypto/hashing.js";
/** Of the payload's shape. Another is refused: a field's meaning is never guessed. */
export const VERSION = 1;
/** Bytes of a UUID. */
export const ID_SIZE = 16;
/** Clocks of devices differ by minutes. This bounds how far ahead a wrong one, or a liar, can date. */
export const MAX_AHEAD_SECONDS = 300;
/** Ids and versions: four bytes in every binary form and index. */
export const MAX_U32 = 2 ** 32 - 1;

/** Fields 1 to 6 of every payload. Times are UTC seconds. */
export interface Header {
  /** 16 bytes. */
  readonly tenant: Bytes;
  /** 16 bytes; none in a tenant's statements. */
  readonly user: Bytes;
  /** 16 bytes, or none. */
  readonly device: Bytes;
  readonly issuedAt: number;
  /** 0 for never. */
  readonly expiresAt: number;
}

/** Throw Expired if issued more than five minutes ahead of `now`, or if `now` has reached the expiry. */
export function checkTime(header: Header, now: number): void {
  if (header.issuedAt > now + MAX_AHEAD_SECONDS) throw new Expired("issued in the future: check this machine's clock");
  // Age alone ends nothing: what must end says so in field 6.
  if (header.expiresAt !== 0 && now >= header.expiresAt) throw new Expired("statement has expired");
}

/** Return the payload bytes of a header and the fields from 7 on; a field that is undefined is left out. */
export function closePayload(header: Header, fields: Readonly<Record<number, Encodable | undefined>>): Bytes {
  const { tenant, user, device, issuedAt, expiresAt } = header;
  return encode(mapOf({ 1: VERSION, 2: tenant, 3: user, 4: device, 5: issuedAt, 6: expiresAt, ...fields }));
}

const HEADER_KEYS = [1, 2, 3, 4, 5, 6];

/**
 * Read the header and give the fields for reading; `required` and `optional` name those from 7 on.
 *
 * Throws Malformed for another version, a wrong size, an expiry not after the issue, an unknown field.
 */
export function openPayload(
  payload: Uint8Array,
  what: string,
  required: readonly number[],
  { optional = [], maxSize = MAX_STATEMENT }: { optional?: readonly number[]; maxSize?: number } = {},
): [Header, Fields] {
  const fields = Fields.of(decode(payload, maxSize), what, [...HEADER_KEYS, ...required], optional);
  if (fields.uint(1) !== VERSION) throw fields.refuse(1, "is not version 1");
  const header: Header = {
    tenant: fields.octets(2, ID_SIZE),
    user: fields.octets(3, [0, ID_SIZE]),
    device: fields.octets(4, [0, ID_SIZE]),
    issuedAt: fields.uint(5),
    expiresAt: fields.uint(6),
  };
  // Never valid at any time: a mistake of the maker, better found now than by each reader's clock.
  if (header.expiresAt !== 0 && header.expiresAt <= header.issuedAt)
    throw fields.refuse(6, "is not after the time of issue");
  return [header, fields];
}

/** Throw Malformed unless the header names a user and a device. */
export function requireDevice(header: Header, what: string): void {
  if (header.user.length === 0 || header.device.length === 0) throw new Malformed(`${what}: names no user or no device`);
}

/** Throw Malformed unless the header names a user. */
export function requireUser(header: Header, what: string): void {
  if (header.user.length === 0) throw new Malformed(`${what}: names no user`);
}

/** Throw Malformed unless the header names the tenant and nobody in it. */
export function requireTenantOnly(header: Header, what: string): void {
  if (header.user.length !== 0 || header.device.length !== 0)
    throw new Malformed(`${what}: names a user or a device, yet is the tenant's`);
}

/** Return the suite in field `key`; throws Malformed for a byte that names none. */
export function readSuite(fields: Fields, key: number): Suite {
  const suite = fields.uint(key);
  if (!isSuite(suite)) throw fields.refuse(key, "is not a known suite");
  return suite;
}

/** Return the public key in field `key`, checked as `decodePublicKey` does. */
export function readKey(fields: Fields, key: number, expect: KeyKind | readonly KeyKind[]): PublicKey {
  // bytes: the longest key is X-Wing's, 1,217 with its type byte
  return decodePublicKey(fields.octets(key, undefined, { maximum: 2048 }), expect);
}
