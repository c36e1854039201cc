# SPDX-License-Identifier: Apache-2.0
"""A log that goes on from a shorter past, as m officers accepted it, and which heads are of the past left behind.

Implements ESCROW "Release process" (a restored backup) for whoever follows a log by its heads. Reads no clock, and
verifies no officer: `identity.acts` does, and the caller holds the resolution's date to the policy then in force.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from holdfast.core.base.errors import Untrusted
from holdfast.core.log.checkpoint import Checkpoint
from holdfast.core.log.key_log import require_same_log

# A head that was left behind was signed before the backup was put back, and so before the officers signed; by two
# machines' clocks, which may stand five minutes apart, as those of any two who sign (PROTOCOL section 3).
SLACK_SECONDS: Final = 300


@dataclass(frozen=True)
class AcceptedLog:
    """What m officers accepted of one log: root (32 bytes) at this size. at: UTC seconds of their resolution.

    hash: 32 bytes, of the resolution's payload, by which a client takes each once.
    """

    size: int
    root: bytes
    at: int
    hash: bytes

    def leaves_behind(self, head: Checkpoint) -> bool:
        """Tell whether a signed head that is not of the log accepted may be of the past that was given up.

        It may be when it was signed before the officers decided. One without a date is not: nothing says when that was.
        Whoever asks has found that the two do not go together, which size and root alone do not show: where all was put
        back together, the log has grown anew, perhaps beyond the head, before somebody saw it.
        """
        is_it = head.size == self.size and hmac.compare_digest(head.root, self.root)
        return not is_it and head.time is not None and head.time <= self.at + SLACK_SECONDS

    def is_outrun_by(self, head: Checkpoint) -> bool:
        """Tell whether a head has what the log lacked when it was accepted: more entries, or others in as many."""
        return head.size > self.size or (head.size == self.size and not hmac.compare_digest(head.root, self.root))

    def require_goes_on(self, head: Checkpoint, proof: Sequence[bytes]) -> None:
        """Check that a signed head is of the log that was accepted, by the consistency proof from the accepted size.

        Raises Untrusted for a shorter one, which is another restoration that these officers did not accept, and for a
        proof that does not connect them; Forked for another root at this size.
        """
        if head.size < self.size:
            raise Untrusted("the log is shorter than what the officers accepted")
        require_same_log(Checkpoint(head.origin, self.size, self.root), head, proof)
