# SPDX-License-Identifier: Apache-2.0
"""This machine's clock, and what a server and a signed log head say of the time beside it.

Implements the time of PROTOCOL section 3 on the device. Speaks to nobody: `transport` tells it what the server said.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from holdfast.core.base.text import duration

# A server may shift this client's idea of the time by a day at most: beyond that a person sets the clock.
MAX_CORRECTION_SECONDS: Final = 86_400
# Heads are signed anew every half minute for whoever asks, and machines that set their clocks by the network differ by
# seconds. An older head, shown again, confirms nothing.
CONFIRMED_WITHIN_SECONDS: Final = 300
_WORTH_CORRECTING_SECONDS: Final = 20  # a signature is good for 60 s: below a third of it nothing is gained
SET_THE_CLOCK: Final = "Whichever is wrong has to be set; then all goes on by itself. Nothing was lost by it."


class Clock:
    """This machine's clock; beside it what a server's 401 said of the time, and what a signed log head confirmed.

    A 401 is the word of one process, which may be wrong or lie. `for_requests` takes it, as that process judges
    requests. `earliest` dates what is signed and stays: never later than this machine's own clock, so that a server
    whose clock is ahead for a moment has nothing dated into the future. `latest` is what expiry is judged by, and from
    when an age counts: never earlier than this machine's own clock, so that a server brings no expired statement back
    to life, and nothing is old before its time.

    `confirmed` is what destroys. Two clocks have to agree, that of the log and this machine's own, uncorrected: by one
    alone a month would be over in the minute in which it jumps.
    """

    def __init__(self, read: Callable[[], float] = time.time) -> None:
        self._read = read
        self._offset = self._said = 0
        self._signed: int | None = None

    def now(self) -> int:
        """Return UTC seconds by this machine's own clock."""
        # A machine without a battery may begin before 1970, which no time here can say.
        return max(0, int(self._read()))

    def for_requests(self) -> int:
        """Return the time by which requests are dated: as the server said, within a day."""
        return self.now() + self._offset

    def earliest(self) -> int:
        """Return the earlier of the machine's and the corrected time, in UTC seconds."""
        return self.now() + min(self._offset, 0)

    def latest(self) -> int:
        """Return the later of the machine's and the corrected time, in UTC seconds."""
        return self.now() + max(self._offset, 0)

    def confirmed(self) -> int | None:
        """Return UTC seconds if a signed head lies within five minutes of this machine's own clock; None otherwise."""
        now = self.now()
        return now if self._signed is not None and abs(now - self._signed) <= CONFIRMED_WITHIN_SECONDS else None

    @property
    def offset(self) -> int:
        """Seconds that the server's clock is ahead of this machine's, as far as requests are corrected by it."""
        return self._offset

    @property
    def said(self) -> int:
        """Seconds that the server's clock is ahead of this machine's, however many, by its last word; 0 for none."""
        return self._said

    def correct(self, server_time: int) -> bool:
        """Take over the server's time; returns whether that changed anything worth another attempt."""
        offset = self._said = server_time - self.now()
        if abs(offset) > MAX_CORRECTION_SECONDS or abs(offset - self._offset) < _WORTH_CORRECTING_SECONDS:
            return False
        self._offset = offset
        return True

    def agreed(self) -> None:
        """Note that the server took a request dated by `for_requests`: whatever it said before, this is its time."""
        self._said = self._offset

    def confirm(self, signed_at: int | None) -> None:
        """Note the time in the newest head that was shown, which the pinned log key has signed; None for no time."""
        self._signed = signed_at

    @property
    def is_off(self) -> bool:
        """Whether the server said another time than this machine's own, by more than clocks differ."""
        return abs(self._said) > CONFIRMED_WITHIN_SECONDS

    def in_words(self) -> str:
        """Say for people how far this machine's clock is from the server's."""
        way = "behind" if self._said > 0 else "ahead of"
        return f"This machine's clock is {duration(abs(self._said))} {way} the server's."
