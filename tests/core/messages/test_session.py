# SPDX-License-Identifier: Apache-2.0
"""A session from its first message on: begun, answered, kept, replayed, aged. PROTOCOL sections 4 and 9."""

from __future__ import annotations

import copy
import hashlib
import pickle
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.core.base.encoding import decode, encode
from holdfast.core.base.errors import Malformed, UnwrapFailed
from holdfast.core.base.secret import SecretBytes
from holdfast.core.crypto.suites import Suite
from holdfast.core.messages.session import MAX_PLAINTEXT, Session, read_message
from tests.cast.devices import Device, pair
from tests.cast.statements import DAY, NOW

ALICE, BOB = Device("alice", Suite.HYBRID), Device("bob", Suite.HYBRID)


def again(session: Session) -> Session:
    """The session, stored and read back."""
    made = Session.from_secret(session.to_secret())
    made.restore_skipped(session.skipped_to_secret())
    assert made.to_secret() == session.to_secret()
    assert made.skipped_to_secret() == session.skipped_to_secret()
    return made


def refuses(session: Session, message: bytes) -> None:
    """It does not open, and nothing has changed."""
    before = (session.to_secret(), session.skipped_to_secret(), session.is_skipped_changed)
    with pytest.raises(UnwrapFailed, match=r"^message does not open$"):
        session.decrypt(message, now=NOW)
    assert (session.to_secret(), session.skipped_to_secret(), session.is_skipped_changed) == before


# -- beginning -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suite", list(Suite))
@pytest.mark.parametrize("one_time", [0, None])
def test_session_carries_messages_both_ways_in_every_suite(suite: Suite, one_time: int | None) -> None:
    hers, his = pair(suite, one_time=one_time)
    for size in (0, 1, 1024, 4096, MAX_PLAINTEXT):
        text = bytes(size)
        assert his.decrypt(hers.encrypt(text), now=NOW) == text
        assert hers.decrypt(his.encrypt(text), now=NOW) == text
    assert (hers.sent, hers.received) == (6, 6)
    assert (his.sent, his.received) == (6, 6)
    assert hers.id == his.id == hers.transcript[:16]
    assert hers.suite is his.suite is suite


def test_initiator_repeats_the_same_initial_part_until_it_was_answered() -> None:
    hers = ALICE.initiate(BOB)
    messages = [read_message(hers.encrypt(b"%d" % number)) for number in range(3)]
    assert len({one.initial_bytes for one in messages}) == 1
    assert all(one.initial_hash == hers.initial_hash for one in messages)
    assert hers.initial_hash == hashlib.sha256(messages[0].initial_bytes).digest()
    confirmed = [hers.is_confirmed]
    his, text = BOB.respond(messages[1], ALICE)
    assert text == b"1"
    assert his.is_confirmed
    assert his.decrypt(messages[0], now=NOW) == b"0"
    assert his.decrypt(messages[2], now=NOW) == b"2"
    answer = his.encrypt(b"answer")
    assert not read_message(answer).is_initial
    assert hers.decrypt(answer, now=NOW) == b"answer"
    assert [*confirmed, hers.is_confirmed] == [False, True]
    assert not read_message(hers.encrypt(b"")).is_initial


def test_initiator_repeats_it_after_a_restart_too() -> None:
    hers = ALICE.initiate(BOB)
    first = read_message(hers.encrypt(b"first"))
    later = read_message(again(hers).encrypt(b"second"))
    assert later.initial_bytes == first.initial_bytes
    assert not again(hers).is_confirmed


@pytest.mark.parametrize("late", [0, 1, 2])
def test_any_of_the_initiators_messages_may_come_first(late: int) -> None:
    hers = ALICE.initiate(BOB)
    messages = [hers.encrypt(b"%d" % number) for number in range(3)]
    his, text = BOB.respond(messages[late], ALICE)
    assert text == b"%d" % late
    for number in {0, 1, 2} - {late}:
        assert again(his).decrypt(messages[number], now=NOW) == b"%d" % number


