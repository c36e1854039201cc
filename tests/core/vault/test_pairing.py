# SPDX-License-Identifier: Apache-2.0
"""Pairing by QR code and by eight digits, and what a server in the middle gets out of trying."""

import base64
import hashlib
import itertools
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import segno
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.core.base.encoding import b64u, decode, encode, label
from holdfast.core.base.errors import HoldfastError, Malformed, Untrusted
from holdfast.core.crypto.keys import SealingKey, SigningKey
from holdfast.core.signed.payloads import Header
from holdfast.core.signed.statements import DeviceStatement
from holdfast.core.vault import pairing
from holdfast.core.vault.pairing import ExistingDevice, NewDevice, PairingRequest, short_code
from tests.cast.statements import ACME, ALICE, LAPTOP, MALLORY, MALLORY_TENANT, NOW, PHONE, device_statement, id_of


def device(name: bytes, tenant: bytes = ACME, user: bytes = ALICE) -> DeviceStatement:
    return device_statement(
        SigningKey.generate(), header=Header(tenant, user, name, NOW), sealing_key=SealingKey.generate().public
    )


OLD, NEW, STRANGE = device(LAPTOP), device(PHONE), device(id_of("mallory's machine"))
REQUEST = PairingRequest.new(NEW)
TEXT = REQUEST.text()


def meet(new: NewDevice, existing: ExistingDevice) -> None:
    """Carry the three messages faithfully."""
    existing.receive_reveal(new.answer(existing.receive_commitment(new.commitment)))


# The QR code


def test_the_code_brings_the_request_over() -> None:
    read = PairingRequest.parse(f" {TEXT}\n")
    assert read == REQUEST
    assert read.hash == REQUEST.hash == hashlib.sha256(REQUEST.to_bytes()).digest()
    read.require(NEW)


def test_the_request_is_the_one_of_the_page() -> None:
    value: Any = decode(REQUEST.to_bytes())
    statement_hash = hashlib.sha256(NEW.to_payload()).digest()
    key_hash = hashlib.sha256(NEW.sealing_key.encoded).digest()
    assert [value[number] for number in range(1, 6)] == [1, ACME, ALICE, statement_hash, key_hash]
    assert len(value[6]) == 16
    assert "HFP1." + base64.b32encode(REQUEST.to_bytes()).decode().rstrip("=") == TEXT


def test_the_code_is_smaller_in_base32_than_it_would_be_in_base64url() -> None:
    ours = segno.make(TEXT, error="m")
    assert ours.mode == "alphanumeric"
    assert ours.symbol_size() < segno.make("hfp1." + b64u(REQUEST.to_bytes()), error="m").symbol_size()


def test_two_codes_of_one_device_differ_by_their_nonces() -> None:
    assert len({PairingRequest.new(NEW).text() for _ in range(50)}) == 50


@pytest.mark.parametrize("shown", [STRANGE, device(PHONE), replace(NEW, name="another name"),
                                   replace(NEW, sealing_key=STRANGE.sealing_key)])  # fmt: skip
def test_require_refuses_every_device_but_the_one_that_showed_the_code(shown: DeviceStatement) -> None:
    with pytest.raises(Untrusted, match="not the one in front of you"):
        REQUEST.require(shown)


def test_require_refuses_the_device_under_another_tenant_or_user() -> None:
    for whose in ({"tenant": MALLORY_TENANT}, {"user": MALLORY}):
        with pytest.raises(Untrusted):
            replace(REQUEST, **whose).require(NEW)


def test_parse_refuses_every_other_text() -> None:
    body = TEXT.removeprefix("HFP1.")
    stray = body[:-1] + "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"["ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".index(body[-1]) ^ 1]
    for text in (
        "", "HFP1.", body, "HFP2." + body, TEXT + "A", TEXT[:-1], "HFP1." + stray,
        TEXT.replace("A", "0"), TEXT + TEXT, "HFP1." + "A" * 300, "HFP1.HFP1." + body,
    ):  # fmt: skip
        if text != TEXT:
            with pytest.raises(Malformed):
                PairingRequest.parse(text)


def test_every_changed_character_is_refused_or_another_request() -> None:
    for at in range(len(TEXT)):
        changed = TEXT[:at] + ("A" if TEXT[at] != "A" else "B") + TEXT[at + 1 :]
        try:
            read = PairingRequest.parse(changed)
        except Malformed:
            continue
        assert read.text() == changed
        with pytest.raises(Untrusted):
            (read if read.nonce == REQUEST.nonce else replace(read, user=MALLORY)).require(NEW)


