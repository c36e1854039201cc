// SPDX-License-Identifier: Apache-2.0
/**
 * Verification of an exported log on the auditor's own machine: no server, no store, no network.
 *
 * docs/formats/audit-log.md "Export" on `core/log/log_export`. Proves that the log is whole and signed, and each entry
 * written by a part of the server that may; whether it was right to make is for people to judge.
 */
import { type Bytes, concat, equal, hex } from "../../core/base/bytes.js";
import { HoldfastError, InvalidSignature, Malformed, Untrusted } from "../../core/base/errors.js";
import {
  type Fault, type Roles, rolesFromPayload, type SignedRoles, verifyRoles, WrongLeaf,
} from "../../core/identity/roles.js";
import { type Checkpoint, LogVerifier, NoteVerifier } from "../../core/log/checkpoint.js";
import {
  checkpointLine, ExportedEntry, type ExportHeader, headerFromLine, headerToLine, MAX_LINE, readCheckpointLine,
} from "../../core/log/log_export.js";
import { CompactRange, HASH_SIZE } from "../../core/log/merkle.js";
import { Role } from "../../core/log/writers.js";
import { Sign1 } from "../../core/signed/cose.js";
import {
  badEntry, type BadEntry, Broken, Lines, type LogFile, Proofs, putBackBy, type PutBack, requireWritten,
} from "./entries.js";
import { checked, PART } from "./parts.js";

/** What a verification ended with. */
export const Verdict = {
  VERIFIED: "verified",
  BROKEN: "broken",
  NOT_ANCHORED: "not anchored",
  /** Not VERIFIED: a server could withhold anything from anybody, and nobody must take that for the whole log. */
  WITHHELD: "withheld",
} as const;
export type Verdict = (typeof Verdict)[keyof typeof Verdict];

/** How far it is known whose keys wrote the entries of an audit log. */
export const Writers = {
  /** The tenant root, which was given to trust, names them. */
  ANCHORED: "anchored",
  /** A statement in the file names them, and nothing says that it is the root's. */
  CLAIMED: "claimed",
  /** An export of an older form, or of the log of keys, whose entries bear no signature. */
  UNKNOWN: "unknown",
} as const;
export type Writers = (typeof Writers)[keyof typeof Writers];

/** The result. */
export interface VerificationReport {
  readonly verdict: Verdict;
  /** A sentence for a person. */
  readonly reason: string;
  readonly origin: string;
  /** Entries proven, or claimed when broken. */
  readonly size: number;
  /** Unix seconds at which the head was signed, 0 if unknown. */
  readonly time: number;
  readonly vkey: string;
  /** Undefined when no single entry is at fault. */
  readonly entry: BadEntry | undefined;
  /** How many of the entries show their hash only. */
  readonly withheld: number;
  readonly writers: Writers;
  /** Entries from 0 on that are older than signatures by role. */
  readonly unsigned: number;
  /** For each backup that was put back: the index of the entry that says so, and how many entries it had. */
  readonly restored: readonly PutBack[];
  /** The first line and the signed head, as they were read and verified; undefined of what is broken. */
  readonly held: { readonly header: ExportHeader; readonly note: string; readonly root: Bytes } | undefined;
}

const NOT_ANCHORED = "the log is self-consistent, but nothing says whose it is: give the tenant root's key as `trust`";
const NO_ROLES =
  "the log is self-consistent, but the file names no keys that the tenant root vouches for, as one from an older server: " +
  "give the log's key as `trust`";
const WITHHELD =
  "show only their hash, withheld from whoever exported this until a date that a signed case fixes: have somebody else " +
  "export the log, or export it again later";

// What each word of `WrongLeaf` says to a person: docs/formats/audit-log.md. "again" is ours, who see all entries.
const WHY: Readonly<Record<Fault, string>> = {
  form: "it is not in the one form of an entry",
  unsigned: "no part of the server has signed it",
  key: "it is signed by a key that the tenant root never named",
  role: "the part of the server that signed it may not write such an entry",
  "key-ended": "the key that signed it had ended before",
  signature: "its signature does not hold",
  again: "its id stands in an earlier entry already",
};

/** What the auditor brings: the tenant root or the log's own key, and the newest `roles` they have seen, if any. */
interface Trust {
  readonly root: NoteVerifier | undefined;
  readonly log: NoteVerifier | undefined;
  readonly seen: SignedRoles | undefined;
}

function trustOf(text: string | undefined, seen: SignedRoles | undefined): Trust {
  const key = text === undefined ? undefined : NoteVerifier.fromText(text);
  const isRoot = key?.name.endsWith("/root") ?? false;
  return { root: isRoot ? key : undefined, log: isRoot ? undefined : key, seen };
}

