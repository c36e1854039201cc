// SPDX-License-Identifier: Apache-2.0
/** SHA-256, HMAC and HKDF, synchronous but for long input: WebCrypto's cost a turn of the event loop for each short input. */
import { hkdf as nobleHkdf } from "@noble/hashes/hkdf.js";
import { hmac as nobleHmac } from "@noble/hashes/hmac.js";
import { sha256 as nobleSha256 } from "@noble/hashes/sha2.js";
import type { Bytes } from "../base/bytes.js";
import { SecretBytes } from "../base/secret.js";

/** Bytes of SHA-256. */
export const HASH_SIZE = 32;

/** Return SHA-256 of `data`: 32 bytes. */
export function sha256(data: Uint8Array): Bytes {
  return nobleSha256(data) as Bytes;
}

/** Return SHA-256 of `data`, by WebCrypto: for kilobytes, where its turn costs less than the hash. */
export async function sha256Long(data: Uint8Array): Promise<Bytes> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", data as Bytes));
}

/** SHA-256 of bytes that come piece by piece. */
export class Sha256 {
  readonly #state = nobleSha256.create();

  /** Take in the next piece. */
  update(data: Uint8Array): void {
    this.#state.update(data);
  }

  /** Return the hash of all that was taken in: 32 bytes. Nothing may be taken in afterwards. */
  digest(): Bytes {
    return this.#state.digest() as Bytes;
  }
}

/** Return HMAC-SHA256: 32 bytes. RFC 2104. */
export function hmac(key: SecretBytes, data: Uint8Array): Bytes {
  return nobleHmac(nobleSha256, key.reveal(), data) as Bytes;
}

/** Return `length` bytes of HKDF-SHA256. RFC 5869; lengths above 8,160 are an error of the caller's. */
export function hkdf(of: { salt: Uint8Array; ikm: SecretBytes; info: Uint8Array; length: number }): SecretBytes {
  return new SecretBytes(nobleHkdf(nobleSha256, of.ikm.reveal(), of.salt, of.info, of.length));
}
