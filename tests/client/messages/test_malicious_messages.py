# SPDX-License-Identifier: Apache-2.0
"""Messages over a lying server: nothing is sent to whom it should not go, nothing is believed that nobody said.

Implements FAULTS S5, S8, S9, S11 to S16, S18 for sessions and the mailbox, at sender and receiver.
Each test tells one lie; `test_messages` and `test_sessions` show that the same steps succeed without it.
"""

from __future__ import annotations

import copy
import random
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from holdfast.client.identity import chains, contacts, device, peers
from holdfast.client.messages import messages, outbox, prekeys
from holdfast.client.messages.messages import ReportKind
from holdfast.client.profile.account import Account
from holdfast.client.server.clock import Clock
from holdfast.client.sessions import sessions
from holdfast.core.base.encoding import b64u, unb64u
from holdfast.core.crypto.keys import SigningKey
from holdfast.core.crypto.suites import Suite
from holdfast.core.identity import chain_author
from holdfast.core.messages.content import Content, ContentKind
from holdfast.core.messages.session import read_message
from holdfast.core.signed.cose import Purpose, Sign1, sign
from holdfast.core.signed.statements import DeviceStatement
from tests.cast.lying_server import NOW, LyingServer, text
from tests.cast.malice import deliver, nothing_left, only_report, refuses, sent_to, taken, understood
from tests.cast.members import ALICE, BOB, MALLORY, Members
from tests.client.messages.test_messages import refusal
from tests.client.sessions.test_sessions import bodies, box, first_message, revoke

DAY = 86_400


# Keys that are not the sender's


@pytest.mark.parametrize(
    "part", ["device_statement", "signed_pre_key", "batch", "leaf", "proof", "index", "suite", "v", "chain_head"]
)
def test_message_is_not_sent_with_a_part_of_mallorys_keys(world: Members, part: str) -> None:
    alice, bob, mallory = world.published(ALICE), world.published(BOB), world.published(MALLORY)
    world.server.batches[mallory.device_text].pop(0)
    theirs = {**world.server._bundle(mallory.device_text), "v": 2, "suite": 1}

    def lie(answer: dict[str, Any]) -> dict[str, Any]:
        if part in ("batch", "leaf", "proof", "index"):
            one = {**answer["one_time_pre_key"], part: theirs["one_time_pre_key"][part]}
            return {**answer, "one_time_pre_key": one}
        return {**answer, part: theirs[part]}

    world.server.lies[f"POST devices/{bob.device_text}/claim"] = lie
    refuses(lambda: messages.send(alice, BOB, b"secret"))
    nothing_left(world, alice, BOB)


def test_message_is_not_sent_to_a_whole_bundle_of_mallorys(world: Members) -> None:
    alice, bob, mallory = world.published(ALICE), world.published(BOB), world.published(MALLORY)
    world.server.lies[f"POST devices/{bob.device_text}/claim"] = lambda answer: {
        **world.server._bundle(mallory.device_text),
        "chain_head": answer["chain_head"],
    }
    refuses(lambda: messages.send(alice, BOB, b"secret"), match="another tenant, user or device")
    nothing_left(world, alice, BOB)


def test_message_is_not_sent_to_a_device_that_the_chain_does_not_list(world: Members) -> None:
    alice, bob = world.published(ALICE), world.published(BOB)
    rogue = world.profile(BOB)
    device.enrol(rogue, world.server.code(BOB), name="phone")
    world.server.lies[f"POST devices/{bob.device_text}/claim"] = lambda answer: {
        **answer,
        "device_statement": b64u(rogue.device.statement),
    }
    refuses(lambda: messages.send(alice, BOB, b"secret"))
    nothing_left(world, alice, BOB)


