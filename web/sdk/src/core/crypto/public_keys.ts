// SPDX-License-Identifier: Apache-2.0
/**
 * Public keys: their bytes, their names, and the strict rules on which of them are taken (docs/formats/statements.md).
 *
 * Does not sign, agree or seal: `keys` and `sealing` do. RFC 8032 section 5.1.7, RFC 7748 section 5, FIPS 203 section 7.
 */
import { type Bytes, concat, equal, hex, unhex } from "../base/bytes.js";
import { label } from "../base/encoding.js";
import { InvalidSignature, Malformed } from "../base/errors.js";
import { eightWords } from "../base/words.js";
import { sha256 } from "./hashing.js";
import { hasCurve } from "./webcrypto.js";

/** The type byte that leads the bytes of every public key. */
export const KeyKind = {
  ED25519: 0x01,
  X25519: 0x02,
  P256_SIGNING: 0x03,
  P256_AGREEMENT: 0x04,
  ML_KEM_768: 0x05,
  X_WING: 0x06,
  RSA_3072: 0x08,
} as const;
export type KeyKind = (typeof KeyKind)[keyof typeof KeyKind];

const NAMES = new Map<number, string>(Object.entries(KeyKind).map(([name, kind]) => [kind, name]));

/** Bytes of SHA-256. A kid only finds a key; which key is right, the signature over the statement decides. */
export const KID_SIZE = 16;
/** Bytes: RFC 8032 section 5.1.6 (R || S), RFC 9053 section 2.1 (r || s). */
export const SIGNATURE_SIZE = 64;
/** Bytes of an encapsulation key: FIPS 203 section 8, table 3. */
export const ML_KEM_PUBLIC_SIZE = 1184;
/** Bytes of a ciphertext: the same table. */
export const ML_KEM_CIPHERTEXT_SIZE = 1088;
// A key signs or agrees, never both: one key in two primitives needs a proof of its own that they do not help each
// other. Hence P-256 has two type bytes for one curve.
export const SIGNING_KINDS: readonly KeyKind[] = [KeyKind.ED25519, KeyKind.P256_SIGNING];
export const AGREEMENT_KINDS: readonly KeyKind[] = [KeyKind.X25519, KeyKind.P256_AGREEMENT];

// The eight points of small order in their canonical form, and the two "negative zero" forms of y = 1 and -1. Under a
// small-order key, one signature can hold for many messages. github.com/C2SP/CCTV, ed25519/README. The top bit, the
// sign of x, is left out here: both of its values are refused.
const SMALL_ORDER_ED25519 = new Set([
  "00".repeat(32),
  "01" + "00".repeat(31),
  "ec" + "ff".repeat(30) + "7f",
  "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
  "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
]);
// The five canonical u of small order: every private key gives the all-zero secret with them (RFC 7748, 6.1).
const SMALL_ORDER_X25519 = new Set([
  "00".repeat(32),
  "01" + "00".repeat(31),
  "ec" + "ff".repeat(30) + "7f",
  "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
  "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
]);

/** Tell whether 32 little-endian bytes are a number below 2^255 - 19 (RFC 7748 section 4.1), the top bit left out. */
function isBelowP25519(raw: Uint8Array): boolean {
  if (((raw[31] as number) & 0x7f) !== 0x7f) return true;
  for (let at = 30; at > 0; at--) if (raw[at] !== 0xff) return true;
  return (raw[0] as number) < 0xed;
}

function checkEd25519(raw: Uint8Array): void {
  if (raw.length !== 32) throw new Malformed("Ed25519 key: not 32 bytes");
  const unsigned = raw.slice();
  unsigned[31] = (unsigned[31] as number) & 0x7f;
  // y >= p is a second spelling of y - p, which some libraries take and some refuse: a key that only some verifiers
  // take would split a chain in two.
  if (!isBelowP25519(raw) || SMALL_ORDER_ED25519.has(hex(unsigned)))
    throw new Malformed("Ed25519 key: not canonical, or of small order");
}

function checkX25519(raw: Uint8Array): void {
  if (raw.length !== 32) throw new Malformed("X25519 key: not 32 bytes");
  // RFC 7748 section 5 says to mask the top bit and to take u >= p. Here each key has one spelling: it is hashed into
  // transcripts, and two spellings of one key would give one secret under two transcripts.
  if (((raw[31] as number) & 0x80) !== 0 || !isBelowP25519(raw) || SMALL_ORDER_X25519.has(hex(raw)))
    throw new Malformed("X25519 key: not canonical, or of small order");
}

