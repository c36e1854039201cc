// SPDX-License-Identifier: Apache-2.0
/**
 * Whose turn it is: how two copies of one profile are told from one, though both sign with the same key.
 *
 * docs/formats/requests.md (Turns). Each time a profile is opened for its server, it draws a mark and says it with every
 * request, beside the mark of the opening before, as the server acknowledged it. The server keeps the newest; what it
 * finds of a turn is its matter, and is not here.
 */
import { type Bytes, EMPTY } from "../base/bytes.js";
import { b64u, unb64u } from "../base/encoding.js";
import { Malformed } from "../base/errors.js";

/** Bytes, at random: nobody gains by meeting another's, so that chance alone has to be kept out. */
export const MARK_SIZE = 8;

/** Return the field holdfast-turn of a request: the mark of this opening, and of the one before; none before the first. */
export function turnText(mark: Uint8Array, before: Uint8Array = EMPTY): string {
  return `${b64u(mark)}.${b64u(before)}`;
}

/** What an answer says of a turn: whose mark it took; when it is a break, how many there were, else 0. */
export interface Answered {
  readonly mark: Bytes;
  readonly breaks: number;
}

/** Read the field holdfast-turn of an answer. Throws Malformed. */
export function parseAnswered(text: string): Answered {
  const found = /^([A-Za-z0-9_-]{11})\.([0-9]{1,9})$/.exec(text);
  if (found === null) throw new Malformed("answer: holdfast-turn is no mark and number");
  return { mark: unb64u(found[1] as string), breaks: Number(found[2]) };
}
