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

MARK_SIZE: Final = 8  # bytes, at random: nobody gains by meeting another's, so that chance alone has to be kept out
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


class Verdict(Enum):
    """What a server finds of a turn."""

    SAME = "the newest opening goes on"
    LATE = "a request of the opening before comes late"
    NEXT = "a new opening follows the newest"
    BROKEN = "it does not follow the newest: there are two copies, or an older one was put back"


@dataclass(frozen=True)
class Kept:
    """What the server keeps of one credential.

    mark: of the newest opening, b"" for none yet. before: of the one that it followed, b"" for none. breaks: how often
    one did not follow. is_break: whether the newest one did not, which every answer to it says again.
    """

    mark: bytes = b""
    before: bytes = b""
    breaks: int = 0
    is_break: bool = False


def follow(kept: Kept, said: Turn) -> tuple[Verdict, Kept]:
    """Return what a turn is to a server, and what the server keeps from now on.

    One that does not follow is taken over all the same: a profile that was put back goes on, and where there are two
    copies, the other one is found out by its own next request.
    """
    if said.mark == kept.mark:
        return Verdict.SAME, kept
    if kept.before and said.mark == kept.before:
        return Verdict.LATE, kept
    if not kept.mark or said.before == kept.mark:
        return Verdict.NEXT, replace(kept, mark=said.mark, before=kept.mark, is_break=False)
    return Verdict.BROKEN, Kept(said.mark, b"", kept.breaks + 1, is_break=True)


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
