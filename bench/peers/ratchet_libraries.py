# SPDX-License-Identifier: Apache-2.0
"""Two other libraries doing the same work: PyPI `x3dh` + `doubleratchet`, and `vodozemac` (Rust under Python).

Neither encrypts headers nor pads, and neither handshake is hybrid: each does less than a session of ours.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Coroutine
from typing import Any

import doubleratchet
import vodozemac
import x3dh
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from doubleratchet.recommended import diffie_hellman_ratchet_curve25519

Work = Callable[[], object]


def at_once(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine that waits for nothing, without the cost of an event loop."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    raise RuntimeError("it waits after all")


class _RootKdf(doubleratchet.KDF):
    @staticmethod
    async def derive(key: bytes, data: bytes, length: int) -> bytes:
        return HKDF(hashes.SHA256(), length, key, b"bench").derive(data)


class _ChainKdf(doubleratchet.KDF):
    @staticmethod
    async def derive(key: bytes, data: bytes, length: int) -> bytes:  # noqa: ARG004 - the library's signature
        return b"".join(hmac.digest(key, data[at : at + 1], "sha256") for at in range(len(data)))


class _Aead(doubleratchet.AEAD):
    """Our own: the comparison is of the libraries' work, not of their ciphers."""

    @staticmethod
    async def encrypt(plaintext: bytes, key: bytes, associated_data: bytes) -> bytes:
        okm = HKDF(hashes.SHA256(), 44, b"", b"bench").derive(key)
        return AESGCM(okm[:32]).encrypt(okm[32:], plaintext, associated_data)

    @staticmethod
    async def decrypt(ciphertext: bytes, key: bytes, associated_data: bytes) -> bytes:
        okm = HKDF(hashes.SHA256(), 44, b"", b"bench").derive(key)
        return AESGCM(okm[:32]).decrypt(okm[32:], ciphertext, associated_data)


class _Ratchet(doubleratchet.DoubleRatchet):
    @staticmethod
    def _build_associated_data(associated_data: bytes, header: doubleratchet.Header) -> bytes:
        return associated_data + header.ratchet_pub + bytes(8)


class _State(x3dh.BaseState):
    @staticmethod
    def _encode_public_key(key_format: x3dh.IdentityKeyFormat, pub: bytes) -> bytes:  # noqa: ARG004 - likewise
        return b"\x05" + pub


_HOW: dict[str, Any] = {
    "diffie_hellman_ratchet_class": diffie_hellman_ratchet_curve25519.DiffieHellmanRatchet,
    "root_chain_kdf": _RootKdf,
    "message_chain_kdf": _ChainKdf,
    "message_chain_constant": b"\x02\x01",
    "dos_protection_threshold": 1000,
    "max_num_skipped_message_keys": 2000,
    "aead": _Aead,
}


class DoubleRatchetPair:
    """Two ends of `doubleratchet`, begun by `x3dh`."""

    def __init__(self) -> None:
        ours, theirs = (self._state() for _ in range(2))
        theirs.generate_pre_keys(100)
        self.ours, self.theirs = ours, theirs
        self.bundle = theirs.bundle
        secret, ad, self.header = at_once(ours.get_shared_secret_active(self._with_one_key()))
        _, _, spk = at_once(theirs.get_shared_secret_passive(self.header))
        self.a, first = at_once(
            _Ratchet.encrypt_initial_message(
                shared_secret=secret,
                recipient_ratchet_pub=self.bundle.signed_pre_key,
                message=b"",
                associated_data=ad,
                **_HOW,
            )
        )
        self.b, _ = at_once(
            _Ratchet.decrypt_initial_message(
                shared_secret=secret, own_ratchet_priv=spk.priv, message=first, associated_data=ad, **_HOW
            )
        )
        self.ad = ad

    @staticmethod
    def _state() -> x3dh.BaseState:
        return _State.create(x3dh.IdentityKeyFormat.ED_25519, x3dh.HashFunction.SHA_256, b"bench")

    def _with_one_key(self) -> x3dh.Bundle:
        bundle = self.bundle
        pre_keys = frozenset([next(iter(bundle.pre_keys))])
        return x3dh.Bundle(bundle.identity_key, bundle.signed_pre_key, bundle.signed_pre_key_sig, pre_keys)

    def initiate(self) -> object:
        secret, ad, _ = at_once(self.ours.get_shared_secret_active(self._with_one_key()))
        return at_once(
            _Ratchet.encrypt_initial_message(
                shared_secret=secret,
                recipient_ratchet_pub=self.bundle.signed_pre_key,
                message=bytes(1024),
                associated_data=ad,
                **_HOW,
            )
        )

    def encrypt(self, plaintext: bytes) -> Any:
        return at_once(self.a.encrypt_message(plaintext, self.ad))

    def decrypt(self, message: Any) -> object:
        return at_once(self.b.decrypt_message(message, self.ad))

    def round_trip(self, plaintext: bytes) -> None:
        self.decrypt(self.encrypt(plaintext))
        answer = at_once(self.b.encrypt_message(plaintext, self.ad))
        at_once(self.a.decrypt_message(answer, self.ad))


class VodozemacPair:
    """Two ends of `vodozemac`'s Olm."""

    def __init__(self) -> None:
        ours, theirs = vodozemac.Account(), vodozemac.Account()
        theirs.generate_one_time_keys(1)
        one_time_key = next(iter(theirs.one_time_keys.values()))
        self.ours, self.identity, self.one_time_key = ours, theirs.curve25519_key, one_time_key
        self.a = ours.create_outbound_session(self.identity, one_time_key)
        first = self.a.encrypt(b"first").to_pre_key()
        assert first is not None
        self.b, _ = theirs.create_inbound_session(ours.curve25519_key, first)
        self.a.decrypt(self.b.encrypt(b"answer"))

    def initiate(self) -> object:
        return self.ours.create_outbound_session(self.identity, self.one_time_key).encrypt(bytes(1024))

    def encrypt(self, plaintext: bytes) -> Any:
        return self.a.encrypt(plaintext)

    def decrypt(self, message: Any) -> object:
        return self.b.decrypt(message)

    def round_trip(self, plaintext: bytes) -> None:
        self.b.decrypt(self.a.encrypt(plaintext))
        self.a.decrypt(self.b.encrypt(plaintext))
