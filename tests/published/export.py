# SPDX-License-Identifier: Apache-2.0
"""An export file with its password, and files that no import may take."""

from __future__ import annotations

import hashlib

from holdfast.core.base.secret import SecretBytes
from holdfast.core.crypto.keys import SigningKey
from holdfast.core.signed import cose
from holdfast.core.signed.cose import Purpose
from holdfast.core.signed.payloads import Header
from holdfast.core.signed.statements import Sync, SyncKind
from holdfast.core.vault.blob import VaultHeader, seal_vault
from holdfast.core.vault.export_file import MAGIC, ExportFile
from holdfast.core.vault.password_door import Argon2Cost, DoorOwner, seal_password_door
from tests.cast.statements import ACME, ALICE, LAPTOP, NOW
from tests.cast.unread import unread
from tests.published.mutations import malformed, rows

VAULT_KEY = SecretBytes(bytes(range(32)))
KEYRING = SecretBytes(b"what only the user's devices read")
PASSWORD = "correct horse é"
QUICK = Argon2Cost(memory_kib=19 * 1024, passes=2, lanes=1)


def write() -> dict[str, object]:
    """Make the file anew: keys, salt and nonces are fresh each time."""
    aik, device = SigningKey.generate(), SigningKey.generate()
    header = Header(ACME, ALICE, LAPTOP, NOW)
    file, other = (_file(aik, device, header) for _ in range(2))
    data = file.encode()
    mixed = {
        "another vault": ExportFile(other.vault, file.sync, file.door, file.statement),
        "another vault and its statement": ExportFile(other.vault, other.sync, file.door, file.statement),
        "another door": ExportFile(file.vault, file.sync, other.door, file.statement),
        "another export's statement": ExportFile(file.vault, file.sync, file.door, other.statement),
    }
    forms = {
        "no first line": data[len(MAGIC) :],
        "a later version": b"holdfast export 2\n" + data[len(MAGIC) :],
        "another end of line": data.replace(b"\n", b"\r\n", 1),
        **{why: unread(one, "encode") for why, one in mixed.items()},
        **malformed(data[len(MAGIC) :], prefix=MAGIC),
    }
    return {
        "page": "docs/formats/export.md",
        "owner": {"tenant": ACME.hex(), "user": ALICE.hex(), "epoch": 3},
        "password": PASSWORD,
        "aik": aik.public.encoded.hex(),
        "device_signing_key": device.public.encoded.hex(),
        "keyring": KEYRING.reveal().hex(),
        "file": data.hex(),
        "refused": rows(forms),
    }


def _file(aik: SigningKey, device: SigningKey, header: Header) -> ExportFile:
    vault = seal_vault(KEYRING, vault_key=VAULT_KEY, header=VaultHeader(ACME, ALICE, 3, 9))
    said = Sync(Header(ACME, ALICE, b"", NOW), SyncKind.VAULT, hashlib.sha256(vault).digest(), 9)
    signed = cose.sign(said.to_payload(), purpose=Purpose.SYNC, key=aik)
    password = SecretBytes(PASSWORD.encode())
    door = seal_password_door(VAULT_KEY, password=password, owner=DoorOwner(ACME, ALICE, 3), cost=QUICK)
    return ExportFile.make(vault, signed, door, header=header, key=device)
