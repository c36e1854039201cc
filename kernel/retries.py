# SPDX-License-Identifier: Apache-2.0
"""When to try again what failed, and what a log may say of a failure that nobody foresaw.

PLATFORM "Work that takes time": one thing's trouble is its own. It is named, counted and left alone a little longer
each time, and everything else goes on. Pure but for the clock that it is handed; it retries nothing itself.
"""

from __future__ import annotations

import errno
import os
import threading
import time
import traceback
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

# So many things that fail at once are remembered. The oldest is forgotten, and so tried again too soon: no harm.
MOST: Final = 10_000
_PROJECT: Final = str(Path(__file__).resolve().parents[1])


def pause_seconds(failures: int, *, first: float, longest: float) -> float:
    """Return how long to leave a thing alone that has failed so often in a row: doubled each time, up to `longest`."""
    # Beyond that many doublings every pause is the longest one; the power itself must not grow without end.
    return min(first * 2.0 ** min(max(failures - 1, 0), 64), longest)


@dataclass
class Retries:
    """Which things have failed, how often in a row, and until when each is left alone: in this process's memory.

    first, longest: seconds, as `pause_seconds` takes them. clock: seconds that only grow.
    """

    first: float
    longest: float
    clock: Callable[[], float] = time.monotonic
    _failed: dict[Hashable, tuple[int, float]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)  # the worker's lanes share what is of the queue

    def left(self, key: Hashable) -> float:
        """Return for how many seconds a thing is still left alone; 0 when it may be tried."""
        failed = self._failed.get(key)
        return max(0.0, failed[1] - self.clock()) if failed else 0.0

    def failed(self, key: Hashable) -> int:
        """Note one more failure in a row, and return how many there were."""
        with self._lock:
            count = self._failed.pop(key, (0, 0.0))[0] + 1
            if len(self._failed) >= MOST:
                del self._failed[next(iter(self._failed))]
            pause = pause_seconds(count, first=self.first, longest=self.longest)
            self._failed[key] = (count, self.clock() + pause)
        return count

    def worked(self, key: Hashable) -> None:
        """Forget the failures of a thing that has worked, or is over."""
        with self._lock:
            self._failed.pop(key, None)


def is_worth_a_line(count: int) -> bool:
    """Tell whether a failure is logged: the first in a row, the second, the fourth, the eighth and so on.

    What stays broken must neither fill the log nor be forgotten in it.
    """
    return count & (count - 1) == 0


def named(error: BaseException) -> str:
    """Say what failed and where in our code, without the error's own text: that may hold what was worked on.

    Of what the operating system refused, its own word for it is said too: a full disk is for a person to mend.
    """
    name = type(error).__name__
    if isinstance(error, OSError) and error.errno is not None and error.errno in errno.errorcode:
        name += f" ({os.strerror(error.errno)})"
    places = [(frame.f_code.co_filename, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    ours = [place for place in places if place[0].startswith(_PROJECT) and "site-packages" not in place[0]]
    if not ours:
        return name
    path, line = ours[-1]
    return f"{name} at {path[len(_PROJECT) + 1 :]}:{line}"
