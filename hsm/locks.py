# SPDX-License-Identifier: Apache-2.0
"""A lock that many may share or one may hold alone.

Implements HSM section 6.3: C_Finalize while another thread is inside the library crashes the process.
Is not re-entrant, and not fair among those who share it; who wants it alone goes first.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from hsm.errors import HsmUnavailable


class SharedLock:
    """Shared by operations, exclusive for re-initialisation."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._sharing = 0
        self._waiting = 0
        self._alone = False

    @contextmanager
    def shared(self) -> Iterator[None]:
        with self._changed:
            # Newcomers wait while somebody waits to be alone: a stream of operations would
            # otherwise put off a restart for ever.
            self._changed.wait_for(lambda: not self._alone and not self._waiting)
            self._sharing += 1
        try:
            yield
        finally:
            with self._changed:
                self._sharing -= 1
                self._changed.notify_all()

    @contextmanager
    def exclusive(self, seconds: float) -> Iterator[None]:
        """Raise HsmUnavailable when those who share it have not left within `seconds`."""
        with self._changed:
            self._waiting += 1
            try:
                # Bounded: a thread that hangs inside the module never leaves, and must not take the others with it.
                if not self._changed.wait_for(lambda: not self._alone and not self._sharing, seconds):
                    raise HsmUnavailable("an HSM call has not returned: it cannot be initialised again")
                self._alone = True
            finally:
                # In every case, or a restart that gave up would shut out all operations that follow.
                self._waiting -= 1
                self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._alone = False
                self._changed.notify_all()
