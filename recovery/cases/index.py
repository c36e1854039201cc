# SPDX-License-Identifier: Apache-2.0
"""Cases in numbers and in lists: which ones an actor may see, how many approvals stand of how many needed.

Implements ESCROW "Case" for lists. A fixed number of queries for a page, however long it is. It writes nothing.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db.models import Count, Q, QuerySet

from escrow import access as escrow
from kernel.actors import Actor
from recovery import access
from recovery.models import Approval, Case, CaseDeposit, Veto
from recovery.states import UNDECIDED, CaseState


@dataclass(frozen=True)
class Tally:
    """How many officers approved a case, of how many needed, and the archive generations that it names."""

    given: int
    needed: int
    generations: tuple[int, ...]


def visible(actor: Actor, states: Collection[CaseState], subject: UUID | None, *, now: datetime) -> QuerySet[Case]:
    """Select the cases in some states that the actor may see, newest first; of one subject when given."""
    rows = access.visible_to(actor, now).filter(state__in=states)
    if subject is not None:
        rows = rows.filter(subject_id=subject)
    return rows.order_by("-opened_at", "id")


def count_by_state(actor: Actor, states: Collection[CaseState], *, now: datetime) -> dict[str, int]:
    """Count the cases in some states that the actor may see. One query."""
    rows = access.visible_to(actor, now).filter(state__in=states)
    return dict(rows.values_list("state").annotate(n=Count("id")).order_by("state"))


def count_by_age(
    actor: Actor, states: Collection[CaseState], bounds: Sequence[datetime], *, now: datetime
) -> list[int]:
    """Count the cases in some states that the actor may see, by when they were opened. One query.

    bounds: times, the latest first. Returns one number more: since the first, between each and the next, before the
    last.
    """
    edges: list[datetime | None] = [None, *bounds, None]
    spans = {}
    for place, (until, since) in enumerate(itertools.pairwise(edges)):
        span = Q(opened_at__gte=since) if since else Q()
        spans[f"span_{place}"] = Count("pk", filter=span & Q(opened_at__lt=until) if until else span)
    counted = access.visible_to(actor, now).filter(state__in=states).aggregate(**spans)
    return [counted[name] for name in spans]


def undecided_by(actor: Actor, states: Collection[CaseState], *, now: datetime, limit: int) -> list[Case]:
    """List the cases in some states that this officer may still decide, the most urgent first.

    As far as a list can tell: the case's page says for sure.
    """
    if actor.person_id is None:
        return []
    # An approval whose shares are gone has ended: it is asked for anew.
    decided = Approval.objects.filter(person_id=actor.person_id, shares__isnull=False).values("case_id")
    mine = {"subject_id": actor.person_id, "requester_id": actor.person_id, "recipient_person_id": actor.person_id}
    rows = access.visible_to(actor, now).filter(state__in=states).exclude(id__in=decided)
    for name, person_id in mine.items():
        rows = rows.exclude(**{name: person_id})
    listed = rows.order_by("expiry")[:limit]
    return [row for row in listed if row.state != CaseState.AWAITING_SHARE or _is_asked_for_a_share(row, actor)]


def _is_asked_for_a_share(case: Case, actor: Actor) -> bool:
    # Few cases come to this, and each has queries of its own: of a case that was released no share is kept beside its
    # approval, so whose was right the approval says.
    assert actor.person_id is not None
    given = access.approvals_by(case, actor.person_id)[-1:]
    return not given or bool(access.ended_approvals(case, given))


def tallies(cases: Sequence[Case], *, now: datetime) -> dict[UUID, Tally]:
    """Return the tally of each case. Six queries."""
    ids = [case.id for case in cases]
    # While a case is undecided, an approval without shares has ended; afterwards none has any.
    over = [case.id for case in cases if case.state not in UNDECIDED]
    given = dict(
        Approval.objects.filter(Q(case_id__in=over) | Q(shares__isnull=False), case_id__in=ids, decision="approve")
        .values_list("case_id")
        .annotate(given=Count("person_id", distinct=True))
        .order_by("case_id")
    )
    needed, generations = _needed(cases, now)
    return {
        case_id: Tally(given.get(case_id, 0), needed[case_id], tuple(sorted(generations.get(case_id, []))))
        for case_id in ids
    }


def _needed(cases: Sequence[Case], now: datetime) -> tuple[dict[UUID, int], dict[UUID, list[int]]]:
    """Return m for each case, as `access.terms_of` reckons it, and the generations that each names."""
    ids = [case.id for case in cases]
    named: dict[UUID, list[UUID]] = {}
    generations: dict[UUID, list[int]] = {}
    for case_id, deposit_id, generation in CaseDeposit.objects.filter(case_id__in=ids).values_list(
        "case_id", "deposit_id", "generation"
    ):
        named.setdefault(case_id, []).append(deposit_id)
        generations.setdefault(case_id, []).append(generation)
    quorums = {bytes(policy.hash): policy.m for policy in escrow.policies()}
    in_force = escrow.policy_in_force(now).m if cases else 0
    held = escrow.deposits_named([deposit_id for several in named.values() for deposit_id in several])
    vetoed = set(Veto.objects.filter(case_id__in=ids, delays=False).values_list("case_id", flat=True))
    needed = {}
    for case in cases:
        hashes = [bytes(case.policy_hash)]
        hashes += [bytes(held[deposit_id].policy_hash) for deposit_id in named.get(case.id, []) if deposit_id in held]
        needed[case.id] = max(in_force, *(quorums.get(policy_hash, 0) for policy_hash in hashes)) + (case.id in vetoed)
    return needed, generations
