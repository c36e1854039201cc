// SPDX-License-Identifier: Apache-2.0
/**
 * The one reader of what people type or paste: secrets, codes, words and digits, in whatever spelling they arrive.
 *
 * docs/formats/typed.md: Unicode normal forms, what is invisible, list numbers, commas, line ends and quotes. Does not
 * know any secret's form: each says what it takes, and its checksum whether it is that.
 */
import { lengthOf } from "./bytes.js";
import { Mistyped } from "./errors.js";

/**
 * Characters. Bounds the work of normalising what was pasted by mistake: it takes the square of how many combining marks
 * stand in a row. The longest that is typed, a password of 1,024 characters, is typed as four of them each at most.
 */
export const MAX_TYPED = 4096;

// Default_Ignorable_Code_Point (Unicode 15.1, DerivedCoreProperties.txt): no shape on any screen, so that nobody means
// them by what they type. Written out: engines differ in the Unicode version behind \p{}.
const IGNORABLE =
  "\\u00ad\\u034f\\u061c\\u115f-\\u1160\\u17b4-\\u17b5\\u180b-\\u180f\\u200b-\\u200f\\u202a-\\u202e\\u2060-\\u206f\\u3164" +
  "\\ufe00-\\ufe0f\\ufeff\\uffa0\\ufff0-\\ufff8\\u{1bca0}-\\u{1bca3}\\u{1d173}-\\u{1d17a}\\u{e0000}-\\u{e0fff}";
const INVISIBLE = new RegExp(`[${IGNORABLE}]`, "gu");
// A word that was parted at the end of a line, where only the soft hyphen says that it goes on.
const PARTED = /\u00ad[ \t]*\r?\n[ \t]*/g;
// What word processors and chats make of the signs on a keyboard.
const TYPOGRAPHIC = new Map<string, string>([
  ...[..."\u2018\u2019\u201a\u201b\u2032"].map((sign): [string, string] => [sign, "'"]),
  ...[..."\u201c\u201d\u201e\u201f\u2033"].map((sign): [string, string] => [sign, '"']),
  ...[..."\u2010\u2011\u2012\u2013\u2212"].map((sign): [string, string] => [sign, "-"]),
  ["\u2014", "--"],
]);
// What Python's str.isspace and str.strip take for white space, which is more than JavaScript's \s, and less.
const SPACE = "\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000";
const ENDS = new RegExp(`^[${SPACE}]+|[${SPACE}]+$`, "gu");
const ANYWHERE = new RegExp(`[${SPACE}]`, "u");
const NOTHING_AT_ENDS = new RegExp(`^[${SPACE}${IGNORABLE}]+|[${SPACE}${IGNORABLE}]+$`, "gu");

/** Return `text` without what has no shape on a screen. */
export function visible(text: string): string {
  return text.replace(PARTED, "").replace(INVISIBLE, "");
}

/** Return `text` without white space and what nobody sees at its ends, where a copy leaves it; inside all stays. */
export function trimmed(text: string): string {
  return text.replace(NOTHING_AT_ENDS, "");
}

/** Return `text` without white space at its ends, as Python's `str.strip` takes it: JavaScript's `trim` is another set. */
export function stripped(text: string): string {
  return text.replace(ENDS, "");
}

/** Tell whether `text` holds white space, as Python's `str.isspace` takes it. */
export function hasSpace(text: string): boolean {
  return ANYWHERE.test(text);
}

function plainSigns(text: string): string {
  return [...visible(text)].map((sign) => TYPOGRAPHIC.get(sign) ?? sign).join("");
}

function requireShort(text: string, what: string): void {
  if (lengthOf(text) > MAX_TYPED) throw new Mistyped(`${what}: far longer than one is`);
}

/**
 * Return the one form of a password for all its spellings: NFKC, nothing invisible, no white space at its ends.
 *
 * Quotes and hyphens are those of a keyboard. Throws Mistyped above 4,096 characters.
 */
export function password(text: string): string {
  requireShort(text, "a password");
  return plainSigns(text).normalize("NFKC").replace(ENDS, "");
}

/**
 * Return the words of a list as people write them: numbered, with commas, bullets or a full stop, on any lines.
 *
 * In NFKD, and with the capitals that they have. Throws Mistyped, naming `what`, above 4,096 characters.
 */
export function words(text: string, what: string): string[] {
  requireShort(text, what);
  // NFKD turns the ideographic space into a plain one, so that one split serves Japanese as well. A zero-width space is
  // where a word may end (UAX 14), and the only thing between some words on web pages.
  const plain = visible(text.replaceAll("\u200b", " ")).normalize("NFKD");
  // U+FFFD stands in one word of the Russian list as `mnemonic` has it, and so in the phrases of its users.
  const parted = plain.replace(/[^\p{L}\p{M}0-9\ufffd]/gu, " ");
  // A number stands before its word, with or without a sign between them; within a word a digit is a slip.
  return parted
    .split(" ")
    .map((token) => token.replace(/^[0-9]+/, ""))
    .filter((word) => word !== "");
}

/**
 * Return a number or a short code without what groups it: its digits, of any script, in ASCII, and its letters.
 *
 * The letters stay as they are, so that none is taken for nothing. Of at most the first 4,096 characters.
 */
export function ungrouped(text: string): string {
  const compatible = [...text].slice(0, MAX_TYPED).join("").normalize("NFKC");
  return [...compatible]
    .map((sign) => (/^\p{Nd}$/u.test(sign) ? String(digitOf(sign)) : sign))
    .filter((sign) => /^[\p{L}\p{N}]$/u.test(sign))
    .join("");
}

/** The value of a decimal digit of any script: they stand in runs of ten from a zero (Unicode, section 4.6). */
function digitOf(sign: string): number {
  const code = sign.codePointAt(0) as number;
  let first = code;
  while (code - first < 9 && /^\p{Nd}$/u.test(String.fromCodePoint(first - 1))) first--;
  return (code - first) % 10;
}

/**
 * Return the signs after `prefix` of a code that was copied: without line ends, indents, quotes and full stops.
 *
 * prefix: ASCII, in any capitals. What stands before it is not looked at. Only A-Z, a-z, 0-9, - and _ are kept, so a code
 * needs a checksum over them. Throws Mistyped, naming `what`, without the prefix and above 4,096 characters.
 */
export function code(text: string, prefix: string, what: string): string {
  requireShort(text, what);
  const plain = plainSigns(text).normalize("NFKC");
  const capitals = (one: string): string => one.replace(/[A-Z]/g, (sign) => sign.toLowerCase());
  const at = capitals(plain).indexOf(capitals(prefix));
  if (at < 0) throw new Mistyped(`${what}: does not begin with "${prefix}"`);
  return plain.slice(at + prefix.length).replace(/[^A-Za-z0-9_-]/g, "");
}
