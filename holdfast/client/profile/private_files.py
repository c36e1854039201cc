# SPDX-License-Identifier: Apache-2.0
"""Files and directories that only their owner enters: made, written so that a crash leaves no part, locked.

Implements docs/formats/profile.md (the directory) and FAULTS C3 and Z5 on the client.
Does not encrypt: what is secret comes here sealed, or is read by nobody else by the rights of the file alone.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from holdfast.client.errors import MachineError, ProfileError


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Keep others out of a profile. Raises ProfileError when one is in already, or there is no directory."""
    if not directory.is_dir():
        raise no_profile(directory)
    # Two commands at once would each save the state they loaded, and one of two keys would be lost.
    descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
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


def no_profile(directory: Path) -> ProfileError:
    """Return the refusal of a directory without a profile."""
    return ProfileError(f"There is no profile in {directory}.", way_out="Start one with `holdfast enrol`.")


def make_private_directory(directory: Path) -> None:
    """Make a directory of mode 0700 unless it is there. Raises ProfileError when it is open to others."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    require_private(directory)


def require_private(directory: Path) -> None:
    """Raise ProfileError for a directory of another user, or that others may enter."""
    found = directory.stat()
    if found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise MachineError(f"{directory} is open to others.", way_out=f"chmod 700 {directory}, and ask who opened it.")


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
    flush_directory(path.parent)


def flush_directory(directory: Path) -> None:
    """Make what was renamed in a directory durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
