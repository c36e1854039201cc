# SPDX-License-Identifier: Apache-2.0
"""The first secret of a session: X3DH, and its hybrid form with ML-KEM-768.

Implements the handshake of PROTOCOL section 4 (Signal's X3DH section 3, in the shape of PQXDH).
Verifies nothing: every key comes here from a verified bundle or a verified statement. Encrypts nothing: `ratchet` does.
X3DH: https://signal.org/docs/specifications/x3dh/ section 3.
PQXDH: https://signal.org/docs/specifications/pqxdh/ section 3.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from holdfast.core.base.encoding import Encodable, encode, label
from holdfast.core.base.errors import Malformed, Untrusted
from holdfast.core.base.secret import SecretBytes
from holdfast.core.crypto.keys import AgreementKey, KemKey, PublicKey, encapsulate
from holdfast.core.crypto.suites import Suite
from holdfast.core.messages.bundle import VerifiedBundle
from holdfast.core.signed.statements import DeviceStatement

_SALT: Final = bytes(32)
_SHA256: Final = hashes.SHA256()
# X3DH's F: for these bytes no X25519 or P-256 secret stands, so KM collides with no input of another use.
_FILLER: Final = b"\xff" * 32


@dataclass(frozen=True)
class Party:
    """One end of a session, as both ends see it.

    statement: the exact payload of its device statement. head: the 32-byte head of its account chain. aik: the account
    identity key in force there. Raises ValueError when `device` is not what `statement` says (the caller's mistake).
    """

    statement: bytes
    device: DeviceStatement
    aik: PublicKey
    head: bytes

    def __post_init__(self) -> None:
        if self.device.to_payload() != self.statement:
            raise ValueError("a party's device statement is another than its bytes")

    def require_own(self, agreement: AgreementKey) -> None:
        """Raise ValueError unless `agreement` is this device's own identity agreement key."""
        if agreement.public != self.device.agreement_key:
            raise ValueError("the agreement key is not this device's")


@dataclass(frozen=True)
class OwnPreKey:
    """The private half of a pre-key, and the signed bytes that it was published under.

    statement: the payload of the signed pre-key, or one_time_statement() of a one-time key.
    """

    key_id: int
    dh: AgreementKey
    kem: KemKey | None
    statement: bytes


@dataclass(slots=True)
class Agreement:
    """What both ends derive: TH of 32 bytes, and three keys of 32 bytes. header is HK_A, next_header is NHK_B."""

    transcript: bytes
    root: SecretBytes
    header: SecretBytes
    next_header: SecretBytes


def require_one_curve(suite: Suite, one: Party, other: Party) -> None:
    """Raise Untrusted unless two different devices of one tenant have keys that `suite` lets agree."""
    if one.device.header.tenant != other.device.header.tenant:
        raise Untrusted("a session joins two devices of one tenant")
    if one.device.header.device == other.device.header.device or one.statement == other.statement:
        raise Untrusted("a session joins two devices")
    kind = suite.agreement_kind
    if one.device.agreement_key.kind is not kind or other.device.agreement_key.kind is not kind:
        raise Untrusted("the two devices' suites use different curves")


def _transcript(
    suite: Suite,
    *,
    initiator: Party,
    responder: Party,
    ephemeral: PublicKey,
    signed: bytes,
    one_time: bytes,
    ciphertext: bytes,
) -> bytes:
    parts: list[Encodable] = [
        "holdfast/v1",
        "x3dh",
        int(suite),
        initiator.statement,
        responder.statement,
        ephemeral.encoded,
        signed,
        one_time,
        ciphertext,
        initiator.aik.encoded,
        initiator.head,
        responder.aik.encoded,
        responder.head,
    ]
    return hashlib.sha256(encode(parts)).digest()


def _material(secrets: list[SecretBytes]) -> bytes:
    """KM = F || DH1 || DH2 || DH3 || [DH4] || [SS]."""
    return b"".join([_FILLER, *[one.reveal() for one in secrets]])


def _derive(suite: Suite, transcript: bytes, secrets: list[SecretBytes]) -> Agreement:
    info = label("x3dh", int(suite), transcript)
    okm = HKDF(_SHA256, 96, _SALT, info).derive(_material(secrets))
    return Agreement(transcript, SecretBytes(okm[:32]), SecretBytes(okm[32:64]), SecretBytes(okm[64:]))


def agree_as_initiator(
    *, me: Party, agreement: AgreementKey, ephemeral: AgreementKey, peer: Party, bundle: VerifiedBundle
) -> tuple[Agreement, bytes | None]:
    """Return what is agreed, and the ML-KEM ciphertext of 1,088 bytes in suites 2 and 4.

    ephemeral: EK, fresh and used once. Raises Malformed for a key that gives no secret (the peer's doing).
    """
    suite, signed, one_time = bundle.device.suite, bundle.signed_pre_key, bundle.one_time
    secrets = [
        agreement.exchange(signed.dh),
        ephemeral.exchange(peer.device.agreement_key),
        ephemeral.exchange(signed.dh),
    ]
    if one_time is not None:
        secrets.append(ephemeral.exchange(one_time.dh))
    ciphertext = None
    kem = one_time.kem if one_time is not None else signed.kem
    if kem is not None:
        ciphertext, shared = encapsulate(kem)
        secrets.append(shared)
    transcript = _transcript(
        suite,
        initiator=me,
        responder=peer,
        ephemeral=ephemeral.public,
        signed=bundle.signed_pre_key_bytes,
        one_time=bundle.one_time_bytes,
        ciphertext=ciphertext or b"",
    )
    return _derive(suite, transcript, secrets), ciphertext


def agree_as_responder(
    *,
    me: Party,
    agreement: AgreementKey,
    initiator: Party,
    ephemeral: PublicKey,
    signed: OwnPreKey,
    one_time: OwnPreKey | None,
    ciphertext: bytes | None,
) -> Agreement:
    """Return what is agreed with the initiator, if both saw the same keys: only the first message tells.

    Raises Malformed for an EK that gives no secret, or a ciphertext that does not fit the pre-key.
    """
    suite = me.device.suite
    secrets = [
        signed.dh.exchange(initiator.device.agreement_key),
        agreement.exchange(ephemeral),
        signed.dh.exchange(ephemeral),
    ]
    if one_time is not None:
        secrets.append(one_time.dh.exchange(ephemeral))
    kem = one_time.kem if one_time is not None else signed.kem
    if (kem is None) is not (ciphertext is None):
        raise Malformed("the handshake's ciphertext does not fit the pre-key")
    if kem is not None and ciphertext is not None:
        secrets.append(kem.decapsulate(ciphertext))
    transcript = _transcript(
        suite,
        initiator=initiator,
        responder=me,
        ephemeral=ephemeral,
        signed=signed.statement,
        one_time=one_time.statement if one_time is not None else b"",
        ciphertext=ciphertext or b"",
    )
    return _derive(suite, transcript, secrets)
