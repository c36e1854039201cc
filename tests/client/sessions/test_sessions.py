# SPDX-License-Identifier: Apache-2.0
"""Sessions of two devices as the client keeps them: begun, routed, replaced, dropped, and soon of one mind."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from holdfast.client.identity import chains, contacts, key_log, peers
from holdfast.client.messages import messages, outbox, prekeys
from holdfast.client.messages.messages import ReportKind
from holdfast.client.profile.account import Account
from holdfast.client.sessions import sessions
from holdfast.client.sessions.sessions import Address
from holdfast.core.base.encoding import b64u, decode, encode, unb64u
from holdfast.core.crypto.keys import SigningKey
from holdfast.core.crypto.suites import Suite
from holdfast.core.identity import chain_author
from holdfast.core.identity.chain import ChainState
from holdfast.core.identity.entries import Reason
from holdfast.core.messages.content import Content, ContentKind
from holdfast.core.messages.session import read_message
from tests.cast.lying_server import NOW
from tests.cast.members import ALICE, BOB, Members

DAY = 86_400
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def at(account: Account) -> Address:
    return Address(account.user, account.device.id)


def ids(account: Account, peer: Account) -> list[bytes]:
    """The sessions that an account has with a device, newest first."""
    return [one.id for one in sessions.places(account.store, at(peer))]


def bodies(account: Account) -> list[bytes]:
    """Receive, take everything, and see that nothing had to be reported."""
    found = messages.receive(account)
    for one in found:
        one.done()
    assert messages.reports(account) == []
    return [one.body for one in found]


def box(world: Members, account: Account) -> list[dict[str, Any]]:
    return world.server.mailboxes.setdefault(account.device_text, [])


@contextmanager
def unseen(world: Members, account: Account) -> Iterator[None]:
    """What waits for an account is still on its way meanwhile."""
    waiting, world.server.mailboxes[account.device_text] = box(world, account), []
    yield
    world.server.mailboxes[account.device_text] = waiting + box(world, account)


def revoke(account: Account, device: bytes) -> None:
    """Write a revocation and its rotation, as rotation.py does, without the steps that follow."""
    fresh = SigningKey.generate(account.suite.signing_kind)

    def write(state: ChainState) -> Any:
        return chain_author.revoke_device(
            state, by=account.author(state), device=device, reason=Reason.DEVICE_LOST, since=0, new_aik=fresh
        )

    chains.append(account, write)
    account.state.identity_seed = fresh.seed()
    account.save()


def renew(account: Account) -> None:
    """Rotate the identity key, without the steps that follow."""
    fresh = SigningKey.generate(account.suite.signing_kind)
    chains.append(
        account,
        lambda state: [
            chain_author.rotate_key(state, by=account.author(state), new_aik=fresh, reason=Reason.SCHEDULE),
        ],
    )
    account.state.identity_seed = fresh.seed()
    account.save()


@pytest.mark.parametrize("suite", list(Suite))
def test_first_message_begins_one_session_that_both_ends_name_alike(world: Members, suite: Suite) -> None:
    alice, bob = world.published(ALICE, suite), world.published(BOB, suite)
    messages.send(alice, BOB, b"one")
    assert bodies(bob) == [b"one"]
    messages.send(bob, ALICE, b"two")
    assert bodies(alice) == [b"two"]
    assert ids(alice, bob) == ids(bob, alice)
    assert len(ids(alice, bob)) == 1


def test_first_message_opens_after_both_identities_were_rotated_on_its_way(world: Members) -> None:
    alice, bob = world.published(ALICE), world.published(BOB)
    messages.send(alice, BOB, b"one")
    renew(alice)
    renew(bob)
    assert bodies(bob) == [b"one"]
    messages.send(bob, ALICE, b"two")
    assert bodies(alice) == [b"two"]
    assert ids(alice, bob) == ids(bob, alice)


def test_initial_part_repeats_until_the_other_end_has_answered(world: Members) -> None:
    alice, bob = world.published(ALICE), world.published(BOB)
    for number in range(3):
        messages.send(alice, BOB, b"%d" % number)
    sent = [read_message(unb64u(row["message"])) for row in box(world, bob)]
    assert len({one.initial_bytes for one in sent}) == 1
    assert sent[0].is_initial
    assert bodies(bob) == [b"0", b"1", b"2"]
    assert len(ids(bob, alice)) == 1
    messages.send(bob, ALICE, b"answer")
    bodies(alice)
    messages.send(alice, BOB, b"3")
    assert not read_message(unb64u(box(world, bob)[0]["message"])).is_initial
    assert bodies(bob) == [b"3"]


def test_one_time_key_is_gone_with_the_message_that_used_it(world: Members) -> None:
    alice, bob = world.published(ALICE), world.published(BOB)
    messages.send(alice, BOB, b"one")
    initial = read_message(unb64u(box(world, bob)[0]["message"])).initial
    assert initial is not None
    used = initial.one_time_pre_key_id
    assert used is not None
    assert prekeys.one_time(bob, used) is not None
    bodies(bob)
    assert prekeys.one_time(bob, used) is None


def test_handshakes_from_both_sides_at_once_leave_both_sessions_and_one_favourite(world: Members) -> None:
    alice, bob = world.published(ALICE), world.published(BOB)
    messages.send(alice, BOB, b"from alice")
    with unseen(world, bob):
        messages.send(bob, ALICE, b"from bob")
    assert bodies(alice) == [b"from bob"]
    assert bodies(bob) == [b"from alice"]
    assert sorted(ids(alice, bob)) == sorted(ids(bob, alice))
    assert len(ids(alice, bob)) == 2
    messages.send(alice, BOB, b"and on")
    assert bodies(bob) == [b"and on"]
    assert ids(alice, bob)[0] == ids(bob, alice)[0]


@pytest.mark.parametrize("seed", range(24))
def test_any_interleaving_converges_and_loses_nothing(world: Members, seed: int) -> None:
    chance = random.Random(seed)
    alice, bob = world.published(ALICE), world.published(BOB)
    sent: dict[bytes, list[bytes]] = {ALICE: [], BOB: []}
    got: dict[bytes, list[bytes]] = {ALICE: [], BOB: []}
    for number in range(chance.randint(4, 24)):
        account, peer = chance.choice([(alice, BOB), (bob, ALICE)])
        if chance.random() < 0.6:
            sent[peer].append(b"%d" % number)
            with unseen(world, account):
                messages.send(account, peer, b"%d" % number)
        else:
            got[account.user] += some(world, account, chance)
    for _ in range(2):
        got[ALICE] += bodies(alice)
        got[BOB] += bodies(bob)
    assert {user: sorted(all_of) for user, all_of in got.items()} == {user: sorted(of) for user, of in sent.items()}
    messages.send(alice, BOB, b"converged")
    assert bodies(bob) == [b"converged"]
    assert ids(alice, bob)[0] == ids(bob, alice)[0]


def some(world: Members, account: Account, chance: random.Random) -> list[bytes]:
    """Receive some of what waits, in another order than it was sent in; the rest comes later."""
    waiting = box(world, account)
    chance.shuffle(waiting)
    late = waiting[chance.randint(0, len(waiting)) :]
    del waiting[len(waiting) - len(late) :]
    found = bodies(account)
    box(world, account).extend(late)
    return found


def test_no_more_than_four_sessions_are_kept_with_a_device(world: Members) -> None:
    alice, bob = world.published(ALICE), world.published(BOB)
    for number in range(6):
        messages.greet(alice, [BOB])
        messages.send(alice, BOB, b"%d" % number)
        assert bodies(bob) == [b"%d" % number]
        assert bodies(alice) == []
    assert len(ids(alice, bob)) == len(ids(bob, alice)) == sessions.MOST_SESSIONS
    assert len(bob.store.keys("session")) == sessions.MOST_SESSIONS
    messages.send(bob, ALICE, b"still on the newest")
    assert bodies(alice) == [b"still on the newest"]


def test_new_handshake_is_made_after_seven_days(world: Members) -> None:
    alice, bob = world.published(ALICE), world.published(BOB)
    messages.send(alice, BOB, b"one")
    assert bodies(bob) == [b"one"]
    messages.send(bob, ALICE, b"two")
    bodies(alice)
    world.now += 7 * DAY - 1
    messages.send(alice, BOB, b"three")
    assert len(ids(alice, bob)) == 1
    world.now += 1
    messages.send(alice, BOB, b"four")
    assert len(ids(alice, bob)) == 2
    assert bodies(bob) == [b"three", b"four"]
    assert ids(alice, bob) == ids(bob, alice)


def test_new_handshake_is_made_after_a_thousand_messages(world: Members) -> None:
    alice, bob = world.published(ALICE), world.published(BOB)
    for _ in range(1000):
        messages.send(alice, BOB, b"x")
    assert len(ids(alice, bob)) == 1
    messages.send(alice, BOB, b"x")
    assert len(ids(alice, bob)) == 2
    assert len(bodies(bob)) == 1001


def test_device_without_one_time_keys_is_marked_at_both_ends(world: Members) -> None:
    alice, bob = world.published(ALICE), world.published(BOB)
    world.server.batches[bob.device_text].clear()
    sent = messages.send(alice, BOB, b"one")
    assert [one.bytes for one in sent.last_resort] == [bob.device.id]
    assert [one.is_last_resort for one in messages.receive(bob)] == [True]
    assert messages.send(alice, BOB, b"two").last_resort == ()


def malleated(message: bytes) -> bytes:
    """The same handshake under other bytes: an ECDSA signature has a twin, n - s, that holds as well."""
    incoming = read_message(message)
    initial = incoming.initial
    assert initial is not None
    statement = decode(initial.device_statement.encode())
    assert isinstance(statement, list)
    signature = statement[3]
    assert isinstance(signature, bytes)
    twin = P256_ORDER - int.from_bytes(signature[32:], "big")
    statement[3] = signature[:32] + twin.to_bytes(32, "big")
    signed = type(initial.device_statement).parse(encode(statement))
    return replace(initial, device_statement=signed).encode() + incoming.sealed


def first_message(sender: Account, to: Account) -> bytes:
    """A first message that no server has seen: encrypted for one device, and handed to the test."""
    ready = outbox.prepare(sender, to.user)
    with sender.store.transaction():
        key = outbox.queue(sender, ready, Content(ContentKind.BYTES, b"i" * 16, NOW, b"I am alice").encode())
    assert key is not None
    row = outbox.Row.load(sender, key)
    sender.store.delete(outbox.OUTBOX, key)
    return dict(row.envelopes)[to.device.id]


@pytest.mark.parametrize("one_time", [True, False])
def test_handshake_replayed_under_other_bytes_begins_nothing(world: Members, one_time: bool) -> None:
    alice, bob = world.published(ALICE, Suite.HYBRID_P256), world.published(BOB, Suite.HYBRID_P256)
    if not one_time:
        world.server.batches[bob.device_text].clear()
    messages.send(alice, BOB, b"pay carol 10")
    row = dict(box(world, bob)[0])
    assert bodies(bob) == [b"pay carol 10"]
    twin = malleated(unb64u(row["message"]))
    assert read_message(twin).initial_hash != read_message(unb64u(row["message"])).initial_hash
    box(world, bob).append({**row, "message_id": alice.device_text, "message": b64u(twin)})
    assert messages.receive(bob) == []
    assert len(ids(bob, alice)) == 1
    (report,) = messages.reports(bob)
    assert report.kind is (ReportKind.KEY_REUSED if one_time else ReportKind.UNDECRYPTABLE)


def test_message_goes_to_all_devices_of_both_people_and_says_to_whom(world: Members) -> None:
    alice, bob = world.published(ALICE), world.published(BOB)
    phone, tablet = world.another(alice), world.another(bob)
    sent = messages.send(alice, BOB, b"dear bob")
    assert {one.bytes for one in sent.devices} == {bob.device.id, tablet.device.id}
    for account in (bob, tablet, phone):
        (one,) = messages.receive(account)
        assert (one.id, one.body, one.sender) == (sent.id, b"dear bob", ALICE)
        assert one.device.bytes == alice.device.id
        assert one.conversation == (BOB if account is phone else ALICE)
        assert one.is_copy is (account is phone)
    assert messages.receive(alice) == []


def test_note_to_oneself_reaches_the_other_devices(world: Members) -> None:
    alice = world.published(ALICE)
    assert messages.send(alice, ALICE, b"milk").devices == ()
    phone = world.another(alice)
    messages.send(alice, ALICE, b"bread")
    (one,) = messages.receive(phone)
    assert (one.body, one.conversation, one.is_copy) == (b"bread", ALICE, True)


def test_device_added_since_the_last_look_gets_the_message_after_a_409(world: Members) -> None:
    alice, bob = world.published(ALICE), world.published(BOB)
    messages.send(bob, ALICE, b"one")
    phone = world.another(alice)
    assert messages.send(bob, ALICE, b"two").is_sent
    assert bodies(phone) == [b"two"]
    assert bodies(alice) == [b"one", b"two"]
    assert bob.store.keys("outbox") == []


def test_revoked_device_gets_nothing_new_and_its_sessions_go(world: Members) -> None:
    alice, bob = world.published(ALICE), world.published(BOB)
    phone = world.another(alice)
    messages.send(bob, ALICE, b"one")
    assert bodies(phone) == [b"one"]
    revoke(alice, phone.device.id)
    sent = messages.send(bob, ALICE, b"two")
    assert [one.bytes for one in sent.devices] == [alice.device.id]
    assert ids(bob, phone) == []
    assert not [key for key in bob.store.keys("session") if phone.device.id in key]
    assert box(world, phone) == []
    assert bodies(alice) == [b"one", b"two"]


def test_message_that_a_revoked_device_sent_before_still_arrives(world: Members) -> None:
    alice, bob = world.published(ALICE), world.published(BOB)
    phone = world.another(alice)
    messages.send(phone, BOB, b"one")
    assert bodies(bob) == [b"one"]
    messages.send(phone, BOB, b"on its way")
    revoke(alice, phone.device.id)
    # Bob writes before reading: what waits is fetched before the sessions go.
    messages.send(bob, ALICE, b"two")
    assert [one.body for one in messages.receive(bob)] == [b"on its way"]
    assert ids(bob, phone) == []


def test_message_that_a_revoked_device_sends_afterwards_is_refused(world: Members) -> None:
    alice, bob = world.published(ALICE), world.published(BOB)
    phone = world.another(alice)
    revoke(alice, phone.device.id)
    sealed = first_message(phone, bob)
    world.server.deliver(bob.device_text, kind="message", message=b64u(sealed), sender=phone.device_text)
    assert messages.receive(bob) == []
    (report,) = messages.reports(bob)
    assert "does not list" in report.text


def test_own_revoked_device_gets_no_copies(world: Members) -> None:
    alice = world.published(ALICE)
    world.published(BOB)
    phone = world.another(alice)
    messages.send(alice, BOB, b"one")
    revoke(alice, phone.device.id)
    before = len(box(world, phone))
    messages.send(alice, BOB, b"two")
    assert len(box(world, phone)) == before
    assert ids(alice, phone) == []


def test_sender_tells_that_their_account_has_moved(world: Members) -> None:
    alice, bob = world.published(ALICE), world.published(BOB)
    messages.send(alice, BOB, b"one")
    bodies(bob)
    phone = world.another(alice)
    assert messages.announce(alice) == [BOB]
    assert bodies(bob) == []
    assert peers.knows(bob, ALICE, alice.chain.head)
    assert phone.device.id in contacts.refresh(bob, ALICE).devices


def test_greeting_begins_a_fresh_session_and_shows_nobody_anything(world: Members) -> None:
    alice, bob = world.published(ALICE), world.published(BOB)
    messages.send(alice, BOB, b"one")
    bodies(bob)
    assert messages.greet(alice) == [BOB]
    assert bodies(bob) == []
    assert len(ids(bob, alice)) == 2
    messages.send(bob, ALICE, b"two")
    assert ids(alice, bob)[0] == ids(bob, alice)[0]
    assert bodies(alice) == [b"two"]


def test_what_was_kept_to_recognise_repetitions_goes_when_its_time_is_over(world: Members) -> None:
    alice, bob = world.published(ALICE), world.published(BOB)
    world.server.batches[bob.device_text] = world.server.batches[bob.device_text][:1]
    messages.send(alice, BOB, b"one")
    messages.greet(alice, [BOB])
    assert bodies(bob) == [b"one"]
    kinds = ("initial", "seen", "used", "had", "heard")
    assert [len(bob.store.keys(kind)) for kind in kinds] == [2, 1, 1, 2, 1]
    assert messages.prune(bob) == 0
    world.now += 60 * DAY
    assert messages.prune(bob) == 0, "nobody has confirmed the time"
    assert key_log.confirm_time(bob)
    # Beside these, how often bob has answered a session begun anew.
    assert messages.prune(bob) == 8
    assert [len(bob.store.keys(kind)) for kind in kinds] == [0, 0, 0, 0, 0]