def test_message_is_not_sent_to_another_bundle_of_the_same_person_in_a_devices_place(world: Members) -> None:
    alice, bob = world.published(ALICE), world.published(BOB)
    tablet = world.another(bob)
    messages.send(alice, BOB, b"one")
    revoke(bob, tablet.device.id)
    fresh = world.another(bob)
    world.server.lies[f"POST devices/{fresh.device_text}/claim"] = lambda answer: {
        **world.server._bundle(bob.device_text),
        "chain_head": answer["chain_head"],
    }
    before = len(sent_to(world, BOB))
    refuses(lambda: messages.send(alice, BOB, b"secret"), match="another tenant, user or device")
    assert len(sent_to(world, BOB)) == before + 1, "the one that the server answered with 409"
    assert len(box(world, bob)) == 1


def test_message_is_not_sent_with_an_expired_signed_pre_key(world: Members) -> None:
    alice, _bob = world.published(ALICE), world.published(BOB)
    world.now += 31 * DAY
    refuses(lambda: messages.send(alice, BOB, b"secret"), match="no device that can be written to")
    nothing_left(world, alice, BOB)


def test_message_is_not_sent_when_the_clock_was_set_back_by_the_server(world: Members) -> None:
    alice, _bob = world.published(ALICE), world.published(BOB)
    world.now += 31 * DAY
    alice.api.clock.correct(world.now - DAY + 1)
    refuses(lambda: messages.send(alice, BOB, b"secret"), match="no device that can be written to")


def test_message_is_not_sent_under_a_chain_shorter_than_the_one_seen(world: Members) -> None:
    alice, bob = world.published(ALICE), world.published(BOB)
    world.another(bob)
    messages.send(alice, BOB, b"one")
    del world.server.chains[text(BOB)][2:]
    world.now += peers.FRESH_SECONDS
    refuses(lambda: messages.send(alice, BOB, b"two"), match="fewer entries")
    assert len(sent_to(world, BOB)) == 1


def test_message_is_not_sent_under_the_chain_of_another_person(world: Members) -> None:
    alice, _bob, _mallory = world.published(ALICE), world.published(BOB), world.published(MALLORY)
    world.server.chains[text(BOB)] = world.server.chains[text(MALLORY)]
    refuses(lambda: messages.send(alice, BOB, b"secret"))
    nothing_left(world, alice, BOB)


def test_message_is_not_sent_under_a_wrong_identity_key(world: Members) -> None:
    alice, bob = world.published(ALICE), world.published(BOB)
    messages.send(alice, BOB, b"one")
    rogue = SigningKey.generate()
    author = chain_author.Author(bob.device.id, NOW, rogue)
    entry = chain_author.add_device(bob.chain, by=author, device=bytes(16), statement_hash=bytes(32))
    world.server.chains[text(BOB)].append(entry.encode())
    world.now += peers.FRESH_SECONDS
    refuses(lambda: messages.send(alice, BOB, b"two"))
    assert len(sent_to(world, BOB)) == 1


@pytest.mark.parametrize("suite", [Suite.CLASSICAL])
def test_device_of_a_weaker_suite_is_refused_once_the_contact_was_met_under_a_stronger(
    world: Members, suite: Suite
) -> None:
    alice, bob = world.published(ALICE), world.published(BOB)
    messages.send(alice, BOB, b"one")
    bodies(bob)
    old = added_of_suite(world, bob, suite)
    refuses(lambda: messages.send(alice, BOB, b"two"), match="suite")
    sealed = first_message(old, alice)
    world.server.deliver(alice.device_text, kind="message", message=b64u(sealed), sender=old.device_text)
    assert messages.receive(alice) == []
    only_report(alice, ReportKind.UNDECRYPTABLE, "suite")


def added_of_suite(world: Members, first: Account, suite: Suite) -> Account:
    """A further device of an older suite, listed in the chain by the owner."""
    account = world.profile(first.user)
    done = device.enrol(account, world.server.code(first.user), name="old phone", suite=suite)
    device.approve(first, done.device, words=done.words)
    chains.refresh(account)
    prekeys.publish(account)
    return account


