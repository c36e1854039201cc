# SPDX-License-Identifier: Apache-2.0
"""The contacts door: shares given, kept, asked back and objected to, and a server that lies to all three sides."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest

from holdfast.client.errors import (
    AnswerRefused,
    ClientError,
    NotPossible,
    NotYet,
    PeerChanged,
    Problem,
    TrustRefused,
    WrongInput,
    WrongWords,
)
from holdfast.client.escrow import archive
from holdfast.client.identity import contacts, device
from holdfast.client.messages import letters, messages
from holdfast.client.messages.letters import LetterKind
from holdfast.client.profile.account import Account
from holdfast.client.rotation import rotation
from holdfast.client.server.clock import Clock
from holdfast.client.vault import doors, pairing, share_requests, trusted, vault
from holdfast.client.vault.vault_contents import HELD_SHARE
from holdfast.core.base.encoding import b64u, decode, encode, unb64u
from holdfast.core.base.secret import SecretBytes
from holdfast.core.crypto.keys import SealingKey, SigningKey
from holdfast.core.crypto.sealing import open_sealed, seal
from holdfast.core.identity.entries import Reason
from holdfast.core.signed.cose import Purpose, Sign1, sign
from holdfast.core.vault import contact_shares
from holdfast.core.vault.blob import new_vault_key
from holdfast.core.vault.contact_shares import ContactShare
from holdfast.core.vault.door_blob import DoorOwner
from holdfast.core.vault.share_manifest import Manifest, ShareRequest
from tests.cast.lying_mailbox import refused
from tests.cast.lying_server import NOW, text
from tests.cast.members import ALICE, BOB, MALLORY, Members

CAROL, DAN = b"carol-----------", b"dan-------------"
PEOPLE = (BOB, CAROL, DAN)
DAY = 86_400


def new_device(world: Members, user: bytes = ALICE) -> Account:
    account = world.profile(user)
    device.enrol(account, world.server.code(user), name="tablet")
    return account


def took(account: Account) -> list[trusted.HeldShare]:
    letters.fetch(account)
    return trusted.take_shares(account)


def befriended(world: Members, *, k: int = 2) -> tuple[Account, dict[bytes, Account]]:
    """Return alice, and alice's contacts with a share each."""
    alice = world.enrolled(ALICE)
    archive.new_generation(alice)
    people = {one: world.enrolled(one) for one in PEOPLE}
    trusted.choose(alice, PEOPLE, k=k)
    for account in people.values():
        took(account)
    return alice, people


def at(world: Members, account: Account, now: int) -> None:
    world.server.now = now
    account.connect(transport=world.server.transport(), clock=Clock(lambda: now))


# Giving shares


def test_shares_reach_every_contact_and_the_chain_names_their_set(world: Members) -> None:
    alice, people = befriended(world)
    chosen = trusted.find_chosen_set(alice)
    assert chosen is not None
    assert (chosen.contacts, chosen.k, chosen.epoch) == (PEOPLE, 2, 1)
    manifest = trusted.fetch_manifest(alice)
    assert alice.chain.manifest_hash == manifest.hash
    for account in people.values():
        (held,) = trusted.list_held_shares(account)
        assert (held.owner, held.set_id, held.k, held.n, held.is_current) == (ALICE, chosen.set_id, 2, 3, True)
    assert next(one for one in doors.status(alice) if one.kind == doors.CONTACTS).is_open


def test_share_reaches_every_device_of_a_contact(world: Members) -> None:
    alice, bob = world.enrolled(ALICE), world.enrolled(BOB)
    vault.save(bob)
    second = new_device(world, BOB)
    pairing.accept(bob, pairing.request(second).text())
    pairing.complete(second)
    world.enrolled(CAROL)
    trusted.choose(alice, [BOB, CAROL], k=2)
    for account in (bob, second):
        assert [one.is_current for one in took(account)] == [True]


def test_held_share_follows_its_keeper_to_a_new_device(world: Members) -> None:
    _alice, people = befriended(world)
    bob = people[BOB]
    vault.save(bob)
    second = new_device(world, BOB)
    pairing.accept(bob, pairing.request(second).text())
    pairing.complete(second)
    contacts.refresh(second, ALICE)
    assert [(one.owner, one.is_current) for one in trusted.list_held_shares(second)] == [(ALICE, True)]


