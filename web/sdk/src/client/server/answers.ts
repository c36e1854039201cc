// SPDX-License-Identifier: Apache-2.0
/**
 * Strict reading of the server's JSON answers.
 *
 * docs/formats/encoding.md for REST: unique names, finite numbers, base64url without padding, UUIDs. Objects are Maps, so
 * that no name of a stranger's reaches a prototype or a getter. Does not verify signatures: a value that reads well is
 * still only what the server claims.
 */
import { type Bytes, isWellFormed, lengthOf, unhex } from "../../core/base/bytes.js";
import { MAX_UINT, unb64u } from "../../core/base/encoding.js";
import { Malformed } from "../../core/base/errors.js";
import { AnswerRefused } from "../errors.js";

export { uuidBytes, uuidText } from "../../core/base/uuids.js";

/** Bytes: a vault of 1 MiB in base64url, with room for its statement. */
export const MAX_ANSWER = 2 * 1024 * 1024;
const MAX_DEPTH = 16;
const MOST_ITEMS = 10_000;
const MOST_DIGITS = 4300; // as Python's reader: a number of more is nobody's

// What is a number in JSON and no integer here: nothing reads it.
const NO_INTEGER = Symbol("not an integer of 0..2^53-1");
type Json = string | number | boolean | null | typeof NO_INTEGER | Json[] | Map<string, Json>;

class NotStrict extends Error {}
class TooDeep extends Error {}