/** What a file is held to. */
export interface Known {
  /**
   * The verifier key of the tenant root, or of the log alone, as carried from elsewhere; without it the result is at best
   * NOT_ANCHORED.
   */
  readonly trust?: string | undefined;
  /** Checkpoints kept from earlier, signed notes of the same log, which this one must extend. */
  readonly saved?: readonly string[];
  /** The newest `roles` known, below which the file must not fall; only with the root. */
  readonly seen?: SignedRoles | undefined;
  /** A size and the root (32 bytes) that this log had then, as officers accepted it. */
  readonly past?: readonly [size: number, root: Bytes] | undefined;
  /** Entries from which on signatures are checked side by side. */
  readonly long?: number;
  /** Called now and then with how many entries are checked; from the beginning again where what is wrong is looked for. */
  readonly tell?: ((done: number) => void) | undefined;
}

/**
 * Check every byte of an exported log against its signed head, and name the first entry that is wrong.
 *
 * Reads the file once from front to back, a line at a time, and remembers the id of each entry. Throws Malformed for a
 * `trust` that is no key (the caller's mistake); all that is wrong in the file is in the report.
 */
export async function verifyExport(file: LogFile, known: Known = {}): Promise<VerificationReport> {
  const trust = trustOf(known.trust, known.seen);
  let header: ExportHeader | undefined;
  try {
    const lines = new Lines(file);
    header = await readHeader(lines);
    const note = await lastLine(file);
    lines.at = headerToLine(header).length;
    return await verify(lines, header, note, trust, known);
  } catch (error) {
    if (!(error instanceof Broken)) throw error;
    const { origin = "", size = 0 } = header ?? {};
    return {
      verdict: Verdict.BROKEN, reason: error.reason, origin, size, time: 0, vkey: "", entry: error.entry, withheld: 0,
      writers: Writers.UNKNOWN, unsigned: 0, restored: [], held: undefined,
    };
  }
}

async function verify(
  lines: Lines,
  header: ExportHeader,
  note: string | undefined,
  trust: Trust,
  { saved = [], past, long = LONG, tell }: Known,
): Promise<VerificationReport> {
  // To believe an export we must, in this order:
  //
  // (0) know whose keys write and sign this log: by the root's word where we trust the root;
  // (1) have a head signed by the log's key: one that the root names, the one we trust, or the one the file claims;
  // (2) find every entry, each in its one form, at its own index, proven into that head and written by who may;
  // (3) find the end where the head says it is, and every head saved earlier to be one of this log's past.

  // (0)
  const roles = await rolesIn(header, trust);
  // (1)
  let checkpoint: Checkpoint | undefined, verifier = trust.log, fault = "";
  try {
    verifier = verifierOf(header, roles, trust);
    checkpoint = await headIn(note, verifier);
  } catch (error) {
    if (!(error instanceof HoldfastError)) throw error;
    fault = error.message;
  }
  if (checkpoint !== undefined && (checkpoint.origin !== header.origin || checkpoint.size !== header.size))
    throw new Broken("the first line speaks of another log or size than the signed head");
  // (2) Without a head the entries are read all the same: a file cut short is named by where it was cut.
  const pasts = await pastsOf(saved, signersOf(header, verifier, roles), header.size);
  if (past !== undefined) addPast(pasts, past, header.size);
  const written = roles !== undefined && header.origin === roles.origin ? roles : undefined;
  if (written?.unsigned !== undefined) addPast(pasts, written.unsigned, header.size);
  const restored = await readEntries(lines, header, { root: checkpoint?.root, pasts, roles: written, long, tell });
  if (checkpoint === undefined || verifier === undefined || note === undefined)
    throw new Broken(`the signed head does not hold: ${fault}`);
  // (3)
  if (!equal(await lines.next(), checkpointLine(note)) || !lines.isAtEnd)
    throw new Broken("the file does not end with its signed head");
  const [verdict, reason] = verdictOf(header, roles, trust);
  const writers =
    written === undefined ? Writers.UNKNOWN : trust.root === undefined ? Writers.CLAIMED : Writers.ANCHORED;
  return {
    verdict,
    reason: [reason, ...notesOn(header, written, writers), ...restored.map(putBackWords)].join("; "),
    origin: header.origin,
    size: header.size,
    time: checkpoint.time ?? 0,
    vkey: verifier.toText(),
    entry: undefined,
    withheld: header.withheld,
    writers,
    unsigned: written?.unsigned?.[0] ?? 0,
    restored,
    held: { header, note, root: checkpoint.root },
  };
}

function verdictOf(header: ExportHeader, roles: Roles | undefined, trust: Trust): [Verdict, string] {
  if (trust.root !== undefined && roles === undefined) return [Verdict.NOT_ANCHORED, NO_ROLES];
  if (trust.root === undefined && trust.log === undefined) return [Verdict.NOT_ANCHORED, NOT_ANCHORED];
  const whole = `${header.size} entries, every one as it was signed`;
  return [header.withheld > 0 ? Verdict.WITHHELD : Verdict.VERIFIED, whole];
}

