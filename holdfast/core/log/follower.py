# SPDX-License-Identifier: Apache-2.0
"""Following a log from one signed head to the next, leaf by leaf, without trusting whoever serves it.

Implements ESCROW "Release process" and PROTOCOL section 8 on RFC 6962 as in `merkle`.
Reads no clock and keeps no file: the caller hands in the time and stores what `to_bytes` gives.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Final

from holdfast.core.base.encoding import Fields, decode, encode
from holdfast.core.base.errors import Expired, Forked, Untrusted
from holdfast.core.log.checkpoint import Checkpoint, NoteVerifier
from holdfast.core.log.merkle import EMPTY_ROOT, CompactRange, leaf_hash

# Heads are signed again every 30 seconds, so two minutes leave room for a slow sequencer. A higher value lets a server
# hide a veto or a removal for longer. ESCROW "Release process".
MAX_AGE_SECONDS: Final = 120
# What PROTOCOL section 3 allows any `issued_at`: an honest signer's clock may be off by so much.
MAX_AHEAD_SECONDS: Final = 300


class RolledBack(Untrusted):
    """The log is shorter, or its head older, than what was proven before: rows or a database were put back."""


class Edited(Forked):
    """The leaves served do not lead to the signed head: one was changed, left out, added or moved."""


@dataclass(frozen=True)
class LogFollower:
    """What a follower must remember of a log: its key, how far it has read, and the head it last accepted.

    Immutable: `advance` returns the next follower, so a failed step leaves the last good one.
    """

    verifier: NoteVerifier
    # The right edge and not the leaves: it is all that is needed to prove that every later head extends this one.
    range: CompactRange = field(default_factory=CompactRange)
    time: int = 0

    @property
    def size(self) -> int:
        """How many leaves have been read and proven."""
        return self.range.size

    def head(self, note: str, *, now: int, max_age: int = MAX_AGE_SECONDS) -> Checkpoint:
        """Check a served head before its leaves are asked for.

        Raises InvalidSignature for another key or log, RolledBack for a head shorter or older than the last,
        Forked for another root at the same size, Expired when it is older than `max_age` seconds, or more than
        5 minutes ahead. Whoever serves the log is at fault; only Expired mends itself.
        """
        # The signature first: size, root and time are nobody's word before it.
        checkpoint = self.verifier.open_checkpoint(note)
        # Rollback: a restored backup, or rows removed. Shorter is never newer, whatever date the head bears.
        if checkpoint.size < self.size:
            raise RolledBack("the log is shorter than it was")
        # Split view or edited past: at one size there is one root for ever, so this needs no proof from anybody.
        if checkpoint.size == self.size and not hmac.compare_digest(checkpoint.root, self._root()):
            raise Forked("the log shows two heads of one size")
        # Age after the two above: they are evidence against the log at any age. A head
        # without a time could be of any age.
        if checkpoint.time is None or not -MAX_AHEAD_SECONDS <= now - checkpoint.time <= max_age:
            raise Expired("the log's newest head is too old, or from the future")
        # A log signs with ever later times, so an earlier one is an old head shown once
        # more, or a clock that was set back.
        if checkpoint.time < self.time:
            raise RolledBack("the log's head is older than the last one seen")
        return checkpoint

    def advance(self, leaves: Iterable[bytes], note: str, *, now: int, max_age: int = MAX_AGE_SECONDS) -> LogFollower:
        """Read every leaf between the last head and this one, and return the follower that stands at it.

        leaves: all of them, in order, from `self.size` to the head's size; no more is read than one beyond.
        Raises as `head` does, and Edited when they do not lead to the head's root.
        """
        checkpoint = self.head(note, now=now, max_age=max_age)
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
        return replace(self, range=grown, time=checkpoint.time or 0)

    def _root(self) -> bytes:
        return self.range.root() if self.range.size else EMPTY_ROOT

    def to_bytes(self) -> bytes:
        """Return what the caller keeps between runs: dCBOR {1: verifier key, 2: compact range, 3: time}."""
        return encode({1: self.verifier.to_text(), 2: self.range.to_bytes(), 3: self.time})

    @classmethod
    def from_bytes(cls, data: bytes) -> LogFollower:
        """Read what `to_bytes` gave; raises Malformed."""
        fields = Fields(decode(data), "log follower", (1, 2, 3))
        return cls(
            verifier=NoteVerifier.from_text(fields.text(1, maximum=1024)),
            range=CompactRange.from_bytes(fields.octets(2)),
            time=fields.uint(3),
        )