@settings(deadline=None)
@given(st.text(max_size=250) | st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", max_size=210).map("HFP1.".__add__))
def test_arbitrary_text_is_malformed(text: str) -> None:
    with pytest.raises(Malformed):
        PairingRequest.parse(text)


# Eight digits


def test_two_honest_devices_show_the_same_eight_digits_and_agree() -> None:
    for _ in range(20):
        new, existing = NewDevice(PairingRequest.new(NEW)), ExistingDevice(OLD)
        meet(new, existing)
        assert new.code == existing.code
        assert len(new.code) == 8
        assert new.code.isdigit()
        request = existing.confirm(f" {new.code[:4]} {new.code[4:]} ")
        assert request == new.request
        request.require(NEW)


def test_the_code_is_the_one_of_the_page() -> None:
    new, existing = NewDevice(REQUEST), ExistingDevice(OLD)
    answer = existing.receive_commitment(new.commitment)
    committed = hashlib.sha256(label("pairing-commitment", REQUEST.to_bytes())).digest()
    assert decode(new.commitment) == {1: 1, 2: 1, 3: committed}
    said: Any = decode(answer)
    hashes = [hashlib.sha256(octets).digest() for octets in (OLD.to_payload(), OLD.sealing_key.encoded)]
    assert [said[1], said[2], said[3], said[4], len(said[5])] == [1, 2, *hashes, 16]
    assert decode(new.answer(answer)) == {1: 1, 2: 3, 3: REQUEST.to_bytes()}
    transcript = hashlib.sha256(label("pairing-code", REQUEST.to_bytes(), *hashes, said[5])).digest()
    assert new.code == f"{int.from_bytes(transcript, 'big') % 10**8:08}"


def test_confirm_takes_one_try() -> None:
    for wrong in ("", "0", "00000000", "12 34"):
        new, existing = NewDevice(PairingRequest.new(NEW)), ExistingDevice(OLD)
        meet(new, existing)
        right = existing.code
        with pytest.raises(Untrusted, match="somebody may stand between"):
            existing.confirm(wrong if wrong != right else "1")
        with pytest.raises(ValueError, match="no code"):
            existing.confirm(right)


def test_existing_device_takes_one_commitment_and_one_reveal() -> None:
    new, existing = NewDevice(REQUEST), ExistingDevice(OLD)
    reveal = new.answer(existing.receive_commitment(new.commitment))
    with pytest.raises(Untrusted, match="second new device"):
        existing.receive_commitment(NewDevice(PairingRequest.new(STRANGE)).commitment)
    existing.receive_reveal(reveal)
    with pytest.raises(Untrusted):
        existing.receive_reveal(reveal)


def test_existing_device_refuses_what_was_not_committed_to() -> None:
    for other in (STRANGE, NEW):
        existing = ExistingDevice(OLD)
        answer = existing.receive_commitment(NewDevice(REQUEST).commitment)
        reveal = NewDevice(PairingRequest.new(other)).answer(answer)
        with pytest.raises(Untrusted, match="not the one that began"):
            existing.receive_reveal(reveal)
        with pytest.raises(Untrusted):
            existing.receive_reveal(NewDevice(REQUEST).answer(answer))
        with pytest.raises(ValueError, match="no code"):
            _ = existing.code
    with pytest.raises(Untrusted):
        ExistingDevice(OLD).receive_reveal(NewDevice(REQUEST).answer(answer))


def test_existing_device_refuses_another_accounts_device() -> None:
    for other in (device(PHONE, user=MALLORY), device(PHONE, tenant=MALLORY_TENANT)):
        with pytest.raises(Untrusted, match="another account"):
            meet(NewDevice(PairingRequest.new(other)), ExistingDevice(OLD))


def test_new_device_reveals_itself_once() -> None:
    new = NewDevice(REQUEST)
    with pytest.raises(ValueError, match="no code"):
        _ = new.code
    answer = ExistingDevice(OLD).receive_commitment(new.commitment)
    new.answer(answer)
    with pytest.raises(ValueError, match="answered once"):
        new.answer(ExistingDevice(OLD).receive_commitment(new.commitment))


def test_the_digits_depend_on_every_part_of_both_devices() -> None:
    codes = set()
    for request, existing in itertools.product((REQUEST, replace(REQUEST, nonce=bytes(16))), (OLD, STRANGE)):
        hashes = pairing._hashes(existing)
        for parts in (hashes, (hashes[1], hashes[0])):
            for nonce in (bytes(16), b"x" * 16):
                codes.add(short_code(pairing._transcript(request, *parts, nonce)))
    assert len(codes) == 16


def test_messages_outside_the_format_are_malformed() -> None:
    new, existing = NewDevice(REQUEST), ExistingDevice(OLD)
    answer = existing.receive_commitment(new.commitment)
    reveal = NewDevice(REQUEST).answer(answer)
    attempts: list[tuple[Callable[[bytes], object], bytes]] = [
        (lambda message: ExistingDevice(OLD).receive_commitment(message), new.commitment),
        (lambda message: NewDevice(REQUEST).answer(message), answer),
        (existing.receive_reveal, reveal),
    ]
    for take, message in attempts:
        value: Any = decode(message)
        for fields in ({1: 2}, {2: 4}, {2: value[2] % 3 + 1}, {3: b""}, {3: 1}, {9: 0}):
            with pytest.raises(Malformed):
                take(encode({**value, **fields}))
        for octets in (b"", message[:-1], message + b"\0", bytes(300)):
            with pytest.raises(Malformed):
                take(octets)


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_arbitrary_messages_are_refused(message: bytes) -> None:
    for take in (ExistingDevice(OLD).receive_commitment, ExistingDevice(OLD).receive_reveal, NewDevice(REQUEST).answer):
        with pytest.raises(HoldfastError):
            take(message)


# A server in the middle

DIGITS = 2  # 100 codes, so that some thousands of attacks say something
ATTACKS = 4000


def fast(rng: random.Random, name: bytes) -> PairingRequest:
    return PairingRequest(ACME, ALICE, name * 2, name * 2, rng.randbytes(16))


def attack(order: str, rng: random.Random) -> bool:
    """One pairing with a server that plays each device to the other; True when both people see the same digits.

    The server may finish with either side first and use all that it has learnt in what it then chooses.
    """
    alice_new = NewDevice(fast(rng, b"alice's new one."), digits=DIGITS)
    alice_old = ExistingDevice(OLD, digits=DIGITS)
    evil = fast(rng, b"mallory's device")
    played_new = NewDevice(evil, digits=DIGITS)
    hashes = pairing._hashes(STRANGE)

    def say_to_new(nonce: bytes) -> str:
        alice_new.answer(pairing._message(2, *hashes, nonce))
        return alice_new.code

    def best_nonce(target: str) -> bytes:
        # It has the commitment only, and guesses the request behind it: as good as any other guess.
        guess = replace(evil, nonce=rng.randbytes(16))
        for _ in range(200):
            nonce = rng.randbytes(16)
            if short_code(pairing._transcript(guess, *hashes, nonce), digits=DIGITS) == target:
                return nonce
        return rng.randbytes(16)

    if order == "new first":
        target = say_to_new(rng.randbytes(16))
        # Knows the new device's digits; must commit before it sees the nonce that decides the other's.
        answer = alice_old.receive_commitment(played_new.commitment)
        alice_old.receive_reveal(played_new.answer(answer))
        return alice_old.code == target
    answer = alice_old.receive_commitment(played_new.commitment)
    alice_old.receive_reveal(played_new.answer(answer))
    return say_to_new(best_nonce(alice_old.code)) == alice_old.code


@pytest.mark.parametrize("order", ["new first", "old first"])
def test_a_server_in_the_middle_gets_one_guess(order: str) -> None:
    rng = random.Random(20_261_124)
    wins = sum(attack(order, rng) for _ in range(ATTACKS))
    # One in 100: 40 of 4,000 are expected, with a deviation of 6.3; a server that could choose would win them all.
    assert 10 <= wins <= 75


def test_a_server_in_the_middle_would_win_without_the_commitment() -> None:
    # The same attack against devices that reveal at once: it searches for a nonce that makes the digits agree.
    rng = random.Random(20_261_124)
    hashes, wins = pairing._hashes(STRANGE), 0
    for _ in range(50):
        target = rng.randrange(100)
        seen = fast(rng, b"alice's new one.")
        wins += any(
            int(short_code(pairing._transcript(seen, *hashes, rng.randbytes(16)), digits=DIGITS)) == target
            for _ in range(2000)
        )
    assert wins == 50
