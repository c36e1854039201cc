# SPDX-License-Identifier: Apache-2.0
"""The public halves of pre-keys: the signed one, the one-time ones, and the statement over a batch of them.

Implements PROTOCOL sections 2 and 3 (`prekey`).
Does not verify anything: `bundle` does, for the server on upload and for the sender on claim.
"""

from dataclasses import dataclass
from typing import ClassVar, Final

from holdfast.core.base.encoding import Encodable, Fields, decode, encode
from holdfast.core.base.writing import read_back
from holdfast.core.crypto.keys import KeyKind, PublicKey
from holdfast.core.crypto.suites import Suite
from holdfast.core.signed.cose import Purpose
from holdfast.core.signed.payloads import (
    HASH_SIZE,
    ID_SIZE,
    MAX_U32,
    Header,
    close_payload,
    open_payload,
    read_key,
    read_suite,
    require_device,
)

# A sender may begin with a kept bundle until this ends. It bounds, too, for how long a stolen private half opens first
# messages that had no one-time key: X3DH "Key compromise" asks for replacement on a schedule.
SIGNED_PRE_KEY_LIFE_SECONDS: Final = 30 * 86400
# Seven hashes prove one of up to 128 leaves; 100 hybrid keys are some 127 KB to upload.
MAX_BATCH: Final = 100


def _read_pre_key_halves(fields: Fields, suite: Suite, dh: int, kem: int) -> tuple[PublicKey, PublicKey | None]:
    # Exactly as the suite says: a hybrid pre-key without its ML-KEM half would make a classical session (FAULTS S8).
    if (kem in fields) is not suite.has_kem:
        raise fields.refuse(kem, "does not fit the suite")
    return (
        read_key(fields, dh, suite.agreement_kind),
        read_key(fields, kem, KeyKind.ML_KEM_768) if suite.has_kem else None,
    )


@dataclass(frozen=True)
class SignedPreKey:
    """The signed pre-key of a device: used when no one-time key is left, and in every handshake."""

    PURPOSE: ClassVar = Purpose.PREKEY

    header: Header
    suite: Suite
    key_id: int
    dh: PublicKey
    kem: PublicKey | None

    @read_back("from_payload")
    def to_payload(self) -> bytes:
        """Return the payload bytes. PROTOCOL section 3, `prekey` of kind 1."""
        kem = {12: self.kem.encoded} if self.kem else {}
        return close_payload(self.header, {7: int(self.suite), 8: self.key_id, 9: 1, 11: self.dh.encoded, **kem})

    @classmethod
    def from_payload(cls, payload: bytes) -> "SignedPreKey":
        """Read the payload; raises Malformed, also for a life above 30 days or none stated."""
        header, fields = open_payload(payload, "signed pre-key", (7, 8, 9, 11), (12,))
        require_device(header, "signed pre-key")
        # One purpose has two shapes: field 9 is in the signature and keeps one from being read as the other.
        if fields.uint(9) != 1:
            raise fields.refuse(9, "is not the kind of a signed pre-key")
        # 0 would be "for ever": a server could go on offering a key whose private half was stolen years ago.
        if not 0 < header.expires_at <= header.issued_at + SIGNED_PRE_KEY_LIFE_SECONDS:
            raise fields.refuse(6, "is not within 30 days of issue")
        suite = read_suite(fields, 7)
        dh, kem = _read_pre_key_halves(fields, suite, 11, 12)
        return cls(header, suite, fields.uint(8, maximum=MAX_U32), dh, kem)


@dataclass(frozen=True)
class BatchStatement:
    """One signature over the Merkle root of up to 100 one-time pre-keys."""

    PURPOSE: ClassVar = Purpose.PREKEY

    header: Header
    suite: Suite
    batch_id: bytes
    size: int
    root: bytes

    @read_back("from_payload")
    def to_payload(self) -> bytes:
        """Return the payload bytes. PROTOCOL section 2, batch statement."""
        return close_payload(
            self.header,
            {7: int(self.suite), 9: 2, 10: self.batch_id, 13: self.size, 14: self.root},
        )

    @classmethod
    def from_payload(cls, payload: bytes) -> "BatchStatement":
        """Read the payload; raises Malformed, also for more than 100 leaves."""
        header, fields = open_payload(payload, "pre-key batch", (7, 9, 10, 13, 14))
        require_device(header, "pre-key batch")
        if fields.uint(9) != 2:
            raise fields.refuse(9, "is not the kind of a batch")
        return cls(
            header=header,
            suite=read_suite(fields, 7),
            batch_id=fields.octets(10, ID_SIZE),
            size=fields.uint(13, minimum=1, maximum=MAX_BATCH),
            root=fields.octets(14, HASH_SIZE),
        )


@dataclass(frozen=True)
class OneTimePreKey:
    """The public half of a one-time pre-key, as its leaf in a batch, whose statement is its header."""

    key_id: int
    dh: PublicKey
    kem: PublicKey | None

    def to_leaf(self) -> bytes:
        """Return dCBOR{1: key id, 2: DH public, 3: ML-KEM public}. PROTOCOL section 2."""
        kem: dict[int, Encodable] = {3: self.kem.encoded} if self.kem else {}
        return encode({1: self.key_id, 2: self.dh.encoded, **kem})

    @classmethod
    def from_leaf(cls, leaf: bytes, suite: Suite) -> "OneTimePreKey":
        """Read a leaf of a batch of `suite`; raises Malformed."""
        fields = Fields(decode(leaf), "one-time pre-key", (1, 2), (3,))
        dh, kem = _read_pre_key_halves(fields, suite, 2, 3)
        return cls(fields.uint(1, maximum=MAX_U32), dh, kem)
