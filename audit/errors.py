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


class LogRestored(LogBroken):
    """The stored log is shorter than the one that was signed: a backup was restored."""

    code = "log-restored"
    default_detail = (
        "The stored log is shorter than the one that was signed, as after a restored backup. "
        "Tell your operator: `ceremony accept-restored` goes on from here."
    )


class RolesMissing(Unavailable):
    """Nobody has said whose keys write this tenant's log, so none of its entries can be believed."""

    code = "roles-missing"
    default_detail = "Nobody has said whose keys write this tenant's log. Tell your operator: `ceremony roles` says it."


class TranscriptRefused(Invalid):
    """A transcript is too long to be kept, or its signatures do not hold for its text."""

    code = "transcript-refused"


class RolesRefused(Invalid):
    """A `roles` statement does not follow from the root and the version before."""

    code = "roles-refused"
