// SPDX-License-Identifier: Apache-2.0
/**
 * Numbers that two people compare by voice, to know that no server stands between them.
 *
 * 6 groups of 5 digits, and the safety numbers of account identity keys (docs/formats/content.md). Does not remember
 * what was compared; contacts do.
 */
import { label } from "../base/encoding.js";
import { HASH_SIZE, sha256 } from "./hashing.js";
import type { PublicKey } from "./public_keys.js";

/** 30 digits, near 100 bits, against a second preimage; Signal's safety numbers have as many for each side. */
export const GROUPS = 6;

/**
 * Return 6 groups of 5 digits (99.6 bits at most) of a SHA-256 digest of 32 bytes.
 *
 * Group k is the big-endian u32 of bytes 4k..4k+3, modulo 100,000. Throws a RangeError for another length.
 */
export function sixGroups(digest: Uint8Array): string[] {
  if (digest.length !== HASH_SIZE) throw new RangeError("digits are read from a SHA-256 digest");
  const view = new DataView(digest.buffer, digest.byteOffset);
  // 2^32 is not a multiple of 100,000: some groups are likelier by 1 in 43,000, which costs far less than a bit.
  return Array.from({ length: GROUPS }, (_, k) => String(view.getUint32(4 * k) % 100_000).padStart(5, "0"));
}

/** Return one user's half of a safety number: it changes with the account identity key, and with nothing else. */
export function ownNumber(of: { tenant: Uint8Array; user: Uint8Array; aik: PublicKey }): string[] {
  return sixGroups(sha256(label("safety-number", of.tenant, of.user, of.aik.encoded)));
}

/** Return the 12 groups that both people see alike: the two halves, the lesser first. */
export function pairNumber(half: readonly string[], other: readonly string[]): string[] {
  // Sorted, as neither of the two is "first": both screens must show one number. The groups are of one length.
  return half.join() <= other.join() ? [...half, ...other] : [...other, ...half];
}
