// SPDX-License-Identifier: Apache-2.0
/**
 * The tenant root's word on whose keys write and sign its logs, and the check of one entry against it.
 *
 * docs/formats/statements.md (`roles`), docs/spec/escrow.md "What it believes of the log". It keeps nothing: the caller
 * remembers versions.
 */
import { type Bytes, EMPTY, equal, hex } from "../base/bytes.js";
import { Fields, MAX_UINT, type Value } from "../base/encoding.js";
import { Forked, InvalidSignature, Malformed, Untrusted } from "../base/errors.js";
import { type PublicKey, SIGNING_KINDS } from "../crypto/public_keys.js";
import { type Checkpoint, NoteVerifier } from "../log/checkpoint.js";
import { uuidText } from "../base/uuids.js";
import { entryFromLeaf, logOrigin, type LogEntry, verifyLeaf } from "../log/log_entry.js";
import { isRole, Role, writers } from "../log/writers.js";
import type { Sign1 } from "../signed/cose.js";
import {
  closePayload, HASH_SIZE, type Header, MAX_U32, openPayload, readBack, readKey, requireTenantOnly,
} from "../signed/payloads.js";

/** Six roles, each with a new key a year for twenty years: a statement of 16 KiB has room for twice as many. */
export const MAX_KEYS = 128;

/** What is wrong with an entry that nobody entitled wrote. "again" is of whoever sees all of them. */
export type Fault = "form" | "unsigned" | "key" | "role" | "key-ended" | "signature" | "again";

/** An entry of the log that nobody entitled wrote; `why` is a fixed word of ours. */
export class WrongLeaf extends Untrusted {
  override get name(): string {
    return "WrongLeaf";
  }

  constructor(readonly why: Fault) {
    super(`an entry of the log is not what it has to be: ${why}`);
  }
}

/** One key of one role. until: the size of the audit log at which it ends, 0 while it holds. */
export interface RoleKey {
  readonly role: Role;
  readonly key: PublicKey;
  readonly until: number;
}

/** What a `roles` statement says, before it is a `Roles`. */
export interface RolesFields {
  readonly header: Header;
  readonly version: number;
  readonly keys: readonly RoleKey[];
  /** Hash of the version before; none of the first. */
  readonly predecessor: Bytes;
  /** Size and root below which leaves bear no signature, of a log that is older than this statement. */
  readonly unsigned: readonly [size: number, root: Bytes] | undefined;
}

/** Every key that ever wrote or signed this tenant's logs. */
export class Roles implements RolesFields {
  readonly header: Header;
  readonly version: number;
  readonly keys: readonly RoleKey[];
  readonly predecessor: Bytes;
  readonly unsigned: readonly [size: number, root: Bytes] | undefined;
  readonly #byKid: ReadonlyMap<string, RoleKey>;

  constructor(of: RolesFields) {
    this.header = of.header;
    this.version = of.version;
    this.keys = of.keys;
    this.predecessor = of.predecessor;
    this.unsigned = of.unsigned;
    this.#byKid = new Map(of.keys.map((row) => [hex(row.key.kid), row]));
  }

  /** Return the keys of a role that hold, oldest first. */
  of(role: Role): PublicKey[] {
    return this.keys.filter((row) => row.role === role && row.until === 0).map((row) => row.key);
  }

  /** Return the keys that a role has or ever had, oldest first. */
  allOf(role: Role): PublicKey[] {
    return this.keys.filter((row) => row.role === role).map((row) => row.key);
  }

  /** Return the key of this name (16 bytes), if the tenant root ever named it. */
  named(kid: Uint8Array): RoleKey | undefined {
    return this.#byKid.get(hex(kid));
  }

  /** The name of the audit log that these keys write. */
  get origin(): string {
    return this.originOf("audit");
  }

  /** Return the name of one of this tenant's two logs. */
  originOf(log: "audit" | "keys"): string {
    return logOrigin(uuidText(this.header.tenant), log);
  }

