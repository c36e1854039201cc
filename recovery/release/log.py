# SPDX-License-Identifier: Apache-2.0
"""The release process's own reading of one tenant's audit log: every entry, proven, turned into facts.

Implements ESCROW "Release process": checkpoints consistent with its own and at most two minutes old. It keeps
the last head it believed in its directory, and believes neither a shorter log nor another one afterwards.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field

from audit import access as audit
from audit import services as audit_services
from holdfast.core.base.errors import Forked
from holdfast.core.log.checkpoint import NoteVerifier
from holdfast.core.log.follower import LogFollower
from holdfast.core.log.merkle import CompactRange, leaf_hash
from recovery.release.directory import Directory
from recovery.release.facts import Facts

LOG = "audit"


@dataclass
class ReleaseLog:
    """One tenant's log as this process has proven it, and what it says."""

    directory: Directory
    follower: LogFollower
    facts: Facts = field(default_factory=Facts)

    @classmethod
    def open(cls, directory: Directory) -> ReleaseLog:
        """Read the log again from its first entry to the head last believed, inside the tenant's scope.

        Raises Forked when the entries stored now do not lead to that head: somebody changed them.
        """
        kept = directory.follower()
        if kept is None:
            return cls(directory, LogFollower(NoteVerifier.from_text(directory.trust().log_vkey)))
        log = cls(directory, LogFollower.from_bytes(kept))
        grown = CompactRange()
        for leaf in audit_services.entries_between(directory.tenant_id, LOG, 0, log.follower.size):
            grown = grown.append(leaf_hash(leaf))
            log.facts.absorb(leaf)
        if not hmac.compare_digest(grown.to_bytes(), log.follower.range.to_bytes()):
            raise Forked("the log's entries no longer lead to the head that was believed before")
        return log

    def follow(self, *, now: int) -> None:
        """Take in every entry up to the newest head.

        Raises NoCheckpoint, Expired for a head too old; Forked or Untrusted for another log than the one known.
        """
        note = audit.latest_checkpoint(LOG).note
        head = self.follower.head(note, now=now)
        leaves = list(audit_services.entries_between(self.directory.tenant_id, LOG, self.follower.size, head.size))
        self.follower = self.follower.advance(leaves, note, now=now)
        for leaf in leaves:
            self.facts.absorb(leaf)
        self.directory.keep_follower(self.follower.to_bytes())

    def is_behind(self) -> bool:
        """Tell whether acts are committed that no signed head covers yet: rows may then rightly be ahead of the log."""
        return audit.pending(LOG) > 0 or audit.latest_checkpoint(LOG).size > self.follower.size
