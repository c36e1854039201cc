# SPDX-License-Identifier: Apache-2.0
"""The vault blob: a user's keyring as the server stores it, sealed under the vault key VK; and its officers' section.

Implements PROTOCOL section 6 "Vault" (fields 1, 2, 4, 5, 6, 7, 8, 9, 10) and ESCROW "Policy and officers".
Does not interpret the keyring, and does not check who wrote it: the `sync` statement around it does.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from holdfast.core.base.encoding import MAX_VAULT, Encodable, Fields, decode, encode, label
from holdfast.core.base.errors import Malformed
from holdfast.core.base.secret import SecretBytes
from holdfast.core.base.writing import require_readable
from holdfast.core.crypto import wrapping

VERSION: Final = 1  # field 1, in info and aad: no older form to fall back to (FAULTS S8)
MAX_KEYRING: Final = MAX_VAULT - 256  # what leaves room for the other fields in 1 MiB

# The numbers of docs/formats/doors.md, "Vault"; 3 is a door's method and stays free here.
FORMAT, NAME, TENANT, USER, EPOCH, REVISION, NONCE, COMMIT, CIPHERTEXT = 1, 2, 4, 5, 6, 7, 8, 9, 10


class Section(StrEnum):
    """The parts of a vault, each under a key and behind doors of its own. Field 2 of a blob, and the label of its key.

    It keeps a door, made of the same fields, from being read as a vault, and one section from being read as the other.
    """

    VAULT = "vault"
    OFFICERS = "officers"  # an officer's keys, which no contact and no export file may bring back


@dataclass(frozen=True, slots=True)
class VaultHeader:
    """Whose vault it is and which one: 16-byte tenant and user, epoch (of the key), version (grows at each write)."""

    tenant: bytes
    user: bytes
    epoch: int
    version: int
    section: Section = Section.VAULT

    def fields(self) -> dict[int, Encodable]:
        """Fields 1..7 of the blob."""
        head: dict[int, Encodable] = {FORMAT: VERSION, NAME: self.section.value}
        return {**head, TENANT: self.tenant, USER: self.user, EPOCH: self.epoch, REVISION: self.version}


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
    committed = _key(header, nonce, vault_key)
    bound = {**fields, NONCE: nonce}
    sealed = wrapping.encrypt(keyring, key=committed.key, nonce=nonce, aad=encode(bound))
    blob = encode({**bound, COMMIT: committed.commit(), CIPHERTEXT: sealed})
    return require_readable(lambda octets: read_header(octets, header.section), blob)


def open_vault(blob: bytes, *, vault_key: SecretBytes, expect: VaultHeader) -> SecretBytes:
    """Return the keyring. The caller states whose vault, and which epoch and version, it expects.

    Raises Malformed for bytes outside the format or of another section; UnwrapFailed for a wrong key, tampering, or a
    blob of another tenant, user, epoch or version, alike.
    """
    _header, nonce, commit, sealed = _parse(blob, expect.section)
    # Computed from what is expected, never from what the blob says: another user's blob or an old version
    # then fails as a wrong key does.
    fields = expect.fields()
    committed = _key(expect, nonce, vault_key)
    committed.require(commit)
    return wrapping.decrypt(sealed, key=committed.key, nonce=nonce, aad=encode({**fields, NONCE: nonce}))


def read_header(blob: bytes, section: Section = Section.VAULT) -> VaultHeader:
    """Return what a blob says of itself, unauthenticated. Raises Malformed for bytes outside the format."""
    return _parse(blob, section)[0]


def _key(header: VaultHeader, nonce: bytes, vault_key: SecretBytes) -> wrapping.CommittedKey:
    info = label(header.section.value, header.fields())
    return wrapping.CommittedKey.derive(salt=nonce, ikm=vault_key, info=info)


def _parse(blob: bytes, section: Section) -> tuple[VaultHeader, bytes, bytes, bytes]:
    # All of them and no others: a field that a reader skips is a field that a server may fill.
    keys = (FORMAT, NAME, TENANT, USER, EPOCH, REVISION, NONCE, COMMIT, CIPHERTEXT)
    read = Fields(decode(blob, max_size=MAX_VAULT), "vault", keys)
    read.uint(FORMAT, minimum=VERSION, maximum=VERSION)
    if read.text(NAME) != section.value:
        raise Malformed("vault: another kind of blob")
    header = VaultHeader(read.octets(TENANT, 16), read.octets(USER, 16), read.uint(EPOCH), read.uint(REVISION), section)
    sealed = read.octets(CIPHERTEXT)
    if len(sealed) < wrapping.TAG_SIZE:
        raise read.refuse(CIPHERTEXT, "is shorter than a tag")
    return header, read.octets(NONCE, wrapping.NONCE_SIZE), read.octets(COMMIT, wrapping.COMMIT_SIZE), sealed