@pytest.mark.parametrize(("people", "k"), [((BOB,), 1), ((BOB, BOB), 2), ((BOB, ALICE), 2), ((BOB, CAROL), 3)])
def test_impossible_sets_are_refused(world: Members, people: tuple[bytes, ...], k: int) -> None:
    alice = world.enrolled(ALICE)
    for one in (BOB, CAROL):
        world.enrolled(one)
    with pytest.raises(WrongInput, match="cannot be"):
        trusted.choose(alice, people, k=k)
    assert world.server.doors == {}


def test_interrupted_set_is_carried_on_and_the_shares_leave_no_trace(world: Members) -> None:
    alice = world.enrolled(ALICE)
    people = {one: world.enrolled(one) for one in PEOPLE}
    world.server.instead["PUT recovery/contacts"] = lambda _body: (503, {"title": "x", "code": "x", "detail": "x"})
    with pytest.raises(Problem):
        trusted.choose(alice, PEOPLE, k=2)
    assert alice.chain.manifest_hash is None
    for account in people.values():
        # Signed by the owner's key of now, and about to stand in the owner's chain.
        assert [one.is_current for one in took(account)] == [False]
    world.server.instead.clear()
    assert trusted.resume(alice)
    assert alice.store.get(*trusted._UNDER_WAY) is None
    assert not trusted.resume(alice)
    for account in people.values():
        contacts.refresh(account, ALICE)
        assert [one.is_current for one in took(account)] == [True]


def test_replaced_contact_loses_nothing_for_the_owner(world: Members) -> None:
    alice, people = befriended(world)
    erin = b"erin------------"
    people[erin] = world.enrolled(erin)
    before = trusted.find_chosen_set(alice)
    trusted.choose(alice, [BOB, CAROL, erin], k=2)
    for account in people.values():
        took(account)
    assert took(people[DAN]) == []
    assert before is not None
    assert {one.set_id for one in trusted.list_held_shares(people[BOB])}.isdisjoint({before.set_id})
    tablet = new_device(world)
    asked = share_requests.open_request(tablet)
    assert DAN not in asked.contacts
    for one in (BOB, erin):
        share_requests.give(people[one], asked.request_id, code=asked.code)
    assert share_requests.gather(tablet).vault.epoch == 1


def test_old_shares_stay_good_until_the_new_set_is_complete(world: Members) -> None:
    alice, people = befriended(world)
    world.server.instead["PUT recovery/contacts"] = lambda _body: (503, {"title": "x", "code": "x", "detail": "x"})
    with pytest.raises(Problem):
        trusted.choose(alice, PEOPLE, k=3)
    world.server.instead.clear()
    for account in people.values():
        assert [one.is_current for one in took(account)] == [True, False]
    tablet = new_device(world)
    asked = share_requests.open_request(tablet)
    for one in (BOB, CAROL):
        share_requests.give(people[one], asked.request_id, code=asked.code)
    share_requests.gather(tablet)


def test_changed_vault_key_gives_the_same_contacts_fresh_shares(world: Members) -> None:
    alice, people = befriended(world)
    before = trusted.find_chosen_set(alice)
    vault.begin_epoch(alice, key=new_vault_key(), epoch=2)
    assert doors.list_closed(alice) == [doors.CONTACTS]
    assert trusted.reshare(alice)
    after = trusted.find_chosen_set(alice)
    assert before is not None
    assert after is not None
    assert (after.contacts, after.k, after.epoch) == (before.contacts, before.k, 2)
    assert after.set_id != before.set_id
    assert doors.list_closed(alice) == []
    sent = len(world.server.log)
    assert trusted.reshare(alice)
    assert all(method == "GET" for method, _path, _body in world.server.log[sent:])
    assert [one.set_id for one in took(people[BOB])] == [after.set_id]


def test_reshare_does_nothing_without_contacts(world: Members) -> None:
    assert not trusted.reshare(world.enrolled(ALICE))


def test_contact_who_began_again_needs_a_human_before_anything_is_given_to_them(world: Members) -> None:
    alice = world.enrolled(ALICE)
    world.enrolled(BOB)
    world.enrolled(CAROL)
    contacts.refresh(alice, BOB)
    alice.state.contacts[BOB].unconfirmed = alice.state.contacts[BOB].entries[-1:]
    alice.state.contacts[BOB].entries = alice.state.contacts[BOB].entries[:-1]
    with pytest.raises(PeerChanged):
        trusted.choose(alice, [BOB, CAROL], k=2)
    assert world.server.doors == {}


