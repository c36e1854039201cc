// SPDX-License-Identifier: Apache-2.0
/**
 * The entries of an account chain: eight types, to bytes and back (docs/formats/statements.md).
 *
 * Does not know whether an entry is valid where it stands; `chain` does.
 */
import type { Bytes } from "../base/bytes.js";
import { decode, type Encodable, encode, Fields, mapOf, MAX_STATEMENT, type Value } from "../base/encoding.js";
import { Malformed } from "../base/errors.js";
import { type PublicKey, SIGNING_KINDS } from "../crypto/public_keys.js";
import { manyFromValue, sign, Sign1, type Signer } from "../signed/cose.js";
import {
  closePayload, HASH_SIZE, type Header, ID_SIZE, MAX_U32, openPayload, readKey, requireUser,
} from "../signed/payloads.js";
import { MAX_OFFICERS } from "./policy.js";

/** A rotation has two signers; nothing in a chain has more. */
export const MAX_ENTRY_SIGNERS = 2;

/** Why a device is revoked or a key rotated. */
export const Reason = {
  SCHEDULE: 1,
  USER_REQUEST: 2,
  SECURITY_EVENT: 3,
  DEVICE_LOST: 4,
  DEVICE_COMPROMISED: 5,
  DEVICE_RETIRED: 6,
  RECOVERY: 7,
} as const;
export type Reason = (typeof Reason)[keyof typeof Reason];

/** Tell whether a device that is revoked for this reason may be in somebody else's hands. */
export function isLoss(reason: number): boolean {
  // A device that goes for one of these goes in its owner's hands. After any other, somebody else may have it.
  return reason !== Reason.SCHEDULE && reason !== Reason.USER_REQUEST && reason !== Reason.DEVICE_RETIRED;
}

function readReason(fields: Fields, key: number): Reason {
  return fields.uint(key, { minimum: Reason.SCHEDULE, maximum: Reason.RECOVERY }) as Reason;
}

/** The first entry: the identity that everything else in the chain rests on. */
export interface Genesis {
  readonly type: 1;
  readonly aik: PublicKey;
  readonly recoveryKey: PublicKey | undefined;
}

/** A device of the user, by its id and the hash of its device statement. */
export interface AddDevice {
  readonly type: 2;
  readonly device: Bytes;
  readonly statementHash: Bytes;
}

/** A device that is the user's no longer. since: UTC seconds from which the user doubts it. */
export interface RevokeDevice {
  readonly type: 3;
  readonly device: Bytes;
  readonly reason: Reason;
  readonly since: number;
}

/** A new AIK, signed by the old one (or the recovery key) and by itself. */
export interface RotateKey {
  readonly type: 4;
  readonly aik: PublicKey;
  readonly reason: Reason;
}

/** The public half of the key that the recovery phrase holds. */
export interface SetRecoveryKey {
  readonly type: 5;
  readonly recoveryKey: PublicKey;
}

/** A generation of the archive key: from when it is used, and the commitment that a release must match. */
export interface ArchiveGeneration {
  readonly type: 6;
  readonly generation: number;
  readonly notBefore: number;
  readonly commitment: Bytes;
}

/** The hash of the manifest of shares that the user's trusted contacts hold. */
export interface ShareManifest {
  readonly type: 7;
  readonly manifestHash: Bytes;
}

/** A new identity for a user who lost every door, on the word of at least m officers. */
export interface ReGenesis {
  readonly type: 8;
  readonly aik: PublicKey;
  readonly attestations: readonly Sign1[];
  readonly policyHash: Bytes;
}

export type Body =
  | Genesis
  | AddDevice
  | RevokeDevice
  | RotateKey
  | SetRecoveryKey
  | ArchiveGeneration
  | ShareManifest
  | ReGenesis;

function bodyToMap(body: Body): Map<number, Encodable> {
  switch (body.type) {
    case 1: return mapOf({ 1: body.aik.encoded, 2: body.recoveryKey?.encoded });
    case 2: return mapOf({ 1: body.statementHash, 2: body.device });
    case 3: return mapOf({ 1: body.device, 2: body.reason, 3: body.since });
    case 4: return mapOf({ 1: body.aik.encoded, 2: body.reason });
    case 5: return mapOf({ 1: body.recoveryKey.encoded });
    case 6: return mapOf({ 1: body.generation, 2: body.notBefore, 3: body.commitment });
    case 7: return mapOf({ 1: body.manifestHash });
    case 8: return mapOf({ 1: body.aik.encoded, 2: body.attestations.map((one) => one.encode()), 3: body.policyHash });
  }
}

