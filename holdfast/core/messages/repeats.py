# SPDX-License-Identifier: Apache-2.0
"""What is sent again, to whom and how often: the rules of acknowledgements, and of a session begun anew.

Implements "Acknowledged and sent again" of docs/formats/messages.md. Knows no session, store or clock.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from typing import Final

_DAY: Final = 86_400
# With one device, by this end. Two, since the first may be lost on its way; with what the peer begins they are the four
# sessions that are kept.
MOST_BEGUN: Final = 2
# With all devices together. Whoever names senders, the server, makes a device claim so many one-time keys and no more;
# a profile put back from a copy meets each of its contacts within days.
MOST_BEGUN_OF_ALL: Final = 200
# With the devices of one other user, and with those of all users together who have never answered this device: junk in
# the name of a few accounts uses up nobody else's.
MOST_BEGUN_OF_ONE: Final = 8
MOST_BEGUN_OF_STRANGERS: Final = 50
# Answers to one device's greetings: those of a day that `MOST_BEGUN` allows it, and as many by its rotations.
MOST_ANSWERED: Final = 4
# A message waits on the server for 30 days: who has not read it by then never will.
KEPT_SECONDS: Final = 30 * _DAY
KEPT_OCTETS: Final = 64 * 1024 * 1024
# Each message counts as so much at least, which bounds how many there are: 16,384.
LEAST_OCTETS: Final = 4 * 1024
# After a refusal, doubled by each further one: a mailbox that is full is full for hours, and `receive --follow` looks
# every two seconds.
_FIRST_PAUSE: Final = 60
_MOST_DOUBLED: Final = 6 * 3600
# What a server may ask for at most.
MOST_PAUSED_SECONDS: Final = _DAY


def of_the_day(times: Iterable[int], now: int) -> tuple[int, ...]:
    """Return those of some times (UTC seconds) that are less than a day off: one of a clock ahead blocks nothing."""
    return tuple(at for at in times if abs(now - at) < _DAY)


def may_begin(begun: Iterable[int], now: int, *, is_confirmed: bool) -> bool:
    """Whether another session may be begun anew with a device. begun: when that was tried, whatever came of it.

    is_confirmed: whether the device is known to have the last of them. Until then it is waited for, a day at most: what
    did not open meanwhile was sent before the device heard of it.
    """
    today = of_the_day(begun, now)
    return len(today) < MOST_BEGUN and (is_confirmed or not today)


def may_answer(answered: Iterable[int], now: int) -> bool:
    """Whether one more of a device's greetings of this day is answered."""
    return len(of_the_day(answered, now)) < MOST_ANSWERED


def pause_seconds(refused: int, asked: float) -> int:
    """Return how long the server is left alone after so many refusals in a row. asked: seconds, by its own word."""
    doubled = min(_FIRST_PAUSE << min(refused - 1, 16), _MOST_DOUBLED)
    return min(max(doubled, math.ceil(asked)), MOST_PAUSED_SECONDS)


def counted(octets: int) -> int:
    """Return as how much a message of so many octets counts against `KEPT_OCTETS`."""
    return max(octets, LEAST_OCTETS)


def still_due(waiting: Collection[bytes], listed: Collection[bytes], *, is_acknowledged: bool) -> frozenset[bytes]:
    """Return the devices that a message still waits for. waiting: those that have not acknowledged it, 16 bytes each.

    listed: those that their owner's chain lists, without the sending one. A device that it lists no longer reads
    nothing. When nobody else has had the message, it is due to the devices that remain.
    """
    left = frozenset(waiting) & frozenset(listed)
    return left if left or is_acknowledged or not waiting else frozenset(listed)
