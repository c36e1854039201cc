# SPDX-License-Identifier: Apache-2.0
"""Lists of cases by who must act, in words.

Implements PLATFORM "Console". It queries nothing itself: `recovery.cases.index` does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final
from uuid import UUID

from console.words.case_words import ACTS, STATE_WORDS
from kernel.actors import Actor
from recovery.cases import index
from recovery.cases.index import Tally
from recovery.states import CaseState

if TYPE_CHECKING:
    from django.db.models import QuerySet

    from recovery.models import Case

WHO: Final = ("officers", "time", "recipient", "subject", "operator")
GROUPS: Final = {
    "open": [state for state, (who, _) in ACTS.items() if who != "nobody"],
    "over": [state for state, (who, _) in ACTS.items() if who == "nobody"],
    **{who: [state for state, (acts, _) in ACTS.items() if acts == who] for who in WHO},
}


@dataclass(frozen=True)
class CaseRow:
    """One line of a list of cases."""

    case: Case
    state_words: str
    who: str
    tally: Tally

    @property
    def pips(self) -> list[bool]:
        """One mark for each approval needed: given or not."""
        return [place < self.tally.given for place in range(self.tally.needed)]

    @property
    def is_for_another(self) -> bool:
        """Whether the archive would open on somebody else's device."""
        return bool(self.case.subject_id != self.case.recipient_person_id)


def in_group(actor: Actor, group: str, subject: UUID | None, *, now: datetime) -> QuerySet[Case]:
    """Select the cases of a group that the actor may see, newest first; of one subject when given."""
    return index.visible(actor, GROUPS.get(group, list(CaseState)), subject, now=now)


def rows_of(cases: Sequence[Case], *, now: datetime) -> list[CaseRow]:
    """Return the lines of some cases. Six queries."""
    tallies = index.tallies(cases, now=now)
    return [
        CaseRow(case, STATE_WORDS[CaseState(case.state)], ACTS[CaseState(case.state)][0], tallies[case.id])
        for case in cases
    ]


def counts(actor: Actor, *, now: datetime) -> dict[str, int]:
    """Count the cases that are not over, by who must act. One query."""
    by_state = index.count_by_state(actor, GROUPS["open"], now=now)
    return {who: sum(by_state.get(state, 0) for state in GROUPS[who]) for who in WHO}


AGES: Final = ((1, "Less than a day"), (3, "One to three days"), (7, "Three to seven days"), (30, "A week to a month"))
OLDEST: Final = "More than a month"


def ages(actor: Actor, *, now: datetime) -> list[tuple[str, int]]:
    """Count the cases that are not over by how long ago they were opened, the youngest first. One query."""
    bounds = [now - timedelta(days=days) for days, _ in AGES]
    counted = index.count_by_age(actor, GROUPS["open"], bounds, now=now)
    return list(zip([*(words for _, words in AGES), OLDEST], counted, strict=True))


def awaiting(actor: Actor, *, now: datetime, limit: int) -> list[Case]:
    """List the cases that this officer may still decide, the most urgent first."""
    return index.undecided_by(actor, GROUPS["officers"], now=now, limit=limit)
