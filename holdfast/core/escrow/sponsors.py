# SPDX-License-Identifier: Apache-2.0
"""Who stands behind whoever asks: whoever let them and their device in, whoever let those in, and so on back.

Implements ESCROW "Case" (Eligible): nobody asks in another's name and decides on it as well. Knows no clock, row or
log. It walks forward, act by act: whoever stands behind a sponsor comes to stand behind whom they let in. So nothing is
walked back over when somebody asks, and of two people only the last act is kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, TypeVar

# For as long, whoever let a person in may still hold what they made for them: a password, a code, a device.
WITHIN_SECONDS: Final = 90 * 86_400

# However the caller names people.
Person = TypeVar("Person")


def still_behind(behind: Mapping[Person, int], now: int) -> frozenset[Person]:
    """Return who stands behind a person now, of those who came to and when they last did.

    now: in seconds of whichever count the caller has, the same for all.
    """
    return frozenset(one for one, since in behind.items() if now - since <= WITHIN_SECONDS)


def letting_in(by: Iterable[Person], known: Mapping[Person, Mapping[Person, int]], now: int) -> frozenset[Person]:
    """Return who stands behind an act of these people, by which they let somebody in now: they, and those behind them.

    known: person → who came to stand behind them, and when they last did; more people than `by` do no harm. An act is
    inviting, resetting or enrolling a person, or giving them a role.
    """
    sponsors = frozenset(by)
    return sponsors.union(*(still_behind(known.get(one, {}), now) for one in sponsors))
