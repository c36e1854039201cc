// SPDX-License-Identifier: Apache-2.0
/**
 * A file packed by gzip (RFC 1952, RFC 1951), unpacked piece by piece, with all its members: an export has many.
 *
 * The browser's own `DecompressionStream` stops after the first member, and does not say where the next one begins. What
 * comes out is held to the length and the CRC-32 of each member. Takes no more memory for a file of any size or ratio.
 */
import type { Bytes } from "../sdk/src/core/base/bytes.js";

/** A packed file that cannot be unpacked; the message is a clause. */
export class Damaged extends Error {}

const WINDOW = 32 * 1024; // bytes that a copy may reach back: RFC 1951 section 2
const PIECE = 64 * 1024; // bytes given at once, about
const LONGEST = 258; // bytes of one copy
const INPUT = 256 * 1024; // bytes read of the file at once
const RESERVE = 1024; // bytes: more than one symbol or the tables of one block take
const MAX_NAME = 64 * 1024; // bytes of a header's name, comment or extra field: nobody reads them

const LENGTH_BASE = [3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258];
const LENGTH_EXTRA = [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0];
const DISTANCE_BASE = [
  1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289,
  16385, 24577,
];
const DISTANCE_EXTRA = [0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13];
const ORDER = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
const END_OF_BLOCK = 256;

/** A code's symbols by the next `width` bits: symbol * 16 + how many of the bits are its own; 0 where there is none. */
interface Codes {
  readonly symbols: Uint16Array;
  readonly width: number;
}

/**
 * Return the canonical code of these lengths (RFC 1951 section 3.2.2). mayBeOne: it may have a single symbol of one bit,
 * which is the one code that is not whole (section 3.2.7).
 */
function codesOf(lengths: Uint8Array, mayBeOne = false): Codes {
  const counts = new Uint16Array(16), next = new Uint16Array(16);
  for (const length of lengths) counts[length] = (counts[length] as number) + 1;
  counts[0] = 0;
  let width = 0, left = 1;
  for (let length = 1; length < 16; length++) {
    left = left * 2 - (counts[length] as number);
    if (left < 0) throw new Damaged("a code of it is none");
    next[length] = 2 * ((next[length - 1] as number) + (counts[length - 1] as number));
    if (counts[length] !== 0) width = length;
  }
  if (left > 0 && width > 0 && !(mayBeOne && width === 1)) throw new Damaged("a code of it is not whole");
  const symbols = new Uint16Array(1 << width);
  for (const [symbol, length] of lengths.entries()) {
    if (length === 0) continue;
    let code = next[length] as number, reversed = 0;
    next[length] = code + 1;
    for (let bit = 0; bit < length; bit++, code >>= 1) reversed = (reversed << 1) | (code & 1);
    for (; reversed < symbols.length; reversed += 1 << length) symbols[reversed] = (symbol << 4) | length;
  }
  return { symbols, width };
}

const FIXED_LENGTHS = Uint8Array.from({ length: 288 }, (_, at) => (at < 144 ? 8 : at < 256 ? 9 : at < 280 ? 7 : 8));
const FIXED: readonly [Codes, Codes] = [codesOf(FIXED_LENGTHS), codesOf(new Uint8Array(32).fill(5))];

const CRC = Uint32Array.from({ length: 256 }, (_, at) => {
  let value = at;
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? 0xedb88320 ^ (value >>> 1) : value >>> 1;
  return value;
});

function crc32(before: number, octets: Uint8Array): number {
  let value = ~before;
  for (let at = 0; at < octets.length; at++) value = (CRC[(value ^ (octets[at] as number)) & 0xff] as number) ^ (value >>> 8);
  return ~value;
}

/** Tell whether a file begins as gzip does. */
export async function isPacked(file: Blob): Promise<boolean> {
  const [one, two] = new Uint8Array(await file.slice(0, 2).arrayBuffer());
  return one === 0x1f && two === 0x8b;
}

/** Unpacks a file once from front to back. */
export class Gunzip {
  #input: Bytes = new Uint8Array(0);
  #at = 0;
  /** The byte of the file at which the next input begins. */
  #read = 0;
  #bits = 0;
  #bitCount = 0;
  readonly #out: Bytes = new Uint8Array(WINDOW + PIECE + LONGEST);
  #end = 0;
  /** Where in `#out` this member begins, or would; and the CRC-32 of what it has given. */
  #start = 0;
  #crc = 0;
  #within: "file" | "member" | "stored" | "codes" = "file";
  #isLastBlock = false;
  #storedLeft = 0;
  #codes: readonly [Codes, Codes] = FIXED;

