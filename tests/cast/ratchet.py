# SPDX-License-Identifier: Apache-2.0
"""Two bare ratchets and what tests do with them: begin, send, refuse, tamper with a stored state."""

from __future__ import annotations

import pytest

from holdfast.core.base.encoding import encode
from holdfast.core.base.errors import UnwrapFailed
from holdfast.core.base.secret import SecretBytes
from holdfast.core.crypto.keys import AgreementKey, KeyKind
from holdfast.core.messages.ratchet import Ratchet
from tests.cast.statements import NOW

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
    """Two ends that have heard of each other. What the first sends next continues a chain that the second knows."""
    a, b = pair(kind)
    send(a, b)
    send(b, a)
    send(a, b)
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


def seed_of(ratchet: Ratchet) -> bytes:
    seed = ratchet.to_value()[SEED]
    assert isinstance(seed, bytes)
    return seed
