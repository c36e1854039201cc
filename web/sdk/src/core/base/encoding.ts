// SPDX-License-Identifier: Apache-2.0
/**
 * The strict deterministic CBOR profile, strict base64url and the typed reading of decoded maps.
 *
 * A subset of RFC 8949 section 4.2.1 (docs/formats/encoding.md), and RFC 4648 section 5 without padding. Does not know
 * what any field means, and accepts exactly one encoding of each value.
 */
import { type Bytes, lengthOf, utf8 } from "./bytes.js";
import { Malformed } from "./errors.js";

/** What `decode` gives: maps are `Map`s, so that no key of a stranger's ever reaches a prototype. */
export type Value = number | Bytes | string | Value[] | Map<number, Value>;
/** What `encode` takes. */
export type Encodable = number | Uint8Array | string | readonly Encodable[] | ReadonlyMap<number, Encodable>;

// The sizes bound what a stranger can make a reader hold before anything is verified.
/** Bytes of a statement, and the default of `decode`. */
export const MAX_STATEMENT = 16 * 1024;
/** Bytes of a policy with 16 officers, a deposit record, a whole message. */
export const MAX_BLOB = 64 * 1024;
/** Bytes of the keyring, also the ceiling of the mailbox for large content. */
export const MAX_VAULT = 1024 * 1024;
/** What a number holds exactly. */
export const MAX_UINT = Number.MAX_SAFE_INTEGER;
/** Negative integers are there for COSE's alg alone; below this its registry is for private use (RFC 9053). */
export const MIN_NINT = -65536;
/** Arrays and maps one inside another: a recursive reader spends a stack frame on each level. */
export const MAX_DEPTH = 6;

// RFC 8949 section 3.1: the six major types of the profile. 6 (tags) and 7 (floats, booleans, null) have no name here.
const UINT = 0, NINT = 1, BSTR = 2, TSTR = 3, ARRAY = 4, MAP = 5;

// Characters up to which text is read and written without the encoder's help.
const SHORT = 64;

/** Collects octets in one growing buffer: most values are small, and an array of parts costs an object for each. */
class Writer {
  private octets = new Uint8Array(256);
  private at = 0;

  private room(size: number): number {
    const start = this.at;
    this.at += size;
    if (this.at > this.octets.length) {
      const wider = new Uint8Array(Math.max(this.at, 2 * this.octets.length));
      wider.set(this.octets);
      this.octets = wider;
    }
    return start;
  }

  head(major: number, argument: number): void {
    if (argument < 24) {
      const only = this.room(1); // first: it may put a wider buffer in the place of this one
      this.octets[only] = (major << 5) | argument;
      return;
    }
    const info = argument < 256 ? 24 : argument < 65536 ? 25 : argument < 2 ** 32 ? 26 : 27;
    let at = this.room(1 + (1 << (info - 24)));
    this.octets[at++] = (major << 5) | info;
    if (info === 27) at = this.u32(at, Math.floor(argument / 2 ** 32));
    if (info >= 26) this.u32(at, argument);
    else {
      if (info === 25) this.octets[at++] = argument >>> 8;
      this.octets[at] = argument & 0xff;
    }
  }

  /** Write the low 32 bits, and return the place behind them. */
  private u32(at: number, argument: number): number {
    for (let shift = 24; shift >= 0; shift -= 8) this.octets[at++] = (argument >>> shift) & 0xff;
    return at;
  }

  /** Write text of one byte a character; false for any other, of which nothing is written. */
  ascii(text: string): boolean {
    for (let at = 0; at < text.length; at++) if (text.charCodeAt(at) > 0x7f) return false;
    this.head(TSTR, text.length);
    const start = this.room(text.length);
    for (let at = 0; at < text.length; at++) this.octets[start + at] = text.charCodeAt(at);
    return true;
  }

  raw(data: Uint8Array): void {
    const start = this.room(data.length);
    this.octets.set(data, start);
  }

  done(): Bytes {
    return this.octets.slice(0, this.at);
  }
}

/** Return a map's keys in their order; most maps are made in it. */
function ascending(map: ReadonlyMap<number, Encodable>): Iterable<number> {
  let previous = -1;
  for (const key of map.keys()) {
    if (!(key > previous)) return [...map.keys()].sort((a, b) => a - b);
    previous = key;
  }
  return map.keys();
}

