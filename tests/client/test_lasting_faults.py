# SPDX-License-Identifier: Apache-2.0
"""What must not last: one bad answer, one device that was off, one interruption, and the profile goes on."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from holdfast.client.errors import AnswerRefused, Unreachable
from holdfast.client.identity import chains
from holdfast.client.maintenance import Outcome, maintain
from holdfast.client.messages import letters, messages, prekeys
from holdfast.client.messages.outbox import OUTBOX
from holdfast.client.messages.reports import ReportKind
from holdfast.client.profile.account import Account
from holdfast.client.profile.state import Contact
from holdfast.client.rotation import rotation
from holdfast.client.server import answers
from holdfast.client.vault import pairing, trusted, vault
from holdfast.core.base.encoding import Encodable, b64u, label, unb64u
from holdfast.core.identity.entries import Entry, Reason
from tests.cast.members import ALICE, BOB, MALLORY, Members
from tests.client.rotation.test_rotation import reopened, with_vault

DAY = 86_400


def texts(account: Account) -> list[bytes]:
    found = messages.receive(account)
    for one in found:
        one.done()
    return [one.body for one in found]


def two_who_write(world: Members) -> tuple[Account, Account]:
    alice, bob = with_vault(world), world.published(BOB)
    messages.send(alice, BOB, b"hello")
    assert texts(bob) == [b"hello"]
    messages.send(bob, ALICE, b"hello back")
    assert texts(alice) == [b"hello back"]
    return alice, bob


# A device that was off


def test_device_that_was_off_for_a_month_keeps_nobody_from_writing_to_its_owner(world: Members) -> None:
    alice, bob = world.published(ALICE), world.published(BOB)
    world.another(bob, "drawer")
    world.now += 31 * DAY
    prekeys.publish(alice)
    prekeys.publish(bob)
    assert messages.send(alice, BOB, b"hello").is_sent
    assert texts(bob) == [b"hello"]


def test_device_that_was_off_for_a_month_keeps_its_owner_from_writing_to_nobody(world: Members) -> None:
    alice, bob = world.published(ALICE), world.published(BOB)
    drawer = world.another(alice, "drawer")
    world.now += 31 * DAY
    prekeys.publish(alice)
    prekeys.publish(bob)
    assert messages.send(alice, BOB, b"hello").is_sent
    assert texts(bob) == [b"hello"]
    prekeys.publish(drawer)
    assert messages.send(alice, BOB, b"and again").is_sent
    assert [one.body for one in messages.receive(drawer)] == [b"and again"]


def test_session_with_a_device_that_is_off_goes_on(world: Members) -> None:
    alice, bob = world.published(ALICE), world.published(BOB)
    phone = world.another(bob)
    messages.send(alice, BOB, b"to both")
    assert texts(phone) == [b"to both"]
    messages.send(phone, ALICE, b"from the phone")
    assert texts(alice) == [b"from the phone"]
    world.now += 31 * DAY
    prekeys.publish(alice)
    prekeys.publish(bob)
    assert messages.send(alice, BOB, b"still to both").is_sent
    assert b"still to both" in texts(bob)


# An interruption


def test_rotation_taken_up_a_day_later_is_signed_anew(world: Members, monkeypatch: pytest.MonkeyPatch) -> None:
    alice = with_vault(world)

    def down(*_: Any) -> None:
        raise Unreachable("down")

    with monkeypatch.context() as patch:
        patch.setattr(chains, "upload", down)
        with pytest.raises(Unreachable):
            rotation.rotate(alice, {"identity"}, reason=Reason.USER_REQUEST)
    world.now += DAY
    (done,) = rotation.resume(alice)
    assert done.is_done
    entry = Entry.parse(alice.state.chain[-1])
    assert entry.header.issued_at == world.now


def test_device_rotation_cut_off_before_it_was_taken_into_use_is_finished_by_maintenance(
    world: Members, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = with_vault(world)

    def cut(*_: Any) -> None:
        raise Unreachable("down")

    with monkeypatch.context() as patch:
        patch.setattr(rotation, "_take_into_use", cut)
        with pytest.raises(Unreachable):
            rotation.rotate(alice, {"device"}, reason=Reason.USER_REQUEST)
    again = reopened(world, alice)
    report = maintain(again)
    assert [one.outcome for one in report if one.item == "rotation"] == [Outcome.DONE]
    assert again.device.is_active
    assert again.device.id != alice.device.id


def test_message_that_waited_over_a_change_of_device_keys_is_encrypted_anew(
    world: Members, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, bob = two_who_write(world)
    post = alice.api.post

    def down(path: str, document: Any, **more: Any) -> Any:
        if path.endswith("/messages"):
            raise Unreachable("down")
        return post(path, document, **more)

    with monkeypatch.context() as patch:
        patch.setattr(alice.api, "post", down)
        assert not messages.send(alice, BOB, b"precious").is_sent
    rotation.rotate(alice, {"device"}, reason=Reason.USER_REQUEST)
    messages.flush(alice)
    assert alice.store.keys(OUTBOX) == []
    assert b"precious" in texts(bob)
    assert messages.reports(bob) == []


def test_device_that_was_off_over_two_rotations_comes_back(world: Members) -> None:
    alice = with_vault(world)
    phone = world.another(alice)
    pairing.sync(alice)
    maintain(phone)
    rotation.rotate(alice, {"vault", "identity"}, reason=Reason.USER_REQUEST)
    rotation.rotate(alice, {"device"}, reason=Reason.USER_REQUEST)
    maintain(phone)
    assert phone.state.vault.epoch == alice.state.vault.epoch
    assert phone.identity_key.public == phone.chain.aik == alice.chain.aik


def test_share_sealed_to_the_keys_before_a_device_rotation_is_kept(world: Members) -> None:
    alice, bob = with_vault(world), world.published(BOB)
    world.published(MALLORY)
    vault.save(bob)
    trusted.choose(alice, [BOB, MALLORY], k=2)
    rotation.rotate(bob, {"device"}, reason=Reason.USER_REQUEST)
    letters.fetch(bob)
    (share,) = trusted.take_shares(bob)
    assert share.owner == ALICE


# A stranger's chain


def test_strangers_chain_as_long_as_the_vault_keeps_no_key_out_of_it(world: Members) -> None:
    alice, bob = with_vault(world), world.published(BOB)
    messages.send(alice, BOB, b"hello")
    alice.state.contacts[BOB].verified = bob.chain.head
    alice.state.contacts[MALLORY] = Contact(MALLORY, [bytes(1_000)] * 1_300)
    alice.save()
    phone = world.another(alice)
    rotation.rotate(alice, {"identity", "vault"}, reason=Reason.USER_REQUEST)
    maintain(phone)
    assert phone.identity_key.public == alice.chain.aik
    assert set(phone.state.contacts) == {BOB}
    assert set(alice.state.contacts) == {BOB, MALLORY}
    assert vault.save_if_changed(alice) is None


# One bad answer


@pytest.mark.parametrize("at", ["1969-12-31T23:59:59Z", "0001-01-01T00:00:00Z"])
def test_time_before_1970_is_refused_and_leaves_nothing_behind(world: Members, at: str) -> None:
    alice, bob = world.published(ALICE), world.published(BOB)
    messages.send(alice, BOB, b"hello")
    letters.send(alice, bob.device.id, letters.LetterKind.SYNC, b"no share")

    def early(answer: Any) -> Any:
        return {**answer, "messages": [{**row, "received_at": at} for row in answer["messages"]]}

    world.server.lies["GET messages"] = early
    with pytest.raises(AnswerRefused):
        letters.fetch(bob)
    assert messages.receive(bob) == []
    assert {one.kind for one in messages.reports(bob)} == {ReportKind.UNDECRYPTABLE}
    world.server.lies.clear()
    messages.send(alice, BOB, b"hello again")
    letters.send(alice, bob.device.id, letters.LetterKind.SYNC, b"no share")
    assert texts(bob) == [b"hello again"]
    assert len(letters.waiting(bob, letters.LetterKind.SYNC)) == 1


@pytest.mark.parametrize(("count", "first"), [(9_000, 2**52), (10_001, 1_000_000)])
def test_keys_that_cannot_be_are_not_noted(world: Members, count: int, first: int) -> None:
    bob = world.published(BOB)
    ids = [first + number for number in range(count)]

    def many(answer: Any) -> Any:
        signed_hash = unb64u(answer["signed_pre_key_hash"])
        rows: list[tuple[bytes, list[int]]] = [(bytes(16), ids[:5_000]), (bytes(16), ids[5_000:])]
        digest = hashlib.sha256(label("server-holds", bob.device.id, signed_hash, list[Encodable](rows))).digest()
        batches = [{"batch_id": b64u(name), "key_ids": part} for name, part in rows]
        return {**answer, "batches": batches, "count": count, "digest": b64u(digest)}

    world.server.lies["POST devices/[0-9a-f-]+/check"] = many
    with pytest.raises(AnswerRefused, match="more pre-keys"):
        prekeys.publish(bob)
    world.server.lies.clear()
    assert prekeys.publish(bob).count


@pytest.mark.parametrize("text", ['"\\ud800"', '["a", "\\udfff"]', '{"\\ud800": 1}'])
def test_half_a_surrogate_pair_is_no_answer(text: str) -> None:
    with pytest.raises(AnswerRefused):
        answers.parse(b'{"detail": ' + text.encode() + b"}")
    assert answers.parse(b'{"detail": "\\ud83d\\udd12"}').text("detail") == "\U0001f512"
