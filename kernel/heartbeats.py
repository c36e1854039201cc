# SPDX-License-Identifier: Apache-2.0
"""When each lane of the processes that run in the background was last seen at work: one row for each.

PLATFORM "Running it": `/readyz` names what is away. A row says that somebody could write it, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from django.db import transaction
from django.db.models.functions import Now

from kernel.models import Heartbeat

# Often enough for a page that says after a minute that something is away.
_EVERY_SECONDS = 5.0


class Beat:
    """Says of one lane that it works, at most once in five seconds."""

    def __init__(self, name: str, *, clock: Callable[[], float]) -> None:
        self._name, self._clock, self._last = name, clock, float("-inf")

    def give(self) -> None:
        """Write the time down, if it is due. Raises DatabaseError."""
        now = self._clock()
        if now - self._last >= _EVERY_SECONDS:
            note(self._name)
            self._last = now


def note(name: str) -> None:
    """Write down that `name` works now. Raises DatabaseError: also when the database reads and takes nothing more."""
    with transaction.atomic():
        Heartbeat.objects.update_or_create(name=name, defaults={"at": Now()})


def ages() -> dict[str, timedelta]:
    """Return, for each lane that was ever seen, how long ago that was, by the database's clock as they were written.

    A row of the future was written by a clock that was ahead. It says as little as one that is as old.
    """
    return {row.name: abs(row.now - row.at) for row in Heartbeat.objects.annotate(now=Now())}
