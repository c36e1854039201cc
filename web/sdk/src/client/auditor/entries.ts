// SPDX-License-Identifier: Apache-2.0
/**
 * The entries of an exported log, one by one: each held to the head, and to whoever may have written it.
 *
 * docs/formats/audit-log.md "Export" under `auditor`, which holds the file as a whole to what is trusted.
 */
import { type Bytes, concat, equal, hex } from "../../core/base/bytes.js";
import { HoldfastError, Malformed, Untrusted } from "../../core/base/errors.js";
import { checkEntry, type Roles, WrongLeaf } from "../../core/identity/roles.js";
import type { LogEntry } from "../../core/log/log_entry.js";
import {
  checkTile, ExportedEntry, type ExportedTile, type ExportHeader, MAX_LINE, readEntryLine, tileFromLine, tileRows,
  type WithheldEntry,
} from "../../core/log/log_export.js";
import { InclusionChecker } from "../../core/log/merkle.js";
import { WIDTH } from "../../core/log/tiles.js";

/** The first place at which the log is not what was signed. id and tag: as the file says, "" when unreadable. */
export interface BadEntry {
  readonly index: number;
  readonly id: string;
  readonly tag: string;
  readonly reason: string;
}

/** Ends a verification with what it found. */
export class Broken extends Error {
  constructor(
    readonly reason: string,
    readonly entry?: BadEntry,
  ) {
    super(reason);
  }
}

/** What is read of a file, from any byte on: a Blob, or what gives a packed one unpacked. */
export interface LogFile {
  readonly size: number;
  slice(start: number, end?: number): { arrayBuffer(): Promise<ArrayBuffer> };
}

const CHUNK = 1024 * 1024, END = 0x0a;

/** Reads a file line by line, in pieces of 1 MiB: a log may be larger than the memory. */
export class Lines {
  #chunk: Bytes = new Uint8Array(0);
  #start = 0;

  /** at: the byte at which the next line begins. */
  constructor(
    private readonly file: LogFile,
    public at = 0,
  ) {}

