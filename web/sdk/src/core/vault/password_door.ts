// SPDX-License-Identifier: Apache-2.0
/**
 * The password door: a blob that gives the vault key VK to whoever knows the password (docs/formats/doors.md).
 *
 * Argon2id (RFC 9106); commitment before decryption. Does not count attempts or choose passwords for people.
 */
import { type Bytes, lengthOf } from "../base/bytes.js";
import { label } from "../base/encoding.js";
import { Unusable } from "../base/errors.js";
import { SecretBytes } from "../base/secret.js";
import { hkdf } from "../crypto/hashing.js";
import { type Argon2Cost, canonical, DEFAULT_COST, readings, Stretching } from "../crypto/stretching.js";
import { randomBytes } from "../crypto/webcrypto.js";
import type { CommittedKey } from "../crypto/wrapping.js";
import { Door, DoorHead, doorKind, type DoorOwner } from "./door_blob.js";

/** Field 2 of the blob: one kind's door is never tried as another's. */
export const KIND = "password";
/** Characters, after normalisation. */
export const MIN_PASSWORD = 14;
const PROOF_SIZE = 32; // bytes: as long as M itself, from which it is derived

/** Return a password for which no length rule is needed: 24 lower-case letters and digits, 120 bits. */
export function generatePassword(): string {
  const alphabet = "abcdefghijkmnpqrstuvwxyz23456789"; // 32 signs, none that is read as another
  // 32 divides 256, so that the remainder is uniform.
  const signs = [...randomBytes(24)].map((octet) => alphabet[octet % 32]);
  return [0, 6, 12, 18].map((at) => signs.slice(at, at + 6).join("")).join("-");
}

async function keyOf(head: DoorHead, stretching: Stretching, reading: SecretBytes): Promise<CommittedKey> {
  return head.key(stretching.salt, await stretching.stretch(reading));
}

/**
 * Wrap the 32-byte vault key under a password of at least 14 characters in its canonical form.
 *
 * Rejects with Unusable for a shorter or unreadable password; a RangeError for a vault key of another length.
 */
export async function sealPasswordDoor(
  vaultKey: SecretBytes,
  password: string,
  owner: DoorOwner,
  cost: Argon2Cost = DEFAULT_COST,
): Promise<Bytes> {
  const chosen = canonical(password);
  if (lengthOf(new TextDecoder().decode(chosen.reveal())) < MIN_PASSWORD)
    throw new Unusable("a chosen password has at least 14 characters");
  const stretching = Stretching.fresh(cost);
  const head = new DoorHead(doorKind(owner, KIND), stretching.toMap(), owner);
  return head.seal(vaultKey, await keyOf(head, stretching, chosen));
}

/**
 * Return the 32-byte vault key, by whichever of the password's `readings` the door was made for.
 *
 * Rejects with Malformed for bytes outside the format and OutOfBounds for an Argon2 cost outside the bounds, both before
 * hashing; UnwrapFailed for a wrong password, tampering, or another tenant's, user's or epoch's door; Unusable for what
 * can be no password.
 */
export async function openPasswordDoor(blob: Uint8Array, password: string, owner: DoorOwner): Promise<SecretBytes> {
  const door = Door.parse(blob, doorKind(owner, KIND));
  // The bounds are checked in here, before anything is hashed: the server stores these numbers.
  const stretching = Stretching.fromMap(door.method, "password door, field 3");
  const head = door.head(owner), forms = readings(password);
  return door.openBy(owner, (async function* () {
    for (const reading of forms) yield await keyOf(head, stretching, reading);
  })());
}

/**
 * Return 32 bytes that show a server that the password is known, and do not open the vault.
 *
 * stretching: the password door's own, so that both come of one Argon2id output M:
 * HKDF-SHA256(salt, M, label("auth", tenant, user)), beside the door's label("door", …).
 */
export async function signInProof(
  password: string,
  of: { stretching: Stretching; tenant: Bytes; user: Bytes },
): Promise<SecretBytes> {
  // One stretching for both: two salts would let a thief of the server's proofs try passwords at the cheaper one.
  const ikm = await of.stretching.stretch(canonical(password));
  return hkdf({ salt: of.stretching.salt, ikm, info: label("auth", of.tenant, of.user), length: PROOF_SIZE });
}
