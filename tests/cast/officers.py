# SPDX-License-Identifier: Apache-2.0
"""Officers with the private keys that live in their own vaults, and the terms that a test's tenant is founded under."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from holdfast.core.crypto.keys import PublicKey, SealingKey, SigningKey
from holdfast.core.escrow.approvals import Approver, approve
from holdfast.core.escrow.deposit import Deposit
from holdfast.core.identity.policy import ApproveWith, DepositRule, Officer, Terms
from holdfast.core.signed.cose import Sign1


@dataclass
class Founder:
    """One officer with their private keys. person: 16 bytes."""

    person: bytes = field(default_factory=lambda: secrets.token_bytes(16))
    signing_key: SigningKey = field(default_factory=SigningKey.generate)
    sealing_key: SealingKey = field(default_factory=SealingKey.generate)

    def row(self, index: int) -> Officer:
        """This officer's row of a roster."""
        return Officer(index, self.person, self.signing_key.public, self.sealing_key.public)


def roster_of(founders: Iterable[Founder]) -> tuple[Officer, ...]:
    """The roster of these officers, numbered from 1."""
    return tuple(founder.row(index) for index, founder in enumerate(founders, 1))


def make_terms(release_signing_key: PublicKey, release_sealing_key: PublicKey, **changes: Any) -> Terms:
    """Terms under which nothing waits, unless told otherwise."""
    given: dict[str, Any] = {
        "delay_seconds": 0,
        "max_notice_delay_seconds": 0,
        "cooling_off_seconds": 0,
        "undelivered_delay_seconds": 0,
        "approve_with": ApproveWith.CLI,
        "purposes": frozenset({"device-loss", "legal"}),
        "deposits": DepositRule.FROM_CONSENT,
        "release_signing_key": release_signing_key,
        "release_sealing_key": release_sealing_key,
    }
    return Terms(**(given | changes))


def approve_as(case: Sign1, deposits: Mapping[bytes, Deposit], approver: Approver, **changes: Any) -> Any:
    """Approve as an officer would, but for `changes`: of the approver, or of what `approvals.approve` is told."""
    own = {name: changes.pop(name) for name in [*changes] if name in {one.name for one in fields(Approver)}}
    given = {"identity_check": "seen in person"} | changes
    if "policy" in given:
        given.setdefault("release_key", given["policy"].policy.terms.release_sealing_key)
    return approve(case, deposits, by=replace(approver, **own), **given)
