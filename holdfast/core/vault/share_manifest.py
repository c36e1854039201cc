# SPDX-License-Identifier: Apache-2.0
"""Who holds the shares of a contacts door, and a new device's request to have them back.

Implements PROTOCOL sections 3 and 6: the payloads of `share-manifest` and `share-request`.
Does not hold a share, and does not check who signed: the AIK signs a manifest, and nobody signs a request.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Final

from holdfast.core.base.encoding import Fields
from holdfast.core.base.errors import Malformed, Untrusted
from holdfast.core.base.secret import SecretBytes
from holdfast.core.base.writing import read_back
from holdfast.core.crypto.keys import KeyKind, PublicKey, SealingKey
from holdfast.core.crypto.safety import Groups, six_groups
from holdfast.core.crypto.shares import MAX_SHARES, MIN_QUORUM
from holdfast.core.signed.cose import Purpose
from holdfast.core.signed.payloads import (
    HASH_SIZE,
    ID_SIZE,
    Header,
    close_payload,
    open_payload,
    read_key,
    require_device,
    require_user,
)
from holdfast.core.vault.contacts_door import SET_SIZE

# PROTOCOL section 6 "Contacts door". Long enough to reach contacts over a weekend; a stolen
# request key is worth no more than that.
MAX_REQUEST_SECONDS: Final = 72 * 3600


def share_commitment(blind: bytes, share: SecretBytes) -> bytes:
    """Return SHA-256(blind || share): 32 and 42 bytes, so that where one ends is never in doubt."""
    # Blinded: the manifest is kept by every contact, and nobody should be able to tell whether a found share is in it.
    return hashlib.sha256(blind + share.reveal()).digest()


@dataclass(frozen=True)
class Manifest:
    """The set of shares behind one contacts door.

    set_id: 16 bytes; k: how many open it; created_at: UTC seconds; rows: (contact, commitment) by share index;
    door_hash: SHA-256 of the door's blob, which fixes owner and epoch.
    """

    PURPOSE: ClassVar = Purpose.SHARE_MANIFEST

    header: Header
    set_id: bytes
    k: int
    created_at: int
    rows: tuple[tuple[bytes, bytes], ...]
    door_hash: bytes

    @classmethod
    def of_door(
        cls, header: Header, *, set_id: bytes, k: int, rows: Sequence[tuple[bytes, bytes]], door: bytes
    ) -> Manifest:
        """Make the manifest of a new door, created when it is issued."""
        return cls(header, set_id, k, header.issued_at, tuple(rows), hashlib.sha256(door).digest())

    @property
    def n(self) -> int:
        """How many contacts hold a share."""
        return len(self.rows)

    @property
    def contacts(self) -> tuple[bytes, ...]:
        """The 16-byte user ids of the contacts, by share index."""
        return tuple(contact for contact, _ in self.rows)

    @cached_property
    def hash(self) -> bytes:
        """SHA-256 of the payload: what the account chain, sealed shares and requests name."""
        return hashlib.sha256(self.to_payload()).digest()

    def index_of(self, contact: bytes) -> int | None:
        """Return the index of a contact's share, or None for anybody else."""
        return self.contacts.index(contact) if contact in self.contacts else None

    def require_door(self, blob: bytes) -> None:
        """Raise Untrusted unless `blob` is the door that these shares open."""
        # The door comes from the server: an old one with a known secret would take in
        # a vault key from before (FAULTS S10).
        if hashlib.sha256(blob).digest() != self.door_hash:
            raise Untrusted("the contacts door is not the one that the manifest names")

    @read_back("from_payload")
    def to_payload(self) -> bytes:
        """Return the payload bytes: 7 set, 8 k, 9 n, 10 created, 11 [[contact, commitment]…], 12 door hash."""
        rows = [list(row) for row in self.rows]
        return close_payload(
            self.header, {7: self.set_id, 8: self.k, 9: self.n, 10: self.created_at, 11: rows, 12: self.door_hash}
        )

    @classmethod
    def from_payload(cls, payload: bytes) -> Manifest:
        """Read the payload; raises Malformed, also for a contact named twice and for the owner among them."""
        header, fields = open_payload(payload, "share manifest", range(7, 13))
        require_user(header, "share manifest")
        # n and the rows must agree, and k is at most n: a set that can never be put together is found when it is made.
        n = fields.uint(9, minimum=MIN_QUORUM, maximum=MAX_SHARES)
        rows = [Fields.of_row(row, "share manifest, field 11", 2) for row in fields.array(11, minimum=n, maximum=n)]
        manifest = cls(
            header=header,
            set_id=fields.octets(7, SET_SIZE),
            k=fields.uint(8, minimum=MIN_QUORUM, maximum=n),
            # A set from the future would still look like the newest when it has long been replaced.
            created_at=fields.uint(10, maximum=header.issued_at),
            rows=tuple((row.octets(0, ID_SIZE), row.octets(1, HASH_SIZE)) for row in rows),
            door_hash=fields.octets(12, HASH_SIZE),
        )
        # Checked by the reader too: contacts hold what the owner's device signed, and that device may be a thief's.
        if len(set(manifest.contacts)) != n or header.user in manifest.contacts:
            raise Malformed("share manifest: a contact is named twice, or is the owner")
        return manifest


