# SPDX-License-Identifier: Apache-2.0
"""Other people's pre-key bundles: claimed once, and believed only after every signature and proof has held.

Implements PROTOCOL section 7 on `holdfast.core.messages.bundle`; FAULTS S12, S13 and X9.
Does not agree on a secret; a session does, with what is returned here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from holdfast.client.errors import Problem, TrustRefused
from holdfast.client.identity import contacts, peers
from holdfast.client.profile.account import Account
from holdfast.client.server.answers import Answer
from holdfast.core.base.errors import Expired, HoldfastError
from holdfast.core.crypto.suites import Suite
from holdfast.core.identity.chain import ChainState
from holdfast.core.messages.bundle import OneTimePart, PreKeyBundle, VerifiedBundle, verify_bundle
from holdfast.core.signed.cose import Sign1

Refresh = Callable[[Account, bytes], ChainState]
MAX_DEVICES: Final = 100  # more than a chain lists (64): an answer with more is no honest one
_WAY_OUT: Final = (
    "Nothing was sent. Try again later; if this goes on, the server hands out keys that are not this person's: "
    "tell your officers."
)
_EXPIRED: Final = "Ask the person to run `holdfast maintain` on that device, which publishes fresh keys."


class ExpiredBundle(TrustRefused):
    """A bundle whose signatures hold and whose time is over: its device was off, or a newer one is withheld."""


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
    state, found = claim_devices(account, peers.refresh(account, user), None)
    return Claimed(contacts.identity_words(state), found)


def claim_devices(
    account: Account, state: ChainState, devices: Collection[bytes] | None, *, refresh: Refresh = peers.refresh
) -> tuple[ChainState, list[ClaimedBundle]]:
    """Claim a bundle of some devices (16 bytes each) of the user of a verified chain, or of all: None.

    refresh: fetches the chain when they added or revoked a device in between. Returns the chain that the bundles were
    held against, and fewer of them than were asked for when a device has published none, or was off until what it had
    published expired. Raises as `claim` does.
    """
    if devices is None or len(devices) > 1:
        answer = account.api.post(f"users/{UUID(bytes=state.user)}/claim", {})
        head, rows = answer.octets("chain_head", 32), list(answer.many("bundles", maximum=MAX_DEVICES))
        named = [(row.identifier("device_id"), row) for row in rows]
    else:
        named = [row for device in devices for row in _claim_one(account, device)]
        if not named:
            # It may be off the account since the chain was fetched: the answer that it has no bundle says no head.
            return refresh(account, state.user), []
        head = named[0][1].octets("chain_head", 32)
    if head not in state.hashes:
        state = refresh(account, state.user)
    if head not in state.hashes:
        raise TrustRefused(
            "The bundles name an account chain that the server does not show.",
            way_out="Try again later; if this goes on, tell your officers that the server hides part of a chain.",
        )
    if len({device for device, _ in named}) != len(named):
        raise TrustRefused("The server sent two bundles of one device.", way_out=_WAY_OUT)
    found, expired = [], []
    for device, row in named:
        try:
            found.append(_verify_bundle(account, state, device, row))
        except ExpiredBundle as error:
            # It was off until its pre-key expired: it has no keys now, and must not speak for the others.
            expired.append(error)
    if devices is None and expired and not found:
        raise expired[0]
    _pin_suite(account, state, [bundle.suite for bundle in found], is_whole=devices is None)
    return state, [bundle for bundle in found if devices is None or bundle.device.bytes in devices]


def has_keys(account: Account, device: bytes) -> bool:
    """Whether the server has pre-keys of a device that is in its account's chain. Asking uses one up."""
    return bool(_claim_one(account, device))


def _claim_one(account: Account, device: bytes) -> list[tuple[bytes, Answer]]:
    try:
        return [(device, account.api.post(f"devices/{UUID(bytes=device)}/claim", {}))]
    except Problem as problem:
        if problem.status != 404:
            raise
        return []


def _pin_suite(account: Account, state: ChainState, suites: list[Suite], *, is_whole: bool) -> None:
    """Pin the lowest suite that any device of a contact still has; a device of a lower one is refused from then on."""
    contact = account.state.contacts.get(state.user)
    if contact is None or not suites or not (is_whole or not contact.suite):
        return
    if contact.suite != int(min(suites)):
        contact.suite = int(min(suites))
        account.save()


def pinned_suite(account: Account, user: bytes) -> Suite | None:
    """Return the suite that a contact is held to; None for oneself, and for a contact not yet written to."""
    contact = account.state.contacts.get(user)
    return Suite(contact.suite) if contact and contact.suite else None


def _verify_bundle(account: Account, state: ChainState, device_id: bytes, row: Answer) -> ClaimedBundle:
    if row.number("v") != 1:
        raise TrustRefused("A bundle is of another version.", way_out=_WAY_OUT)
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
            pinned_suite=pinned_suite(account, state.user),
        )
    except Expired as error:
        raise ExpiredBundle(f"A bundle is not to be used: {error}.", way_out=_EXPIRED) from error
    except HoldfastError as error:
        raise TrustRefused(f"A bundle is not to be trusted: {error}.", way_out=_WAY_OUT) from error
    return ClaimedBundle(UUID(bytes=device_id), keys)


def _one_time(row: Answer) -> OneTimePart:
    return OneTimePart(
        batch=Sign1.parse(row.octets("batch")),
        leaf=row.octets("leaf", maximum=4096),
        index=row.number("index"),
        proof=row.octets("proof", maximum=1024),
    )
