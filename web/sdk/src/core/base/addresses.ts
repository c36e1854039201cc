// SPDX-License-Identifier: Apache-2.0
/**
 * E-mail addresses: the one form under which they are compared, and letters in them that look like others.
 *
 * Unicode TR36: normalise, fold, show what is mixed. Does not know whose an address is; the directory of the tenant does.
 */
import { lengthOf } from "./bytes.js";
import { Malformed } from "./errors.js";
import { isHidden, stripped } from "./text.js";

/** Characters: RFC 5321 section 4.5.3.1.3, without the brackets. */
export const MAX_ADDRESS = 254;
// One character is typed as four at most; normalising takes the square of marks in a row.
const TYPED = 4 * MAX_ADDRESS;
const ADDRESS = /^[^\s@"<>(),:;[\]\\]{1,64}@(?:[^\s@.]{1,63}\.)*[^\s@.]{1,63}$/u;
// Full case folding (Unicode 5.18) is the small letter, but for these: Cherokee folds to its capitals, and of what has no
// capital of one character the small letters of the capital count, as ss for the sharp s.
const CHEROKEE = /^[\u13a0-\u13f5\u13f8-\u13fd\uab70-\uabbf]$/u;
const BY_CAPITAL =
  /^[\u00df\u01f0\u0345\u0390\u03b0\u03c2\u1c80-\u1c88\u1e96-\u1e99\u1f50\u1f52\u1f54\u1f56\u1f80-\u1faf\u1fb2-\u1fb4\u1fb6\u1fb7\u1fbc\u1fc2-\u1fc4\u1fc6\u1fc7\u1fcc\u1fd2\u1fd6\u1fd7\u1fe2\u1fe4\u1fe6\u1fe7\u1ff2-\u1ff4\u1ff6\u1ff7\u1ffc]$/u;

function folded(sign: string): string {
  if (CHEROKEE.test(sign)) return sign.toUpperCase();
  if (sign === "\u1e9e") return "ss";
  return BY_CAPITAL.test(sign) ? sign.toUpperCase().toLowerCase() : sign.toLowerCase();
}

/**
 * Return the form under which e-mail addresses are compared: NFKC and case-folded, both sides of the @.
 *
 * Throws Malformed for what is not one plain address of at most 254 characters.
 */
export function addressKey(text: string): string {
  // Letter by letter: a small sigma is another one at the end of a word, and an address has no such ends.
  const key = lengthOf(text) <= TYPED ? [...stripped(text.normalize("NFKC"))].map(folded).join("") : "";
  // What is hidden belongs in no address, and can make one look like another.
  if (lengthOf(key) > MAX_ADDRESS || !ADDRESS.test(key) || [...key].some(isHidden))
    throw new Malformed("not one e-mail address");
  return key;
}

// What Unicode counts as Latin and calls by another name: superscript and wide letters, and signs that come of letters.
const NAMED_OTHERWISE = /[\xaa\xba\p{Lm}\u1d2c-\u1d5c\u1d9b-\u1dbe\u212a\u212b\u2132\u214e\u2183\uff21-\uff3a\uff41-\uff5a]/u;

/**
 * Return the letters of other scripts that stand among Latin ones, each once with its code point and script, in order.
 *
 * Such a letter can be one that nobody tells from a Latin one. Nothing for a text in Latin letters alone, or in none:
 * whoever writes a whole address in their own script mixes nothing.
 */
export function mixedLetters(text: string): [letter: string, name: string][] {
  const letters = [...new Set(text)].filter((sign) => /\p{L}/u.test(sign));
  const others = letters.filter((sign) => !/\p{Script=Latin}/u.test(sign) || NAMED_OTHERWISE.test(sign));
  return others.length < letters.length ? others.map((sign) => [sign, nameOf(sign)]) : [];
}

// The scripts whose letters are taken for Latin ones (Unicode TS39, confusables.txt); others are told by their number.
const SCRIPTS: readonly [string, RegExp][] = [
  ["Cyrillic", /\p{Script=Cyrillic}/u],
  ["Greek", /\p{Script=Greek}/u],
  ["Armenian", /\p{Script=Armenian}/u],
  ["Cherokee", /\p{Script=Cherokee}/u],
  ["Coptic", /\p{Script=Coptic}/u],
  ["Lisu", /\p{Script=Lisu}/u],
];

function nameOf(sign: string): string {
  const number = (sign.codePointAt(0) as number).toString(16).toUpperCase().padStart(4, "0");
  const script = SCRIPTS.find(([, letters]) => letters.test(sign))?.[0];
  return script === undefined ? `U+${number}` : `${script} U+${number}`;
}
