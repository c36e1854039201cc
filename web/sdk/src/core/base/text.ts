// SPDX-License-Identifier: Apache-2.0
/**
 * Text for people: what of others' would be obeyed or turn what stands beside it, what says nothing, and spans of time.
 *
 * Unicode TR36, section 2. What is not dangerous is shown as it was written: joiners, spaces of every width and marks are
 * part of how people write. Pages put text into text nodes on top of this, never into markup.
 */

// Controls (C0 but the tab, U+007F, C1); the marks that embed, override and isolate a direction (Unicode TR9, section 2),
// which turn what stands after them; separators of lines and paragraphs, which begin a line.
const DANGEROUS = /[\u0000-\u0008\n-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069]/gu;
// Letters and signs by their category that look like nothing: fillers of Hangul, and Braille without a dot.
const FILLERS = /[\u115f\u1160\u2800\u3164\uffa0]/gu;
// Control characters, marks of format and direction, halves of pairs, private and unassigned characters, and what breaks a
// line or a paragraph.
const HIDDEN = /^[\p{C}\p{Zl}\p{Zp}\u115f\u1160\u2800\u3164\uffa0]$/u;
// What Python calls white space: both sides must call the same text blank, and strip the same of it.
const WHITE = "\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000";
const ENDS = new RegExp(`^[${WHITE}]+|[${WHITE}]+$`, "gu"), RUN = new RegExp(`[${WHITE}]+`, "u");
const JOINER = "\u200d";
const UNITS: readonly [string, number][] = [["day", 86_400], ["hour", 3_600], ["minute", 60], ["second", 1]];

/**
 * Return `text` with each dangerous character, but those of `keep`, written as <U+202E>: seen, and not obeyed.
 *
 * keep: "\n" for a body, whose lines are its writer's.
 */
export function writtenOut(text: string, keep = ""): string {
  return text.replace(DANGEROUS, (sign) =>
    keep.includes(sign) ? sign : `<U+${sign.charCodeAt(0).toString(16).toUpperCase().padStart(4, "0")}>`,
  );
}

const BOX_CELLS = 60; // with its edge it fits a narrow page, where no line of it is parted
// What an East Asian terminal or font gives two cells (Unicode TR11: wide and fullwidth), by blocks.
const WIDE = /[\u1100-\u115f\u2e80-\u303e\u3041-\u33ff\u3400-\u4dbf\u4e00-\u9fff\ua000-\ua4cf\ua960-\ua97f\uac00-\ud7a3\uf900-\ufaff\ufe10-\ufe19\ufe30-\ufe6f\uff01-\uff60\uffe0-\uffe6\u{1b000}-\u{1b2ff}\u{1f300}-\u{1faff}\u{20000}-\u{3fffd}]/u;

/**
 * Return others' text as the lines of a box under a heading of ours, with what is dangerous in it written out.
 *
 * Each line begins with the box's edge, so that none can be taken for a line of ours, whatever the text says.
 */
export function boxed(text: string, heading: string): string[] {
  const said = writtenOut(text);
  // A wide character takes two cells.
  const inside = wrapped(said, WIDE.test(said) ? BOX_CELLS / 2 : BOX_CELLS);
  return [`┌ ${heading}`, ...inside.map((line) => `│ ${line}`), "└"];
}

/** Break text into lines of at most so many characters: between words, or within one that is longer. */
function wrapped(text: string, width: number): string[] {
  const lines: string[] = [];
  let line: string[] = [];
  const end = (): void => {
    const said = line.join("").replace(/[\t ]+$/, "");
    if (said !== "") lines.push(said);
    line = [];
  };
  for (const part of text.split(/([\t ]+)/)) {
    const isSpace = /^[\t ]/.test(part);
    // Spaces as they were written, but none at the end of a line or at the beginning of a further one.
    if (part === "" || (isSpace && line.length === 0 && lines.length > 0)) continue;
    let left = [...part];
    if (line.length + left.length > width) end();
    if (isSpace && lines.length > 0 && line.length === 0) continue;
    for (; left.length > width; left = left.slice(width)) lines.push(left.slice(0, width).join(""));
    line.push(...left);
  }
  end();
  return lines;
}

/**
 * Tell whether one character has no shape of its own, so that it stands in no name or address.
 *
 * Where text is shown, it is not this that counts, but what `writtenOut` writes out.
 */
export function isHidden(sign: string): boolean {
  return HIDDEN.test(sign);
}

/** Return a text without the white space at its ends. */
export function stripped(text: string): string {
  return text.replace(ENDS, "");
}

/** Tell whether a text is empty or white space alone. */
export function isBlank(text: string): boolean {
  return stripped(text) === "";
}

/**
 * Return a name on one line of at most `most` characters, cut at the end of one that a reader sees as a whole.
 *
 * Halves of pairs become U+FFFD.
 */
export function fitted(text: string, most: number): string {
  const whole = text.replace(/\p{Cs}/gu, "\ufffd");
  const name = [...whole.split(RUN).filter((word) => word !== "").join(" ")];
  const isCountry = (sign: string): boolean => /^[\u{1f1e6}-\u{1f1ff}]$/u.test(sign);
  // A letter and the marks on it, a family joined into one sign, a skin tone: parted, the rest would read otherwise.
  const goesOn = (sign: string): boolean => /^[\p{M}\u200d\u{1f3fb}-\u{1f3ff}]$/u.test(sign);
  // Two letters of a country are one flag: an odd number of them before the cut leaves half of one.
  const partsAFlag = (at: number): boolean => {
    let start = at;
    while (start > 0 && isCountry(name[start - 1] as string)) start--;
    return isCountry(name[at] as string) && (at - start) % 2 === 1;
  };
  let end = most;
  while (end > 0 && end < name.length)
    if (goesOn(name[end] as string) || name[end - 1] === JOINER || partsAFlag(end)) end--;
    else break;
  return name.slice(0, end === 0 ? most : end).join("").replace(/ +$/, "");
}

/** Tell whether nobody could read anything in `text`: empty, or blank, hidden and combining characters alone. */
export function saysNothing(text: string): boolean {
  // A combining mark shows itself only on a letter or sign.
  return !/[\p{L}\p{N}\p{P}\p{S}]/u.test(text.replace(FILLERS, ""));
}

/** Say a span of time in its largest one or two units: `14 days`, `1 hour 30 minutes`; `none` for no time. */
export function duration(seconds: number, parts = 2): string {
  const words: string[] = [];
  let left = seconds;
  for (const [unit, size] of UNITS) {
    const count = Math.floor(left / size);
    left -= count * size;
    if (count > 0) words.push(`${count} ${unit}${count === 1 ? "" : "s"}`);
  }
  return words.slice(0, parts).join(" ") || "none";
}
