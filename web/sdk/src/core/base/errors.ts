// SPDX-License-Identifier: Apache-2.0
/**
 * The refusals of the protocol core: one class for each reaction that a caller can have.
 *
 * One error for wrong key, wrong context and tampering: nothing here is an oracle. Does not know HTTP; the client
 * translates.
 */

/** Root of every refusal of the core. A TypeError or RangeError instead is the caller's own mistake. */
export class HoldfastError extends Error {
  override get name(): string {
    return this.constructor.name;
  }
}

/** The bytes are not in the format: refuse them, keep nothing of them. */
export class Malformed extends HoldfastError {}

/** What a person typed or pasted, or a file of theirs holds, is not what was asked for: a slip, and no attack. */
export class Mistyped extends Malformed {}

/** A signature does not hold over these bytes, for this purpose, under this key. */
export class InvalidSignature extends HoldfastError {}

/** A sealed or wrapped thing does not open: wrong key, wrong context or tampering, never said which. */
export class UnwrapFailed extends HoldfastError {}

/** Fewer distinct, entitled signers than the policy asks for. */
export class QuorumNotMet extends HoldfastError {}

/** Well-formed and signed, yet not by or about whom this verifier trusts (chain, pin, tenant). */
export class Untrusted extends HoldfastError {}

/** Outside its time: past its expiry, or issued too far ahead of the verifier's clock. */
export class Expired extends HoldfastError {}

/** Parameters that a client refuses to work with, whoever signed or stored them. */
export class OutOfBounds extends HoldfastError {}

/** A secret or a number that a person chose or typed and that cannot be one: theirs to correct, and no attack. */
export class Unusable extends OutOfBounds {}

/** Two valid entries claim one place in a chain: raise an alarm and keep both as evidence. */
export class Forked extends Untrusted {}
