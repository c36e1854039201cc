# SPDX-License-Identifier: Apache-2.0
"""Waiting for what others have to do first, and trying again when another device was faster.

Implements the `wait_seconds` of the commands that wait, and the optimistic writes of chain, vault and messages.
Does not wait longer than it is told to, and never by itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, TypeVar

from holdfast.client.errors import ClientError, NotYet, Problem

_POLL_SECONDS: Final = 1.0  # a person who waits sees it at once; a server hardly notices one request a second
# A person has a few devices, and each writes a few times an hour. Who is overtaken five times in a row is not racing
# with people: the server shows one state and refuses what follows from it.
_RACES: Final = 5

T = TypeVar("T")


class Overtaken(Exception):
    """What an attempt had read is not the newest any more. Raised inside attempts of `retry` alone."""


def wait_for(attempt: Callable[[], T], seconds: int) -> T:
    """Try until it succeeds, every second, for at most `seconds`; then raise NotYet."""
    until = time.monotonic() + seconds
    while True:
        try:
            return attempt()
        except NotYet:
            if time.monotonic() + _POLL_SECONDS > until:
                raise
        time.sleep(_POLL_SECONDS)


def retry(attempt: Callable[[], T], *, lost: ClientError, stale: str = "") -> T:
    """Read, decide and write until nobody is faster, five times at most; then raise `lost`.

    attempt: reads anew each time it is called. It was overtaken when it raises Overtaken, or a Problem whose code is
    `stale`; every other error is the caller's to see.
    """
    for _ in range(_RACES):
        try:
            return attempt()
        except Overtaken:
            continue
        except Problem as problem:
            if problem.code != stale:
                raise
    raise lost


def stale_problem(code: str, detail: str) -> Problem:
    """Return the refusal, as the server words it, of what lost every race."""
    return Problem(status=409, code=code, detail=detail)
