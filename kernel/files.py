# SPDX-License-Identifier: Apache-2.0
"""Writing a small file of a process's own so that no crash leaves a part of it."""

from __future__ import annotations

import os
from pathlib import Path


def write_durably(path: Path, body: bytes) -> None:
    """Write beside, sync, rename, sync the directory: after kill -9 the old or the new body, never a part."""
    beside = path.with_name(f".{path.name}.new")
    beside.unlink(missing_ok=True)
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(body)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
    parent = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(parent)
    finally:
        os.close(parent)
