# SPDX-License-Identifier: Apache-2.0
"""What every command that works until SIGTERM does around its work.

Memory is closed, tokens are verified, and a database that is away is waited for.
"""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable
from types import FrameType

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError, close_old_connections

from config.hsm import verify_at_start
from config.memory import close_memory
from hsm.errors import HsmError

_PAUSE_SECONDS = 0.2  # when nothing was due: a person who waits for a notice or a release does not notice it
_AWAY_SECONDS = 2.0  # a database that starts again is not helped by being asked all the time


class LoopCommand(BaseCommand):
    """A command that does one step after another until it is told to stop."""

    requires_system_checks = ()

    def prepare(self) -> None:
        """Close this process's memory, and see that its tokens are those it expects. Raises CommandError."""
        if settings.HOLDFAST_CLOSE_MEMORY:
            close_memory()
        try:
            verify_at_start()
        except HsmError as error:
            raise CommandError(str(error)) from error

    def run_until_told(self, step: Callable[[], int], log: logging.Logger) -> None:
        """Call `step` until SIGTERM or SIGINT; it returns how much it did, and is called again at once after any."""
        stop = threading.Event()

        def on_signal(number: int, frame: FrameType | None) -> None:
            stop.set()

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, on_signal)
        while not stop.is_set():
            close_old_connections()
            try:
                done = step()
            except DatabaseError as error:
                log.warning("the database is away (%s)", type(error).__name__)
                stop.wait(_AWAY_SECONDS)
                continue
            if not done:
                stop.wait(_PAUSE_SECONDS)
