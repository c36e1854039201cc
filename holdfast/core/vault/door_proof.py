# SPDX-License-Identifier: Apache-2.0
"""A person's word that they have just opened a door of their vault: what they could open then, they can open again.

Implements the statement `door-proof` of PROTOCOL section 3; ESCROW "Policy and officers".
Does not open doors: a client does, and signs this only after it has.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

from holdfast.core.base.errors import Expired, Untrusted
from holdfast.core.base.writing import read_back
from holdfast.core.crypto.keys import PublicKey
from holdfast.core.signed.cose import Purpose, Sign1
from holdfast.core.signed.payloads import (
    HASH_SIZE,
    Header,
    check_time,
    close_payload,
    open_payload,
    require_user,
)

MAX_KIND: Final = 32  # characters: field 2 of a door, of which "officers-password" is the longest today
MAX_AGE_SECONDS: Final = 3600  # when it is taken: it speaks of now, and an hour forgives clocks and slow lines


@dataclass(frozen=True)
class DoorProof:
    """One door was opened. kind: field 2 of its blob. blob_hash: SHA-256 of the blob, 32 bytes."""

    PURPOSE: ClassVar = Purpose.DOOR_PROOF

    header: Header
    kind: str
    blob_hash: bytes

    @read_back("from_payload")
    def to_payload(self) -> bytes:
        """Return the payload bytes. PROTOCOL section 3, `door-proof`."""
        return close_payload(self.header, {7: self.kind, 8: self.blob_hash})

    @classmethod
    def from_payload(cls, payload: bytes) -> DoorProof:
        """Read the payload; raises Malformed."""
        header, fields = open_payload(payload, "door proof", (7, 8))
        require_user(header, "door proof")
        return cls(header, fields.text(7, maximum=MAX_KIND), fields.octets(8, HASH_SIZE))


def verify_door_proof(
    statement: Sign1, *, aik: PublicKey, tenant: bytes, user: bytes, kind: str, blob_hash: bytes, at: int
) -> DoorProof:
    """Check that a person proves, at `at` (UTC seconds), the door of this kind and SHA-256 of its blob.

    Raises Malformed, InvalidSignature; Untrusted for another's proof or another door's; Expired for one that is older
    than an hour, or dated ahead.
    """
    proof = DoorProof.from_payload(statement.verify(aik, purpose=Purpose.DOOR_PROOF))
    said = (proof.header.tenant, proof.header.user, proof.kind, proof.blob_hash)
    if said != (tenant, user, kind, blob_hash):
        raise Untrusted("the proof is about another door")
    check_time(proof.header, at)
    if proof.header.issued_at < at - MAX_AGE_SECONDS:
        raise Expired("the door was opened too long ago: open it again")
    return proof
