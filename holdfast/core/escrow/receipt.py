# SPDX-License-Identifier: Apache-2.0
"""The release process's word that a deposit's half is that deposit's own: without it, a deposit does not count.

Implements the statement `receipt` of PROTOCOL section 3; ESCROW "Deposit". The web process sees a record before it is
stored and could have another's half put into a deposit of its own first; whoever was first in the log has the receipt.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import ClassVar

from holdfast.core.base.errors import Untrusted
from holdfast.core.base.writing import read_back
from holdfast.core.escrow.deposit import Deposit
from holdfast.core.identity.policy import Policy
from holdfast.core.log.merkle import MAX_SIZE
from holdfast.core.signed.cose import Purpose, Sign1
from holdfast.core.signed.payloads import (
    HASH_SIZE,
    ID_SIZE,
    Header,
    close_payload,
    open_payload,
    require_tenant_only,
)


@dataclass(frozen=True)
class Receipt:
    """One deposit whose log entry is the first with its half. Hashes are SHA-256; index: of the entry."""

    PURPOSE: ClassVar = Purpose.RECEIPT

    header: Header
    deposit_id: bytes
    record_hash: bytes
    half_hash: bytes
    index: int

    @read_back("from_payload")
    def to_payload(self) -> bytes:
        """Return the payload bytes. PROTOCOL section 3, `receipt`."""
        return close_payload(self.header, {7: self.deposit_id, 8: self.record_hash, 9: self.half_hash, 10: self.index})

    @classmethod
    def from_payload(cls, payload: bytes) -> Receipt:
        """Read the payload; raises Malformed."""
        header, fields = open_payload(payload, "receipt", range(7, 11))
        require_tenant_only(header, "receipt")
        return cls(
            header=header,
            deposit_id=fields.octets(7, ID_SIZE),
            record_hash=fields.octets(8, HASH_SIZE),
            half_hash=fields.octets(9, HASH_SIZE),
            index=fields.uint(10, maximum=MAX_SIZE),
        )


def verify_receipt(statement: Sign1, deposit: Deposit, policy: Policy, *, record_hash: bytes) -> Receipt:
    """Check the receipt of a deposit made under `policy`, by the release key that this policy names.

    record_hash: of the record that `deposit` was read from, 32 bytes. Raises InvalidSignature, Malformed; Untrusted for
    one of another tenant, deposit, record or half.
    """
    statement.verify(policy.terms.release_signing_key, purpose=Purpose.RECEIPT)
    receipt = Receipt.from_payload(statement.payload)
    head = deposit.header
    if (receipt.header.tenant, receipt.deposit_id) != (head.tenant, head.deposit_id):
        raise Untrusted("the receipt is of another tenant or deposit")
    # The half above all: a receipt for another half in this deposit's name is what a liar would show.
    for found, meant in ((receipt.record_hash, record_hash), (receipt.half_hash, deposit.half_hash)):
        if not hmac.compare_digest(found, meant):
            raise Untrusted("the receipt is for another record or another half")
    return receipt
