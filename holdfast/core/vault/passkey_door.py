# SPDX-License-Identifier: Apache-2.0
"""The passkey door: a blob that gives a section's key to whoever holds the passkey, by its PRF output.

Implements PROTOCOL section 6 "Passkey door" (WebAuthn PRF extension).
Does not speak WebAuthn: whoever does brings the 32 bytes that the authenticator gave for the salt in the door.
Specification: https://www.w3.org/TR/webauthn-3/#prf-extension
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Final

from holdfast.core.base.encoding import Fields
from holdfast.core.base.secret import SecretBytes
from holdfast.core.vault.blob import Section
from holdfast.core.vault.door_blob import Door, DoorHead, DoorOwner

KIND: Final = "passkey"  # field 2 of the blob: one kind's door is never tried as another's
SALT_SIZE: Final = 32  # bytes: what the authenticator is asked with
PRF_SIZE: Final = 32  # bytes of its answer
MAX_CREDENTIAL: Final = 512  # bytes: WebAuthn allows 1,023; authenticators use 16 to 255, and a door has 1 KiB
_NAME: Final = "passkey"


@dataclass(frozen=True, slots=True)
class PasskeyDoor:
    """What a passkey door says of itself, unauthenticated: which credential to ask, and with what salt (32 bytes)."""

    credential_id: bytes
    salt: bytes


def new_salt() -> bytes:
    """Return 32 random bytes to ask an authenticator with, for one door and no other."""
    return secrets.token_bytes(SALT_SIZE)


def seal_passkey_door(
    key: SecretBytes, *, credential_id: bytes, salt: bytes, prf_output: SecretBytes, owner: DoorOwner
) -> bytes:
    """Wrap a section's 32-byte key under the 32 bytes that the passkey gave for `salt` (32 bytes).

    Raises ValueError on other sizes, and for a credential id that is empty or above 512 bytes (the caller's mistakes).
    """
    if len(prf_output) != PRF_SIZE or len(salt) != SALT_SIZE or not 0 < len(credential_id) <= MAX_CREDENTIAL:
        raise ValueError("a passkey door is made of a credential id, a salt and an answer of 32 bytes each")
    head = DoorHead(owner.kind(KIND), {1: _NAME, 2: credential_id, 3: salt}, owner)
    return head.seal(key, head.key(salt=salt, ikm=prf_output))


def open_passkey_door(blob: bytes, *, prf_output: SecretBytes, owner: DoorOwner) -> SecretBytes:
    """Return the 32-byte key.

    Raises Malformed for bytes outside the format; UnwrapFailed for another answer, tampering, or another tenant's,
    user's, epoch's or section's door.
    """
    door = Door.parse(blob, owner.kind(KIND))
    return door.open(owner, door.head(owner).key(salt=_method(door).salt, ikm=prf_output))


def read_passkey_door(blob: bytes, section: Section = Section.VAULT) -> PasskeyDoor:
    """Return which credential the door asks, and with what salt. Raises Malformed."""
    return _method(Door.parse(blob, DoorOwner(b"", b"", 0, section).kind(KIND)))


def _method(door: Door) -> PasskeyDoor:
    read = Fields(door.method, "passkey door, field 3", (1, 2, 3))
    if read.text(1) != _NAME:
        raise read.refuse(1, "is no passkey")
    credential_id = read.octets(2, maximum=MAX_CREDENTIAL)
    if not credential_id:
        raise read.refuse(2, "is empty")
    return PasskeyDoor(credential_id, read.octets(3, SALT_SIZE))
