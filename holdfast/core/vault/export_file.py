# SPDX-License-Identifier: Apache-2.0
"""The export file: a vault and a password door to it, in one file that needs no server.

Implements PROTOCOL section 6 "Export file" and PROTOCOL section 3 `export`.
Does not read or write files, and does not open anything: `doors` and `vault` do.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from holdfast.core.base.encoding import MAX_BLOB, MAX_VAULT, Encodable, Fields, decode, encode
from holdfast.core.base.errors import Malformed, Untrusted
from holdfast.core.base.writing import read_back
from holdfast.core.crypto.keys import PublicKey, SigningKey
from holdfast.core.signed.cose import Purpose, Sign1, sign
from holdfast.core.signed.payloads import Header
from holdfast.core.signed.statements import ExportStatement, Sync, SyncKind
from holdfast.core.vault.blob import VaultHeader, read_header
from holdfast.core.vault.door_blob import MAX_DOOR, DoorOwner

# Readable, so that whoever finds the file in twenty years knows what it is; the newline parts it from the bytes.
MAGIC: Final = b"holdfast export 1\n"
VAULT_EXPORT: Final = 1  # field 8 of the `export` statement
# The vault at its largest, and 64 KiB for a door of 1 KiB and two statements of at most 16 KiB.
MAX_FILE: Final = len(MAGIC) + MAX_VAULT + MAX_BLOB
_VERSION: Final = 1  # field 1; the magic line says it again, for people


@dataclass(frozen=True, slots=True)
class ExportFile:
    """What is in the file: the vault blob, its `sync` statement by the AIK, a password door, and who exported it."""

    vault: bytes
    sync: Sign1
    door: bytes
    statement: Sign1

    @classmethod
    def make(cls, vault: bytes, sync: Sign1, door: bytes, *, header: Header, key: SigningKey) -> ExportFile:
        """Put together a file, signed by the device of `header` with its signing key."""
        # Over vault, statement and door together: none of them can be exchanged for one of another day.
        digest = hashlib.sha256(encode(_contents(vault, sync, door))).digest()
        said = ExportStatement(header, digest, VAULT_EXPORT)
        return cls(vault, sync, door, sign(said.to_payload(), purpose=Purpose.EXPORT, key=key))

    @read_back("parse")
    def encode(self) -> bytes:
        """Return the file: the magic line, then dCBOR{1: 1, 2: vault, 3: sync, 4: door, 5: export statement}."""
        return MAGIC + encode({**_contents(self.vault, self.sync, self.door), 5: self.statement.encode()})

    @classmethod
    def parse(cls, data: bytes) -> ExportFile:
        """Read a file; raises Malformed, also for one of a later version or whose parts name each other wrongly."""
        if not data.startswith(MAGIC):
            raise Malformed("export file: does not begin as one of version 1 does")
        read = Fields(decode(data[len(MAGIC) :], max_size=MAX_FILE), "export file", range(1, 6))
        read.uint(1, minimum=_VERSION, maximum=_VERSION)
        file = cls(
            vault=read.octets(2, maximum=MAX_VAULT),
            sync=Sign1.parse(read.octets(3)),
            door=read.octets(4, maximum=MAX_DOOR),
            statement=Sign1.parse(read.octets(5)),
        )
        said, sync, vault = file.exported_by, Sync.from_payload(file.sync.payload), file.header
        digest = hashlib.sha256(encode(_contents(file.vault, file.sync, file.door))).digest()
        if (said.blob_hash, said.kind) != (digest, VAULT_EXPORT):
            raise Malformed("export file: the statement is about something else")
        # Both ways round: the statement names this blob, and the blob says of itself what the statement says. An old
        # vault under a newer statement, or another user's, stops here (FAULTS S9).
        named = (sync.header.tenant, sync.header.user, sync.kind, sync.blob_hash, sync.version)
        if named != (vault.tenant, vault.user, SyncKind.VAULT, hashlib.sha256(file.vault).digest(), vault.version):
            raise Malformed("export file: the vault is not the one that its statement names")
        return file

    @property
    def header(self) -> VaultHeader:
        """What the vault says of itself: whose, which epoch and version. Opening it will tell."""
        return read_header(self.vault)

    @property
    def owner(self) -> DoorOwner:
        """Whose door it must be."""
        header = self.header
        return DoorOwner(header.tenant, header.user, header.epoch)

    @property
    def exported_by(self) -> ExportStatement:
        """Who exported it and when, as the file says."""
        return ExportStatement.from_payload(self.statement.payload)

    def verify(self, *, aik: PublicKey, signing_key: PublicKey | None = None) -> None:
        """Check the vault's statement under the identity key, and the export's under the device's if that is known.

        Raises InvalidSignature, and Untrusted when vault and export name different people. With no chain at hand
        the AIK is the one in the vault itself, which then proves no more than that the file is whole.
        """
        # The vault's own statement is what counts: the export is made by a device, which may be anybody's who had it.
        self.sync.verify(aik, purpose=Purpose.SYNC)
        said, header = self.exported_by.header, self.header
        # Not checked when parsing: whose the file is only means something under a key that is known.
        if (said.tenant, said.user) != (header.tenant, header.user):
            raise Untrusted("the export file holds somebody else's vault")
        if signing_key is not None:
            self.statement.verify(signing_key, purpose=Purpose.EXPORT)


def _contents(vault: bytes, sync: Sign1, door: bytes) -> dict[int, Encodable]:
    return {1: _VERSION, 2: vault, 3: sync.encode(), 4: door}
