# SPDX-License-Identifier: Apache-2.0
"""Following a log from one signed head to the next, leaf by leaf, without trusting whoever serves it.

Implements ESCROW "What it believes of the log" and PROTOCOL section 8 on RFC 6962 as in `merkle`.
Reads no clock and keeps no file: the caller checks the note, hands in the time, and stores what it must remember.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from holdfast.core.base.errors import Expired, Forked, Untrusted
from holdfast.core.log.checkpoint import Checkpoint
from holdfast.core.log.merkle import EMPTY_ROOT, CompactRange, leaf_hash

# Heads are signed again every 30 seconds, so two minutes leave room for a slow sequencer. A higher value lets a server
# hide a veto or a removal for longer. ESCROW "Release process".
MAX_AGE_SECONDS: Final = 120
# Machines that set their clocks by the network differ by far less. A head from further ahead comes from a clock that
# will be set back: whoever remembered it would wait for its time to come.
MAX_AHEAD_SECONDS: Final = 60


class RolledBack(Untrusted):
    """The log is shorter than what was proven before: rows or a database were put back."""


class Edited(Forked):
    """The leaves served do not lead to the signed head: one was changed, left out, added or moved."""


def require_not_ahead(checkpoint: Checkpoint, *, now: int) -> None:
    """Raise Expired for a head dated over a minute ahead of `now` (UTC seconds), or not at all: it is not believed."""
    if checkpoint.time is None or checkpoint.time > now + MAX_AHEAD_SECONDS:
        raise Expired("the log's head is dated ahead of this machine's clock")


def require_fresh(checkpoint: Checkpoint, *, now: int, max_age: int = MAX_AGE_SECONDS) -> None:
    """Raise Expired unless a head was signed within `max_age` seconds before `now`, by the caller's own clock."""
    require_not_ahead(checkpoint, now=now)
    if now - (checkpoint.time or 0) > max_age:
        raise Expired("the log's newest head is too old")


@dataclass(frozen=True)
class LogFollower:
    """How far a follower has read a log: the right edge of what it has proven.

    Immutable: `advance` returns the next follower, so a failed step leaves the last good one.
    """

    # The right edge and not the leaves: it is all that is needed to prove that every later head extends this one.
    range: CompactRange = field(default_factory=CompactRange)

    @property
    def size(self) -> int:
        """How many leaves have been read and proven."""
        return self.range.size

    @property
    def root(self) -> bytes:
        """The root of what has been read: 32 bytes."""
        return self.range.root() if self.range.size else EMPTY_ROOT

    def require_extends(self, checkpoint: Checkpoint) -> None:
        """Raise RolledBack for a head shorter than what was read, Forked for another root at the same size.

        checkpoint: opened from a note by the log's own key, so each is evidence against the log, at any age.
        """
        # By size and never by time: a head of the same log with an earlier date is an old one shown once more, or a
        # clock that was set right.
        if checkpoint.size < self.size:
            raise RolledBack("the log is shorter than it was")
        # At one size there is one root for ever, so this needs no proof from anybody.
        if checkpoint.size == self.size and not hmac.compare_digest(checkpoint.root, self.root):
            raise Forked("the log shows two heads of one size")

    def advance(self, leaves: Iterable[bytes], checkpoint: Checkpoint) -> LogFollower:
        """Read every leaf between the last head and this one, and return the follower that stands at it.

        leaves: all of them, in order, from `self.size` to the head's size; no more is read than one beyond.
        Raises as `require_extends` does, and Edited when they do not lead to the head's root.
        """
        self.require_extends(checkpoint)
        # The follower reads the leaves itself instead of asking for a consistency proof: it needs every one of them, to
        # build its facts from. What leads from its own range to the signed root is then also proven to be append-only.
        grown = self.range
        for leaf in leaves:
            # Stops at once: a server could otherwise feed leaves without end, none of them signed for.
            if grown.size == checkpoint.size:
                raise Edited("the log serves more entries than its signed head covers")
            grown = grown.append(leaf_hash(leaf))
        root = grown.root() if grown.size else EMPTY_ROOT
        # All or nothing: no leaf counts before the root agrees, since a single root
        # cannot say which of them was changed.
        if grown.size != checkpoint.size or not hmac.compare_digest(root, checkpoint.root):
            raise Edited("the log's entries do not lead to its signed head")
        return LogFollower(grown)