def test_server_that_withholds_one_time_keys_is_shown_and_in_the_end_reported(world: Members) -> None:
    bob = world.published(BOB)

    def withhold(answer: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in answer.items() if name != "one_time_pre_key"}

    world.server.lies[f"POST devices/{bob.device_text}/claim"] = withhold
    alice = world.published(ALICE)
    for number in range(10):
        if number:
            messages.greet(alice, [BOB])
        else:
            assert messages.send(alice, BOB, b"one").last_resort == (UUID(bob.device_text),)
        messages.receive(bob)
        assert len(messages.reports(bob)) == (1 if number == 9 else 0)
    only_report(bob, ReportKind.LAST_RESORT, "without a one-time key")


# What the server says of the set of devices


def test_stale_answer_with_a_forged_head_is_checked_against_the_chain(world: Members) -> None:
    alice, _bob = world.published(ALICE), world.published(BOB)
    messages.send(alice, BOB, b"one")
    world.server.instead[f"POST users/{text(BOB)}/messages"] = lambda _body: refusal(
        409, "chain-stale", head=b64u(b"f" * 32), seq=77
    )
    refuses(lambda: messages.send(alice, BOB, b"two"), match="shows no change")
    assert len(sent_to(world, BOB)) == 2
    world.server.instead.clear()
    assert len(messages.flush(alice).sent) == 1


