# SPDX-License-Identifier: Apache-2.0
"""The password door: a blob that gives the vault key VK to whoever knows the password.

Implements PROTOCOL section 6 "Password door" (Argon2id, RFC 9106; commitment before decryption).
Does not count attempts or choose passwords for people; `phrase_door` and `contacts_door` are the other doors.
Specification: https://www.rfc-editor.org/rfc/rfc9106 section 3.1, https://www.rfc-editor.org/rfc/rfc5869 section 2.
"""

from __future__ import annotations

import secrets
from typing import Final

from holdfast.core.base.encoding import label
from holdfast.core.base.errors import Unusable
from holdfast.core.base.secret import SecretBytes
from holdfast.core.crypto import wrapping
from holdfast.core.crypto.stretching import DEFAULT_COST, HIGH_COST, Argon2Cost, Stretching, canonical, readings
from holdfast.core.vault.door_blob import Door, DoorHead, DoorOwner

__all__ = [
    "DEFAULT_COST",
    "HIGH_COST",
    "KIND",
    "Argon2Cost",
    "DoorOwner",
    "generate_password",
    "open_password_door",
    "seal_password_door",
    "sign_in_proof",
]

KIND: Final = "password"  # field 2 of the blob: one kind's door is never tried as another's
MIN_PASSWORD: Final = 14  # characters, after normalisation
PROOF_SIZE: Final = 32  # bytes: as long as M itself, from which it is derived


def generate_password() -> SecretBytes:
    """Return a password for which no length rule is needed: 24 lower-case letters and digits, 120 bits."""
    alphabet = "abcdefghijkmnpqrstuvwxyz23456789"  # 32 signs, none that is read as another
    groups = ("".join(secrets.choice(alphabet) for _ in range(6)) for _ in range(4))
    return SecretBytes("-".join(groups).encode())


def seal_password_door(
    vault_key: SecretBytes, *, password: SecretBytes, owner: DoorOwner, cost: Argon2Cost = DEFAULT_COST
) -> bytes:
    """Wrap the 32-byte vault key under a password (UTF-8, at least 14 characters in its canonical form).

    Raises Unusable for a shorter or unreadable password; ValueError for a vault key of another length
    (the caller's mistake).
    """
    chosen = canonical(password)
    if len(chosen.reveal().decode()) < MIN_PASSWORD:
        raise Unusable("a chosen password has at least 14 characters")
    stretching = Stretching.fresh(cost)
    head = DoorHead(owner.kind(KIND), stretching.to_map(), owner)
    return head.seal(vault_key, _key(head, stretching, chosen))


def open_password_door(blob: bytes, *, password: SecretBytes, owner: DoorOwner) -> SecretBytes:
    """Return the 32-byte vault key, by whichever of the password's `readings` the door was made for.

    Raises Malformed for bytes outside the format and OutOfBounds for an Argon2 cost outside the bounds, both
    before hashing; UnwrapFailed for a wrong password, tampering, or another tenant's, user's or epoch's door;
    Unusable for what can be no password.
    """
    door = Door.parse(blob, owner.kind(KIND))
    # The bounds are checked in here, before anything is hashed: the server stores these numbers (FAULTS S7).
    stretching = Stretching.from_map(door.method, "password door, field 3")
    head = door.head(owner)
    return door.open_by(owner, (_key(head, stretching, reading) for reading in readings(password)))


def sign_in_proof(password: SecretBytes, *, cost: Argon2Cost, salt: bytes, tenant: bytes, user: bytes) -> SecretBytes:
    """Return 32 bytes that show a server that the password is known, and do not open the vault.

    cost and salt (16 bytes) are the password door's own, so that both come of one Argon2id output M:
    HKDF-SHA256(salt, M, label("auth", tenant, user)), beside the door's label("door", …). PROTOCOL section 6.
    """
    # One stretching for both: two salts would let a thief of the server's proofs try passwords at the cheaper one.
    stretched = Stretching(cost, salt).stretch(canonical(password))
    return wrapping.hkdf(salt=salt, ikm=stretched, info=label("auth", tenant, user), length=PROOF_SIZE)


def _key(head: DoorHead, stretching: Stretching, reading: SecretBytes) -> wrapping.CommittedKey:
    return head.key(salt=stretching.salt, ikm=stretching.stretch(reading))
