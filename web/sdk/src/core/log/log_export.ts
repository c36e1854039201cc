// SPDX-License-Identifier: Apache-2.0
/**
 * The lines of an exported log: a header, its hashes and its entries, and the signed head (docs/formats/audit-log.md).
 *
 * One text for one value, so that any changed byte shows. Reads no file and checks no proof: `client/auditor` does.
 */
import { type Bytes, concat, equal, hex, isWellFormed, utf8 } from "../base/bytes.js";
import { b64u, MAX_STATEMENT, unb64u } from "../base/encoding.js";
import { Malformed, Untrusted } from "../base/errors.js";
import { entryFromLeaf, keyEntryFromLeaf, type KeyLogEntry, type LogEntry } from "./log_entry.js";
import { HASH_SIZE, leafHash, MAX_PROOF, MAX_SIZE, root, verifyInclusion } from "./merkle.js";
import { WIDTH } from "./tiles.js";

/** The first value of the file: a reader of another version stops here instead of calling the log forged. */
export const FORMAT = "holdfast-log-export/1";
/** With entries withheld it is another format: what knows only whole logs must not take such a file for one. */
export const FORMAT_WITHHELD = "holdfast-log-export/2";
/**
 * With the tenant root's `roles`, against which each entry's writer is checked: in this format also of a whole log it is
 * said that nothing is withheld.
 */
export const FORMAT_ROLES = "holdfast-log-export/3";
/**
 * With a line before each 256 entries that has their hashes and what leads from them to the head: what each entry's own
 * proof was made of, once.
 */
export const FORMAT_TILES = "holdfast-log-export/4";
/** Bytes: a leaf of 16 KiB as text twice over, its escapes and its proof. */
export const MAX_LINE = 128 * 1024;
/** The last second that RFC 3339 can name. */
export const MAX_TIME = 253402300799;

// Printable ASCII, at most as many signs as a tag has: safe to print as they are.
const CLAIMED = { id: /"id":"([ !#-~]{1,80})"/, tag: /"tag":"([ !#-~]{1,80})"/ };

