# SPDX-License-Identifier: Apache-2.0
"""The Double Ratchet: the same keys as an independent implementation's and as published answers, within its limits."""

from __future__ import annotations

import hashlib
import hmac
import json
import random
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import doubleratchet
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from doubleratchet.recommended import diffie_hellman_ratchet_curve25519
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.core import ratchet as module
from holdfast.core.encoding import encode
from holdfast.core.errors import OutOfBounds, UnwrapFailed
from holdfast.core.keys import AgreementKey, KeyKind
from holdfast.core.padding import pad
from holdfast.core.ratchet import Ratchet, derive_chain, derive_message, derive_root
from holdfast.core.secret import SecretBytes
from holdfast.core.skipped import LIFE_SECONDS, SkippedKeys
from tests.core.cast import NOW

ANSWERS = json.loads((Path(__file__).parents[1] / "vectors" / "tacenta" / "dr-pqxdh-kdf-tacenta.json").read_text())
PREFIX = b"\x01\x02\x02\x00"
AD, ROOT, HEADER, NEXT_HEADER = (bytes((one,)) * 32 for one in range(4))
KINDS = [KeyKind.X25519, KeyKind.P256_AGREEMENT]
# The places of a state's parts in to_value().
ROOT_KEY, SEED, STEM, SENDING, _, _, SENT, PREVIOUS, RECEIVING, _, NEXT_RECEIVING, RECEIVED = range(12)


def pair(kind: KeyKind = KeyKind.X25519) -> tuple[Ratchet, Ratchet]:
    """Two ends: the first can send, the second only after it has received."""
    own = AgreementKey.generate(kind)
    given = {
        "ad": AD,
        "root": SecretBytes(ROOT),
        "header": SecretBytes(HEADER),
        "next_header": SecretBytes(NEXT_HEADER),
    }
    return Ratchet.initiator(**given, peer=own.public), Ratchet.responder(**given, own=own)  # type: ignore[arg-type]


def talking(kind: KeyKind = KeyKind.X25519) -> tuple[Ratchet, Ratchet]:
    """Two ends that have heard of each other."""
    a, b = pair(kind)
    send(a, b)
    send(b, a)
    return a, b


def message(by: Ratchet, plaintext: bytes = b"hello") -> bytes:
    return PREFIX + by.encrypt(plaintext, PREFIX)


def send(by: Ratchet, to: Ratchet, plaintext: bytes = b"hello") -> None:
    assert to.decrypt(message(by, plaintext), NOW) == plaintext


def state(of: Ratchet) -> tuple[bytes, bytes]:
    return encode(of.to_value()), of.skipped.to_secret().reveal()


def refuses(to: Ratchet, sealed: bytes, now: int = NOW) -> None:
    """It does not open, and nothing has changed."""
    before = state(to)
    with pytest.raises(UnwrapFailed, match=r"^message does not open$"):
        to.decrypt(sealed, now)
    assert state(to) == before


def at_number(of: Ratchet, number: int) -> Ratchet:
    """The same end with its sending chain at another number, as a hostile peer would have it."""
    value = of.to_value()
    value[SENT] = number
    return Ratchet.from_value(value, kind=KeyKind.X25519, ad=AD)


# -- known answers -------------------------------------------------------------------------------------------------


def test_root_and_chain_steps_give_the_published_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Root, chain and message keys are Signal's formulas; the label, and what follows a message key, are our own."""
    monkeypatch.setattr(module, "_ROOT", ANSWERS["labels"]["RK_INFO"].encode())
    said = ANSWERS["double_ratchet"]
    root, chain, _ = derive_root(bytes.fromhex(said["sk"]), bytes.fromhex(said["dh_ab"]))
    for expected in said["alice_chain1_mks"]:
        assert derive_message(chain).hex() == expected
        chain = derive_chain(chain)
    for step in ("bob_step", "alice_step2"):
        root, chain, _ = derive_root(root, bytes.fromhex(said[step]["dh"]))
        assert derive_message(chain).hex() == said[step]["mk"]


def test_derivations_are_the_pages() -> None:
    prk = hmac.digest(b"r" * 32, b"d" * 32, "sha256")
    info, okm, block = encode(["holdfast/v1/root"]), b"", b""
    for counter in (b"\x01", b"\x02", b"\x03"):
        block = hmac.digest(prk, block + info + counter, "sha256")
        okm += block
    assert b"".join(derive_root(b"r" * 32, b"d" * 32)) == okm
    assert derive_message(b"c" * 32) == hmac.digest(b"c" * 32, b"\x01", "sha256")
    assert derive_chain(b"c" * 32) == hmac.digest(b"c" * 32, b"\x02", "sha256")


