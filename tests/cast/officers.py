# SPDX-License-Identifier: Apache-2.0
"""Officers with the private keys that live in their own vaults, and the terms that a test's tenant is founded under."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from holdfast.core.crypto.keys import PublicKey, SealingKey, SigningKey
from holdfast.core.identity.policy import ApproveWith, DepositRule, Officer, Terms


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
