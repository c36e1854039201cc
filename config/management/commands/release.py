# SPDX-License-Identifier: Apache-2.0
"""`manage.py release`: the release process, alone with the escrow token and its own directory."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from config.memory import close_memory
from recovery import release_process


class Command(BaseCommand):
    help = "Release approved cases until SIGTERM."
    requires_system_checks = ()

    def handle(self, *args: Any, **options: Any) -> None:
        if settings.HOLDFAST_CLOSE_MEMORY:
            close_memory()
        stop = threading.Event()

        def on_signal(number: int, frame: FrameType | None) -> None:
            stop.set()

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, on_signal)
        release_process.run(settings.HOLDFAST_RELEASE_DIR, until=stop.is_set, pause=stop.wait)