def test_no_session_comes_of_a_first_message_that_does_not_open() -> None:
    message = ALICE.initiate(BOB).encrypt(b"hello")
    for at in range(len(read_message(message).initial_bytes), len(message)):
        with pytest.raises(UnwrapFailed):
            BOB.respond(message[:at] + bytes((message[at] ^ 1,)) + message[at + 1 :], ALICE)
    assert BOB.respond(message, ALICE)[1] == b"hello"


# -- replay and routing --------------------------------------------------------------------------------------------


def test_replayed_initial_message_is_refused_by_its_session() -> None:
    hers = ALICE.initiate(BOB)
    message = hers.encrypt(b"hello")
    his, _ = BOB.respond(message, ALICE)
    refuses(his, message)
    again(his).decrypt(hers.encrypt(b"next"), now=NOW)


def test_initial_part_of_another_session_is_refused() -> None:
    hers, other = ALICE.initiate(BOB), ALICE.initiate(BOB)
    his, _ = BOB.respond(hers.encrypt(b"hello"), ALICE)
    refuses(his, other.encrypt(b"hello"))
    spliced = read_message(other.encrypt(b"")).initial_bytes + read_message(hers.encrypt(b"hello")).sealed
    refuses(his, spliced)


def test_message_is_refused_under_the_other_type() -> None:
    """The type is authenticated: a server can neither strip nor add an initial part."""
    hers = ALICE.initiate(BOB)
    first, second = hers.encrypt(b"first"), hers.encrypt(b"second")
    his, _ = BOB.respond(first, ALICE)
    stripped = bytes((1, 2, 2, 0)) + read_message(second).sealed
    refuses(his, stripped)
    assert his.decrypt(second, now=NOW) == b"second"
    hers.decrypt(his.encrypt(b""), now=NOW)
    third = hers.encrypt(b"third")
    refuses(his, read_message(first).initial_bytes + read_message(third).sealed)
    assert his.decrypt(third, now=NOW) == b"third"


def test_initial_message_sent_back_to_its_initiator_is_refused() -> None:
    hers = ALICE.initiate(BOB)
    message = hers.encrypt(b"hello")
    refuses(hers, message)
    hers, his = pair()
    refuses(hers, hers.encrypt(b"mine"))
    refuses(his, his.encrypt(b"mine"))


def test_message_of_another_suite_is_refused_by_its_prefix() -> None:
    hers, his = pair(Suite.HYBRID)
    message = hers.encrypt(b"hello")
    for suite in (Suite.CLASSICAL, Suite.CLASSICAL_P256, Suite.HYBRID_P256):
        refuses(his, message[:2] + bytes((suite,)) + message[3:])


@pytest.mark.parametrize(("kind", "suite"), [(1, 2), (2, 1), (1, 1)])
def test_peer_cannot_frame_its_messages_otherwise(kind: int, suite: int) -> None:
    """What only the peer itself can make, and no peer of ours does: the right keys under another type or suite."""
    hers = ALICE.initiate(BOB)
    first = hers.encrypt(b"hello")
    his, _ = BOB.respond(first, ALICE)
    prefix = bytes((1, kind, suite, 0))
    lead = prefix + read_message(first).initial_bytes[4:] if kind == 1 else prefix
    refuses(hers, lead + his._ratchet.encrypt(b"hello", prefix))
    assert hers.decrypt(his.encrypt(b"hello"), now=NOW) == b"hello"


def test_every_message_opens_once() -> None:
    hers, his = pair()
    messages = [hers.encrypt(b"%d" % number) for number in range(20)]
    order = random.Random(3).sample(range(20), 20)
    for number in order:
        assert his.decrypt(messages[number], now=NOW) == b"%d" % number
        refuses(his, messages[number])
    for message in messages:
        refuses(again(his), message)


