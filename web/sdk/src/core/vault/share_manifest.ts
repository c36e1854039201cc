// SPDX-License-Identifier: Apache-2.0
/**
 * Who holds the shares of a contacts door, and a new device's request to have them back (docs/formats/contacts.md).
 *
 * Does not hold a share, and does not check who signed: the AIK signs a manifest, and nobody signs a request.
 */
import { type Bytes, concat, equal, hex } from "../base/bytes.js";
import { type Encodable, Fields } from "../base/encoding.js";
import { Malformed, Untrusted } from "../base/errors.js";
import type { SecretBytes } from "../base/secret.js";
import { sha256 } from "../crypto/hashing.js";
import { KeyKind, type PublicKey } from "../crypto/public_keys.js";
import { sixGroups } from "../crypto/safety.js";
import { SealingKey } from "../crypto/sealing.js";
import { MAX_SHARES, MIN_QUORUM } from "../crypto/shares.js";
import {
  closePayload, HASH_SIZE, type Header, ID_SIZE, openPayload, readBack, readKey, requireDevice, requireUser,
} from "../signed/payloads.js";
import { SET_SIZE } from "./contacts_door.js";

/** Long enough to reach contacts over a weekend; a stolen request key is worth no more than that. */
export const MAX_REQUEST_SECONDS = 72 * 3600;

/** Return SHA-256(blind || share): 32 and 42 bytes, so that where one ends is never in doubt. */
export function shareCommitment(blind: Bytes, share: SecretBytes): Bytes {
  // Blinded: the manifest is kept by every contact, and nobody should be able to tell whether a found share is in it.
  return sha256(concat(blind, share.reveal()));
}

/** The set of shares behind one contacts door. */
export interface Manifest {
  readonly header: Header;
  readonly setId: Bytes;
  /** How many open it. */
  readonly k: number;
  readonly createdAt: number;
  /** Contact and commitment, by share index. */
  readonly rows: readonly (readonly [Bytes, Bytes])[];
  /** SHA-256 of the door's blob, which fixes owner and epoch. */
  readonly doorHash: Bytes;
}

/** SHA-256 of the payload: what the account chain, sealed shares and requests name. */
export function manifestHash(of: Manifest): Bytes {
  return sha256(manifestToPayload(of));
}

/** Return the index of a contact's share, or -1 for anybody else. */
export function indexOf(of: Manifest, contact: Bytes): number {
  return of.rows.findIndex(([one]) => equal(one, contact));
}

/** Throw Untrusted unless `blob` is the door that these shares open. */
export function requireDoor(of: Manifest, blob: Uint8Array): void {
  // The door comes from the server: an old one with a known secret would take in a vault key from before.
  if (!equal(sha256(blob), of.doorHash))
    throw new Untrusted("the contacts door is not the one that the manifest names");
}

/** Return the payload bytes: 7 set, 8 k, 9 n, 10 created, 11 [[contact, commitment]…], 12 door hash. */
export function manifestToPayload(of: Manifest): Bytes {
  const rows = of.rows.map((row): Encodable[] => [...row]);
  const fields = { 7: of.setId, 8: of.k, 9: rows.length, 10: of.createdAt, 11: rows, 12: of.doorHash };
  return readBack(closePayload(of.header, fields), manifestFromPayload);
}

/** Read the payload; throws Malformed, also for a contact named twice and for the owner among them. */
export function manifestFromPayload(payload: Uint8Array): Manifest {
  const [header, fields] = openPayload(payload, "share manifest", [7, 8, 9, 10, 11, 12]);
  requireUser(header, "share manifest");
  // n and the rows must agree, and k is at most n: a set that can never be put together is found when it is made.
  const n = fields.uint(9, { minimum: MIN_QUORUM, maximum: MAX_SHARES });
  const items = fields.array(11, { minimum: n, maximum: n });
  const rows = items.map((item) => Fields.ofRow(item, "share manifest, field 11", 2));
  const manifest: Manifest = {
    header,
    setId: fields.octets(7, SET_SIZE),
    k: fields.uint(8, { minimum: MIN_QUORUM, maximum: n }),
    // A set from the future would still look like the newest when it has long been replaced.
    createdAt: fields.uint(10, { maximum: header.issuedAt }),
    rows: rows.map((row): [Bytes, Bytes] => [row.octets(0, ID_SIZE), row.octets(1, HASH_SIZE)]),
    doorHash: fields.octets(12, HASH_SIZE),
  };
  const contacts = new Set(manifest.rows.map(([contact]) => hex(contact)));
  // Checked by the reader too: contacts hold what the owner's device signed, and that device may be a thief's.
  if (contacts.size !== n || contacts.has(hex(header.user)))
    throw new Malformed("share manifest: a contact is named twice, or is the owner");
  return manifest;
}

/**
 * A new device asks for its user's shares. key: a fresh X-Wing key to which the contacts seal. Nobody signs it: whoever
 * could sign for this user has no need to ask. The digits of `codeOf` stand in for that.
 */
export interface ShareRequest {
  readonly header: Header;
  readonly key: PublicKey;
  /** SHA-256 of the device's statement payload. */
  readonly deviceHash: Bytes;
  /** Of the set it asks for. */
  readonly manifestHash: Bytes;
}

/** Make a request and its private key, which never leaves the device. Rejects with a RangeError for a longer life. */
export async function newRequest(
  header: Header,
  of: { deviceHash: Bytes; manifestHash: Bytes },
): Promise<[ShareRequest, SealingKey]> {
  const key = await SealingKey.generate();
  // Written as a contact will read it, so that a request nobody would answer is never published.
  return [requestFromPayload(requestToPayload({ header, key: key.public, ...of })), key];
}

/** SHA-256 of the payload, of which only one encoding is read. */
export function requestHash(of: ShareRequest): Bytes {
  return sha256(requestToPayload(of));
}

/** Six groups of five digits, which user and contact compare by voice before a share is sent. */
export function codeOf(of: ShareRequest): string[] {
  // Of the whole request: a server that puts in its own key has another code, and has to guess 30 digits at once.
  return sixGroups(requestHash(of));
}

/** Return the payload bytes: 7 X-Wing key, 8 device statement hash, 9 manifest hash. */
export function requestToPayload(of: ShareRequest): Bytes {
  const fields = { 7: of.key.encoded, 8: of.deviceHash, 9: of.manifestHash };
  return readBack(closePayload(of.header, fields), requestFromPayload);
}

/** Read the payload; throws Malformed, also for a life above 72 hours or none stated. */
export function requestFromPayload(payload: Uint8Array): ShareRequest {
  const [header, fields] = openPayload(payload, "share request", [7, 8, 9]);
  requireDevice(header, "share request");
  // 0 is "no end" elsewhere, and is refused here.
  if (!(header.expiresAt > 0 && header.expiresAt <= header.issuedAt + MAX_REQUEST_SECONDS))
    throw fields.refuse(6, "is not within 72 hours of issue");
  return {
    header,
    key: readKey(fields, 7, KeyKind.X_WING),
    deviceHash: fields.octets(8, HASH_SIZE),
    manifestHash: fields.octets(9, HASH_SIZE),
  };
}
