// SPDX-License-Identifier: Apache-2.0
/**
 * Private keys: what signs, agrees and decapsulates, kept by WebCrypto where it knows the curve.
 *
 * A key made from a seed can give it back, for the vault. A key made by `locked` cannot: WebCrypto alone has it, and no
 * script of the page reads it. RFC 8032, RFC 7748, FIPS 186-5, FIPS 203.
 */
import { type Bytes, concat, hex, unhex } from "../base/bytes.js";
import { unb64u } from "../base/encoding.js";
import { Malformed } from "../base/errors.js";
import { SecretBytes } from "../base/secret.js";
import { ECDSA, KeyKind, ML_KEM_CIPHERTEXT_SIZE, PublicKey } from "./public_keys.js";
import { hasCurve, randomBytes } from "./webcrypto.js";

export * from "./public_keys.js";

export type SigningKind = typeof KeyKind.ED25519 | typeof KeyKind.P256_SIGNING;
export type AgreementKind = typeof KeyKind.X25519 | typeof KeyKind.P256_AGREEMENT;
type CurveKind = SigningKind | AgreementKind;

interface How {
  readonly algorithm: { name: string; namedCurve?: string };
  readonly usages: KeyUsage[];
  /** PKCS#8 before the 32 bytes of the private key: RFC 8410 section 7, RFC 5958 and RFC 5915. */
  readonly before: Bytes;
  readonly late?: "Ed25519" | "X25519";
}

const P256_BEFORE = unhex("304102010030130607 2a8648ce3d020106082a8648ce3d030107 0427 30250201010420".replaceAll(" ", ""));
const HOW: Readonly<Record<CurveKind, How>> = {
  [KeyKind.ED25519]: {
    algorithm: { name: "Ed25519" },
    usages: ["sign"],
    before: unhex("302e020100300506032b657004220420"),
    late: "Ed25519",
  },
  [KeyKind.X25519]: {
    algorithm: { name: "X25519" },
    usages: ["deriveBits"],
    before: unhex("302e020100300506032b656e04220420"),
    late: "X25519",
  },
  [KeyKind.P256_SIGNING]: { algorithm: { name: "ECDSA", namedCurve: "P-256" }, usages: ["sign"], before: P256_BEFORE },
  [KeyKind.P256_AGREEMENT]: {
    algorithm: { name: "ECDH", namedCurve: "P-256" },
    usages: ["deriveBits"],
    before: P256_BEFORE,
  },
};

const P256_ORDER = 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n; // SP 800-186 section 3.2.1

function requireSeed(kind: CurveKind, seed: SecretBytes): Bytes {
  const raw = seed.reveal();
  if (raw.length !== 32) throw new Malformed("private key: not 32 bytes");
  if (kind === KeyKind.P256_SIGNING || kind === KeyKind.P256_AGREEMENT) {
    const scalar = BigInt("0x" + hex(raw));
    if (scalar === 0n || scalar >= P256_ORDER) throw new Malformed("P-256 private key: not a scalar below the order");
  }
  return raw;
}

function freshSeed(kind: CurveKind): SecretBytes {
  for (;;) {
    const seed = new SecretBytes(randomBytes(32));
    try {
      // Uniform in 1..n-1 by rejection (FIPS 186-5 appendix A.2.2): a reduced number would be biased.
      requireSeed(kind, seed);
      return seed;
    } catch {
      // One in 2^32 for P-256, never for the others: drawn again.
    }
  }
}

/** What holds a private key: WebCrypto's own, or the seed where it lacks the curve. */
interface Held {
  readonly public: PublicKey;
  readonly key: CryptoKey | SecretBytes;
}

// RFC 7748 section 4.1: u = 9.
const BASE_POINT = Uint8Array.from({ length: 32 }, (_, at) => (at === 0 ? 9 : 0));
let basePoint: Promise<CryptoKey> | undefined;

async function hold(kind: CurveKind, seed: SecretBytes): Promise<Held> {
  const raw = requireSeed(kind, seed);
  const how = HOW[kind];
  if (how.late !== undefined && !(await hasCurve(how.late))) {
    const noble = await import("./noble_curves.js");
    const own = kind === KeyKind.ED25519 ? noble.ed25519Public(raw) : noble.x25519Public(raw);
    return { public: new PublicKey(kind, own), key: seed };
  }
  const pkcs8 = concat(how.before, raw);
  if (kind === KeyKind.X25519) {
    // With the base point the secret is the public half (RFC 7748 section 6.1), and the key need never be exportable.
    const key = await crypto.subtle.importKey("pkcs8", pkcs8, how.algorithm, false, how.usages);
    pkcs8.fill(0);
    basePoint ??= crypto.subtle.importKey("raw", BASE_POINT, "X25519", true, []);
    const own = await crypto.subtle.deriveBits({ name: "X25519", public: await basePoint }, key, 256);
    return { public: new PublicKey(kind, new Uint8Array(own)), key };
  }
  // WebCrypto gives the public half of a key that may be exported only: once so for it, and then as one that may not.
  const jwk = await crypto.subtle.exportKey(
    "jwk",
    await crypto.subtle.importKey("pkcs8", pkcs8, how.algorithm, true, how.usages),
  );
  const key = await crypto.subtle.importKey("pkcs8", pkcs8, how.algorithm, false, how.usages);
  pkcs8.fill(0);
  const x = unb64u(jwk.x as string);
  return { public: new PublicKey(kind, jwk.y === undefined ? x : concat(Uint8Array.of(4), x, unb64u(jwk.y))), key };
}