@pytest.mark.parametrize(
    "changed",
    [
        lambda m: b"",
        lambda m: m[:4],
        lambda m: b"\x02" + m[1:],
        lambda m: b"\x00" + m[1:],
        lambda m: m[:1] + b"\x00" + m[2:],
        lambda m: m[:1] + b"\x03" + m[2:],
        lambda m: m[:2] + b"\x00" + m[3:],
        lambda m: m[:2] + b"\x05" + m[3:],
        lambda m: m[:3] + b"\x01" + m[4:],
        lambda m: m[:1] + b"\x01" + m[2:4] + b"\xff\xff" + m[4:],
        lambda m: m + bytes(65_537 - len(m)),
    ],
)
def test_message_of_another_form_is_malformed(changed: Any) -> None:
    hers, his = pair()
    before = his.to_secret()
    message = hers.encrypt(b"hello")
    with pytest.raises(Malformed):
        read_message(changed(message))
    with pytest.raises((Malformed, UnwrapFailed)):
        his.decrypt(changed(message), now=NOW)
    assert his.to_secret() == before
    assert his.decrypt(message, now=NOW) == b"hello"


@given(st.binary(max_size=400))
def test_read_message_of_any_bytes_is_refused_or_taken_apart_whole(data: bytes) -> None:
    try:
        incoming = read_message(data)
    except Malformed:
        return
    assert (incoming.initial_bytes or incoming.prefix) + incoming.sealed == data
    assert incoming.is_initial is (data[1] == 1)
    if incoming.is_initial:
        with pytest.raises(Malformed):
            _ = incoming.initial


def test_message_above_64_kib_is_refused_though_its_peer_made_it() -> None:
    hers, his = pair()
    prefix = bytes((1, 2, 2, 0))
    before = hers.to_secret()
    for size in (65_536, 200_000):
        with pytest.raises(Malformed, match="64 KiB"):
            hers.decrypt(prefix + his._ratchet.encrypt(bytes(size), prefix), now=NOW)
    assert hers.to_secret() == before


def test_largest_message_fits_64_kib_with_its_initial_part() -> None:
    hers = ALICE.initiate(BOB)
    message = hers.encrypt(bytes(MAX_PLAINTEXT))
    assert len(message) <= 64 * 1024
    assert BOB.respond(message, ALICE)[1] == bytes(MAX_PLAINTEXT)
    with pytest.raises(ValueError, match="reference"):
        hers.encrypt(bytes(MAX_PLAINTEXT + 1))
    assert hers.sent == 1


# -- ageing --------------------------------------------------------------------------------------------------------


def test_session_is_renewed_after_seven_days() -> None:
    hers, _ = pair()
    assert not hers.needs_handshake(NOW + 7 * DAY - 1)
    assert hers.needs_handshake(NOW + 7 * DAY)


def test_session_is_renewed_after_a_thousand_messages_of_both() -> None:
    hers, his = pair()
    while hers.sent + hers.received < 999:
        his.decrypt(hers.encrypt(b""), now=NOW)
    assert not hers.needs_handshake(NOW)
    hers.decrypt(his.encrypt(b""), now=NOW)
    assert hers.needs_handshake(NOW)
    assert again(hers).needs_handshake(NOW)
    assert his.needs_handshake(NOW)


def test_expire_drops_what_a_silent_session_still_holds() -> None:
    hers, his = pair()
    late = hers.encrypt(b"late")
    his.decrypt(hers.encrypt(b"next"), now=NOW)
    his.expire(NOW + 30 * DAY - 1)
    assert again(his).decrypt(late, now=NOW) == b"late"
    his.expire(NOW + 30 * DAY)
    refuses(his, late)


