# SPDX-License-Identifier: Apache-2.0
"""The refusals of the protocol core: one class for each reaction that a caller can have.

Implements the rule of one error for wrong key, wrong context and tampering: nothing here is an oracle.
Does not know HTTP; services and clients translate.
"""


class HoldfastError(Exception):
    """Root of every refusal of the core. A TypeError or ValueError instead is the caller's own mistake."""


class Malformed(HoldfastError):
    """The bytes are not in the format: refuse them, keep nothing of them."""


class Mistyped(Malformed):
    """What a person typed or pasted, or a file of theirs holds, is not what was asked for: a slip, and no attack."""


class InvalidSignature(HoldfastError):
    """A signature does not hold over these bytes, for this purpose, under this key."""


class UnwrapFailed(HoldfastError):
    """A sealed or wrapped thing does not open: wrong key, wrong context or tampering, never said which."""


class QuorumNotMet(HoldfastError):
    """Fewer distinct, entitled signers than the policy asks for."""


class Untrusted(HoldfastError):
    """Well-formed and signed, yet not by or about whom this verifier trusts (chain, pin, tenant)."""


class Expired(HoldfastError):
    """Outside its time: past its expiry, or issued too far ahead of the verifier's clock."""


class OutOfBounds(HoldfastError):
    """Parameters that a client refuses to work with, whoever signed or stored them."""


class Unusable(OutOfBounds):
    """A secret or a number that a person chose or typed and that cannot be one: theirs to correct, and no attack."""


class Forked(Untrusted):
    """Two valid entries claim one place in a chain: raise an alarm and keep both as evidence."""
