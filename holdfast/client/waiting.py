# SPDX-License-Identifier: Apache-2.0
"""Waiting for what other people, other devices or a delay have to do first.

Implements the `wait_seconds` of the commands that wait.
Does not wait longer than it is told to, and never by itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, TypeVar

from holdfast.client.errors import NotYet

_POLL_SECONDS: Final = 1.0

T = TypeVar("T")


def waited(attempt: Callable[[], T], seconds: int) -> T:
    """Try until it succeeds, every second, for at most `seconds`; then raise NotYet."""
    until = time.monotonic() + seconds
    while True:
        try:
            return attempt()
        except NotYet:
            if time.monotonic() + _POLL_SECONDS > until:
                raise
        time.sleep(_POLL_SECONDS)
