# SPDX-License-Identifier: Apache-2.0
"""Acknowledgements that a server or a member forges, withholds, repeats or moves: nothing is lost and called delivered.

Implements FAULTS S19 at the sender, and what junk in a device's name costs at the receiver.
"""

from __future__ import annotations

from collections.abc import Callable
from uuid import uuid4

import pytest

from holdfast.client.messages import messages, renewals, settling
from holdfast.client.messages.messages import ReportKind
from holdfast.client.profile.account import Account
from holdfast.client.sessions import sessions
from holdfast.core.base.encoding import Encodable, b64u, encode, unb64u
from holdfast.core.messages import repeats
from holdfast.core.messages.content import Content, ContentKind, acknowledgement_body
from tests.cast.lying_server import NOW, text
from tests.cast.malice import deliver
from tests.cast.members import ALICE, BOB, MALLORY, Members
from tests.client.messages.test_acknowledgements import claims, control_messages, junk, kept, met, pruned, talk
from tests.client.messages.test_messages import received, refusal
from tests.client.sessions.test_sessions import at, box

DAY = 86_400


def acknowledge(world: Members, sender: Account, to: Account, message_ids: list[bytes], body: bytes = b"") -> None:
    """Send an acknowledgement in a device's own session, as its own program would not: of whatever ids."""
    found = sessions.newest(sender, at(to))
    assert found is not None
    said = settling.compose(sender, ContentKind.ACKNOWLEDGEMENT, body or acknowledgement_body(message_ids))
    message = found[1].encrypt(said.encode())
    sessions.put(sender.store, *found, was_received_on=False)
    world.server.deliver(to.device_text, kind="message", message=b64u(message), sender=sender.device_text)


def only_unconfirmed(account: Account, message_id: bytes) -> None:
    (one,) = messages.unconfirmed(account)
    assert (one.id, one.is_confirmed) == (message_id, False)


@pytest.fixture
def written(world: Members) -> tuple[Account, Account, bytes]:
    """Alice has written to bob, who has not looked yet."""
    alice, bob = met(world)
    done = messages.send(alice, BOB, b"to be confirmed by bob alone")
    return alice, bob, done.id


Forgery = Callable[[Members, Account, Account, bytes], None]


def by_another_person(world: Members, alice: Account, _bob: Account, message_id: bytes) -> None:
    mallory = world.published(MALLORY)
    messages.send(mallory, ALICE, b"hello")
    received(alice)
    acknowledge(world, mallory, alice, [message_id])


def as_if_by_bob(world: Members, alice: Account, bob: Account, message_id: bytes) -> None:
    """Mallory's own message, which the server calls bob's."""
    by_another_person(world, alice, bob, message_id)
    row = box(world, alice)[-1]
    row |= {"sender_user": text(BOB), "sender_device": bob.device_text}


def in_no_session(world: Members, alice: Account, bob: Account, message_id: bytes) -> None:
    said = Content(ContentKind.ACKNOWLEDGEMENT, b"i" * 16, NOW, acknowledgement_body([message_id])).encode()
    world.server.deliver(alice.device_text, kind="message", message=b64u(said), sender=bob.device_text)


def by_an_old_one(world: Members, alice: Account, bob: Account, message_id: bytes) -> None:
    """An acknowledgement of before, handed over again, and once more with other bytes."""
    acknowledge(world, bob, alice, [b"of before-------"])
    row = dict(box(world, alice)[-1])
    received(alice)
    deliver(world, alice, row)
    changed = bytearray(unb64u(row["message"]))
    changed[-1] ^= 1
    deliver(world, alice, row, message=b64u(bytes(changed)))


def by_the_servers_own_word(world: Members, alice: Account, bob: Account, message_id: bytes) -> None:
    """The mailbox's own acknowledgement is the server's, and says nothing about the recipient."""
    box(world, bob).clear()
    world.server.notice(text(ALICE), {"event": "messages-read", "by": text(BOB), "messages": message_id.hex()})


def outside_the_format(world: Members, alice: Account, bob: Account, message_id: bytes) -> None:
    """Ids that are no ids, from bob's own session: the message says nothing at all."""
    found = sessions.newest(bob, at(alice))
    assert found is not None
    fields: dict[int, Encodable] = {1: 1, 2: 5, 3: b"i" * 16, 4: NOW, 5: message_id + b"x"}
    message = found[1].encrypt(encode(fields))
    sessions.put(bob.store, *found, was_received_on=False)
    world.server.deliver(alice.device_text, kind="message", message=b64u(message), sender=bob.device_text)


