# SPDX-License-Identifier: Apache-2.0
"""What is covered: per user the deposits, and how many officers could still open each of them.

Implements ESCROW "Officers change" and PLATFORM "Promises" (8): computed from rows at every call, never a flag.
It opens nothing; that a deposit really opens is what drills and canaries show.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

from django.db.models import Exists, OuterRef

from escrow import access
from escrow.models import Deposit, Policy, PolicyOfficer
from escrow.states import OfficerState
from kernel.errors import NotFound
from kernel.paging import PAGE
from tenants import access as tenants


@dataclass(frozen=True)
class DepositCoverage:
    """One deposit: the indices held by active officers, against the m of its policy."""

    deposit_id: UUID
    user_id: UUID
    generation: int
    record_hash: bytes
    indices: tuple[int, ...]
    m: int
    flagged: bool

    @property
    def is_open(self) -> bool:
        """Whether enough officers remain to release it."""
        return len(self.indices) >= self.m

    @property
    def is_alarming(self) -> bool:
        """Whether one more officer lost would close it for ever: m + 1 are wanted."""
        return len(self.indices) < self.m + 1


@dataclass(frozen=True)
class UserCoverage:
    """One user's newest deposit of each generation."""

    user_id: UUID
    deposits: tuple[DepositCoverage, ...]

    @property
    def is_recoverable(self) -> bool:
        """Whether there is a deposit at all, and enough officers for every generation."""
        return bool(self.deposits) and all(deposit.is_open for deposit in self.deposits)


def tenant_coverage(*, after: UUID | None = None, limit: int = PAGE) -> tuple[list[UserCoverage], bool]:
    """Compute coverage for a page of the users with a deposit, by id, and say whether there are more; four queries.

    after: the last user of the page before. Raises NotFound for one without a deposit here.
    """
    users = Deposit.objects.order_by("user_id").values_list("user_id", flat=True).distinct()
    if after is not None:
        if not users.filter(user_id=after).exists():
            raise NotFound
        users = users.filter(user_id__gt=after)
    found = list(users[: limit + 1])
    covered = coverage_of(found[:limit])
    return [covered[user_id] for user_id in found[:limit]], len(found) > limit


def user_coverage(user_id: UUID) -> UserCoverage:
    """Compute coverage for one user."""
    held = _indices_by_policy()
    newest = {deposit.generation: _cover(deposit, held) for deposit in access.deposits_of(user_id)}
    return UserCoverage(user_id, tuple(newest[g] for g in sorted(newest)))


def _indices_by_policy() -> dict[bytes, tuple[tuple[int, ...], int]]:
    counting = {person.pk for person in tenants.active_officers()}
    held: dict[bytes, tuple[tuple[int, ...], int]] = {}
    for policy in Policy.objects.prefetch_related("officers"):
        places: list[PolicyOfficer] = sorted(policy.officers.all(), key=lambda place: place.index)
        indices = tuple(
            place.index for place in places if place.state == OfficerState.ACTIVE and place.person_id in counting
        )
        held[bytes(policy.hash)] = (indices, policy.m)
    return held


def _cover(deposit: Deposit, held: dict[bytes, tuple[tuple[int, ...], int]]) -> DepositCoverage:
    indices, m = held[bytes(deposit.policy_hash)]
    return DepositCoverage(
        deposit_id=deposit.id,
        user_id=deposit.user_id,
        generation=deposit.generation,
        record_hash=bytes(deposit.record_hash),
        indices=indices,
        m=m,
        flagged=deposit.flagged_at is not None,
    )


@dataclass(frozen=True)
class CoverageTotals:
    """The whole tenant: users with a deposit, and how many of them have one that too few officers could open."""

    covered: int
    lost: int


def coverage_of(user_ids: Iterable[UUID]) -> dict[UUID, UserCoverage]:
    """Compute coverage for some users: those of one page. Users without a deposit are left out."""
    held = _indices_by_policy()
    newest: dict[UUID, dict[int, DepositCoverage]] = defaultdict(dict)
    rows = Deposit.objects.filter(user_id__in=list(user_ids)).defer("sealed").order_by("created_at")
    for deposit in rows:
        newest[deposit.user_id][deposit.generation] = _cover(deposit, held)
    return {
        user_id: UserCoverage(user_id, tuple(by_generation[g] for g in sorted(by_generation)))
        for user_id, by_generation in newest.items()
    }


def coverage_totals() -> CoverageTotals:
    """Count, in the database, who is covered and who has a generation that too few officers could open."""
    closed = [policy_hash for policy_hash, (indices, m) in _indices_by_policy().items() if len(indices) < m]
    newer = Deposit.objects.filter(
        user_id=OuterRef("user_id"), generation=OuterRef("generation"), created_at__gt=OuterRef("created_at")
    )
    lost = Deposit.objects.filter(policy_hash__in=closed).filter(~Exists(newer))
    return CoverageTotals(
        covered=Deposit.objects.values("user_id").distinct().count(),
        lost=lost.values("user_id").distinct().count() if closed else 0,
    )


def coverage_of_deposits(deposits: Iterable[Deposit]) -> list[DepositCoverage]:
    """Compute coverage for these very deposits, whether they are the newest of their generation or not."""
    held = _indices_by_policy()
    return [_cover(deposit, held) for deposit in deposits]
