# SPDX-License-Identifier: Apache-2.0
"""A new device's request, the three messages of pairing by digits, and both kinds of sync letter."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from holdfast.core.base.encoding import decode, encode
from holdfast.core.base.secret import SecretBytes
from holdfast.core.crypto.keys import SealingKey, SigningKey
from holdfast.core.signed.payloads import Header
from holdfast.core.signed.statements import SyncKind
from holdfast.core.vault.pairing import ExistingDevice, NewDevice, PairingRequest
from holdfast.core.vault.sync_letter import DeviceSync, seal_sync
from tests.cast.statements import ACME, ALICE, LAPTOP, NOW, PHONE, device_statement, hash_of
from tests.published.mutations import malformed, rows

HEAD = hash_of("alice's chain")
VAULT_KEY = SecretBytes(bytes(range(32)))


@dataclass(frozen=True)
class Meeting:
    """One device that lists another: keys fresh, everything else as in every run."""

    signing: SigningKey
    sealing: SealingKey


def write() -> dict[str, object]:
    """Make the file anew: keys and nonces are fresh each time."""
    meeting = Meeting(SigningKey.generate(), SealingKey.generate())
    old = device_statement(meeting.signing, header=Header(ACME, ALICE, LAPTOP, NOW))
    new = device_statement(
        SigningKey.generate(), header=Header(ACME, ALICE, PHONE, NOW), sealing_key=meeting.sealing.public
    )
    request = PairingRequest.new(new)
    side, existing = NewDevice(request), ExistingDevice(old)
    answer = existing.receive_commitment(side.commitment)
    messages = [side.commitment, answer, side.answer(answer)]
    own_hash = hashlib.sha256(new.to_payload()).digest()
    letters = [
        _letter(meeting, SyncKind.DEVICE_DOOR, request.hash, request.nonce),
        _letter(meeting, SyncKind.DEVICE_TO_DEVICE, own_hash, own_hash[:16]),
    ]
    return {
        "page": "docs/formats/pairing.md",
        "existing_device": old.to_payload().hex(),
        "new_device": new.to_payload().hex(),
        "request": {"octets": request.to_bytes().hex(), "hash": request.hash.hex(), "text": request.text()},
        "messages": [message.hex() for message in messages],
        "code": side.code,
        "key_seed": meeting.sealing.seed().reveal().hex(),
        "letters": letters,
        "refused": [
            *rows(malformed(request.to_bytes()), format="request"),
            *(row for step, one in enumerate(messages, 1) for row in rows(malformed(one), format=f"message {step}")),
            *rows(_letters(bytes.fromhex(str(letters[0]["octets"]))), format="letter"),
        ],
        "refused_texts": _texts(request.text()),
    }


def _letter(meeting: Meeting, kind: SyncKind, request_hash: bytes, nonce: bytes) -> dict[str, object]:
    contents = DeviceSync(VAULT_KEY, 3, 9, "log.example/acme/keys\n7\nroot\n", nonce)
    letter = seal_sync(
        contents,
        header=Header(ACME, ALICE, LAPTOP, NOW),
        kind=kind,
        key=meeting.signing,
        to=meeting.sealing.public,
        request_hash=request_hash,
        head=HEAD,
    )
    return {
        "kind": int(kind),
        "request_hash": request_hash.hex(),
        "nonce": nonce.hex(),
        "head": HEAD.hex(),
        "contents": contents.to_secret().reveal().hex(),
        "octets": letter.hex(),
    }


def _letters(letter: bytes) -> dict[str, bytes]:
    value = decode(letter)
    assert isinstance(value, dict)
    sealed = value[3]
    assert isinstance(sealed, bytes)
    return malformed(letter) | {
        "another head": encode({**value, 2: bytes(32)}),
        "the first byte sealed changed": encode({**value, 3: bytes([sealed[0] ^ 1]) + sealed[1:]}),
        "the last byte sealed changed": encode({**value, 3: sealed[:-1] + bytes([sealed[-1] ^ 1])}),
    }


def _texts(text: str) -> list[str]:
    body = text.removeprefix("HFP1.")
    # The last of 5 bits that carries data in these texts is followed by ones that are zero.
    stray = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
    last = stray[stray.index(body[-1]) | 1]
    return ["", "HFP1.", body, f"HFP2.{body}", f"{text}A", f"{text}1", text[:-2], text[:-1] + last]
