// SPDX-License-Identifier: Apache-2.0
/**
 * RSA-3072 with OAEP: the HSM's half of a deposit, and the fresh key of one case's recipient. RFC 8017 section 7.1.
 *
 * SHA-1 is there because a development HSM does no other OAEP. OAEP does not rest on collisions, yet no production key
 * takes it.
 */
import { type Bytes, EMPTY } from "../base/bytes.js";
import { Malformed, UnwrapFailed } from "../base/errors.js";
import { SecretBytes } from "../base/secret.js";
import { KeyKind, PublicKey } from "./public_keys.js";

export type OaepHash = "SHA-1" | "SHA-256";

/** Return the hash of an escrow-key statement's algorithm, with which its halves are sealed and wrapped on. */
export function oaepHash(algorithm: string): OaepHash {
  return algorithm.startsWith("oaep-sha1") ? "SHA-1" : "SHA-256";
}

/** Return the label under which an escrow-key statement's algorithm seals r_h: ctx (32 bytes), or none. */
export function oaepLabel(algorithm: string, ctx: Bytes): Bytes {
  return algorithm.endsWith("-ctx") ? ctx : EMPTY;
}

/** Wrap a 32-byte `secret` to an RSA-3072 key; returns 384 bytes. */
export async function wrapRsa(
  to: PublicKey,
  secret: SecretBytes,
  of: { hash: OaepHash; label: Bytes },
): Promise<Bytes> {
  if (to.kind !== KeyKind.RSA_3072) throw new TypeError(`${to.kindName} keys do not wrap`);
  const key = await crypto.subtle.importKey("spki", to.raw, { name: "RSA-OAEP", hash: of.hash }, false, ["encrypt"]);
  return new Uint8Array(await crypto.subtle.encrypt({ name: "RSA-OAEP", label: of.label }, key, secret.reveal()));
}

/** The fresh RSA-3072 key of one case's recipient, to which the HSM re-wraps its half. */
export class RecipientRsaKey {
  readonly public: PublicKey;
  readonly #pkcs8: SecretBytes;

  private constructor(own: PublicKey, pkcs8: SecretBytes) {
    this.public = own;
    this.#pkcs8 = pkcs8;
  }

  /** Make a fresh key (takes up to a second). */
  static async generate(): Promise<RecipientRsaKey> {
    const how = { name: "RSA-OAEP", hash: "SHA-256", modulusLength: 3072, publicExponent: Uint8Array.of(1, 0, 1) };
    const pair = await crypto.subtle.generateKey(how, true, ["encrypt", "decrypt"]);
    const pkcs8 = new Uint8Array(await crypto.subtle.exportKey("pkcs8", pair.privateKey));
    return RecipientRsaKey.fromPkcs8(new SecretBytes(pkcs8));
  }

  /** Restore a key from its unencrypted PKCS#8 DER; rejects with Malformed for anything else. */
  static async fromPkcs8(der: SecretBytes): Promise<RecipientRsaKey> {
    const how = { name: "RSA-OAEP", hash: "SHA-256" };
    let jwk: JsonWebKey;
    try {
      jwk = await crypto.subtle.exportKey("jwk", await crypto.subtle.importKey("pkcs8", der.reveal(), how, true, ["decrypt"]));
    } catch {
      throw new Malformed("RSA private key: not PKCS#8 of this algorithm");
    }
    const half: JsonWebKey = { kty: "RSA", n: jwk.n as string, e: jwk.e as string };
    const key = await crypto.subtle.importKey("jwk", half, how, true, ["encrypt"]);
    // Checked like anybody's: a key that our own rules refuse would make a case that nobody can release.
    const spki = new Uint8Array(await crypto.subtle.exportKey("spki", key));
    return new RecipientRsaKey(new PublicKey(KeyKind.RSA_3072, spki), der);
  }

  /** Return the key as unencrypted PKCS#8 DER, for the device's own encrypted store. */
  pkcs8(): SecretBytes {
    return this.#pkcs8;
  }

  /** Undo `wrapRsa`, or the HSM's own. Rejects with UnwrapFailed for every failure, without saying which. */
  async unwrap(wrapped: Uint8Array, of: { hash: OaepHash; label?: Bytes }): Promise<SecretBytes> {
    const how = { name: "RSA-OAEP", hash: of.hash };
    const key = await crypto.subtle.importKey("pkcs8", this.#pkcs8.reveal(), how, false, ["decrypt"]);
    try {
      const algorithm = { name: "RSA-OAEP", label: of.label ?? EMPTY };
      return new SecretBytes(new Uint8Array(await crypto.subtle.decrypt(algorithm, key, wrapped as Bytes)));
    } catch {
      throw new UnwrapFailed("the half does not open");
    }
  }
}
