# SPDX-License-Identifier: Apache-2.0
"""Chains as a server shows them: continued, never shortened, never rewritten without evidence. FAULTS S10, S12."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from types import FrameType
from typing import Any
from uuid import UUID

import pytest

from holdfast.client.errors import AnswerRefused, Problem, RaceLost, TrustRefused
from holdfast.client.escrow import archive
from holdfast.client.identity import chains, contacts, evidence, tenant
from holdfast.client.identity.chains import ForkSeen
from holdfast.client.identity.evidence import Contradiction
from holdfast.client.identity.key_log import LOGGED_BEFORE_SECONDS, LOGGED_WITHIN_SECONDS
from holdfast.client.profile.account import Account
from holdfast.client.profile.verified import VerifiedChains
from holdfast.client.rotation import rotation
from holdfast.core.crypto.keys import SigningKey
from holdfast.core.identity import chain_author
from holdfast.core.identity.cases import Attestation
from holdfast.core.identity.chain import verify_chain
from holdfast.core.identity.chain_author import Author
from holdfast.core.identity.entries import Entry, Reason, RevokeDevice
from holdfast.core.signed.cose import Purpose, sign
from holdfast.core.signed.payloads import MAX_AHEAD_SECONDS, Header
from tests.cast.lying_server import NOW, TENANT, _payload_hash, text
from tests.cast.members import ALICE, BOB, Members
from tests.cast.officers import Founder


def grown(world: Members, entries: int = 4) -> Account:
    """Alice with a chain of some length."""
    alice = world.enrolled(ALICE)
    for _ in range(entries):
        archive.new_generation(alice)
    return alice


def rival(alice: Account, at: int, name: str = "rival") -> Entry:
    """An entry by alice's own key in a place that is taken: what a thief, or a clone of the device, would write."""
    before = [Entry.parse(one) for one in alice.state.chain[:at]]
    state = verify_chain(before, tenant=TENANT, user=ALICE)
    by = Author(alice.device.id, NOW, alice.identity_key)
    return chain_author.share_manifest(state, by=by, manifest_hash=name.encode().ljust(32, b"-"))


@pytest.mark.parametrize("cut", range(5))
def test_rollback_is_refused_from_every_pinned_state(world: Members, cut: int) -> None:
    grown(world)
    bob = world.enrolled(BOB)
    whole = list(world.server.chains[text(ALICE)])
    for pinned in range(cut + 1, len(whole) + 1):
        bob.state.contacts.clear()
        world.server.chains[text(ALICE)] = whole[:pinned]
        contacts.refresh(bob, ALICE)
        world.server.chains[text(ALICE)] = whole[:cut]
        with pytest.raises((TrustRefused, Problem)):
            contacts.refresh(bob, ALICE)
        assert bob.state.contacts[ALICE].entries == whole[:pinned]


@pytest.mark.parametrize("place", [2, 3, 5])
def test_fork_is_seen_and_both_entries_are_kept_as_evidence(world: Members, place: int) -> None:
    alice, bob = grown(world), world.enrolled(BOB)
    contacts.refresh(bob, ALICE)
    other = rival(alice, place).encode()
    ours = alice.state.chain[place]
    world.server.chains[text(ALICE)] = [*alice.state.chain[:place], other]
    for account, look in ((bob, lambda: contacts.refresh(bob, ALICE)), (alice, lambda: chains.refresh(alice))):
        with pytest.raises(ForkSeen):
            look()
        (kept,) = evidence.list_evidence(account)
        assert (kept.what, kept.user, kept.ours, kept.theirs) == (Contradiction.CHAIN_FORK, ALICE, ours, other)


def test_entry_that_continues_another_history_is_a_fork_with_both_sides_kept(world: Members) -> None:
    alice, bob = grown(world), world.enrolled(BOB)
    contacts.refresh(bob, ALICE)
    last = len(alice.state.chain) - 1
    other = rival(alice, last)
    world.server.chains[text(ALICE)].append(other.encode())
    honest = world.server.chains[text(ALICE)]
    assert Entry.parse(honest[-1]).seq == last
    with pytest.raises(ForkSeen):
        contacts.refresh(bob, ALICE)
    (kept,) = evidence.list_evidence(bob)
    assert (kept.ours, kept.theirs) == (alice.state.chain[last], other.encode())