def test_rotation_goes_on_when_a_contact_began_again_and_says_that_the_door_is_closed(world: Members) -> None:
    alice, people = befriended(world)
    bob = alice.state.contacts[BOB]
    bob.unconfirmed, bob.entries = bob.entries[-1:], bob.entries[:-1]
    vault.save(alice)
    done = rotation.rotate(alice, {"vault"}, reason=Reason.USER_REQUEST)
    assert done.is_done
    assert done.needs == (doors.CONTACTS,)
    with pytest.raises(PeerChanged):
        trusted.choose(alice, PEOPLE, k=2)
    trusted.choose(alice, [CAROL, DAN], k=2)
    assert doors.list_closed(alice) == []
    assert [one.is_current for one in took(people[CAROL])] == [True]


# Asking for them


def test_request_waits_for_k_contacts_and_opens_the_vault(world: Members) -> None:
    alice, people = befriended(world)
    tablet = new_device(world)
    asked = share_requests.open_request(tablet)
    assert (len(asked.code), asked.k, asked.state) == (6, 2, "open")
    assert share_requests.open_request(tablet).request_id == asked.request_id
    (seen,) = share_requests.list_requests(people[BOB])
    assert (seen.request_id, seen.owner, seen.holds_share) == (asked.request_id, ALICE, True)
    share_requests.give(people[BOB], asked.request_id, code=" ".join(asked.code).split())
    with pytest.raises(NotYet, match="1 of 2"):
        share_requests.gather(tablet)
    share_requests.give(people[DAN], asked.request_id, code=["".join(asked.code)])
    done = share_requests.gather(tablet)
    assert done.blamed == []
    assert tablet.identity_key.public == alice.identity_key.public
    with pytest.raises(NotPossible, match="has not asked"):
        share_requests.gather(tablet)


@pytest.mark.parametrize("before", [0, 1, 105])
def test_share_that_waits_in_the_mailbox_is_held_for_whoever_asks(world: Members, before: int) -> None:
    """Also behind more messages than come at once; and neither seeing nor giving asks that somebody fetched before."""
    alice, bob, carol = (world.published(one) for one in (ALICE, BOB, CAROL))
    for number in range(before):
        messages.send(alice, BOB, b"%d" % number)
    trusted.choose(alice, [BOB, CAROL], k=2)
    tablet = new_device(world)
    asked = share_requests.open_request(tablet)
    assert [one.holds_share for one in share_requests.list_requests(bob)] == [True]
    for account in (bob, carol):
        share_requests.give(account, asked.request_id, code=asked.code)
    assert share_requests.gather(tablet).blamed == []
    assert len(messages.receive(bob)) == before


@pytest.mark.parametrize("ended", ["open", "vetoed", "unknown to the server"])
def test_device_is_free_to_ask_anew_however_its_request_ended(world: Members, ended: str) -> None:
    befriended(world)
    tablet = new_device(world)
    asked = share_requests.open_request(tablet)
    if ended == "unknown to the server":
        world.server.instead[f".*/requests/{asked.request_id}.*"] = lambda _body: refused(404, "not-found")
        with pytest.raises(ClientError, match="does not know"):
            share_requests.gather(tablet)
        assert tablet.store.get("share-request", b"") is not None, "it may be put back"
    else:
        world.server.requests[str(asked.request_id)]["state"] = ended
    share_requests.cancel_request(tablet)
    assert share_requests.open_request(tablet).request_id != asked.request_id


def test_live_device_hears_of_a_request_and_its_veto_ends_it(world: Members) -> None:
    alice, people = befriended(world)
    tablet = new_device(world)
    asked = share_requests.open_request(tablet)
    for one in (BOB, CAROL):
        share_requests.give(people[one], asked.request_id, code=asked.code)
    letters.fetch(alice)
    assert [one.event for one in letters.notices(alice)] == ["contacts-request"]
    (pending,) = share_requests.requests(alice)
    assert (pending.device, pending.answered) == (tablet.device.id, 2)
    share_requests.veto(alice, pending.request_id)
    with pytest.raises(NotPossible, match="vetoed") as refused:
        share_requests.gather(tablet)
    assert "objected" in refused.value.way_out
    with pytest.raises(Problem):
        share_requests.give(people[DAN], asked.request_id, code=asked.code)


