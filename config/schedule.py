# SPDX-License-Identifier: Apache-2.0
"""The worker's clock: calls what the apps registered with `kernel.queue.every`, each at its own interval."""

from __future__ import annotations

import logging

from kernel.queue import periodic
from kernel.retries import Retries, is_worth_a_line, named

log = logging.getLogger("holdfast.schedule")


class Schedule:
    """Remembers when each periodic work was done last in this process; the works themselves are idempotent."""

    def __init__(self) -> None:
        self._last: dict[int, float] = {}
        self._failing = Retries(first=0, longest=0)  # for the log alone: each is tried again at its next interval

    def tick(self, now: float) -> None:
        """Do everything whose interval is over. A failure is tried again then, and logged ever less often."""
        for index, (seconds, work) in enumerate(periodic()):
            if now - self._last.get(index, float("-inf")) < seconds:
                continue
            self._last[index] = now
            try:
                work()
            except Exception as error:  # noqa: BLE001 — one sick schedule must not stop the others
                count = self._failing.failed(index)
                if is_worth_a_line(count):
                    log.warning(
                        "periodic %s failed: %s (%d in a row)", getattr(work, "__name__", work), named(error), count
                    )
            else:
                self._failing.worked(index)