FORGERIES = [
    by_another_person, as_if_by_bob, in_no_session, by_an_old_one, by_the_servers_own_word, outside_the_format,
]  # fmt: skip


@pytest.mark.parametrize("forgery", FORGERIES)
def test_nobody_but_the_device_itself_confirms(
    world: Members, written: tuple[Account, Account, bytes], forgery: Forgery
) -> None:
    alice, bob, message_id = written
    forgery(world, alice, bob, message_id)
    received(alice)
    only_unconfirmed(alice, message_id)


def test_member_confirms_no_message_that_was_not_sent_to_them(
    world: Members, written: tuple[Account, Account, bytes]
) -> None:
    """They may say that they have what they have not: of their own messages, and of no other's."""
    alice, _, message_id = written
    mallory = world.published(MALLORY)
    messages.send(mallory, ALICE, b"hello")
    talk(alice, mallory)
    theirs = messages.send(alice, MALLORY, b"to mallory")
    before = world.copied(alice)
    acknowledge(world, mallory, alice, [message_id, theirs.id, *(bytes([number]) * 16 for number in range(250))])
    received(alice)
    only_unconfirmed(alice, message_id)
    assert set(alice.store.keys("sent")) < set(before.keys("sent")), "nothing was made for ids that are nobody's"


def test_withheld_acknowledgement_is_shown_as_not_confirmed_and_said_again(
    world: Members, written: tuple[Account, Account, bytes]
) -> None:
    alice, bob, message_id = written
    assert received(bob) == [b"to be confirmed by bob alone"]
    messages.flush(bob)
    assert len(box(world, alice)) == 1
    box(world, alice).clear()
    received(alice)
    only_unconfirmed(alice, message_id)
    # Nothing is repeated meanwhile, and the next that is confirmed a day later shows that this one may be lost.
    world.now += DAY
    messages.send(alice, BOB, b"a day later")
    assert talk(bob, alice) == [b"a day later"], "it is delivered once"
    assert messages.unconfirmed(alice) == []


def test_acknowledgements_withheld_for_ever_end_in_a_report(
    world: Members, written: tuple[Account, Account, bytes]
) -> None:
    alice, bob, _ = written
    for _ in range(40):
        talk(bob)
        box(world, alice).clear()
        world.now += DAY
        messages.care(alice)
        pruned(alice)
    assert kept(alice) == 0
    assert [report.kind for report in messages.reports(alice)] == [ReportKind.NOT_CONFIRMED]


def test_replayed_acknowledgement_confirms_nothing_a_second_time(world: Members) -> None:
    alice, bob = met(world)
    first = messages.send(alice, BOB, b"one", message_id=b"one-------------")
    received(bob)
    messages.flush(bob)
    row = dict(box(world, alice)[-1])
    received(alice)
    assert messages.unconfirmed(alice) == []
    # The app sends it again under the same id, and the server answers with the old acknowledgement.
    messages.send(alice, BOB, b"one", message_id=first.id)
    box(world, bob).clear()
    for _ in range(3):
        deliver(world, alice, row)
        received(alice)
    only_unconfirmed(alice, first.id)


def test_greeting_replayed_has_nothing_sent_again(world: Members) -> None:
    alice, bob = met(world)
    messages.greet(bob, [ALICE])
    row = dict(box(world, alice)[-1])
    talk(alice, bob)
    messages.send(alice, BOB, b"on its way")
    before = control_messages(world)
    for _ in range(5):
        deliver(world, alice, row)
        messages.receive(alice)
    assert control_messages(world) == before


@pytest.mark.parametrize("answer", [(404, "not-found"), (409, "mailbox-full"), (429, "message-limit"), (503, "away")])
def test_server_that_takes_no_acknowledgement_holds_up_nothing(
    world: Members, written: tuple[Account, Account, bytes], answer: tuple[int, str]
) -> None:
    alice, bob, _ = written
    bob.api._sleep = lambda _seconds: None
    world.server.instead[f"POST devices/{alice.device_text}/messages"] = lambda _body: refusal(*answer)
    assert received(bob) == [b"to be confirmed by bob alone"]
    assert messages.send(bob, ALICE, b"mine goes out").is_sent
    assert received(alice) == [b"mine goes out"]
    world.server.instead.clear()
    world.now += DAY
    talk(bob, alice)
    assert kept(alice) == kept(bob) == 0


def test_made_up_senders_without_end_leave_no_trace_and_cost_no_key(world: Members) -> None:
    alice, bob = met(world)
    before = {kind: set(bob.store.keys(kind)) for kind in ("session", "renewal")}
    claimed = claims(world)
    for _ in range(20):
        junk(world, bob, alice)
        box(world, bob)[-1] |= {"sender_user": str(uuid4()), "sender_device": str(uuid4())}
    messages.receive(bob)
    messages.receive(bob)
    assert {kind: set(bob.store.keys(kind)) for kind in before} == before
    assert claims(world) == claimed


