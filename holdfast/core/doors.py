# SPDX-License-Identifier: Apache-2.0
"""The password door: a blob that gives the vault key VK to whoever knows the password.

Implements PROTOCOL section 6 "Password door" (Argon2id, RFC 9106; commitment before decryption).
Does not count attempts or choose passwords for people; phrase, device and contacts doors are other formats.
"""

from __future__ import annotations

import hashlib
import secrets
import unicodedata
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from holdfast.core import wrapping
from holdfast.core.encoding import Encodable, Fields, decode, encode, label
from holdfast.core.errors import Malformed, OutOfBounds
from holdfast.core.secret import SecretBytes

VERSION: Final = 1
KIND: Final = "password"
ALGORITHM: Final = "argon2id"
ARGON2_VERSION: Final = 0x13
SALT_SIZE: Final = 16
MIN_PASSWORD: Final = 14  # characters, after normalisation
MAX_PASSWORD: Final = 1024
MAX_DOOR: Final = 1024  # bytes of the blob; a door has about 240

FORMAT, NAME, KDF, TENANT, USER, EPOCH, NONCE, COMMIT, CIPHERTEXT = 1, 2, 3, 4, 5, 6, 8, 9, 10


@dataclass(frozen=True, slots=True)
class Argon2Cost:
    """Memory in KiB, passes and lanes. Made outside the bounds it raises OutOfBounds, before any hashing."""

    memory_kib: int = 64 * 1024
    passes: int = 3
    lanes: int = 4

    def __post_init__(self) -> None:
        # The server stores these numbers: too low gives it the password, too high stops the device.
        within = 19 * 1024 <= self.memory_kib <= 1024 * 1024 and 2 <= self.passes <= 10 and 1 <= self.lanes <= 8
        if not within:
            raise OutOfBounds("Argon2id outside 19 MiB..1 GiB, 2..10 passes, 1..8 lanes")


DEFAULT_COST: Final = Argon2Cost()  # RFC 9106 section 4, second recommended option
HIGH_COST: Final = Argon2Cost(memory_kib=256 * 1024)


@dataclass(frozen=True, slots=True)
class DoorOwner:
    """Whose door it is: 16-byte tenant and user, and the epoch of the vault key behind it."""

    tenant: bytes
    user: bytes
    epoch: int


def generate_password() -> SecretBytes:
    """Return a password for which no length rule is needed: 24 lower-case letters and digits, 120 bits."""
    alphabet = "abcdefghijkmnpqrstuvwxyz23456789"  # 32 signs, none that is read as another
    groups = ("".join(secrets.choice(alphabet) for _ in range(6)) for _ in range(4))
    return SecretBytes("-".join(groups).encode())


def seal_password_door(
    vault_key: SecretBytes, *, password: SecretBytes, owner: DoorOwner, cost: Argon2Cost = DEFAULT_COST
) -> bytes:
    """Wrap the 32-byte vault key under a password (UTF-8, at least 14 characters after NFKC).

    Raises OutOfBounds for a shorter or unreadable password; ValueError for a vault key of another length
    (the caller's mistake).
    """
    if len(vault_key) != wrapping.KEY_SIZE:
        raise ValueError("a vault key is 32 bytes")
    if len(_normalised(password)) < MIN_PASSWORD:
        raise OutOfBounds("a chosen password has at least 14 characters")
    salt, nonce = secrets.token_bytes(SALT_SIZE), secrets.token_bytes(wrapping.NONCE_SIZE)
    fields = _fields(owner, cost, salt)
    committed = _key(fields, password, cost, salt)
    bound = {**fields, NONCE: nonce}
    sealed = wrapping.encrypt(vault_key, key=committed.key, nonce=nonce, aad=encode(bound))
    return encode({**bound, COMMIT: committed.commit(), CIPHERTEXT: sealed})


def open_password_door(blob: bytes, *, password: SecretBytes, owner: DoorOwner) -> SecretBytes:
    """Return the 32-byte vault key.

    Raises Malformed for bytes outside the format and OutOfBounds for an Argon2 cost outside the bounds, both
    before hashing; UnwrapFailed for a wrong password, tampering, or another tenant's, user's or epoch's door.
    """
    read = Fields(
        decode(blob, max_size=MAX_DOOR),
        "password door",
        (FORMAT, NAME, KDF, TENANT, USER, EPOCH, NONCE, COMMIT, CIPHERTEXT),
    )
    read.uint(FORMAT, minimum=VERSION, maximum=VERSION)
    if read.text(NAME) != KIND:
        raise Malformed("password door: another kind of door")
    read.octets(TENANT, 16)
    read.octets(USER, 16)
    read.uint(EPOCH)
    nonce, commit = read.octets(NONCE, wrapping.NONCE_SIZE), read.octets(COMMIT, wrapping.COMMIT_SIZE)
    sealed = read.octets(CIPHERTEXT, wrapping.KEY_SIZE + wrapping.TAG_SIZE)
    cost, salt = _read_kdf(read)
    # The owner is the one expected, not the one written in the blob: a door of somebody else does not open.
    fields = _fields(owner, cost, salt)
    committed = _key(fields, password, cost, salt)
    committed.require(commit)
    return wrapping.decrypt(sealed, key=committed.key, nonce=nonce, aad=encode({**fields, NONCE: nonce}))


def _read_kdf(door: Fields) -> tuple[Argon2Cost, bytes]:
    kdf = Fields(door.value(KDF), "password door, field 3", range(1, 7))
    if kdf.text(1) != ALGORITHM or kdf.uint(2) != ARGON2_VERSION:
        raise Malformed("password door: not Argon2id version 0x13")
    return Argon2Cost(kdf.uint(3), kdf.uint(4), kdf.uint(5)), kdf.octets(6, SALT_SIZE)


def _fields(owner: DoorOwner, cost: Argon2Cost, salt: bytes) -> dict[int, Encodable]:
    """Fields 1..6 of the blob."""
    kdf: dict[int, Encodable] = {1: ALGORITHM, 2: ARGON2_VERSION, 3: cost.memory_kib, 4: cost.passes}
    kdf |= {5: cost.lanes, 6: salt}
    head: dict[int, Encodable] = {FORMAT: VERSION, NAME: KIND, KDF: kdf}
    return {**head, TENANT: owner.tenant, USER: owner.user, EPOCH: owner.epoch}


def _key(fields: dict[int, Encodable], password: SecretBytes, cost: Argon2Cost, salt: bytes) -> wrapping.CommittedKey:
    stretched = Argon2id(
        salt=salt, length=32, iterations=cost.passes, lanes=cost.lanes, memory_cost=cost.memory_kib
    ).derive(_normalised(password).encode())
    info = label("door", hashlib.sha256(encode(fields)).digest())
    return wrapping.CommittedKey.derive(salt=salt, ikm=SecretBytes(stretched), info=info)


def _normalised(password: SecretBytes) -> str:
    # The same password typed on another keyboard may arrive composed, decomposed or full-width.
    try:
        text = unicodedata.normalize("NFKC", password.reveal().decode())
    except UnicodeDecodeError:
        raise OutOfBounds("a password is UTF-8 text") from None
    if len(text) > MAX_PASSWORD:
        raise OutOfBounds("a password has at most 1,024 characters")
    return text
