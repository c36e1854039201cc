# SPDX-License-Identifier: Apache-2.0
"""What the TypeScript implementation has written opens here: an export file, sync letters, a proof of a door."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import pytest

from holdfast.core.base.errors import HoldfastError
from holdfast.core.base.secret import SecretBytes
from holdfast.core.crypto.keys import KeyKind, PublicKey, SealingKey, decode_public_key
from holdfast.core.signed.cose import Sign1
from holdfast.core.signed.statements import DeviceStatement, SyncKind
from holdfast.core.vault.blob import open_vault
from holdfast.core.vault.door_proof import verify_door_proof
from holdfast.core.vault.export_file import ExportFile
from holdfast.core.vault.pairing import PairingRequest
from holdfast.core.vault.password_door import open_password_door
from holdfast.core.vault.sync_letter import SyncLetter

FILE: Final = Path(__file__).parents[1] / "vectors" / "holdfast" / "typescript.json"
WRITTEN: Final[Any] = json.loads(FILE.read_text())
OWNER: Final = WRITTEN["owner"]


def octets(text: str) -> bytes:
    return bytes.fromhex(text)


def key(name: str) -> PublicKey:
    return decode_public_key(octets(WRITTEN[name]), expect=KeyKind.ED25519)


def test_export_file_opens_by_its_password() -> None:
    said = WRITTEN["export"]
    file = ExportFile.parse(octets(said["file"]))
    file.verify(aik=key("aik"), signing_key=key("device_signing_key"))
    assert (file.owner.tenant.hex(), file.owner.user.hex(), file.owner.epoch) == tuple(OWNER.values())
    vault_key = open_password_door(file.door, password=SecretBytes(said["password"].encode()), owner=file.owner)
    assert vault_key.reveal().hex() == said["vault_key"]
    assert open_vault(file.vault, vault_key=vault_key, expect=file.header).reveal().hex() == said["keyring"]
    assert file.encode().hex() == said["file"]


def test_export_file_is_refused_with_any_bit_changed() -> None:
    def read(data: bytes) -> None:
        ExportFile.parse(data).verify(aik=key("aik"), signing_key=key("device_signing_key"))

    data = octets(WRITTEN["export"]["file"])
    read(data)
    for at in range(0, len(data), 11):
        with pytest.raises(HoldfastError):
            read(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])


@pytest.mark.parametrize("row", WRITTEN["pairing"]["letters"], ids=lambda row: f"kind-{row['kind']}")
def test_sync_letter_opens(row: Any) -> None:
    said = WRITTEN["pairing"]
    opened = SyncLetter.open(
        octets(row["octets"]),
        key=SealingKey.from_seed(SecretBytes(octets(said["key_seed"]))),
        request_hash=octets(row["request_hash"]),
    )
    assert opened.head.hex() == row["head"]
    contents = opened.verify(key("device_signing_key"), kind=SyncKind(row["kind"]), nonce=octets(row["nonce"]))
    assert contents.to_secret().reveal().hex() == row["contents"]


def test_pairing_code_is_of_the_device_that_showed_it() -> None:
    said = WRITTEN["pairing"]
    request = PairingRequest.parse(said["text"])
    request.require(DeviceStatement.from_payload(octets(said["device"])))
    assert (request.hash.hex(), request.text()) == (said["letters"][0]["request_hash"], said["text"])


def test_door_proof_is_taken_in_its_hour() -> None:
    said = WRITTEN["door_proof"]
    proof = verify_door_proof(
        Sign1.parse(octets(said["statement"])),
        aik=key("aik"),
        tenant=octets(OWNER["tenant"]),
        user=octets(OWNER["user"]),
        kind=said["kind"],
        blob_hash=octets(said["blob_hash"]),
        at=said["at"],
    )
    assert proof.kind == said["kind"]
