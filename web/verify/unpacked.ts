// SPDX-License-Identifier: Apache-2.0
/**
 * An exported log as it is read, whether it is packed or not; packed, it is read in passes and kept nowhere.
 *
 * A file that unpacks to more than a log has is read no further than shows it: by a line too long, too short, or too many.
 */
import { type Bytes, concat } from "../sdk/src/core/base/bytes.js";
import { Malformed } from "../sdk/src/core/base/errors.js";
import { headerFromLine, MAX_LINE } from "../sdk/src/core/log/log_export.js";
import { WIDTH } from "../sdk/src/core/log/tiles.js";
import type { LogFile } from "../sdk/src/client/auditor/entries.js";
import { Gunzip, isPacked } from "./gunzip.js";

const LINE_END = 0x0a;
const OFTEN = 64 * 1024; // bytes read of it between two words of how far it is
const SHORTEST = 20; // bytes: `{"index":0,"leaf":""}` has more, and no line has less

/** How a file is read from here on. */
export interface Opened {
  readonly file: LogFile;
  /** Return the same file for another reader beside this one. */
  again(): LogFile;
  /** It unpacks to more than was read of it. */
  readonly isCut: boolean;
}

/** Look how a file is to be read. tell: called with the bytes read of it. Rejects with Damaged. */
export async function opened(file: Blob, tell: (read: number) => void): Promise<Opened> {
  if (!(await isPacked(file))) return { file, again: () => file, isCut: false };
  const measure = new Measure(), gunzip = new Gunzip(file);
  let told = 0;
  for (let piece = await gunzip.next(); piece !== undefined && !measure.isCut; piece = await gunzip.next()) {
    measure.take(piece);
    // A piece may be of one byte: the page is not told of each.
    if (gunzip.read - told >= OFTEN) tell((told = gunzip.read));
  }
  const { size, tail, isCut } = measure, again = (): LogFile => new Unpacked(file, size, tail);
  return { file: again(), again, isCut };
}

/** Follows what is unpacked, line by line, for as long as it can be a log: its size, its end, and where it cannot. */
class Measure {
  size = 0;
  /** The last bytes, of which the last line is read. */
  tail: Bytes = new Uint8Array(0);
  isCut = false;
  #line = 0;
  #lines = 0;
  /** Lines of the whole file, once the first has said it. */
  #promised = Infinity;
  #first: Bytes[] = [];

  take(piece: Bytes): void {
    let end = piece.length;
    for (let at = 0; at < piece.length && !this.isCut; ) {
      const found = piece.indexOf(LINE_END, at), next = found < 0 ? piece.length : found + 1;
      if (this.#lines === 0) this.#first.push(piece.slice(at, next));
      this.#line += next - at;
      at = next;
      if (found >= 0) this.#endLine();
      if (this.#line > MAX_LINE + 1 || this.#lines > this.#promised) [this.isCut, end] = [true, at];
    }
    this.size += end;
    const whole = concat(this.tail, piece.subarray(0, end));
    this.tail = whole.slice(Math.max(0, whole.length - MAX_LINE));
  }

  #endLine(): void {
    this.#lines++;
    if (this.#line < SHORTEST) this.#promised = 0;
    this.#line = 0;
    if (this.#lines > 1) return;
    this.#promised = promisedBy(concat(...this.#first));
    this.#first = [];
  }
}

function promisedBy(line: Bytes): number {
  try {
    const { size, hasTiles } = headerFromLine(line);
    return size + (hasTiles ? Math.ceil(size / WIDTH) : 0) + 2;
  } catch (error) {
    if (!(error instanceof Malformed)) throw error;
    return 0;
  }
}

/** What a packed file unpacks to, read forwards; whoever goes back begins again. */
class Unpacked implements LogFile {
  #gunzip: Gunzip;
  #at = 0;
  #rest: Bytes = new Uint8Array(0);

  constructor(
    private readonly packed: Blob,
    readonly size: number,
    private readonly tail: Bytes,
  ) {
    this.#gunzip = new Gunzip(packed);
  }

  slice(start: number, end = this.size): { arrayBuffer(): Promise<ArrayBuffer> } {
    return { arrayBuffer: () => this.#read(start, Math.min(end, this.size)) };
  }

  async #read(start: number, end: number): Promise<ArrayBuffer> {
    const tailStart = this.size - this.tail.length;
    if (start >= tailStart) return this.tail.slice(start - tailStart, end - tailStart).buffer;
    if (start < this.#at) [this.#gunzip, this.#at, this.#rest] = [new Gunzip(this.packed), 0, new Uint8Array(0)];
    const out = new Uint8Array(Math.max(0, end - start));
    for (let filled = 0; filled < out.length; ) {
      const skipped = Math.min(start + filled - this.#at, this.#rest.length);
      const taken = this.#rest.subarray(skipped, skipped + out.length - filled);
      out.set(taken, filled);
      filled += taken.length;
      this.#at += skipped + taken.length;
      this.#rest = this.#rest.subarray(skipped + taken.length);
      if (filled < out.length && this.#rest.length === 0) {
        const next = await this.#gunzip.next();
        if (next === undefined) throw new Error("the file has changed");
        this.#rest = next;
      }
    }
    return out.buffer;
  }
}
