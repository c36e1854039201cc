// SPDX-License-Identifier: Apache-2.0
/**
 * E-mail addresses: the one form under which they are compared (Unicode TR36: normalise and fold).
 *
 * Does not know whose an address is; the directory of the tenant does.
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