/** Say, each in a clause, what a person must know of a log that holds. */
function* notesOn(header: ExportHeader, written: Roles | undefined, writers: Writers): Generator<string> {
  if (header.withheld > 0) yield `${header.withheld} of ${header.size} ${WITHHELD}`;
  if (writers === Writers.ANCHORED) {
    yield "each written by a part of the server that may, under a key that the tenant root names";
  } else if (writers === Writers.CLAIMED) {
    yield "who wrote each entry is held to keys that the file itself claims: give the tenant root's key as `trust` to " +
      "have them vouched for";
  } else if (header.origin.endsWith("/audit")) {
    const why = header.hasTiles ? "the file names no keys that write this log" : "this export is of an older form";
    yield `who wrote each entry is not checked, since ${why}`;
  }
  if (written?.unsigned !== undefined) {
    const by = writers === Writers.ANCHORED ? "the tenant root" : "the statement in the file";
    yield `entries 0 … ${written.unsigned[0] - 1} are older than signatures by role and bear none: what they are ` +
      `together is pinned by ${by}`;
  }
}

function putBackWords([index, size]: PutBack): string {
  return (
    `entry ${index} says that a backup of ${size} entries was put back and that officers accepted it: what a head ` +
    "saved before that covers beyond them is lost"
  );
}

async function readHeader(lines: Lines): Promise<ExportHeader> {
  try {
    return headerFromLine(await lines.next());
  } catch (error) {
    if (!(error instanceof Malformed)) throw error;
    throw new Broken(`this is not an exported log: ${error.message}`);
  }
}

/** Return the note of the last line, with or without its end; undefined of a line that is none. */
async function lastLine(file: LogFile): Promise<string | undefined> {
  try {
    return await checkpointOf(file);
  } catch (error) {
    if (!(error instanceof Malformed)) throw error;
    return undefined;
  }
}

/** Return the signed head at the end of an exported log. Rejects with Malformed for a last line of another kind. */
export async function checkpointOf(file: LogFile): Promise<string> {
  const octets = new Uint8Array(await file.slice(Math.max(0, file.size - MAX_LINE)).arrayBuffer());
  let end = octets.length;
  while (end > 0 && octets[end - 1] === 0x0a) end--;
  // A place below 0 would be counted from the back.
  const start = end === 0 ? 0 : octets.lastIndexOf(0x0a, end - 1) + 1;
  return readCheckpointLine(concat(octets.subarray(start, end), Uint8Array.of(0x0a)));
}

/** Read the statement in the first line; hold it to the root where there is one to trust. */
async function rolesIn(header: ExportHeader, trust: Trust): Promise<Roles | undefined> {
  if (header.roles.length === 0) {
    if (trust.seen !== undefined)
      throw new Broken("the file leaves out whose keys write this log, which the tenant root has said");
    return undefined;
  }
  try {
    const statement = Sign1.parse(header.roles), roles = rolesFromPayload(statement.payload);
    if (header.origin !== roles.origin && header.origin !== roles.originOf("keys"))
      throw new Untrusted("it is another tenant's");
    if (trust.root !== undefined) {
      if (trust.root.name !== `holdfast/${tenantOf(roles)}/root`)
        throw new Untrusted("the root that you trust is another tenant's");
      await verifyRoles(statement, { tenant: roles.header.tenant, rootKey: trust.root.key, seen: trust.seen });
    }
    return roles;
  } catch (error) {
    if (!(error instanceof HoldfastError)) throw error;
    throw new Broken(`the statement of whose keys write this log does not hold: ${error.message}`);
  }
}

function tenantOf(roles: Roles): string {
  return roles.origin.split("/")[1] as string;
}

function verifierOf(header: ExportHeader, roles: Roles | undefined, trust: Trust): NoteVerifier {
  const claimed = NoteVerifier.fromText(header.vkey);
  if (trust.log !== undefined && header.vkey !== trust.log.toText())
    throw new Broken("the file names another key than the one you trust");
  // Without the root a statement that names no such key is no more than the file's word against itself.
  if (trust.root !== undefined && roles !== undefined && !roles.maySign(claimed, header.size))
    throw new Broken("the tenant root does not name the key that signs this log");
  return claimed;
}

/** Return whose signature a head saved earlier may bear: the key of today, or one before it. */
function signersOf(header: ExportHeader, verifier: NoteVerifier | undefined, roles: Roles | undefined): LogVerifier {
  const before = roles?.allOf(Role.LOG) ?? [];
  return new LogVerifier(header.origin, [...(verifier ? [verifier.key] : []), ...before]);
}