// By the number on the wire. An unknown type is refused: whoever skips an entry cannot know what it took away.
const READERS: ReadonlyMap<number, (value: Value) => Body> = new Map<number, (value: Value) => Body>([
  [1, (value) => {
    const fields = Fields.of(value, "genesis", [1], [2]);
    const recoveryKey = fields.has(2) ? readKey(fields, 2, SIGNING_KINDS) : undefined;
    return { type: 1, aik: readKey(fields, 1, SIGNING_KINDS), recoveryKey };
  }],
  [2, (value) => {
    const fields = Fields.of(value, "add device", [1, 2]);
    return { type: 2, device: fields.octets(2, ID_SIZE), statementHash: fields.octets(1, HASH_SIZE) };
  }],
  [3, (value) => {
    const fields = Fields.of(value, "revoke device", [1, 2, 3]);
    return { type: 3, device: fields.octets(1, ID_SIZE), reason: readReason(fields, 2), since: fields.uint(3) };
  }],
  [4, (value) => {
    const fields = Fields.of(value, "rotate key", [1, 2]);
    return { type: 4, aik: readKey(fields, 1, SIGNING_KINDS), reason: readReason(fields, 2) };
  }],
  [5, (value) => {
    const fields = Fields.of(value, "set recovery key", [1]);
    return { type: 5, recoveryKey: readKey(fields, 1, SIGNING_KINDS) };
  }],
  [6, (value) => {
    const fields = Fields.of(value, "archive generation", [1, 2, 3]);
    const generation = fields.uint(1, { maximum: MAX_U32 });
    return { type: 6, generation, notBefore: fields.uint(2), commitment: fields.octets(3, HASH_SIZE) };
  }],
  [7, (value) => ({ type: 7, manifestHash: Fields.of(value, "share manifest", [1]).octets(1, HASH_SIZE) })],
  [8, (value) => {
    const fields = Fields.of(value, "re-genesis", [1, 2, 3]);
    // Two is the smallest quorum there is, the roster's size the largest. How many it takes is the policy's to say.
    const count = fields.array(2, { minimum: 2, maximum: MAX_OFFICERS }).length, rows = fields.row(2);
    return {
      type: 8,
      aik: readKey(fields, 1, SIGNING_KINDS),
      attestations: Array.from({ length: count }, (_, at) => Sign1.parse(rows.octets(at))),
      policyHash: fields.octets(3, HASH_SIZE),
    };
  }],
]);

/** One entry as received or as made here: its signatures over one payload, and what the payload says. */
export class Entry {
  private constructor(
    readonly signatures: readonly Sign1[],
    readonly header: Header,
    readonly seq: number,
    readonly prev: Bytes,
    readonly body: Body,
  ) {}

  /** Read one entry of at most 16 KiB: a Sign1, or an array of two of them. Throws Malformed. */
  static parse(data: Uint8Array): Entry {
    const value = decode(data);
    // A Sign1 is an array that begins with bytes, an array of them begins with an array: no mark is needed to tell.
    if (!Array.isArray(value) || !Array.isArray(value[0])) return Entry.#of([Sign1.fromValue(value)]);
    const signatures = manyFromValue(value);
    // An array of one would be a second encoding of the single form.
    if (signatures.length !== MAX_ENTRY_SIGNERS)
      throw new Malformed("chain entry: an array of signers is of exactly two");
    return Entry.#of(signatures);
  }

  static #of(signatures: readonly Sign1[]): Entry {
    // The payload of the first; that all payloads are the same bytes, `manyFromValue` has seen to.
    const [header, fields] = openPayload((signatures[0] as Sign1).payload, "chain entry", [7, 8, 9, 10]);
    requireUser(header, "chain entry");
    const seq = fields.uint(7, { maximum: MAX_U32 });
    const read = READERS.get(fields.uint(9));
    if (read === undefined) throw fields.refuse(9, "is not a known type");
    // Nothing precedes the first entry, and every other names exactly one.
    const prev = fields.octets(8, seq > 0 ? HASH_SIZE : 0);
    return new Entry(signatures, header, seq, prev, read(fields.value(10)));
  }

  /**
   * Sign an entry with each of one or two keys, in the order in which they must stand.
   *
   * Rejects with Malformed for an entry that no verifier would read, above all one of over 16 KiB.
   */
  static async make(header: Header, seq: number, prev: Bytes, body: Body, signers: readonly Signer[]): Promise<Entry> {
    const payload = closePayload(header, { 7: seq, 8: prev, 9: body.type, 10: bodyToMap(body) });
    const signatures = await Promise.all(signers.map((key) => sign(payload, "chain", key)));
    // Read back as a verifier will: what cannot be read must not be kept, since a chain never forgets an entry.
    const entry = Entry.#of(signatures);
    if (entry.encode().length > MAX_STATEMENT) throw new Malformed("chain entry: above 16 KiB");
    return entry;
  }

  /**
   * SHA-256(dCBOR([protected, payload])) of the first signature: what the next entry names.
   *
   * Of what was signed, and never of the signature: an ECDSA signature has a twin, and one entry would have two names.
   */
  get hash(): Bytes {
    return (this.signatures[0] as Sign1).entryHash;
  }

  /** Return the bytes of the entry: the received ones, since only one encoding parses. */
  encode(): Bytes {
    const [first, ...others] = this.signatures as [Sign1, ...Sign1[]];
    return others.length === 0 ? first.encode() : encode(this.signatures.map((one) => one.value()));
  }
}
