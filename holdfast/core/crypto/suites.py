# SPDX-License-Identifier: Apache-2.0
"""The four suites: which kinds of key go together under one byte.

Implements the table of PROTOCOL section 1. Nothing is negotiated: an unknown byte stops.
Does not say which suite a contact may move to; that is the handshake's rule.
"""

from enum import IntEnum

from holdfast.core.crypto.keys import KeyKind


class Suite(IntEnum):
    """A suite byte. Appending one is a new protocol version; the four below never change their meaning."""

    CLASSICAL = 0x01
    HYBRID = 0x02
    CLASSICAL_P256 = 0x03
    HYBRID_P256 = 0x04

    @property
    def signing_kind(self) -> KeyKind:
        """The kind of the device's identity signing key."""
        return KeyKind.ED25519 if self <= Suite.HYBRID else KeyKind.P256_SIGNING

    @property
    def agreement_kind(self) -> KeyKind:
        """The kind of the identity agreement key and of every pre-key's DH half."""
        return KeyKind.X25519 if self <= Suite.HYBRID else KeyKind.P256_AGREEMENT

    @property
    def has_kem(self) -> bool:
        """Whether a pre-key is a pair with an ML-KEM-768 key."""
        return self in (Suite.HYBRID, Suite.HYBRID_P256)


# Hybrid, because what is recorded today can be kept for a quantum computer; X25519, because ML-KEM is young. It holds
# while one of the two holds. P-256 is for those who must use FIPS-approved primitives.
DEFAULT_SUITE = Suite.HYBRID
