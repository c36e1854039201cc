# SPDX-License-Identifier: Apache-2.0
"""Every head a client relies on is in the key log, and the log is one. FAULTS S16; PROTOCOL section 8."""

from __future__ import annotations

from typing import Any

import pytest

from holdfast.client.errors import NotYet, TrustRefused
from holdfast.client.escrow import archive
from holdfast.client.identity import chains, contacts, evidence, key_log
from holdfast.client.identity.evidence import Contradiction
from holdfast.client.identity.key_log import Anchor, SplitView
from holdfast.client.profile.account import Account
from holdfast.client.server.clock import Clock
from holdfast.core.crypto.keys import SigningKey
from holdfast.core.identity.entries import Entry
from tests.cast.lying_log import KeysLog
from tests.cast.lying_server import NOW, TENANT, text
from tests.cast.members import ALICE, BOB, Members

PROOF = f"GET users/{text(ALICE)}/chain/proof"
OWN_PROOF = f"GET users/{text(BOB)}/chain/proof"


def at(world: Members, account: Account, seconds: int) -> Account:
    account.connect(transport=world.server.transport(), clock=Clock(lambda: NOW + seconds))
    return account


def not_logged(_body: Any) -> tuple[int, dict[str, Any]]:
    return 404, {"title": "Not logged", "code": "not-logged-yet", "detail": "Not logged yet."}


def other_log(world: Members, size: int = 1) -> str:
    """A head of another log under the same key: what a split view's other half sees."""
    real = world.server.keys_log
    entry = Entry.parse(world.server.chains[text(ALICE)][0])
    other = KeysLog(TENANT, NOW, real.key)
    for _ in range(size):
        other.append(BOB, entry)
    return other.checkpoint()


def test_head_of_a_contact_is_anchored_in_the_log_and_asked_for_once(world: Members) -> None:
    bob = world.enrolled(BOB)
    world.enrolled(ALICE)
    state = contacts.refresh(bob, ALICE)
    assert key_log.standing(bob, state) is Anchor.ANCHORED
    asked = len([one for one in world.server.log if one[1].endswith("chain/proof")])
    contacts.refresh(bob, ALICE)
    assert len([one for one in world.server.log if one[1].endswith("chain/proof")]) == asked


def test_entry_that_is_not_logged_yet_waits_for_ten_minutes_and_no_longer(world: Members) -> None:
    alice, bob = world.enrolled(ALICE), world.enrolled(BOB)
    world.server.instead[PROOF] = not_logged
    state = contacts.refresh(at(world, bob, 600), ALICE)
    assert key_log.standing(bob, state) is Anchor.WAITING
    with pytest.raises(TrustRefused, match="not in the public key log"):
        contacts.refresh(at(world, bob, 601), ALICE)
    archive.new_generation(alice)
    with pytest.raises(TrustRefused, match="not in the public key log"):
        chains.refresh(at(world, alice, 601))
    world.server.instead.clear()
    assert key_log.standing(bob, contacts.refresh(bob, ALICE)) is Anchor.ANCHORED


@pytest.mark.parametrize("ahead", [0, 86_400])
def test_server_cannot_stretch_the_ten_minutes_by_turning_the_clock(world: Members, ahead: int) -> None:
    """Where clocks differ they begin when an entry is first seen, by this device's own, and are ten all the same."""
    world.enrolled(ALICE)
    bob = world.enrolled(BOB)
    world.server.instead[PROOF] = not_logged
    for seconds in (3_600, 4_200):
        assert at(world, bob, seconds).api.clock.correct(NOW + ahead)
        assert key_log.standing(bob, contacts.refresh(bob, ALICE)) is Anchor.WAITING
    for said in (ahead, ahead + 3_600):
        assert at(world, bob, 4_201).api.clock.correct(NOW + said)
        with pytest.raises(TrustRefused, match="not in the public key log"):
            contacts.refresh(bob, ALICE)


def test_device_whose_clock_is_ahead_takes_its_own_new_entry_for_no_attack(world: Members) -> None:
    alice = world.enrolled(ALICE)
    world.server.instead[PROOF] = not_logged
    assert at(world, alice, 7_200).api.clock.correct(NOW)
    archive.new_generation(alice)
    assert key_log.standing(alice, alice.chain) is Anchor.WAITING


def test_server_that_is_ahead_makes_no_new_entry_look_overdue(world: Members) -> None:
    """FAULTS W10a: whoever rotates meanwhile would be told not to rely on their keys. Ten minutes stay ten minutes."""
    alice = world.enrolled(ALICE)
    world.server.instead[PROOF] = not_logged
    for seconds in (0, 600):
        assert at(world, alice, seconds).api.clock.correct(NOW + seconds + 7200)
        chains.refresh(alice) if seconds else archive.new_generation(alice)
        assert key_log.standing(alice, alice.chain) is Anchor.WAITING
    assert at(world, alice, 601).api.clock.correct(NOW + 601 + 7200)
    with pytest.raises(TrustRefused, match="not in the public key log"):
        chains.refresh(alice)


