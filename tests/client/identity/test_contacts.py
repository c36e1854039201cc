# SPDX-License-Identifier: Apache-2.0
"""A person is who two people have compared, until that person begins anew. PROTOCOL section 5 for peers."""

from __future__ import annotations

import pytest

from holdfast.client.errors import NotPossible, PeerChanged, WrongWords
from holdfast.client.identity import contacts, device
from holdfast.client.messages import messages, prekeys
from holdfast.client.profile.account import Account
from holdfast.client.rotation import rotation
from holdfast.client.sessions import sessions
from holdfast.client.vault import pairing, vault
from holdfast.core.crypto.keys import SigningKey
from holdfast.core.identity import chain_author
from holdfast.core.identity.cases import Attestation
from holdfast.core.identity.chain_author import Author
from holdfast.core.identity.entries import Entry, Reason
from holdfast.core.signed.cose import Purpose, Sign1, sign
from holdfast.core.signed.payloads import Header
from tests.cast.lying_server import NOW, TENANT, text
from tests.cast.members import ALICE, BOB, Members


def met(world: Members) -> tuple[Account, Account]:
    return world.published(ALICE), world.published(BOB)


def begin_again(world: Members, alice: Account) -> None:
    """Alice's chain goes on under a new identity, on the word of two officers."""
    new, state = SigningKey.generate(), alice.chain
    house = world.server.tenant
    said = Attestation(Header(TENANT, ALICE, b"", NOW), state.head, new.public, bytes(16), bytes(32))
    statements = [
        sign(said.to_payload(), purpose=Purpose.ATTESTATION, key=one.signing_key) for one in house.officers[:2]
    ]
    entry = chain_author.re_genesis(
        state, by=Author(alice.device.id, NOW, new), attestations=statements, policy_hash=house.policy_hash
    )
    world.server.chains[text(ALICE)].append(entry.encode())
    world.server.keys_log.append(ALICE, entry)


def words_shown(world: Members) -> tuple[str, ...]:
    body = Entry.parse(world.server.chains[text(ALICE)][-1]).body
    return body.aik.fingerprint(contacts.IDENTITY)  # type: ignore[union-attr]


def test_both_people_see_one_safety_number(world: Members) -> None:
    alice, bob = met(world)
    number = contacts.safety_number(alice, BOB)
    assert contacts.safety_number(bob, ALICE) == number
    assert len(number) == 12


def test_contact_is_verified_by_the_number_that_the_contact_reads_out(world: Members) -> None:
    alice, bob = met(world)
    contacts.refresh(bob, ALICE)
    assert [one.is_verified for one in contacts.list_contacts(bob)] == [False]
    contacts.verify(bob, ALICE, number=contacts.safety_number(alice, BOB))
    assert [one.is_verified for one in contacts.list_contacts(bob)] == [True]


def test_number_of_somebody_between_is_refused(world: Members) -> None:
    alice, bob = met(world)
    number = contacts.safety_number(alice, BOB)
    for wrong in (number[:-1], (*number[:-1], "00000"), tuple(reversed(number)), ()):
        with pytest.raises(WrongWords):
            contacts.verify(bob, ALICE, number=wrong)
    assert not bob.state.contacts[ALICE].verified


def test_number_follows_the_identity_key_and_the_mark_outlives_its_rotation(world: Members) -> None:
    alice, bob = met(world)
    before = contacts.safety_number(alice, BOB)
    contacts.verify(bob, ALICE, number=before)
    rotation.rotate(alice, {"identity"}, reason=Reason.SCHEDULE)
    assert contacts.safety_number(bob, ALICE) == contacts.safety_number(alice, BOB) != before
    assert [one.is_verified for one in contacts.list_contacts(bob)] == [True]


def test_new_beginning_drops_the_mark_and_the_sessions_until_a_human_confirms(world: Members) -> None:
    alice, bob = met(world)
    contacts.verify(bob, ALICE, number=contacts.safety_number(alice, BOB))
    messages.send(bob, ALICE, b"hello")
    assert sessions.peers(bob.store) == [ALICE]
    begin_again(world, alice)
    for _ in range(2):
        with pytest.raises(PeerChanged):
            contacts.refresh(bob, ALICE)
    (known,) = contacts.list_contacts(bob)
    assert (known.is_verified, known.is_waiting) == (False, True)
    assert not [one for one in known.state.devices if sessions.places(bob.store, sessions.Address(ALICE, one))]
    with pytest.raises(PeerChanged):
        messages.send(bob, ALICE, b"who are you")
    with pytest.raises(WrongWords):
        contacts.confirm(bob, ALICE, words=contacts.identity_words(known.state))
    contacts.confirm(bob, ALICE, words=words_shown(world))
    (known,) = contacts.list_contacts(bob)
    assert (known.is_verified, known.is_waiting) == (True, False)


def test_nothing_is_confirmed_that_does_not_wait(world: Members) -> None:
    _, bob = met(world)
    contacts.refresh(bob, ALICE)
    with pytest.raises(NotPossible, match="Nothing waits"):
        contacts.confirm(bob, ALICE, words=())


def test_sessions_of_a_revoked_device_are_dropped_at_the_next_look(world: Members) -> None:
    alice, bob = met(world)
    vault.save(alice)
    phone = world.profile(ALICE)
    done = device.enrol(phone, world.server.code(ALICE), name="phone")
    pairing.approve(alice, done.device, words=done.words)
    pairing.complete(phone)
    prekeys.publish(phone)
    messages.send(bob, ALICE, b"to both")
    addresses = [sessions.Address(ALICE, one.device.id) for one in (alice, phone)]
    assert all(sessions.places(bob.store, one) for one in addresses)
    rotation.rotate(alice, rotation.EVERYTHING, reason=Reason.DEVICE_LOST, revoke=[done.device])
    contacts.refresh(bob, ALICE)
    assert [bool(sessions.places(bob.store, one)) for one in addresses] == [True, False]


def test_person_without_an_account_is_named_as_that(world: Members) -> None:
    bob = world.enrolled(BOB)
    with pytest.raises(NotPossible, match="no account yet"):
        contacts.refresh(bob, ALICE)
    assert bob.state.contacts == {}


def test_mark_is_kept_in_the_profile(world: Members) -> None:
    alice, bob = met(world)
    contacts.verify(bob, ALICE, number=contacts.safety_number(alice, BOB))
    again = type(bob)(bob.store)
    assert again.state.contacts[ALICE].verified == bob.state.contacts[ALICE].verified
    assert Sign1.parse(bob.device.statement).payload_hash  # the profile is whole
