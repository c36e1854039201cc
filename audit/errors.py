# SPDX-License-Identifier: Apache-2.0
"""What the audit log can refuse."""

from __future__ import annotations

from kernel.errors import Conflict, Invalid, Unavailable


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
    """The server's database was put back from a backup: nothing is changed until the officers accept it."""

    code = "log-restored"
    retry_after = 60  # seconds: people decide, and whoever waits for them need not ask every five
    default_detail = (
        "The server's database was put back from a backup, so it only answers what is asked and changes nothing for "
        "now. Nothing that your devices hold is lost: they give it back afterwards. The organisation's officers accept "
        "the restored log (holdfast officer resolve accept-log), then the operator goes on (ceremony accept-restored)."
    )


class HeadRefused(Invalid):
    """What was shown is no head of this tenant's logs: none of their keys has signed it."""

    code = "head-refused"
    default_detail = "This is no signed head of one of this organisation's two logs. Send the note as it was signed."


class RolesMissing(Unavailable):
    """Nobody has said whose keys write this tenant's log, so none of its entries can be believed."""

    code = "roles-missing"
    default_detail = "Nobody has said whose keys write this tenant's log. Tell your operator: `ceremony roles` says it."


class TranscriptRefused(Invalid):
    """A transcript is too long to be kept, or its signatures do not hold for its text."""

    code = "transcript-refused"


class LogTooLong(Conflict):
    """The log is too long for one answer: its export is made in the background."""

    code = "log-too-long"
    default_detail = (
        "The log is too long for one answer. Ask for its export (POST audit/exports), then fetch its pieces."
    )


class RolesRefused(Invalid):
    """A `roles` statement does not follow from the root and the version before."""

    code = "roles-refused"
