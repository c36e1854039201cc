# SPDX-License-Identifier: Apache-2.0
"""How much a ratchet stores and how little work a hostile message gets out of it. PROTOCOL sections 4 and 9."""

from __future__ import annotations

import hashlib
import os
import random
import time
from typing import ClassVar

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.core.base.encoding import encode
from holdfast.core.base.errors import OutOfBounds, UnwrapFailed
from holdfast.core.base.padding import pad
from holdfast.core.crypto.keys import KeyKind
from holdfast.core.messages import ratchet as module
from holdfast.core.messages.ratchet import Ratchet, derive_chain
from holdfast.core.messages.skipped import LIFE_SECONDS, SkippedKeys
from tests.cast.ratchet import (
    AD,
    PREFIX,
    RECEIVED,
    SENDING,
    SENT,
    STEM,
    at_number,
    message,
    refuses,
    send,
    state,
    talking,
)
from tests.cast.statements import NOW

# -- limits --------------------------------------------------------------------------------------------------------


def test_a_thousand_skipped_are_allowed_and_no_more() -> None:
    a, b = talking()
    sealed = [message(a, b"%d" % number) for number in range(1002)]
    refuses(b, sealed[1001])
    assert b.decrypt(sealed[1000], NOW) == b"1000"
    assert b.skipped.count == 1000
    assert b.decrypt(sealed[1001], NOW) == b"1001"
    for number in random.Random(1).sample(range(1000), 1000):
        assert b.decrypt(sealed[number], NOW) == b"%d" % number
    assert b.skipped.count == 0


@pytest.mark.parametrize(("missed", "is_allowed"), [(1000, True), (1001, False)])
def test_limit_holds_for_the_rest_of_the_chain_before(missed: int, is_allowed: bool) -> None:
    a, b = talking()
    sealed = [message(a, b"%d" % number) for number in range(missed)]
    # Another end tells a what makes it step, without any of these having arrived.
    send(b, a)
    after = message(a, b"after")
    if is_allowed:
        assert b.decrypt(after, NOW) == b"after"
        assert b.decrypt(sealed[0], NOW) == b"0"
        assert b.decrypt(sealed[-1], NOW) == b"%d" % (missed - 1)
    else:
        refuses(b, after)
        assert b.decrypt(sealed[999], NOW) == b"999"
        assert b.decrypt(after, NOW) == b"after"


def test_limit_holds_for_the_first_chain_of_a_step() -> None:
    a, b = talking()
    send(b, a)
    sealed = [message(a, b"%d" % number) for number in range(1002)]
    refuses(b, sealed[1001])
    assert b.decrypt(sealed[1000], NOW) == b"1000"


@pytest.mark.parametrize("number", [1002, 2**31, 2**32 - 2])
@pytest.mark.parametrize("is_step", [False, True])
def test_far_number_is_refused_before_anything_is_derived(number: int, is_step: bool) -> None:
    a, b = talking()
    if is_step:
        send(b, a)
    far = message(at_number(a, number))

    def once() -> float:
        started = time.process_time()
        refuses(b, far)
        return time.process_time() - started

    assert min(once() for _ in range(20)) < 0.001
    send(a, b)


def test_far_previous_number_is_refused_before_anything_is_derived() -> None:
    a, b = talking()
    hostile = at_number(a, 2**31)
    sealed = message(b)
    assert hostile.decrypt(sealed, NOW) == b"hello"
    far = message(hostile)

    def once() -> float:
        started = time.process_time()
        refuses(b, far)
        return time.process_time() - started

    assert min(once() for _ in range(20)) < 0.001
    assert a.decrypt(sealed, NOW) == b"hello"
    send(a, b)


def test_chain_ends_at_its_last_number() -> None:
    a, b = talking()
    last = at_number(a, 2**32 - 2)
    last.encrypt(b"", PREFIX)
    with pytest.raises(OutOfBounds):
        last.encrypt(b"", PREFIX)
    # A peer that goes on all the same: what it numbers 2^32 - 1 would open, and the next would be number 0 again.
    value = b.to_value()
    value[RECEIVED] = 2**32 - 1
    beyond = forged(at_number(a, 2**32 - 1), pad(b"hello"))
    refuses(Ratchet.from_value(value, kind=KeyKind.X25519, ad=AD), beyond)


