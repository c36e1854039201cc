# SPDX-License-Identifier: Apache-2.0
"""The writing side held to the reading side: what a writer gives out, its own reader has read.

Implements the rule that what goes into a signed statement, a message or a store is checked before it is kept: what no
reader takes would be lost later, where nobody can mend it.
Does not know any format: each class names its reader, and the reader's rules are the only ones.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TypeVar

from holdfast.core.base.errors import HoldfastError

S = TypeVar("S")
W = TypeVar("W")


def require_readable(read: Callable[[W], object], written: W) -> W:
    """Return what was written once its reader has taken it; raises ValueError with the reader's reason otherwise."""
    try:
        read(written)
    except HoldfastError as error:
        raise ValueError(f"nobody could read this back: {error}") from error
    return written


def read_back(reader: str) -> Callable[[Callable[[S], W]], Callable[[S], W]]:
    """Decorate a writing method, so that it returns only what the class's own method `reader` takes.

    The method then raises ValueError, with the reader's reason, for what it refuses: the caller's mistake. Without
    the check it is `method.__wrapped__`, for whoever plays a liar.
    """

    def decorate(write: Callable[[S], W]) -> Callable[[S], W]:
        @functools.wraps(write)
        def checked(self: S) -> W:
            return require_readable(getattr(type(self), reader), write(self))

        return checked

    return decorate