  /**
   * Tell whether a head of this size may be signed by this key, under this name.
   *
   * An end is counted in entries of the audit log: of the other log, a key that ended signs no head any more.
   */
  maySign(verifier: NoteVerifier, size: number): boolean {
    const row = this.named(verifier.key.kid);
    if (row === undefined || row.role !== Role.LOG) return false;
    if (verifier.name === this.origin) return row.until === 0 || size <= row.until;
    return verifier.name === this.originOf("keys") && row.until === 0;
  }

  /**
   * Return the head in a note that a log key of this tenant signed while it held.
   *
   * log: the two logs share their keys. Rejects with Malformed, and InvalidSignature for any other note.
   */
  async openHead(note: string, log: "audit" | "keys" = "audit"): Promise<Checkpoint> {
    let refusal = new InvalidSignature("the head is not signed by a key that the tenant root names");
    for (const row of this.keys) {
      if (row.role !== Role.LOG) continue;
      const verifier = new NoteVerifier(this.originOf(log), row.key);
      let head: Checkpoint;
      try {
        head = await verifier.openCheckpoint(note);
      } catch (error) {
        if (!(error instanceof InvalidSignature)) throw error;
        refusal = error;
        continue;
      }
      if (!this.maySign(verifier, head.size))
        throw new InvalidSignature("the head is signed by a key that had ended");
      return head;
    }
    throw refusal;
  }
}

/** Return the payload bytes of a `roles` statement. Throws a RangeError for what no reader takes. */
export function rolesToPayload(of: RolesFields): Bytes {
  const payload = closePayload(of.header, {
    7: of.version,
    8: of.keys.map((row) => [row.role, row.key.encoded, row.until]),
    9: of.predecessor.length === 0 ? undefined : of.predecessor,
    10: of.unsigned && [...of.unsigned],
  });
  return readBack(payload, rolesFromPayload);
}

/** Read the payload; throws Malformed, also for one key twice: a key then has one role. */
export function rolesFromPayload(payload: Uint8Array): Roles {
  const [header, fields] = openPayload(payload, "roles", [7, 8], { optional: [9, 10] });
  requireTenantOnly(header, "roles");
  const version = fields.uint(7, { minimum: 1, maximum: MAX_U32 });
  const keys = fields.array(8, { minimum: 1, maximum: MAX_KEYS }).map(readRoleKey);
  if (new Set(keys.map((row) => hex(row.key.kid))).size !== keys.length) throw fields.refuse(8, "names one key twice");
  if (fields.has(9) === (version === 1)) throw fields.refuse(9, "belongs to every version but the first");
  let unsigned: [number, Bytes] | undefined;
  if (fields.has(10)) {
    const row = Fields.ofRow(fields.value(10), "roles: unsigned leaves", 2);
    unsigned = [row.uint(0, { minimum: 1, maximum: MAX_UINT }), row.octets(1, HASH_SIZE)];
  }
  const predecessor = version > 1 ? fields.octets(9, HASH_SIZE) : EMPTY;
  return new Roles({ header, version, keys, predecessor, unsigned });
}

function readRoleKey(value: Value): RoleKey {
  const row = Fields.ofRow(value, "role key", 3), role = row.text(0, { maximum: 16 });
  if (!isRole(role)) throw new Malformed("role key: no such role");
  return { role, key: readKey(row, 1, SIGNING_KINDS), until: row.uint(2, { maximum: MAX_UINT }) };
}

/** Roles whose signature has been checked, and the hash that others name them by. Made by `verifyRoles` only. */
export interface SignedRoles {
  readonly roles: Roles;
  readonly hash: Bytes;
}

/**
 * Check the newest `roles` statement of a tenant: signed by its root, and no older than one seen before.
 *
 * Rejects with Malformed, InvalidSignature; Untrusted for another tenant's, an older version, or one in which a key seen
 * before is gone, has another role, or ends elsewhere; Forked for another statement of the version seen.
 */