def test_delay_of_the_server_is_waited_for(world: Members) -> None:
    _alice, people = befriended(world)
    world.server.delay_seconds = DAY
    tablet = new_device(world)
    asked = share_requests.open_request(tablet)
    assert asked.not_before == NOW + DAY
    for one in (BOB, CAROL):
        share_requests.give(people[one], asked.request_id, code=asked.code)
    with pytest.raises(NotYet, match="delay"):
        share_requests.gather(tablet)
    at(world, tablet, NOW + DAY)
    share_requests.gather(tablet)


def test_withdrawn_request_destroys_its_key_and_can_be_made_again(world: Members) -> None:
    befriended(world)
    tablet = new_device(world)
    first = share_requests.open_request(tablet)
    share_requests.cancel_request(tablet)
    with pytest.raises(NotPossible, match="has not asked"):
        share_requests.request_status(tablet)
    assert share_requests.open_request(tablet).code != first.code


def test_request_whose_answer_was_lost_is_sent_again_as_it_was(world: Members) -> None:
    befriended(world)
    tablet = new_device(world)
    world.server.lies["POST recovery/contacts/requests"] = lambda _answer: {"nonsense": 1}
    with pytest.raises(AnswerRefused):
        share_requests.open_request(tablet)
    with pytest.raises(NotPossible, match="has not asked"):
        share_requests.gather(tablet)
    world.server.lies.clear()
    share_requests.open_request(tablet)
    first, second = world.server.posted("recovery/contacts/requests")
    assert first == second


def test_account_without_contacts_asks_nobody(world: Members) -> None:
    world.enrolled(ALICE)
    with pytest.raises(NotPossible, match="no trusted contacts"):
        share_requests.open_request(new_device(world))


# Wrong shares


def test_wrong_share_is_laid_to_its_contact_and_replaced_by_anothers(world: Members) -> None:
    _alice, people = befriended(world)
    tablet = new_device(world)
    asked = share_requests.open_request(tablet)
    for one in (BOB, CAROL):
        share_requests.give(people[one], asked.request_id, code=asked.code)
    row = world.server.requests[str(asked.request_id)]
    row["shares"][text(CAROL)] = b64u(bytes(1300))
    with pytest.raises(NotYet, match=f"1 of 2.*{UUID(bytes=CAROL)}"):
        share_requests.gather(tablet)
    share_requests.give(people[DAN], asked.request_id, code=asked.code)
    assert share_requests.gather(tablet).blamed == [CAROL]


def test_share_of_another_set_is_refused_before_anything_is_combined(world: Members) -> None:
    alice, people = befriended(world)
    old = {one.key: one for one in trusted.load_held_shares(people[CAROL])}
    vault.begin_epoch(alice, key=new_vault_key(), epoch=2)
    trusted.reshare(alice)
    for account in people.values():
        took(account)
    tablet = new_device(world)
    asked = share_requests.open_request(tablet)
    share_requests.give(people[BOB], asked.request_id, code=asked.code)
    (kept,) = old.values()
    request, _key, _id = share_requests._own(tablet)
    sealed = seal(kept.share.to_secret(), to=request.key, info=contact_shares._answer_info(request, CAROL))
    world.server.requests[str(asked.request_id)]["shares"][text(CAROL)] = b64u(sealed)
    with pytest.raises(NotYet, match=str(UUID(bytes=CAROL))):
        share_requests.gather(tablet)


def test_contact_whose_share_is_of_an_older_set_is_told_so(world: Members) -> None:
    alice, people = befriended(world)
    vault.begin_epoch(alice, key=new_vault_key(), epoch=2)
    trusted.reshare(alice)
    world.server.mailboxes[people[BOB].device_text].clear()
    asked = share_requests.open_request(new_device(world))
    with pytest.raises(NotPossible, match="no share of the set"):
        share_requests.give(people[BOB], asked.request_id, code=asked.code)


# What the server may not do


