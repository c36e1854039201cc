// SPDX-License-Identifier: Apache-2.0
/**
 * Recovery phrases: 32 bytes as 24 words, in any of the BIP-39 languages (docs/formats/doors.md).
 *
 * BIP-39 "Generating the mnemonic" and its word lists, each but the English one loaded when it is needed. Does not make
 * BIP-39 seeds: the entropy itself is what opens a door.
 */
import { wordlist as english } from "@scure/bip39/wordlists/english.js";
import type { Bytes } from "../base/bytes.js";
import { Mistyped } from "../base/errors.js";
import { SecretBytes } from "../base/secret.js";
import * as typed from "../base/typed.js";
import { sha256 } from "./hashing.js";
import { randomBytes } from "./webcrypto.js";

/** BIP-39's longest phrase: 256 bits stay out of reach also where 128 might not. */
export const WORDS = 24;
/** Bytes, BIP-39's ENT = 256 bits. */
export const ENTROPY_SIZE = 32;
const BITS_PER_WORD = 11n; // 2,048 words
const CHECKSUM_BITS = 8n; // BIP-39: ENT / 32. One wrong phrase in 256 passes, and then does not open
// Four letters tell the words of most BIP-39 lists apart, and steel plates have room for no more.
const ABBREVIATED = 4;
const WHAT = "recovery phrase";

/** The word lists, by the names that doors store. */
export const LANGUAGES = [
  "english", "chinese_simplified", "chinese_traditional", "czech", "french", "italian", "japanese", "korean",
  "portuguese", "russian", "spanish", "turkish",
] as const;
export type Language = (typeof LANGUAGES)[number];

const LISTS: Readonly<Record<Language, () => Promise<{ readonly wordlist: readonly string[] }>>> = {
  english: async () => ({ wordlist: english }), // there already: fingerprints are read in its words
  chinese_simplified: () => import("@scure/bip39/wordlists/simplified-chinese.js"),
  chinese_traditional: () => import("@scure/bip39/wordlists/traditional-chinese.js"),
  czech: () => import("@scure/bip39/wordlists/czech.js"),
  french: () => import("@scure/bip39/wordlists/french.js"),
  italian: () => import("@scure/bip39/wordlists/italian.js"),
  japanese: () => import("@scure/bip39/wordlists/japanese.js"),
  korean: () => import("@scure/bip39/wordlists/korean.js"),
  portuguese: () => import("@scure/bip39/wordlists/portuguese.js"),
  russian: () => import("./wordlists/russian.js"),
  spanish: () => import("@scure/bip39/wordlists/spanish.js"),
  turkish: () => import("./wordlists/turkish.js"),
};

/** The words are no recovery phrase. Messages never contain a word: they end up in logs. */
export class PhraseError extends Mistyped {
  override get name(): string {
    return "PhraseError";
  }
}

/** A word of no list. position: 1..24; language: the list that fits the other words best. */
export class UnknownWord extends PhraseError {
  override get name(): string {
    return "UnknownWord";
  }

  constructor(
    readonly position: number,
    readonly language: Language,
  ) {
    super(`word ${position} is not in the ${language.replaceAll("_", " ")} word list`);
  }
}

/** Not 24 words. count: how many there are. unknown: the first that is in no list, where there is one. */
export class WrongWordCount extends PhraseError {
  override get name(): string {
    return "WrongWordCount";
  }

  constructor(
    readonly count: number,
    readonly unknown?: UnknownWord | undefined,
  ) {
    super(`a recovery phrase has ${WORDS} words, and this has ${count}${unknown ? `; ${unknown.message}` : ""}`);
  }
}

/** All words exist, yet not in this order: one was taken for another, or two changed places. */
export class WrongChecksum extends PhraseError {
  override get name(): string {
    return "WrongChecksum";
  }

  constructor() {
    super("the words do not belong together: one is another word of the list, or their order is wrong");
  }
}

