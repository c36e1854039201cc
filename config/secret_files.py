# SPDX-License-Identifier: Apache-2.0
"""Secrets that come in files: a password, a key. One reader for all of them (FAULTS Z3)."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from holdfast.core.base import typed
from holdfast.core.base.errors import Mistyped

# Longer than any password or key: what is longer is another file.
_LONGEST: Final = 4096  # bytes


def read_secret(path: Path) -> str:
    """Return the first line of a file that shows anything, without spaces and what nobody sees at its ends.

    Raises ValueError, in words for the operator, when the file is absent, unreadable, empty, or no text of that length.
    """
    try:
        with path.open("rb") as file:
            octets = file.read(_LONGEST + 1)
    except FileNotFoundError:
        raise ValueError(f"there is no file at {path}") from None
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    if len(octets) > _LONGEST:
        raise ValueError(f"{path} is longer than any password; name the right file")
    try:
        secret = typed.secret_text(octets, str(path))
    except Mistyped:
        raise ValueError(f"{path} is not text in UTF-8; name the right file") from None
    if not secret:
        raise ValueError(f"{path} is empty")
    return secret