function put(value: Encodable, out: Writer, depth: number): void {
  if (typeof value === "number") {
    // -0 would decode as 0, and two values would share one encoding.
    if (!Number.isSafeInteger(value) || Object.is(value, -0)) throw new RangeError("not an integer up to 2^53 - 1");
    if (value < MIN_NINT) throw new RangeError("negative integer below -65536");
    if (value >= 0) out.head(UINT, value);
    else out.head(NINT, -1 - value);
  } else if (value instanceof Uint8Array) {
    out.head(BSTR, value.length);
    out.raw(value);
  } else if (typeof value === "string") {
    // Nearly all text here is short and ASCII: a turn through the encoder takes longer than the rest of a statement.
    if (value.length <= SHORT && out.ascii(value)) return;
    const text = utf8(value);
    out.head(TSTR, text.length);
    out.raw(text);
  } else if (Array.isArray(value) || value instanceof Map) {
    if (depth === MAX_DEPTH) throw new RangeError("nested deeper than 6");
    if (Array.isArray(value)) {
      out.head(ARRAY, value.length);
      for (const item of value as readonly Encodable[]) put(item, out, depth + 1);
    } else {
      out.head(MAP, value.size);
      // Ascending numbers are ascending bytes for shortest heads, so this is RFC 8949's order too.
      for (const key of ascending(value)) {
        if (!Number.isSafeInteger(key) || key < 0 || Object.is(key, -0))
          throw new RangeError("map keys are unsigned integers");
        out.head(UINT, key);
        put(value.get(key) as Encodable, out, depth + 1);
      }
    }
  } else {
    throw new RangeError(`${value === null ? "null" : typeof value} has no place in the profile`);
  }
}

/**
 * Encode `value` in the one way the profile allows: shortest heads, map keys ascending.
 *
 * Throws a RangeError for a value outside the profile: boolean, null, undefined, a fraction, a plain object, a lone
 * surrogate, an integer outside -65536..2^53-1, nesting deeper than 6 (a caller's mistake).
 */
export function encode(value: Encodable): Bytes {
  const out = new Writer();
  put(value, out, 0);
  return out.done();
}

const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

class Reader {
  at = 0;

  private readonly data: Uint8Array;

  constructor(data: Uint8Array) {
    // A plain view: its slices are copies, which those of a Node Buffer are not.
    this.data = new Uint8Array(data.buffer, data.byteOffset, data.length);
  }

  private argument(info: number): number {
    if (info < 24) return info;
    if (info > 27) throw new Malformed("CBOR: indefinite length or reserved head");
    const width = 1 << (info - 24);
    if (this.at + width > this.data.length) throw new Malformed("CBOR: ends early");
    let argument = 0;
    // Up to 2^64: above 2^53 the sum is not exact, but never falls back below it.
    for (let left = 0; left < width; left++) argument = argument * 256 + (this.data[this.at++] as number);
    // RFC 8949 section 4.2.1: a smaller one in a longer head would be a second encoding of the same value.
    const least = width === 1 ? 24 : 2 ** (4 * width);
    if (argument < least || argument > MAX_UINT)
      throw new Malformed("CBOR: integer not shortest, or above 2^53 - 1");
    return argument;
  }

  take(depth: number): Value {
    const head = this.data[this.at++];
    if (head === undefined) throw new Malformed("CBOR: ends early");
    const major = head >> 5;
    const info = head & 31;
    if (major > MAP)
      throw new Malformed(info < 24 ? "CBOR: tag, float or simple value" : "CBOR: indefinite length or reserved head");
    const argument = this.argument(info);
    if (major === UINT) return argument;
    if (major === BSTR || major === TSTR) {
      const end = this.at + argument;
      if (end > this.data.length) throw new Malformed("CBOR: string longer than the data");
      const octets = this.data.slice(this.at, end) as Bytes;
      this.at = end;
      return major === BSTR ? octets : textOf(octets);
    }
    if (major === NINT) {
      if (argument > -1 - MIN_NINT) throw new Malformed("CBOR: negative integer below -65536");
      return -1 - argument;
    }
    if (depth === MAX_DEPTH) throw new Malformed("CBOR: nested deeper than 6");
    // Each item takes a byte at least: a claimed length never makes us work or allocate beyond the data.
    if (argument > this.data.length - this.at) throw new Malformed("CBOR: container longer than the data");
    return major === ARRAY ? this.takeArray(argument, depth) : this.takeMap(argument, depth);
  }

  private takeArray(count: number, depth: number): Value[] {
    const items: Value[] = [];
    for (let left = count; left > 0; left--) items.push(this.take(depth + 1));
    return items;
  }

