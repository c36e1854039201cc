// SPDX-License-Identifier: Apache-2.0
/**
 * The refusals of the protocol core: one class for each reaction that a caller can have.
 *
 * One error for wrong key, wrong context and tampering: nothing here is an oracle. Does not know HTTP; the client
 * translates.
 */

/** Root of every refusal of the core. A TypeError or RangeError instead is the caller's own mistake. */
export class HoldfastError extends Error {
  // Written out in each class: a bundler that makes code small gives classes other names.
  override get name(): string {
    return "HoldfastError";
  }
}

/** The bytes are not in the format: refuse them, keep nothing of them. */
export class Malformed extends HoldfastError {
  override get name(): string {
    return "Malformed";
  }
}

/** What a person typed or pasted, or a file of theirs holds, is not what was asked for: a slip, and no attack. */
export class Mistyped extends Malformed {
  override get name(): string {
    return "Mistyped";
  }
}

/** A signature does not hold over these bytes, for this purpose, under this key. */
export class InvalidSignature extends HoldfastError {
  override get name(): string {
    return "InvalidSignature";
  }
}

/** A sealed or wrapped thing does not open: wrong key, wrong context or tampering, never said which. */
export class UnwrapFailed extends HoldfastError {
  override get name(): string {
    return "UnwrapFailed";
  }
}

/** Fewer distinct, entitled signers than the policy asks for. */
export class QuorumNotMet extends HoldfastError {
  override get name(): string {
    return "QuorumNotMet";
  }
}

/** Well-formed and signed, yet not by or about whom this verifier trusts (chain, pin, tenant). */
export class Untrusted extends HoldfastError {
  override get name(): string {
    return "Untrusted";
  }
}

/** Outside its time: past its expiry, or issued too far ahead of the verifier's clock. */
export class Expired extends HoldfastError {
  override get name(): string {
    return "Expired";
  }
}

/** Parameters that a client refuses to work with, whoever signed or stored them. */
export class OutOfBounds extends HoldfastError {
  override get name(): string {
    return "OutOfBounds";
  }
}

/** A secret or a number that a person chose or typed and that cannot be one: theirs to correct, and no attack. */
export class Unusable extends OutOfBounds {
  override get name(): string {
    return "Unusable";
  }
}

/** Two valid entries claim one place in a chain: raise an alarm and keep both as evidence. */
export class Forked extends Untrusted {
  override get name(): string {
    return "Forked";
  }
}