def test_entry_of_a_key_that_was_rotated_away_is_a_fork(world: Members) -> None:
    alice, bob = grown(world), world.enrolled(BOB)
    old = alice.identity_key
    rotation.rotate(alice, {"identity"}, reason=Reason.SCHEDULE)
    contacts.refresh(bob, ALICE)
    by = Author(alice.device.id, NOW, old)
    thief = chain_author.share_manifest(alice.chain, by=by, manifest_hash=bytes(32))
    world.server.chains[text(ALICE)].append(thief.encode())
    with pytest.raises(ForkSeen):
        contacts.refresh(bob, ALICE)
    (kept,) = evidence.list_evidence(bob)
    assert kept.theirs == thief.encode()


def test_history_that_no_key_of_the_account_has_signed_is_refused_and_is_no_evidence(world: Members) -> None:
    alice, bob = grown(world), world.enrolled(BOB)
    contacts.refresh(bob, ALICE)
    by = Author(alice.device.id, NOW, SigningKey.generate())
    strange = chain_author.genesis(tenant=TENANT, user=ALICE, by=by).encode()
    world.server.chains[text(ALICE)] = [strange]
    with pytest.raises(TrustRefused) as caught:
        contacts.refresh(bob, ALICE)
    assert not isinstance(caught.value, ForkSeen)
    assert evidence.list_evidence(bob) == []


def test_the_same_fork_is_kept_once(world: Members) -> None:
    alice, bob = grown(world), world.enrolled(BOB)
    contacts.refresh(bob, ALICE)
    world.server.chains[text(ALICE)] = [*alice.state.chain[:3], rival(alice, 3).encode()]
    for _ in range(3):
        with pytest.raises(ForkSeen):
            contacts.refresh(bob, ALICE)
    assert len(evidence.list_evidence(bob)) == 1


def test_two_devices_announcing_one_generation_end_with_two(world: Members) -> None:
    laptop = world.enrolled(ALICE)
    phone = world.enrolled(ALICE)
    phone.state.identity_seed = laptop.state.identity_seed
    # Both have read the same head; the laptop's upload comes first.
    honest = world.server.instead
    upload = f"POST users/{text(ALICE)}/chain"
    lost: list[int] = []

    def stale_once(_body: object) -> tuple[int, dict[str, str]]:
        del honest[upload]
        lost.append(1)
        archive.new_generation(laptop)
        return 409, {"title": "Stale", "code": "chain-stale", "detail": "Stale."}

    honest[upload] = stale_once
    made = archive.new_generation(phone)
    assert lost == [1]
    state = chains.refresh(laptop)
    assert state is not None
    assert [one.generation for one in state.generations] == [1, 2]
    assert state.generations[1].commitment == made.commitment


def test_device_with_an_old_identity_key_is_told_so_before_anything_is_sent(world: Members) -> None:
    laptop = world.enrolled(ALICE)
    phone = world.enrolled(ALICE)
    phone.state.identity_seed = SigningKey.generate().seed()
    posted = len(world.server.posted(f"users/{text(ALICE)}/chain"))
    with pytest.raises(RaceLost, match="does not follow"):
        archive.new_generation(phone)
    assert len(world.server.posted(f"users/{text(ALICE)}/chain")) == posted
    assert laptop.chain.generations == ()


@pytest.mark.parametrize("page", [1, 2, 3])
def test_chain_is_read_page_by_page_whatever_a_page_ends_with(world: Members, page: int) -> None:
    alice = grown(world, 2)
    phone = world.another(alice)
    rotation.rotate(alice, ["identity"], reason=Reason.DEVICE_LOST, revoke=[UUID(bytes=phone.device.id)])
    kinds = [type(Entry.parse(one).body) for one in world.server.chains[text(ALICE)]]
    assert RevokeDevice in kinds
    world.server.page = page
    bob = world.enrolled(BOB)
    state = contacts.refresh(bob, ALICE)
    assert (state.head, bob.state.contacts[ALICE].entries) == (alice.chain.head, world.server.chains[text(ALICE)])


def lengthened(world: Members, entries: int) -> Account:
    """Alice with a chain of so many entries, the most of them written at once."""
    alice = world.enrolled(ALICE)
    written = list(map(Entry.parse, world.server.chains[text(ALICE)]))
    state = verify_chain(written, tenant=TENANT, user=ALICE)
    by = Author(alice.device.id, NOW, alice.identity_key)
    while len(state.hashes) < entries:
        entry = chain_author.share_manifest(state, by=by, manifest_hash=bytes(32))
        state = replace(state, hashes=(*state.hashes, entry.hash))
        world.server.chains[text(ALICE)].append(entry.encode())
        world.server.keys_log.append(ALICE, entry)
    return alice


