// SPDX-License-Identifier: Apache-2.0
/**
 * Padding of what is encrypted, so that a ciphertext's length tells little about the plaintext's.
 *
 * Padmé (Nikitin et al., "Reducing Metadata Leakage from Encrypted Files", PETS 2019, section 4). Does not hide whether
 * a message was sent, nor more of its length than Padmé does.
 */
import type { Bytes } from "./bytes.js";
import { Malformed } from "./errors.js";

/** Bytes, u32: the same for every message, so the length says nothing by its own size. */
export const LENGTH_SIZE = 4;

function bitLength(value: number): number {
  return value === 0 ? 0 : Math.floor(Math.log2(value)) + 1;
}

/**
 * Return Padmé(size): at most 12 % more for any size, and at most 6.25 % more from 2^16 - 1 on.
 *
 * What is left of `size` are its log2(log2(size)) + 1 highest bits: all an observer learns.
 */
export function paddedSize(size: number): number {
  // E would be 0 or not exist, and Padmé takes its logarithm.
  if (size < 2) return size;
  const exponent = bitLength(size) - 1;
  // E − S low bits become zero, rounding up: S = bit_length(E) is Padmé's floor(log2 E) + 1.
  const unit = 2 ** (exponent - bitLength(exponent));
  return Math.ceil(size / unit) * unit;
}

/** Return u32 length || plaintext || zeros, Padmé(4 + length) bytes in all. */
export function pad(plaintext: Uint8Array): Bytes {
  const padded = new Uint8Array(paddedSize(LENGTH_SIZE + plaintext.length));
  new DataView(padded.buffer).setUint32(0, plaintext.length);
  padded.set(plaintext, LENGTH_SIZE);
  return padded;
}

/**
 * Undo `pad`. Throws Malformed for another size than Padmé's, and for padding that is not zeros.
 *
 * One plaintext has exactly one padded form: nothing can be carried in the padding unseen.
 */
export function unpad(padded: Uint8Array): Bytes {
  if (padded.length < LENGTH_SIZE) throw new Malformed("padding: no length");
  const end = LENGTH_SIZE + new DataView(padded.buffer, padded.byteOffset).getUint32(0);
  // Checked although GCM has authenticated it: an honest peer pads in one way, and a dishonest one gets no second
  // channel in sizes or bytes that a reader would not show.
  if (paddedSize(end) !== padded.length) throw new Malformed("padding: not the size that its length calls for");
  for (let at = end; at < padded.length; at++) if (padded[at] !== 0) throw new Malformed("padding: not zeros");
  return padded.slice(LENGTH_SIZE, end) as Bytes;
}
