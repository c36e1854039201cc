# SPDX-License-Identifier: Apache-2.0
"""When a tenant was locked, as its log tells it, and how much of a stretch of time that was.

Implements ORGANISATION "Lock" and ESCROW "What it believes of the log". Pure: times are seconds on the caller's one
count. Whose words an unlocking needs, the caller decides.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

# ESCROW "Case", the default of the long delay: where no policy says another.
DEFAULT_DELAY_SECONDS: Final = 14 * 86400


@dataclass
class Locks:
    """The locks of one tenant, taken in entry by entry. It starts unlocked."""

    over: list[tuple[int, int]] = field(default_factory=list)  # from, until: locks that have ended, oldest first
    since: int | None = None
    asked: int | None = None  # from when on an unlocking may count: since it was asked for, and the delay
    until: int | None = None  # when the lock ends; it may lie ahead

    def lock(self, at: int) -> None:
        """Take in that it was locked, or is to stay so: an unlocking that has not come into effect is over."""
        if self.since is not None and self.until is not None and self.until <= at:
            self.over.append((self.since, self.until))
            self.since = None
        self.since = at if self.since is None else self.since
        self.asked = self.until = None

    def ask(self, at: int, *, delay: int) -> None:
        """Take in that two owners asked for its end; the first such word of a lock counts, until it is locked again."""
        if self.since is not None and self.asked is None:
            self.asked = at + delay

    def unlock(self, at: int) -> bool:
        """Take in that it was unlocked: it ends then, or when the delay is over by this count. False unless asked."""
        if self.since is None or self.asked is None:
            return False
        if self.until is None:
            self.until = max(at, self.asked)
        return True

    def is_locked(self, now: int) -> bool:
        """Tell whether it is locked at a time that lies behind everything taken in."""
        return self.since is not None and (self.until is None or now < self.until)

    def locked_between(self, start: int, end: int) -> int:
        """Return how many seconds between two times it was locked."""
        spans = list(self.over)
        if self.since is not None:
            spans.append((self.since, end if self.until is None else self.until))
        return sum(max(0, min(until, end) - max(since, start)) for since, until in spans)
