# SPDX-License-Identifier: Apache-2.0
"""Every key of the Double Ratchet is the same as an independent implementation's."""

from __future__ import annotations

import hmac
import random
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, ClassVar

import doubleratchet
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from doubleratchet.recommended import diffie_hellman_ratchet_curve25519

from holdfast.core.base.encoding import encode
from holdfast.core.base.errors import UnwrapFailed
from holdfast.core.base.secret import SecretBytes
from holdfast.core.crypto.keys import AgreementKey
from holdfast.core.messages.ratchet import Ratchet, derive_chain
from tests.cast.ratchet import (
    AD,
    HEADER,
    NEXT_HEADER,
    PREVIOUS,
    RECEIVED,
    RECEIVING,
    ROOT,
    ROOT_KEY,
    SEED,
    SENDING,
    SENT,
    message,
    seed_of,
)
from tests.cast.statements import NOW


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
        assert theirs.ciphertext == derive_chain(chain)[0]
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