async function holdLocked(kind: CurveKind): Promise<Held> {
  const how = HOW[kind];
  if (how.late !== undefined && !(await hasCurve(how.late)))
    throw new TypeError(`this browser's WebCrypto lacks ${how.late}: its keys cannot be locked away`);
  const pair = (await crypto.subtle.generateKey(how.algorithm, false, how.usages)) as CryptoKeyPair;
  const raw = new Uint8Array(await crypto.subtle.exportKey("raw", pair.publicKey));
  return { public: new PublicKey(kind, raw), key: pair.privateKey };
}

abstract class CurveKey {
  readonly public: PublicKey;
  readonly #seed: SecretBytes | undefined;

  protected constructor(
    own: PublicKey,
    protected readonly key: CryptoKey | SecretBytes,
    seed?: SecretBytes,
  ) {
    this.public = own;
    this.#seed = seed;
  }

  /** Whether WebCrypto alone has this key. */
  get isLocked(): boolean {
    return this.#seed === undefined;
  }

  /** Return the 32 bytes from which `fromSeed` restores this key. Throws a TypeError for a locked one. */
  seed(): SecretBytes {
    if (this.#seed === undefined) throw new TypeError("a locked key does not leave WebCrypto");
    return this.#seed;
  }

  /** Return WebCrypto's own handle, to be put into IndexedDB as it is. Throws a TypeError where noble holds the key. */
  handle(): CryptoKey {
    if (this.key instanceof SecretBytes) throw new TypeError("this browser's WebCrypto lacks the curve");
    return this.key;
  }
}

/** An Ed25519 or P-256 signing key. */
export class SigningKey extends CurveKey {
  /** Make a fresh key that can be put into a vault. */
  static generate(kind: SigningKind = KeyKind.ED25519): Promise<SigningKey> {
    return SigningKey.fromSeed(kind, freshSeed(kind));
  }

  /** Make a fresh key that WebCrypto alone has. Throws a TypeError where it lacks the curve. */
  static async locked(kind: SigningKind = KeyKind.ED25519): Promise<SigningKey> {
    const held = await holdLocked(kind);
    return new SigningKey(held.public, held.key);
  }

  /** Take a key from IndexedDB again. */
  static ofHandle(publicKey: PublicKey, handle: CryptoKey): SigningKey {
    return new SigningKey(publicKey, handle);
  }

  /** Restore a key from its 32 bytes; rejects with Malformed for another size or a scalar out of range. */
  static async fromSeed(kind: SigningKind, seed: SecretBytes): Promise<SigningKey> {
    const held = await hold(kind, seed);
    return new SigningKey(held.public, held.key, seed);
  }

  /**
   * Derive a key from 48 uniform bytes: their first 32 as an Ed25519 seed, or all of them as a P-256 scalar.
   *
   * Rejects with a RangeError for another size (the caller's mistake). FIPS 186-5 appendix A.2.1: with 128 bits more
   * than the order has, the scalar's bias cannot be seen.
   */
  static async fromUniform(kind: SigningKind, octets: SecretBytes): Promise<SigningKey> {
    const raw = octets.reveal();
    if (raw.length !== 48) throw new RangeError("a signing key is derived from 48 bytes");
    if (kind === KeyKind.ED25519) return SigningKey.fromSeed(kind, new SecretBytes(raw.slice(0, 32)));
    const scalar = (BigInt("0x" + hex(raw)) % (P256_ORDER - 1n)) + 1n;
    return SigningKey.fromSeed(kind, new SecretBytes(unhex(scalar.toString(16).padStart(64, "0"))));
  }

  /** Return a 64-byte signature: Ed25519 (RFC 8032), or ECDSA with SHA-256 as raw r‖s. */
  async sign(data: Uint8Array): Promise<Bytes> {
    if (this.key instanceof SecretBytes)
      return (await import("./noble_curves.js")).signEd25519(this.key.reveal(), data);
    const algorithm = this.public.kind === KeyKind.ED25519 ? "Ed25519" : ECDSA;
    return new Uint8Array(await crypto.subtle.sign(algorithm, this.key, data as Bytes));
  }
}

/** An X25519 or P-256 Diffie-Hellman key. */
export class AgreementKey extends CurveKey {
  /** Make a fresh key whose scalar can be stored, encrypted. */
  static generate(kind: AgreementKind = KeyKind.X25519): Promise<AgreementKey> {
    return AgreementKey.fromSeed(kind, freshSeed(kind));
  }

