# SPDX-License-Identifier: Apache-2.0
"""`manage.py worker`: runs jobs as they come due, hands mail over and keeps the schedules, each in its own lane."""

from __future__ import annotations

import logging
import time
from typing import Any

from config.loop import LoopCommand
from config.schedule import Schedule
from kernel import queue

log = logging.getLogger("holdfast.worker")

# A mail server that hangs is given up after ten seconds: after so few, others get their turn to be looked at.
_MAILS_A_ROUND = 5


class Command(LoopCommand):
    help = "Run background work until SIGTERM."

    def handle(self, *args: Any, **options: Any) -> None:
        self.prepare()
        schedule = Schedule()

        def keep_schedule() -> int:
            schedule.tick(time.monotonic())
            return 0

        lanes = {
            "worker/schedule": keep_schedule,
            "worker/jobs": lambda: queue.run_due("worker"),
            "worker/mail": lambda: queue.run_due(queue.MAIL, limit=_MAILS_A_ROUND),
        }
        self.run_until_told(lanes, log)
