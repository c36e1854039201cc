# SPDX-License-Identifier: Apache-2.0
"""Directories and files that only their owner enters: made, looked at, locked.

Implements docs/formats/profile.md (the directory) and FAULTS C3 and Z5 on the client.
Does not encrypt: what is secret comes here sealed, or is read by nobody else by the rights of the file alone.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from holdfast.client.errors import MachineError, ProfileBusy, ProfileError
from holdfast.files import explained, write_whole

_PAUSE_SECONDS: Final = 0.02  # far below what a program holds a profile for, and no load


@contextlib.contextmanager
def locked(directory: Path, *, wait_seconds: float = 0) -> Iterator[None]:
    """Keep others out of a profile, waiting up to `wait_seconds` while one is in.

    Raises ProfileBusy when that one is in still, ProfileError when there is no directory.
    """
    if not directory.is_dir():
        raise no_profile(directory)
    # Two programs at once would each save the state they loaded, and one of two keys would be lost.
    with explained(directory / "lock"):
        descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _wait_for(descriptor, wait_seconds)
        yield
    finally:
        os.close(descriptor)


def _wait_for(descriptor: int, seconds: float) -> None:
    # Asked again and again: the kernel's own waiting ends at no time, and can be ended from no thread but the main one.
    until = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            left = until - time.monotonic()
            if not left > 0:  # no number counts as no time
                raise ProfileBusy(
                    "Another program is using this profile.", way_out="Try again when it has finished."
                ) from None
            time.sleep(min(left, _PAUSE_SECONDS))
        else:
            return


def no_profile(directory: Path) -> ProfileError:
    """Return the refusal of a directory without a profile."""
    return ProfileError(f"There is no profile in {directory}.", way_out="Start one with `holdfast enrol`.")


def make_private_directory(directory: Path) -> None:
    """Make a directory of mode 0700 unless it is there. Raises MachineError when it is open to others."""
    with explained(directory):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    require_private(directory)


def require_private(directory: Path) -> None:
    """Raise MachineError for a directory of another user, or that others may enter."""
    found = directory.stat()
    if found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise MachineError(f"{directory} is open to others.", way_out=f"chmod 700 {directory}, and ask who opened it.")


def write_private(path: Path, octets: bytes | str, *, replaces: bool = False) -> None:
    """Write a file of mode 0600, whole or not at all, in a directory that is made, of mode 0700, where it is missing.

    replaces: in the place of an old one. Raises NameTaken for one that is there otherwise, and FileFailed.
    """
    with explained(path.parent):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_whole(path, octets.encode() if isinstance(octets, str) else octets, replaces=replaces)
