// SPDX-License-Identifier: Apache-2.0
/**
 * The contacts door: a blob that gives the vault key VK to whoever has k of the n shares of its secret S.
 *
 * docs/formats/contacts.md (the blob; its shares and their manifest are in `contact_shares`). Does not share or combine S:
 * here it is 32 bytes that open one door.
 */
import { type Bytes, equal } from "../base/bytes.js";
import { Fields, mapOf } from "../base/encoding.js";
import type { SecretBytes } from "../base/secret.js";
import { Door, DoorHead, type DoorOwner } from "./door_blob.js";

/** Field 2 of the blob: one kind's door is never tried as another's. */
export const KIND = "contacts";
/** Bytes: 256 bits, the longer of SLIP-0039's two usual lengths, as 33 words. */
export const SECRET_SIZE = 32;
/** Bytes: random, so that no two sets of one owner have a name in common. */
export const SET_SIZE = 16;

/**
 * Wrap the 32-byte vault key under S, 32 fresh random bytes that make one door and no other.
 *
 * setId: 16 random bytes that name the set of shares of S, and salt its key. Rejects with a RangeError on other sizes, and
 * for the officers' section, which no contacts open (the caller's mistakes).
 */
export async function sealContactsDoor(
  vaultKey: SecretBytes,
  { secret, setId }: { secret: SecretBytes; setId: Bytes },
  owner: DoorOwner,
): Promise<Bytes> {
  if (owner.section !== "vault") throw new RangeError("contacts never open the officers' section");
  if (secret.length !== SECRET_SIZE || setId.length !== SET_SIZE)
    throw new RangeError("a contacts door is made of a secret of 32 bytes and a set id of 16");
  const head = new DoorHead(KIND, mapOf({ 1: setId }), owner);
  return head.seal(vaultKey, head.key(setId, secret));
}

/**
 * Return the 32-byte vault key.
 *
 * Rejects with Malformed for bytes outside the format and for a door of another set; UnwrapFailed for another S,
 * tampering, or another tenant's, user's or epoch's door.
 */
export async function openContactsDoor(
  blob: Uint8Array,
  { secret, setId }: { secret: SecretBytes; setId: Bytes },
  owner: DoorOwner,
): Promise<SecretBytes> {
  const door = Door.parse(blob, KIND), method = Fields.of(door.method, "contacts door, field 3", [1]);
  // Told apart from a wrong secret: with shares of another set no secret is right, and another door should be asked for.
  if (!equal(method.octets(1, SET_SIZE), setId)) throw method.refuse(1, "names another set of shares");
  return door.open(owner, door.head(owner).key(setId, secret));
}