// SP 800-186 section 3.2.1.3.
const P256_P = 0xffffffff00000001000000000000000000000000ffffffffffffffffffffffffn;
const P256_B = 0x5ac635d8aa3a93e7b3ebbd55769886bc651d06b0cc53b0f63bce3c3e27d2604bn;

function checkP256(raw: Uint8Array): void {
  // The length rules out the compressed forms and the point at infinity.
  if (raw.length !== 65 || raw[0] !== 0x04) throw new Malformed("P-256 key: not an uncompressed point");
  const [x, y] = [BigInt("0x" + hex(raw.subarray(1, 33))), BigInt("0x" + hex(raw.subarray(33)))];
  const isOn = x < P256_P && y < P256_P && (y * y - (x * x - 3n) * x - P256_B) % P256_P === 0n;
  if (!isOn) throw new Malformed("P-256 key: not a point of the curve");
}

const ML_KEM_Q = 3329; // FIPS 203 section 8, table 2

function checkMlKem(raw: Uint8Array): void {
  // FIPS 203 section 7.2: the length, and the modulus check: three 12-bit coefficients a side of 384 bytes.
  let isCanonical = raw.length === ML_KEM_PUBLIC_SIZE;
  for (let at = 0; isCanonical && at < ML_KEM_PUBLIC_SIZE - 32; at += 3) {
    const [a, b, c] = [raw[at] as number, raw[at + 1] as number, raw[at + 2] as number];
    isCanonical = (a | ((b & 15) << 8)) < ML_KEM_Q && ((b >> 4) | (c << 4)) < ML_KEM_Q;
  }
  if (!isCanonical) throw new Malformed("ML-KEM-768 key: wrong length or a coefficient above the modulus");
}

function checkXWing(raw: Uint8Array): void {
  // X-Wing draft section 5.2: the ML-KEM key, then the X25519 key. A wrong total length shows in the second.
  checkMlKem(raw.subarray(0, ML_KEM_PUBLIC_SIZE));
  checkX25519(raw.subarray(ML_KEM_PUBLIC_SIZE));
}

// The one DER of an RSA-3072 SubjectPublicKeyInfo with e = 65537 (RFC 8017 appendix A.1.1), around 384 bytes of modulus.
const SPKI_BEFORE = unhex("308201a2300d06092a864886f70d01010105000382018f003082018a0282018100");
const SPKI_AFTER = unhex("0203010001");
const MODULUS_SIZE = 384;

function checkRsa(raw: Uint8Array): void {
  const start = SPKI_BEFORE.length, end = start + MODULUS_SIZE;
  if (raw.length !== end + SPKI_AFTER.length || !equal(raw.subarray(0, 24), SPKI_BEFORE.subarray(0, 24)))
    throw new Malformed("RSA key: not a DER SubjectPublicKeyInfo of exactly 3072 bits");
  // One exponent and one DER spelling: the key is named by the hash of its bytes. An even modulus is no RSA key.
  const isCanonical =
    equal(raw.subarray(0, start), SPKI_BEFORE) &&
    equal(raw.subarray(end), SPKI_AFTER) &&
    (raw[start] as number) >= 0x80 &&
    ((raw[end - 1] as number) & 1) === 1;
  if (!isCanonical) throw new Malformed("RSA key: exponent, modulus or encoding not canonical");
}

// A kind without a check could not be made at all: there is no way around the rules above.
const CHECKS: Readonly<Record<KeyKind, (raw: Uint8Array) => void>> = {
  [KeyKind.ED25519]: checkEd25519,
  [KeyKind.X25519]: checkX25519,
  [KeyKind.P256_SIGNING]: checkP256,
  [KeyKind.P256_AGREEMENT]: checkP256,
  [KeyKind.ML_KEM_768]: checkMlKem,
  [KeyKind.X_WING]: checkXWing,
  [KeyKind.RSA_3072]: checkRsa,
};

/** How WebCrypto names the algorithm of a kind, and what its public keys are for. */
const IMPORTS: Partial<Record<KeyKind, [AlgorithmIdentifier | EcKeyImportParams, KeyUsage[]]>> = {
  [KeyKind.ED25519]: [{ name: "Ed25519" }, ["verify"]],
  [KeyKind.X25519]: [{ name: "X25519" }, []],
  [KeyKind.P256_SIGNING]: [{ name: "ECDSA", namedCurve: "P-256" }, ["verify"]],
  [KeyKind.P256_AGREEMENT]: [{ name: "ECDH", namedCurve: "P-256" }, []],
};

