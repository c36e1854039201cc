// SPDX-License-Identifier: Apache-2.0
/**
 * A person's word that they have just opened a door of their vault: what they could open then, they can open again.
 *
 * The statement `door-proof` (docs/formats/statements.md; ESCROW "Policy and officers"). Does not open doors: a client
 * does, and signs this only after it has.
 */
import { type Bytes, equal } from "../base/bytes.js";
import { Expired, Untrusted } from "../base/errors.js";
import type { PublicKey } from "../crypto/public_keys.js";
import type { Sign1 } from "../signed/cose.js";
import { checkTime, closePayload, HASH_SIZE, type Header, openPayload, readBack, requireUser } from "../signed/payloads.js";

/** Characters: field 2 of a door, of which "officers-password" is the longest today. */
export const MAX_KIND = 32;
/** When it is taken: it speaks of now, and an hour forgives clocks and slow lines. */
export const MAX_AGE_SECONDS = 3600;

/** One door was opened. */
export interface DoorProof {
  readonly header: Header;
  /** Field 2 of its blob. */
  readonly kind: string;
  /** SHA-256 of the blob, 32 bytes. */
  readonly blobHash: Bytes;
}

/** Return the payload bytes of a `door-proof`. Throws a RangeError for what no reader takes. */
export function doorProofToPayload(of: DoorProof): Bytes {
  return readBack(closePayload(of.header, { 7: of.kind, 8: of.blobHash }), doorProofFromPayload);
}

/** Read the payload; throws Malformed. */
export function doorProofFromPayload(payload: Uint8Array): DoorProof {
  const [header, fields] = openPayload(payload, "door proof", [7, 8]);
  requireUser(header, "door proof");
  return { header, kind: fields.text(7, { maximum: MAX_KIND }), blobHash: fields.octets(8, HASH_SIZE) };
}

/**
 * Check that a person proves, at `at` (UTC seconds), the door of this kind and SHA-256 of its blob.
 *
 * Rejects with Malformed, InvalidSignature; Untrusted for another's proof or another door's; Expired for one that is older
 * than an hour, or dated ahead.
 */
export async function verifyDoorProof(
  statement: Sign1,
  of: { aik: PublicKey; tenant: Bytes; user: Bytes; kind: string; blobHash: Bytes; at: number },
): Promise<DoorProof> {
  const proof = doorProofFromPayload(await statement.verify(of.aik, "door-proof")), { header } = proof;
  const isWhose = equal(header.tenant, of.tenant) && equal(header.user, of.user);
  if (!isWhose || proof.kind !== of.kind || !equal(proof.blobHash, of.blobHash))
    throw new Untrusted("the proof is about another door");
  checkTime(header, of.at);
  if (header.issuedAt < of.at - MAX_AGE_SECONDS)
    throw new Expired("the door was opened too long ago: open it again");
  return proof;
}