@dataclass(frozen=True)
class ShareRequest:
    """A new device asks for its user's shares.

    header: its user and itself, with an expiry at most 72 hours after issue; key: a fresh X-Wing key to which the
    contacts seal; device_hash: SHA-256 of the device's statement payload; manifest_hash: of the set it asks for.
    Nobody signs it: whoever could sign for this user has no need to ask. The digits of `code` stand in for that.
    """

    PURPOSE: ClassVar = Purpose.SHARE_REQUEST

    header: Header
    key: PublicKey
    device_hash: bytes
    manifest_hash: bytes

    @classmethod
    def new(cls, header: Header, *, device_hash: bytes, manifest_hash: bytes) -> tuple[ShareRequest, SealingKey]:
        """Make a request and its private key, which never leaves the device. Raises ValueError for a longer life."""
        key = SealingKey.generate()
        request = cls(header, key.public, device_hash, manifest_hash)
        # Written as a contact will read it, so that a request nobody would answer is never published.
        return cls.from_payload(request.to_payload()), key

    @cached_property
    def hash(self) -> bytes:
        """SHA-256 of the payload, of which only one encoding is read."""
        return hashlib.sha256(self.to_payload()).digest()

    @property
    def code(self) -> Groups:
        """Six groups of five digits, which user and contact compare by voice before a share is sent."""
        # Of the whole request: a server that puts in its own key has another code, and has
        # to guess 30 digits at once (FAULTS R7).
        return six_groups(self.hash)

    @read_back("from_payload")
    def to_payload(self) -> bytes:
        """Return the payload bytes: 7 X-Wing key, 8 device statement hash, 9 manifest hash."""
        return close_payload(self.header, {7: self.key.encoded, 8: self.device_hash, 9: self.manifest_hash})

    @classmethod
    def from_payload(cls, payload: bytes) -> ShareRequest:
        """Read the payload; raises Malformed, also for a life above 72 hours or none stated."""
        header, fields = open_payload(payload, "share request", (7, 8, 9))
        require_device(header, "share request")
        # 0 is "no end" elsewhere, and is refused here.
        if not 0 < header.expires_at <= header.issued_at + MAX_REQUEST_SECONDS:
            raise fields.refuse(6, "is not within 72 hours of issue")
        return cls(
            header=header,
            key=read_key(fields, 7, KeyKind.X_WING),
            device_hash=fields.octets(8, HASH_SIZE),
            manifest_hash=fields.octets(9, HASH_SIZE),
        )
