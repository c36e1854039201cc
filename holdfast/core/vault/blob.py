# SPDX-License-Identifier: Apache-2.0
"""The vault blob: a user's keyring as the server stores it, sealed under the vault key VK.

Implements PROTOCOL section 6 "Vault" (fields 1, 2, 4, 5, 6, 7, 8, 9, 10).
Does not interpret the keyring, and does not check who wrote it: the `sync` statement around it does.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from holdfast.core.base.encoding import MAX_VAULT, Encodable, Fields, decode, encode, label
from holdfast.core.base.errors import Malformed
from holdfast.core.base.secret import SecretBytes
from holdfast.core.crypto import wrapping

VERSION: Final = 1  # field 1, in info and aad: no older form to fall back to (FAULTS S8)
KIND: Final = "vault"  # field 2: keeps a door, made of the same fields, from being read as a vault
MAX_KEYRING: Final = MAX_VAULT - 256  # what leaves room for the other fields in 1 MiB

# The numbers of docs/formats/doors.md, "Vault"; 3 is a door's method and stays free here.
FORMAT, NAME, TENANT, USER, EPOCH, REVISION, NONCE, COMMIT, CIPHERTEXT = 1, 2, 4, 5, 6, 7, 8, 9, 10


@dataclass(frozen=True, slots=True)
class VaultHeader:
    """Whose vault it is and which one: 16-byte tenant and user, epoch (of VK), version (grows at each write)."""

    tenant: bytes
    user: bytes
    epoch: int
    version: int

    def fields(self) -> dict[int, Encodable]:
        """Fields 1..7 of the blob."""
        head: dict[int, Encodable] = {FORMAT: VERSION, NAME: KIND, TENANT: self.tenant, USER: self.user}
        return {**head, EPOCH: self.epoch, REVISION: self.version}


def new_vault_key() -> SecretBytes:
    """Return a fresh vault key VK of 32 bytes."""
    return SecretBytes(secrets.token_bytes(wrapping.KEY_SIZE))


def seal_vault(keyring: SecretBytes, *, vault_key: SecretBytes, header: VaultHeader) -> bytes:
    """Encrypt a keyring (at most 1 MiB less 256 bytes) into a vault blob of about 140 bytes more.

    The nonce is also the salt of the key, so that a vault written twice at one version (two devices, a
    rolled-back state) still never meets the same key and nonce. Raises ValueError when the keyring is too long.
    """
    if len(keyring) > MAX_KEYRING:
        raise ValueError("a vault holds at most 1 MiB")
    # One value for two ends: as salt it gives each write a key of its own, so that 12 random bytes are never too few.
    nonce = secrets.token_bytes(wrapping.NONCE_SIZE)
    fields = header.fields()
    committed = _key(fields, nonce, vault_key)
    bound = {**fields, NONCE: nonce}
    sealed = wrapping.encrypt(keyring, key=committed.key, nonce=nonce, aad=encode(bound))
    return encode({**bound, COMMIT: committed.commit(), CIPHERTEXT: sealed})


def open_vault(blob: bytes, *, vault_key: SecretBytes, expect: VaultHeader) -> SecretBytes:
    """Return the keyring. The caller states whose vault, and which epoch and version, it expects.

    Raises Malformed for bytes outside the format; UnwrapFailed for a wrong key, tampering, or a blob of
    another tenant, user, epoch or version, alike.
    """
    _header, nonce, commit, sealed = _parse(blob)
    # Computed from what is expected, never from what the blob says: another user's blob or an old version
    # then fails as a wrong key does.
    fields = expect.fields()
    committed = _key(fields, nonce, vault_key)
    committed.require(commit)
    return wrapping.decrypt(sealed, key=committed.key, nonce=nonce, aad=encode({**fields, NONCE: nonce}))


def read_header(blob: bytes) -> VaultHeader:
    """Return what a blob says of itself, unauthenticated. Raises Malformed for bytes outside the format."""
    return _parse(blob)[0]


def _key(fields: Mapping[int, Encodable], nonce: bytes, vault_key: SecretBytes) -> wrapping.CommittedKey:
    return wrapping.CommittedKey.derive(salt=nonce, ikm=vault_key, info=label("vault", fields))


def _parse(blob: bytes) -> tuple[VaultHeader, bytes, bytes, bytes]:
    # All of them and no others: a field that a reader skips is a field that a server may fill.
    keys = (FORMAT, NAME, TENANT, USER, EPOCH, REVISION, NONCE, COMMIT, CIPHERTEXT)
    read = Fields(decode(blob, max_size=MAX_VAULT), "vault", keys)
    read.uint(FORMAT, minimum=VERSION, maximum=VERSION)
    if read.text(NAME) != KIND:
        raise Malformed("vault: another kind of blob")
    header = VaultHeader(read.octets(TENANT, 16), read.octets(USER, 16), read.uint(EPOCH), read.uint(REVISION))
    sealed = read.octets(CIPHERTEXT)
    if len(sealed) < wrapping.TAG_SIZE:
        raise read.refuse(CIPHERTEXT, "is shorter than a tag")
    return header, read.octets(NONCE, wrapping.NONCE_SIZE), read.octets(COMMIT, wrapping.COMMIT_SIZE), sealed