@pytest.mark.parametrize("kind", KINDS)
def test_message_is_laid_out_as_the_page_says(kind: KeyKind) -> None:
    a, _ = talking(kind)
    before = a.to_value()
    header_key, chain = before[4], before[SENDING]
    assert isinstance(header_key, bytes)
    assert isinstance(chain, bytes)
    sealed = a.encrypt(b"x" * 1024, PREFIX)
    size = 33 if kind is KeyKind.X25519 else 66
    salt, header, body = sealed[:12], sealed[12 : 12 + size + 8 + 16], sealed[12 + size + 24 :]
    opened = AESGCM(header_key).decrypt(salt, header, PREFIX)
    assert opened[0] == kind
    assert opened[size:] == (1).to_bytes(4, "big") + bytes(4)
    assert before[STEM] == opened[: size + 4]
    okm = HKDF(hashes.SHA256(), 44, salt, encode(["holdfast/v1/msg"])).derive(derive_message(chain))
    aad = AD + PREFIX + salt + header
    assert AESGCM(okm[:32]).decrypt(okm[32:], body, aad) == pad(b"x" * 1024)


# -- an independent implementation as oracle -----------------------------------------------------------------------


class RootKdf(doubleratchet.KDF):
    """KDF_RK without its third output, the header key, which this library has no use for."""

    @staticmethod
    async def derive(key: bytes, data: bytes, length: int) -> bytes:
        assert length == 64
        return HKDF(hashes.SHA256(), 64, key, encode(["holdfast/v1/root"])).derive(data)


class ChainKdf(doubleratchet.KDF):
    @staticmethod
    async def derive(key: bytes, data: bytes, length: int) -> bytes:
        assert (data, length) == (b"\x02\x01", 64)
        return hmac.digest(key, b"\x02", "sha256") + hmac.digest(key, b"\x01", "sha256")


class KeyAsCiphertext(doubleratchet.AEAD):
    """Shows each message key instead of using it."""

    @staticmethod
    async def encrypt(plaintext: bytes, key: bytes, associated_data: bytes) -> bytes:
        return key

    @staticmethod
    async def decrypt(ciphertext: bytes, key: bytes, associated_data: bytes) -> bytes:
        if ciphertext != key:
            raise doubleratchet.AuthenticationFailedException
        return key


class SameKeys(diffie_hellman_ratchet_curve25519.DiffieHellmanRatchet):
    """Takes the ratchet keys that ours has drawn."""

    drawn: ClassVar[list[bytes]] = []

    @staticmethod
    def _generate_priv() -> bytes:
        return SameKeys.drawn.pop()


class Oracle(doubleratchet.DoubleRatchet):
    @staticmethod
    def _build_associated_data(associated_data: bytes, header: doubleratchet.Header) -> bytes:
        return b""


HOW: dict[str, Any] = {
    "diffie_hellman_ratchet_class": SameKeys,
    "root_chain_kdf": RootKdf,
    "message_chain_kdf": ChainKdf,
    "message_chain_constant": b"\x02\x01",
    "dos_protection_threshold": 1000,
    "max_num_skipped_message_keys": 2000,
    "aead": KeyAsCiphertext,
    "associated_data": b"",
}


