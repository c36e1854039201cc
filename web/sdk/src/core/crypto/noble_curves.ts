// SPDX-License-Identifier: Apache-2.0
/** The two curves of RFC 7748 and RFC 8032 where WebCrypto lacks them; loaded then only. */
import { ed25519, x25519 } from "@noble/curves/ed25519.js";
import { sha512 } from "@noble/hashes/sha2.js";
import { type Bytes, concat, equal } from "../base/bytes.js";
import { Malformed } from "../base/errors.js";

/** Return the public key of a 32-byte seed. */
export function ed25519Public(seed: Uint8Array): Bytes {
  return ed25519.getPublicKey(seed) as Bytes;
}

/** Return a signature of 64 bytes. */
export function signEd25519(seed: Uint8Array, data: Uint8Array): Bytes {
  return ed25519.sign(data, seed) as Bytes;
}

/** Tell whether a signature holds, as the engines' own code does: without the cofactor, R compared as bytes. */
export function verifyEd25519(raw: Uint8Array, signature: Uint8Array, data: Uint8Array): boolean {
  const { Point } = ed25519;
  try {
    const [r, s] = [signature.subarray(0, 32), fromLittleEndian(signature.subarray(32))];
    if (s >= Point.Fn.ORDER) return false;
    const k = fromLittleEndian(sha512(concat(r, raw, data))) % Point.Fn.ORDER;
    // noble's own check multiplies by the cofactor, and so takes signatures that the others refuse.
    const expected = multiple(Point.BASE, s).subtract(multiple(Point.fromBytes(raw), k));
    return equal(expected.toBytes(), r);
  } catch {
    return false;
  }
}

function multiple(point: typeof ed25519.Point.BASE, by: bigint): typeof ed25519.Point.BASE {
  return by === 0n ? ed25519.Point.ZERO : point.multiplyUnsafe(by);
}

function fromLittleEndian(data: Uint8Array): bigint {
  let value = 0n;
  for (let at = data.length - 1; at >= 0; at--) value = (value << 8n) | BigInt(data[at] as number);
  return value;
}

/** Return the public key of a 32-byte scalar. */
export function x25519Public(scalar: Uint8Array): Bytes {
  return x25519.getPublicKey(scalar) as Bytes;
}

/** Return the shared secret of 32 bytes. Throws Malformed for an all-zero one. */
export function x25519Exchange(scalar: Uint8Array, peer: Uint8Array): Bytes {
  try {
    return x25519.getSharedSecret(scalar, peer) as Bytes;
  } catch {
    throw new Malformed("key agreement: all-zero secret");
  }
}
