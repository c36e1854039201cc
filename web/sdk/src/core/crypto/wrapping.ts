// SPDX-License-Identifier: Apache-2.0
/**
 * Keys under keys, and committed encryption: what vaults, doors, deposits and stored records are made of.
 *
 * RFC 3394 (AES-KW); K || C with AES-256-GCM and an HMAC commitment (docs/formats/doors.md). Does not parse: the formats
 * that carry these bytes do.
 */
import { type Bytes, equalSecret, utf8 } from "../base/bytes.js";
import { UnwrapFailed } from "../base/errors.js";
import { SecretBytes } from "../base/secret.js";
import { hkdf, hmac } from "./hashing.js";

/** Bytes: AES-256, against Grover's search as well. */
export const KEY_SIZE = 32;
/** Bytes: SP 800-38D section 8.2; other lengths are hashed first and may collide. */
export const NONCE_SIZE = 12;
/** Bytes: the longest of SP 800-38D section 5.2.1.2; its appendix C warns of shorter ones. */
export const TAG_SIZE = 16;
/** Bytes: two keys with one commitment take 2^128 work. */
export const COMMIT_SIZE = 32;
/** Bytes: RFC 3394 section 2.2.3, the integrity check value. */
export const WRAP_OVERHEAD = 8;

const COMMIT = utf8("commit");

function requireKey(key: SecretBytes): Bytes {
  // AES would take 16 and 24 bytes as well: a key cut short by a mistake would work and go unseen.
  if (key.length !== KEY_SIZE) throw new RangeError("keys here are 32 bytes");
  return key.reveal();
}

/** Import a 32-byte key for AES-GCM, so that WebCrypto alone has it from then on. */
export function gcmKey(key: SecretBytes, usages: KeyUsage[] = ["encrypt", "decrypt"]): Promise<CryptoKey> {
  return crypto.subtle.importKey("raw", requireKey(key), "AES-GCM", false, usages);
}

/** Encrypt under an imported key with AES-256-GCM; 16 bytes longer. */
export async function gcmEncrypt(key: CryptoKey, nonce: Uint8Array, data: Uint8Array, aad: Uint8Array): Promise<Bytes> {
  return new Uint8Array(await crypto.subtle.encrypt(gcm(nonce, aad), key, data as Bytes));
}

/** Undo `gcmEncrypt`; undefined for wrong key, wrong context and tampering, alike. */
export async function gcmDecrypt(
  key: CryptoKey,
  nonce: Uint8Array,
  data: Uint8Array,
  aad: Uint8Array,
): Promise<Bytes | undefined> {
  try {
    return new Uint8Array(await crypto.subtle.decrypt(gcm(nonce, aad), key, data as Bytes));
  } catch {
    return undefined;
  }
}

function gcm(nonce: Uint8Array, aad: Uint8Array): AesGcmParams {
  // GCM takes other lengths too, and hashes them into one of 12 bytes first (SP 800-38D section 7.1).
  if (nonce.length !== NONCE_SIZE) throw new RangeError("nonces here are 12 bytes");
  return { name: "AES-GCM", iv: nonce as Bytes, additionalData: aad as Bytes, tagLength: 8 * TAG_SIZE };
}

/** How one plaintext is bound: a nonce of 12 bytes, never twice under one key, and the associated data. */
export interface Sealing {
  readonly key: SecretBytes;
  readonly nonce: Uint8Array;
  readonly aad: Uint8Array;
}

/** Encrypt with AES-256-GCM under a 32-byte key; 16 bytes longer. */
export async function encrypt(plaintext: SecretBytes, { key, nonce, aad }: Sealing): Promise<Bytes> {
  return gcmEncrypt(await gcmKey(key, ["encrypt"]), nonce, plaintext.reveal(), aad);
}

/** Undo `encrypt`. Rejects with UnwrapFailed for wrong key, wrong context and tampering, alike. */
export async function decrypt(ciphertext: Uint8Array, { key, nonce, aad }: Sealing): Promise<SecretBytes> {
  const opened = await gcmDecrypt(await gcmKey(key, ["decrypt"]), nonce, ciphertext, aad);
  if (opened === undefined) throw new UnwrapFailed("ciphertext does not open");
  return new SecretBytes(opened);
}

/**
 * Wrap `key` under `kek` with AES-KW; 8 bytes longer. Deterministic: equal inputs give equal outputs.
 *
 * key: 16 bytes or more, in steps of 8. kek: 32 bytes. Rejects with a RangeError on other lengths. RFC 3394, 2.2.1.
 */
export async function wrapKey(key: SecretBytes, kek: SecretBytes): Promise<Bytes> {
  if (key.length < 16 || key.length % 8 !== 0) throw new RangeError("AES-KW wraps 16 bytes or more, in steps of 8");
  const wrapping = await crypto.subtle.importKey("raw", requireKey(kek), "AES-KW", false, ["wrapKey"]);
  // WebCrypto wraps keys, not bytes: HMAC's key may have any length.
  const carried = await crypto.subtle.importKey("raw", key.reveal(), { name: "HMAC", hash: "SHA-256" }, true, ["sign"]);
  return new Uint8Array(await crypto.subtle.wrapKey("raw", carried, wrapping, "AES-KW"));
}

/** Undo `wrapKey`. Rejects with UnwrapFailed for every integrity failure and every impossible length, alike. */
export async function unwrapKey(wrapped: Uint8Array, kek: SecretBytes): Promise<SecretBytes> {
  const wrapping = await crypto.subtle.importKey("raw", requireKey(kek), "AES-KW", false, ["unwrapKey"]);
  const hmacKey = { name: "HMAC", hash: "SHA-256" };
  try {
    if (wrapped.length < 16 + WRAP_OVERHEAD) throw new UnwrapFailed();
    const carried = await crypto.subtle.unwrapKey("raw", wrapped as Bytes, wrapping, "AES-KW", hmacKey, true, ["sign"]);
    return new SecretBytes(new Uint8Array(await crypto.subtle.exportKey("raw", carried)));
  } catch {
    throw new UnwrapFailed("wrapped key does not open");
  }
}

/**
 * K || C: a key of 32 bytes for exactly one AES-256-GCM context, and what commits to it.
 *
 * AES-GCM alone lets one ciphertext open under two keys. The commitment, 32 bytes beside the ciphertext and compared
 * before it is opened, makes the key behind it unique.
 */
export class CommittedKey {
  private constructor(
    readonly key: SecretBytes,
    private readonly commitmentKey: SecretBytes,
  ) {}

  /** Derive K || C from a uniform `ikm` of 32 bytes or more. */
  static derive(of: { salt: Uint8Array; ikm: SecretBytes; info: Uint8Array }): CommittedKey {
    // K and C from one HKDF call and no key twice: the commitment is public, and must say nothing about K.
    const okm = hkdf({ ...of, length: 2 * KEY_SIZE }).reveal();
    return new CommittedKey(new SecretBytes(okm.slice(0, KEY_SIZE)), new SecretBytes(okm.slice(KEY_SIZE)));
  }

  /** Return the 32-byte commitment HMAC-SHA256(C, "commit"). */
  commit(): Bytes {
    return hmac(this.commitmentKey, COMMIT);
  }

  /** Throw UnwrapFailed unless `commit` is this key's commitment. */
  require(commit: Uint8Array): void {
    // Before decryption, and one error for wrong key and wrong context: no oracle.
    if (!equalSecret(this.commit(), commit)) throw new UnwrapFailed("wrong key or context");
  }
}
