// SPDX-License-Identifier: Apache-2.0
/**
 * The passkey door: a blob that gives a section's key to whoever holds the passkey, by its PRF output.
 *
 * docs/formats/doors.md; https://www.w3.org/TR/webauthn-3/#prf-extension. Does not speak WebAuthn: whoever does brings the
 * 32 bytes that the authenticator gave for the salt in the door.
 */
import type { Bytes } from "../base/bytes.js";
import { Fields, mapOf } from "../base/encoding.js";
import type { SecretBytes } from "../base/secret.js";
import { randomBytes } from "../crypto/webcrypto.js";
import type { Section } from "./blob.js";
import { Door, DoorHead, doorKind, type DoorOwner } from "./door_blob.js";

/** Field 2 of the blob: one kind's door is never tried as another's. */
export const KIND = "passkey";
/** Bytes: what the authenticator is asked with. */
export const SALT_SIZE = 32;
/** Bytes of its answer. */
export const PRF_SIZE = 32;
/** Bytes: WebAuthn allows 1,023; authenticators use 16 to 255, and a door has 1 KiB. */
export const MAX_CREDENTIAL = 512;

/** What a passkey door says of itself, unauthenticated: which credential to ask, and with what salt (32 bytes). */
export interface PasskeyDoor {
  readonly credentialId: Bytes;
  readonly salt: Bytes;
}

/** Return 32 random bytes to ask an authenticator with, for one door and no other. */
export function newSalt(): Bytes {
  return randomBytes(SALT_SIZE);
}

/**
 * Wrap a section's 32-byte key under the 32 bytes that the passkey gave for `salt` (32 bytes).
 *
 * Rejects with a RangeError on other sizes, and for a credential id that is empty or above 512 bytes (the caller's
 * mistakes).
 */
export async function sealPasskeyDoor(
  key: SecretBytes,
  { credentialId, salt, prfOutput }: PasskeyDoor & { prfOutput: SecretBytes },
  owner: DoorOwner,
): Promise<Bytes> {
  const isSound = credentialId.length > 0 && credentialId.length <= MAX_CREDENTIAL;
  if (prfOutput.length !== PRF_SIZE || salt.length !== SALT_SIZE || !isSound)
    throw new RangeError("a passkey door is made of a credential id, a salt and an answer of 32 bytes each");
  const head = new DoorHead(doorKind(owner, KIND), mapOf({ 1: KIND, 2: credentialId, 3: salt }), owner);
  return head.seal(key, head.key(salt, prfOutput));
}

/**
 * Return the 32-byte key.
 *
 * Rejects with Malformed for bytes outside the format; UnwrapFailed for another answer, tampering, or another tenant's,
 * user's, epoch's or section's door.
 */
export async function openPasskeyDoor(
  blob: Uint8Array,
  prfOutput: SecretBytes,
  owner: DoorOwner,
): Promise<SecretBytes> {
  const door = Door.parse(blob, doorKind(owner, KIND));
  return door.open(owner, door.head(owner).key(methodOf(door).salt, prfOutput));
}

/** Return which credential the door asks, and with what salt. Throws Malformed. */
export function readPasskeyDoor(blob: Uint8Array, section: Section = "vault"): PasskeyDoor {
  return methodOf(Door.parse(blob, doorKind({ section }, KIND)));
}

function methodOf(door: Door): PasskeyDoor {
  const read = Fields.of(door.method, "passkey door, field 3", [1, 2, 3]);
  if (read.text(1) !== KIND) throw read.refuse(1, "is no passkey");
  const credentialId = read.octets(2, undefined, { maximum: MAX_CREDENTIAL });
  if (credentialId.length === 0) throw read.refuse(2, "is empty");
  return { credentialId, salt: read.octets(3, SALT_SIZE) };
}