/** The words are a phrase in several languages, with different meanings: ask which, and say so in `parse`. */
export class AmbiguousLanguage extends PhraseError {
  override get name(): string {
    return "AmbiguousLanguage";
  }

  constructor(readonly languages: readonly Language[]) {
    super(`the words are a phrase in more than one language: ${languages.join(", ")}`);
  }
}

/** Words asked back were not the phrase's. positions: which of them, ascending. */
export class NotConfirmed extends PhraseError {
  override get name(): string {
    return "NotConfirmed";
  }

  constructor(readonly positions: readonly number[]) {
    super(`not the words of this phrase: ${positions.join(", ")}`);
  }
}

/** One list, and what a person may type for each word of it, folded: the word, or its first four letters. */
interface List {
  readonly words: readonly string[];
  readonly index: ReadonlyMap<string, number>;
}

const loaded = new Map<Language, Promise<List>>();

function listOf(language: Language): Promise<List> {
  let list = loaded.get(language);
  if (list === undefined) {
    list = LISTS[language]().then(({ wordlist }) => ({ words: wordlist, index: indexOf(wordlist) }));
    // The network was away: the next who asks tries again.
    list.catch(() => loaded.delete(language));
    loaded.set(language, list);
  }
  return list;
}

function indexOf(words: readonly string[]): Map<string, number> {
  const full = words.map(fold), short = new Map<string, number[]>();
  full.forEach((word, at) => {
    const start = [...word].slice(0, ABBREVIATED).join("");
    short.set(start, [...(short.get(start) ?? []), at]);
  });
  const index = new Map<string, number>();
  for (const [start, found] of short) if (found.length === 1) index.set(start, found[0] as number);
  // A whole word wins over an abbreviation: Turkish has words of four letters that begin others.
  full.forEach((word, at) => index.set(word, at));
  return index;
}

/**
 * Return what tells a word apart from the others of its list: no capitals, no marks, no dots on the i.
 *
 * Every list stays one of 2,048 different words; Turkish capitals (I, İ) would otherwise depend on the keyboard.
 */
function fold(word: string): string {
  const plain = word.normalize("NFKD").toLowerCase().replaceAll("ß", "ss").normalize("NFKD");
  return plain.replace(/\p{Mn}/gu, "").replaceAll("ı", "i");
}

/** Return the words of a part of a phrase as a person writes it; none of them need be in a list. Throws Mistyped. */
export function wordsIn(text: string): string[] {
  const words = typed.words(text, WHAT);
  // Chinese is written without spaces, and each word of its lists is one sign.
  return words.every((word) => /^[\u4e00-\u9fff]+$/.test(word)) ? [...words.join("")] : words;
}

function bitsOf(indices: readonly number[]): bigint {
  return indices.reduce((bits, index) => (bits << BITS_PER_WORD) | BigInt(index), 0n);
}

function octetsOf(value: bigint, size: number): Bytes {
  const octets = new Uint8Array(size);
  for (let at = size - 1, left = value; at >= 0; at--, left >>= 8n) octets[at] = Number(left & 255n);
  return octets;
}

function entropyOf(indices: readonly number[]): SecretBytes | undefined {
  const bits = bitsOf(indices), entropy = octetsOf(bits >> CHECKSUM_BITS, ENTROPY_SIZE);
  return sha256(entropy)[0] === Number(bits & 255n) ? new SecretBytes(entropy) : undefined;
}

/** Name the first word that is not in the list that has most of them; undefined when all are. */
async function unknownWord(tokens: readonly string[], asked: readonly Language[]): Promise<UnknownWord | undefined> {
  let best: Language | undefined, most = -1;
  for (const language of asked) {
    const { index } = await listOf(language), known = tokens.filter((token) => index.has(token)).length;
    if (known > most) [best, most] = [language, known];
  }
  const language = best as Language, { index } = await listOf(language);
  const at = tokens.findIndex((token) => !index.has(token));
  return at < 0 ? undefined : new UnknownWord(at + 1, language);
}

