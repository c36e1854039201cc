# SPDX-License-Identifier: Apache-2.0
"""Messages as a developer sends and receives them: any size, in order, once, and not lost by an interruption."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from holdfast.client.errors import AnswerRefused, NotPossible, Problem
from holdfast.client.identity import peers
from holdfast.client.messages import messages
from holdfast.client.messages.messages import ReportKind, TooLarge
from holdfast.client.messages.outbox import OUTBOX
from holdfast.client.profile.account import Account
from holdfast.client.sessions import sessions
from holdfast.core.messages.content import MAX_LARGE
from tests.cast.lying_server import text
from tests.cast.members import ALICE, BOB, MALLORY, Members
from tests.client import cuts
from tests.client.cuts import Moments, Scene
from tests.client.sessions.test_sessions import revoke
from tests.soak import rounds


def received(account: Account) -> list[bytes]:
    """Receive and take everything."""
    found = messages.receive(account)
    for one in found:
        one.done()
    return [one.body for one in found]


@pytest.mark.parametrize("size", [0, 1, 4096, 4097, 100_000, MAX_LARGE])
def test_content_of_any_size_arrives_byte_for_byte(world: Members, size: int) -> None:
    alice, bob = world.published(ALICE), world.published(BOB)
    tablet = world.another(bob)
    content = secrets.token_bytes(size)
    messages.send(alice, BOB, content)
    assert received(bob) == received(tablet) == [content]
    has_content = [row["has_content"] for _, _, body in world.server.log for row in body.get("messages", [])]
    assert not any(has_content)
    assert all(("content" in body) is (size > 4096) for body in world.server.posted(f"users/{text(BOB)}/messages"))


def test_content_above_a_mailbox_is_refused_with_the_way_out(world: Members) -> None:
    alice = world.published(ALICE)
    world.published(BOB)
    with pytest.raises(TooLarge, match="1,000,000") as refusal:
        messages.send(alice, BOB, bytes(MAX_LARGE + 1))
    assert "seal_large" in refusal.value.way_out
    assert world.server.posted(f"users/{text(BOB)}/messages") == []


def test_reference_to_the_apps_own_storage_opens_what_was_sealed(world: Members) -> None:
    alice, bob = world.published(ALICE), world.published(BOB)
    reference, ciphertext = messages.seal_large(b"a film" * 1000)
    messages.send_reference(alice, BOB, reference)
    (one,) = messages.receive(bob)
    assert one.body == b""
    assert one.reference is not None
    assert messages.open_large(ciphertext, one.reference) == b"a film" * 1000


def test_message_is_handed_out_until_the_app_says_done(world: Members) -> None:
    alice, bob = world.published(ALICE), world.published(BOB)
    messages.send(alice, BOB, b"one")
    (first,) = messages.receive(bob)
    messages.send(alice, BOB, b"two")
    again = messages.receive(bob)
    assert [one.body for one in again] == [b"one", b"two"]
    assert again[0] == first
    first.done()
    assert [one.body for one in messages.receive(bob)] == [b"two"]
    again[1].done()
    assert messages.receive(bob) == []


def test_mailbox_of_more_than_a_page_is_read_to_its_end(world: Members) -> None:
    alice, bob = world.published(ALICE), world.published(BOB)
    for number in range(230):
        messages.send(alice, BOB, b"%d" % number)
    assert received(bob) == [b"%d" % number for number in range(230)]


def test_person_without_keys_cannot_be_written_to_and_the_reason_is_said(world: Members) -> None:
    alice = world.published(ALICE)
    world.enrolled(BOB)
    with pytest.raises(NotPossible, match="no device") as refusal:
        messages.send(alice, BOB, b"one")
    assert "maintain" in refusal.value.way_out
    with pytest.raises(NotPossible, match="no account"):
        messages.send(alice, MALLORY, b"one")


def test_only_device_that_was_replaced_a_moment_ago_is_no_person_without_keys(world: Members) -> None:
    """The chain is asked for again when the one device of it that is known has no bundle any more."""
    alice, bob = world.published(ALICE), world.published(BOB)
    messages.send(bob, ALICE, b"hello")
    assert received(alice) == [b"hello"]
    tablet = world.another(bob, "tablet")
    tablet.state.identity_seed = bob.state.identity_seed
    revoke(tablet, bob.device.id)
    assert peers.is_fresh(alice, BOB)
    sessions.drop(alice.store, BOB)
    with suppress(NotPossible):
        messages.send(alice, BOB, b"one")
    assert received(tablet) == [b"one"]


def test_unreachable_server_leaves_the_message_to_be_sent_later_as_it_was(world: Members) -> None:
    alice, bob = world.published(ALICE), world.published(BOB)
    messages.send(alice, BOB, b"zero")
    path = f"users/{text(BOB)}/messages"
    alice.api._sleep = lambda _seconds: None
    world.server.lost.add(f"POST {path}")
    sent = messages.send(alice, BOB, b"one")
    assert not sent.is_sent
    world.server.lost.clear()
    flushed = messages.flush(alice)
    assert (len(flushed.sent), flushed.waiting, flushed.refused) == (1, [], {})
    # The act was done though its answer was lost: asked again under its key, the server does it once.
    assert received(bob) == [b"zero", b"one"]
    documents = world.server.posted(path)[1:]
    assert documents == [documents[0]] * len(documents)


def test_message_written_without_a_server_goes_to_the_devices_there_are_when_it_is_back(world: Members) -> None:
    alice, bob = world.published(ALICE), world.published(BOB)
    tablet = world.another(bob)
    messages.send(alice, BOB, b"zero")
    world.now += peers.FRESH_SECONDS
    alice.api._sleep = lambda _seconds: None
    world.server.lost.add(".*")
    assert not messages.send(alice, BOB, b"from the mountains").is_sent
    world.server.lost.clear()
    revoke(bob, tablet.device.id)
    waiting = len(world.server.mailboxes[tablet.device_text])
    # Even a server that would take it for the old devices is not given it for them.
    world.server.log.clear()
    assert [list(reached) for reached in messages.flush(alice).sent.values()] == [[bob.device.id]]
    posted = world.server.posted(f"users/{text(BOB)}/messages")
    assert [one["device_id"] for body in posted for one in body["envelopes"]] == [bob.device_text]
    assert len(world.server.mailboxes[tablet.device_text]) == waiting
    assert received(bob) == [b"zero", b"from the mountains"]


def test_next_message_sends_what_waited_before_it(world: Members) -> None:
    alice, bob = world.published(ALICE), world.published(BOB)
    messages.send(alice, BOB, b"zero")
    world.server.instead[f"POST users/{text(BOB)}/messages"] = lambda _body: refusal(503, "hsm-unavailable")
    alice.api._sleep = lambda _seconds: None
    for body in (b"one", b"two"):
        assert not messages.send(alice, BOB, body).is_sent
    world.server.instead.clear()
    assert messages.send(alice, BOB, b"three").is_sent
    assert received(bob) == [b"zero", b"one", b"two", b"three"]


def refusal(status: int, code: str, **more: Any) -> tuple[int, dict[str, Any]]:
    return status, {"title": code, "code": code, "detail": f"Refused: {code}.", **more}


def test_full_mailbox_keeps_the_message_here(world: Members) -> None:
    alice, bob = world.published(ALICE), world.published(BOB)
    messages.send(alice, BOB, b"zero")
    world.server.instead[f"POST users/{text(BOB)}/messages"] = lambda _body: refusal(409, "mailbox-full")
    assert not messages.send(alice, BOB, b"one").is_sent
    world.server.instead.clear()
    messages.flush(alice)
    assert received(bob) == [b"zero", b"one"]


@pytest.mark.parametrize(("status", "code"), [(422, "invalid"), (400, "malformed-request"), (413, "too-large")])
def test_refusal_for_good_is_raised_and_nothing_is_left_waiting(world: Members, status: int, code: str) -> None:
    alice = world.published(ALICE)
    world.published(BOB)
    messages.send(alice, BOB, b"zero")
    world.server.instead[f"POST users/{text(BOB)}/messages"] = lambda _body: refusal(status, code)
    with pytest.raises(Problem, match=code):
        messages.send(alice, BOB, b"one")
    assert alice.store.keys("outbox") == []
    (report,) = messages.reports(alice)
    assert report.kind is ReportKind.NOT_SENT
    report.done()
    assert messages.reports(alice) == []


def test_device_that_left_the_account_keeps_its_message_and_says_so(world: Members) -> None:
    alice, bob = world.published(ALICE), world.published(BOB)
    messages.send(alice, BOB, b"zero")
    world.server.instead[f"POST users/{text(BOB)}/messages"] = lambda _body: refusal(403, "denied")
    with pytest.raises(Problem):
        messages.send(alice, BOB, b"one")
    world.server.instead.clear()
    assert len(messages.flush(alice).sent) == 1
    assert received(bob) == [b"zero", b"one"]


def test_lost_acknowledgement_repeats_nothing(world: Members) -> None:
    alice, bob = world.published(ALICE), world.published(BOB)
    messages.send(alice, BOB, b"one")
    bob.api._sleep = lambda _seconds: None
    world.server.instead["POST messages/ack"] = lambda _body: refusal(503, "unavailable")
    with pytest.raises(Problem):
        messages.receive(bob)
    world.server.instead.clear()
    assert received(bob) == [b"one"]
    assert received(bob) == []
    assert messages.reports(bob) == []
    assert world.server.mailboxes[bob.device_text] == []


def test_letters_and_notices_are_kept_for_those_who_read_them(world: Members) -> None:
    from holdfast.client.messages import letters

    alice, bob = world.published(ALICE), world.published(BOB)
    letters.send(alice, bob.device.id, letters.LetterKind.SYNC, b"a letter")
    world.server.notice(text(BOB), {"event": "door-read", "kind": "password"})
    messages.send(alice, BOB, b"one")
    assert received(bob) == [b"one"]
    assert [one.message for one in letters.waiting(bob, letters.LetterKind.SYNC)] == [b"a letter"]
    assert [one.event for one in letters.notices(bob)] == ["door-read"]
    assert messages.reports(bob) == []


def test_message_that_is_never_sent_leaves_no_key_used_twice(world: Members) -> None:
    """A state from before an unsent message, restored, encrypts other bytes under another key: the salt is fresh."""
    alice, bob = world.published(ALICE), world.published(BOB)
    messages.send(alice, BOB, b"zero")
    kept = {key: alice.store.get("session", key) for key in alice.store.keys("session")}
    messages.send(alice, BOB, b"one")
    for key, value in kept.items():
        assert value is not None
        alice.store.put("session", key, value)
    messages.send(alice, BOB, b"two")
    sealed = [row["message"] for row in world.server.mailboxes[bob.device_text]]
    assert len(set(sealed)) == 3


# Interruptions


@pytest.mark.rounds("cuts")
def test_sending_cut_at_any_moment_loses_and_repeats_nothing(worlds: Iterator[Members]) -> None:
    # The first of the two goes by a fresh handshake, the second by the session; both to three devices.
    wanted = {secrets.token_bytes(16): b"message 0", secrets.token_bytes(16): b"large" * 1000}

    def scenes() -> Iterator[Scene]:
        for world in worlds:
            alice, bob = world.published(ALICE), world.published(BOB)
            yield Scene(world, alice, (bob, world.another(alice), world.another(bob)))

    def act(account: Account) -> None:
        for identifier, body in wanted.items():
            messages.send(account, BOB, body, message_id=identifier)
        assert account.store.keys("outbox") == []

    def check(scene: Scene) -> None:
        for account in scene.others:
            assert {one.id: one.body for one in messages.receive(account)} == wanted
            assert len(messages.receive(account)) == 2
            assert messages.reports(account) == []

    assert cuts.sweep(scenes(), act, check, step=rounds(3, 1)) >= 30


def test_receiving_cut_at_any_moment_loses_and_repeats_nothing(worlds: Iterator[Members]) -> None:
    handed: dict[bytes, bytes] = {}

    def scenes() -> Iterator[Scene]:
        for world in worlds:
            handed.clear()
            alice, bob, mallory = world.published(ALICE), world.published(BOB), world.published(MALLORY)
            # The first sender has a one-time key, the second has none left.
            world.server.batches[bob.device_text] = world.server.batches[bob.device_text][:1]
            messages.send(alice, BOB, b"one")
            messages.send(alice, BOB, b"two")
            messages.send(mallory, BOB, b"large" * 2000)
            yield Scene(world, bob, (alice,))

    def act(account: Account) -> None:
        for one in messages.receive(account):
            assert handed.setdefault(one.id, one.body) == one.body
            one.done()

    def check(scene: Scene) -> None:
        bob = cuts.reopened(scene.world, scene.account, Moments())
        assert list(handed.values()) == [b"one", b"two", b"large" * 2000]
        assert messages.receive(bob) == []
        assert messages.reports(bob) == []
        messages.send(bob, ALICE, b"and back")
        assert received(scene.others[0]) == [b"and back"]

    assert cuts.sweep(scenes(), act, check) >= 30


@pytest.mark.rounds("cuts")
def test_stale_answer_cut_at_any_moment_reaches_every_device_once(worlds: Iterator[Members]) -> None:
    def scenes() -> Iterator[Scene]:
        for world in worlds:
            alice, bob = world.published(ALICE), world.published(BOB)
            messages.send(bob, ALICE, b"zero")
            path = f"POST users/{text(ALICE)}/messages"
            bob.api._sleep = lambda _seconds: None
            world.server.instead[path] = lambda _body: refusal(503, "unavailable")
            messages.send(bob, ALICE, b"one")
            world.server.instead.clear()
            yield Scene(world, bob, (alice, world.another(alice)))

    def act(account: Account) -> None:
        messages.flush(account)
        assert account.store.keys("outbox") == []

    def check(scene: Scene) -> None:
        alice, phone = scene.others
        assert received(alice) == [b"zero", b"one"]
        assert received(phone) == [b"one"]
        assert messages.reports(alice) == messages.reports(phone) == []

    assert cuts.sweep(scenes(), act, check, step=rounds(3, 1)) >= 15


def test_answer_outside_the_protocol_ends_in_a_refusal(world: Members) -> None:
    alice = world.published(ALICE)
    world.published(BOB)
    world.server.lies["GET messages"] = lambda answer: {**answer, "messages": [{"message_id": "no id"}]}
    with pytest.raises(AnswerRefused, match="message_id"):
        messages.receive(alice)


@pytest.mark.parametrize("message_id", [b"", b"1", b"12345", bytes(15), bytes(17), bytes(32), bytes(16).hex().encode()])
def test_message_id_of_another_size_is_refused_before_anything_is_asked_for_or_queued(
    world: Members, message_id: bytes
) -> None:
    alice, _bob = world.published(ALICE), world.published(BOB)
    reference = messages.seal_large(b"dear bob")[0]
    before = len(world.server.log)
    for act in (
        lambda: messages.send(alice, BOB, b"hello", message_id=message_id),
        lambda: messages.send(alice, BOB, b"x" * 5000, message_id=message_id),
        lambda: messages.send_reference(alice, BOB, reference, message_id=message_id),
    ):
        with pytest.raises(ValueError, match="message id"):
            act()
    assert len(world.server.log) == before
    assert not alice.store.keys(OUTBOX)
    assert messages.send(alice, BOB, b"hello", message_id=bytes(range(16))).id == bytes(range(16))
