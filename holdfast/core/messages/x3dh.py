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

_SALT: Final = bytes(32)  # bytes: X3DH section 2.2, zeros as long as the hash; what separates uses is in info
_SHA256: Final = hashes.SHA256()  # holds no state: made once
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
        # The transcript takes the bytes and the DHs take the keys: if the two could differ, TH would vouch for other
        # keys.
        if not self.device.is_in(self.statement):
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


def require_one_curve(suite: Suite, party: Party, other: Party) -> None:
    """Raise Untrusted unless two different devices of one tenant have keys that `suite` lets agree."""
    if party.device.header.tenant != other.device.header.tenant:
        raise Untrusted("a session joins two devices of one tenant")
    # With itself, a device would hold both ends of one session: what it sent could be given back to it as received.
    if party.device.header.device == other.device.header.device or party.statement == other.statement:
        raise Untrusted("a session joins two devices")
    kind = suite.agreement_kind
    if party.device.agreement_key.kind is not kind or other.device.agreement_key.kind is not kind:
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
    # All that either end relies on, as it was signed or sent. X3DH's AD has the two identity keys only; the rest stops
    # what the specification leaves to the application: "Identity binding" (whose account the keys are of), a change of
    # suite, an EK shifted by a point of small order, and PQXDH's re-encapsulation (ct). FAULTS C2, S8, S12.
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
        # The heads fix devices, rotations and the rest of both accounts' histories: two ends that were shown different
        # histories get different keys, and not a session that each understands otherwise.
        responder.head,
    ]
    return hashlib.sha256(encode(parts)).digest()


def _material(secrets: list[SecretBytes]) -> bytes:
    """KM = F || DH1 || DH2 || DH3 || [DH4] || [SS]."""
    # All parts are 32 bytes, so joining is unambiguous; which of DH4 and SS are there, TH tells.
    return b"".join([_FILLER, *[secret.reveal() for secret in secrets]])


def _derive(suite: Suite, transcript: bytes, secrets: list[SecretBytes]) -> Agreement:
    # TH stands in the derivation itself, and not only in the aad: ends that disagree about it share no key at all.
    info = label("x3dh", int(suite), transcript)
    # The header keys come from here too: the first header is sealed before any ratchet step could give one
    # (Double Ratchet section 4, shared_hka and shared_nhkb).
    okm = HKDF(_SHA256, 96, _SALT, info).derive(_material(secrets))
    return Agreement(transcript, SecretBytes(okm[:32]), SecretBytes(okm[32:64]), SecretBytes(okm[64:]))


def agree_as_initiator(
    *, me: Party, agreement: AgreementKey, ephemeral: AgreementKey, peer: Party, bundle: VerifiedBundle
) -> tuple[Agreement, bytes | None]:
    """Return what is agreed, and the ML-KEM ciphertext of 1,088 bytes in suites 2 and 4.

    ephemeral: EK, fresh and used once. Raises Malformed for a key that gives no secret (the peer's doing).
    """
    # X3DH section 3.3: DH1 and DH2 authenticate the two ends to each other, DH3 and DH4 give forward secrecy. Each
    # needs one private half at either end, and KM needs all of them.
    suite, signed, one_time = bundle.device.suite, bundle.signed_pre_key, bundle.one_time
    secrets = [
        # DH1: IDK_A meets SPK_B. Authenticates A: beside B, only who holds A's identity agreement key can compute it.
        agreement.exchange(signed.dh),
        # DH2: EK_A meets IDK_B. Authenticates B: beside A, only who holds B's identity agreement key can compute it.
        ephemeral.exchange(peer.device.agreement_key),
        # DH3: EK_A meets SPK_B. Forward secrecy: EK is forgotten now, and SPK 60 days after it was made at the latest;
        # the identity keys, stolen after that, do not give it.
        ephemeral.exchange(signed.dh),
    ]
    if one_time is not None:
        # DH4: EK_A meets OTPK_B. Forward secrecy from the first message on: B destroys OTPK once that has opened. Since
        # it is used once, a replayed first message finds no key.
        secrets.append(ephemeral.exchange(one_time.dh))
    ciphertext = None
    # PQXDH section 3.3: the one-time KEM key where there is one, else the last resort, which is SPK's own.
    kem = one_time.kem if one_time is not None else signed.kem
    if kem is not None:
        # SS keeps what is recorded today from a quantum computer of later. It authenticates nobody: that stays with DH1
        # and DH2, so an adversary who has such a computer now can pose as either end (PQXDH "Active quantum
        # adversaries").
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
    # Its own suite, not the message's: `session` has compared them. The order of the secrets is the initiator's.
    suite = me.device.suite
    secrets = [
        # DH1: SPK_B meets IDK_A. That A took part is known from here, though only shown once a message opens.
        signed.dh.exchange(initiator.device.agreement_key),
        # DH2: IDK_B meets EK_A. EK is read as strictly as any key, and an all-zero secret is refused at each DH.
        agreement.exchange(ephemeral),
        # DH3: SPK_B meets EK_A.
        signed.dh.exchange(ephemeral),
    ]
    if one_time is not None:
        # DH4: OTPK_B meets EK_A. The key is not destroyed here: junk could then use up the keys of others.
        secrets.append(one_time.dh.exchange(ephemeral))
    kem = one_time.kem if one_time is not None else signed.kem
    # Never go on without SS where the suite has it: that would be the downgrade which the suite byte rules out.
    if (kem is None) is not (ciphertext is None):
        raise Malformed("the handshake's ciphertext does not fit the pre-key")
    if kem is not None and ciphertext is not None:
        # A tampered ct gives an unrelated secret and no error (FIPS 203 implicit rejection); the message does not open.
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