def test_head_that_is_not_in_the_log_is_not_pinned(world: Members) -> None:
    alice, bob = world.enrolled(ALICE), world.enrolled(BOB)
    contacts.refresh(bob, ALICE)
    pinned = list(bob.state.contacts[ALICE].entries)
    archive.new_generation(alice)
    world.server.instead[PROOF] = not_logged
    with pytest.raises(TrustRefused):
        contacts.refresh(at(world, bob, 700), ALICE)
    assert bob.state.contacts[ALICE].entries == pinned


def test_without_a_log_key_a_head_is_unanchored_and_shown_as_that(world: Members) -> None:
    bob = world.enrolled(BOB)
    world.enrolled(ALICE)
    bob.state.trust.log_keys = []
    contacts.refresh(bob, ALICE)
    (known,) = contacts.list_contacts(bob)
    assert known.anchor is Anchor.UNANCHORED
    assert key_log.own_checkpoint(bob) == ""


@pytest.mark.parametrize(
    "lie",
    [
        lambda answer: {**answer, "leaf_index": answer["leaf_index"] + 1},
        lambda answer: {**answer, "proof": []},
        lambda answer: {**answer, "leaf": answer["leaf"][:-2] + "AA"},
        lambda answer: {**answer, "checkpoint": answer["checkpoint"].replace("\ntime", "\nx time")},
    ],
)
def test_proof_that_does_not_hold_is_refused(world: Members, lie: Any) -> None:
    world.enrolled(ALICE)
    bob = world.enrolled(BOB)
    world.server.lies[PROOF] = lie
    with pytest.raises(TrustRefused):
        contacts.refresh(bob, ALICE)
    assert ALICE not in bob.state.contacts


def test_log_head_under_another_key_is_refused(world: Members) -> None:
    world.enrolled(ALICE)
    bob = world.enrolled(BOB)
    world.server.keys_log.key = SigningKey.generate()
    with pytest.raises(TrustRefused, match="vouch"):
        contacts.refresh(bob, ALICE)


def test_log_that_is_not_the_one_seen_before_is_an_alarm_with_both_heads_kept(world: Members) -> None:
    alice, bob = world.enrolled(ALICE), world.enrolled(BOB)
    contacts.refresh(bob, ALICE)
    seen = key_log.own_checkpoint(bob)
    real = world.server.keys_log
    # The operator shows bob a log in which other leaves stand before alice's newest.
    forged = KeysLog(TENANT, NOW, real.key)
    for one in world.server.chains[text(BOB)]:
        forged.append(BOB, Entry.parse(one))
    archive.new_generation(alice)
    for one in world.server.chains[text(ALICE)]:
        forged.append(ALICE, Entry.parse(one))
    forged.leaves.reverse()
    world.server.keys_log = forged
    with pytest.raises(SplitView):
        contacts.refresh(bob, ALICE)
    (kept,) = evidence.list_evidence(bob)
    assert (kept.what, kept.ours, kept.theirs) == (Contradiction.LOG_FORK, seen.encode(), forged.checkpoint().encode())


def test_log_that_shrinks_is_refused_and_kept_as_evidence(world: Members) -> None:
    world.enrolled(ALICE)
    bob = world.enrolled(BOB)
    real = world.server.keys_log
    shorter = real.checkpoint(2)
    real.append(BOB, Entry.parse(world.server.chains[text(BOB)][0]))
    chains.refresh(bob)
    bob.state.trust.checkpoints[real.verifier().name] = real.checkpoint()
    answer = real.proof(ALICE, 1, None)
    assert answer is not None
    cut = KeysLog(TENANT, NOW, real.key, real.leaves[:2]).proof(ALICE, 1, None)
    assert cut is not None
    world.server.lies[PROOF] = lambda _answer: cut
    with pytest.raises(TrustRefused, match="older key log"):
        contacts.refresh(bob, ALICE)
    assert [one.what for one in evidence.list_evidence(bob)] == [Contradiction.LOG_ROLLED_BACK]
    assert evidence.list_evidence(bob)[0].theirs == shorter.encode()


# Gossip


def met(world: Members) -> tuple[Account, Account]:
    alice, bob = world.enrolled(ALICE), world.enrolled(BOB)
    contacts.refresh(bob, ALICE)
    contacts.refresh(alice, BOB)
    return alice, bob


def test_heads_of_one_log_agree_whoever_has_seen_more(world: Members) -> None:
    alice, bob = met(world)
    early = key_log.own_checkpoint(bob)
    archive.new_generation(alice)
    assert key_log.own_checkpoint(alice) != early
    assert key_log.compare_gossip(alice, early)
    assert key_log.compare_gossip(bob, key_log.own_checkpoint(alice))
    assert key_log.own_checkpoint(bob) == key_log.own_checkpoint(alice)
    assert evidence.list_evidence(alice) == evidence.list_evidence(bob) == []


