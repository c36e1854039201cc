# SPDX-License-Identifier: Apache-2.0
"""`manage.py worker`: runs jobs as they come due, sequences the logs, and keeps the schedules."""

from __future__ import annotations

import logging
import signal
import threading
import time
from types import FrameType
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError, close_old_connections

from config.hsm import verify_at_start
from config.memory import close_memory
from config.schedule import Schedule
from hsm.errors import HsmError
from kernel import queue

log = logging.getLogger("holdfast.worker")

PAUSE_SECONDS = 0.2
AWAY_SECONDS = 2.0


class Command(BaseCommand):
    help = "Run background work until SIGTERM."
    requires_system_checks = ()

    def handle(self, *args: Any, **options: Any) -> None:
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
        schedule = Schedule()
        while not stop.is_set():
            close_old_connections()
            try:
                schedule.tick(time.monotonic())
                if not queue.run_due("worker"):
                    stop.wait(PAUSE_SECONDS)
            except DatabaseError as error:
                log.warning("the database is away (%s)", type(error).__name__)
                stop.wait(AWAY_SECONDS)
