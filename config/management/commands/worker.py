# SPDX-License-Identifier: Apache-2.0
"""`manage.py worker`: runs jobs as they come due, sequences the logs, and keeps the schedules."""

from __future__ import annotations

import logging
import time
from typing import Any

from config.loop import LoopCommand
from config.schedule import Schedule
from kernel import queue

log = logging.getLogger("holdfast.worker")


class Command(LoopCommand):
    help = "Run background work until SIGTERM."

    def handle(self, *args: Any, **options: Any) -> None:
        self.prepare()
        schedule = Schedule()

        def step() -> int:
            schedule.tick(time.monotonic())
            return queue.run_due("worker")

        self.run_until_told(step, log)
