// SPDX-License-Identifier: Apache-2.0
/**
 * The entries of an exported log, read again from the file for people to look at: row by row, filtered, never all at once.
 *
 * Each is held to the signed head once more as it is read. Who signed it was checked when the file was verified, and is not
 * checked again.
 */
import { type Bytes, equal, hex } from "../sdk/src/core/base/bytes.js";
import { b64u } from "../sdk/src/core/base/encoding.js";
import { uuidText } from "../sdk/src/core/base/uuids.js";
import { type Roles, rolesFromPayload } from "../sdk/src/core/identity/roles.js";
import type { BodyValue } from "../sdk/src/core/log/log_entry.js";
import { ExportedEntry, headerFromLine, headerToLine, KEY_LEAF_TYPES, type WithheldEntry } from "../sdk/src/core/log/log_export.js";
import { Sign1 } from "../sdk/src/core/signed/cose.js";
import type { VerificationReport } from "../sdk/src/client/auditor/auditor.js";
import { Broken, Lines, type LogFile, Proofs } from "../sdk/src/client/auditor/entries.js";

/** One entry as a page shows it; "" for what it does not say. All texts are of whoever wrote the log. */
export interface Row {
  readonly index: number;
  /** Unix seconds; undefined of what is withheld or cannot be read. */
  readonly time: number | undefined;
  readonly tag: string;
  readonly actor: string;
  readonly person: string;
  readonly subject: string;
  readonly id: string;
  /** What else it says: names and values. */
  readonly body: readonly (readonly [name: string, value: string])[];
  /** Which part of the server signed it, and by which key. */
  readonly writer: string;
  /** RFC 6962's hash of the leaf, in hex. */
  readonly leafHash: string;
  readonly isWithheld: boolean;
}

/** What is looked for; "" and undefined look for everything. Texts are found anywhere, in capitals or not. */
export interface Filter {
  readonly tag: string;
  readonly actor: string;
  readonly person: string;
  readonly subject: string;
  /** Unix seconds: from this one on, and before that one. */
  readonly from: number | undefined;
  readonly until: number | undefined;
}

/** Tell whether an entry is looked for. What does not show itself is found by a filter that asks for nothing alone. */
export function matches(row: Row, filter: Filter): boolean {
  for (const name of ["tag", "actor", "person", "subject"] as const)
    if (!row[name].toLowerCase().includes(filter[name].toLowerCase())) return false;
  if (filter.from !== undefined && !(row.time !== undefined && row.time >= filter.from)) return false;
  return filter.until === undefined || (row.time !== undefined && row.time < filter.until);
}

/** What entries are held to as they are read: what was verified, where it held, and who is who among the keys. */
export interface Held {
  readonly first: Bytes | undefined;
  readonly root: Bytes | undefined;
  readonly roles: Roles | undefined;
}

/** Return what the entries of a file are held to: nothing of it is read again, since it may be another by now. */
export function heldTo({ held }: VerificationReport): Held {
  if (held === undefined) return { first: undefined, root: undefined, roles: undefined };
  const { header, root } = held;
  const roles = header.roles.length > 0 ? rolesFromPayload(Sign1.parse(header.roles).payload) : undefined;
  return { first: headerToLine(header), root, roles };
}

/** Give every entry from the first on. Rejects with Broken where the file is not what was signed, or not the one verified. */
export async function* rowsOf(file: LogFile, held: Held): AsyncGenerator<Row> {
  const lines = new Lines(file), first = await lines.next();
  if (held.first !== undefined && !equal(first, held.first))
    throw new Broken("the file has changed since it was verified: choose it again");
  const header = headerFromLine(first);
  const proofs = new Proofs(lines, header, held.root);
  for (let index = 0; index < header.size; index++) yield rowOf((await proofs.nextEntry(index))[0], held.roles);
}

const NOTHING = { time: undefined, tag: "", actor: "", person: "", subject: "", id: "", body: [], writer: "" };

function rowOf(entry: ExportedEntry | WithheldEntry, roles: Roles | undefined): Row {
  const { index } = entry, leafHash = hex(entry.leafHash);
  if (!(entry instanceof ExportedEntry)) return { ...NOTHING, index, leafHash, isWithheld: true };
  const { said } = entry, row = { ...NOTHING, index, leafHash, isWithheld: false };
  if (said === undefined) return row;
  if ("tag" in said)
    return {
      ...row,
      time: said.time,
      tag: said.tag,
      actor: said.actor,
      person: said.person.length > 0 ? uuidText(said.person) : "",
      subject: said.subject,
      id: uuidText(said.entryId),
      body: [...said.body].map(([name, value]) => [name, shown(value)] as const),
      writer: said.kid.length > 0 ? writerOf(said.kid, roles) : "",
    };
  return {
    ...row,
    time: said.time,
    tag: KEY_LEAF_TYPES[said.type] as string,
    body: [["of", b64u(said.subjectHash)], ["seq", String(said.seq)], ["statement", b64u(said.statementHash)]],
  };
}

function shown(value: BodyValue): string {
  return value instanceof Uint8Array ? b64u(value) : String(value);
}

function writerOf(kid: Uint8Array, roles: Roles | undefined): string {
  const role = roles?.named(kid)?.role;
  return `${role === undefined ? "" : `${role}, `}key ${hex(kid)}`;
}

/** The names of the cells of `cellsOf`, for the first line of a CSV file. */
export const CELLS = [
  "index", "time (UTC)", "tag", "actor", "person", "subject", "id", "other fields", "written by", "leaf hash", "withheld",
];

/** Return a row as the cells of a CSV file. */
export function cellsOf(row: Row): string[] {
  const body = row.body.length > 0 ? JSON.stringify(row.body) : "", isWithheld = row.isWithheld ? "withheld" : "";
  const time = row.time === undefined ? "" : utc(row.time);
  const { tag, actor, person, subject, id, writer, leafHash } = row;
  return [String(row.index), time, tag, actor, person, subject, id, body, writer, leafHash, isWithheld];
}

/** Return a moment as RFC 3339 has it, in UTC; one that it cannot name as its number. */
export function utc(seconds: number): string {
  return seconds > 253402300799 ? String(seconds) : `${new Date(seconds * 1000).toISOString().slice(0, 19)}Z`;
}