async function headIn(note: string | undefined, verifier: NoteVerifier): Promise<Checkpoint> {
  if (note === undefined) throw new Malformed("the last line is no checkpoint");
  return verifier.openCheckpoint(note);
}

/** Return the roots that this log must have had, by size. */
async function pastsOf(saved: readonly string[], signers: LogVerifier, size: number): Promise<Map<number, Bytes>> {
  const roots = new Map<number, Bytes>();
  for (const note of signers.keys.length > 0 ? saved : []) {
    let past: Checkpoint;
    try {
      past = await signers.openCheckpoint(note);
    } catch (error) {
      if (!(error instanceof Malformed || error instanceof InvalidSignature)) throw error;
      throw new Broken(`a checkpoint saved earlier is not of this log: ${error.message}`);
    }
    addPast(roots, [past.size, past.root], size);
  }
  return roots;
}

function addPast(roots: Map<number, Bytes>, [past, root]: readonly [number, Bytes], size: number): void {
  if (past > size) {
    const cut = { index: size, id: "", tag: "", reason: "missing: a head signed earlier covers it" };
    throw new Broken(`the log was cut: it once had ${past} entries, now ${size}`, cut);
  }
  const known = roots.get(past) ?? root;
  roots.set(past, known);
  if (!equal(known, root)) throw new Broken(`two heads from earlier differ at ${past} entries: the log was forked`);
}

/** Below it, one by one is as quick. */
export const LONG = PART;

interface Held {
  readonly root: Bytes | undefined;
  readonly pasts: ReadonlyMap<number, Bytes>;
  readonly roles: Roles | undefined;
  readonly long: number;
  readonly tell: ((done: number) => void) | undefined;
}

/** Read every entry to its end; return those that say that a backup was put back. Rejects with Broken. */
async function readEntries(lines: Lines, header: ExportHeader, of: Held): Promise<PutBack[]> {
  if (header.hasTiles && of.root !== undefined && header.size >= of.long) {
    const start = lines.at, found = await sideBySide(lines, header, { ...of, root: of.root });
    if (found !== undefined) return found;
    // Something is wrong with it: what, and where first, is found one by one.
    lines.at = start;
  }
  const putBack: PutBack[] = [], past = new Pasts(of.pasts), ids = new Set<string>();
  const proofs = new Proofs(lines, header, of.root);
  for (let index = 0; index < header.size; index++) {
    if (index % PART === 0) of.tell?.(index);
    const [entry, line] = await proofs.nextEntry(index);
    try {
      if (of.roles !== undefined && entry instanceof ExportedEntry)
        putBack.push(...putBackBy(await requireWritten(entry, of.roles, ids), index));
    } catch (error) {
      if (!(error instanceof WrongLeaf)) throw error;
      const why = WHY[error.why];
      throw new Broken(`entry ${index} was written by nobody who may: ${why}`, badEntry(index, line, why));
    }
    past.grow(entry.leafHash);
  }
  if (proofs.withheld !== header.withheld)
    throw new Broken(
      `the first line speaks of ${header.withheld} withheld entries, and there are ${proofs.withheld}`,
    );
  return putBack;
}

/** Holds the first entries of a log to the roots that it must have had, by size. */
class Pasts {
  readonly #newest: number;
  #grown = new CompactRange();

  constructor(private readonly roots: ReadonlyMap<number, Bytes>) {
    this.#newest = Math.max(0, ...roots.keys());
  }

  /** Take the next leaf's hash. Throws Broken where the log was another. */
  grow(hashed: Bytes): void {
    if (this.#grown.size >= this.#newest) return;
    this.#grown = this.#grown.append(hashed);
    const size = this.#grown.size, root = this.roots.get(size);
    if (root !== undefined && hex(this.#grown.root()) !== hex(root))
      throw new Broken(`the log was rewritten: its first ${size} entries are not those signed earlier`);
  }
}

/** Do what `readEntries` does with many signatures at once; undefined where anything is wrong. */
async function sideBySide(
  lines: Lines,
  header: ExportHeader,
  of: Held & { readonly root: Bytes },
): Promise<PutBack[] | undefined> {
  const putBack: PutBack[] = [], past = new Pasts(of.pasts), ids = new Set<string>();
  let withheld = 0, known = 0, done = 0;
  for await (const part of checked(lines, header, of)) {
    if (part === undefined) return undefined;
    for (let at = 0; at < part.hashes.length; at += HASH_SIZE) past.grow(part.hashes.slice(at, at + HASH_SIZE));
    for (const id of part.ids) ids.add(id);
    known += part.ids.size;
    // An id that stands in two parts.
    if (ids.size !== known) return undefined;
    putBack.push(...part.putBack);
    withheld += part.withheld;
    of.tell?.((done += part.hashes.length / HASH_SIZE));
  }
  return withheld === header.withheld ? putBack : undefined;
}