def test_two_thousand_keys_are_stored_and_the_oldest_go() -> None:
    a, b = talking()
    first = [message(a, b"first %d" % number) for number in range(1001)]
    assert b.decrypt(first[1000], NOW) == b"first 1000"
    send(b, a)
    second = [message(a, b"second %d" % number) for number in range(1001)]
    assert b.decrypt(second[1000], NOW) == b"second 1000"
    assert b.skipped.count == 2000
    further = [message(a, b"further %d" % number) for number in range(11)]
    assert b.decrypt(further[10], NOW) == b"further 10"
    assert b.skipped.count == 2000
    for number in (0, 9):
        refuses(b, first[number])
    assert b.decrypt(first[10], NOW) == b"first 10"
    assert b.decrypt(second[0], NOW) == b"second 0"


def lossy(a: Ratchet, b: Ratchet, chains: int) -> list[bytes]:
    """One lost message in each of several chains; returns them, oldest first."""
    lost = []
    for _ in range(chains):
        lost.append(message(a, b"lost"))
        send(a, b)
        send(b, a)
    return lost


def test_five_old_chains_are_kept() -> None:
    a, b = talking()
    lost = lossy(a, b, 6)
    send(a, b)  # steps away from the sixth
    refuses(b, lost[0])
    for sealed in lost[1:]:
        assert b.decrypt(sealed, NOW) == b"lost"


def test_chain_with_nothing_missing_takes_no_place_among_the_five() -> None:
    a, b = talking()
    lost = message(a, b"lost")
    send(a, b)
    send(b, a)
    for _ in range(20):
        send(a, b)
        send(b, a)
    assert b.decrypt(lost, NOW) == b"lost"


def test_stored_keys_expire_after_30_days() -> None:
    a, b = talking()
    sealed = [message(a, b"%d" % number) for number in range(4)]
    b.decrypt(sealed[1], NOW)
    b.decrypt(sealed[3], NOW + 1)
    assert b.decrypt(sealed[0], NOW + LIFE_SECONDS - 1) == b"0"
    refuses_after = Ratchet.from_value(b.to_value(), kind=KeyKind.X25519, ad=AD)
    refuses_after.skipped = SkippedKeys.from_secret(b.skipped.to_secret())
    refuses_after.skipped.expire(NOW + LIFE_SECONDS + 1)
    with pytest.raises(UnwrapFailed):
        refuses_after.decrypt(sealed[2], NOW + LIFE_SECONDS + 1)
    assert refuses_after.skipped.count == 0
    # The clock of whoever opens a message is no reason to lose one: who is sure of the time lets keys expire.
    assert b.decrypt(sealed[2], NOW + 2 * LIFE_SECONDS) == b"2"


def test_key_stored_in_the_future_expires_30_days_after_that_was_seen() -> None:
    a, b = talking()
    sealed = [message(a, b"%d" % number) for number in range(2)]
    b.decrypt(sealed[1], NOW + 1000 * LIFE_SECONDS)
    b.skipped.expire(NOW)
    b.skipped.expire(NOW + LIFE_SECONDS - 1)
    assert b.skipped.count == 1
    b.skipped.expire(NOW + LIFE_SECONDS)
    assert b.skipped.count == 0


def test_expiry_leaves_what_is_younger_alone() -> None:
    a, b = talking()
    sealed = [message(a, b"%d" % number) for number in range(4)]
    b.decrypt(sealed[1], NOW)
    b.decrypt(sealed[3], NOW + 100)
    b.skipped.is_changed = False
    b.skipped.expire(NOW + LIFE_SECONDS - 1)
    assert (b.skipped.count, b.skipped.is_changed) == (2, False)
    b.skipped.expire(NOW + LIFE_SECONDS)
    assert (b.skipped.count, b.skipped.is_changed) == (1, True)
    refuses(b, sealed[0], NOW + LIFE_SECONDS)
    assert b.decrypt(sealed[2], NOW + LIFE_SECONDS) == b"2"


