// SPDX-License-Identifier: Apache-2.0
/**
 * Eight words of the BIP-39 English list that two people can read to each other in place of a hash.
 *
 * Does not make recovery phrases: eight words carry 88 bits and no checksum. `phrase` makes them.
 */
import { wordlist } from "@scure/bip39/wordlists/english.js";
import * as typed from "./typed.js";

/**
 * 88 bits: a key of one's own with the words of a key that exists is a second preimage, some 2^88 tries. A collision
 * takes 2^44, and gives two keys of one maker.
 */
export const WORDS = 8;
const BITS_PER_WORD = 11; // BIP-39 "Generating the mnemonic": 2,048 words

/**
 * Return the words of the first 88 bits of `digest`, eleven bits a word, most significant first.
 *
 * digest: 32 bytes of SHA-256. Throws a RangeError below 11 bytes (a caller's mistake).
 */
export function eightWords(digest: Uint8Array): string[] {
  if (digest.length < (WORDS * BITS_PER_WORD) / 8) throw new RangeError("a fingerprint needs 88 bits");
  const words: string[] = [];
  let bits = 0, held = 0;
  for (const octet of digest.subarray(0, (WORDS * BITS_PER_WORD) / 8)) {
    held = (held << 8) | octet;
    bits += 8;
    if (bits >= BITS_PER_WORD) {
      bits -= BITS_PER_WORD;
      words.push(wordlist[held >> bits] as string);
      held &= (1 << bits) - 1;
    }
  }
  return words;
}

/** Return words as `eightWords` has them from what a person typed, in one text or several. Throws Mistyped. */
export function asTyped(words: readonly string[]): string[] {
  // Upper-case ß is written SS, and Unicode folds the two into one.
  return words.flatMap((text) => typed.words(text, "the words")).map((word) => word.toLowerCase().replaceAll("ß", "ss"));
}

/** Tell whether what a person typed, in one text or several, are these words. Throws Mistyped. */
export function areWords(words: readonly string[], typedWords: readonly string[]): boolean {
  return asTyped(typedWords).join(" ") === words.join(" ");
}
