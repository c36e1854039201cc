// SPDX-License-Identifier: Apache-2.0
/**
 * Shares of a master secret, any k of which give it back: as words to write down, and as bytes to send.
 *
 * SLIP-0039 for one group of k-of-n members and secrets of 16 or 32 bytes. Does not authenticate: the digest inside finds
 * errors, commitments find liars. https://github.com/satoshilabs/slips/blob/master/slip-0039.md
 */
import { type Bytes, concat, EMPTY, equalSecret, utf8 } from "../base/bytes.js";
import { Malformed, Mistyped, OutOfBounds, QuorumNotMet, UnwrapFailed } from "../base/errors.js";
import { SecretBytes } from "../base/secret.js";
import * as typed from "../base/typed.js";
import { hmac } from "./hashing.js";
import { interpolate, MAX_SHARES, MIN_QUORUM } from "./shares.js";
import { WORD_LIST } from "./slip39_words.js";
import { randomBytes } from "./webcrypto.js";

const EXPONENT = 0; // the passphrase is empty, so that there is nothing for more iterations to slow down
const MAX_EXPONENT = 4; // 160,000 iterations of PBKDF2, a fraction of a second
// SLIP-0039 "Shamir's secret sharing": members have x = 0..15, so neither point is ever anybody's share.
const SECRET_AT = 255, DIGEST_AT = 254;
const DIGEST_SIZE = 4; // bytes: finds a wrong share in all but 1 of 2^32 cases
// SLIP-0039 "Encryption of the master secret": four Feistel rounds, 10,000 iterations in all at exponent 0.
const ROUNDS = [0, 1, 2, 3];
const ITERATIONS_A_ROUND = 2500; // doubled by each step of the exponent
const WORD_BITS = 10n; // 1,024 words
const HEAD_BITS = 40n; // identifier 15, extendable 1, exponent 4; then five numbers of 4 bits
const CHECKSUM_WORDS = 3; // RS1024: finds any 3 wrong words, others but for 1 in 10^9
// A word count fixes the secret's size. Other lengths are valid SLIP-0039 and made by nobody here.
const SIZE_OF: ReadonlyMap<number, number> = new Map([[20, 16], [33, 32]]);
const WORDS_OF: ReadonlyMap<number, number> = new Map([[16, 20], [32, 33]]);

interface Parts {
  /** 15 bits, the same in a set. */
  readonly identifier: number;
  /** Shares may be added to the set, of which ours always say so. */
  readonly extendable: boolean;
  /** Of the iterations. */
  readonly exponent: number;
  /** 0..15, the share's x. */
  readonly index: number;
  /** k. */
  readonly threshold: number;
  /** 16 or 32 bytes. */
  readonly value: SecretBytes;
}

function toNumber(octets: Uint8Array): bigint {
  return octets.reduce((sum, one) => (sum << 8n) | BigInt(one), 0n);
}

function toOctets(value: bigint, size: number): Bytes {
  const octets = new Uint8Array(size);
  for (let at = size - 1, left = value; at >= 0; at--, left >>= 8n) octets[at] = Number(left & 255n);
  return octets;
}

const sizeOfWords = (words: number): number => Math.ceil((10 * words) / 8);

/** One member's share. */
export class Share {
  readonly identifier: number;
  readonly extendable: boolean;
  readonly exponent: number;
  readonly index: number;
  readonly threshold: number;
  readonly value: SecretBytes;

  constructor(parts: Parts) {
    this.identifier = parts.identifier;
    this.extendable = parts.extendable;
    this.exponent = parts.exponent;
    this.index = parts.index;
    this.threshold = parts.threshold;
    this.value = parts.value;
  }

  /** Return the share as 20 or 33 words on one line. */
  mnemonic(): string {
    return this.#numbers().map((number) => WORD_LIST[number]).join(" ");
  }

  /** Return the share as the number that its words write, big-endian: 25 or 42 bytes, checksum included. */
  toBytes(): SecretBytes {
    const numbers = this.#numbers();
    const bits = numbers.reduce((above, number) => (above << WORD_BITS) | BigInt(number), 0n);
    const octets = new SecretBytes(toOctets(bits, sizeOfWords(numbers.length)));
    Share.fromBytes(octets); // what its own reader would refuse is given to nobody
    return octets;
  }

  /**
   * Read a share as a person writes it; letters after the fourth do not matter.
   *
   * Throws Mistyped for a word of no list; Malformed for another number of words, a wrong checksum, and several groups;
   * OutOfBounds for an exponent above 4.
   */
  static parse(mnemonic: string): Share {
    const words = typed.words(mnemonic, "share").map((word) => word.toLowerCase());
    const numbers = words.map(numberOf), wrong = numbers.indexOf(-1);
    if (wrong >= 0) throw new Mistyped(`share: word ${wrong + 1} is not in the word list`);
    return Share.#of(numbers);
  }

