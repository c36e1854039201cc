# SPDX-License-Identifier: Apache-2.0
"""A person's own word on which two keys are theirs as an officer, by the identity key of their account.

Implements the statement `officer` of PROTOCOL section 3; ESCROW "Policy and officers".
Does not make anybody an officer: a policy does, and each row of its roster rests on such a statement.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from holdfast.core.base.encoding import Encodable
from holdfast.core.base.errors import Untrusted
from holdfast.core.base.writing import read_back
from holdfast.core.crypto.keys import SIGNING_KINDS, KeyKind, PublicKey
from holdfast.core.signed.cose import Purpose, Sign1
from holdfast.core.signed.payloads import (
    HASH_SIZE,
    ID_SIZE,
    Header,
    close_payload,
    open_payload,
    read_key,
    require_user,
)


@dataclass(frozen=True)
class OfficerStatement:
    """Which keys are a person's as an officer.

    person: 16 bytes, the header's user. signing_key: signs policies, approvals, resolutions. sealing_key: the X-Wing
    key to which devices seal the person's shares. predecessor: 32 bytes, the hash of the person's statement before this
    one; empty in the first.
    """

    PURPOSE: ClassVar = Purpose.OFFICER

    header: Header
    person: bytes
    signing_key: PublicKey
    sealing_key: PublicKey
    predecessor: bytes = b""

    @read_back("from_payload")
    def to_payload(self) -> bytes:
        """Return the payload bytes. PROTOCOL section 3, `officer`."""
        fields: dict[int, Encodable] = {7: self.person, 8: self.signing_key.encoded, 9: self.sealing_key.encoded}
        return close_payload(self.header, fields | ({10: self.predecessor} if self.predecessor else {}))

    @classmethod
    def from_payload(cls, payload: bytes) -> OfficerStatement:
        """Read the payload; raises Malformed, also when it is about another person than its user."""
        header, fields = open_payload(payload, "officer statement", (7, 8, 9), (10,))
        require_user(header, "officer statement")
        person = fields.octets(7, ID_SIZE)
        # Two fields, one person: who speaks of another's keys is refused before a key of theirs is even asked for.
        if person != header.user:
            raise fields.refuse(7, "is not the user whose account says it")
        return cls(
            header=header,
            person=person,
            signing_key=read_key(fields, 8, SIGNING_KINDS),
            sealing_key=read_key(fields, 9, KeyKind.X_WING),
            predecessor=fields.octets(10, HASH_SIZE) if 10 in fields else b"",
        )


def verify_officer_statement(statement: Sign1, *, aik: PublicKey, tenant: bytes, user: bytes) -> OfficerStatement:
    """Check that a person's account says it, and return what is said. aik: the identity key that their chain names now.

    By no former identity key: whoever has a device that was revoked still has that one, and would name keys of their
    own. After a rotation the person's client states the same keys again. Raises Malformed, InvalidSignature; Untrusted
    for the statement of another tenant or person.
    """
    said = OfficerStatement.from_payload(statement.verify(aik, purpose=Purpose.OFFICER))
    if (said.header.tenant, said.person) != (tenant, user):
        raise Untrusted("officer statement of another person or tenant")
    return said