  /** Return the next line with its end, cut after MAX_LINE + 1 bytes; none at the end of the file. */
  async next(): Promise<Bytes> {
    const parts: Bytes[] = [];
    let left = MAX_LINE + 1;
    while (left > 0 && this.at < this.file.size) {
      if (this.at < this.#start || this.at >= this.#start + this.#chunk.length) {
        this.#start = this.at;
        this.#chunk = new Uint8Array(await this.file.slice(this.at, this.at + CHUNK).arrayBuffer());
        if (this.#chunk.length === 0) throw new Error("the file ends before its size: it has changed");
      }
      const from = this.at - this.#start, found = this.#chunk.indexOf(END, from);
      const end = Math.min(found < 0 ? this.#chunk.length : found + 1, from + left);
      parts.push(this.#chunk.slice(from, end));
      this.at += end - from;
      left -= end - from;
      if (found >= 0) break;
    }
    return parts.length === 1 ? (parts[0] as Bytes) : concat(...parts);
  }

  /** Whether nothing follows. */
  get isAtEnd(): boolean {
    return this.at >= this.file.size;
  }
}

const OTHER_LEAF = "it is not the leaf whose hash is proven";

/** Reads entries in their order and holds each to the head: by its own proof, or by the line before its tile. */
export class Proofs {
  readonly #checker: InclusionChecker | undefined;
  #hashes: Bytes[] = [];
  /** How many of those read are withheld. */
  withheld = 0;

  /** root: 32 bytes of the signed head; undefined where there is none that holds. */
  constructor(
    private readonly lines: Lines,
    private readonly header: ExportHeader,
    private readonly root: Bytes | undefined,
  ) {
    this.#checker = root === undefined ? undefined : new InclusionChecker(header.size, root);
  }

  /** Return the entry of an index, the next in the file, and its line. Rejects with Broken. */
  async nextEntry(index: number): Promise<[entry: ExportedEntry | WithheldEntry, line: Bytes]> {
    if (this.header.hasTiles && index % WIDTH === 0) this.#hashes = await this.#tile(index);
    const line = await this.lines.next();
    try {
      const entry = readEntryLine(line);
      if (!(entry instanceof ExportedEntry)) this.withheld++;
      // The first line says how many: nobody turns an entry into a withheld one further down.
      if (this.withheld > this.header.withheld)
        throw new Untrusted("it is withheld, and the first line does not count it");
      if (entry.index !== index) throw new Untrusted(`in its place stands the entry of index ${entry.index}`);
      this.#check(entry);
      return [entry, line];
    } catch (error) {
      throw brokenBy(error, index, line);
    }
  }

  #check(entry: ExportedEntry | WithheldEntry): void {
    if ((entry.proof === undefined) !== this.header.hasTiles) throw new Malformed("export: a line of another format");
    if (entry.proof !== undefined) this.#checker?.check(entry.leafHash, entry.index, entry.proof);
    else if (!equal(entry.leafHash, this.#hashes[entry.index % WIDTH] as Bytes)) throw new Untrusted(OTHER_LEAF);
  }

  async #tile(first: number): Promise<Bytes[]> {
    const line = await this.lines.next();
    let tile: ExportedTile;
    try {
      tile = tileFromLine(line);
    } catch (error) {
      throw brokenBy(error, first, line);
    }
    try {
      checkTile(tile, { index: first / WIDTH, size: this.header.size, expectedRoot: this.root });
    } catch (error) {
      if (!(error instanceof HoldfastError)) throw error;
      throw await this.#wrong(tile, first, error.message);
    }
    return tileRows(tile);
  }

  /** Say which entry is wrong below hashes that do not hold: the first that is not that of its hash. */
  async #wrong(tile: ExportedTile, first: number, error: string): Promise<Broken> {
    const last = Math.min(first + WIDTH, this.header.size) - 1;
    for (const [at, hashed] of tileRows(tile).slice(0, last + 1 - first).entries()) {
      const line = await this.lines.next();
      try {
        if (equal(readEntryLine(line).leafHash, hashed)) continue;
      } catch (refused) {
        if (!(refused instanceof HoldfastError)) throw refused;
      }
      const index = first + at;
      return new Broken(`entry ${index} is not what was signed: ${OTHER_LEAF}`, badEntry(index, line, OTHER_LEAF));
    }
    const reason = `one of the entries ${first} … ${last} is another, or their hashes are: ${error}`;
    const bad = { index: first, id: "", tag: "", reason };
    return new Broken(`entries ${first} … ${last} are not what was signed: ${error}`, bad);
  }
}

function brokenBy(error: unknown, index: number, line: Bytes): unknown {
  if (!(error instanceof HoldfastError)) return error;
  return new Broken(`entry ${index} is not what was signed: ${error.message}`, badEntry(index, line, error.message));
}

/**
 * Return an entry that somebody entitled wrote, and wrote once; remember its id (in hex). Rejects with WrongLeaf for any
 * other.
 */
export async function requireWritten(exported: ExportedEntry, roles: Roles, ids: Set<string>): Promise<LogEntry> {
  const entry = exported.said;
  if (entry === undefined || !("tag" in entry)) throw new WrongLeaf("form");
  await checkEntry(entry, exported.leaf, { index: exported.index, roles });
  // Whoever may number entries but not sign them could show one act twice, with a signature that holds each time.
  const id = hex(entry.entryId);
  if (ids.has(id)) throw new WrongLeaf("again");
  ids.add(id);
  return entry;
}

const ACCEPTED = "audit:log:accept"; // the ceremony's entry: docs/spec/escrow.md "What it believes of the log"

/** Of an entry that says that a backup was put back: where it stands, and how many entries were accepted. */
export type PutBack = readonly [index: number, size: number];

/** Return whether an entry says that a backup was put back: its index, and the size that was accepted. */
export function putBackBy(said: LogEntry, index: number): PutBack[] {
  const size = said.body.get("size");
  return said.tag === ACCEPTED && typeof size === "number" ? [[index, size]] : [];
}

const CHECKPOINT = '{"checkpoint":', TILE = '{"tile":';

/** Name an entry by what its line says, which is all there is to name it by. */
export function badEntry(index: number, line: Bytes, reason: string): BadEntry {
  const start = String.fromCharCode(...line.subarray(0, CHECKPOINT.length));
  if (line.length === 0 || start === CHECKPOINT || start.startsWith(TILE))
    return { index, id: "", tag: "", reason: "missing: the file ends before it" };
  const { id = "", tag = "" } = ExportedEntry.claimed(line);
  return { index, id, tag, reason };
}