def test_two_clients_that_were_shown_two_logs_find_out_by_telling_each_other(world: Members) -> None:
    _, bob = met(world)
    size = len(world.server.keys_log.leaves)
    theirs = other_log(world, size)
    with pytest.raises(SplitView, match="two histories"):
        key_log.compare_gossip(bob, theirs)
    (kept,) = evidence.list_evidence(bob)
    assert (kept.what, kept.theirs) == (Contradiction.LOG_FORK, theirs.encode())
    assert kept.ours == key_log.own_checkpoint(bob).encode()


@pytest.mark.parametrize("size", [1, 3])
def test_smaller_head_of_another_log_is_found_out_too(world: Members, size: int) -> None:
    _, bob = met(world)
    with pytest.raises(SplitView):
        key_log.compare_gossip(bob, other_log(world, size))
    assert len(evidence.list_evidence(bob)) == 1


def test_head_beyond_what_the_server_shows_is_an_alarm(world: Members) -> None:
    _, bob = met(world)
    with pytest.raises(SplitView, match="seen more"):
        key_log.compare_gossip(bob, other_log(world, 50))
    assert [one.what for one in evidence.list_evidence(bob)] == [Contradiction.LOG_ROLLED_BACK]


def test_what_the_log_key_has_not_signed_raises_no_alarm(world: Members) -> None:
    _, bob = met(world)
    stranger = KeysLog(TENANT, NOW, SigningKey.generate(), list(world.server.keys_log.leaves[:1]))
    for noise in (stranger.checkpoint(), "", "x" * 5_000, "\ud800"):
        assert not key_log.compare_gossip(bob, noise)
        assert not key_log.hear(bob, noise)
    assert evidence.list_evidence(bob) == []


def test_head_heard_inside_a_transaction_is_compared_afterwards(world: Members) -> None:
    alice, bob = met(world)
    archive.new_generation(alice)
    theirs = other_log(world, 2)
    requests = len(world.server.log)
    with bob.store.transaction():
        assert key_log.hear(bob, key_log.own_checkpoint(alice))
        assert key_log.hear(bob, theirs)
    assert len(world.server.log) == requests
    with pytest.raises(SplitView):
        key_log.compare_heard(bob)
    assert key_log.compare_heard(bob) == 0
    assert len(evidence.list_evidence(bob)) == 1


def test_own_entry_of_a_moment_ago_keeps_nobody_from_comparing(world: Members) -> None:
    alice, bob = met(world)
    world.server.instead[OWN_PROOF] = not_logged
    archive.new_generation(bob)
    world.server.instead.clear()
    del world.server.keys_log.leaves[-1]
    archive.new_generation(alice)
    assert key_log.hear(bob, key_log.own_checkpoint(alice))
    assert key_log.compare_heard(bob) == 1
    assert key_log.standing(bob, bob.chain) is Anchor.WAITING


def test_log_that_denies_an_entry_it_has_shown_is_refused_at_once(world: Members) -> None:
    alice, bob = met(world)
    archive.new_generation(alice)
    world.server.instead[OWN_PROOF] = not_logged
    with pytest.raises(TrustRefused, match="held before"):
        key_log.compare_gossip(bob, key_log.own_checkpoint(alice))


def test_heads_wait_for_an_account_that_the_log_does_not_hold_yet_and_not_for_ever(world: Members) -> None:
    alice = world.enrolled(ALICE)
    world.server.instead[OWN_PROOF] = not_logged
    bob = world.enrolled(BOB)
    contacts.refresh(bob, ALICE)
    archive.new_generation(alice)
    heard = key_log.own_checkpoint(alice)
    assert key_log.hear(bob, heard)
    assert key_log.compare_heard(bob) == 0
    with pytest.raises(NotYet):
        key_log.compare_gossip(bob, heard)
    with pytest.raises(TrustRefused, match="not in the public key log"):
        key_log.compare_heard(at(world, bob, 601))
    world.server.instead.clear()
    assert key_log.compare_heard(at(world, bob, 0)) == 1, "it was kept meanwhile"
    assert evidence.list_evidence(bob) == []


def test_first_head_that_is_heard_binds_what_is_shown_later(world: Members) -> None:
    world.enrolled(ALICE)
    bob = world.enrolled(BOB)
    bob.state.trust.checkpoints.clear()
    theirs = other_log(world, 2)
    assert key_log.compare_gossip(bob, theirs)
    with pytest.raises(SplitView):
        contacts.refresh(bob, ALICE)


# One's own chain


def test_entry_of_ones_own_chain_that_this_device_did_not_make_is_reported_until_it_is_seen(world: Members) -> None:
    laptop = world.enrolled(ALICE)
    assert key_log.foreign_entries(laptop) == []
    archive.new_generation(laptop)
    phone = world.enrolled(ALICE)
    assert key_log.foreign_entries(phone) == []  # what stood there before is not news to a new device
    phone.state.identity_seed = laptop.state.identity_seed
    archive.new_generation(phone)
    chains.refresh(laptop)
    (found,) = key_log.foreign_entries(laptop)
    assert (found.seq, found.type) == (3, "ArchiveGeneration")
    assert found.device is not None
    assert found.device.bytes == phone.device.id
    assert key_log.foreign_entries(phone) == []
    key_log.put_away_seen(laptop, found)
    assert key_log.foreign_entries(laptop) == []
