# SPDX-License-Identifier: Apache-2.0
"""The letter that gives the vault key from one device of a user to another.

Implements PROTOCOL section 6 "Device door and device-to-device sync" (statement `sync`, kinds 2 and 3).
Does not decide who may have it: the sender has met the new device, or found it active in its own chain.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from holdfast.core.base.encoding import Encodable, Fields, Value, decode, encode, label
from holdfast.core.base.errors import Malformed, Untrusted
from holdfast.core.base.secret import SecretBytes
from holdfast.core.base.writing import read_back, require_readable
from holdfast.core.crypto import wrapping
from holdfast.core.crypto.keys import PublicKey, SealingKey, SigningKey
from holdfast.core.crypto.sealing import open_sealed, seal
from holdfast.core.signed.cose import Purpose, Sign1, sign
from holdfast.core.signed.payloads import HASH_SIZE, Header, require_device
from holdfast.core.signed.statements import Sync, SyncKind

# Bytes. The pairing request's nonce, or as many of a statement's hash: docs/formats/pairing.md, "Sync letter".
NONCE_SIZE: Final = 16
MAX_CHECKPOINT: Final = 4096  # characters  # characters: a head with one signature has under 300
_VERSION: Final = 1  # field 1 of letter and contents


@dataclass(frozen=True, slots=True)
class OfficersKey:
    """The key of the officers' section: 32 bytes, its epoch, and the version below which no section is taken."""

    key: SecretBytes
    epoch: int
    version: int

    def row(self) -> list[Encodable]:
        """Return [key, epoch, version]."""
        return [self.key.reveal(), self.epoch, self.version]

    @classmethod
    def from_row(cls, value: Value) -> OfficersKey:
        """Read the row; raises Malformed."""
        row = Fields.of_row(value, "officers' section's key", 3)
        return cls(SecretBytes(row.octets(0, wrapping.KEY_SIZE)), row.uint(1, minimum=1), row.uint(2, minimum=1))


@dataclass(frozen=True, slots=True)
class DeviceSync:
    """What a device needs to carry on.

    vault_key: 32 bytes, of `epoch`; version: of the vault when this was written, below which no vault is taken;
    checkpoint: of the log of keys, "" for none; nonce: 16 bytes, that of the pairing request, or the first of the
    receiving device's statement hash where there was none; officers: where the person gave it along, the key of their
    officers' section.
    """

    vault_key: SecretBytes
    epoch: int
    version: int
    checkpoint: str
    nonce: bytes
    officers: OfficersKey | None = None

    @read_back("from_secret")
    def to_secret(self) -> SecretBytes:
        """Return dCBOR{1: 1, 2: VK, 3: epoch, 4: version, 5: checkpoint, 6: nonce, 7: officers when given along}."""
        fields: dict[int, Encodable] = {1: _VERSION, 2: self.vault_key.reveal(), 3: self.epoch, 4: self.version}
        officers: dict[int, Encodable] = {7: self.officers.row()} if self.officers else {}
        return SecretBytes(encode({**fields, 5: self.checkpoint, 6: self.nonce, **officers}))

    @classmethod
    def from_secret(cls, octets: SecretBytes) -> DeviceSync:
        """Read the contents; raises Malformed."""
        read = Fields(decode(octets.reveal()), "device sync", range(1, 7), (7,))
        read.uint(1, minimum=_VERSION, maximum=_VERSION)
        return cls(
            vault_key=SecretBytes(read.octets(2, wrapping.KEY_SIZE)),
            epoch=read.uint(3),
            version=read.uint(4),
            checkpoint=read.text(5, maximum=MAX_CHECKPOINT),
            nonce=read.octets(6, NONCE_SIZE),
            officers=OfficersKey.from_row(read.value(7)) if 7 in read else None,
        )


def seal_sync(
    contents: DeviceSync,
    *,
    header: Header,
    kind: SyncKind,
    key: SigningKey,
    to: PublicKey,
    request_hash: bytes,
    head: bytes,
) -> bytes:
    """Sign the contents as the device of `header` and seal them to the X-Wing key `to`; returns the letter.

    kind: DEVICE_DOOR, with the pairing request's hash; or DEVICE_TO_DEVICE, with the receiving device's statement
    hash. head: of the sender's chain, in which the receiver is listed. Both hashes 32 bytes. Raises ValueError for a
    header that names no device, and contents that no device would take (the caller's mistakes).
    """
    require_readable(lambda said: require_device(said, "sync letter"), header)
    secret = contents.to_secret()
    # Only the hash is signed: the statement may be shown to others as evidence, and the vault key may not.
    statement = Sync(header, kind, hashlib.sha256(secret.reveal()).digest(), contents.version)
    signed = sign(statement.to_payload(), purpose=Purpose.SYNC, key=key)
    # The signature is inside: whoever can seal to this key could otherwise sign for nobody, and be believed.
    plaintext = SecretBytes(encode({1: signed.encode(), 2: secret.reveal()}))
    return encode({1: _VERSION, 2: head, 3: seal(plaintext, to=to, info=_info(request_hash, head))})


@dataclass(frozen=True, slots=True)
class SyncLetter:
    """A letter that this device could open. head: the sender's chain head; header: who says it wrote it."""

    head: bytes
    header: Header
    _statement: Sign1
    _sync: Sync
    _secret: SecretBytes

    @classmethod
    def open(cls, letter: bytes, *, key: SealingKey, request_hash: bytes) -> SyncLetter:
        """Open a letter with the key it was sealed to. Raises Malformed or UnwrapFailed."""
        read = Fields(decode(letter), "sync letter", (1, 2, 3))
        read.uint(1, minimum=_VERSION, maximum=_VERSION)
        # Outside the seal and inside its info: the receiver can look the head up first, and nobody can exchange it.
        head = read.octets(2, HASH_SIZE)
        plaintext = open_sealed(read.octets(3), key=key, info=_info(request_hash, head))
        inner = Fields(decode(plaintext.reveal()), "sync letter, inside", (1, 2))
        statement = Sign1.parse(inner.octets(1))
        sync = Sync.from_payload(statement.payload)
        require_device(sync.header, "sync letter")
        return cls(head, sync.header, statement, sync, SecretBytes(inner.octets(2)))

    def verify(self, signing_key: PublicKey, *, kind: SyncKind, nonce: bytes) -> DeviceSync:
        """Return the contents, when the device that wrote them has this signing key and wrote them for us.

        The caller takes the key from the device statement of `header.device`, active in its own chain, in which
        `head` stands. Raises InvalidSignature, Untrusted for another kind of sync or another nonce, Malformed.
        """
        # Sealing says nothing of who sealed, so the signature decides; only then is the content even read.
        self._statement.verify(signing_key, purpose=Purpose.SYNC)
        if self._sync.kind is not kind or self._sync.blob_hash != hashlib.sha256(self._secret.reveal()).digest():
            raise Untrusted("the letter is not the sync that its statement names")
        contents = DeviceSync.from_secret(self._secret)
        if contents.nonce != nonce:
            # Sealing says nothing of the sender: another receiver could have passed on what was signed for them.
            raise Untrusted("the letter was written for another device or another pairing")
        # The signed number is the one below which no vault is taken. Two numbers would
        # leave it to a reader which one that is.
        if contents.version != self._sync.version:
            raise Malformed("sync letter: two versions")
        return contents


def _info(request_hash: bytes, head: bytes) -> bytes:
    # A letter for another pairing, or of another state of the chain, does not open.
    return label("sync", request_hash, head)
