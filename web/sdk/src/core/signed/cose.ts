// SPDX-License-Identifier: Apache-2.0
/**
 * Signed statements: untagged COSE_Sign1 over the strict CBOR profile, one purpose each.
 *
 * RFC 9052 sections 4.2 and 4.4; alg -8 EdDSA, -7 ES256 (RFC 9053 sections 2.2 and 2.1). Does not know what payloads
 * mean, and never re-encodes to verify: received bytes are what is checked and kept.
 */
import { type Bytes, equal, hex, utf8 } from "../base/bytes.js";
import { decode, type Encodable, encode, Fields, MAX_STATEMENT, type Value } from "../base/encoding.js";
import { InvalidSignature, Malformed } from "../base/errors.js";
import { sha256 } from "../crypto/hashing.js";
import { KeyKind, KID_SIZE, type PublicKey, SIGNATURE_SIZE, verify } from "../crypto/public_keys.js";

/** What a statement is for: the whole list. One signature never serves two. */
export const PURPOSES = [
  "chain", "device", "prekey", "sync", "share-manifest", "share-request", "escrow-key", "offline-key", "policy",
  "officer", "roles", "officer-state", "resolution", "receipt", "door-proof", "consent", "deposit", "case", "approval",
  "veto", "reseal", "reshare", "rewrap", "attestation", "custody", "archive", "export", "log-head", "transcript",
] as const;
export type Purpose = (typeof PURPOSES)[number];

// RFC 9052 section 3.1: header labels. Both stand in the protected bucket, which the signature covers.
const ALG = 1;
const KID = 4; // protected too, though RFC 9052 lets it stand outside: nobody relabels a statement
const EDDSA = -8, ES256 = -7;
/** The tenant root and sixteen officers sign one statement at most. */
export const MAX_SIGNERS = 17;
// A protected header has one encoding, which ends with the kid: what stands before it is one of these two.
const HEADS = [EDDSA, ES256].map(alg => {
  const whole = encode(new Map<number, Encodable>([[ALG, alg], [KID, new Uint8Array(KID_SIZE)]]));
  return [alg, whole.slice(0, -KID_SIZE)] as const;
});

function algorithmOf(key: PublicKey): number | undefined {
  return key.kind === KeyKind.ED25519 ? EDDSA : key.kind === KeyKind.P256_SIGNING ? ES256 : undefined;
}

function toBeSigned(header: Bytes, payload: Bytes, purpose: Purpose): Bytes {
  // Sig_structure of RFC 9052 section 4.4. The purpose is external aad: it is never read from the statement, the
  // verifier says which one it expects, so a signature for a consent is none for a policy.
  return encode(["Signature1", header, utf8(`holdfast/v1/${purpose}`), payload]);
}

/** One COSE_Sign1 as received or as made here. Nothing in it is trusted until `verify` has fulfilled. */
export class Sign1 {
  /** The COSE algorithm: -8 EdDSA or -7 ES256. */
  readonly alg: number;
  /** The 16-byte name of the key that claims to have signed. */
  readonly kid: Bytes;
  #payloadHash: Bytes | undefined;
  #entryHash: Bytes | undefined;

  constructor(
    readonly header: Bytes,
    readonly payload: Bytes,
    readonly signature: Bytes,
  ) {
    const algorithm = HEADS.find(([, head]) => equal(head, header.subarray(0, -KID_SIZE)))?.[0];
    if (algorithm === undefined) throw new Malformed("protected header: not EdDSA or ES256 and a kid of 16 bytes");
    this.alg = algorithm;
    this.kid = header.slice(-KID_SIZE);
  }

  /** Read one statement of at most `maxSize` bytes. Throws Malformed. */
  static parse(data: Uint8Array, maxSize: number = MAX_STATEMENT): Sign1 {
    return Sign1.fromValue(decode(data, maxSize));
  }

  /** Read one statement that stands inside another structure, already decoded. Throws Malformed. */
  static fromValue(value: Value): Sign1 {
    const row = Fields.ofRow(value, "statement", 4);
    // The unprotected bucket is not signed: whatever stood there, anybody could have written.
    const unsigned = row.value(1);
    if (!(unsigned instanceof Map) || unsigned.size !== 0) throw row.refuse(1, "is not the empty map");
    return new Sign1(row.octets(0), row.octets(2), row.octets(3, SIGNATURE_SIZE));
  }

