// SPDX-License-Identifier: Apache-2.0
/**
 * The entries of both logs as they are read: of the audit log, signed by the role that appended them, and of the key log.
 *
 * docs/formats/audit-log.md and key-log.md. Writes none: the server does. Decides neither which tags exist nor who may
 * write them.
 */
import { type Bytes, concat, EMPTY, equal, lengthOf, utf8 } from "../base/bytes.js";
import { decode, Fields, label, type Value } from "../base/encoding.js";
import { InvalidSignature, Malformed } from "../base/errors.js";
import { sha256 } from "../crypto/hashing.js";
import { KID_SIZE, type PublicKey, SIGNATURE_SIZE, verify } from "../crypto/public_keys.js";

/** First field of a leaf. 1 bears no signature: older than role keys. */
export const UNSIGNED = 1;
export const SIGNED = 2;
/** Characters, of a tag, an actor or a field's name. */
export const MAX_TAG = 80;
/** Characters: a kind with an id or a name; content has no place in a log. */
export const MAX_SUBJECT = 200;
const MAX_FIELDS = 32, MAX_TEXT = 512, MAX_OCTETS = 64;

export type BodyValue = string | number | Bytes;

/** What happened. time: Unix seconds, informative. */
export interface LogEntry {
  /** 16 bytes. */
  readonly entryId: Bytes;
  readonly tag: string;
  readonly actor: string;
  /** 16 bytes, or none when unknown. */
  readonly person: Bytes;
  readonly subject: string;
  readonly time: number;
  readonly body: ReadonlyMap<string, BodyValue>;
  /** Of the role key that vouches for it, 16 and 64 bytes; none in a leaf of version 1. */
  readonly kid: Bytes;
  readonly signature: Bytes;
}

/** Read a leaf of the audit log; throws Malformed for anything but its one form. It checks no signature. */
export function entryFromLeaf(leaf: Uint8Array): LogEntry {
  const value = decode(leaf);
  // A signature is no option: which version a leaf has says whether it bears one.
  const isSigned = value instanceof Map && value.get(1) === SIGNED;
  const fields = Fields.of(value, "log entry", [1, 2, 3, 4, 6, 7, 8, ...(isSigned ? [9, 10] : [])], [5]);
  fields.uint(1, { minimum: UNSIGNED, maximum: SIGNED });
  const rows = fields.array(8, { maximum: MAX_FIELDS }).map(readRow);
  // A second spelling of one entry would be a second leaf hash for it.
  if (!rows.every(([name], at) => at === 0 || isBefore((rows[at - 1] as [string, BodyValue])[0], name)))
    throw fields.refuse(8, "is not in ascending order of names without repeats");
  return {
    entryId: fields.octets(2, 16),
    tag: fields.text(3, { maximum: MAX_TAG }),
    actor: fields.text(4, { maximum: MAX_TAG }),
    person: fields.has(5) ? fields.octets(5, 16) : EMPTY,
    subject: fields.text(6, { maximum: MAX_SUBJECT }),
    time: fields.uint(7),
    body: new Map(rows),
    kid: isSigned ? fields.octets(9, KID_SIZE) : EMPTY,
    signature: isSigned ? fields.octets(10, SIGNATURE_SIZE) : EMPTY,
  };
}

/** Whether one name stands before another by its code points, which are ordered as their UTF-8 is. */
function isBefore(one: string, other: string): boolean {
  const [a, b] = [utf8(one), utf8(other)];
  for (let at = 0; at < Math.min(a.length, b.length); at++)
    if (a[at] !== b[at]) return (a[at] as number) < (b[at] as number);
  return a.length < b.length;
}

function readRow(value: Value): [string, BodyValue] {
  const row = Fields.ofRow(value, "log entry field", 2), inner = row.value(1);
  if (Array.isArray(inner) || inner instanceof Map)
    throw new Malformed("log entry field: neither text, number nor bytes");
  const isLong =
    (typeof inner === "string" && lengthOf(inner) > MAX_TEXT) ||
    (inner instanceof Uint8Array && inner.length > MAX_OCTETS);
  if (isLong) throw new Malformed("log entry field: too long");
  return [row.text(0, { maximum: MAX_TAG }), inner];
}

const SIGNATURE_HEAD = Uint8Array.of(10, 0x58, SIGNATURE_SIZE); // key and length of field 10, the last of a leaf

/**
 * Check that `key` vouches for a leaf of version 2 in the log of this origin. Rejects with InvalidSignature.
 *
 * entry: what `entryFromLeaf` read from these very bytes.
 */
export async function verifyLeaf(leaf: Uint8Array, entry: LogEntry, origin: string, key: PublicKey): Promise<void> {
  if (entry.kid.length === 0 || !equal(entry.kid, key.kid))
    throw new InvalidSignature("the entry is not signed by this key");
  // Cut from the bytes and not encoded anew: what is verified is what was received. One entry fewer in the map's head,
  // and no last one.
  const end = leaf.length - SIGNATURE_SIZE - SIGNATURE_HEAD.length;
  const signed = concat(Uint8Array.of((leaf[0] as number) - 1), leaf.subarray(1, end));
  // The origin: an entry of one tenant's log, or of another log, is none of this one.
  await verify(key, entry.signature, label("log-entry", origin, signed));
}

/** One leaf of the `keys` log. type: 1 chain, 2 escrow key, 3 policy, 4 officer, 5 offline key, 6 client build. */
export interface KeyLogEntry {
  readonly type: number;
  readonly subjectHash: Bytes;
  readonly seq: number;
  readonly statementHash: Bytes;
  readonly time: number;
}

/** Read a leaf of the key log; throws Malformed. */
export function keyEntryFromLeaf(leaf: Uint8Array): KeyLogEntry {
  const fields = Fields.of(decode(leaf), "key log leaf", [1, 2, 3, 4, 5]);
  return {
    // A leaf of an unknown type is refused: a client that skipped it could be shown anything under that number.
    type: fields.uint(1, { minimum: 1, maximum: 6 }),
    subjectHash: fields.octets(2, 32),
    seq: fields.uint(3),
    statementHash: fields.octets(4, 32),
    time: fields.uint(5),
  };
}

const KEY_LOG_SUBJECT = utf8("holdfast/v1/kt");

/** Return the 32 bytes that name a user's leaves, or the tenant's own. */
export function keyLogSubject(tenant: Uint8Array, user: Uint8Array = EMPTY): Bytes {
  // A hash and not the ids: tiles and leaves may be served widely, and who has an account is nobody else's business.
  // Plain joining is safe here, since tenant has 16 bytes and user has 16 or none.
  return sha256(concat(KEY_LOG_SUBJECT, tenant, user));
}

/** Return the name of a tenant's log. tenant: a UUID's text. */
export function logOrigin(tenant: string, log: "audit" | "keys"): string {
  return `holdfast/${tenant}/${log}`;
}
