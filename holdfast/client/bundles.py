# SPDX-License-Identifier: Apache-2.0
"""Other people's pre-key bundles: claimed once, and believed only after every signature and proof has held.

Implements PROTOCOL section 7 on `holdfast.core.bundle`; FAULTS S12, S13 and X9.
Does not agree on a secret; a session does, with what is returned here.
"""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from holdfast.client import contacts
from holdfast.client.account import Account
from holdfast.client.answers import Answer
from holdfast.client.errors import TrustRefused
from holdfast.core.bundle import OneTimePart, PreKeyBundle, VerifiedBundle, verify_bundle
from holdfast.core.chain import ChainState
from holdfast.core.cose import Sign1
from holdfast.core.errors import HoldfastError
from holdfast.core.suites import Suite

MAX_DEVICES: int = 100


@dataclass(frozen=True)
class ClaimedBundle:
    """One device's keys, verified. Without a one-time key the server said that none is left: shown (FAULTS S13)."""

    device: UUID
    keys: VerifiedBundle

    @property
    def suite(self) -> Suite:
        """The device's suite."""
        return self.keys.device.suite

    @property
    def is_last_resort(self) -> bool:
        """Whether the signed pre-key has to serve alone."""
        return self.keys.is_last_resort

    @property
    def one_time_key_id(self) -> int | None:
        """The id of the one-time pre-key."""
        return self.keys.one_time.key_id if self.keys.one_time else None


@dataclass(frozen=True)
class Claimed:
    """All bundles of one person, and the 8 words of that person's identity key."""

    identity_words: tuple[str, ...]
    devices: list[ClaimedBundle]


def claim(account: Account, user: bytes) -> Claimed:
    """Claim a bundle of each device of a person, and verify all of it against the pinned chain.

    Raises PeerChanged after a re-genesis until a human confirmed; TrustRefused when anything does not hold: one
    bad bundle spoils the claim, since a server that sends one is not to be believed about the others.
    """
    state = contacts.refresh(account, user)
    answer = account.api.post(f"users/{UUID(bytes=user)}/claim", {})
    head = answer.octets("chain_head", 32)
    if head != state.head:
        # She added or revoked a device in between: the bundles are judged by the chain as it is now.
        state = contacts.refresh(account, user)
    if head not in state.hashes:
        raise TrustRefused("The bundles name an account chain that the server does not show.")
    bundles = [_verified(account, state, row) for row in answer.many("bundles", maximum=MAX_DEVICES)]
    if len({one.device for one in bundles}) != len(bundles):
        raise TrustRefused("The server sent two bundles of one device.")
    if bundles:
        account.state.contacts[user].suite = int(max(one.suite for one in bundles))
        account.save()
    return Claimed(contacts.identity_words(state), bundles)


def _verified(account: Account, state: ChainState, row: Answer) -> ClaimedBundle:
    device_id = row.identifier("device_id")
    if row.number("v") != 1:
        raise TrustRefused("A bundle is of another version.")
    known = account.state.contacts[state.user].suite
    try:
        keys = verify_bundle(
            PreKeyBundle(
                suite=row.number("suite"),
                chain_head=row.octets("chain_head", 32),
                device_statement=Sign1.parse(row.octets("device_statement")),
                signed_pre_key=Sign1.parse(row.octets("signed_pre_key")),
                one_time=_one_time(row.one("one_time_pre_key")) if "one_time_pre_key" in row else None,
            ),
            chain=state,
            device=device_id,
            now=account.api.clock.latest(),
            pinned_suite=Suite(known) if known else None,
        )
    except HoldfastError as error:
        raise TrustRefused(f"A bundle is not to be trusted: {error}.") from error
    return ClaimedBundle(UUID(bytes=device_id), keys)


def _one_time(row: Answer) -> OneTimePart:
    return OneTimePart(
        batch=Sign1.parse(row.octets("batch")),
        leaf=row.octets("leaf", maximum=4096),
        index=row.number("index"),
        proof=row.octets("proof", maximum=1024),
    )