  private takeMap(count: number, depth: number): Map<number, Value> {
    const pairs = new Map<number, Value>();
    let previous = -1;
    for (let left = count; left > 0; left--) {
      const head = this.data[this.at];
      if (head === undefined) throw new Malformed("CBOR: ends early");
      if (head >> 5 !== UINT) throw new Malformed("CBOR: map key is not an unsigned integer");
      const key = this.take(depth + 1) as number;
      // One comparison refuses both a second order and a key that is there twice. Libraries differ in which of two
      // equal keys they keep, so two readers of one signed map would believe different things.
      if (key <= previous) throw new Malformed("CBOR: map keys not strictly ascending");
      previous = key;
      pairs.set(key, this.take(depth + 1));
    }
    return pairs;
  }
}

function textOf(octets: Bytes): string {
  if (octets.length <= SHORT && octets.every((octet) => octet < 0x80)) return String.fromCharCode(...octets);
  try {
    return decoder.decode(octets);
  } catch {
    throw new Malformed("CBOR: text is not UTF-8");
  }
}

/**
 * Decode exactly one value; whatever this accepts, `encode` gives back byte for byte.
 *
 * Throws Malformed for anything outside the profile, trailing bytes, and more than `maxSize` bytes.
 */
export function decode(data: Uint8Array, maxSize: number = MAX_STATEMENT): Value {
  if (data.length > maxSize) throw new Malformed(`CBOR: ${data.length} bytes, at most ${maxSize} allowed`);
  const reader = new Reader(data);
  const value = reader.take(0);
  // What follows would be in the hash and unseen by the reader: room for a second meaning.
  if (reader.at !== data.length) throw new Malformed("CBOR: trailing bytes");
  return value;
}

/**
 * Return dCBOR(["holdfast/v1/" + name, part, …]): the bytes of every info, salt and commitment.
 *
 * The array makes the parts unambiguous: ("a", "bc") and ("ab", "c") differ.
 */
export function label(name: string, ...parts: readonly Encodable[]): Bytes {
  return encode([`holdfast/v1/${name}`, ...parts]);
}

/** Make a map from numbered fields; those that are undefined are left out. */
export function mapOf(fields: Readonly<Record<number, Encodable | undefined>>): Map<number, Encodable> {
  const made = new Map<number, Encodable>();
  // Integer keys come in ascending order, as `encode` wants them.
  for (const key in fields) {
    const value = fields[key];
    if (value !== undefined) made.set(Number(key), value);
  }
  return made;
}

const ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const SIXES = new Map([...ALPHABET].map((sign, six) => [sign, six]));

/** Return base64url of `data` without padding. RFC 4648 section 5. */
export function b64u(data: Uint8Array): string {
  let text = "";
  for (let at = 0; at < data.length; at += 3) {
    const [a, b, c] = [data[at] as number, data[at + 1], data[at + 2]];
    text += ALPHABET.charAt(a >> 2) + ALPHABET.charAt(((a & 3) << 4) | ((b ?? 0) >> 4));
    if (b !== undefined) text += ALPHABET.charAt(((b & 15) << 2) | ((c ?? 0) >> 6));
    if (c !== undefined) text += ALPHABET.charAt(c & 63);
  }
  return text;
}

/**
 * Return the bytes of unpadded base64url `text`, at most `maxSize` bytes of them.
 *
 * Throws Malformed for padding, white space, a foreign alphabet, an impossible length, non-zero trailing bits and
 * excess size: one byte string has exactly one text. RFC 4648 sections 3.5 and 5.
 */
export function unb64u(text: string, maxSize?: number): Bytes {
  // On the text, before it is decoded: refusing costs nothing then.
  if (maxSize !== undefined && text.length > Math.floor((maxSize * 4 + 2) / 3))
    throw new Malformed(`base64url: more than ${maxSize} bytes`);
  if (text.length % 4 === 1) throw new Malformed("base64url: not in the unpadded alphabet");
  const data = new Uint8Array(Math.floor((text.length * 3) / 4));
  let bits = 0, held = 0, at = 0;
  for (const sign of text) {
    const six = SIXES.get(sign);
    if (six === undefined) throw new Malformed("base64url: not in the unpadded alphabet");
    held = ((held << 6) | six) & 0xffff;
    bits += 6;
    if (bits >= 8) {
      bits -= 8;
      data[at++] = (held >> bits) & 0xff;
    }
  }
  // The last sign can carry up to four bits that belong to no byte.
  if ((held & ((1 << bits) - 1)) !== 0) throw new Malformed("base64url: trailing bits are not zero");
  return data;
}