/** A recovery phrase. entropy: its 32 bytes, which alone matter to a door; language: how they are written. */
export class Phrase {
  /** Throws a RangeError for another size: 12 words are 128 bits, for which a phrase that opens everything is no place. */
  constructor(
    readonly entropy: SecretBytes,
    readonly language: Language = "english",
  ) {
    if (entropy.length !== ENTROPY_SIZE) throw new RangeError("the entropy of a phrase is 32 bytes");
  }

  /** Make a phrase from the system's randomness. */
  static generate(language: Language = "english"): Phrase {
    return new Phrase(new SecretBytes(randomBytes(ENTROPY_SIZE)), language);
  }

  /**
   * Read 24 words as a person writes them: numbered or not, any capitals, no accents.
   *
   * A word may be cut to its first four letters where they tell it apart. Without `language` every list is tried, and the
   * checksum decides between those that have all the words. Rejects with WrongWordCount, UnknownWord, WrongChecksum or
   * AmbiguousLanguage, each a PhraseError; Mistyped for what is no such text.
   */
  static async parse(text: string, language?: Language): Promise<Phrase> {
    const tokens = wordsIn(text).map(fold), asked = language === undefined ? LANGUAGES : [language];
    // The count comes first: of a phrase cut short it would otherwise be said that a word is wrong.
    if (tokens.length !== WORDS) throw new WrongWordCount(tokens.length, await unknownWord(tokens, asked));
    const found: Phrase[] = [];
    let isRead = false;
    for (const candidate of asked) {
      const { index } = await listOf(candidate), read = tokens.map((token) => index.get(token));
      if (read.includes(undefined)) continue;
      isRead = true;
      const entropy = entropyOf(read as number[]);
      if (entropy !== undefined) found.push(new Phrase(entropy, candidate));
    }
    const unknown = isRead ? undefined : await unknownWord(tokens, asked);
    if (unknown !== undefined) throw unknown;
    const [first] = found;
    if (first === undefined) throw new WrongChecksum();
    // English and French share 100 words: never guess which phrase is meant. One entropy in two languages is no doubt,
    // since the entropy alone opens the door.
    if (found.some((phrase) => !phrase.entropy.equals(first.entropy)))
      throw new AmbiguousLanguage(found.map((phrase) => phrase.language));
    return first;
  }

  /** Return the 24 words, for the person's own screen. */
  async words(): Promise<string[]> {
    const entropy = this.entropy.reveal(), { words } = await listOf(this.language);
    let bits = (BigInt(sha256(entropy)[0] as number) | (entropy.reduce((sum, one) => (sum << 8n) | BigInt(one), 0n) << 8n));
    const found: string[] = [];
    for (let left = WORDS; left > 0; left--, bits >>= BITS_PER_WORD) found.unshift(words[Number(bits & 2047n)] as string);
    return found;
  }

  /** Return the words on one line, parted as the language does it. */
  async text(): Promise<string> {
    return (await this.words()).join(this.language === "japanese" ? "\u3000" : " ");
  }

  /**
   * Check words that a person was asked back, by position 1..24, before a phrase counts.
   *
   * Rejects with NotConfirmed naming the positions that were wrong; a RangeError when nothing was asked, or a position is
   * not of the phrase (the caller's mistakes).
   */
  async confirm(answers: ReadonlyMap<number, string>): Promise<void> {
    const asked = [...answers.keys()];
    if (asked.length === 0 || !asked.every((at) => at >= 1 && at <= WORDS))
      throw new RangeError("ask for words 1 to 24, and for one at least");
    const words = await this.words(), { index } = await listOf(this.language);
    const indexIn = (word: string): number | undefined => {
      const [only, ...more] = typed.words(word, "a word of a recovery phrase");
      return only === undefined || more.length > 0 ? undefined : index.get(fold(only));
    };
    const wrong = asked.filter((at) => {
      const given = indexIn(answers.get(at) as string);
      return given === undefined || given !== indexIn(words[at - 1] as string);
    });
    if (wrong.length > 0) throw new NotConfirmed(wrong.sort((a, b) => a - b));
  }
}