  /** SHA-256 of the payload: how one statement names another, whoever signed it and however often. */
  get payloadHash(): Bytes {
    return (this.#payloadHash ??= sha256(this.payload));
  }

  /**
   * SHA-256(dCBOR([protected, payload])): how a chain names its entries.
   *
   * The signature stays out: ECDSA is malleable, so its bytes identify nothing.
   */
  get entryHash(): Bytes {
    return (this.#entryHash ??= sha256(encode([this.header, this.payload])));
  }

  /** Return the four parts, for a structure that carries this statement inside. */
  value(): Encodable[] {
    return [this.header, new Map(), this.payload, this.signature];
  }

  /** Return the bytes of the statement: the received ones, since only one encoding parses. */
  encode(): Bytes {
    return encode(this.value());
  }

  /**
   * Check that `by` signed this payload for this purpose, and return the payload.
   *
   * Rejects with InvalidSignature for another key, algorithm, purpose or any changed bit, without saying which.
   */
  async verify(by: PublicKey, purpose: Purpose): Promise<Bytes> {
    // The key decides the algorithm, never the statement: alg must agree with it, so no signature is checked by the
    // rules of another scheme. The kid is public and compared as such.
    if (!equal(this.kid, by.kid) || this.alg !== algorithmOf(by))
      throw new InvalidSignature("statement is not signed by this key");
    // Over the protected bytes as received: a header encoded again could differ from the one that was signed.
    await verify(by, this.signature, toBeSigned(this.header, this.payload, purpose));
    return this.payload;
  }
}

/** What signs a statement: a `SigningKey`, or a key elsewhere that only gives its public half and signatures. */
export interface Signer {
  readonly public: PublicKey;
  sign(data: Uint8Array): Promise<Bytes>;
}

/** Sign `payload` for one purpose. RFC 9052 section 4.4, external_aad = "holdfast/v1/" + purpose. */
export async function sign(payload: Bytes, purpose: Purpose, key: Signer): Promise<Sign1> {
  const algorithm = algorithmOf(key.public);
  if (algorithm === undefined) throw new TypeError(`${key.public.kindName} keys do not sign`);
  const header = encode(new Map<number, Encodable>([[ALG, algorithm], [KID, key.public.kid]]));
  return new Sign1(header, payload, await key.sign(toBeSigned(header, payload, purpose)));
}

/** Return the array of one payload's statements. Throws a RangeError if the payloads differ. */
export function encodeMany(statements: readonly Sign1[]): Bytes {
  if (new Set(statements.map((one) => hex(one.payload))).size !== 1)
    throw new RangeError("several signers sign identical payload bytes");
  return encode(statements.map((one) => one.value()));
}

/**
 * Read a statement of 1 to 17 signers, each copy at most `maxSize` bytes.
 *
 * Throws Malformed for differing payloads, and for one key signing twice: a quorum counts entries.
 */
export function parseMany(data: Uint8Array, maxSize: number = MAX_STATEMENT): Sign1[] {
  const value = decode(data, MAX_SIGNERS * maxSize);
  if (!Array.isArray(value)) throw new Malformed("statement of several signers: not an array");
  return manyFromValue(value, maxSize);
}

/** Read a statement of several signers that is already decoded. Throws Malformed as `parseMany` does. */
export function manyFromValue(value: readonly Value[], maxSize: number = MAX_STATEMENT): Sign1[] {
  if (value.length < 1 || value.length > MAX_SIGNERS)
    throw new Malformed("statement of several signers: not 1..17 signatures");
  const statements = value.map((item) => Sign1.fromValue(item));
  const payload = (statements[0] as Sign1).payload;
  // Identical bytes, not equal meaning: each officer has signed just what the others have.
  if (payload.length > maxSize || !statements.every((one) => equal(one.payload, payload)))
    throw new Malformed("statement of several signers: payload too large, or not one");
  // One officer must not make a quorum by signing twice; an ECDSA twin is a second signature for free.
  if (new Set(statements.map((one) => hex(one.kid))).size !== statements.length)
    throw new Malformed("statement of several signers: one key signs twice");
  return statements;
}
