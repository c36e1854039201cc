# SPDX-License-Identifier: Apache-2.0
"""The states of an officer and of an escrow key, and which may follow which.

Implements ESCROW "Policy and officers" and "Keys". It touches no rows: `kernel.transitions` moves them.
"""

from __future__ import annotations

from django.db import models

from kernel.transitions import TransitionTable


class OfficerState(models.TextChoices):
    ACTIVE = "active"  # counts, once the cooling-off is over
    SUSPENDED = "suspended"  # by another officer; counts for nothing but another's return, until a resolution
    AWAY = "away"  # by their own word; counts for nothing meanwhile
    REMOVED = "removed"  # a later policy does not name them, or another officer's word: never comes back


S = OfficerState
OFFICER = TransitionTable(
    {
        S.ACTIVE: frozenset({S.SUSPENDED, S.AWAY, S.REMOVED}),
        S.SUSPENDED: frozenset({S.ACTIVE, S.REMOVED}),
        S.AWAY: frozenset({S.ACTIVE, S.SUSPENDED, S.REMOVED}),
        S.REMOVED: frozenset(),
    }
)
