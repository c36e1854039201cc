# SPDX-License-Identifier: Apache-2.0
"""The head of a profile file: whose it is, and where the 32-byte key of its rows is kept.

Implements docs/formats/profile.md (head; the password door of PROTOCOL section 6 around the key).
Does not keep the key: the operating system's keyring does, or the passphrase that the person chose instead.
"""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass
from typing import Final

from holdfast.client.errors import ProfileError, UpdateNeeded, WrongPassphrase, damaged
from holdfast.core.base.encoding import Encodable, Fields, decode, encode, label
from holdfast.core.base.errors import HoldfastError, Malformed, Unusable, UnwrapFailed
from holdfast.core.base.secret import SecretBytes
from holdfast.core.crypto import wrapping
from holdfast.core.vault.password_door import (
    DEFAULT_COST,
    Argon2Cost,
    DoorOwner,
    open_password_door,
    seal_password_door,
)

FORMAT: Final = 1  # docs/formats/profile.md
ID_SIZE: Final = 16  # bytes, of the profile itself: tells two profiles of one person apart in a keyring
KEY_SIZE: Final = 32  # bytes: AES-256
_CHECK_SIZE: Final = 32  # bytes: HMAC-SHA256 in full
_MAX_HEAD: Final = 4096  # bytes: ids and one password door, which is 250


@dataclass(frozen=True)
class Head:
    """Whose profile it is, its own random id, and the password door around its key; no door: the keyring has it."""

    tenant: bytes
    user: bytes
    profile: bytes
    door: bytes = b""

    @classmethod
    def new(cls, *, tenant: bytes, user: bytes) -> Head:
        """Return the head of a profile that does not exist yet. tenant, user: 16 bytes."""
        return cls(tenant, user, secrets.token_bytes(ID_SIZE))

    @property
    def has_passphrase(self) -> bool:
        """Whether a passphrase opens it; otherwise the operating system's keyring does."""
        return bool(self.door)

    def with_door(self, key: SecretBytes, *, passphrase: SecretBytes, cost: Argon2Cost = DEFAULT_COST) -> Head:
        """Return this head with a passphrase around `key`. Raises Unusable for one below 14 characters."""
        door = seal_password_door(key, password=passphrase, owner=self._owner, cost=cost)
        return Head(self.tenant, self.user, self.profile, door)

    def open_door(self, passphrase: SecretBytes) -> SecretBytes:
        """Return the 32-byte key behind the passphrase. Raises WrongPassphrase, ProfileError for a bad door.

        Raises Unusable for a passphrase that is no text.
        """
        try:
            return open_password_door(self.door, password=passphrase, owner=self._owner)
        except UnwrapFailed:
            raise WrongPassphrase("The passphrase does not open this profile.") from None
        except Unusable:
            raise  # of what was typed, and not of the door
        except HoldfastError as error:
            raise damaged(error) from error

    @property
    def _owner(self) -> DoorOwner:
        return DoorOwner(self.tenant, self.user, 0)

    def _fields(self) -> dict[int, Encodable]:
        fields: dict[int, Encodable] = {1: FORMAT, 2: self.tenant, 3: self.user, 4: self.profile}
        return {**fields, 5: self.door} if self.door else fields

    def _check(self, key: SecretBytes) -> bytes:
        """Authenticate fields 1..5 under a key of their own: a changed head, or another key, is seen before a row."""
        derived = wrapping.hkdf(salt=self.profile, ikm=key, info=label("profile-head"), length=KEY_SIZE)
        return hmac.digest(derived.reveal(), encode(self._fields()), "sha256")

    def seal(self, key: SecretBytes) -> bytes:
        """Return the bytes of the head, authenticated under the profile's key."""
        return encode({**self._fields(), 6: self._check(key)})

    def require(self, document: bytes, key: SecretBytes) -> None:
        """Raise ProfileError unless this head was sealed under `key`."""
        said = Fields(decode(document, max_size=_MAX_HEAD), "profile head", (1, 2, 3, 4, 6), (5,)).octets(6)
        if not hmac.compare_digest(self._check(key), said):
            raise ProfileError(
                "The key at hand is not this profile's, or the head of the file was changed.",
                way_out="Restore the file from a backup, or recover the account.",
            )


def read_head(document: bytes) -> Head:
    """Read a head, not authenticated yet: `Head.require` follows once the key is there.

    Raises ProfileError, and UpdateNeeded for one of a newer version.
    """
    try:
        value = decode(document, max_size=_MAX_HEAD)
        if isinstance(value, dict) and isinstance(said := value.get(1), int) and said > FORMAT:
            raise UpdateNeeded
        read = Fields(value, "profile head", (1, 2, 3, 4, 6), (5,))
        if read.uint(1) != FORMAT:
            raise Malformed("profile head: no version of this program wrote it")
        read.octets(6, _CHECK_SIZE)
        door = read.octets(5) if 5 in read else b""
        return Head(read.octets(2, 16), read.octets(3, 16), read.octets(4, ID_SIZE), door)
    except HoldfastError as error:
        raise damaged(error) from error


def new_key() -> SecretBytes:
    """Return a fresh 32-byte key for the rows of one profile."""
    return SecretBytes(secrets.token_bytes(KEY_SIZE))
