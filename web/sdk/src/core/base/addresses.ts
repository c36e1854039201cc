// SPDX-License-Identifier: Apache-2.0
/**
 * E-mail addresses: the one form under which they are compared, and letters in them that look like others.
 *
 * Unicode TR36: normalise, fold, show what is mixed. Does not know whose an address is; the directory of the tenant does.
 */
import { lengthOf } from "./bytes.js";
import { Malformed } from "./errors.js";
import { hasHidden } from "./text.js";
import { stripped } from "./typed.js";

/** Characters: RFC 5321 section 4.5.3.1.3, without the brackets. */
export const MAX_ADDRESS = 254;
// One character is typed as four at most; normalising takes the square of marks in a row.
const TYPED = 4 * MAX_ADDRESS;
const ADDRESS = /^[^\s@"<>(),:;[\]\\]{1,64}@(?:[^\s@.]{1,63}\.)*[^\s@.]{1,63}$/u;
// Cherokee has its capitals folded to: Unicode, CaseFolding.txt.
const CHEROKEE = /^[\u13a0-\u13fd\uab70-\uabbf]$/u;
// What Unicode counts as Latin and calls by another name: superscript and wide letters, and signs that come of letters.
const NAMED_OTHERWISE = /[\xaa\xba\p{Lm}\u1d2c-\u1d5c\u1d9b-\u1dbe\u212a\u212b\u2132\u214e\u2183\uff21-\uff3a\uff41-\uff5a]/u;

/**
 * Return the form under which e-mail addresses are compared: NFKC and case-folded, both sides of the @.
 *
 * Throws Malformed for what is not one plain address of at most 254 characters.
 */
export function addressKey(text: string): string {
  const folded = lengthOf(text) <= TYPED ? foldCase(stripped(text.normalize("NFKC"))) : "";
  // What is hidden belongs in no address, and can make one look like another.
  if (lengthOf(folded) > MAX_ADDRESS || !ADDRESS.test(folded) || hasHidden(folded))
    throw new Malformed("not one e-mail address");
  return folded;
}

/** Full case folding of text in NFKC (Unicode, section 3.13), which no engine has under a name of its own. */
function foldCase(text: string): string {
  const fold = (sign: string): string => {
    if (CHEROKEE.test(sign)) return sign.toUpperCase();
    if (sign === "\u0131") return sign; // the dotless i is a letter of its own, with the I of another as its capital
    // Through the capitals, which have ß as SS and an iota below as one beside; sign by sign, so that no sigma is final.
    return [...sign.toLowerCase().toUpperCase()].map((capital) => capital.toLowerCase()).join("");
  };
  return [...text].map(fold).join("");
}

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