  /** Undo `toBytes`. Throws Malformed and OutOfBounds as `parse` does. */
  static fromBytes(octets: SecretBytes): Share {
    // 330 bits in 42 bytes leave six: if they were free, one share would have 64 encodings and as many commitments.
    const count = Math.floor((octets.length * 8) / 10), bits = toNumber(octets.reveal());
    if (!SIZE_OF.has(count) || octets.length !== sizeOfWords(count) || bits >> (WORD_BITS * BigInt(count)) !== 0n)
      throw new Malformed("share: not 25 or 42 bytes, or stray bits before it");
    return Share.#of(wordsOf(bits, count));
  }

  #numbers(): number[] {
    const one = (this.identifier << 1) | Number(this.extendable);
    let head = (BigInt(one) << 4n) | BigInt(this.exponent);
    // Group index 0, group threshold 1 and group count 1, the latter two less one.
    for (const number of [0, 0, 0, this.index, this.threshold - 1]) head = (head << 4n) | BigInt(number);
    const words = WORDS_OF.get(this.value.length) as number, valueWords = words - CHECKSUM_WORDS;
    const bits = (head << (WORD_BITS * BigInt(valueWords) - HEAD_BITS)) | toNumber(this.value.reveal());
    const numbers = wordsOf(bits, valueWords);
    // The checksum is what makes the polynomial of the whole share 1, hence the zeros and the XOR.
    const checksum = rs1024([...numbers, 0, 0, 0], this.extendable) ^ 1;
    return [...numbers, checksum >> 20, (checksum >> 10) & 1023, checksum & 1023];
  }

  static #of(numbers: readonly number[]): Share {
    const size = SIZE_OF.get(numbers.length);
    if (size === undefined) throw new Malformed(`share: ${numbers.length} words, where a share has 20 or 33`);
    const bits = numbers.slice(0, -CHECKSUM_WORDS).reduce((above, one) => (above << WORD_BITS) | BigInt(one), 0n);
    const valueBits = WORD_BITS * BigInt(numbers.length - CHECKSUM_WORDS) - HEAD_BITS;
    const head = bits >> valueBits, value = bits & ((1n << valueBits) - 1n);
    const field = (shift: bigint, mask: bigint): number => Number((head >> shift) & mask);
    const extendable = field(24n, 1n) === 1;
    // Before any field: a slip of the pen must not be told as "of several groups", which sends people the wrong way.
    if (rs1024(numbers, extendable) !== 1)
      throw new Malformed("share: the checksum is wrong, so that a word is wrong or out of place");
    if (field(8n, 0xfffn) !== 0) throw new Malformed("share: of several groups, which are not used here");
    if (value >> BigInt(8 * size) !== 0n) throw new Malformed("share: the padding is not zero");
    // The exponent is the giver's own number: at 15, one share would keep the device busy for over a minute.
    const exponent = field(20n, 15n);
    if (exponent > MAX_EXPONENT) throw new OutOfBounds("share: asks for more iterations than this reads");
    return new Share({
      identifier: field(25n, 0x7fffn),
      extendable,
      exponent,
      index: field(4n, 15n),
      threshold: field(0n, 15n) + 1,
      value: new SecretBytes(toOctets(value, size)),
    });
  }
}

function wordsOf(bits: bigint, count: number): number[] {
  const numbers: number[] = [];
  for (let left = bits; numbers.length < count; left >>= WORD_BITS) numbers.unshift(Number(left & 1023n));
  return numbers;
}

const byStart = new Map(WORD_LIST.map((word, number) => [word.slice(0, 4), number]));

function numberOf(word: string): number {
  const number = byStart.get(word.slice(0, 4));
  return number !== undefined && (WORD_LIST[number] as string).startsWith(word) ? number : -1;
}

// SLIP-0039 "Checksum": GEN of its rs1024_polymod.
const GENERATOR = [
  0xe0e040, 0x1c1c080, 0x3838100, 0x7070200, 0xe0e0009, 0x1c0c2412, 0x38086c24, 0x3090fc48, 0x21b1f890, 0x3f3f120,
];
const CUSTOMISATION = [utf8("shamir"), utf8("shamir_extendable")] as const;

/** The checksum polynomial of SLIP-0039 over GF(1024), by products instead of branches: the words are secret. */
function rs1024(numbers: readonly number[], extendable: boolean): number {
  let remainder = 1;
  for (const number of [...CUSTOMISATION[extendable ? 1 : 0], ...numbers]) {
    const top = remainder >>> 20;
    remainder = ((remainder & 0xfffff) << 10) ^ number;
    for (const [bit, term] of GENERATOR.entries()) remainder ^= term * ((top >> bit) & 1);
  }
  return remainder;
}

/**
 * Split a master secret of 16 or 32 bytes into n shares, any k of which give it back.
 *
 * Rejects with a RangeError unless 2 <= k <= n <= 16, and for another size (the caller's mistakes).
 */