/** A public key that has been checked: one that exists is canonical and safe to use. */
export class PublicKey {
  /** The type byte and the raw bytes: the form in every statement and every hash. */
  readonly encoded: Bytes;
  #kid: Bytes | undefined;
  #imported: Promise<CryptoKey> | undefined;

  /** raw: the bytes without the type byte. Throws Malformed for every key that the protocol refuses. */
  constructor(
    readonly kind: KeyKind,
    readonly raw: Bytes,
  ) {
    CHECKS[kind](raw);
    this.encoded = concat(Uint8Array.of(kind), raw);
  }

  /** The first 16 bytes of SHA-256 over `encoded`: a name, never an authentication. Few keys are asked for theirs. */
  get kid(): Bytes {
    return (this.#kid ??= sha256(this.encoded).slice(0, KID_SIZE));
  }

  /** The kind's name, for messages. */
  get kindName(): string {
    return NAMES.get(this.kind) as string;
  }

  equals(other: PublicKey): boolean {
    return equal(this.encoded, other.encoded);
  }

  /** Return 8 BIP-39 English words (88 bits) for people to compare. */
  fingerprint(kindLabel: string): string[] {
    return eightWords(sha256(label("fp", kindLabel, this.encoded)));
  }

  /** The key as WebCrypto has it, imported once. Throws a TypeError for kinds that it does not know. */
  imported(): Promise<CryptoKey> {
    const how = IMPORTS[this.kind];
    if (how === undefined) throw new TypeError(`${this.kindName} keys are not WebCrypto's`);
    this.#imported ??= crypto.subtle.importKey("raw", this.raw, how[0], true, how[1]);
    return this.#imported;
  }

  toString(): string {
    return `<PublicKey ${this.kindName} ${hex(this.kid)}>`;
  }
}

/**
 * Read type byte and key, and check everything that makes the key safe to use.
 *
 * Throws Malformed for an unknown type byte, a kind other than `expect`, and every key that the protocol refuses:
 * non-canonical, small order, off the curve, above the modulus, RSA other than 3072 bits with e = 65537.
 */
export function decodePublicKey(data: Uint8Array, expect?: KeyKind | readonly KeyKind[]): PublicKey {
  const kind = data[0];
  if (kind === undefined || !NAMES.has(kind)) throw new Malformed("key: unknown type byte");
  // The field decides the kind, not the sender: else a P-256 signing key could be passed off as an agreement key.
  if (expect !== undefined && !(typeof expect === "number" ? [expect] : expect).includes(kind as KeyKind))
    throw new Malformed(`key: ${String(NAMES.get(kind))} is not the kind expected here`);
  return new PublicKey(kind as KeyKind, new Uint8Array(data.subarray(1)));
}

/** What P-256 signatures are made over. RFC 9053 section 2.1: ES256. */
export const ECDSA = { name: "ECDSA", hash: "SHA-256" } as const;

/**
 * Check a 64-byte signature of `by` (Ed25519, or P-256 with SHA-256 as raw r‖s) over `data`.
 *
 * Rejects with InvalidSignature when it does not hold; throws a TypeError for a key that does not sign (a caller's
 * mistake). S >= L is refused, and R compared as bytes, without the cofactor.
 */
export async function verify(by: PublicKey, signature: Uint8Array, data: Uint8Array): Promise<void> {
  if (!SIGNING_KINDS.includes(by.kind)) throw new TypeError(`${by.kindName} keys do not sign`);
  if (signature.length !== SIGNATURE_SIZE) throw new InvalidSignature("signature is not 64 bytes");
  if (!(await holds(by, signature as Bytes, data as Bytes))) throw new InvalidSignature("signature does not hold");
}

async function holds(by: PublicKey, signature: Bytes, data: Bytes): Promise<boolean> {
  if (by.kind === KeyKind.ED25519 && !(await hasCurve("Ed25519")))
    return (await import("./noble_curves.js")).verifyEd25519(by.raw, signature, data);
  try {
    // Both s and n - s hold for P-256. A low-s rule would refuse honest HSMs, so signatures are never identifiers.
    const algorithm = by.kind === KeyKind.ED25519 ? "Ed25519" : ECDSA;
    return await crypto.subtle.verify(algorithm, await by.imported(), signature, data);
  } catch {
    return false; // some engines refuse a point off the curve at import
  }
}