  constructor(private readonly file: Blob) {}

  /** Bytes of the packed file that are read. */
  get read(): number {
    return this.#read;
  }

  /** Return the next piece, valid until the next call; undefined at the end. Rejects with Damaged. */
  async next(): Promise<Bytes | undefined> {
    if (this.#end > WINDOW) {
      this.#out.copyWithin(0, this.#end - WINDOW, this.#end);
      this.#start -= this.#end - WINDOW;
      this.#end = WINDOW;
    }
    const start = this.#end;
    while (this.#end === start) {
      if (this.#within === "file" && !(await this.#openMember())) return undefined;
      if (this.#input.length - this.#at < RESERVE && !this.#isAllRead) await this.#refill();
      this.#unpack();
      if (this.#within !== "file") continue;
      // A member of nothing gives no piece; what it says of itself is checked all the same.
      await this.#closeMember(this.#out.subarray(start, this.#end));
      if (this.#end > start) return this.#out.subarray(start, this.#end);
    }
    const piece = this.#out.subarray(start, this.#end);
    this.#crc = crc32(this.#crc, piece);
    return piece;
  }

  get #isAllRead(): boolean {
    return this.#read >= this.file.size;
  }

  async #refill(): Promise<void> {
    // Whole bytes among the bits go back first: they stand right before.
    this.#at -= this.#bitCount >> 3;
    this.#bitCount &= 7;
    this.#bits &= (1 << this.#bitCount) - 1;
    const more = new Uint8Array(await this.file.slice(this.#read, this.#read + INPUT).arrayBuffer());
    const rest = this.#input.subarray(this.#at), joined = new Uint8Array(rest.length + more.length);
    joined.set(rest);
    joined.set(more, rest.length);
    [this.#input, this.#at] = [joined, 0];
    this.#read += more.length;
  }

  /** Return the next whole byte; undefined at the end of the file. */
  async #octet(): Promise<number | undefined> {
    if (this.#at >= this.#input.length && !this.#isAllRead) await this.#refill();
    return this.#input[this.#at++];
  }

  async #number(size: number): Promise<number> {
    let value = 0;
    for (let at = 0; at < size; at++) {
      const octet = await this.#octet();
      if (octet === undefined) throw new Damaged("it is cut short");
      value += octet * 2 ** (8 * at);
    }
    return value;
  }

  /** Read a member's header (RFC 1952 section 2.3); false where none follows. */
  async #openMember(): Promise<boolean> {
    const first = await this.#octet();
    if (first === undefined) return false;
    if (first !== 0x1f || (await this.#number(1)) !== 0x8b) throw new Damaged("something else follows what is packed");
    if ((await this.#number(1)) !== 8) throw new Damaged("it is packed in a way that gzip does not know");
    const flags = await this.#number(1);
    if (flags & 0xe0) throw new Damaged("its header is none of gzip's");
    await this.#number(6); // when and where it was packed
    if (flags & 4) await this.#skip(await this.#number(2));
    for (const name of [8, 16]) if (flags & name) await this.#skipText();
    if (flags & 2) await this.#number(2);
    [this.#start, this.#crc, this.#isLastBlock, this.#within] = [this.#end, 0, false, "member"];
    return true;
  }

  async #skip(size: number): Promise<void> {
    for (let at = 0; at < size; at++) await this.#number(1);
  }

  async #skipText(): Promise<void> {
    for (let at = 0; at < MAX_NAME; at++) if ((await this.#number(1)) === 0) return;
    throw new Damaged("its header has no end");
  }

  async #closeMember(last: Uint8Array): Promise<void> {
    this.#crc = crc32(this.#crc, last);
    this.#at -= this.#bitCount >> 3;
    [this.#bits, this.#bitCount] = [0, 0];
    if ((await this.#number(4)) !== this.#crc >>> 0) throw new Damaged("its CRC is another");
    if ((await this.#number(4)) !== (this.#end - this.#start) % 2 ** 32) throw new Damaged("its length is another");
  }

  /** Unpack until the piece is full, the member ends, or more input is needed. */
  #unpack(): void {
    while (this.#end < WINDOW + PIECE) {
      if (this.#input.length - this.#at < RESERVE && !this.#isAllRead) return;
      if (this.#within === "member") {
        if (this.#isLastBlock) {
          this.#within = "file";
          return;
        }
        this.#openBlock();
      } else if (this.#within === "stored") this.#copyStored();
      else this.#decode();
    }
  }

  #take(count: number): number {
    while (this.#bitCount < count) {
      const octet = this.#input[this.#at++];
      if (octet === undefined) throw new Damaged("it is cut short");
      this.#bits |= octet << this.#bitCount;
      this.#bitCount += 8;
    }
    const value = this.#bits & ((1 << count) - 1);
    this.#bits >>>= count;
    this.#bitCount -= count;
    return value;
  }

  #symbol({ symbols, width }: Codes): number {
    while (this.#bitCount < width && this.#at < this.#input.length) {
      this.#bits |= (this.#input[this.#at++] as number) << this.#bitCount;
      this.#bitCount += 8;
    }
    const found = symbols[this.#bits & (symbols.length - 1)] as number, length = found & 15;
    if (length === 0) throw new Damaged("a code of it stands for nothing");
    if (length > this.#bitCount) throw new Damaged("it is cut short");
    this.#bits >>>= length;
    this.#bitCount -= length;
    return found >>> 4;
  }

  #openBlock(): void {
    this.#isLastBlock = this.#take(1) === 1;
    switch (this.#take(2)) {
      case 0: {
        this.#take(this.#bitCount & 7);
        const length = this.#take(16), other = this.#take(16);
        if (length !== (other ^ 0xffff)) throw new Damaged("a length of it is wrong");
        this.#at -= this.#bitCount >> 3;
        [this.#bits, this.#bitCount, this.#storedLeft, this.#within] = [0, 0, length, "stored"];
        break;
      }
      case 1:
        [this.#codes, this.#within] = [FIXED, "codes"];
        break;
      case 2:
        [this.#codes, this.#within] = [this.#readCodes(), "codes"];
        break;
      default:
        throw new Damaged("a block of it is of no known kind");
    }
  }

  /** Read the codes of one block (RFC 1951 section 3.2.7). */
  #readCodes(): [Codes, Codes] {
    const literals = this.#take(5) + 257, distances = this.#take(5) + 1, written = this.#take(4) + 4;
    if (literals > 286 || distances > 30) throw new Damaged("a block of it has too many codes");
    const own = new Uint8Array(19);
    for (const symbol of ORDER.slice(0, written)) own[symbol] = this.#take(3);
    const codes = codesOf(own), lengths = new Uint8Array(literals + distances);
    for (let at = 0; at < lengths.length; ) {
      const symbol = this.#symbol(codes);
      if (symbol < 16) {
        lengths[at++] = symbol;
        continue;
      }
      const count = symbol === 16 ? 3 + this.#take(2) : symbol === 17 ? 3 + this.#take(3) : 11 + this.#take(7);
      if (at + count > lengths.length || (symbol === 16 && at === 0)) throw new Damaged("a repetition in it is wrong");
      lengths.fill(symbol === 16 ? (lengths[at - 1] as number) : 0, at, at + count);
      at += count;
    }
    if (lengths[END_OF_BLOCK] === 0) throw new Damaged("a block of it has no end");
    return [codesOf(lengths.subarray(0, literals), true), codesOf(lengths.subarray(literals), true)];
  }

  #copyStored(): void {
    const size = Math.min(this.#storedLeft, this.#input.length - this.#at, WINDOW + PIECE - this.#end);
    if (size === 0 && this.#storedLeft > 0) throw new Damaged("it is cut short");
    this.#out.set(this.#input.subarray(this.#at, this.#at + size), this.#end);
    this.#at += size;
    this.#end += size;
    this.#storedLeft -= size;
    if (this.#storedLeft === 0) this.#within = "member";
  }

  #decode(): void {
    const [literals, distances] = this.#codes, out = this.#out, until = WINDOW + PIECE;
    const enough = this.#isAllRead ? Infinity : this.#input.length - RESERVE;
    while (this.#end < until && this.#at <= enough) {
      const symbol = this.#symbol(literals);
      if (symbol < END_OF_BLOCK) {
        out[this.#end++] = symbol;
        continue;
      }
      if (symbol === END_OF_BLOCK) {
        this.#within = "member";
        return;
      }
      const at = symbol - 257, base = LENGTH_BASE[at];
      if (base === undefined) throw new Damaged("a code of it stands for nothing");
      const length = base + this.#take(LENGTH_EXTRA[at] as number), far = this.#symbol(distances);
      const reach = DISTANCE_BASE[far];
      if (reach === undefined) throw new Damaged("a code of it stands for nothing");
      const back = reach + this.#take(DISTANCE_EXTRA[far] as number);
      // No further than this member's own beginning: what stood before is of another.
      if (back > this.#end - this.#start) throw new Damaged("it repeats what is not there");
      // Byte by byte: what is copied may overlap what it makes.
      for (let from = this.#end - back, left = length; left > 0; left--) out[this.#end++] = out[from++] as number;
    }
  }
}
