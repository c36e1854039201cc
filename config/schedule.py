# SPDX-License-Identifier: Apache-2.0
"""The worker's clock: calls what the apps registered with `kernel.queue.every`, each at its own interval."""

from __future__ import annotations

import logging

from kernel.queue import periodic
from kernel.retries import named

log = logging.getLogger("holdfast.schedule")


class Schedule:
    """Remembers when each periodic work was done last in this process; the works themselves are idempotent."""

    def __init__(self) -> None:
        self._last: dict[int, float] = {}

    def tick(self, now: float) -> None:
        """Do everything whose interval is over. A failure is logged and tried again at the next interval."""
        for index, (seconds, work) in enumerate(periodic()):
            if now - self._last.get(index, float("-inf")) < seconds:
                continue
            self._last[index] = now
            try:
                work()
            except Exception as error:  # noqa: BLE001 — one sick schedule must not stop the others
                log.warning("periodic %s failed: %s", getattr(work, "__name__", work), named(error))