def at_once(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine that waits for nothing."""
    with pytest.raises(StopIteration) as done:
        coroutine.send(None)
    return done.value.value


def seed_of(ratchet: Ratchet) -> bytes:
    seed = ratchet.to_value()[SEED]
    assert isinstance(seed, bytes)
    return seed


@dataclass
class Twins:
    """One end twice: ours, and the oracle's."""

    ours: Ratchet
    oracle: Oracle
    has_dropped: bool = False

    def encrypt(self) -> tuple[bytes, Any]:
        chain = self.ours.to_value()[SENDING]
        assert isinstance(chain, bytes)
        theirs = at_once(self.oracle.encrypt_message(b"", b""))
        assert theirs.ciphertext == derive_message(chain)
        return message(self.ours), theirs

    def decrypt(self, sealed: bytes, theirs: Any) -> None:
        # Ours first: when it steps, the oracle is to draw the same key.
        assert self.ours.decrypt(sealed, NOW) == b"hello"
        SameKeys.drawn = [seed_of(self.ours)]
        at_once(self.oracle.decrypt_message(theirs, b""))
        self.require_equal()

    def require_equal(self) -> None:
        """Root, chains, counters and every skipped message key are the oracle's."""
        value, model = self.ours.to_value(), self.oracle.model
        ratchet = model.diffie_hellman_ratchet
        chains = ratchet.symmetric_key_ratchet
        assert value[ROOT_KEY] == ratchet.root_chain.key
        assert value[SEED] == ratchet.own_ratchet_priv
        assert chains.sending_chain is not None
        assert (value[SENDING], value[SENT]) == (chains.sending_chain.key, chains.sending_chain.length)
        assert value[PREVIOUS] == (chains.previous_sending_chain_length or 0)
        if chains.receiving_chain is not None:
            assert (value[RECEIVING], value[RECEIVED]) == (chains.receiving_chain.key, chains.receiving_chain.length)
        skipped = self.ours.skipped
        stored = [skipped.find(key, n) for key in skipped.header_keys() for n in range(self.ours.received + 50)]
        ours, theirs = [key for key in stored if key], [one.message_key for one in model.skipped_message_keys]
        # The oracle keeps every old chain, ours the five newest that lack something.
        assert ours == theirs[len(theirs) - len(ours) :]
        self.has_dropped |= len(list(skipped.header_keys())) >= 5
        assert self.has_dropped or ours == theirs


def twins() -> tuple[Twins, Twins]:
    own = AgreementKey.generate()
    given = {
        "ad": AD,
        "root": SecretBytes(ROOT),
        "header": SecretBytes(HEADER),
        "next_header": SecretBytes(NEXT_HEADER),
    }
    a = Ratchet.initiator(**given, peer=own.public)  # type: ignore[arg-type]
    b = Ratchet.responder(**given, own=own)  # type: ignore[arg-type]
    SameKeys.drawn = [seed_of(a)]
    oracle_a, first = at_once(
        Oracle.encrypt_initial_message(shared_secret=ROOT, recipient_ratchet_pub=own.public.raw, message=b"", **HOW)
    )
    assert b.decrypt(message(a), NOW) == b"hello"
    SameKeys.drawn = [seed_of(b)]
    oracle_b, key = at_once(
        Oracle.decrypt_initial_message(shared_secret=ROOT, own_ratchet_priv=own.seed().reveal(), message=first, **HOW)
    )
    assert key == first.ciphertext
    return Twins(a, oracle_a), Twins(b, oracle_b)


@pytest.mark.parametrize("seed", range(8))
def test_every_key_is_an_independent_implementations_through_loss_and_reordering(seed: int) -> None:
    chance = random.Random(seed)
    ends = twins()
    ends[1].require_equal()
    waiting: tuple[list[tuple[bytes, Any]], list[tuple[bytes, Any]]] = ([], [])
    opened = 0
    for _ in range(200):
        which = chance.randrange(2)
        if chance.random() < 0.55:
            waiting[which].append(ends[which].encrypt())
        elif waiting[1 - which]:
            sealed, theirs = waiting[1 - which].pop(chance.randrange(len(waiting[1 - which])))
            if chance.random() < 0.15:
                continue  # lost
            try:
                ends[which].decrypt(sealed, theirs)
            except UnwrapFailed:
                assert ends[which].has_dropped
                break
            opened += 1
    assert opened >= 20


# -- order, loss, replay -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_messages_in_any_order_across_steps_open_once_each(kind: KeyKind) -> None:
    a, b = talking(kind)
    held: list[tuple[bytes, bytes]] = []
    for turn in range(5):
        for number in range(4):
            text = b"%d.%d" % (turn, number)
            held.append((text, message(a, text)))
        send(a, b, b"and now")
        send(b, a, b"yes")
    random.Random(7).shuffle(held)
    for text, sealed in held:
        assert b.decrypt(sealed, NOW) == text
    for _, sealed in held:
        refuses(b, sealed)
    assert b.skipped.count == 0


def test_sender_without_a_chain_cannot_send() -> None:
    _, b = pair()
    with pytest.raises(OutOfBounds):
        b.encrypt(b"hello", PREFIX)


def test_responder_that_never_received_opens_nothing_but_the_first_chain() -> None:
    a, b = pair()
    other, _ = pair()
    refuses(b, message(other))
    send(a, b)


def test_keys_are_gone_as_soon_as_they_are_used() -> None:
    """Forward secrecy of the state: the chain key that opened a message is nowhere in what is stored afterwards."""
    a, b = talking()
    send(a, b)
    chain = b.to_value()[RECEIVING]
    assert isinstance(chain, bytes)
    own = seed_of(b)
    used = derive_message(chain)
    send(a, b)
    assert all(secret not in state(b)[0] + state(b)[1] for secret in (chain, used))
    assert own in state(b)[0]
    send(b, a)
    send(a, b)
    assert own not in state(b)[0]


def test_session_heals_after_its_state_was_read() -> None:
    """A copy of the whole state opens nothing after each end has stepped once more with keys the copy never saw."""
    a, b = talking()
    stolen = Ratchet.from_value(b.to_value(), kind=KeyKind.X25519, ad=AD)
    first = message(a)
    assert stolen.decrypt(first, NOW) == b"hello"
    assert b.decrypt(first, NOW) == b"hello"
    send(b, a)
    send(a, b)
    send(b, a)
    refuses(stolen, message(a))


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
    send(a, b)
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
    send(a, b)
    send(b, a)
    sealed = [message(a, b"%d" % number) for number in range(1002)]
    refuses(b, sealed[1001])
    assert b.decrypt(sealed[1000], NOW) == b"1000"


@pytest.mark.parametrize("number", [1001, 2**31, 2**32 - 2])
@pytest.mark.parametrize("is_step", [False, True])
def test_far_number_is_refused_before_anything_is_derived(number: int, is_step: bool) -> None:
    a, b = talking()
    if is_step:
        send(a, b)
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
    send(a, b)
    hostile = at_number(a, 2**31)
    sealed = message(b)
    assert hostile.decrypt(sealed, NOW) == b"hello"
    started = time.process_time()
    refuses(b, message(hostile))
    assert time.process_time() - started < 0.02
    assert a.decrypt(sealed, NOW) == b"hello"
    send(a, b)


def test_chain_ends_at_its_last_number() -> None:
    a, b = talking()
    last = at_number(a, 2**32 - 2)
    last.encrypt(b"", PREFIX)
    with pytest.raises(OutOfBounds):
        last.encrypt(b"", PREFIX)
    value = b.to_value()
    value[RECEIVED] = 2**32 - 1
    refuses(Ratchet.from_value(value, kind=KeyKind.X25519, ad=AD), message(at_number(a, 2**32 - 2)))


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
    with pytest.raises(UnwrapFailed):
        refuses_after.decrypt(sealed[2], NOW + LIFE_SECONDS + 1)
    assert refuses_after.skipped.count == 0
    assert b.decrypt(sealed[2], NOW + LIFE_SECONDS) == b"2"


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


def test_ten_thousand_mutated_messages_leave_the_session_able_to_decrypt() -> None:
    a, b = talking()
    lossy(a, b, 6)
    late, valid = message(a, b"late"), message(a, b"valid")
    chance = random.Random(5)
    before = state(b)
    for _ in range(10_000):
        with pytest.raises(UnwrapFailed):
            b.decrypt(mutated(valid, chance), NOW)
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
    okm = HKDF(hashes.SHA256(), 44, salt, encode(["holdfast/v1/msg"])).derive(derive_message(chain))
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


# -- storing -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_state_is_restored_at_every_stage(kind: KeyKind) -> None:
    a, b = pair(kind)
    lost = []
    for _ in range(4):
        lost.append(message(a, b"lost"))
        a, b = restored(a), restored(b)
        send(a, b)
        a, b = restored(a), restored(b)
        send(b, a)
    for sealed in lost:
        b = restored(b)
        assert b.decrypt(sealed, NOW) == b"lost"


def restored(one: Ratchet) -> Ratchet:
    kind = KeyKind.X25519 if one.to_value()[STEM][:1] != b"\x04" else KeyKind.P256_AGREEMENT  # type: ignore[index]
    if not one.to_value()[STEM]:
        kind = one._kind
    made = Ratchet.from_value(one.to_value(), kind=kind, ad=AD)
    made.skipped = SkippedKeys.from_secret(one.skipped.to_secret())
    assert state(made) == state(one)
    return made