# -- junk ----------------------------------------------------------------------------------------------------------


class CountingGcm:
    """The library's cipher, counting what it opens and remembering under what it seals."""

    opened = 0
    sealed: ClassVar[list[tuple[bytes, bytes]]] = []

    def __init__(self, key: bytes) -> None:
        self._key, self._gcm = key, AESGCM(key)

    def decrypt(self, nonce: bytes, data: bytes, aad: bytes) -> bytes:
        CountingGcm.opened += 1
        return self._gcm.decrypt(nonce, data, aad)

    def encrypt(self, nonce: bytes, data: bytes, aad: bytes) -> bytes:
        CountingGcm.sealed.append((self._key, nonce))
        return self._gcm.encrypt(nonce, data, aad)


@pytest.fixture
def gcm(monkeypatch: pytest.MonkeyPatch) -> type[CountingGcm]:
    monkeypatch.setattr(module, "AESGCM", CountingGcm)
    CountingGcm.opened, CountingGcm.sealed = 0, []
    return CountingGcm


def test_junk_costs_seven_openings_at_most(gcm: type[CountingGcm]) -> None:
    a, b = talking()
    lossy(a, b, 9)
    message(a)
    send(a, b)
    missed = [message(a) for _ in range(3)]
    b.decrypt(missed[2], NOW)
    assert len(list(b.skipped.header_keys())) == 6  # five old chains and the present one
    gcm.opened = 0
    refuses(b, PREFIX + bytes(200))
    assert gcm.opened == 7


def test_restored_state_never_meets_a_key_and_nonce_again(gcm: type[CountingGcm]) -> None:
    a, _ = talking()
    old = a.to_value()
    gcm.sealed = []
    sealed = [Ratchet.from_value(old, kind=KeyKind.X25519, ad=AD).encrypt(b"x" * 100, PREFIX) for _ in range(2000)]
    assert len(gcm.sealed) == 4000  # a header and a body each
    assert len(set(gcm.sealed)) == 4000
    assert len({key for key, _ in gcm.sealed[1::2]}) == 2000
    assert len({one[:12] for one in sealed}) == 2000


@pytest.mark.parametrize("each", [500, pytest.param(125_000, marks=pytest.mark.soak("salts"))])
def test_forked_processes_never_share_a_salt(each: int) -> None:
    """One state in eight processes: all meet the same message keys, none the same key and nonce (FAULTS C8)."""
    a, _ = talking()
    pipes = []
    for _ in range(8):
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            with os.fdopen(writing, "wb") as pipe:
                pipe.write(b"".join(a.encrypt(b"", PREFIX)[:12] for _ in range(each)))
            os._exit(0)
        os.close(writing)
        pipes.append((child, reading))
    salts: list[bytes] = []
    for child, reading in pipes:
        with os.fdopen(reading, "rb") as pipe:
            octets = pipe.read()
        assert os.waitpid(child, 0)[1] == 0
        salts += [octets[at : at + 12] for at in range(0, len(octets), 12)]
    assert len(salts) == len(set(salts)) == 8 * each


@pytest.mark.parametrize("is_step", [False, True])
def test_ten_thousand_mutated_messages_leave_the_session_able_to_decrypt(is_step: bool) -> None:
    a, b = talking()
    lossy(a, b, 6)
    if not is_step:
        send(a, b)
    late, valid = message(a, b"late"), message(a, b"valid")
    chance = random.Random(5)
    before = state(b)
    for _ in range(10_000):
        with pytest.raises(UnwrapFailed):
            b.decrypt(mutated(chance.choice((late, valid)), chance), NOW)
    assert state(b) == before
    assert b.decrypt(valid, NOW) == b"valid"
    assert b.decrypt(late, NOW) == b"late"
    send(b, a)
    send(a, b)


