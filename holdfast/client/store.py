# SPDX-License-Identifier: Apache-2.0
"""Where a profile is kept: a private directory with one encrypted file, or memory.

Implements the password door and the vault construction of PROTOCOL section 6 for a local file.
Does not know what the state means, and cannot protect it from another program of the same user.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Protocol

from holdfast.client.errors import ProfileError, WrongPassphrase
from holdfast.core import doors
from holdfast.core.doors import Argon2Cost, DoorOwner
from holdfast.core.encoding import MAX_VAULT, Fields, decode, encode
from holdfast.core.errors import HoldfastError, UnwrapFailed
from holdfast.core.secret import SecretBytes
from holdfast.core.vault import VaultHeader, new_vault_key, open_vault, seal_vault

STATE_FILE: Final = "state.holdfast"
_FORMAT: Final = 1
_MAX_FILE: Final = MAX_VAULT + 4096


class Store(Protocol):
    """Keeps one byte string. `save` has replaced it wholly and durably when it returns, or not at all."""

    def load(self) -> bytes | None:
        """Return what was last saved, or None."""

    def save(self, octets: bytes) -> None:
        """Replace what is kept."""

    def locked(self) -> contextlib.AbstractContextManager[None]:
        """Keep other holders of the same store out. Raises ProfileError when one is in already."""


class MemoryStore:
    """A store for tests and for programs that keep state elsewhere."""

    def __init__(self) -> None:
        self._octets: bytes | None = None

    def load(self) -> bytes | None:
        return self._octets

    def save(self, octets: bytes) -> None:
        self._octets = octets

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        yield


class DirectoryStore:
    """A directory of mode 0700 holding one file of mode 0600, replaced atomically."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._file = directory / STATE_FILE

    def create(self) -> None:
        """Make the directory. Raises ProfileError when it holds a profile already or is not private."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._require_private()
        if self._file.exists():
            raise ProfileError(f"{self.directory} holds a profile already.")

    def load(self) -> bytes | None:
        if not self._file.exists():
            return None
        self._require_private()
        with self._file.open("rb") as file:
            return file.read(_MAX_FILE + 1)

    def save(self, octets: bytes) -> None:
        write_private(self._file, octets)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        # Two commands at once would each save the state they loaded, and one of two keys would be lost.
        descriptor = os.open(self.directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ProfileError(
                    "Another holdfast command is using this profile.", way_out="Wait until it has finished."
                ) from None
            yield
        finally:
            os.close(descriptor)

    def _require_private(self) -> None:
        found = self.directory.stat()
        if found.st_uid != os.geteuid() or found.st_mode & 0o077:
            raise ProfileError(
                f"{self.directory} is open to others.",
                way_out=f"chmod 700 {self.directory}, and ask who opened it.",
            )


def write_private(path: Path, octets: bytes | str) -> None:
    """Write a file of mode 0600 so that after a crash the old or the new content is there, never a part.

    Written beside, flushed to the disk, renamed over, and the rename flushed too. A missing directory is made,
    of mode 0700.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    data = octets.encode() if isinstance(octets, str) else octets
    beside = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    parent = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(parent)
    finally:
        os.close(parent)


class Safe:
    """A store whose content is encrypted under a passphrase. The passphrase is stretched once, at opening.

    The file is dCBOR{1: 1, 2: tenant, 3: user, 4: version, 5: password door, 6: vault blob}: the same two
    constructions as on the server, under a key of this file alone.
    """

    def __init__(self, store: Store, header: VaultHeader, key: SecretBytes, door: bytes) -> None:
        self._store = store
        self._header = header
        self._key = key
        self._door = door

    @classmethod
    def create(
        cls,
        store: Store,
        *,
        tenant: bytes,
        user: bytes,
        passphrase: SecretBytes,
        cost: Argon2Cost = doors.DEFAULT_COST,
    ) -> Safe:
        """Start an empty one; nothing is written before the first save. Raises OutOfBounds for a short passphrase."""
        key = new_vault_key()
        door = doors.seal_password_door(key, password=passphrase, owner=DoorOwner(tenant, user, 0), cost=cost)
        return cls(store, VaultHeader(tenant, user, 0, 0), key, door)

    @classmethod
    def open(cls, store: Store, *, passphrase: SecretBytes) -> tuple[Safe, SecretBytes]:
        """Open what is kept, and return it. Raises WrongPassphrase, and ProfileError for none or a damaged one."""
        octets = store.load()
        if octets is None:
            raise ProfileError("There is no profile here.", way_out="Start one with `holdfast enrol`.")
        try:
            read = Fields(decode(octets, max_size=_MAX_FILE), "profile", range(1, 7))
            read.uint(1, minimum=_FORMAT, maximum=_FORMAT)
            header = VaultHeader(read.octets(2, 16), read.octets(3, 16), 0, read.uint(4))
            door, blob = read.octets(5), read.octets(6)
            try:
                owner = DoorOwner(header.tenant, header.user, 0)
                key = doors.open_password_door(door, password=passphrase, owner=owner)
            except UnwrapFailed:
                raise WrongPassphrase("The passphrase does not open this profile.") from None
            return cls(store, header, key, door), open_vault(blob, vault_key=key, expect=header)
        except HoldfastError as error:
            raise ProfileError(
                f"The profile is damaged ({error}).",
                way_out="Restore it from a backup, or recover the account.",
            ) from error

    @property
    def tenant(self) -> bytes:
        """The 16-byte tenant whose profile this is."""
        return self._header.tenant

    @property
    def user(self) -> bytes:
        """The 16-byte person whose profile this is."""
        return self._header.user

    def save(self, state: SecretBytes) -> None:
        """Encrypt and keep the state, under a version one higher."""
        header = VaultHeader(self._header.tenant, self._header.user, 0, self._header.version + 1)
        blob = seal_vault(state, vault_key=self._key, header=header)
        self._store.save(
            encode({1: _FORMAT, 2: header.tenant, 3: header.user, 4: header.version, 5: self._door, 6: blob})
        )
        self._header = header

    def locked(self) -> contextlib.AbstractContextManager[None]:
        """Keep other commands out of this profile meanwhile."""
        return self._store.locked()