// An entry's next name is `id`, `type` or `leaf`: no leaf, whatever it says, puts this name there.
const WITHHELD = /^\{"index":[0-9]+,"withheld":/;

/** Words for field 1 of a leaf of the key log, for people to read. A type never changes its number. */
export const KEY_LEAF_TYPES: Readonly<Record<number, string>> = {
  1: "chain", 2: "escrow-key", 3: "policy", 4: "officer", 5: "offline-key", 6: "client-build",
};

/** What stands in a line: pairs in their order, since names of a leaf's own fields would move in an object. */
type Shown = string | number | null | readonly Pair[];
type Pair = readonly [name: string, value: Shown];

/** The first line. */
export interface ExportHeader {
  readonly origin: string;
  /** The verifier key the server claims; it anchors nothing by itself. */
  readonly vkey: string;
  readonly size: number;
  /** How many entries are shown as their hashes alone; 0 for a whole log. */
  readonly withheld: number;
  /**
   * The newest statement of the tenant root as signed, none where there is none; it anchors nothing either, until it is
   * held to the root.
   */
  readonly roles: Bytes;
  /** Entries are proven by the line before each 256 of them; otherwise each by itself, as in exports of before. */
  readonly hasTiles: boolean;
}

/** Return the line, ended. */
export function headerToLine(of: ExportHeader): Bytes {
  const shown: Pair[] = [["origin", of.origin], ["vkey", of.vkey], ["size", of.size]];
  const more: Pair[] = [["withheld", of.withheld], ["roles", b64u(of.roles)]];
  if (of.hasTiles) return lineOf([["format", FORMAT_TILES], ...shown, ...more]);
  if (of.roles.length > 0) return lineOf([["format", FORMAT_ROLES], ...shown, ...more]);
  if (of.withheld > 0) return lineOf([["format", FORMAT_WITHHELD], ...shown, ["withheld", of.withheld]]);
  return lineOf([["format", FORMAT], ...shown]);
}

/** Read what `headerToLine` writes, and nothing else; throws Malformed. */
export function headerFromLine(line: Bytes): ExportHeader {
  const value = Read.of(line);
  const header = {
    withheld: value.has("withheld") ? value.number("withheld") : 0,
    roles: value.has("roles") ? unb64u(value.text("roles"), MAX_STATEMENT) : new Uint8Array(0),
    hasTiles: value.is("format", FORMAT_TILES),
    origin: value.text("origin"),
    vkey: value.text("vkey"),
    size: value.number("size"),
  };
  // Written again and compared: JSON lets one value have many spellings, and a changed space would pass unseen.
  requireForm(line, headerToLine(header), "the header is not in the one form it has");
  return header;
}

/** The hashes of up to 256 leaves from 256 * index on, and the proof of their root in the tree of the header's size. */
export interface ExportedTile {
  readonly index: number;
  /** 32 bytes each, one after another. */
  readonly hashes: Bytes;
  /** From that root's sibling upwards (RFC 6962 section 2.1.1). */
  readonly proof: readonly Bytes[];
}

/** Return the hashes of a tile one by one. */
export function tileRows(of: ExportedTile): Bytes[] {
  return rowsOf(of.hashes);
}

/** Return the line, ended. */
export function tileToLine(of: ExportedTile): Bytes {
  return lineOf([["tile", of.index], ["hashes", b64u(of.hashes)], ["proof", b64u(concat(...of.proof))]]);
}

/** Read what `tileToLine` writes, and nothing else; throws Malformed. */
export function tileFromLine(line: Bytes): ExportedTile {
  const value = Read.of(line);
  const hashes = unb64u(value.text("hashes"), WIDTH * HASH_SIZE);
  const tile = { index: value.number("tile"), hashes, proof: value.proof() };
  requireForm(line, tileToLine(tile), "a line of hashes is not in the one form it has");
  return tile;
}

/** One leaf at its index, with its inclusion proof in the tree of the header's size. */
export class ExportedEntry {
  #said: LogEntry | KeyLogEntry | undefined;
  #isRead = false;

  /** proof: undefined in a file with tiles, whose lines have the hash. */
  constructor(
    readonly index: number,
    readonly leaf: Bytes,
    readonly proof: readonly Bytes[] | undefined,
  ) {}

  /** The 32 bytes that the log holds at this index. */
  get leafHash(): Bytes {
    return leafHash(this.leaf);
  }

  /** What the leaf says, read once; undefined of bytes that are no leaf. */
  get said(): LogEntry | KeyLogEntry | undefined {
    if (!this.#isRead) [this.#said, this.#isRead] = [readLeaf(this.leaf), true];
    return this.#said;
  }

  /** Return the line, ended; what people read in it is written from the leaf alone. */
  toLine(): Bytes {
    return lineOf([["index", this.index], ...readablePairs(this.said), ["leaf", b64u(this.leaf)], ...proven(this.proof)]);
  }

  /** Read what `toLine` writes, and nothing else; throws Malformed. */
  static fromLine(line: Bytes): ExportedEntry {
    const value = Read.of(line), proof = value.has("proof") ? value.proof() : undefined;
    const entry = new ExportedEntry(value.number("index"), unb64u(value.text("leaf")), proof);
    // People read the words, proofs cover the leaf: this line ties the two. An edited `tag` beside a true leaf is found here.
    requireForm(line, entry.toLine(), "what people read in this line is not what its leaf says");
    return entry;
  }

  /**
   * Return the id and tag that a line claims, of a line that `fromLine` refused; unreadable ones are left out.
   *
   * Read without parsing, since one broken byte elsewhere should not hide them. At most 80 characters of each, and only
   * printable ASCII: it will be shown, and it is the forger's text.
   */
  static claimed(line: Uint8Array): { readonly id?: string; readonly tag?: string } {
    const text = latin1(line), id = CLAIMED.id.exec(text)?.[1], tag = CLAIMED.tag.exec(text)?.[1];
    return { ...(id === undefined ? {} : { id }), ...(tag === undefined ? {} : { tag }) };
  }
}

/**
 * One place of the log whose leaf this reader may not see yet: its hash, 32 bytes, and the proof of it.
 *
 * What is withheld is proven to be there and to be one certain leaf: it cannot be put in, taken out or exchanged.
 */
export interface WithheldEntry {
  readonly index: number;
  readonly leafHash: Bytes;
  readonly proof: readonly Bytes[] | undefined;
}

/** Return the line, ended. */
export function withheldToLine(of: WithheldEntry): Bytes {
  return lineOf([["index", of.index], ["withheld", b64u(of.leafHash)], ...proven(of.proof)]);
}

/** Read what `withheldToLine` writes, and nothing else; throws Malformed. */
export function withheldFromLine(line: Bytes): WithheldEntry {
  const value = Read.of(line), octets = unb64u(value.text("withheld"), HASH_SIZE);
  if (octets.length !== HASH_SIZE) throw new Malformed("export: a withheld entry is a hash of 32 bytes");
  const index = value.number("index"), proof = value.has("proof") ? value.proof() : undefined;
  const entry = { index, leafHash: octets, proof };
  requireForm(line, withheldToLine(entry), "a withheld entry is not in the one form it has");
  return entry;
}

/**
 * Check that a line of hashes is that of the leaves from 256 * index on, in the tree of `size` under `expectedRoot`.
 *
 * expectedRoot: undefined where it is not known: only that the hashes are as many as they have to be. Throws Untrusted.
 */
export function checkTile(tile: ExportedTile, of: { index: number; size: number; expectedRoot: Bytes | undefined }): void {
  const count = Math.min(WIDTH, of.size - of.index * WIDTH);
  if (tile.index !== of.index || tile.hashes.length !== count * HASH_SIZE)
    throw new Untrusted("in place of its line of hashes stands another");
  if (of.expectedRoot === undefined) return;
  // A tile is one subtree of the tree, also at its ragged edge, and in the tree of tiles it is a leaf.
  const { index, expectedRoot } = of, size = Math.ceil(of.size / WIDTH);
  verifyInclusion(root(tileRows(tile)), { index, size, proof: tile.proof, expectedRoot });
}

/** Read an entry or a withheld one, in the one form it has; throws Malformed. */
export function readEntryLine(line: Bytes): ExportedEntry | WithheldEntry {
  return WITHHELD.test(latin1(line.subarray(0, 64))) ? withheldFromLine(line) : ExportedEntry.fromLine(line);
}

/** Return the last line: the signed head that everything above is proven against. */
export function checkpointLine(note: string): Bytes {
  return lineOf([["checkpoint", note]]);
}

/** Read what `checkpointLine` writes, and nothing else; throws Malformed. */
export function readCheckpointLine(line: Bytes): string {
  const note = Read.of(line).text("checkpoint");
  requireForm(line, checkpointLine(note), "the last line is not in the one form it has");
  return note;
}

function readLeaf(leaf: Bytes): LogEntry | KeyLogEntry | undefined {
  // The audit leaf is tried first, and a key leaf can never pass for one: their sets of fields differ. A damaged leaf has to
  // be exported as it is: the auditor is who must see it.
  for (const read of [entryFromLeaf, keyEntryFromLeaf])
    try {
      return read(leaf);
    } catch (error) {
      if (!(error instanceof Malformed)) throw error;
    }
  return undefined;
}

function readablePairs(said: LogEntry | KeyLogEntry | undefined): Pair[] {
  if (said === undefined) return [];
  if ("tag" in said)
    return [
      ["id", uuid(said.entryId)],
      ["time", rfc3339(said.time)],
      ["tag", said.tag],
      ["actor", said.actor],
      ["person", said.person.length > 0 ? uuid(said.person) : null],
      ["subject", said.subject],
      ["body", [...said.body].map(([name, value]): Pair => [name, value instanceof Uint8Array ? b64u(value) : value])],
    ];
  return [
    ["type", KEY_LEAF_TYPES[said.type] as string],
    ["time", rfc3339(said.time)],
    ["of", b64u(said.subjectHash)],
    ["seq", said.seq],
    ["statement", b64u(said.statementHash)],
  ];
}

function proven(proof: readonly Bytes[] | undefined): Pair[] {
  return proof === undefined ? [] : [["proof", b64u(concat(...proof))]];
}

function rfc3339(seconds: number): string | number {
  return seconds > MAX_TIME ? seconds : `${new Date(seconds * 1000).toISOString().slice(0, 19)}Z`;
}

function uuid(octets: Bytes): string {
  const digits = hex(octets);
  return [0, 8, 12, 16, 20].map((start, at, starts) => digits.slice(start, starts[at + 1])).join("-");
}

function textLine(value: Shown): string {
  if (typeof value === "string")
    // ASCII only: line ends, bidirectional marks and every other character that could forge what a person sees stand as
    // escapes.
    return JSON.stringify(value).replace(/[^ -~]/g, (sign) => `\\u${sign.charCodeAt(0).toString(16).padStart(4, "0")}`);
  if (value === null || typeof value === "number") return String(value);
  return `{${value.map(([name, inner]) => `${textLine(name)}:${textLine(inner)}`).join(",")}}`;
}

function lineOf(pairs: readonly Pair[]): Bytes {
  return utf8(`${textLine(pairs)}\n`);
}

function requireForm(line: Bytes, written: Bytes, otherwise: string): void {
  if (!equal(line, written)) throw new Malformed(`export: ${otherwise}`);
}

function rowsOf(octets: Bytes): Bytes[] {
  return Array.from({ length: octets.length / HASH_SIZE }, (_, at) => octets.slice(at * HASH_SIZE, (at + 1) * HASH_SIZE));
}

function latin1(octets: Uint8Array): string {
  let text = "";
  for (const octet of octets) text += String.fromCharCode(octet);
  return text;
}

const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** The names of one line. Only names of its own are read: a stranger's object has nothing by inheritance. */
class Read {
  private constructor(private readonly value: object) {}

  static of(line: Uint8Array): Read {
    if (line.length > MAX_LINE) throw new Malformed("export: a line is too long");
    let value: unknown;
    try {
      value = JSON.parse(decoder.decode(line));
    } catch {
      throw new Malformed("export: a line is not JSON");
    }
    if (typeof value !== "object" || value === null || Array.isArray(value))
      throw new Malformed("export: a line is not an object");
    return new Read(value);
  }

  has(name: string): boolean {
    return Object.hasOwn(this.value, name);
  }

  private get(name: string): unknown {
    return Object.getOwnPropertyDescriptor(this.value, name)?.value;
  }

  is(name: string, value: string): boolean {
    return this.get(name) === value;
  }

  text(name: string): string {
    const found = this.get(name);
    if (typeof found !== "string") throw new Malformed(`export: ${name} is not text`);
    if (!isWellFormed(found)) throw new Malformed(`export: ${name} holds half of a surrogate pair`);
    return found;
  }

  number(name: string): number {
    const found = this.get(name);
    // A negative zero too: it would be written as another line than it was read from.
    if (typeof found !== "number" || !Number.isInteger(found) || Object.is(found, -0) || found < 0 || found > MAX_SIZE)
      throw new Malformed(`export: ${name} is not a whole number`);
    return found;
  }

  proof(): Bytes[] {
    // The bound is in hashes before anything is cut up: a line is up to 128 KiB of a stranger's text.
    const octets = unb64u(this.text("proof"), MAX_PROOF * HASH_SIZE);
    if (octets.length % HASH_SIZE > 0) throw new Malformed("export: a proof is a row of hashes of 32 bytes");
    return rowsOf(octets);
  }
}