def mutated(sealed: bytes, chance: random.Random) -> bytes:
    """Another message: bits flipped, cut, grown, spliced, or noise."""
    octets = bytearray(sealed)
    how = chance.randrange(5)
    if how == 0:
        for _ in range(chance.randint(1, 3)):
            octets[chance.randrange(len(octets))] ^= 1 << chance.randrange(8)
    elif how == 1:
        del octets[chance.randrange(4, len(octets)) :]
    elif how == 2:
        octets += chance.randbytes(chance.randint(1, 40))
    elif how == 3:
        at = chance.randrange(4, len(octets) - 1)
        octets[at:] = octets[at:][::-1]
    else:
        octets = bytearray(PREFIX + chance.randbytes(chance.randint(0, 200)))
    return bytes(octets) if bytes(octets) != sealed else sealed[:-1]


@settings(max_examples=300)
@given(st.data())
def test_any_bit_of_a_message_is_authenticated(data: st.DataObject) -> None:
    a, b = talking()
    octets = bytearray(message(a))
    octets[data.draw(st.integers(0, len(octets) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    refuses(b, bytes(octets))


def test_message_of_another_session_or_prefix_is_refused() -> None:
    a, b = talking()
    other, _ = talking()
    refuses(b, message(other))
    sealed = a.encrypt(b"hello", PREFIX)
    for prefix in (b"\x01\x01\x02\x00", b"\x01\x02\x01\x00", b"\x01\x02\x02\x01", b"\x02\x02\x02\x00"):
        refuses(b, prefix + sealed)
    assert b.decrypt(PREFIX + sealed, NOW) == b"hello"


def test_message_comes_not_back_to_its_sender() -> None:
    a, b = talking()
    refuses(a, message(a))
    refuses(b, message(b))


def test_associated_data_is_bound() -> None:
    a, b = talking()
    elsewhere = Ratchet.from_value(b.to_value(), kind=KeyKind.X25519, ad=hashlib.sha256(AD).digest())
    sealed = message(a)
    refuses(elsewhere, sealed)
    assert b.decrypt(sealed, NOW) == b"hello"


def forged(by: Ratchet, body_of: bytes) -> bytes:
    """A message of a peer that pads as it likes: header and key are right, what stands inside is not."""
    value = by.to_value()
    header_key, chain, stem = value[4], value[SENDING], value[STEM]
    assert isinstance(header_key, bytes)
    assert isinstance(chain, bytes)
    assert isinstance(stem, bytes)
    salt, number = bytes(12), value[SENT]
    assert isinstance(number, int)
    head = salt + AESGCM(header_key).encrypt(salt, stem + number.to_bytes(4, "big"), PREFIX)
    okm = HKDF(hashes.SHA256(), 44, salt, encode(["holdfast/v1/msg"])).derive(derive_chain(chain)[0])
    return PREFIX + head + AESGCM(okm[:32]).encrypt(okm[32:], body_of, AD + PREFIX + head)


def test_padding_other_than_zeros_to_padme_is_refused_with_the_one_error() -> None:
    a, b = talking()
    padded = pad(b"x" * 1030)
    for body in (padded[:-1] + b"\x01", padded + b"\0", padded[:-1], b"", bytes(3), b"\xff" * 40):
        refuses(b, forged(a, body))
    assert b.decrypt(forged(a, padded), NOW) == b"x" * 1030


@pytest.mark.parametrize(
    "u",
    [bytes(32), b"\x01" + bytes(31), b"\xec" + b"\xff" * 30 + b"\x7f", b"\xed" + b"\xff" * 30 + b"\x7f", b"\xff" * 32],
    ids=["0", "1", "p-1", "p", "top bit"],
)
def test_header_with_a_hostile_key_is_refused(u: bytes) -> None:
    a, b = talking()
    send(a, b)
    send(b, a)
    value = a.to_value()
    stem = value[STEM]
    assert isinstance(stem, bytes)
    value[STEM] = stem[:1] + u + stem[33:]
    refuses(b, message(Ratchet.from_value(value, kind=KeyKind.X25519, ad=AD)))
    value[STEM] = b"\x01" + stem[1:]  # the bytes of a signing key
    refuses(b, message(Ratchet.from_value(value, kind=KeyKind.X25519, ad=AD)))
    send(a, b)
