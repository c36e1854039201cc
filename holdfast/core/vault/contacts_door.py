# SPDX-License-Identifier: Apache-2.0
"""The contacts door: a blob that gives the vault key VK to whoever has k of the n shares of its secret S.

Implements PROTOCOL section 6 "Contacts door" (the blob; its shares and their manifest are in `contact_shares`).
Does not share or combine S: here it is 32 bytes that open one door.
"""

from __future__ import annotations

from typing import Final

from holdfast.core.base.encoding import Fields
from holdfast.core.base.secret import SecretBytes
from holdfast.core.vault.blob import Section
from holdfast.core.vault.door_blob import Door, DoorHead, DoorOwner

KIND: Final = "contacts"  # field 2 of the blob: one kind's door is never tried as another's
SECRET_SIZE: Final = 32  # bytes: 256 bits, the longer of SLIP-0039's two usual lengths, as 33 words
SET_SIZE: Final = 16  # bytes: random, so that no two sets of one owner have a name in common


def seal_contacts_door(vault_key: SecretBytes, *, secret: SecretBytes, set_id: bytes, owner: DoorOwner) -> bytes:
    """Wrap the 32-byte vault key under S, 32 fresh random bytes that make one door and no other.

    set_id: 16 random bytes that name the set of shares of S, and salt its key. Raises ValueError on other
    sizes, and for the officers' section, which no contacts open (the caller's mistakes).
    """
    if owner.section is not Section.VAULT:
        raise ValueError("contacts never open the officers' section")
    if len(secret) != SECRET_SIZE or len(set_id) != SET_SIZE:
        raise ValueError("a contacts door is made of a secret of 32 bytes and a set id of 16")
    head = DoorHead(KIND, {1: set_id}, owner)
    return head.seal(vault_key, head.key(salt=set_id, ikm=secret))


def open_contacts_door(blob: bytes, *, secret: SecretBytes, set_id: bytes, owner: DoorOwner) -> SecretBytes:
    """Return the 32-byte vault key.

    Raises Malformed for bytes outside the format and for a door of another set; UnwrapFailed for another S,
    tampering, or another tenant's, user's or epoch's door.
    """
    door = Door.parse(blob, KIND)
    method = Fields(door.method, "contacts door, field 3", (1,))
    # Told apart from a wrong secret: with shares of another set no secret is right,
    # and another door should be asked for.
    if method.octets(1, SET_SIZE) != set_id:
        raise method.refuse(1, "names another set of shares")
    return door.open(owner, door.head(owner).key(salt=set_id, ikm=secret))