def test_chain_of_four_thousand_entries_is_read_by_its_owner_and_by_a_peer(world: Members) -> None:
    alice, bob = lengthened(world, 4000), world.enrolled(BOB)
    world.server.log.clear()
    theirs = contacts.refresh(bob, ALICE)
    asked = [path for verb, path, _ in world.server.log if path == f"users/{text(ALICE)}/chain"]
    ours = chains.refresh(alice)
    assert ours is not None
    assert (theirs.seq, theirs.head, len(asked)) == (3999, ours.head, 16)
    assert len(alice.state.chain) == len(bob.state.contacts[ALICE].entries) == 4000


def test_head_that_moves_between_two_pages_is_read_as_well(world: Members) -> None:
    alice, bob = grown(world), world.enrolled(BOB)
    world.server.page = 2
    path = f"GET users/{text(ALICE)}/chain"

    def moving(answer: dict[str, Any]) -> dict[str, Any]:
        del world.server.lies[path]
        archive.new_generation(alice)
        return answer

    world.server.lies[path] = moving
    assert contacts.refresh(bob, ALICE).head == alice.chain.head


LIES: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "more for ever": lambda answer: {**answer, "more": True, "seq": answer["seq"] + 1},
    "empty pages": lambda answer: {**answer, "more": True, "entries": []},
    "a head too far": lambda answer: {**answer, "more": True, "seq": 2**40},
    "a head that is never reached": lambda answer: {**answer, "more": False, "seq": answer["seq"] + 1},
    "more after the head": lambda answer: {**answer, "more": True, "seq": 1},
}


@pytest.mark.parametrize("lie", LIES)
def test_chain_that_never_ends_is_refused_and_nothing_of_it_is_kept(world: Members, lie: str) -> None:
    grown(world)
    bob = world.enrolled(BOB)
    world.server.page = 2
    world.server.lies[f"GET users/{text(ALICE)}/chain"] = LIES[lie]
    world.server.log.clear()
    with pytest.raises((TrustRefused, AnswerRefused)):
        contacts.refresh(bob, ALICE)
    assert ALICE not in bob.state.contacts
    assert len(world.server.log) < 10


def test_made_up_entries_are_refused_at_the_page_that_has_them(world: Members) -> None:
    alice, bob = grown(world, 6), world.enrolled(BOB)
    world.server.page = 2
    other = rival(alice, 3)
    forged = replace(other, signatures=(sign(b"x", purpose=Purpose.CHAIN, key=SigningKey.generate()),))
    world.server.chains[text(ALICE)][3] = forged.encode()
    world.server.log.clear()
    with pytest.raises(TrustRefused):
        contacts.refresh(bob, ALICE)
    assert len(world.server.log) == 2


@pytest.mark.parametrize("path", ["escrow/policy", "escrow/key"])
def test_history_comes_in_pages_and_one_without_an_end_is_refused(world: Members, path: str) -> None:
    house = world.server.tenant
    for version in (2, 3):
        house.policies.append(
            house.sign_policy(
                house.officers, version=version, predecessor=house.policy_hash, signers=house.officers[:2]
            )
        )
    world.server.page = 1
    alice = world.enrolled(ALICE)
    assert alice.state.trust.policies == house.policies
    for lie in (
        lambda answer: {**answer, "history": [], "more": True},
        lambda answer: {**answer, "history": answer["history"] or [{"statement": answer["statement"]}], "more": True},
    ):
        world.server.lies[f"GET {path}"] = lie
        with pytest.raises(AnswerRefused, match="no end"):
            tenant.refresh(alice)
    assert alice.state.trust.policies == house.policies


def parses_in(act: Callable[[], object]) -> int:
    """How many chain entries are read from bytes while something is done."""
    code, counted = Entry.parse.__func__.__code__, 0  # type: ignore[attr-defined]

    def count(frame: FrameType, event: str, _argument: object) -> None:
        nonlocal counted
        counted += event == "call" and frame.f_code is code

    sys.setprofile(count)
    try:
        act()
    finally:
        sys.setprofile(None)
    return counted