def test_request_key_swapped_by_the_server_has_another_code(world: Members) -> None:
    _alice, people = befriended(world)
    tablet = new_device(world)
    asked = share_requests.open_request(tablet)
    request, _key, _id = share_requests._own(tablet)
    forged = dataclasses.replace(request, key=SealingKey.generate().public)
    world.server.requests[str(asked.request_id)]["request"] = b64u(forged.to_payload())
    with pytest.raises(WrongWords, match="Nothing was given"):
        share_requests.give(people[BOB], asked.request_id, code=asked.code)
    assert world.server.requests[str(asked.request_id)]["shares"] == {}


def test_request_of_the_servers_own_is_not_answered_with_another_ones_code(world: Members) -> None:
    alice, people = befriended(world)
    asked = share_requests.open_request(new_device(world))
    rogue = new_device(world)
    made, _key = ShareRequest.new(
        rogue.header(lasts_seconds=3600),
        device_hash=Sign1.parse(rogue.device.statement).payload_hash,
        manifest_hash=alice.chain.manifest_hash or b"",
    )
    answer = rogue.api.post("recovery/contacts/requests", {"request": b64u(made.to_payload())})
    with pytest.raises(WrongWords):
        share_requests.give(people[BOB], UUID(bytes=answer.identifier("request_id")), code=asked.code)


@pytest.mark.parametrize("code", [[], [""], ["00000"] * 6, ["1"]])
def test_give_refuses_digits_that_were_not_heard(world: Members, code: list[str]) -> None:
    _alice, people = befriended(world)
    asked = share_requests.open_request(new_device(world))
    with pytest.raises(WrongWords):
        share_requests.give(people[BOB], asked.request_id, code=code)


def test_expired_request_is_not_answered(world: Members) -> None:
    _alice, people = befriended(world)
    asked = share_requests.open_request(new_device(world))
    at(world, people[BOB], NOW + 4 * DAY)
    with pytest.raises(NotPossible, match="expired"):
        share_requests.give(people[BOB], asked.request_id, code=asked.code)


def test_manifest_other_than_the_chain_names_is_refused(world: Members) -> None:
    alice, _people = befriended(world)
    old = world.server.manifests[text(ALICE)]["manifest"]
    trusted.choose(alice, [BOB, CAROL], k=2)
    world.server.lies["GET recovery/contacts"] = lambda answer: {**answer, "manifest": old}
    with pytest.raises(TrustRefused, match="another one than your account chain names"):
        share_requests.open_request(new_device(world))


def test_manifest_of_the_servers_own_is_refused(world: Members) -> None:
    alice, _people = befriended(world)
    own = contact_shares.prepare(
        new_vault_key(),
        owner=DoorOwner(alice.tenant, ALICE, 1),
        header=alice.header(),
        contacts=[MALLORY, CAROL],
        k=2,
    )
    forged = sign(own.manifest.to_payload(), purpose=Purpose.SHARE_MANIFEST, key=SigningKey.generate())
    world.server.lies["GET recovery/contacts"] = lambda answer: {**answer, "manifest": b64u(forged.encode())}
    with pytest.raises(TrustRefused, match="trusted contacts"):
        share_requests.open_request(new_device(world))


def test_contacts_door_swapped_on_the_server_is_refused(world: Members) -> None:
    alice, people = befriended(world)
    old = world.server.doors[text(ALICE)]["contacts"]
    trusted.choose(alice, PEOPLE, k=2)
    for account in people.values():
        took(account)
    world.server.doors[text(ALICE)]["contacts"] = old
    tablet = new_device(world)
    asked = share_requests.open_request(tablet)
    for one in (BOB, CAROL):
        share_requests.give(people[one], asked.request_id, code=asked.code)
    with pytest.raises(TrustRefused, match="not the one that the manifest names"):
        share_requests.gather(tablet)


def forged_letter(world: Members, owner: Account, contact: Account, key: SigningKey) -> bytes:
    made = contact_shares.prepare(
        SecretBytes(bytes(32)),
        owner=DoorOwner(owner.tenant, owner.user, 1),
        header=owner.header(),
        contacts=[contact.user, DAN],
        k=2,
    )
    signed = sign(made.manifest.to_payload(), purpose=Purpose.SHARE_MANIFEST, key=key)
    return contact_shares.seal_share(
        made.shares[contact.user],
        manifest=made.manifest,
        statement=signed,
        contact=contact.user,
        to=contact.device_statement,
    )