export async function split(secret: SecretBytes, { k, n }: { k: number; n: number }): Promise<Share[]> {
  if (!(MIN_QUORUM <= k && k <= n && n <= MAX_SHARES)) throw new RangeError("a secret is split with 2 <= k <= n <= 16");
  if (!WORDS_OF.has(secret.length)) throw new RangeError("a master secret is 16 or 32 bytes");
  // Random, and in the open: it tells sets apart, so that shares of an old set are not mixed into a new one.
  const identifier = Number(toNumber(randomBytes(2))) >> 1;
  // Encrypted also without a passphrase: SLIP-0039 shares the encrypted master secret, and other tools expect it.
  const encrypted = await feistel(secret, ROUNDS, EMPTY, EXPONENT, saltOf(identifier, true));
  // k points fix the polynomial: k - 2 random ones, which are the first shares, the digest and the secret.
  const points = new Map<number, SecretBytes>();
  for (let x = 0; x < k - 2; x++) points.set(x, new SecretBytes(randomBytes(secret.length)));
  points.set(DIGEST_AT, digestPoint(encrypted, randomBytes(secret.length - DIGEST_SIZE)));
  points.set(SECRET_AT, encrypted);
  return Array.from(
    { length: n },
    (_, x) =>
      new Share({
        identifier,
        extendable: true,
        exponent: EXPONENT,
        index: x,
        threshold: k,
        value: interpolate(points, x),
      }),
  );
}

/**
 * Return the master secret of k shares or more, all of one set.
 *
 * passphrase: printable ASCII, of which ours have none; a wrong one gives another secret, unnoticed (SLIP-0039). Rejects
 * with Malformed for shares of different sets and for one given twice; QuorumNotMet for fewer than k; UnwrapFailed when
 * the digest inside is wrong, so that a share is.
 */
export async function combine(shares: readonly Share[], passphrase: Uint8Array = EMPTY): Promise<SecretBytes> {
  const setOf = (one: Share): string =>
    [one.identifier, one.extendable, one.exponent, one.threshold, one.value.length].join();
  // Before any arithmetic: points of two polynomials give a third, and the digest would blame the wrong cause.
  if (new Set(shares.map(setOf)).size > 1) throw new Malformed("shares of different sets do not go together");
  const points = new Map(shares.map((one) => [one.index, one.value]));
  // Two values at one x: one of them is false, and taking the last would let a liar replace an honest share.
  if (points.size !== shares.length) throw new Malformed("one share is there twice, or two claim one place");
  const first = shares[0];
  if (first === undefined || shares.length < Math.max(MIN_QUORUM, first.threshold))
    throw new QuorumNotMet(`${shares.length} shares are too few`);
  const encrypted = interpolate(points, SECRET_AT), point = interpolate(points, DIGEST_AT);
  // The digest's key stands beside it: the four bytes say that the shares belong together, and nothing more.
  if (!equalSecret(point.reveal(), digestPoint(encrypted, point.reveal().slice(DIGEST_SIZE)).reveal()))
    throw new UnwrapFailed("the shares do not add up: one of them is wrong");
  const salt = saltOf(first.identifier, first.extendable);
  return feistel(encrypted, [...ROUNDS].reverse(), passphrase, first.exponent, salt);
}

function digestPoint(secret: SecretBytes, key: Bytes): SecretBytes {
  return new SecretBytes(concat(hmac(new SecretBytes(key), secret.reveal()).slice(0, DIGEST_SIZE), key));
}

/** Encrypt (rounds ascending) or decrypt (descending) with the four rounds of PBKDF2-HMAC-SHA256. */
async function feistel(
  data: SecretBytes,
  rounds: readonly number[],
  passphrase: Uint8Array,
  exponent: number,
  salt: Bytes,
): Promise<SecretBytes> {
  const half = data.length / 2;
  let left: Bytes = data.reveal().slice(0, half), right: Bytes = data.reveal().slice(half);
  for (const number of rounds) {
    // SLIP-0039: the round's number leads the passphrase, the other half ends the salt.
    const secret = concat(Uint8Array.of(number), passphrase);
    const key = await crypto.subtle.importKey("raw", secret, "PBKDF2", false, ["deriveBits"]);
    const iterations = ITERATIONS_A_ROUND << exponent;
    const how = { name: "PBKDF2", hash: "SHA-256", salt: concat(salt, right), iterations };
    const mask = new Uint8Array(await crypto.subtle.deriveBits(how, key, 8 * half));
    [left, right] = [right, left.map((one, at) => one ^ (mask[at] as number))];
  }
  return new SecretBytes(concat(right, left));
}

function saltOf(identifier: number, extendable: boolean): Bytes {
  // A set that may be extended has the same secret under every identifier, which the salt must then not hold.
  return extendable ? EMPTY : concat(utf8("shamir"), Uint8Array.of(identifier >> 8, identifier & 255));
}
