# SPDX-License-Identifier: Apache-2.0
"""The Double Ratchet: published answers, the page's layout, any order of arrival, healing, storing."""

from __future__ import annotations

import hmac
import json
import random
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from holdfast.core.base.encoding import encode
from holdfast.core.base.errors import OutOfBounds
from holdfast.core.base.padding import pad
from holdfast.core.crypto.keys import KeyKind
from holdfast.core.messages import ratchet as module
from holdfast.core.messages.ratchet import Ratchet, derive_chain, derive_root
from holdfast.core.messages.skipped import SkippedKeys
from tests.cast.ratchet import (
    AD,
    KINDS,
    PREFIX,
    RECEIVING,
    SENDING,
    STEM,
    message,
    pair,
    refuses,
    seed_of,
    send,
    state,
    talking,
)
from tests.cast.statements import NOW

ANSWERS = json.loads((Path(__file__).parents[2] / "vectors" / "tacenta" / "dr-pqxdh-kdf-tacenta.json").read_text())


# -- known answers -------------------------------------------------------------------------------------------------


def test_root_and_chain_steps_give_the_published_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Root, chain and message keys are Signal's formulas; the label, and what follows a message key, are our own."""
    monkeypatch.setattr(module, "_ROOT", ANSWERS["labels"]["RK_INFO"].encode())
    said = ANSWERS["double_ratchet"]
    root, chain, _ = derive_root(bytes.fromhex(said["sk"]), bytes.fromhex(said["dh_ab"]))
    for expected in said["alice_chain1_mks"]:
        message_key, chain = derive_chain(chain)
        assert message_key.hex() == expected
    for step in ("bob_step", "alice_step2"):
        root, chain, _ = derive_root(root, bytes.fromhex(said[step]["dh"]))
        assert derive_chain(chain)[0].hex() == said[step]["mk"]


def test_derivations_are_the_pages() -> None:
    prk = hmac.digest(b"r" * 32, b"d" * 32, "sha256")
    info, okm, block = encode(["holdfast/v1/root"]), b"", b""
    for counter in (b"\x01", b"\x02", b"\x03"):
        block = hmac.digest(prk, block + info + counter, "sha256")
        okm += block
    assert b"".join(derive_root(b"r" * 32, b"d" * 32)) == okm
    assert derive_chain(b"c" * 32) == tuple(hmac.digest(b"c" * 32, one, "sha256") for one in (b"\x01", b"\x02"))


@pytest.mark.parametrize("kind", KINDS)
def test_message_is_laid_out_as_the_page_says(kind: KeyKind) -> None:
    a, b = talking(kind)
    send(a, b)
    before = a.to_value()
    header_key, chain = before[4], before[SENDING]
    assert isinstance(header_key, bytes)
    assert isinstance(chain, bytes)
    sealed = a.encrypt(b"x" * 1024, PREFIX)
    size = 33 if kind is KeyKind.X25519 else 66
    salt, header, body = sealed[:12], sealed[12 : 12 + size + 8 + 16], sealed[12 + size + 24 :]
    opened = AESGCM(header_key).decrypt(salt, header, PREFIX)
    assert opened[0] == kind
    assert opened[size:] == (1).to_bytes(4, "big") + (2).to_bytes(4, "big")  # PN, N
    assert before[STEM] == opened[: size + 4]
    okm = HKDF(hashes.SHA256(), 44, salt, encode(["holdfast/v1/msg"])).derive(derive_chain(chain)[0])
    aad = AD + PREFIX + salt + header
    assert AESGCM(okm[:32]).decrypt(okm[32:], body, aad) == pad(b"x" * 1024)


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
    used = derive_chain(chain)[0]
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