  /** Make a fresh key that WebCrypto alone has. Throws a TypeError where it lacks the curve. */
  static async locked(kind: AgreementKind = KeyKind.X25519): Promise<AgreementKey> {
    const held = await holdLocked(kind);
    return new AgreementKey(held.public, held.key);
  }

  /** Take a key from IndexedDB again. */
  static ofHandle(publicKey: PublicKey, handle: CryptoKey): AgreementKey {
    return new AgreementKey(publicKey, handle);
  }

  /** Restore a key from its 32 bytes; rejects with Malformed for another size or a scalar out of range. */
  static async fromSeed(kind: AgreementKind, seed: SecretBytes): Promise<AgreementKey> {
    const held = await hold(kind, seed);
    return new AgreementKey(held.public, held.key, seed);
  }

  /**
   * Return the 32-byte shared secret (for P-256 the x coordinate; SP 800-56A section 5.7.1.2).
   *
   * Rejects with Malformed for a peer of another kind and for an all-zero secret, a hostile peer's doing.
   */
  async exchange(peer: PublicKey): Promise<SecretBytes> {
    if (peer.kind !== this.public.kind) throw new Malformed("key agreement: the two keys are of different kinds");
    if (this.key instanceof SecretBytes) {
      const noble = await import("./noble_curves.js");
      return new SecretBytes(noble.x25519Exchange(this.key.reveal(), peer.raw));
    }
    const algorithm = { name: HOW[peer.kind as AgreementKind].algorithm.name, public: await peer.imported() };
    let shared: ArrayBuffer;
    try {
      shared = await crypto.subtle.deriveBits(algorithm, this.key, 256);
    } catch {
      throw new Malformed("key agreement: all-zero secret");
    }
    const octets = new Uint8Array(shared);
    // Decoding refuses small orders already, and WebCrypto refuses this secret; both hold on their own.
    if (octets.every((octet) => octet === 0)) throw new Malformed("key agreement: all-zero secret");
    return new SecretBytes(octets);
  }
}

// Asked for again and again, `import()` takes as long as a hash does.
let mlKem: Promise<typeof import("@noble/post-quantum/ml-kem.js")> | undefined;

function loadMlKem(): Promise<typeof import("@noble/post-quantum/ml-kem.js")> {
  mlKem ??= import("@noble/post-quantum/ml-kem.js").catch((error: unknown) => {
    mlKem = undefined; // the network was away: the next who asks tries again
    throw error;
  });
  return mlKem;
}

const ML_KEM_SEED_SIZE = 64; // bytes: FIPS 203 section 7.1, d‖z

/** An ML-KEM-768 decapsulation key, kept as its 64-byte seed d‖z. FIPS 203. */
export class KemKey {
  readonly public: PublicKey;
  readonly #seed: SecretBytes;
  readonly #secretKey: Uint8Array;

  private constructor(own: PublicKey, seed: SecretBytes, secretKey: Uint8Array) {
    this.public = own;
    this.#seed = seed;
    this.#secretKey = secretKey;
  }

  /** Make a fresh key from the system's randomness. */
  static generate(): Promise<KemKey> {
    return KemKey.fromSeed(new SecretBytes(randomBytes(ML_KEM_SEED_SIZE)));
  }

  /** Restore a key from its 64 bytes; rejects with Malformed for another size. */
  static async fromSeed(seed: SecretBytes): Promise<KemKey> {
    if (seed.length !== ML_KEM_SEED_SIZE) throw new Malformed("private key: not 64 bytes");
    const { ml_kem768 } = await loadMlKem();
    const made = ml_kem768.keygen(seed.reveal());
    return new KemKey(new PublicKey(KeyKind.ML_KEM_768, made.publicKey as Bytes), seed, made.secretKey);
  }

  /**
   * Return the 32-byte secret; a tampered ciphertext gives an unrelated one (implicit rejection).
   *
   * Rejects with Malformed unless `ciphertext` has 1,088 bytes. FIPS 203 section 7.3.
   */
  async decapsulate(ciphertext: Uint8Array): Promise<SecretBytes> {
    if (ciphertext.length !== ML_KEM_CIPHERTEXT_SIZE) throw new Malformed("ML-KEM-768 ciphertext: not 1,088 bytes");
    const { ml_kem768 } = await loadMlKem();
    return new SecretBytes(ml_kem768.decapsulate(ciphertext, this.#secretKey));
  }

  /** Return the 64 bytes from which `fromSeed` restores this key. */
  seed(): SecretBytes {
    return this.#seed;
  }
}

/** Return (ciphertext of 1,088 bytes, secret of 32 bytes) for an ML-KEM-768 key. FIPS 203 section 7.2. */
export async function encapsulate(to: PublicKey): Promise<[ciphertext: Bytes, secret: SecretBytes]> {
  if (to.kind !== KeyKind.ML_KEM_768) throw new TypeError(`${to.kindName} keys do not encapsulate`);
  const { ml_kem768 } = await loadMlKem();
  const made = ml_kem768.encapsulate(to.raw);
  return [made.cipherText as Bytes, new SecretBytes(made.sharedSecret)];
}
