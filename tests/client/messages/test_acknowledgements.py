# SPDX-License-Identifier: Apache-2.0
"""What was sent is kept until it is acknowledged, and sent again in a session begun anew where one is dead."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest

from holdfast.client import standing
from holdfast.client.errors import Problem
from holdfast.client.identity import key_log, peers
from holdfast.client.maintenance import maintain
from holdfast.client.messages import messages, prekeys, renewals, sent, unsent
from holdfast.client.messages.messages import ReportKind
from holdfast.client.profile.account import Account
from holdfast.client.server.clock import Clock
from holdfast.client.sessions import sessions
from holdfast.client.sessions.sessions import Address
from holdfast.core.base.encoding import b64u, unb64u
from holdfast.core.base.errors import UnwrapFailed
from holdfast.core.messages import repeats
from holdfast.core.messages.content import Content, ContentKind
from holdfast.core.messages.session import read_message
from tests.cast.lying_server import text
from tests.cast.malice import understood
from tests.cast.members import ALICE, BOB, MALLORY, Members
from tests.client import cuts
from tests.client.cuts import Moments, Scene
from tests.client.messages.test_messages import received, refusal
from tests.client.sessions.test_sessions import at, box, ids, revoke
from tests.soak import rounds

DAY = 86_400


def met(world: Members) -> tuple[Account, Account]:
    """Two people who have written to each other, and have confirmed all of it."""
    alice, bob = world.published(ALICE), world.published(BOB)
    for one, other in ((alice, BOB), (bob, ALICE)):
        messages.send(one, other, b"hello")
        talk(alice, bob)
    assert kept(alice) == kept(bob) == 0
    return alice, bob


def talk(*accounts: Account, rounds: int = 4) -> list[bytes]:
    """Have everybody look into their mailbox in turn, and take what came; returns it in the order in which it did."""
    return [body for _ in range(rounds) for account in accounts for body in received(account)]


def kept(account: Account) -> int:
    """How many messages an account keeps to send them again, with all that belongs to them."""
    assert len(account.store.keys("sent")) == len(account.store.keys("sent-body"))
    return len(account.store.keys("sent"))


def control_messages(world: Members) -> int:
    """How many messages to single devices there were."""
    return len([1 for method, path, body in world.server.log if method == "POST" and body.get("kind") == "message"])


def claims(world: Members) -> int:
    """How many bundles were claimed."""
    return len([1 for method, path, _ in world.server.log if method == "POST" and path.endswith("/claim")])


@pytest.mark.parametrize("size", [0, 100, 4097, 1_000_000])
def test_what_was_sent_is_kept_until_the_app_of_the_other_end_has_taken_it(world: Members, size: int) -> None:
    alice, bob = met(world)
    content = secrets.token_bytes(size)
    done = messages.send(alice, BOB, content)
    (one,) = messages.unconfirmed(alice)
    assert (one.id, one.user.bytes, one.is_confirmed) == (done.id, BOB, False)
    assert [device.bytes for device in one.devices] == [bob.device.id]
    (found,) = messages.receive(bob)
    messages.flush(bob)
    messages.receive(alice)
    assert kept(alice) == 1, "in the profile is not in the app's hands"
    found.done()
    messages.flush(bob)
    messages.receive(alice)
    assert messages.unconfirmed(alice) == []
    assert kept(alice) == 0


def test_each_device_confirms_for_itself(world: Members) -> None:
    alice, bob = met(world)
    tablet, phone = world.another(bob), world.another(alice)
    messages.send(alice, BOB, b"to all")
    talk(bob, alice)
    own, theirs = sorted(messages.unconfirmed(alice), key=lambda one: one.user)
    assert (theirs.user.bytes, theirs.is_confirmed) == (BOB, True)
    assert [device.bytes for device in theirs.devices] == [tablet.device.id]
    assert (own.user.bytes, [device.bytes for device in own.devices]) == (ALICE, [phone.device.id])
    assert talk(tablet, alice, phone, alice) == [b"to all", b"to all"]
    assert kept(alice) == 0


def test_no_acknowledgement_is_answered_and_two_who_look_for_ever_send_nothing(world: Members) -> None:
    alice, bob = met(world)
    messages.send(alice, BOB, b"one")
    talk(alice, bob)
    before = control_messages(world)
    talk(alice, bob, rounds=10)
    assert control_messages(world) == before
    assert kept(alice) == kept(bob) == 0


def test_many_messages_are_confirmed_in_few(world: Members) -> None:
    alice, bob = met(world)
    for number in range(300):
        messages.send(alice, BOB, b"%d" % number)
    assert len(received(bob)) == 300
    before = control_messages(world)
    for _ in range(4):
        messages.flush(bob)
    assert control_messages(world) - before == 2
    messages.receive(alice)
    assert kept(alice) == 0


@pytest.mark.parametrize("answer", [(403, "denied"), (404, "not-found"), (409, "mailbox-full"), (503, "away")])
def test_message_that_waits_keeps_no_acknowledgement_here(world: Members, answer: tuple[int, str]) -> None:
    """One that the server does not take for weeks is no reason to leave others unconfirmed as long."""
    alice, bob = met(world)
    mallory = world.published(MALLORY)
    messages.send(alice, MALLORY, b"so that there is a session")
    talk(mallory, alice)
    alice.api._sleep = lambda _seconds: None
    world.server.instead[f"POST users/{text(MALLORY)}/messages"] = lambda _body: refusal(*answer)
    with contextlib.suppress(Problem):
        messages.send(alice, MALLORY, b"waits")
    messages.send(bob, ALICE, b"to be confirmed")
    (found,) = messages.receive(alice)
    found.done()
    assert messages.care(alice).waiting
    messages.receive(bob)
    assert kept(bob) == 0


# A session that died on one side


def both_write(alice: Account, bob: Account, word: bytes) -> list[bytes]:
    """Have both write without having read; returns what was written."""
    written = [b"%s %s" % (word, who) for who in (b"of alice", b"of bob")]
    messages.send(alice, BOB, written[0])
    messages.send(bob, ALICE, written[1])
    return written


@pytest.mark.parametrize("days", [0, 8])
@pytest.mark.parametrize("who", ["alice", "bob", "both"])
@pytest.mark.parametrize("written_after", ["nothing", "by alice", "by both"])
def test_every_message_is_there_after_a_profile_was_put_back_from_an_older_copy(
    world: Members, who: str, written_after: str, days: int
) -> None:
    alice, bob = met(world)
    copies = {"alice": world.copied(alice), "bob": world.copied(bob)}
    written, got = [], []
    for number in range(3):
        written += both_write(alice, bob, b"before %d" % number)
        got += talk(alice, bob, rounds=2)
    # On their way while it happens: read by nobody yet.
    meanwhile = both_write(alice, bob, b"meanwhile")
    world.now += days * DAY
    if days:
        # Who was not put back has renewed its pre-keys since.
        for account in (alice, bob):
            prekeys.publish(account)
    if who in ("alice", "both"):
        alice = world.put_back(copies["alice"])
    if who in ("bob", "both"):
        bob = world.put_back(copies["bob"])
    for account in (alice, bob):
        account.api._sleep = lambda _seconds: None
        prekeys.publish(account)
    if written_after in ("by alice", "by both"):
        messages.send(alice, BOB, b"after of alice")
        written.append(b"after of alice")
    if written_after in ("by bob", "by both"):
        messages.send(bob, ALICE, b"after of bob")
        written.append(b"after of bob")
    got += talk(alice, bob)
    # And it goes on in one session that is alive.
    written += both_write(alice, bob, b"afterwards")
    got += talk(alice, bob)
    if who == "both":
        # These exist nowhere any more but as ciphertext that neither can open. Both are told.
        assert not {*meanwhile} & {*got}
        for account in (alice, bob):
            assert ReportKind.UNDECRYPTABLE in {report.kind for report in messages.reports(account)}
    else:
        written += meanwhile
    assert sorted(set(got)) == sorted(written)
    written = both_write(alice, bob, b"at last")
    assert sorted(talk(alice, bob)) == sorted(written)
    before = control_messages(world)
    talk(alice, bob, rounds=5)
    assert control_messages(world) == before, "it has come to rest"


def test_what_was_fetched_and_not_taken_before_a_profile_was_put_back_comes_again(world: Members) -> None:
    """The profile had it and nobody else, and what opens afterwards opens in the session as it was."""
    alice, bob = met(world)
    copy = world.copied(bob)
    messages.send(alice, BOB, b"fetched and not shown")
    messages.receive(bob)
    bob = world.put_back(copy)
    messages.send(alice, BOB, b"the next")
    assert talk(bob, alice) == [b"the next"]
    assert messages.reports(bob) == []
    world.now += DAY
    messages.send(alice, BOB, b"a day later")
    assert talk(bob, alice) == [b"a day later", b"fetched and not shown"]
    assert kept(alice) == 0


@pytest.mark.parametrize("seconds", [0, 1, 3600])
def test_what_was_lost_before_a_message_that_was_confirmed_comes_again_though_nothing_more_is_written(
    world: Members, seconds: int
) -> None:
    alice, bob = met(world)
    messages.send(alice, BOB, b"lost")
    box(world, bob).clear()
    world.now += seconds
    messages.send(alice, BOB, b"the next")
    assert talk(bob, alice) == [b"the next"]
    world.now += DAY - seconds - 1
    assert talk(alice, bob) == [], "not within a day"
    world.now += 1
    assert talk(alice, bob) == [b"lost"]
    assert kept(alice) == 0


def test_what_is_lost_again_and_again_is_sent_once_a_day_until_it_is_confirmed(world: Members) -> None:
    alice, bob = met(world)
    phone = world.another(bob)
    messages.send(alice, BOB, b"lost on its way to one device")
    box(world, bob).clear()
    messages.send(alice, BOB, b"the next")
    assert talk(bob, phone, alice) == [b"the next", b"lost on its way to one device", b"the next"]
    for _ in range(3):
        world.now += DAY
        before = control_messages(world)
        for _ in range(3):
            # As `holdfast maintain` does, without another word of bob's.
            messages.care(alice)
        assert control_messages(world) - before == 1
        box(world, bob).clear()
    world.now += DAY
    messages.care(alice)
    assert talk(bob, phone, alice) == [b"lost on its way to one device"]
    assert kept(alice) == 0
    before = control_messages(world)
    world.now += DAY
    messages.care(alice)
    assert control_messages(world) == before


def test_later_message_that_was_not_confirmed_is_not_taken_for_lost(world: Members) -> None:
    """It may wait in the mailbox, unread: only what came after it tells."""
    alice, bob = met(world)
    messages.send(alice, BOB, b"one")
    assert talk(bob, alice) == [b"one"]
    messages.send(alice, BOB, b"two")
    before = control_messages(world)
    for _ in range(3):
        world.now += DAY
        messages.care(alice)
    assert control_messages(world) == before
    assert talk(bob, alice) == [b"two"]


def test_large_content_is_sent_again_whole(world: Members) -> None:
    alice, bob = met(world)
    copy = world.copied(bob)
    messages.send(alice, BOB, b"so that the session moves on")
    messages.send(bob, ALICE, b"and on")
    talk(bob, alice)
    content = secrets.token_bytes(1_000_000)
    messages.send(alice, BOB, content)
    bob = world.put_back(copy)
    assert content in talk(bob, alice)
    assert kept(alice) == 0


def test_copies_for_own_devices_are_sent_again_as_well(world: Members) -> None:
    alice, bob = met(world)
    phone = world.another(alice)
    messages.send(alice, BOB, b"one")
    messages.send(phone, BOB, b"two")
    talk(alice, phone, bob)
    copy = world.copied(phone)
    for account in (alice, phone, alice, phone):
        messages.send(account, BOB, b"three")
        talk(alice, phone, bob)
    phone = world.put_back(copy)
    messages.send(alice, BOB, b"a copy of mine")
    messages.send(phone, BOB, b"a copy of mine too")
    assert sorted(talk(phone, alice)) == [b"a copy of mine", b"a copy of mine too"]
    assert sorted(talk(bob, phone, alice)) == [b"a copy of mine", b"a copy of mine too"]
    assert [account for account in (alice, bob, phone) if talk(account)] == []


@pytest.mark.parametrize("body", [b"to both", bytes(5000)])
def test_one_id_for_two_people_and_a_note_is_three_copies_each_confirmed_for_itself(
    world: Members, body: bytes
) -> None:
    alice, bob = met(world)
    mallory, phone = world.published(MALLORY), world.another(alice)
    name = secrets.token_bytes(16)
    for user in (BOB, MALLORY):
        messages.send(alice, user, body, message_id=name)
    (_, lost) = box(world, phone)
    box(world, phone).remove(lost)
    messages.send(alice, ALICE, b"a note", message_id=name)
    assert {(one.id, one.user.bytes) for one in messages.unconfirmed(alice)} == {
        (name, BOB),
        (name, MALLORY),
        (name, ALICE),
    }
    copies = messages.receive(phone)
    assert [(copy.id, copy.conversation, copy.body) for copy in copies] == [(name, BOB, body), (name, ALICE, b"a note")]
    for copy in copies:
        copy.done()
    assert talk(phone, alice, bob, mallory) == [body, body]
    (one,) = messages.unconfirmed(alice)
    assert (one.id, one.user.bytes, one.is_confirmed) == (name, ALICE, False)
    world.now += DAY
    messages.care(alice)
    (copy,) = messages.receive(phone)
    assert (copy.id, copy.conversation, copy.body) == (name, MALLORY, body)
    copy.done()
    talk(phone, alice)
    assert kept(alice) == 0


def test_copy_that_was_taken_under_its_id_alone_is_not_handed_out_again(world: Members) -> None:
    """As earlier versions kept what had come."""
    alice, _ = met(world)
    phone = world.another(alice)
    one, other = [secrets.token_bytes(16) for _ in range(2)]
    for name in (one, other):
        messages.send(alice, BOB, b"taken by an earlier version", message_id=name)
    messages.receive(phone)
    for kind in ("inbox", "heard"):
        for key, name in zip(phone.store.keys(kind)[-2:], (one, other), strict=True):
            row = phone.store.get(kind, key)
            assert row is not None
            phone.store.delete(kind, key)
            phone.store.put(kind, ALICE + name, row)
    (taken, waiting) = messages.waiting(phone)
    taken.done()
    assert phone.store.keys("inbox") == [ALICE + other]
    for name in (one, other):
        messages.send(alice, BOB, b"taken by an earlier version", message_id=name)
    assert [found.id for found in messages.receive(phone)] == [other]
    waiting.done()
    assert messages.waiting(phone) == []


def test_four_devices_that_were_all_put_back_come_to_rest_with_sessions_that_are_alive(world: Members) -> None:
    alice, bob = met(world)
    people = [alice, world.another(alice), bob, world.another(bob)]

    def write(word: str) -> list[bytes]:
        written = [f"{word} {number}".encode() for number in range(4)]
        for account, body in zip(people, written, strict=True):
            messages.send(account, BOB if account.user == ALICE else ALICE, body)
        return written

    write("before")
    talk(*people)
    copies = [world.copied(account) for account in people]
    for number in range(2):
        write(f"after the copies, {number}")
        talk(*people)
    people = [world.put_back(copy) for copy in copies]
    # All four hold dead sessions with the three others, and write into them.
    written = write("into dead sessions")
    before = control_messages(world)
    assert sorted(talk(*people, rounds=6)) == sorted(written * 3)
    # Per pair two sessions at most, their answers, what is sent again, and its confirmations.
    assert control_messages(world) - before < 100
    for word in ("and on", "and on again"):
        written = write(word)
        assert sorted(talk(*people)) == sorted(written * 3)
    before = control_messages(world)
    talk(*people, rounds=3)
    assert control_messages(world) == before
    assert sum(map(kept, people)) == 0


def test_recipient_is_told_what_was_not_read_and_that_it_comes_again(world: Members) -> None:
    alice, bob = met(world)
    copy = world.copied(bob)
    both_write(alice, bob, b"before")
    talk(alice, bob)
    bob = world.put_back(copy)
    messages.send(alice, BOB, b"one")
    assert received(bob) == []
    (report,) = messages.reports(bob)
    understood(report)
    assert report.kind is ReportKind.UNDECRYPTABLE
    assert (report.user, report.device) == (ALICE, alice.device.id)
    assert "sends again" in report.way_out


def test_recipient_is_told_to_ask_where_nobody_has_the_name_of_who_wrote(world: Members) -> None:
    alice, bob = met(world)
    world.server.deliver(alice.device_text, kind="message", message=b64u(b"x"), sender=bob.device_text)
    junk(world, alice, bob)
    for row in box(world, alice):
        row["sender_user"] = text(b"nobody----------")
    assert received(alice) == []
    for report in messages.reports(alice):
        understood(report)
        assert report.way_out.startswith("Ask the sender to send it again.")
    assert renewals.peers(alice.store) == []


@pytest.mark.parametrize("is_known", [True, False], ids=["as known here", "without a word of it here"])
def test_recipient_is_told_to_ask_where_the_device_that_wrote_was_removed(world: Members, is_known: bool) -> None:
    alice, bob = met(world)
    tablet = world.another(bob)
    messages.send(tablet, ALICE, b"hello")
    talk(alice, tablet, bob)
    for _ in range(2):
        junk(world, alice, tablet)
    revoke(bob, tablet.device.id)
    if is_known:
        peers.expire(alice, BOB)
        peers.current(alice, BOB)
    else:
        world.now += 600
    for _ in range(3):
        assert received(alice) == []
    told = messages.reports(alice)
    assert [report.device for report in told] == [tablet.device.id] * 2
    for report in told:
        understood(report)
        assert report.evidence
        assert report.way_out.startswith("Ask the sender to send it again.")
    assert renewals.peers(alice.store) == []


# A device that is revoked before it has fetched


@pytest.mark.parametrize("others", ["none", "that have it", "that will have it"])
def test_what_waited_for_a_revoked_device_goes_to_the_devices_that_remain(world: Members, others: str) -> None:
    alice, lost = met(world)
    remaining = [world.another(lost)] if others != "none" else []
    messages.send(alice, BOB, b"important")
    if others == "that have it":
        assert talk(*remaining, alice) == [b"important"]
    # As in a recovery: another device has joined, and revokes the one that was lost before it had fetched.
    phone = world.another(lost, "new phone")
    phone.state.identity_seed = lost.state.identity_seed
    revoke(lost, lost.device.id)
    assert [row["kind"] for row in world.server.mailboxes.pop(lost.device_text)] == ["message"]
    # Alice hears of it without a word of bob's: her care looks at who has not confirmed.
    world.now += 600
    messages.care(alice)
    # What nobody had, and nobody will, is due to all who remain; what somebody has is due to no new device.
    assert received(phone) == ([b"important"] if others == "none" else [])
    for account in remaining:
        assert received(account) == ([] if others == "that have it" else [b"important"])
    talk(*remaining, phone, alice)
    assert kept(alice) == 0


@pytest.mark.parametrize("comes", [True, False])
def test_what_nobody_has_outlasts_a_chain_that_lists_no_device(world: Members, *, comes: bool) -> None:
    """As while a lost account begins again, or where a server shows no more of it than that its devices are gone."""
    alice, lost = met(world)
    messages.send(alice, BOB, b"important")
    revoke(lost, lost.device.id)
    for _ in range(2):
        world.now += 600
        messages.care(alice)
        known = peers.find_known(alice, BOB)
        assert known is not None
        assert not known.devices
        assert [one.user.bytes for one in messages.unconfirmed(alice)] == [BOB]
    if comes:
        phone = world.another(lost, "new phone")
        world.now += 600
        messages.care(alice)
        assert talk(phone, alice) == [b"important"]
        assert kept(alice) == 0
        return
    world.now += 31 * DAY
    pruned(alice)
    assert kept(alice) == 0
    assert [one.kind for one in messages.reports(alice)] == [ReportKind.NOT_CONFIRMED]


def test_confirmation_of_a_device_that_follows_another_counts(world: Members) -> None:
    """The server hands what waited to the successor, and it is that one which confirms."""
    alice, bob = met(world)
    messages.send(alice, BOB, b"one")
    (row,) = (row for row in sent.waiting_for(alice, at(bob)))
    sent.acknowledge(alice, Address(BOB, b"the successor id"), [row.key[16:]])
    assert [one.is_confirmed for one in messages.unconfirmed(alice)] == [True]
    assert sent.revise(alice, BOB, [b"the successor id"]) == set()
    assert messages.unconfirmed(alice) == []


def test_acknowledgement_owed_to_a_device_that_is_gone_is_said_to_those_that_remain(world: Members) -> None:
    alice, bob = met(world)
    phone = world.another(alice)
    messages.send(phone, BOB, b"from the phone")
    assert received(bob) == [b"from the phone"]
    revoke(alice, phone.device.id)
    peers.expire(bob, ALICE)
    messages.flush(bob)
    messages.flush(bob)
    assert renewals.peers(bob.store) == []
    kinds = [Content.decode(plain).kind for plain in opened(world, alice)]
    assert ContentKind.ACKNOWLEDGEMENT in kinds


def opened(world: Members, account: Account) -> list[bytes]:
    """What waits for an account, as it opens."""
    found = []
    for row in box(world, account):
        incoming = read_message(unb64u(row["message"]))
        sender = Address(UUID(row["sender_user"]).bytes, UUID(row["sender_device"]).bytes)
        for place in sessions.places(account.store, sender):
            session = sessions.load(account.store, place, for_receiving=True)
            assert session is not None
            with contextlib.suppress(UnwrapFailed):
                found.append(session.decrypt(incoming, now=world.now))
    return found


# Bounds


def test_what_nobody_confirms_in_thirty_days_is_destroyed_and_shown_as_not_confirmed(world: Members) -> None:
    alice, bob = met(world)
    messages.send(alice, BOB, b"never read")
    world.now += repeats.KEPT_SECONDS - 1
    pruned(alice)
    assert messages.reports(alice) == []
    assert kept(alice) == 1
    world.now += 1
    pruned(alice)
    assert messages.unconfirmed(alice) == []
    assert kept(alice) == 0
    (report,) = messages.reports(alice)
    understood(report)
    assert report.kind is ReportKind.NOT_CONFIRMED
    assert text(BOB) in report.text
    assert report.evidence == (), "nothing of what was written is left"
    # It comes late all the same, and the late confirmation changes nothing.
    assert received(bob) == [b"never read"]
    talk(bob, alice)
    assert messages.unconfirmed(alice) == []


def pruned(account: Account) -> None:
    """Have the time confirmed, by which alone anything is destroyed for its age, and destroy what is due."""
    assert key_log.confirm_time(account)
    messages.prune(account)


def test_clock_that_is_ahead_gives_up_nothing_that_was_sent(world: Members) -> None:
    alice, bob = met(world)
    messages.send(alice, BOB, b"before")
    alice.api.clock = Clock(lambda: world.now + 5 * DAY)
    messages.send(alice, BOB, b"while it was ahead")
    alice.api.clock = Clock(lambda: world.now + 40 * DAY)
    messages.prune(alice)
    assert kept(alice) == 2
    alice.api.clock = Clock(lambda: world.now)
    pruned(alice)
    assert kept(alice) == 2
    assert talk(bob, alice) == [b"before", b"while it was ahead"]
    assert kept(alice) == 0


def test_what_one_device_has_is_not_called_lost_for_another_that_was_off(world: Members) -> None:
    alice, bob = met(world)
    world.another(bob)
    messages.send(alice, BOB, b"read on the laptop")
    talk(bob, alice)
    world.now += repeats.KEPT_SECONDS
    pruned(alice)
    assert kept(alice) == 0
    assert messages.reports(alice) == []


def test_more_than_64_mib_leaves_the_newest(world: Members, monkeypatch: pytest.MonkeyPatch) -> None:
    alice, bob = met(world)
    monkeypatch.setattr(repeats, "KEPT_OCTETS", 4 * repeats.LEAST_OCTETS)
    done = []
    for number in range(7):
        done.append(messages.send(alice, BOB, b"%d" % number).id)
        world.now += 1
    assert [one.id for one in messages.unconfirmed(alice)] == done[3:]
    assert kept(alice) == 4
    assert [report.kind for report in messages.reports(alice)] == [ReportKind.NOT_CONFIRMED] * 3
    # One that counts as more takes the place of several.
    messages.send(alice, BOB, bytes(4096 * 2))
    assert kept(alice) == 2
    assert sent._total(alice.store) <= repeats.KEPT_OCTETS
    talk(bob, alice)
    assert kept(alice) == sent._total(alice.store) == 0


def test_message_refused_for_good_is_kept_by_its_report_alone(world: Members) -> None:
    alice, _ = met(world)
    world.server.instead[f"POST users/{text(BOB)}/messages"] = lambda _body: refusal(413, "too-large")
    with pytest.raises(Problem):
        messages.send(alice, BOB, b"refused")
    assert kept(alice) == 0
    assert [report.kind for report in messages.reports(alice)] == [ReportKind.NOT_SENT]


def test_junk_in_a_devices_name_begins_few_sessions_a_day(world: Members) -> None:
    """Each costs the device a one-time key, and the server can put as much junk into a mailbox as it likes."""
    alice, bob = met(world)
    before = claims(world)
    for day in (1, 2):
        for _ in range(20):
            junk(world, bob, alice)
            messages.receive(bob)
            received(alice)
        assert claims(world) - before == day * repeats.MOST_BEGUN
        world.now += DAY


def test_junk_that_comes_before_the_answer_begins_one_session(world: Members) -> None:
    alice, bob = met(world)
    before = len(ids(bob, alice))
    for _ in range(10):
        junk(world, bob, alice)
        messages.receive(bob)
    assert len(ids(bob, alice)) == before + 1


@pytest.mark.parametrize("kind", ["greetings", "greetings in a day"])
def test_device_that_begins_anew_without_end_is_sent_little_again(world: Members, kind: str) -> None:
    """A hostile member, or two profiles of one device that undo each other."""
    alice, bob = met(world)
    messages.send(alice, BOB, b"never read")
    box(world, bob).clear()
    for _ in range(12):
        messages.greet(bob, [ALICE])
        messages.receive(alice)
        if kind == "greetings in a day":
            world.now += 3600
        box(world, bob).clear()
    again = [body for _, path, body in world.server.log if body.get("kind") == "message" and bob.device_text in path]
    assert len(again) <= 2 * repeats.MOST_ANSWERED + 2
    world.now += DAY
    messages.receive(alice)
    assert received(bob) == [b"never read"], "it is owed still"


def junk(world: Members, to: Account, sender: Account) -> None:
    """Put a message into a mailbox that is of a device's session by its form, and opens in none."""
    place = sessions.places(sender.store, at(to))[0]
    session = sessions.load(sender.store, place, for_receiving=False)
    assert session is not None
    message = bytearray(session.encrypt(b"x"))
    message[-1] ^= 1
    world.server.deliver(to.device_text, kind="message", message=b64u(bytes(message)), sender=sender.device_text)


