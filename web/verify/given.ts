// SPDX-License-Identifier: Apache-2.0
/** What an auditor pastes: a verifier key, and signed heads of earlier. Pure. */
import { visible } from "../sdk/src/core/base/typed.js";

/** Return a verifier key without what a copy puts into it; undefined of nothing. */
export function keyIn(text: string): string | undefined {
  const key = visible(text).replace(/\s+/gu, "");
  return key === "" ? undefined : key;
}

const LAST_LINE = /^\{"checkpoint":(".*")\}$/;

/**
 * Return the signed heads in a text, one after another.
 *
 * Each is a signed note, whose first line is the log's name, or the last line of an export, which has one.
 */
export function headsIn(text: string): string[] {
  const heads: string[][] = [];
  for (const line of text.replace(/^\ufeff/, "").split(/\r\n|\r|\n/)) {
    const quoted = LAST_LINE.exec(line)?.[1];
    if (quoted !== undefined) heads.push(unquoted(quoted).split("\n"));
    else if (heads.length === 0 || line.startsWith("holdfast/")) heads.push([line]);
    else heads.at(-1)?.push(line);
  }
  return heads.map((lines) => `${lines.join("\n").trim()}\n`).filter((note) => note !== "\n");
}

function unquoted(text: string): string {
  try {
    return String(JSON.parse(text));
  } catch {
    return text; // it is no head, and will be said to be none
  }
}
