# SPDX-License-Identifier: Apache-2.0
"""How many passwords are hashed at a time: Argon2id takes a core and 100 MiB, and any stranger may have it done.

Implements FAULTS A1: whoever signs in from where they have before does not wait behind strangers, and neither does
anything else that the process serves.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from kernel.errors import Throttled

# Half the cores: what remains serves those who need no password hashed.
_AT_A_TIME: Final = max(1, (os.cpu_count() or 1) // 2)
# One more may wait for each that is hashed. They hold a thread each, of which a process has eight.
_ADMITTED: Final = 2 * _AT_A_TIME
_WAIT_SECONDS: Final = 5.0  # a few hashings of others


class _Room:
    """Who is hashed, who waits, and who is turned away at once."""

    def __init__(self) -> None:
        self._admitted = threading.BoundedSemaphore(_ADMITTED)
        self._hashed = threading.BoundedSemaphore(_AT_A_TIME)

    @contextmanager
    def turn(self) -> Iterator[None]:
        if not self._admitted.acquire(blocking=False):
            raise Throttled(retry_after=2)
        try:
            if not self._hashed.acquire(timeout=_WAIT_SECONDS):
                raise Throttled(retry_after=2)
            try:
                yield
            finally:
                self._hashed.release()
        finally:
            self._admitted.release()


_strangers, _known = _Room(), _Room()


@contextmanager
def turn(*, is_known: bool) -> Iterator[None]:
    """Hash one password inside. is_known: the account has signed in from this source before.

    Raises Throttled at once when as many are being hashed as may be, and as many wait.
    """
    with (_known if is_known else _strangers).turn():
        yield