const NUMBER = /-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?/y;
const PLAIN = /[^"\\\u0000-\u001f]*/y;
const ESCAPES = new Map([
  ['"', '"'], ["\\", "\\"], ["/", "/"], ["b", "\b"], ["f", "\f"], ["n", "\n"], ["r", "\r"], ["t", "\t"],
]);

/** RFC 8259, and nothing that two readers could take differently. JSON.parse keeps the last of two equal names. */
class Reader {
  #at = 0;

  constructor(private readonly body: string) {}

  whole(): Json {
    const value = this.#value(1);
    this.#space();
    if (this.#at !== this.body.length) throw new NotStrict();
    return value;
  }

  #space(): void {
    while (" \t\n\r".includes(this.body[this.#at] ?? "x")) this.#at++;
  }

  #next(sign: string): boolean {
    this.#space();
    if (this.body[this.#at] !== sign) return false;
    this.#at++;
    return true;
  }

  #require(sign: string): void {
    if (!this.#next(sign)) throw new NotStrict();
  }

  #value(depth: number): Json {
    if (depth > MAX_DEPTH) throw new TooDeep();
    this.#space();
    if (this.#next("{")) return this.#object(depth);
    if (this.#next("[")) return this.#array(depth);
    if (this.#next('"')) return this.#text();
    for (const [word, value] of [["true", true], ["false", false], ["null", null]] as const)
      if (this.body.startsWith(word, this.#at)) {
        this.#at += word.length;
        return value;
      }
    return this.#number();
  }

  #object(depth: number): Map<string, Json> {
    const found = new Map<string, Json>();
    if (this.#next("}")) return found;
    do {
      this.#require('"');
      const name = this.#text();
      if (found.has(name)) throw new NotStrict();
      this.#require(":");
      found.set(name, this.#value(depth + 1));
    } while (this.#next(","));
    this.#require("}");
    return found;
  }

  #array(depth: number): Json[] {
    const found: Json[] = [];
    if (this.#next("]")) return found;
    do found.push(this.#value(depth + 1));
    while (this.#next(","));
    this.#require("]");
    return found;
  }

  #text(): string {
    let text = "";
    for (;;) {
      PLAIN.lastIndex = this.#at;
      const plain = (PLAIN.exec(this.body) as RegExpExecArray)[0];
      text += plain;
      this.#at += plain.length;
      const sign = this.body[this.#at++];
      // Half a surrogate pair is text in JSON and nowhere else: it could be neither kept nor shown.
      if (sign === '"') {
        if (!isWellFormed(text)) throw new NotStrict();
        return text;
      }
      if (sign !== "\\") throw new NotStrict();
      const escape = this.body[this.#at++] ?? "";
      if (escape === "u") {
        const code = this.body.slice(this.#at, this.#at + 4);
        if (!/^[0-9a-fA-F]{4}$/.test(code)) throw new NotStrict();
        text += String.fromCharCode(parseInt(code, 16));
        this.#at += 4;
      } else {
        const meant = ESCAPES.get(escape);
        if (meant === undefined) throw new NotStrict();
        text += meant;
      }
    }
  }

  #number(): number | typeof NO_INTEGER {
    NUMBER.lastIndex = this.#at;
    const found = NUMBER.exec(this.body);
    if (found === null) throw new NotStrict();
    const [text, fraction, exponent] = found, value = Number(text);
    this.#at += text.length;
    const isWhole = fraction === undefined && exponent === undefined;
    // 1e999 is infinite in one language and an error in the next.
    if (isWhole ? text.length > MOST_DIGITS : !Number.isFinite(value)) throw new NotStrict();
    return isWhole && value >= 0 && value <= MAX_UINT ? Math.abs(value) : NO_INTEGER;
  }
}

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** Decode one JSON object. Throws AnswerRefused for anything that two parsers could read differently. */
export function parse(body: Uint8Array): Answer {
  let value: Json;
  try {
    value = new Reader(utf8.decode(body)).whole();
  } catch (error) {
    if (error instanceof TooDeep)
      throw new AnswerRefused("The server's answer is not a JSON object, or is nested too deeply.");
    throw new AnswerRefused("The server's answer is not JSON of the strict kind.");
  }
  if (!(value instanceof Map))
    throw new AnswerRefused("The server's answer is not a JSON object, or is nested too deeply.");
  return new Answer(value);
}

/**
 * Typed reading of one JSON object. Every reader throws AnswerRefused, naming the field.
 *
 * Unknown fields are let be: a newer server may say more, and nothing here believes it.
 */
export class Answer {
  readonly #map: ReadonlyMap<string, Json>;
  readonly #where: string;

  /** Of `parse` only. */
  constructor(value: ReadonlyMap<string, Json>, where = "") {
    this.#map = value;
    this.#where = where;
  }

  /** Tell whether there is a field of this name, which is not null. */
  has(name: string): boolean {
    return (this.#map.get(name) ?? null) !== null;
  }

  #refuse(name: string, what: string): AnswerRefused {
    return new AnswerRefused(`The server's answer is wrong: ${this.#where}${name} ${what}.`);
  }

  /** Return text of at most `maximum` characters. */
  text(name: string, { maximum = 4096 }: { readonly maximum?: number } = {}): string {
    const value = this.#map.get(name);
    if (typeof value !== "string" || lengthOf(value) > maximum)
      throw this.#refuse(name, `is not text of at most ${maximum} characters`);
    return value;
  }

  /** Return an integer of 0..2^53-1. */
  number(name: string): number {
    const value = this.#map.get(name);
    if (typeof value !== "number") throw this.#refuse(name, "is not an integer of 0..2^53-1");
    return value;
  }

  /** Return true or false. */
  flag(name: string): boolean {
    const value = this.#map.get(name);
    if (typeof value !== "boolean") throw this.#refuse(name, "is not true or false");
    return value;
  }

  /** Return the bytes of strict base64url text; exactly `size` of them when given, else at most `maximum`. */
  octets(name: string, size?: number, { maximum = MAX_ANSWER }: { readonly maximum?: number } = {}): Bytes {
    return this.#octetsOf(this.#map.get(name), name, size, maximum);
  }

  #octetsOf(value: Json | undefined, name: string, size: number | undefined, maximum: number): Bytes {
    let data: Bytes | undefined;
    try {
      data = typeof value === "string" ? unb64u(value, maximum) : undefined;
    } catch (error) {
      if (!(error instanceof Malformed)) throw error;
    }
    if (data === undefined || (size !== undefined && data.length !== size))
      throw this.#refuse(name, `is not base64url of ${size ?? `at most ${maximum}`} bytes`);
    return data;
  }

  /** Return the 16 bytes of a UUID in its canonical text. */
  identifier(name: string): Bytes {
    const value = this.#map.get(name);
    if (typeof value !== "string" || !CANONICAL.test(value)) throw this.#refuse(name, "is not a UUID");
    return unhex(value.replaceAll("-", ""));
  }

  /** Return UTC seconds of an RFC 3339 time to the second, from 1970 on. */
  time(name: string): number {
    const seconds = parseTime(this.text(name));
    if (seconds === undefined || seconds < 0) throw this.#refuse(name, "is not a time like 2026-11-24T10:00:00Z");
    return seconds;
  }

  /** Return an object inside this one. */
  one(name: string): Answer {
    const value = this.#map.get(name);
    if (!(value instanceof Map)) throw this.#refuse(name, "is not an object");
    return new Answer(value, `${this.#where}${name}.`);
  }

  /** Return this object as texts and integers by their names, where it holds nothing else. */
  values(): Map<string, string | number> {
    const found = new Map<string, string | number>();
    for (const [name, value] of this.#map) found.set(name, typeof value === "string" ? value : this.number(name));
    return found;
  }

  /** Return the objects of an array. */
  many(name: string, { maximum = MOST_ITEMS }: { readonly maximum?: number } = {}): Answer[] {
    return this.#array(name, maximum).map((value, index) => {
      if (!(value instanceof Map)) throw this.#refuse(`${name}[${index}]`, "is not an object");
      return new Answer(value, `${this.#where}${name}[${index}].`);
    });
  }

  /** Return the fixed-width arrays of an array; their items are then named "0", "1", … */
  rows(name: string, width: number, { maximum = MOST_ITEMS }: { readonly maximum?: number } = {}): Answer[] {
    return this.#array(name, maximum).map((value, index) => {
      if (!Array.isArray(value) || value.length !== width)
        throw this.#refuse(`${name}[${index}]`, `is not an array of ${width}`);
      const row = new Map(value.map((item, at) => [String(at), item] as const));
      return new Answer(row, `${this.#where}${name}[${index}].`);
    });
  }

  /** Return an array of base64url texts as bytes. */
  manyOctets(name: string, { maximum = MOST_ITEMS }: { readonly maximum?: number } = {}): Bytes[] {
    const items = this.#array(name, maximum);
    return items.map((item, at) => this.#octetsOf(item, `${name}[${at}]`, undefined, MAX_ANSWER));
  }

  /** Return an array of integers of 0..2^53-1. */
  numbers(name: string, { maximum = MOST_ITEMS }: { readonly maximum?: number } = {}): number[] {
    return this.#array(name, maximum).map((item) => {
      if (typeof item !== "number") throw this.#refuse(name, "is not an integer of 0..2^53-1");
      return item;
    });
  }

  /** Return an array of texts. */
  texts(name: string, { maximum = MOST_ITEMS }: { readonly maximum?: number } = {}): string[] {
    return this.#array(name, maximum).map((item) => {
      if (typeof item !== "string") throw this.#refuse(name, "is not an array of texts");
      return item;
    });
  }

  #array(name: string, maximum: number): Json[] {
    const value = this.#map.get(name);
    if (!Array.isArray(value) || value.length > maximum)
      throw this.#refuse(name, `is not an array of at most ${maximum} items`);
    return value;
  }
}

const CANONICAL = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;
const TIME = /^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$/;

/** Return the UTC seconds of `2026-11-24T10:00:00Z`; undefined for any other form, and for a day that is none. */
export function parseTime(text: string): number | undefined {
  const time = TIME.test(text) ? Date.parse(text) : NaN;
  // Engines take the 31st of February for the 3rd of March.
  if (Number.isNaN(time) || new Date(time).toISOString() !== text.replace("Z", ".000Z")) return undefined;
  return time / 1000;
}