def test_share_letter_from_a_stranger_is_not_kept(world: Members) -> None:
    _alice, people = befriended(world)
    mallory = world.enrolled(MALLORY)
    bob = people[BOB]
    owner = _alice
    letter = forged_letter(world, owner, bob, mallory.identity_key)
    letters.send(mallory, bob.device.id, LetterKind.SHARE, letter)
    letters.send(mallory, bob.device.id, LetterKind.SHARE, b"\xff" * 40)
    before = trusted.list_held_shares(bob)
    assert took(bob) == before
    assert letters.waiting(bob, LetterKind.SHARE) == []


def test_share_sealed_to_another_contact_is_not_kept(world: Members) -> None:
    alice = world.enrolled(ALICE)
    people = {one: world.enrolled(one) for one in PEOPLE}
    trusted.choose(alice, PEOPLE, k=2)
    boxes = world.server.mailboxes
    to_bob = [one for one in boxes[people[BOB].device_text] if one["kind"] == "share"]
    boxes[people[CAROL].device_text] = to_bob
    assert took(people[CAROL]) == []
    assert [one.is_current for one in took(people[BOB])] == [True]


def test_share_that_the_manifest_does_not_commit_to_is_not_kept(world: Members) -> None:
    alice = world.enrolled(ALICE)
    people = {one: world.enrolled(one) for one in PEOPLE}
    trusted.choose(alice, PEOPLE, k=2)
    box = world.server.mailboxes[people[BOB].device_text]
    letter = decode(unb64u(box[-1]["message"]))
    assert isinstance(letter, dict)
    statement = Sign1.parse(letter[2] if isinstance(letter[2], bytes) else b"")
    manifest = Manifest.from_payload(statement.payload)
    bob = people[BOB]
    info = contact_shares._share_info(manifest, BOB, bob.device.id)
    assert isinstance(letter[3], bytes)
    right = ContactShare.from_secret(open_sealed(letter[3], key=bob.sealing_key, info=info))
    wrong = dataclasses.replace(right, blind=bytes(32))
    sealed = seal(wrong.to_secret(), to=bob.sealing_key.public, info=info)
    box[-1]["message"] = b64u(encode({**letter, 3: sealed}))
    assert took(bob) == []


def test_device_that_is_not_in_a_contacts_chain_gets_no_share(world: Members) -> None:
    alice, bob = world.enrolled(ALICE), world.enrolled(BOB)
    world.enrolled(CAROL)
    rogue = new_device(world, BOB)
    statement = b64u(rogue.device.statement)
    world.server.lies[f"GET devices/{bob.device_text}"] = lambda answer: {**answer, "device_statement": statement}
    with pytest.raises(TrustRefused):
        trusted.choose(alice, [BOB, CAROL], k=2)
    assert not [one for one in world.server.mailboxes.get(rogue.device_text, []) if one["kind"] == "share"]


def test_letter_waits_while_its_owners_chain_cannot_be_had(world: Members) -> None:
    alice = world.enrolled(ALICE)
    people = {one: world.enrolled(one) for one in PEOPLE}
    trusted.choose(alice, PEOPLE, k=2)
    path = f"GET users/{text(ALICE)}/chain"
    gone: Callable[[Any], Any] = lambda _body: (503, {"title": "x", "code": "x", "detail": "x"})  # noqa: E731
    world.server.instead[path] = gone
    assert took(people[BOB]) == []
    world.server.instead.clear()
    assert [one.is_current for one in took(people[BOB])] == [True]


def test_shares_and_secret_never_reach_the_server_in_the_clear(world: Members) -> None:
    alice, people = befriended(world)
    rotation.rotate(alice, {"vault"}, reason=Reason.USER_REQUEST)
    for account in people.values():
        took(account)
    tablet = new_device(world)
    asked = share_requests.open_request(tablet)
    for one in (BOB, CAROL):
        share_requests.give(people[one], asked.request_id, code=asked.code)
    share_requests.gather(tablet)
    sent = repr(world.server.log)
    for account in people.values():
        (kept,) = trusted.load_held_shares(account)
        assert b64u(kept.share.share.reveal()) not in sent
        assert account.store.get(HELD_SHARE, kept.key) is not None
    assert b64u(tablet.state.vault.key.reveal()) not in sent
