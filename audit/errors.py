# SPDX-License-Identifier: Apache-2.0
"""What the audit log can refuse."""

from __future__ import annotations

from kernel.errors import Invalid, Unavailable


class NoCheckpoint(Unavailable):
    """The log has no signed checkpoint yet."""

    code = "no-checkpoint"
    default_detail = "The log has no signed checkpoint yet. The sequencer signs one within a minute; retry then."


class AuditUnavailable(Unavailable):
    """The audit log could not take the entry, so the act did not happen."""

    code = "audit-unavailable"
    default_detail = "The audit log could not take the entry, so nothing was done. Retry in a moment."


class LogBroken(Unavailable):
    """The stored log is not the one that was signed; an operator must look before it goes on."""

    code = "log-broken"
    default_detail = "The stored log is not the one that was signed. Tell your operator; it takes a person to go on."


class OutsideTheLog(Invalid):
    """The index or size asked for is beyond the signed log."""

    code = "outside-the-log"