def test_own_messages_handed_back_begin_no_session_with_oneself(world: Members) -> None:
    alice, bob = met(world)
    messages.send(alice, BOB, b"to bob")
    row = box(world, bob)[-1]
    claimed = claims(world)
    for device in (alice.device_text, bob.device_text):
        deliver(world, alice, row, sender_user=text(ALICE), sender_device=alice.device_text, to_device=device)
    messages.receive(alice)
    messages.receive(alice)
    assert claims(world) == claimed
    assert sessions.places(alice.store, at(alice)) == []


def test_junk_in_the_name_of_many_devices_begins_a_bounded_number_of_sessions(
    world: Members, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repeats, "MOST_BEGUN_OF_ALL", 2)
    alice, bob = met(world)
    others = [world.another(alice, f"device {number}") for number in range(4)]
    messages.send(bob, ALICE, b"to all")
    talk(alice, *others, bob)
    for one in (alice, *others):
        junk(world, bob, one)
    before = len(bob.store.keys("session"))
    messages.receive(bob)
    assert len(bob.store.keys("session")) == before + 2


@pytest.mark.parametrize("wrong", ["a bundle not to be believed", "a bundle that has expired", "no bundle", "refused"])
@pytest.mark.parametrize("why", ["it does not open", "it is sent again"])
def test_claim_of_which_nothing_comes_counts_as_one(world: Members, wrong: str, why: str) -> None:
    alice, bob = met(world)
    bob.api._sleep = alice.api._sleep = lambda _seconds: None
    path = f"POST devices/{bob.device_text}/claim"
    if why == "it does not open":
        junk(world, alice, bob)
    else:
        messages.send(alice, BOB, b"lost")
        box(world, bob).clear()
    if why == "it is sent again" or wrong == "a bundle that has expired":
        # Sessions are too old to send on, and so is what bob has published.
        world.now += 31 * DAY if wrong == "a bundle that has expired" else 8 * DAY
    if why == "it is sent again":
        with alice.store.transaction():
            renewals.note_again(alice, at(bob))
    if wrong == "a bundle not to be believed":
        world.server.lies[path] = lambda answer: {**answer, "suite": 1}
    elif wrong != "a bundle that has expired":
        world.server.instead[path] = lambda _body: refusal(
            *((404, "not-found") if wrong == "no bundle" else (403, "no"))
        )
    before = claims(world)
    for day in (1, 2):
        for _ in range(20):
            messages.receive(alice)
            world.now += 3600
        assert claims(world) - before == day * repeats.MOST_BEGUN
        world.now += DAY


def test_strangers_use_up_nobody_elses_sessions_begun_anew(world: Members, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repeats, "MOST_BEGUN_OF_ALL", 8)
    monkeypatch.setattr(repeats, "MOST_BEGUN_OF_STRANGERS", 2)
    alice, bob = met(world)
    phone = world.another(alice)
    messages.send(alice, BOB, b"so that there is a session with the phone")
    talk(phone, alice, bob)
    mallory = world.published(MALLORY)
    theirs = [mallory, *(world.another(mallory, f"device {number}") for number in range(4))]
    for number, one in enumerate(theirs):
        stray = b64u(b"\x01\x02\x02\x00" + bytes([number]) * 300)
        world.server.deliver(alice.device_text, kind="message", message=stray, sender=one.device_text)
    messages.receive(alice)
    assert renewals.begun_of_all(alice)[MALLORY] == 2
    for one in (bob, phone):
        junk(world, alice, one)
    messages.receive(alice)
    assert renewals.begun_of_all(alice) == {MALLORY: 2, BOB: 1, ALICE: 1}


def test_one_user_with_many_devices_uses_up_nobody_elses(world: Members, monkeypatch: pytest.MonkeyPatch) -> None:
    """A contact, whose devices all talk to this one, is bounded as a user."""
    monkeypatch.setattr(repeats, "MOST_BEGUN_OF_ONE", 2)
    alice, bob = met(world)
    mallory = world.published(MALLORY)
    theirs = [mallory, *(world.another(mallory, f"device {number}") for number in range(3))]
    messages.send(alice, MALLORY, b"to all")
    talk(*theirs, alice)
    for one in (*theirs, bob):
        junk(world, alice, one)
    messages.receive(alice)
    assert renewals.begun_of_all(alice) == {MALLORY: 2, BOB: 1}
