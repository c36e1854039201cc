// SPDX-License-Identifier: Apache-2.0
/**
 * The four suites: which kinds of key go together under one byte. Nothing is negotiated: an unknown byte stops.
 *
 * Does not say which suite a contact may move to; that is the handshake's rule.
 */
import { KeyKind } from "./keys.js";

/** A suite byte. Appending one is a new protocol version; the four never change their meaning. */
export const Suite = { CLASSICAL: 0x01, HYBRID: 0x02, CLASSICAL_P256: 0x03, HYBRID_P256: 0x04 } as const;
export type Suite = (typeof Suite)[keyof typeof Suite];

/**
 * Hybrid, because what is recorded today can be kept for a quantum computer; X25519, because ML-KEM is young. It holds
 * while one of the two holds. P-256 is for those who must use FIPS-approved primitives.
 */
export const DEFAULT_SUITE: Suite = Suite.HYBRID;

/** Tell whether a number names a suite. */
export function isSuite(value: number): value is Suite {
  return value >= Suite.CLASSICAL && value <= Suite.HYBRID_P256;
}

/** The kind of the device's identity signing key. */
export function signingKind(suite: Suite): typeof KeyKind.ED25519 | typeof KeyKind.P256_SIGNING {
  return suite <= Suite.HYBRID ? KeyKind.ED25519 : KeyKind.P256_SIGNING;
}

/** The kind of the identity agreement key and of every pre-key's DH half. */
export function agreementKind(suite: Suite): typeof KeyKind.X25519 | typeof KeyKind.P256_AGREEMENT {
  return suite <= Suite.HYBRID ? KeyKind.X25519 : KeyKind.P256_AGREEMENT;
}

/** Whether a pre-key is a pair with an ML-KEM-768 key. */
export function hasKem(suite: Suite): boolean {
  return suite === Suite.HYBRID || suite === Suite.HYBRID_P256;
}
