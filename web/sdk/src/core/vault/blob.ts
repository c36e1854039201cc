// SPDX-License-Identifier: Apache-2.0
/**
 * The vault blob: a user's keyring as the server stores it, sealed under the vault key VK; and its officers' section.
 *
 * docs/formats/doors.md "Vault". Does not interpret the keyring, and does not check who wrote it: the `sync` statement
 * around it does.
 */
import type { Bytes } from "../base/bytes.js";
import { decode, type Encodable, encode, Fields, label, MAX_VAULT } from "../base/encoding.js";
import { Malformed } from "../base/errors.js";
import { SecretBytes } from "../base/secret.js";
import { randomBytes } from "../crypto/webcrypto.js";
import { COMMIT_SIZE, CommittedKey, decrypt, encrypt, KEY_SIZE, NONCE_SIZE, TAG_SIZE } from "../crypto/wrapping.js";
import { readBack } from "../signed/payloads.js";

/** Field 1, in info and aad: no older form to fall back to. */
export const VERSION = 1;
/** Bytes: what leaves room for the other fields in 1 MiB. */
export const MAX_KEYRING = MAX_VAULT - 256;

/**
 * The parts of a vault, each under a key and behind doors of its own. Field 2 of a blob, and the label of its key.
 *
 * `officers`: an officer's keys, which no contact and no export file may bring back.
 */
export type Section = "vault" | "officers";

/** Whose vault it is and which one. */
export interface VaultHeader {
  /** 16 bytes each. */
  readonly tenant: Bytes;
  readonly user: Bytes;
  /** Of the key. */
  readonly epoch: number;
  /** Grows at each write. */
  readonly version: number;
  readonly section: Section;
}

// The numbers of docs/formats/doors.md, "Vault"; 3 is a door's method and stays free here.
const FORMAT = 1, NAME = 2, TENANT = 4, USER = 5, EPOCH = 6, REVISION = 7, NONCE = 8, COMMIT = 9, CIPHERTEXT = 10;

function fieldsOf(header: VaultHeader): Map<number, Encodable> {
  return new Map<number, Encodable>([
    [FORMAT, VERSION],
    [NAME, header.section],
    [TENANT, header.tenant],
    [USER, header.user],
    [EPOCH, header.epoch],
    [REVISION, header.version],
  ]);
}

/** Return the key of one blob, and the fields that its ciphertext is bound to. */
function keyOf(
  header: VaultHeader,
  nonce: Bytes,
  vaultKey: SecretBytes,
): [committed: CommittedKey, bound: Map<number, Encodable>] {
  const fields = fieldsOf(header), info = label(header.section, fields);
  return [CommittedKey.derive({ salt: nonce, ikm: vaultKey, info }), fields.set(NONCE, nonce)];
}

/** Return a fresh vault key VK of 32 bytes. */
export function newVaultKey(): SecretBytes {
  return new SecretBytes(randomBytes(KEY_SIZE));
}

/**
 * Encrypt a keyring (at most 1 MiB less 256 bytes) into a vault blob of about 140 bytes more.
 *
 * The nonce is also the salt of the key, so that a vault written twice at one version (two devices, a rolled-back state)
 * still never meets the same key and nonce. Rejects with a RangeError when the keyring is too long.
 */
export async function sealVault(keyring: SecretBytes, vaultKey: SecretBytes, header: VaultHeader): Promise<Bytes> {
  if (keyring.length > MAX_KEYRING) throw new RangeError("a vault holds at most 1 MiB");
  const nonce = randomBytes(NONCE_SIZE);
  const [committed, bound] = keyOf(header, nonce, vaultKey);
  const sealed = await encrypt(keyring, { key: committed.key, nonce, aad: encode(bound) });
  const blob = encode(new Map([...bound, [COMMIT, committed.commit()], [CIPHERTEXT, sealed]]));
  return readBack(blob, (octets) => readHeader(octets, header.section));
}

/**
 * Return the keyring. The caller states whose vault, and which epoch and version, it expects.
 *
 * Rejects with Malformed for bytes outside the format or of another section; UnwrapFailed for a wrong key, tampering, or a
 * blob of another tenant, user, epoch or version, alike.
 */
export async function openVault(blob: Uint8Array, vaultKey: SecretBytes, expect: VaultHeader): Promise<SecretBytes> {
  const { nonce, commit, sealed } = parse(blob, expect.section);
  // Computed from what is expected, never from what the blob says: another user's blob or an old version then fails as a
  // wrong key does.
  const [committed, bound] = keyOf(expect, nonce, vaultKey);
  committed.require(commit);
  return decrypt(sealed, { key: committed.key, nonce, aad: encode(bound) });
}

/** Return what a blob says of itself, unauthenticated. Throws Malformed for bytes outside the format. */
export function readHeader(blob: Uint8Array, section: Section = "vault"): VaultHeader {
  return parse(blob, section).header;
}

function parse(blob: Uint8Array, section: Section): { header: VaultHeader; nonce: Bytes; commit: Bytes; sealed: Bytes } {
  // All of them and no others: a field that a reader skips is a field that a server may fill.
  const keys = [FORMAT, NAME, TENANT, USER, EPOCH, REVISION, NONCE, COMMIT, CIPHERTEXT];
  const read = Fields.of(decode(blob, MAX_VAULT), "vault", keys);
  read.uint(FORMAT, { minimum: VERSION, maximum: VERSION });
  if (read.text(NAME) !== section) throw new Malformed("vault: another kind of blob");
  const header: VaultHeader = {
    tenant: read.octets(TENANT, 16),
    user: read.octets(USER, 16),
    epoch: read.uint(EPOCH),
    version: read.uint(REVISION),
    section,
  };
  const sealed = read.octets(CIPHERTEXT);
  if (sealed.length < TAG_SIZE) throw read.refuse(CIPHERTEXT, "is shorter than a tag");
  return { header, nonce: read.octets(NONCE, NONCE_SIZE), commit: read.octets(COMMIT, COMMIT_SIZE), sealed };
}
