# SPDX-License-Identifier: Apache-2.0
"""`manage.py release`: the release process, the only one that opens the escrow token."""

from __future__ import annotations

import logging
import signal
import threading
from types import FrameType
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError

from config.hsm import verify_at_start
from config.memory import close_memory
from hsm.errors import HsmError
from recovery.release.process import open_process

log = logging.getLogger("holdfast.release")

PAUSE_SECONDS = 0.2
AWAY_SECONDS = 2.0


class Command(BaseCommand):
    help = "Verify approved cases against the log and have the HSM re-wrap, until SIGTERM."
    requires_system_checks = ()

    def handle(self, *args: Any, **options: Any) -> None:
        if settings.HOLDFAST_ROLE != "release":
            raise CommandError("Run it with HOLDFAST_ROLE=release, as its own account, with its own PINs.")
        if settings.HOLDFAST_CLOSE_MEMORY:
            close_memory()
        try:
            verify_at_start()
        except HsmError as error:
            raise CommandError(str(error)) from error
        stop = threading.Event()

        def on_signal(number: int, frame: FrameType | None) -> None:
            stop.set()

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, on_signal)
        try:
            with open_process(settings.HOLDFAST_RELEASE_DIR) as process:
                while not stop.is_set():
                    try:
                        if not process.tick():
                            stop.wait(PAUSE_SECONDS)
                    except DatabaseError as error:
                        log.warning("the database is away (%s)", type(error).__name__)
                        stop.wait(AWAY_SECONDS)
        except BlockingIOError as error:
            raise CommandError(f"Another release process holds {settings.HOLDFAST_RELEASE_DIR}.") from error
