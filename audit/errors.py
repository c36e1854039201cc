# SPDX-License-Identifier: Apache-2.0
"""What the audit log can refuse."""

from __future__ import annotations

from kernel.errors import Invalid, Unavailable


class NoCheckpoint(Unavailable):
    """The log has no signed checkpoint yet."""

    code = "no-checkpoint"
    default_detail = "The log has no signed checkpoint yet. The sequencer signs one within a minute; retry then."


class OutsideTheLog(Invalid):
    """The index or size asked for is beyond the signed log."""

    code = "outside-the-log"