/** Where a number may lie. */
export interface Bounds {
  readonly minimum?: number;
  readonly maximum?: number;
}

/**
 * Typed reading of one decoded map whose keys are all named in advance.
 *
 * Throws Malformed, naming `what` and the field's number, for a value that is not a map, a missing or unknown key, and,
 * in each reader, a value of another type or size. Reading a key not named is a RangeError.
 */
export class Fields {
  private constructor(
    private readonly map: ReadonlyMap<number, Value>,
    private readonly what: string,
  ) {}

  /** Open a map: it has each key of `required`, and no key that is in neither list. */
  static of(value: Value, what: string, required: readonly number[], optional: readonly number[] = []): Fields {
    if (!(value instanceof Map)) throw new Malformed(`${what}: not a map`);
    const missing = required.filter((key) => !value.has(key));
    if (missing.length > 0) throw new Malformed(`${what}: field ${Math.min(...missing)} is missing`);
    // Refused and not skipped: one side would have signed what the other side never reads.
    if (value.size > required.length)
      for (const key of value.keys())
        if (!required.includes(key) && !optional.includes(key))
          throw new Malformed(`${what}: field ${key} is unknown`);
    return new Fields(value, what);
  }

  /** Read a fixed array of `size` items in the same way; fields are then numbered from 0. */
  static ofRow(value: Value, what: string, size: number): Fields {
    if (!Array.isArray(value) || value.length !== size) throw new Malformed(`${what}: not an array of ${size}`);
    return new Fields(new Map(value.map((item, at) => [at, item])), what);
  }

  get size(): number {
    return this.map.size;
  }

  has(key: number): boolean {
    return this.map.has(key);
  }

  /** Return the error that names field `key`; the caller throws it. */
  refuse(key: number, reason: string): Malformed {
    return new Malformed(`${this.what}: field ${key} ${reason}`);
  }

  /** Return the value as decoded, for a nested map that has its own Fields. */
  value(key: number): Value {
    const value = this.map.get(key);
    if (value === undefined) throw new RangeError(`${this.what}: field ${key} was not asked for`);
    return value;
  }

  /** Return an unsigned integer within the bounds given. */
  uint(key: number, { minimum = 0, maximum = MAX_UINT }: Bounds = {}): number {
    const value = this.value(key);
    if (typeof value !== "number" || value < minimum || value > maximum)
      throw this.refuse(key, `is not an integer of ${minimum}..${maximum}`);
    return value;
  }

  /** Return a truth value, written as 0 or 1. */
  flag(key: number): boolean {
    return this.uint(key, { maximum: 1 }) === 1;
  }

  /** Return a byte string of exactly `size` bytes, of one of several sizes, or of at most `maximum`. */
  octets(key: number, size?: number | readonly number[], { maximum = MAX_VAULT }: Bounds = {}): Bytes {
    const value = this.value(key);
    if (!(value instanceof Uint8Array) || value.length > maximum)
      throw this.refuse(key, `is not a byte string of at most ${maximum} bytes`);
    if (size !== undefined && !(typeof size === "number" ? [size] : size).includes(value.length)) {
      const wanted = typeof size === "number" ? size : `(${size.join(", ")})`;
      throw this.refuse(key, `is not a byte string of ${wanted} bytes`);
    }
    return value;
  }

  /** Return text of at most `maximum` characters. */
  text(key: number, { maximum = 1024 }: Bounds = {}): string {
    const value = this.value(key);
    if (typeof value !== "string" || lengthOf(value) > maximum)
      throw this.refuse(key, `is not text of at most ${maximum} characters`);
    return value;
  }

  /** Return an array of `minimum` to `maximum` items of any type. */
  array(key: number, { minimum = 0, maximum = MAX_VAULT }: Bounds = {}): Value[] {
    const value = this.value(key);
    if (!Array.isArray(value) || value.length < minimum || value.length > maximum)
      throw this.refuse(key, `is not an array of ${minimum}..${maximum} items`);
    return value;
  }

  /** Return the array at `key`, of `size` items or of any number, to be read in the same way. */
  row(key: number, size?: number): Fields {
    const items = this.array(key);
    return Fields.ofRow(items, `${this.what}, field ${key}`, size ?? items.length);
  }
}

