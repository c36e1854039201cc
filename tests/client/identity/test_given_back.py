# SPDX-License-Identifier: Apache-2.0
"""What a server that was put back lacks of account chains: given back, offered, and never let go on this device.

PROTOCOL section 5, "After a restored backup"; FAULTS D11a, S10.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

import pytest

from holdfast.client.errors import PeerChanged, ServerRestored, TrustRefused
from holdfast.client.escrow import archive
from holdfast.client.identity import chains, contacts, evidence, key_log, tenant
from holdfast.client.identity.chains import ForkSeen
from holdfast.client.identity.lost_chains import ChainBehind
from holdfast.client.profile.account import Account
from holdfast.core.base.encoding import b64u
from holdfast.core.crypto.keys import SigningKey
from holdfast.core.identity.entries import Entry
from holdfast.core.signed.cose import parse_many
from tests.cast.lying_mailbox import refused
from tests.cast.lying_server import LyingServer, Tenant, text
from tests.cast.members import ALICE, BOB, MALLORY, Members
from tests.cast.officers import Founder
from tests.client.identity.test_chains import begun_again

HOUR: Final = 3_600
DAY: Final = 86_400
RESTORED: Final = r"users/[0-9a-f-]+/chain/restored"


@dataclass
class PutBack:
    """A server put back from a backup of yesterday; alice's account has grown since, and bob knows how."""

    world: Members
    alice: Account = field(init=False)
    bob: Account = field(init=False)
    had: int = field(init=False)

    def __post_init__(self) -> None:
        self.alice, self.bob = self.world.enrolled(ALICE), self.world.enrolled(BOB)
        contacts.refresh(self.bob, ALICE)
        backup = self.world.server.backup()
        self.had = len(self.alice.state.chain)
        self.grow()
        contacts.refresh(self.bob, ALICE)
        self.move(DAY)
        self.world.server.put_back(backup)

    def move(self, seconds: int) -> None:
        self.world.now += seconds
        self.world.server.keys_log.now = self.world.now

    def grow(self) -> None:
        archive.new_generation(self.alice)
        archive.new_generation(self.alice)

    def accept(self, by: list[Founder] | None = None) -> None:
        self.world.server.accept(self.world.now, by=by and by[:2])

    @property
    def shown(self) -> list[bytes]:
        return self.world.server.chains[text(ALICE)]

    def offered(self) -> list[dict[str, Any]]:
        return self.world.server.posted(RESTORED)


@pytest.fixture
def lost(world: Members) -> PutBack:
    return PutBack(world)


def test_owner_gives_back_what_the_server_lost_and_goes_on(lost: PutBack) -> None:
    lost.accept()
    held = list(lost.alice.state.chain)
    state = chains.refresh(lost.alice)
    assert lost.shown == lost.alice.state.chain == held
    (given,) = lost.offered()
    assert given["entries"] == [b64u(entry) for entry in held[lost.had :]]
    assert given["proof"] == key_log.find_proof(lost.alice, ALICE).document()  # type: ignore[union-attr]
    assert state is not None
    assert key_log.standing(lost.alice, state) is key_log.Anchor.ANCHORED
    archive.new_generation(lost.alice)
    assert contacts.refresh(lost.bob, ALICE).head == lost.alice.chain.head
    assert not evidence.list_evidence(lost.alice)
    assert len(lost.offered()) == 1


def test_what_no_head_had_covered_is_given_back_on_the_owners_word(lost: PutBack) -> None:
    """The newest entry was appended in the last minute: beside the proof of those before it, it goes by itself."""
    lost.alice.store.delete("chain-proof", ALICE)
    lost.accept()
    chains.refresh(lost.alice)
    assert [sorted(one) for one in lost.offered()] == [["entries"]]
    assert lost.shown == lost.alice.state.chain


def test_contact_offers_what_it_can_prove(lost: PutBack) -> None:
    lost.accept()
    pinned = list(lost.bob.state.contacts[ALICE].entries)
    contacts.refresh(lost.bob, ALICE)
    (given,) = lost.offered()
    assert given["entries"] == [b64u(entry) for entry in pinned[lost.had :]]
    assert "proof" in given
    assert lost.shown == pinned == lost.bob.state.contacts[ALICE].entries
    chains.refresh(lost.alice)
    assert len(lost.offered()) == 1, "nothing is left for her to give"


@pytest.mark.parametrize("refusal", [(409, "nothing-restored"), (422, "chain-refused"), (409, "chain-fork")])
def test_contact_that_is_not_believed_goes_on_with_what_it_has_pinned(lost: PutBack, refusal: tuple[int, str]) -> None:
    lost.accept()
    pinned = list(lost.bob.state.contacts[ALICE].entries)
    lost.world.server.instead[f"POST {RESTORED}"] = lambda _: refused(*refusal)
    for _ in range(2):
        assert contacts.refresh(lost.bob, ALICE).head == Entry.parse(pinned[-1]).hash
    assert lost.bob.state.contacts[ALICE].entries == pinned


