# SPDX-License-Identifier: Apache-2.0
"""The release process's own time: how long ago something was, which nobody shortens by turning a clock.

Implements ESCROW "What it believes of the log" (time). Between two moments lies what the machine's monotonic clock
counted, whatever the wall clock says meanwhile. Dates that people signed are read by the wall clock and by that count.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from holdfast.core.base.encoding import Fields, decode, encode
from kernel.files import make_directory, write_durably

log = logging.getLogger("holdfast.release")

# A machine that keeps its clock by the network corrects it by far less at once: more is a fault, or somebody's work.
STEP_SECONDS: Final = 5
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, order=True)
class Moment:
    """When this process first saw something: seconds on its own count, and UTC seconds by the wall clock then."""

    tick: int
    wall: int


@dataclass(frozen=True)
class Now:
    """The present, and what the past is measured against."""

    tick: int
    wall: int

    @property
    def moment(self) -> Moment:
        """The present as a moment to remember."""
        return Moment(self.tick, self.wall)

    def at(self, moment: Moment) -> int:
        """Return when a moment was, in UTC seconds by today's wall clock: as long ago as was counted."""
        return self.wall - (self.tick - moment.tick)

    def earliest(self, since: Moment) -> int:
        """Return the least time that it can be, in UTC seconds: a date is surely reached when this has reached it."""
        return min(self.wall, since.wall + self.tick - since.tick)

    def latest(self, since: Moment) -> int:
        """Return the latest time that it can be, in UTC seconds: a date is perhaps over when this has reached it."""
        return max(self.wall, since.wall + self.tick - since.tick)


def _wall() -> float:
    return time.time()


def _monotonic() -> float:
    # Counts while the machine sleeps as well, which CLOCK_MONOTONIC does not.
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _boot() -> str:
    return _BOOT_ID.read_text().strip()


@dataclass
class Clock:
    """The count of one release directory.

    It goes on over restarts of the process, and stands still while the machine is off: an outage makes a delay as much
    longer, and a clock that was turned meanwhile makes none shorter.
    """

    path: Path
    wall: Callable[[], float] = _wall
    monotonic: Callable[[], float] = _monotonic
    boot: Callable[[], str] = _boot
    _tick: float = field(init=False)
    _anchor: tuple[float, float] = field(init=False)  # monotonic and wall clock at `_tick`

    def __post_init__(self) -> None:
        self._anchor = (self.monotonic(), self.wall())
        kept = self._kept()
        if kept is None:
            # As good as any beginning, and one that people can read.
            kept = int(self.wall()), 0, ""
        tick, monotonic, boot = kept
        # After another boot its fraction is the monotonic clock's, as at the beginning: of the two, whole seconds are
        # kept, and the next process would otherwise count up to a second less or more than this one had.
        passed = max(0.0, self._anchor[0] - monotonic) if boot == self.boot() else self._anchor[0] % 1
        self._tick = tick + passed
        self.keep()

    def now(self) -> Now:
        """Return the present, after saying so when the wall clock was turned."""
        monotonic, wall = self.monotonic(), self.wall()
        before, wall_before = self._anchor
        step = (wall - wall_before) - (monotonic - before)
        if abs(step) > STEP_SECONDS:
            log.critical("this machine's clock was turned by %+d s; no delay is shorter for it", round(step))
        self._tick, self._anchor = self._tick + (monotonic - before), (monotonic, wall)
        return Now(int(self._tick), int(wall))

    def keep(self) -> None:
        """Write the count down; durable when this returns."""
        body = encode([int(self._tick), int(self._anchor[0]), self.boot()])
        make_directory(self.path.parent)
        write_durably(self.path, body)

    def _kept(self) -> tuple[int, int, str] | None:
        try:
            row = Fields.of_row(decode(self.path.read_bytes()), "clock", 3)
        except FileNotFoundError:
            return None
        return row.uint(0), row.uint(1), row.text(2, maximum=64)
