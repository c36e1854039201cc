# SPDX-License-Identifier: Apache-2.0
"""The states of a case, of a notice and of a request to trusted contacts, and which may follow which.

Implements ESCROW "Case", and PROTOCOL section 6 (contacts door). It touches no rows: `kernel.transitions` moves them,
and a database trigger refuses to move a row out of a terminal state whatever the code says (FAULTS R14).
"""

from __future__ import annotations

from django.db import models

from kernel.transitions import TransitionTable


class CaseState(models.TextChoices):
    REQUESTED = "requested"  # waiting for officers
    QUORATE = "quorate"  # enough signed approvals; the subject's notice is being handed over
    WAITING = "waiting"  # the delay runs: `release_at` is known
    RELEASING = "releasing"  # intent is committed, the HSM may be working
    RELEASED = "released"  # re-wrapped to the recipient, not collected yet
    COLLECTED = "collected"  # the recipient has it; what was exposed must be rotated
    AWAITING_SHARE = "awaiting-share"  # the recipient found too few right shares: another replaces a wrong one
    ROTATED = "rotated"  # the subject's chain has a new AIK or a later generation
    SEALED = "sealed"  # no device is left to rotate: the generation is marked exposed
    CLOSED = "closed"
    DENIED = "denied"
    VETOED = "vetoed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    HELD = "held"  # rows and log disagree: a person must look, and only a new case goes on


C = CaseState
# Still before anything left the HSM: officers decide, a delay runs, or a share is missing.
UNRELEASED = frozenset({C.REQUESTED, C.QUORATE, C.WAITING, C.RELEASING, C.AWAITING_SHARE})
_ENDS = frozenset({C.DENIED, C.VETOED, C.EXPIRED, C.CANCELLED, C.HELD})
CASE = TransitionTable(
    {
        C.REQUESTED: frozenset({C.QUORATE}) | _ENDS,
        # Back to requested: an officer who had approved was removed or suspended, so that approval is void.
        C.QUORATE: frozenset({C.WAITING, C.REQUESTED}) | _ENDS,
        C.WAITING: frozenset({C.RELEASING, C.QUORATE, C.REQUESTED}) | _ENDS,
        # From here no veto: the HSM may have worked already. Back to waiting: it was away and did not.
        C.RELEASING: frozenset({C.RELEASED, C.WAITING, C.HELD}),
        C.RELEASED: frozenset({C.COLLECTED, C.EXPIRED}),
        C.COLLECTED: frozenset({C.ROTATED, C.SEALED, C.AWAITING_SHARE}),
        # Nothing leads back before the release: what the HSM did it does not do again.
        C.AWAITING_SHARE: frozenset({C.RELEASED, C.EXPIRED, C.HELD}),
        # A recipient may find a share wrong after that, too: a leaver's case is sealed seconds after it was collected.
        C.ROTATED: frozenset({C.CLOSED, C.AWAITING_SHARE}),
        C.SEALED: frozenset({C.CLOSED, C.AWAITING_SHARE}),
    }
)
# While a case is in one of these, officers may still decide and the subject may still veto.
UNDECIDED = frozenset({C.REQUESTED, C.QUORATE, C.WAITING})
# While it is in one of these, officers hand over shares.
APPROVABLE = UNDECIDED | {C.AWAITING_SHARE}
# What was released is there, collected or not.
KEPT = frozenset({C.RELEASED, C.COLLECTED, C.AWAITING_SHARE, C.ROTATED, C.SEALED})
# Its recipient has what was released, or has had it.
HAD = KEPT - {C.RELEASED, C.AWAITING_SHARE} | {C.CLOSED}
# A failed case: its sealed shares are destroyed, so that shares do not add up over cases.
FAILED = _ENDS
TERMINAL = frozenset(state for state in C if CASE.is_terminal(state))


class NoticeState(models.TextChoices):
    PENDING = "pending"
    HANDED_OVER = "handed-over"
    FAILED = "failed"  # not delivered: the policy's long delay applies


N = NoticeState
NOTICE = TransitionTable({N.PENDING: frozenset({N.HANDED_OVER, N.FAILED})})


class ContactRequestState(models.TextChoices):
    OPEN = "open"  # contacts may give their shares; after the delay the asking device collects them
    COMPLETE = "complete"  # as many were collected as open the door; a wrong one may still be replaced
    VETOED = "vetoed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


R = ContactRequestState
CONTACT_REQUEST = TransitionTable({R.OPEN: frozenset({R.COMPLETE, R.VETOED, R.CANCELLED, R.EXPIRED})})
# While a request is in one of these and its time is not over, shares are given and collected.
COLLECTABLE = frozenset({R.OPEN, R.COMPLETE})