@pytest.mark.rounds("cuts")
def test_looking_with_a_dead_session_cut_at_any_moment_loses_and_repeats_nothing(worlds: Iterator[Members]) -> None:
    """The power goes while a session is begun anew, while something is acknowledged, while it is sent again."""

    def scenes() -> Iterator[Scene]:
        for world in worlds:
            alice, bob = met(world)
            copy = world.copied(bob)
            both_write(alice, bob, b"before")
            talk(alice, bob, rounds=1)
            messages.send(alice, BOB, b"unread")
            bob = world.put_back(copy)
            messages.send(bob, ALICE, b"unread by her")
            # Alice has begun anew and waits for the answer; bob cannot read hers either.
            handed.clear()
            handed.extend(received(alice))
            yield Scene(world, bob, (alice,))

    handed: list[bytes] = []

    def act(account: Account) -> None:
        handed.extend(received(account))
        messages.flush(account)

    def check(scene: Scene) -> None:
        bob = cuts.reopened(scene.world, scene.account, Moments())
        got = [*handed, *talk(scene.others[0], bob)]
        assert got.count(b"unread by her") == 1
        assert b"unread" in got
        assert kept(scene.others[0]) == kept(bob) == 0

    assert cuts.sweep(scenes(), act, check, step=rounds(8, 1)) >= 20


