// SPDX-License-Identifier: Apache-2.0
/**
 * Shamir secret sharing of a short secret, byte by byte over GF(2^8).
 *
 * Field polynomial 0x11B, one random polynomial per byte, secret at x = 0, x_i = i. Does not authenticate: a wrong share
 * yields a wrong secret, so each is checked against its commitment first. Shamir, "How to Share a Secret", 1979.
 */
import type { Bytes } from "../base/bytes.js";
import { SecretBytes } from "../base/secret.js";
import { randomBytes } from "./webcrypto.js";

/** 16 officers or contacts; SLIP-0039 has 4 bits for it. */
export const MAX_SHARES = 16;
/** A quorum of one is no sharing: each share would be the secret itself. */
export const MIN_QUORUM = 2;
const MAX_X = 255; // GF(2^8) has no more points; SLIP-0039 puts its secret at 255

/**
 * Multiply a byte by a public field element, modulo 0x11B. The secret decides neither a branch nor a table index: the
 * loop runs over the public number, and the folding is a product.
 */
function times(secret: number, by: number): number {
  let result = 0, lane = secret;
  for (let left = by; left !== 0; left >>= 1) {
    if ((left & 1) !== 0) result ^= lane;
    const carried = lane >> 7;
    lane = ((lane ^ (carried << 7)) << 1) ^ (carried * 0x1b);
  }
  return result;
}

/** The inverse of a public non-zero field element, as its 254th power (the group has order 255). */
function inverse(element: number): number {
  let result = 1, square = element;
  for (let bit = 0; bit < 8; bit++) {
    if (((254 >> bit) & 1) !== 0) result = times(result, square);
    square = times(square, square);
  }
  return result;
}

/**
 * Split `secret` into shares for indices 1..n, any m of which give it back and m-1 say nothing.
 *
 * secret: 1 byte or more; each share has its length. Throws a RangeError unless 2 <= m <= n <= 16 (the caller's mistake).
 */
export function split(
  secret: SecretBytes,
  { m, n, random = randomBytes }: { m: number; n: number; random?: (size: number) => Bytes },
): Map<number, SecretBytes> {
  if (!(MIN_QUORUM <= m && m <= n && n <= MAX_SHARES)) throw new RangeError("a secret is split with 2 <= m <= n <= 16");
  if (secret.length === 0) throw new RangeError("there is nothing to split");
  const coefficients = [secret.reveal()];
  for (let at = 1; at < m; at++) {
    const drawn = random(secret.length);
    // Short coefficients would leave bytes of the secret in every share.
    if (drawn.length !== secret.length) throw new RangeError("the source of randomness returned another length");
    coefficients.push(drawn);
  }
  const shares = new Map<number, SecretBytes>();
  for (let index = 1; index <= n; index++) {
    const share = new Uint8Array(secret.length);
    // Horner's rule. XOR is both plus and minus in this field.
    for (const coefficient of [...coefficients].reverse())
      for (let at = 0; at < share.length; at++) share[at] = times(share[at] as number, index) ^ (coefficient[at] as number);
    shares.set(index, new SecretBytes(share));
    share.fill(0);
  }
  return shares;
}

/**
 * Return the secret that exactly these shares interpolate to at x = 0.
 *
 * shares: 2 to 16 of them, by index 1..16, all of one length. With fewer than m, or a wrong one among them, the result is
 * another value and nothing here notices: the caller compares a commitment. Throws a RangeError on other numbers.
 */
export function combine(shares: ReadonlyMap<number, SecretBytes>): SecretBytes {
  const indices = [...shares.keys()];
  if (shares.size < MIN_QUORUM || shares.size > MAX_SHARES || indices.some((i) => i < 1 || i > MAX_SHARES))
    throw new RangeError("shares are 2 to 16, with indices 1..16");
  return interpolate(shares, 0);
}

/**
 * Return the value at `at` of the polynomial of least degree through `points`, byte by byte.
 *
 * points: values of one length, by x in 0..255; at: 0..255, which gives the point itself where it is one. Throws a
 * RangeError for other numbers or lengths (the caller's mistake).
 */
export function interpolate(points: ReadonlyMap<number, SecretBytes>, at: number): SecretBytes {
  if (![at, ...points.keys()].every((x) => Number.isInteger(x) && x >= 0 && x <= MAX_X))
    throw new RangeError("x is a byte");
  const widths = new Set([...points.values()].map((share) => share.length));
  const width = [...widths][0] ?? 0;
  if (widths.size !== 1 || width === 0) throw new RangeError("shares of one secret have one length");
  const known = points.get(at);
  if (known !== undefined) return known;
  const value = new Uint8Array(width);
  for (const [x, share] of points) {
    // The Lagrange coefficient of the point at x: the product of (at - other) / (x - other), where minus is XOR.
    let above = 1, below = 1;
    for (const other of points.keys())
      if (other !== x) {
        above = times(above, other ^ at);
        below = times(below, other ^ x);
      }
    const weight = times(above, inverse(below)), octets = share.reveal();
    for (let place = 0; place < width; place++)
      value[place] = (value[place] as number) ^ times(octets[place] as number, weight);
  }
  return new SecretBytes(value);
}
