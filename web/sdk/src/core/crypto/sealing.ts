// SPDX-License-Identifier: Apache-2.0
/**
 * One-shot sealing to a device's, an officer's or a process's X-Wing key; loaded with ML-KEM, when it is needed.
 *
 * HPKE base mode (RFC 9180), MLKEM768-X25519 / HKDF-SHA256 / AES-256-GCM. Does not authenticate the sender: whoever
 * holds the public key can seal, so a signed statement says who did. X-Wing: draft-connolly-cfrg-xwing-kem section 5.
 */
import type { CipherSuite } from "@hpke/core";
import { type Bytes, concat } from "../base/bytes.js";
import { Malformed, UnwrapFailed } from "../base/errors.js";
import { SecretBytes } from "../base/secret.js";
import { KeyKind, PublicKey } from "./public_keys.js";
import { randomBytes } from "./webcrypto.js";

const ENCAPSULATED_SIZE = 1088 + 32; // bytes: ML-KEM-768's ciphertext, then X25519's key
/** What sealing adds: the encapsulated key, and 16 bytes of GCM tag. */
export const OVERHEAD = ENCAPSULATED_SIZE + 16;
const SEED_SIZE = 32; // bytes: X-Wing draft section 5.2

let made: CipherSuite | undefined;

/** Load what seals, once. RFC 9180 section 7, KEM 0x647a of the X-Wing draft: the one combination there is. */
async function suite(): Promise<CipherSuite> {
  if (made === undefined) {
    const [hpke, { XWing }] = await Promise.all([import("@hpke/core"), import("@hpke/hybridkem-x-wing")]);
    made = new hpke.CipherSuite({ kem: new XWing(), kdf: new hpke.HkdfSha256(), aead: new hpke.Aes256Gcm() });
  }
  return made;
}

/** An X-Wing key to which others seal, kept as a 32-byte seed. */
export class SealingKey {
  readonly public: PublicKey;
  readonly #seed: SecretBytes;
  readonly #pair: CryptoKeyPair;

  private constructor(own: PublicKey, seed: SecretBytes, pair: CryptoKeyPair) {
    this.public = own;
    this.#seed = seed;
    this.#pair = pair;
  }

  /** Make a fresh key from the system's randomness. */
  static generate(): Promise<SealingKey> {
    return SealingKey.fromSeed(new SecretBytes(randomBytes(SEED_SIZE)));
  }

  /** Restore a key from its 32 bytes; rejects with Malformed for another size. */
  static async fromSeed(seed: SecretBytes): Promise<SealingKey> {
    if (seed.length !== SEED_SIZE) throw new Malformed("private key: not 32 bytes");
    const { kem } = await suite();
    const privateKey = await kem.deserializePrivateKey(seed.reveal());
    const publicKey = await publicOf(kem, privateKey);
    const raw = new Uint8Array(await kem.serializePublicKey(publicKey));
    return new SealingKey(new PublicKey(KeyKind.X_WING, raw), seed, { privateKey, publicKey });
  }

  /** Return the 32 bytes from which `fromSeed` restores this key. */
  seed(): SecretBytes {
    return this.#seed;
  }

  /** Undo `seal` under the same `info`. Rejects with UnwrapFailed for every failure, alike. */
  async open(sealed: Uint8Array, info: Uint8Array): Promise<SecretBytes> {
    const hpke = await suite();
    try {
      if (sealed.length < OVERHEAD) throw new UnwrapFailed();
      const enc = sealed.slice(0, ENCAPSULATED_SIZE), body = sealed.slice(ENCAPSULATED_SIZE);
      const of = { recipientKey: this.#pair, enc: enc.buffer, info: info.slice().buffer };
      return new SecretBytes(new Uint8Array(await hpke.open(of, body.buffer)));
    } catch {
      // One answer for both: telling a bad ciphertext from a bad context would tell an attacker which half was right.
      throw new UnwrapFailed("sealed message does not open");
    }
  }
}

async function publicOf(kem: CipherSuite["kem"], privateKey: CryptoKey): Promise<CryptoKey> {
  // The library derives it from the seed only when a pair is derived: the private key is the seed itself.
  const { ml_kem768_x25519 } = await import("@noble/post-quantum/hybrid.js");
  const seed = new Uint8Array(await kem.serializePrivateKey(privateKey));
  const raw = ml_kem768_x25519.keygen(seed).publicKey.slice() as Bytes;
  return kem.deserializePublicKey(raw.buffer);
}

/**
 * Seal `plaintext` to the X-Wing key `to`; 1,136 bytes longer, different at every call.
 *
 * info: the whole context, made by `label`: the one-shot interface takes no associated data. Rejects with a TypeError
 * when `to` is of another kind (the caller's mistake). RFC 9180 section 6.1.
 */
export async function seal(plaintext: SecretBytes, to: PublicKey, info: Uint8Array): Promise<Bytes> {
  if (to.kind !== KeyKind.X_WING) throw new TypeError(`${to.kindName} keys are not sealed to`);
  const hpke = await suite();
  const recipientPublicKey = await hpke.kem.deserializePublicKey(to.raw.buffer);
  // `info` enters the key schedule (RFC 9180 section 5.1): a share moved to another deposit, officer or letter does not
  // open.
  const { enc, ct } = await hpke.seal(
    { recipientPublicKey, info: info.slice().buffer },
    plaintext.reveal().buffer,
  );
  return concat(new Uint8Array(enc), new Uint8Array(ct));
}