# -- storing -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suite", list(Suite))
def test_session_is_read_back_at_every_stage(suite: Suite) -> None:
    alice, bob = Device("alice", suite), Device("bob", suite)
    hers = again(alice.initiate(bob))
    lost = hers.encrypt(b"lost")
    his, _ = bob.respond(again(hers).encrypt(b"hello"), alice)
    for _ in range(3):
        hers, his = again(hers), again(his)
        assert hers.decrypt(his.encrypt(b"yes"), now=NOW) == b"yes"
        hers, his = again(hers), again(his)
        assert his.decrypt(hers.encrypt(b"no"), now=NOW) == b"no"
    assert again(his).decrypt(lost, now=NOW) == b"lost"


def test_stored_session_keeps_all_that_it_says_of_itself() -> None:
    hers, his = pair(one_time=None)
    for one in (hers, his):
        other = again(one)
        said = ("id", "transcript", "suite", "initial_hash", "created_at", "sent", "received", "is_confirmed")
        for name in (*said, "is_last_resort", "is_initiator", "is_skipped_changed"):
            assert getattr(other, name) == getattr(one, name)
    assert hers.is_last_resort
    assert hers.is_initiator
    assert not his.is_initiator
    assert hers.created_at == NOW


def test_skipped_keys_are_to_be_stored_again_only_when_they_changed() -> None:
    hers, his = pair()
    messages = [hers.encrypt(b"%d" % number) for number in range(4)]
    changed = []
    for number in (0, 2, 3, 1):
        his.decrypt(messages[number], now=NOW)
        changed.append(his.is_skipped_changed)
        kept = his.skipped_to_secret()
        assert his.is_skipped_changed is changed[-1]  # reading them is not storing them
        his.mark_skipped_kept()
    assert changed == [False, True, False, True]
    assert decode(kept.reveal()) == []


@pytest.mark.parametrize("field", range(1, 12))
def test_stored_session_with_a_field_missing_or_changed_is_refused(field: int) -> None:
    fields = decode(pair()[0].to_secret().reveal())
    assert isinstance(fields, dict)
    for changed in ({k: v for k, v in fields.items() if k != field}, {**fields, 12: 1}, {**fields, field: "text"}):
        with pytest.raises(Malformed):
            Session.from_secret(SecretBytes(encode(changed)))
    for octets in (b"", b"\x80", encode({**fields, 1: 2}), encode({**fields, 2: 9})):
        with pytest.raises(Malformed):
            Session.from_secret(SecretBytes(octets))


@pytest.mark.parametrize("place", range(12))
def test_stored_ratchet_with_a_part_of_another_size_is_refused(place: int) -> None:
    fields = decode(pair()[0].to_secret().reveal())
    assert isinstance(fields, dict)
    row = fields[11]
    assert isinstance(row, list)
    for value in (bytes(31), bytes(33), 2**32, "text"):
        with pytest.raises(Malformed):
            Session.from_secret(SecretBytes(encode({**fields, 11: [*row[:place], value, *row[place + 1 :]]})))
    with pytest.raises(Malformed):
        Session.from_secret(SecretBytes(encode({**fields, 11: row[:-1]})))


@pytest.mark.parametrize(
    "value",
    [
        {},
        7,
        [7],
        [[bytes(32)]],
        [[bytes(31), bytes(44)]],
        [[bytes(32), bytes(43)]],
        [[bytes(32), b""]],
        [[7, bytes(44)]],
    ],
)
def test_stored_skipped_keys_of_another_form_are_refused(value: Any) -> None:
    hers, his = pair()
    with pytest.raises(Malformed):
        his.restore_skipped(SecretBytes(encode(value)))
    assert his.decrypt(hers.encrypt(b"hello"), now=NOW) == b"hello"


def test_session_and_what_it_holds_are_neither_printed_nor_copied() -> None:
    hers, _ = pair()
    for one in (hers, hers._ratchet, hers._ratchet.skipped):
        assert repr(one) == str(one) == f"<{type(one).__name__}>"
        assert not hasattr(one, "__dict__")
        for way in (lambda one=one: f"{one}", lambda one=one: format(one, "s")):
            with pytest.raises(TypeError, match="not formatted"):
                way()
        for act in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError, match="not pickled or copied"):
                act(one)