def test_recipient_is_told_of_whom_messages_were_dropped_with_a_device(world: Members) -> None:
    alice = world.published(ALICE)
    lost = str(UUID(bytes=b"a device revoked"))
    said = {"event": "messages-dropped", "device_id": lost, "by": text(BOB), "messages": "3"}
    world.server.notice(text(ALICE), said)
    messages.receive(alice)
    (told,) = [line for line in standing.of_kept(alice) if line.item == "notices"]
    assert (
        told.said == f"3 messages by {text(BOB)} waited for device {lost}, which was revoked, and were deleted unread."
    )
    assert "sent again by itself" in told.way_out


# What the server does not take


def refused(world: Members, to: Account, answer: tuple[int, str]) -> list[str]:
    """Have the server take no message for one device; returns what was posted to it, as it comes."""
    posted: list[str] = []

    def refuse(body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        posted.append(body["message"])
        return refusal(*answer)

    world.server.instead[f"POST devices/{to.device_text}/messages"] = refuse
    return posted


def lost(world: Members, alice: Account, bob: Account, *contents: bytes) -> list[bytes]:
    """Have alice write, lose all of it, and have it due to bob again; returns the ids."""
    done = [messages.send(alice, BOB, content).id for content in contents]
    box(world, bob).clear()
    with alice.store.transaction():
        renewals.note_again(alice, at(bob))
        for row in list(sent.waiting_for(alice, at(bob))):
            sent._save(alice.store, sent._placed(row, bob.device.id, b""))
    return done


@pytest.mark.parametrize("answer", [(404, "not-found"), (409, "mailbox-full"), (403, "denied"), (500, "internal")])
@pytest.mark.parametrize("what", ["a confirmation", "what is sent again"])
def test_message_that_is_refused_is_encrypted_once_and_tried_ever_more_seldom(
    world: Members, answer: tuple[int, str], what: str
) -> None:
    """Each encryption takes a number of the session, and a session opens nothing after 1,000 that were lost."""
    alice, bob = met(world)
    if what == "a confirmation":
        messages.send(bob, ALICE, b"to be confirmed")
        (found,) = messages.receive(alice)
        found.done()
    else:
        lost(world, alice, bob, b"lost")
    posted, before = refused(world, bob, answer), claims(world)
    for _ in range(200):
        messages.confirm(alice)
    assert len(posted) == 1
    for _ in range(24 * 6):
        world.now += 600
        messages.confirm(alice)
    assert 5 < len(posted) < 15
    assert len(set(posted)) == 1
    assert claims(world) == before
    world.server.instead.clear()
    world.now += DAY
    assert talk(alice, bob) == ([] if what == "a confirmation" else [b"lost"])
    assert kept(alice) == kept(bob) == 0
    for account in (alice, bob):
        assert account.store.keys("unsent") == account.store.keys("pause") == []
        assert messages.reports(account) == []


@pytest.mark.parametrize("status", [502, 503, 504])
def test_server_whose_part_is_away_is_waited_for_once_and_not_for_each_device(world: Members, status: int) -> None:
    alice, bob = met(world)
    others = [world.another(bob, f"device {number}") for number in range(3)]
    messages.send(alice, BOB, b"to all")
    talk(*others, bob, alice)
    for account in (bob, *others):
        messages.send(account, ALICE, b"to be confirmed")
    for found in messages.receive(alice):
        found.done()
    slept: list[float] = []
    alice.api._sleep = slept.append
    world.now += 600
    away = {f"POST devices/{one.device_text}/messages": lambda _body: refusal(status, "away") for one in (bob, *others)}
    world.server.instead |= away
    asked = len(world.server.log)
    messages.confirm(alice)
    assert len({path for method, path, _ in world.server.log[asked:] if method == "POST"}) == 1
    assert sum(slept) < 30
    # The next time it is another one's turn: one that is refused for ever keeps nobody else waiting.
    for one in others:
        del world.server.instead[f"POST devices/{one.device_text}/messages"]
    world.now += 120
    for _ in range(2):
        messages.confirm(alice)
    for one in others:
        messages.receive(one)
        assert ALICE not in {row.user.bytes for row in messages.unconfirmed(one)}


def test_kept_message_is_encrypted_anew_where_another_session_is_the_newest(world: Members) -> None:
    alice, bob = met(world)
    lost(world, alice, bob, b"lost")
    posted = refused(world, bob, (409, "mailbox-full"))
    messages.confirm(alice)
    messages.greet(bob, [ALICE])
    messages.receive(alice)
    world.now += DAY
    messages.confirm(alice)
    assert len(set(posted)) > 1
    world.server.instead.clear()
    world.now += DAY
    assert talk(alice, bob) == [b"lost"]
    assert kept(alice) == 0


def test_server_that_asks_for_a_longer_wait_gets_it_and_a_clock_that_was_ahead_holds_up_nothing(world: Members) -> None:
    alice, bob = met(world)
    lost(world, alice, bob, b"lost")
    asked = Problem(status=429, code="message-limit", detail="Later.", retry_after=7200)
    unsent.pause(alice, at(bob), b"", asked)
    world.now += 7199
    messages.confirm(alice)
    assert box(world, bob) == []
    world.now += 1
    messages.confirm(alice)
    assert len(box(world, bob)) == 1
    lost(world, alice, bob, b"lost too")
    unsent.pause(alice, at(bob), b"", asked)
    world.now -= 3 * DAY
    messages.confirm(alice)
    assert len(box(world, bob)) == 2


@pytest.mark.parametrize("answer", [(422, "invalid"), (413, "too-large"), (422, "another"), (400, "another")])
def test_message_that_is_refused_blocks_none_behind_it(world: Members, answer: tuple[int, str]) -> None:
    alice, bob = met(world)
    first, _ = lost(world, alice, bob, b"large" * 1000, b"short")
    path = f"POST devices/{bob.device_text}/messages"

    def refuse(body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if body.get("content"):
            return refusal(*answer)
        world.server.deliver(bob.device_text, kind="message", message=body["message"], sender=alice.device_text)
        return 201, {"message_id": str(uuid4()), "device_id": bob.device_text}

    world.server.instead[path] = refuse
    messages.send(bob, ALICE, b"to be confirmed")
    assert talk(alice, bob) == [b"to be confirmed", b"short"]
    assert kept(bob) == 0, "neither is a confirmation held up"
    if answer[1] == "another":
        # It may pass, so it is tried again.
        assert [one.id for one in messages.unconfirmed(alice)] == [first]
        assert messages.reports(alice) == []
        world.server.instead.clear()
        world.now += DAY
        assert talk(alice, bob) == [b"large" * 1000]
        assert alice.store.keys("unsent") == alice.store.keys("pause") == []
    else:
        (report,) = messages.reports(alice)
        understood(report)
        assert report.kind is ReportKind.NOT_SENT
        assert Content.decode(report.evidence[0]).message_id == first
    assert kept(alice) == 0


@pytest.mark.parametrize("what", ["a confirmation", "a greeting"])
def test_what_is_owed_and_refused_for_good_is_told_and_blocks_nothing(world: Members, what: str) -> None:
    alice, bob = met(world)
    if what == "a greeting":
        junk(world, alice, bob)
    else:
        messages.send(bob, ALICE, b"to be confirmed")
    posted = refused(world, bob, (422, "invalid"))
    received(alice)
    messages.confirm(alice)
    messages.confirm(alice)
    assert len(posted) == 1
    told = [report for report in messages.reports(alice) if report.kind is ReportKind.NOT_SENT]
    assert len(told) == 1
    understood(told[0])


def test_what_is_kept_for_a_device_goes_with_it(world: Members) -> None:
    alice, bob = met(world)
    tablet = world.another(bob)
    lost(world, alice, bob, b"lost")
    refused(world, bob, (409, "mailbox-full"))
    messages.confirm(alice)
    assert alice.store.keys("unsent")
    tablet.state.identity_seed = bob.state.identity_seed
    revoke(tablet, bob.device.id)
    peers.expire(alice, BOB)
    messages.confirm(alice)
    assert alice.store.keys("unsent") == alice.store.keys("pause") == []


@pytest.mark.parametrize("days", [29, 31, 60])
def test_device_that_slept_hears_what_was_acknowledged_before_it_gives_anything_up(world: Members, days: int) -> None:
    alice, bob = met(world)
    messages.send(alice, BOB, b"important")
    assert received(bob) == [b"important"]
    messages.confirm(bob)
    assert kept(alice) == 1
    world.now += days * DAY
    maintain(alice)
    received(alice)
    assert (kept(alice), messages.reports(alice)) == (0, [])


def test_message_to_a_person_whose_new_device_has_just_written_goes_to_that_one(world: Members) -> None:
    """What says that the old device is gone waits in the mailbox, and comes in while the message is made."""
    alice, lost = met(world)
    phone = world.another(lost, "phone")
    revoke(lost, lost.device.id)
    messages.send(phone, ALICE, b"from the new one")
    # She looked at bob's account a moment ago, and at her own longer ago.
    alice.store.delete("chain-fetched", ALICE)
    assert messages.send(alice, BOB, b"welcome back").is_sent
    assert [one.body for one in messages.receive(phone)] == [b"welcome back"]
