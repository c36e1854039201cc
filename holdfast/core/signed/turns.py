# SPDX-License-Identifier: Apache-2.0
"""Whose turn it is: how two copies of one profile are told from one, though both sign with the same key.

Implements docs/formats/requests.md (Turns). Each time a profile is opened for its server, it draws a mark and says it
with every request, beside the mark of the opening before, as the server acknowledged it. A profile that was copied, or
put back from an older copy, names one that is not the newest.

Pure: the client keeps its marks, and the server the newest.
"""

import re
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

from holdfast.core.base.encoding import b64u, unb64u
from holdfast.core.base.errors import Malformed
from holdfast.core.signed.requests import WINDOW_SECONDS

MARK_SIZE: Final = 8  # bytes, at random: nobody gains by meeting another's, so that chance alone has to be kept out
# How long a request of the opening before may still be on its way. It is signed before the next one begins, by a clock
# that may be a window ahead, and taken for a window after that.
LATE_SECONDS: Final = 2 * WINDOW_SECONDS
_FIELD: Final = re.compile(r"([A-Za-z0-9_-]{11})\.((?:[A-Za-z0-9_-]{11})?)", re.ASCII)


@dataclass(frozen=True)
class Turn:
    """What a request says: the mark of this opening, and of the one before; b"" before the first. 8 bytes each."""

    mark: bytes
    before: bytes

    @property
    def text(self) -> str:
        """The value of the field holdfast-turn of a request."""
        return f"{b64u(self.mark)}.{b64u(self.before)}"

    @classmethod
    def parse(cls, text: str) -> "Turn":
        """Read the field of a request. Raises Malformed for any other form than `text` gives."""
        found = _FIELD.fullmatch(text)
        if found is None:
            raise Malformed("request: holdfast-turn is not two marks")
        return cls(unb64u(found[1]), unb64u(found[2]))


# What a request says that says nothing, once its credential has a mark. No profile draws it but by a chance of 2^-64.
_UNSAID: Final = Turn(bytes(MARK_SIZE), b"")


class Verdict(Enum):
    """What a server finds of a turn."""

    SAME = "the newest opening goes on"
    LATE = "a request of the opening before comes late"
    NEXT = "a new opening follows the newest"
    BROKEN = "it does not follow the newest: there are two copies, or an older one was put back"


@dataclass(frozen=True)
class Kept:
    """What the server keeps of one credential.

    mark: of the newest opening, b"" for none yet. before: of the newest one before it, b"" for none. breaks: how often
    one did not follow. is_break: whether the newest one did not, which every answer to it says again. since: when the
    newest opening began, in UTC seconds by the server's clock.
    """

    mark: bytes = b""
    before: bytes = b""
    breaks: int = 0
    is_break: bool = False
    since: int = 0


def follow(kept: Kept, said: Turn | None, now: int) -> tuple[Verdict, Kept]:
    """Return what a turn is to a server, and what the server keeps from now on. now: UTC seconds by its clock.

    said: None for a request without a turn. That is a client of before, until the credential has a mark; then a profile
    is known that says its turn, and whoever does not is another.

    One that does not follow is taken over all the same: a profile that was put back goes on, and where there are two
    copies, the other one is found out by its own next request.
    """
    if said is None:
        if not kept.mark:
            return Verdict.SAME, kept
        said = _UNSAID
    if said.mark == kept.mark:
        return Verdict.SAME, kept
    is_back = said.mark == kept.before
    if is_back and not kept.is_break and now <= kept.since + LATE_SECONDS:
        return Verdict.LATE, kept
    # One that was followed and still goes on does not follow, though it may name what is the newest now.
    if not kept.mark or (said.before == kept.mark and not is_back):
        return Verdict.NEXT, replace(kept, mark=said.mark, before=kept.mark, is_break=False, since=now)
    return Verdict.BROKEN, Kept(said.mark, kept.mark, kept.breaks + 1, is_break=True, since=now)


@dataclass(frozen=True)
class Answered:
    """What an answer says of a turn: whose mark it took; when it is a break, how many there were, else 0."""

    mark: bytes
    breaks: int = 0

    @property
    def text(self) -> str:
        """The value of the field holdfast-turn of an answer."""
        return f"{b64u(self.mark)}.{self.breaks}"

    @classmethod
    def parse(cls, text: str) -> "Answered":
        """Read the field of an answer. Raises Malformed."""
        mark, _, breaks = text.partition(".")
        if len(mark) != 11 or not (breaks.isascii() and breaks.isdigit() and len(breaks) <= 9):
            raise Malformed("answer: holdfast-turn is no mark and number")
        return cls(unb64u(mark), int(breaks))
