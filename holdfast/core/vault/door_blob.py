# SPDX-License-Identifier: Apache-2.0
"""What every door of a vault has in common: the blob that holds a section's key, VK or OK, and whose it is.

Implements the map of PROTOCOL section 6 (fields 1 to 6, 8, 9, 10) and its committed encryption.
Does not know how a door's key comes about; `doors`, `phrase_door` and `contacts_door` do.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from holdfast.core.base.encoding import Encodable, Fields, Value, decode, encode, label
from holdfast.core.base.errors import UnwrapFailed
from holdfast.core.base.secret import SecretBytes
from holdfast.core.base.writing import require_readable
from holdfast.core.crypto import wrapping
from holdfast.core.vault.blob import Section

VERSION: Final = 1  # field 1, bound with the rest: there is no older form of a door
MAX_DOOR: Final = 1024  # bytes of the blob; a door has about 240

# The numbers of docs/formats/doors.md. 7 is left out: the vault has its version there, and a door has none.
FORMAT, NAME, METHOD, TENANT, USER, EPOCH, NONCE, COMMIT, CIPHERTEXT = 1, 2, 3, 4, 5, 6, 8, 9, 10


@dataclass(frozen=True, slots=True)
class DoorOwner:
    """Whose door it is: 16-byte tenant and user, the epoch of the key behind it, and the section that it opens."""

    tenant: bytes
    user: bytes
    epoch: int
    section: Section = Section.VAULT

    def kind(self, name: str) -> str:
        """Return field 2 of a door: `password`, or `officers-password` for one of the officers' section."""
        # A name of its own, so that no door of one section is ever tried as one of the other, whoever relabels it.
        return name if self.section is Section.VAULT else f"{self.section.value}-{name}"


@dataclass(frozen=True, slots=True)
class DoorHead:
    """Fields 1 to 6: the kind of door, its method (a map of the kind's own) and its owner."""

    kind: str
    method: Encodable
    owner: DoorOwner

    def fields(self) -> dict[int, Encodable]:
        """Return fields 1 to 6 of the blob."""
        head: dict[int, Encodable] = {FORMAT: VERSION, NAME: self.kind, METHOD: self.method}
        return {**head, TENANT: self.owner.tenant, USER: self.owner.user, EPOCH: self.owner.epoch}

    def key(self, *, salt: bytes, ikm: SecretBytes) -> wrapping.CommittedKey:
        """Return K || C of a door whose method gives 32 uniform bytes: info = label("door", SHA-256(fields 1..6))."""
        # Kind, method and owner are in the key itself: cost numbers or salt changed by the server give another key
        # (FAULTS S7), and a door of another account or epoch does not open (FAULTS R12).
        info = label("door", hashlib.sha256(encode(self.fields())).digest())
        return wrapping.CommittedKey.derive(salt=salt, ikm=ikm, info=info)

    def seal(self, vault_key: SecretBytes, committed: wrapping.CommittedKey) -> bytes:
        """Return the blob: VK of 32 bytes under K, beside the commitment.

        Raises ValueError for a vault key of another length (the caller's mistake).
        """
        if len(vault_key) != wrapping.KEY_SIZE:
            raise ValueError("a vault key is 32 bytes")
        nonce = secrets.token_bytes(wrapping.NONCE_SIZE)
        bound = {**self.fields(), NONCE: nonce}
        sealed = wrapping.encrypt(vault_key, key=committed.key, nonce=nonce, aad=encode(bound))
        blob = encode({**bound, COMMIT: committed.commit(), CIPHERTEXT: sealed})
        return require_readable(lambda octets: Door.parse(octets, self.kind), blob)


@dataclass(frozen=True, slots=True)
class Door:
    """A door as received: in the format, and not yet opened. method is field 3 as decoded.

    epoch: by its own word, which nothing here goes by.
    """

    kind: str
    method: Value
    epoch: int
    nonce: bytes
    commit: bytes
    sealed: bytes

    @classmethod
    def parse(cls, blob: bytes, kind: str) -> Door:
        """Read a blob of at most 1 KiB that must be a door of `kind`. Raises Malformed."""
        what = f"{kind} door"
        keys = (FORMAT, NAME, METHOD, TENANT, USER, EPOCH, NONCE, COMMIT, CIPHERTEXT)
        read = Fields(decode(blob, max_size=MAX_DOOR), what, keys)
        read.uint(FORMAT, minimum=VERSION, maximum=VERSION)
        if read.text(NAME) != kind:
            raise read.refuse(NAME, "names another kind of door")
        # Their form is checked and their values are thrown away: what counts is the owner that the caller expects.
        read.octets(TENANT, 16)
        read.octets(USER, 16)
        return cls(
            kind=kind,
            method=read.value(METHOD),
            epoch=read.uint(EPOCH),
            nonce=read.octets(NONCE, wrapping.NONCE_SIZE),
            commit=read.octets(COMMIT, wrapping.COMMIT_SIZE),
            sealed=read.octets(CIPHERTEXT, wrapping.KEY_SIZE + wrapping.TAG_SIZE),
        )

    def head(self, owner: DoorOwner) -> DoorHead:
        """Return fields 1 to 6 under the owner expected.

        Not under the owner written in the blob, which nothing here reads: a door of somebody else does not open.
        """
        return DoorHead(self.kind, self.method, owner)

    def open_by(self, owner: DoorOwner, keys: Iterable[wrapping.CommittedKey]) -> SecretBytes:
        """Return VK by the first of a secret's keys that opens the door. Raises UnwrapFailed when none does."""
        refused = UnwrapFailed("no key was tried")
        for committed in keys:
            try:
                return self.open(owner, committed)
            except UnwrapFailed as error:
                refused = error
        raise refused

    def open(self, owner: DoorOwner, committed: wrapping.CommittedKey) -> SecretBytes:
        """Return VK. Raises UnwrapFailed for a wrong key, tampering and another owner, without saying which."""
        aad = encode({**self.head(owner).fields(), NONCE: self.nonce})
        try:
            # First of all the commitment: GCM alone would open one ciphertext under two keys.
            committed.require(self.commit)
            return wrapping.decrypt(self.sealed, key=committed.key, nonce=self.nonce, aad=aad)
        except UnwrapFailed:
            # One error for all: told apart, they would say whether a guess was near,
            # or whose door this is (FAULTS S18).
            raise UnwrapFailed("the door does not open: wrong secret, or not this account's door") from None
