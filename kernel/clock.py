# SPDX-License-Identifier: Apache-2.0
"""Whose time counts: the database's for every row that another process decides by, and when no clock is believed.

PLATFORM "Clocks"; FAULTS R6, W10. A clock that is wrong for a moment must cost nobody anything afterwards: nothing is
deleted by its age, and no wait is started, on the word of one that has just jumped.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

from django.db import connection
from django.utils import timezone

from kernel import statements

log = logging.getLogger("holdfast.clock")

# By so much may the clocks of hosts that are kept by NTP differ, and more. A row that lies further ahead was written by
# a clock that was wrong: it bars nobody.
SKEW: Final = timedelta(seconds=60)
# How long nothing is deleted by its age after a clock was set: whoever set it wrongly has noticed by then, and nothing
# that is swept an hour later is missed.
DOUBT: Final = timedelta(hours=1)

# Not PostgreSQL's CURRENT_TIMESTAMP, which is when the transaction began: it may have waited long for a lock since.
_NOW: Final = {"postgresql": "SELECT clock_timestamp()", "sqlite": "SELECT strftime('%Y-%m-%dT%H:%M:%f', 'now')"}


def database_now() -> datetime:
    """Return the time by the database's clock: one for all processes, whatever theirs say (FAULTS R6, W10)."""
    ((now,),) = statements.run(_NOW[connection.vendor], ())
    return now if isinstance(now, datetime) else datetime.fromisoformat(now).replace(tzinfo=UTC)


class Steps:
    """Notices that this host's clock was set: it moved otherwise than the monotonic clock, which nobody sets."""

    def __init__(self, wall: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._wall, self._monotonic, self._lock = wall, monotonic, threading.Lock()
        self._apart, self._until = wall() - monotonic(), float("-inf")

    def was_set(self) -> bool:
        """Tell whether the clock was set by more than SKEW in the last hour. Slewing it by a little is no setting."""
        with self._lock:
            now, apart = self._monotonic(), self._wall() - self._monotonic()
            if abs(apart - self._apart) > SKEW.total_seconds():
                self._until = now + DOUBT.total_seconds()
            self._apart = apart
            return now < self._until


_steps: Final = Steps()
_told: Final = threading.Event()


def is_in_doubt() -> bool:
    """Tell whether nothing may be deleted or ended by its age now; said in the log when that begins and when it ends.

    So it is while this process's clock and the database's are more than SKEW apart, and for an hour after this
    host's clock was set. The first shows one wrong clock of several, the second the only one there is.
    """
    was_set = _steps.was_set()
    apart = abs(timezone.now() - database_now())
    if not (was_set or apart > SKEW):
        if _told.is_set():
            _told.clear()
            log.warning("the clock is believed again: what is over is deleted as before")
        return False
    if not _told.is_set():
        _told.set()
        why = f"{apart.total_seconds():.0f} s from the database's" if apart > SKEW else "set within the last hour"
        log.warning("this process's clock is %s: nothing is deleted or ended by its age", why)
    return True
