# SPDX-License-Identifier: Apache-2.0
"""How many passwords are hashed at a time: Argon2id takes a core and 100 MiB, and any stranger may have it done.

Implements FAULTS A1: whoever signs in from where they have before does not wait behind strangers, and neither does
anything else that the process serves.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from django.contrib.auth.hashers import check_password, make_password

from holdfast.core.base import typed
from kernel.errors import Throttled

# Half the cores: what remains serves those who need no password hashed.
_AT_A_TIME: Final = max(1, (os.cpu_count() or 1) // 2)
# Argon2id runs on all cores at once. A room that rests three times as long as it hashed leaves three quarters of the
# machine to everybody else, whatever strangers send; two cores still sign in four newcomers a second.
_REST: Final = 3.0
_LONGEST_REST_SECONDS: Final = 2.0  # on a machine that is busy with other things, nobody waits for its slowness
# One more may wait for each that is hashed. They hold a thread each, of which a process has eight.
_ADMITTED: Final = 2 * _AT_A_TIME
_WAIT_SECONDS: Final = 5.0  # a few hashings of others


class _Room:
    """Who is hashed, who waits, and who is turned away at once."""

    def __init__(self, rest: float = 0.0) -> None:
        self._rest, self._rests_until = rest, 0.0
        self._admitted = threading.BoundedSemaphore(_ADMITTED)
        self._hashed = threading.BoundedSemaphore(_AT_A_TIME)

    def is_full(self) -> bool:
        """Tell, at this moment, whether one more would be turned away."""
        if self._admitted.acquire(blocking=False):
            self._admitted.release()
            return False
        return True

    @contextmanager
    def turn(self) -> Iterator[None]:
        if not self._admitted.acquire(blocking=False):
            raise Throttled(retry_after=2)
        try:
            if not self._hashed.acquire(timeout=_WAIT_SECONDS):
                raise Throttled(retry_after=2)
            try:
                time.sleep(max(0.0, self._rests_until - time.monotonic()))
                began = time.monotonic()
                yield
                now = time.monotonic()
                self._rests_until = now + min(self._rest * (now - began), _LONGEST_REST_SECONDS)
            finally:
                self._hashed.release()
        finally:
            self._admitted.release()


_strangers, _known = _Room(_REST), _Room()


def is_busy() -> bool:
    """Tell whether a stranger's password would be refused its turn: asked before anything else is done for it."""
    return _strangers.is_full()


@contextmanager
def turn(*, is_known: bool) -> Iterator[None]:
    """Hash one password inside. is_known: the account has signed in from this source before.

    Raises Throttled at once when as many are being hashed as may be, and as many wait.
    """
    with (_known if is_known else _strangers).turn():
        yield


def is_right(password: str, kept: str) -> bool:
    """Tell whether a password is the one of a stored hash, in any spelling of it. In a turn, as it hashes."""
    return any(check_password(form, kept) for form in _forms(password))


def waste(password: str) -> None:
    """Do the work of `is_right` for nobody: whoever waits for the answer learns nothing of who there is."""
    for form in _forms(password):
        make_password(form)


def _forms(password: str) -> tuple[str, ...]:
    """Return the forms that a stored hash may be of: the one for every spelling; then, as before, what was typed."""
    return tuple(dict.fromkeys((typed.password(password), password)))