export async function verifyRoles(
  statement: Sign1,
  of: { tenant: Bytes; rootKey: PublicKey; seen?: SignedRoles | undefined },
): Promise<SignedRoles> {
  const roles = rolesFromPayload(await statement.verify(of.rootKey, "roles"));
  if (!equal(roles.header.tenant, of.tenant)) throw new Untrusted("roles of another tenant");
  const signed: SignedRoles = { roles, hash: statement.payloadHash };
  if (of.seen !== undefined) requireFollows(signed, of.seen);
  return signed;
}

function requireFollows(signed: SignedRoles, seen: SignedRoles): void {
  const now = signed.roles, before = seen.roles;
  if (now.version < before.version) throw new Untrusted("roles are older than those seen before");
  if (now.version === before.version && !equal(signed.hash, seen.hash))
    throw new Forked("two roles statements claim one version");
  // Stops a rewriting of the past: what a key has vouched for stays vouched for, and nothing is taken in below.
  const isMoved =
    now.unsigned?.[0] !== before.unsigned?.[0] || !equal(now.unsigned?.[1] ?? EMPTY, before.unsigned?.[1] ?? EMPTY);
  if (isMoved) throw new Untrusted("roles move the size below which entries are unsigned");
  for (const row of before.keys) {
    const found = now.named(row.key.kid);
    if (found === undefined || found.role !== row.role || (row.until !== 0 && found.until !== row.until))
      throw new Untrusted("roles change a key that was named before");
  }
}

/**
 * Return a tenant's root in the form in which people carry keys: `holdfast/<tenant uuid>/root+…`.
 *
 * tenant: 16 bytes. The root signs no note; the form is the log keys' own, so that a slip in copying shows.
 */
export function rootVerifier(tenant: Bytes, rootKey: PublicKey): NoteVerifier {
  return new NoteVerifier(`holdfast/${uuidText(tenant)}/root`, rootKey);
}

/**
 * Check that whoever may write an audit entry wrote this one, at this index, and return what it says.
 *
 * Rejects with WrongLeaf: form, tag, role or signature is at fault, and whoever put it into the log. That an id comes
 * once, the caller sees, who has all of them.
 */
export async function checkLeaf(leaf: Uint8Array, of: { index: number; roles: Roles }): Promise<LogEntry> {
  // To believe an entry we must know, in this order:
  //
  // (1) that it is in the one form that entries have;
  // (2) that it bears a signature, unless the root itself pinned that it is older than signatures;
  // (3) that its tag is one that the signer's role may write;
  // (4) that the key held at this place of the log, and signed these very bytes for this very log.
  let entry: LogEntry;
  try {
    entry = entryFromLeaf(leaf); // (1)
  } catch (error) {
    if (error instanceof Malformed) throw new WrongLeaf("form");
    throw error;
  }
  await checkEntry(entry, leaf, of);
  return entry;
}

/** Check as `checkLeaf` does, (2) to (4), an entry that was read from a leaf already. Rejects with WrongLeaf. */
export async function checkEntry(
  entry: LogEntry,
  leaf: Uint8Array,
  { index, roles }: { index: number; roles: Roles },
): Promise<void> {
  if (roles.unsigned !== undefined && index < roles.unsigned[0]) return; // (2)
  if (entry.kid.length === 0) throw new WrongLeaf("unsigned");
  const row = roles.named(entry.kid);
  if (row === undefined) throw new WrongLeaf("key");
  if (!writers().get(entry.tag)?.includes(row.role)) throw new WrongLeaf("role"); // (3)
  if (row.until !== 0 && index >= row.until) throw new WrongLeaf("key-ended"); // (4)
  try {
    await verifyLeaf(leaf, entry, roles.origin, row.key);
  } catch (error) {
    if (error instanceof InvalidSignature) throw new WrongLeaf("signature");
    throw error;
  }
}