def test_endless_stale_answers_come_to_an_end_and_the_message_is_kept(world: Members) -> None:
    alice, bob = world.published(ALICE), world.published(BOB)
    messages.send(alice, BOB, b"one")
    chain = bob.chain

    def stale(_body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        # Bob's own key makes the entries: each is genuine, and each takes bob's devices no further.
        nonlocal chain
        entry = chain_author.archive_generation(
            chain, by=bob.author(), generation=chain.seq + 1, not_before=NOW, commitment=bytes(32)
        )
        world.server.chains[text(BOB)].append(entry.encode())
        world.server.keys_log.append(BOB, entry)
        chain = replace(chain, hashes=(*chain.hashes, entry.hash))
        return refusal(409, "chain-stale", head=b64u(entry.hash), seq=entry.seq)

    world.server.instead[f"POST users/{text(BOB)}/messages"] = stale
    refuses(lambda: messages.send(alice, BOB, b"two"), match="another set each time")
    assert len(sent_to(world, BOB)) <= 8
    world.server.instead.clear()
    assert len(messages.flush(alice).sent) == 1
    assert bodies(bob) == [b"one", b"two"]


def test_server_that_demands_an_envelope_for_a_removed_device_gets_none(world: Members) -> None:
    alice, bob = world.published(ALICE), world.published(BOB)
    tablet = world.another(bob)
    messages.send(alice, BOB, b"one")
    revoke(bob, tablet.device.id)
    messages.send(alice, BOB, b"two")
    demands = refusal(
        422, "envelopes-mismatch", errors=[{"field": "envelopes", "detail": f"Add {tablet.device_text}."}]
    )
    world.server.instead[f"POST users/{text(BOB)}/messages"] = lambda _body: demands
    refuses(lambda: messages.send(alice, BOB, b"three"), match="shows no change")
    addressed = {one["device_id"] for body in sent_to(world, BOB)[2:] for one in body["envelopes"]}
    assert addressed == {bob.device_text}


# Another view of the directory, shown to one side only


def shown_apart(world: Members, account: Account) -> LyingServer:
    """From now on the server shows an account another directory; mailboxes, devices and keys stay the same."""
    view = copy.copy(world.server)
    view.chains = {user: list(entries) for user, entries in world.server.chains.items()}
    view.keys_log = replace(world.server.keys_log, leaves=list(world.server.keys_log.leaves))
    account.connect(transport=view.transport(), clock=Clock(lambda: world.now))
    return view


def test_server_that_hides_a_revocation_is_found_out_by_the_next_message(world: Members) -> None:
    alice, bob = world.published(ALICE), world.published(BOB)
    tablet = world.another(bob)
    messages.send(alice, BOB, b"one")
    bodies(bob)
    shown_apart(world, alice)
    revoke(bob, tablet.device.id)
    messages.send(bob, ALICE, b"I lost my tablet")
    assert [one.body for one in messages.receive(alice)] == [b"I lost my tablet"]
    found = {report.kind: report for report in messages.reports(alice)}
    assert "hides" in found[ReportKind.CHAIN_HIDDEN].text
    understood(found[ReportKind.CHAIN_HIDDEN])
    before = len(sent_to(world, BOB))
    refuses(lambda: messages.send(alice, BOB, b"two"), match="hides")
    assert len(sent_to(world, BOB)) == before
    alice.connect(transport=world.server.transport(), clock=Clock(lambda: world.now))
    assert [one.bytes for one in messages.send(alice, BOB, b"two").devices] == [bob.device.id]


def forked(world: Members, alice: Account, bob: Account) -> tuple[LyingServer, Account]:
    """The server has bob's identity key, and shows alice a chain of bob's that has a device of its own in it."""
    rogue = world.profile(BOB)
    device.enrol(rogue, world.server.code(BOB), name="tablet")
    statement = Sign1.parse(rogue.device.statement)
    entry = chain_author.add_device(
        bob.chain, by=bob.author(), device=rogue.device.id, statement_hash=statement.payload_hash
    )
    view = shown_apart(world, alice)
    view.chains[text(BOB)].append(entry.encode())
    view.keys_log.append(BOB, entry)
    return view, rogue


def test_receiver_finds_out_that_the_sender_was_shown_a_fork(world: Members) -> None:
    alice, bob = world.published(ALICE), world.published(BOB)
    forked(world, alice, bob)
    sent = messages.send(alice, BOB, b"secret")
    assert len(sent.without_keys) == 1, "the device that the server added has no keys yet"
    assert messages.receive(bob) == []
    only_report(bob, ReportKind.IN_DOUBT, "chain that the server does not show")


def test_sender_finds_out_by_the_answer_that_a_fork_was_shown(world: Members) -> None:
    alice, bob = world.published(ALICE), world.published(BOB)
    messages.send(alice, BOB, b"zero")
    bodies(bob)
    forked(world, alice, bob)
    world.now += peers.FRESH_SECONDS
    messages.send(alice, BOB, b"one")
    world.another(bob)
    messages.send(bob, ALICE, b"two")
    messages.receive(alice)
    found = {report.kind for report in messages.reports(alice)}
    assert ReportKind.CHAIN_HIDDEN in found
    refuses(lambda: messages.send(alice, BOB, b"three"), match="hides")


def test_split_view_of_the_key_log_is_found_by_two_who_write_to_each_other(world: Members) -> None:
    alice, bob, mallory = world.published(ALICE), world.published(BOB), world.published(MALLORY)
    messages.send(alice, BOB, b"zero")
    messages.send(bob, ALICE, b"zero")
    bodies(alice), bodies(bob)
    # Two logs of one size, each with an entry that the other has not.
    view = shown_apart(world, alice)
    for server, generation in ((world.server, 1), (view, 2)):
        entry = chain_author.archive_generation(
            mallory.chain, by=mallory.author(), generation=generation, not_before=NOW, commitment=bytes(32)
        )
        server.chains[text(MALLORY)].append(entry.encode())
        server.keys_log.append(MALLORY, entry)
    contacts.refresh(alice, MALLORY)
    contacts.refresh(bob, MALLORY)
    messages.send(alice, BOB, b"one")
    assert [one.body for one in messages.receive(bob)] == [b"one"]
    report = only_report(bob, ReportKind.SPLIT_VIEW, "two different heads")
    assert "auditor" in report.way_out


# What comes into the mailbox


@pytest.mark.parametrize("is_first", [True, False])
@pytest.mark.parametrize("claim", ["user", "device", "both"])
def test_message_attributed_to_somebody_else_is_refused(world: Members, is_first: bool, claim: str) -> None:
    alice, bob, mallory = world.published(ALICE), world.published(BOB), world.published(MALLORY)
    if not is_first:
        messages.send(alice, BOB, b"zero")
        messages.send(mallory, BOB, b"zero")
        bodies(bob)
    messages.send(alice, BOB, b"I am alice")
    row = taken(world, bob)
    theirs = {"sender_user": text(MALLORY), "sender_device": mallory.device_text}
    wanted = {"user": ["sender_user"], "device": ["sender_device"], "both": list(theirs)}[claim]
    deliver(world, bob, row, **{name: theirs[name] for name in wanted})
    assert messages.receive(bob) == []
    only_report(bob, ReportKind.UNDECRYPTABLE, "named with it" if is_first else "session")
    # The honest row still opens: what was refused has used nothing up.
    deliver(world, bob, {**row, "message": row["message"]}, received_at=row["received_at"])
    assert messages.receive(bob) == []
    messages.send(alice, BOB, b"again")
    assert b"again" in [one.body for one in messages.receive(bob)]


def test_message_for_another_device_is_refused(world: Members) -> None:
    alice, bob = world.published(ALICE), world.published(BOB)
    tablet = world.another(bob)
    messages.send(alice, BOB, b"one")
    row = taken(world, tablet)
    deliver(world, bob, row)
    assert [one.body for one in messages.receive(bob)] == [b"one"]
    only_report(bob, ReportKind.UNDECRYPTABLE, "another device")


def test_message_put_into_a_strangers_mailbox_tells_the_stranger_nothing(world: Members) -> None:
    alice, bob, mallory = world.published(ALICE), world.published(BOB), world.published(MALLORY)
    messages.send(alice, BOB, b"for bob")
    deliver(world, mallory, taken(world, bob), to_device=mallory.device_text)
    assert messages.receive(mallory) == []
    only_report(mallory, ReportKind.IN_DOUBT, "chain that the server does not show")


def test_own_message_handed_back_is_refused(world: Members) -> None:
    alice, bob = world.published(ALICE), world.published(BOB)
    for number in range(2):
        messages.send(alice, BOB, b"%d" % number)
        deliver(world, alice, taken(world, bob), to_device=alice.device_text)
        deliver(
            world, alice, box(world, alice)[-1], sender_user=text(BOB), sender_device=bob.device_text, message_id="x"
        )
        del box(world, alice)[-1]
    assert messages.receive(alice) == []
    assert {one.kind for one in messages.reports(alice)} == {ReportKind.UNDECRYPTABLE}
    messages.send(alice, BOB, b"2")
    assert bodies(bob) == [b"2"]


def test_message_of_another_tenants_device_is_refused(world: Members) -> None:
    alice, bob = world.published(ALICE), world.published(BOB)
    sealed = read_message(first_message(alice, bob))
    initial = sealed.initial
    assert initial is not None
    foreign = foreign_statement(alice)
    forged = replace(initial, device_statement=foreign).encode() + sealed.sealed
    world.server.deliver(bob.device_text, kind="message", message=b64u(forged), sender=alice.device_text)
    assert messages.receive(bob) == []
    only_report(bob, ReportKind.UNDECRYPTABLE, "another tenant")


def foreign_statement(alice: Account) -> Sign1:
    """The statement of a device with alice's ids and keys, made for another tenant."""
    own = alice.device_statement
    theirs = replace(own, header=replace(own.header, tenant=bytes(15) + b"m"))
    return sign(theirs.to_payload(), purpose=Purpose.DEVICE, key=alice.signing_key)


def test_statement_that_its_device_did_not_sign_is_refused(world: Members) -> None:
    alice, bob = world.published(ALICE), world.published(BOB)
    sealed = read_message(first_message(alice, bob))
    initial = sealed.initial
    assert initial is not None
    payload = initial.device_statement.payload
    forged = replace(initial, device_statement=sign(payload, purpose=Purpose.DEVICE, key=SigningKey.generate()))
    world.server.deliver(
        bob.device_text, kind="message", message=b64u(forged.encode() + sealed.sealed), sender=alice.device_text
    )
    assert messages.receive(bob) == []
    only_report(bob, ReportKind.UNDECRYPTABLE, "cannot be opened")


@pytest.mark.parametrize(
    "part", ["initiator_head", "responder_head", "signed_pre_key_id", "one_time_pre_key_id", "none"]
)
def test_first_message_with_another_initial_part_opens_nothing_and_uses_nothing_up(world: Members, part: str) -> None:
    alice, bob = world.published(ALICE), world.published(BOB)
    message = first_message(alice, bob)
    sealed = read_message(message)
    initial = sealed.initial
    assert initial is not None
    changes: dict[str, Any] = {
        "initiator_head": {"initiator_head": bytes(32)},
        "responder_head": {"responder_head": bytes(32)},
        "signed_pre_key_id": {"signed_pre_key_id": 9999},
        "one_time_pre_key_id": {"one_time_pre_key_id": (initial.one_time_pre_key_id or 0) + 1},
        "none": {"one_time_pre_key_id": None},
    }
    forged = replace(initial, **changes[part]).encode() + sealed.sealed
    before = len(bob.store.keys("one-time-pre-key"))
    world.server.deliver(bob.device_text, kind="message", message=b64u(forged), sender=alice.device_text)
    assert messages.receive(bob) == []
    understood(messages.reports(bob)[0])
    assert len(bob.store.keys("one-time-pre-key")) == before
    # Bob may have begun one with her anew; none has begun by what came.
    assert bob.store.keys("initial") == []
    world.server.deliver(bob.device_text, kind="message", message=b64u(message), sender=alice.device_text)
    assert [one.body for one in messages.receive(bob)] == [b"I am alice"]


def test_one_time_key_given_to_two_senders_is_found_out_with_both_messages(world: Members) -> None:
    alice, bob, mallory = world.published(ALICE), world.published(BOB), world.published(MALLORY)
    one = world.server.batches[bob.device_text][0]
    world.server.lies[f"POST devices/{bob.device_text}/claim"] = lambda answer: {**answer, "one_time_pre_key": one}
    messages.send(alice, BOB, b"first")
    messages.send(mallory, BOB, b"second")
    both = tuple(unb64u(row["message"]) for row in box(world, bob))
    assert [found.body for found in messages.receive(bob)] == [b"first"]
    report = only_report(bob, ReportKind.KEY_REUSED, "two senders")
    assert report.evidence == both
    statements = [read_message(message).initial for message in report.evidence]
    named = [DeviceStatement.open(part.device_statement).header.user for part in statements if part]
    assert named == [ALICE, MALLORY]
    assert len({part.one_time_pre_key_id for part in statements if part}) == 1


@pytest.mark.parametrize("is_first", [True, False])
def test_replayed_message_is_delivered_once(world: Members, is_first: bool) -> None:
    alice, bob = world.published(ALICE), world.published(BOB)
    if not is_first:
        messages.send(alice, BOB, b"zero")
        messages.send(bob, ALICE, b"zero")
        bodies(bob), bodies(alice)
    messages.send(alice, BOB, b"pay carol 10")
    row = dict(box(world, bob)[0])
    assert bodies(bob) == [b"pay carol 10"]
    for _ in range(3):
        deliver(world, bob, row)
        assert bodies(bob) == []
    # Even when everything that recognises it has been forgotten, the session does not open it twice.
    for kind in ("had", "heard"):
        for key in bob.store.keys(kind):
            bob.store.delete(kind, key)
    deliver(world, bob, row)
    assert messages.receive(bob) == []
    only_report(bob, ReportKind.UNDECRYPTABLE, "session")


def test_reordered_and_dropped_messages_cost_only_what_was_dropped(world: Members) -> None:
    alice, bob = world.published(ALICE), world.published(BOB)
    for number in range(20):
        messages.send(alice, BOB, b"%d" % number)
    random.Random(1).shuffle(box(world, bob))
    del box(world, bob)[15:]
    found = bodies(bob)
    assert len(found) == 15
    messages.send(alice, BOB, b"last")
    assert bodies(bob) == [b"last"]


def test_message_changed_anywhere_does_not_open_and_the_session_goes_on(world: Members) -> None:
    alice, bob = world.published(ALICE), world.published(BOB)
    messages.send(alice, BOB, b"zero")
    bodies(bob)
    messages.send(bob, ALICE, b"zero")
    bodies(alice)
    messages.flush(alice)
    bodies(bob)
    messages.send(alice, BOB, b"true")
    row = taken(world, bob)
    message = unb64u(row["message"])
    chance = random.Random(7)
    for _ in range(60):
        at_byte, bit = chance.randrange(len(message)), 1 << chance.randrange(8)
        changed = bytearray(message)
        changed[at_byte] ^= bit
        deliver(world, bob, row, message=b64u(bytes(changed)))
    for cut in (0, 1, 4, 50, len(message) - 1):
        deliver(world, bob, row, message=b64u(message[:cut]))
    deliver(world, bob, row, message=b64u(message + bytes(1)))
    assert messages.receive(bob) == []
    for report in messages.reports(bob):
        assert report.kind is ReportKind.UNDECRYPTABLE
        understood(report)
        report.done()
    deliver(world, bob, row)
    assert bodies(bob) == [b"true"]


def test_copy_that_a_stranger_makes_of_my_words_is_refused(world: Members) -> None:
    alice, bob = world.published(ALICE), world.published(BOB)
    said = Content(ContentKind.BYTES, b"i" * 16, NOW, b"you wrote this to carol", conversation=MALLORY)
    ready = outbox.prepare(alice, BOB)
    with alice.store.transaction():
        outbox.queue(alice, ready, said.encode())
    messages.flush(alice)
    assert messages.receive(bob) == []
    only_report(bob, ReportKind.UNDECRYPTABLE, "copy of this person's own")


@pytest.mark.parametrize("plaintext", [b"", b"\xa0", b"not dCBOR", bytes(4000)])
def test_content_outside_the_format_is_reported_and_the_session_goes_on(world: Members, plaintext: bytes) -> None:
    alice, bob = world.published(ALICE), world.published(BOB)
    place, session = outbox.prepare(alice, BOB).chosen[bob.device.id]
    message = session.encrypt(plaintext)
    sessions.put(alice.store, place, session, was_received_on=False)
    world.server.deliver(bob.device_text, kind="message", message=b64u(message), sender=alice.device_text)
    messages.send(alice, BOB, b"right")
    assert [one.body for one in messages.receive(bob)] == [b"right"]
    only_report(bob, ReportKind.UNDECRYPTABLE, "format")


# A person who began again


def test_message_of_a_person_who_began_again_waits_for_a_humans_yes(world: Members) -> None:
    alice, bob = world.published(ALICE), world.published(BOB)
    messages.send(alice, BOB, b"zero")
    bodies(bob)
    contact = bob.state.contacts[ALICE]
    # What contacts.refresh finds after a re-genesis: entries that nobody here has confirmed.
    confirmed, contact.unconfirmed = list(contact.entries), [contact.entries[-1]]
    contact.entries = confirmed[:-1]
    messages.greet(alice, [BOB])
    messages.send(alice, BOB, b"I lost everything")
    assert messages.receive(bob) == []
    only_report(bob, ReportKind.WAITING, "confirmed")
    refuses(lambda: messages.send(bob, ALICE, b"hello"), match="another person")
    assert messages.receive(bob) == []
    contact = bob.state.contacts[ALICE]
    contact.entries, contact.unconfirmed = confirmed, []
    assert [one.body for one in messages.receive(bob)] == [b"I lost everything"]