def test_nothing_is_given_before_officers_accept_the_backup(lost: PutBack) -> None:
    """A server alone that shows less is refused as ever, and shown the head that it has signed."""
    for account, refresh in ((lost.alice, lambda: chains.refresh(lost.alice)), (lost.bob, None)):
        with pytest.raises(ServerRestored, match="fewer entries") as said:
            refresh() if refresh else contacts.refresh(account, ALICE)
        assert isinstance(said.value, ChainBehind)
        assert "accept-log" in said.value.way_out
        assert lost.world.server.shown_heads[-1] == key_log.own_checkpoint(account)
    assert lost.offered() == []
    assert len(lost.alice.state.chain) == lost.had + 2


def test_another_past_is_a_fork_also_while_a_backup_heals(lost: PutBack) -> None:
    lost.accept()
    other = Members.put_back(lost.world, lost.world.copied(lost.alice))
    other.state.chain = lost.alice.state.chain[: lost.had]
    other.store.delete("chain-anchor", ALICE)
    archive.new_generation(other)
    with pytest.raises(ForkSeen):
        chains.refresh(lost.alice)
    with pytest.raises(ForkSeen):
        contacts.refresh(lost.bob, ALICE)
    assert lost.offered() == []


# What comes late into the log


def test_entry_given_back_is_late_without_fault_for_whoever_meets_it_now(lost: PutBack) -> None:
    """For ten minutes from when it is first seen; and only what is older than the acceptance."""
    lost.accept()
    chains.refresh(lost.alice)
    del lost.world.server.keys_log.leaves[-2:]
    newcomer = lost.world.enrolled(MALLORY)
    contacts.refresh(newcomer, ALICE)
    lost.move(key_log.LOGGED_WITHIN_SECONDS + 60)
    with pytest.raises(TrustRefused, match="not in the public key log"):
        contacts.refresh(newcomer, ALICE)


DELAY: Final = 2 * DAY


@pytest.fixture
def delayed() -> PutBack:
    return PutBack(Members(LyingServer(Tenant(terms={"delay_seconds": DELAY}))))


def hash_of(policy: bytes) -> bytes:
    return parse_many(policy)[0].payload_hash


def begin_again(lost: PutBack, officers: list[Founder], policy: bytes, *, now: list[Founder] | None = None) -> None:
    """Alice's account was begun again an hour before the backup was put back, and that is given back now.

    now: who accepts the backup, if these officers have left.
    """
    at = lost.world.now - HOUR
    entry = begun_again(
        lost.alice, SigningKey.generate(), policy_hash=hash_of(policy), officers=officers, at=at, waited=DELAY
    )
    lost.accept(now)
    chains.refresh(lost.alice)
    lost.move(key_log.LOGGED_BEFORE_SECONDS)
    lost.shown.append(entry.encode())
    lost.world.server.keys_log.append(ALICE, entry)


def test_account_begun_again_and_given_back_waits_out_its_delay_again(delayed: PutBack) -> None:
    """FAULTS D11a: nobody's time to object is shorter for a restored backup."""
    house, newcomer = delayed.world.server.tenant, delayed.world.enrolled(MALLORY)
    begin_again(delayed, house.officers, house.policies[0])
    for seconds in (0, DELAY - 1):
        delayed.move(seconds)
        for account in (delayed.bob, newcomer):
            with pytest.raises(TrustRefused, match="time to object once more") as said:
                contacts.refresh(account, ALICE)
            assert "Wait until" in said.value.way_out
    delayed.move(1)
    with pytest.raises(PeerChanged):
        contacts.refresh(delayed.bob, ALICE)
    assert contacts.refresh(newcomer, ALICE).re_genesis is not None


@pytest.mark.parametrize("why", ["they have left", "nothing was accepted", "dated after the acceptance"])
def test_nobody_begins_an_account_again_in_the_past(delayed: PutBack, why: str) -> None:
    """FAULTS D11a: an officer who has left gains nothing by a restored backup, nor does a server without one."""
    house, newcomer = delayed.world.server.tenant, delayed.world.enrolled(MALLORY)
    first, fresh = house.policies[0], None
    if why == "they have left":
        fresh = [Founder(UUID(int=one).bytes) for one in (1, 2, 3)]
        predecessor = hash_of(first)
        house.policies.append(house.sign_policy(fresh, version=2, predecessor=predecessor, signers=house.officers[:2]))
        tenant.refresh(newcomer)
    begin_again(delayed, house.officers, first, now=fresh)
    if why == "nothing was accepted":
        delayed.world.server.accepted = []
    elif why == "dated after the acceptance":
        delayed.world.server.accepted = []
        delayed.world.server.accept(delayed.world.now - key_log.LOGGED_BEFORE_SECONDS - 2 * HOUR)
    delayed.move(DELAY)
    with pytest.raises(TrustRefused, match="long before its public key log"):
        contacts.refresh(newcomer, ALICE)
    assert ALICE not in newcomer.state.contacts
