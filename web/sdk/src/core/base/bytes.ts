// SPDX-License-Identifier: Apache-2.0
/** What JavaScript's byte arrays lack: equality, concatenation, order and hex, each in one place. */

/** Bytes over a buffer of their own, as WebCrypto takes them. */
export type Bytes = Uint8Array<ArrayBuffer>;

/** The empty byte string. */
export const EMPTY: Bytes = new Uint8Array(0);

/** Tell whether two byte strings are the same. For public bytes: it stops at the first difference. */
export function equal(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  for (let at = 0; at < a.length; at++) if (a[at] !== b[at]) return false;
  return true;
}

/** Tell whether two byte strings are the same, in time that depends on the lengths only. */
export function equalSecret(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  let differing = 0;
  for (let at = 0; at < a.length; at++) differing |= (a[at] as number) ^ (b[at] as number);
  return differing === 0;
}

/** Compare as byte strings are ordered: negative, zero or positive. */
export function compare(a: Uint8Array, b: Uint8Array): number {
  const shared = Math.min(a.length, b.length);
  for (let at = 0; at < shared; at++) {
    const apart = (a[at] as number) - (b[at] as number);
    if (apart !== 0) return apart;
  }
  return a.length - b.length;
}

/** Join byte strings. */
export function concat(...parts: readonly Uint8Array[]): Bytes {
  const joined = new Uint8Array(parts.reduce((size, part) => size + part.length, 0));
  let at = 0;
  for (const part of parts) {
    joined.set(part, at);
    at += part.length;
  }
  return joined;
}

const OCTETS = Array.from({ length: 256 }, (_, octet) => octet.toString(16).padStart(2, "0"));

/** Return lower-case hex: the key under which a Map knows a byte string. */
export function hex(data: Uint8Array): string {
  let text = "";
  for (const octet of data) text += OCTETS[octet] as string;
  return text;
}

/** Return the bytes of lower- or upper-case hex. Throws a RangeError for anything else (a caller's mistake). */
export function unhex(text: string): Bytes {
  if (text.length % 2 !== 0 || !/^[0-9a-fA-F]*$/.test(text)) throw new RangeError("not hex");
  return Uint8Array.from({ length: text.length / 2 }, (_, at) => parseInt(text.slice(2 * at, 2 * at + 2), 16));
}

/** Return a number in `size` bytes, the highest first. Throws a RangeError when it has no room (a caller's mistake). */
export function bigEndian(value: number, size: number): Bytes {
  if (!Number.isSafeInteger(value) || value < 0 || value >= 256 ** size) throw new RangeError("no room for the number");
  return Uint8Array.from({ length: size }, (_, at) => Math.floor(value / 256 ** (size - 1 - at)) % 256);
}

/** Return the number of big-endian bytes, exact up to 2^53. */
export function numberOf(octets: Uint8Array): number {
  return octets.reduce((number, octet) => number * 256 + octet, 0);
}

const encoder = new TextEncoder();

/** Return UTF-8. Throws a RangeError for a lone surrogate, which has no UTF-8 (a caller's mistake). */
export function utf8(text: string): Bytes {
  // The encoder would put U+FFFD in its place, and two texts would share one encoding.
  if (!isWellFormed(text)) throw new RangeError("a lone surrogate has no UTF-8");
  return encoder.encode(text);
}

/** Tell whether text has no half of a surrogate pair. */
export function isWellFormed(text: string): boolean {
  return !/\p{Surrogate}/u.test(text);
}

/** Count characters as other languages do: code points, of which some are two units here. */
export function lengthOf(text: string): number {
  let surrogates = 0;
  for (let at = 0; at < text.length; at++) if ((text.charCodeAt(at) & 0xfc00) === 0xdc00) surrogates++;
  return text.length - surrogates;
}
