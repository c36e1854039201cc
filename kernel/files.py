# SPDX-License-Identifier: Apache-2.0
"""Writing a small file of a process's own so that no crash leaves a part of it.

A ceremony that root holds writes for other accounts: what it makes belongs to whoever has the directory around it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from holdfast.files import whole_file


def make_directory(path: Path) -> None:
    """Make a directory, and each above it that is missing, which nobody but its account enters (0700)."""
    if path.is_dir():
        return
    make_directory(path.parent)
    path.mkdir(mode=0o700, exist_ok=True)
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _give(descriptor, path.parent)
    finally:
        os.close(descriptor)


def write_durably(path: Path, body: bytes) -> None:
    """Write a file whole, in the place of the old one: after kill -9 the old or the new body, never a part."""
    with durable_file(path) as file:
        file.write(body)


@contextmanager
def durable_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write to piece by piece, which takes the place of the old one as `write_durably` does, at the end."""
    with whole_file(path, replaces=True) as file:
        _give(file.fileno(), path.parent)
        yield file


def _give(descriptor: int, directory: Path) -> None:
    if os.geteuid() == 0:
        owner = directory.stat()
        os.fchown(descriptor, owner.st_uid, owner.st_gid)
