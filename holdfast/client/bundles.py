# SPDX-License-Identifier: Apache-2.0
"""Other people's pre-key bundles: claimed once, and believed only after every signature and proof has held.

Implements PROTOCOL section 7 and the checks of section 4 before any DH; FAULTS S12, S13 and X9.
Does not agree on a secret; a session does, with what is returned here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from holdfast.client import contacts
from holdfast.client.account import Account
from holdfast.client.answers import Answer
from holdfast.client.errors import TrustRefused
from holdfast.core import merkle
from holdfast.core.chain import ChainState
from holdfast.core.cose import Purpose, Sign1
from holdfast.core.errors import HoldfastError
from holdfast.core.payloads import Header, check_time
from holdfast.core.prekeys import BatchStatement, OneTimePreKey, SignedPreKey
from holdfast.core.statements import DeviceStatement
from holdfast.core.suites import Suite

# The only moves of suite that need no human: adding the post-quantum half.
_UPGRADES: Final = {Suite.CLASSICAL: Suite.HYBRID, Suite.CLASSICAL_P256: Suite.HYBRID_P256}


@dataclass(frozen=True)
class ClaimedBundle:
    """One device's keys, verified. one_time is None when the server said that none is left (shown, FAULTS S13)."""

    device: UUID
    statement: DeviceStatement
    signed_pre_key: SignedPreKey
    one_time: OneTimePreKey | None

    @property
    def suite(self) -> Suite:
        """The device's suite."""
        return self.statement.suite

    @property
    def is_last_resort(self) -> bool:
        """Whether the signed pre-key has to serve alone."""
        return self.one_time is None

    @property
    def one_time_key_id(self) -> int | None:
        """The id of the one-time pre-key."""
        return self.one_time.key_id if self.one_time else None


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
    if answer.octets("chain_head", 32) != state.head:
        state = contacts.refresh(account, user)
        if answer.octets("chain_head", 32) not in state.hashes:
            raise TrustRefused("The bundles name an account chain that the server does not show.")
    bundles = [_verified(account, state, row) for row in answer.many("bundles", maximum=100)]
    if len({one.device for one in bundles}) != len(bundles):
        raise TrustRefused("The server sent two bundles of one device.")
    _pin_suites(account, user, bundles)
    return Claimed(contacts.identity_words(state), bundles)


def _verified(account: Account, state: ChainState, row: Answer) -> ClaimedBundle:
    # In this order, each step on what the one before has proven:
    #
    # (1) the device statement, by its own key, and by the chain that lists its hash;
    # (2) the signed pre-key, by the device's key, for this device, in its time;
    # (3) the batch, by the device's key, and the leaf, by its place under the batch's root.
    device_id = row.identifier("device_id")
    try:
        signed = Sign1.parse(row.octets("device_statement"))
        statement = DeviceStatement.open(signed)  # (1)
        if state.devices.get(device_id) != signed.payload_hash:
            raise TrustRefused("The server sent a device that is not in that person's account chain.")
        require = _binding(statement, state, device_id, account.api.clock.latest())
        spk = SignedPreKey.from_payload(  # (2)
            Sign1.parse(row.octets("signed_pre_key")).verify(statement.signing_key, purpose=Purpose.PREKEY)
        )
        require(spk.header, spk.suite)
        one_time = _one_time(row.one("one_time_pre_key"), statement, require) if "one_time_pre_key" in row else None
    except HoldfastError as error:
        raise TrustRefused(f"A bundle is not to be trusted: {error}.") from error
    if row.number("v") != 1 or row.number("suite") != statement.suite:
        raise TrustRefused("A bundle names another suite than its device.")
    return ClaimedBundle(UUID(bytes=device_id), statement, spk, one_time)


Binding = Callable[[Header, Suite], None]


def _binding(statement: DeviceStatement, state: ChainState, device_id: bytes, now: int) -> Binding:
    """Return the check that a statement is this device's, in its suite, and in its time."""
    expected = (state.tenant, state.user, device_id)

    def require(header: Header, suite: Suite) -> None:
        if (header.tenant, header.user, header.device) != expected or suite is not statement.suite:
            raise TrustRefused("A pre-key is of another device, person, tenant or suite.")
        check_time(header, now)

    require(statement.header, statement.suite)
    return require


def _one_time(row: Answer, statement: DeviceStatement, require: Binding) -> OneTimePreKey:  # (3)
    batch = BatchStatement.from_payload(
        Sign1.parse(row.octets("batch")).verify(statement.signing_key, purpose=Purpose.PREKEY)
    )
    require(batch.header, batch.suite)
    leaf, proof = row.octets("leaf", maximum=4096), row.octets("proof", maximum=1024)
    if len(proof) % merkle.HASH_SIZE:
        raise TrustRefused("The proof of a one-time pre-key is not made of hashes.")
    merkle.verify_inclusion(
        merkle.leaf_hash(leaf),
        index=row.number("index"),
        size=batch.size,
        proof=[proof[at : at + merkle.HASH_SIZE] for at in range(0, len(proof), merkle.HASH_SIZE)],
        expected_root=batch.root,
    )
    return OneTimePreKey.from_leaf(leaf, batch.suite)


def _pin_suites(account: Account, user: bytes, bundles: list[ClaimedBundle]) -> None:
    """Hold the contact to the suite first seen, or its hybrid form. Raises TrustRefused for any other."""
    contact = account.state.contacts[user]
    for bundle in bundles:
        pinned = Suite(contact.suite) if contact.suite else bundle.suite
        if bundle.suite not in (pinned, _UPGRADES.get(pinned)):
            raise TrustRefused(f"A device uses the suite {bundle.suite.name}, not the one known of that person.")
        contact.suite = int(max(pinned, bundle.suite))
    account.save()