def test_what_was_verified_is_not_verified_again(world: Members) -> None:
    alice = grown(world, 6)
    bob = world.enrolled(BOB)
    contacts.refresh(bob, ALICE)
    archive.new_generation(alice)
    pinned, fresh = bob.state.contacts[ALICE].entries, world.server.chains[text(ALICE)][-1:]
    assert parses_in(lambda: chains.verify(bob, ALICE, pinned)) == 0
    assert parses_in(lambda: chains.verify(bob, ALICE, pinned, fresh)) == 1
    assert parses_in(lambda: world.enrolled(BOB) and chains.verify(world.enrolled(BOB), ALICE, pinned)) >= len(pinned)


def test_chain_in_the_cache_is_left_when_another_is_shown(world: Members) -> None:
    alice = grown(world)
    seen = VerifiedChains(TENANT)

    def read(known: list[bytes], fresh: list[bytes]) -> int:
        return seen.read(ALICE, known, fresh, policies=lambda: ()).seq

    assert read([], alice.state.chain) == 5
    assert read(alice.state.chain[:2], alice.state.chain[2:4]) == 3
    other = rival(alice, 3).encode()
    assert read([*alice.state.chain[:3], other], []) == 3
    assert read(alice.state.chain, []) == 5


def test_re_genesis_under_a_policy_that_had_been_replaced_is_refused(world: Members) -> None:
    """Officers who have left cannot begin an account again, whatever the server shows."""
    alice, bob = world.enrolled(ALICE), world.enrolled(BOB)
    house = world.server.tenant
    first = house.policies[0]
    fresh = [Founder(UUID(int=one).bytes) for one in (1, 2, 3)]
    house.policies.append(
        house.sign_policy(fresh, version=2, predecessor=_payload_hash(first), signers=house.officers[:2])
    )
    tenant.refresh(bob)
    contacts.refresh(bob, ALICE)
    for policy, officers, right in ((first, house.officers, False), (house.policies[1], fresh, True)):
        new = SigningKey.generate()
        entry = begun_again(alice, new, policy_hash=_payload_hash(policy), officers=officers)
        world.server.chains[text(ALICE)] = [*alice.state.chain, entry.encode()]
        world.server.keys_log.leaves = world.server.keys_log.leaves[:4]
        world.server.keys_log.append(ALICE, entry)
        with pytest.raises(TrustRefused, match="begun again" if right else "no longer in force"):
            contacts.refresh(bob, ALICE)


@pytest.mark.parametrize("have_met", [True, False])
def test_date_of_a_re_genesis_is_held_to_this_devices_clock_and_to_the_key_log(world: Members, have_met: bool) -> None:
    """Officers who have left would date it back, and whoever will not wait for the delay would date it ahead."""
    alice, bob = world.enrolled(ALICE), world.enrolled(BOB)
    house = world.server.tenant
    if have_met:
        contacts.refresh(bob, ALICE)
    for at, logged, said in (
        (NOW + MAX_AHEAD_SECONDS + 1, True, "still to come"),
        (NOW - LOGGED_WITHIN_SECONDS - 1, False, "not in the public key log"),
        (NOW - LOGGED_BEFORE_SECONDS - 1, True, "long before"),
    ):
        entry = begun_again(alice, SigningKey.generate(), policy_hash=house.policy_hash, officers=house.officers, at=at)
        world.server.chains[text(ALICE)] = [*alice.state.chain, entry.encode()]
        world.server.keys_log.leaves = world.server.keys_log.leaves[:4]
        if logged:
            world.server.keys_log.append(ALICE, entry)
        with pytest.raises(TrustRefused, match=said):
            contacts.refresh(bob, ALICE)
        assert (ALICE in bob.state.contacts) is have_met
    # A server that says that it is later gains nothing by it: the date is waited for by this machine's own clock.
    world.server.clock = lambda: NOW + 86_400
    bob.api.clock.correct(NOW + 86_400)
    world.server.chains[text(ALICE)][-1] = begun_again(
        alice, SigningKey.generate(), policy_hash=house.policy_hash, officers=house.officers, at=NOW + 80_000
    ).encode()
    with pytest.raises(TrustRefused, match="still to come"):
        contacts.refresh(bob, ALICE)


def begun_again(
    alice: Account, new: SigningKey, *, policy_hash: bytes, officers: list[Founder], at: int = NOW, waited: int = 0
) -> Entry:
    said = Attestation(Header(TENANT, ALICE, b"", at - waited), alice.chain.head, new.public, bytes(16), bytes(32))
    statements = [sign(said.to_payload(), purpose=Purpose.ATTESTATION, key=one.signing_key) for one in officers[:2]]
    by = Author(alice.device.id, at, new)
    return chain_author.re_genesis(alice.chain, by=by, attestations=statements, policy_hash=policy_hash)
