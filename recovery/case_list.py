# SPDX-License-Identifier: Apache-2.0
"""Cases in numbers and in lists, for the console: who must act, how many approvals stand of how many needed.

Implements PLATFORM "Console". A fixed number of queries for a page, however many cases it shows. It writes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from django.db.models import Count, QuerySet

from escrow import access as escrow
from kernel.actors import Actor
from recovery import access
from recovery.case_words import ACTS, STATE_WORDS
from recovery.models import Approval, Case, CaseDeposit, Veto
from recovery.states import CaseState

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
    given: int
    needed: int
    generations: tuple[int, ...]

    @property
    def pips(self) -> list[bool]:
        """One mark for each approval needed: given or not."""
        return [place < self.given for place in range(self.needed)]

    @property
    def is_for_another(self) -> bool:
        """Whether the archive would open on somebody else's device."""
        return bool(self.case.subject_id != self.case.recipient_person_id)


def found(actor: Actor, group: str, subject: UUID | None, *, now: datetime) -> QuerySet[Case]:
    """Select the cases of a group that the actor may see, newest first; of one subject when given."""
    rows = access.visible_to(actor, now).filter(state__in=GROUPS.get(group, list(CaseState)))
    if subject is not None:
        rows = rows.filter(subject_id=subject)
    return rows.order_by("-opened_at", "id")


def rows_of(cases: Sequence[Case], *, now: datetime) -> list[CaseRow]:
    """Return the lines of some cases. Six queries."""
    ids = [case.pk for case in cases]
    given = dict(
        Approval.objects.filter(case__in=ids, decision="approve")
        .values_list("case_id")
        .annotate(given=Count("id"))
        .order_by("case_id")
    )
    needed, generations = _needed(cases, now)
    return [
        CaseRow(
            case=case,
            state_words=STATE_WORDS[CaseState(case.state)],
            who=ACTS[CaseState(case.state)][0],
            given=given.get(case.pk, 0),
            needed=needed[case.pk],
            generations=tuple(sorted(generations.get(case.pk, []))),
        )
        for case in cases
    ]


def _needed(cases: Sequence[Case], now: datetime) -> tuple[dict[UUID, int], dict[UUID, list[int]]]:
    """Return m for each case, as `access.terms_of` reckons it, and the generations that each names."""
    ids = [case.pk for case in cases]
    named: dict[UUID, list[UUID]] = {}
    generations: dict[UUID, list[int]] = {}
    for case_id, deposit_id, generation in CaseDeposit.objects.filter(case__in=ids).values_list(
        "case_id", "deposit_id", "generation"
    ):
        named.setdefault(case_id, []).append(deposit_id)
        generations.setdefault(case_id, []).append(generation)
    quorums = {bytes(policy.hash): policy.m for policy in escrow.policies()}
    in_force = escrow.policy_in_force(now).m if cases else 0
    held = escrow.deposits_named([one for several in named.values() for one in several])
    vetoed = set(Veto.objects.filter(case__in=ids).values_list("case_id", flat=True))
    needed = {}
    for case in cases:
        hashes = [bytes(case.policy_hash)]
        hashes += [bytes(held[one].policy_hash) for one in named.get(case.pk, []) if one in held]
        needed[case.pk] = max(in_force, *(quorums.get(one, 0) for one in hashes)) + (case.pk in vetoed)
    return needed, generations


def counts(actor: Actor, *, now: datetime) -> dict[str, int]:
    """Count the cases that are not over, by who must act. One query."""
    by_state = dict(
        access.visible_to(actor, now)
        .filter(state__in=GROUPS["open"])
        .values_list("state")
        .annotate(n=Count("id"))
        .order_by("state")
    )
    return {who: sum(by_state.get(state, 0) for state in GROUPS[who]) for who in WHO}


def awaiting(actor: Actor, *, now: datetime, limit: int) -> list[Case]:
    """List the cases that this officer may still decide, as far as a list can tell: the case's page says for sure."""
    if actor.person_id is None:
        return []
    decided = Approval.objects.filter(person_id=actor.person_id).values("case_id")
    mine = {"subject_id": actor.person_id, "requester_id": actor.person_id, "recipient_person_id": actor.person_id}
    rows = access.visible_to(actor, now).filter(state__in=GROUPS["officers"]).exclude(pk__in=decided)
    for name, person_id in mine.items():
        rows = rows.exclude(**{name: person_id})
    return list(rows.order_by("expiry")[:limit])
