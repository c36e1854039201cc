# SPDX-License-Identifier: Apache-2.0
"""What is covered: per user the deposits, and how many officers could still open each of them.

Implements ESCROW "Officers change" and PLATFORM "Promises" (8): computed from rows at every call, never a flag.
It opens nothing; that a deposit really opens is what drills and canaries show.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db.models import Exists, OuterRef, QuerySet
from django.utils import timezone

from escrow import access
from escrow.errors import EscrowOff
from escrow.models import Deposit
from escrow.states import OfficerState
from holdfast.core.escrow.releasable import Releasable, releasable
from holdfast.core.identity.policy import GivenUp, History
from holdfast.core.log import merkle
from kernel.errors import NotFound
from kernel.paging import PAGE
from keys import access as keys
from keys import chains
from tenants import access as tenants


@dataclass(frozen=True)
class DepositCoverage:
    """One deposit: the indices whose holders could approve its release now, against how many are needed."""

    deposit_id: UUID
    user_id: UUID
    generation: int
    record_hash: bytes
    indices: tuple[int, ...]
    m: int
    flagged: bool
    exposed: bool

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
    """One user's newest deposit of each generation. missing: those that their chain announces and nobody deposited."""

    user_id: UUID
    deposits: tuple[DepositCoverage, ...]
    missing: tuple[int, ...] = ()

    @property
    def is_recoverable(self) -> bool:
        """Whether there is a deposit at all, one of every generation, and enough officers for each."""
        return bool(self.deposits) and not self.missing and all(deposit.is_open for deposit in self.deposits)


def tenant_coverage(*, after: UUID | None = None, limit: int = PAGE) -> tuple[list[UserCoverage], bool]:
    """Compute coverage for a page of the users, by id, and say whether there are more; eight queries.

    Of those who have deposited an archive key, or announced one. after: the last user of the page before. Raises
    NotFound for one who has done neither here.
    """
    users = Deposit.objects.order_by("user_id").values_list("user_id", flat=True).distinct()
    if after is not None:
        if not users.filter(user_id=after).exists() and not keys.archive_entries([after]):
            raise NotFound
        users = users.filter(user_id__gt=after)
    found = sorted({*users[: limit + 1], *keys.announcers(after=after, limit=limit + 1)})
    page = found[:limit]
    covered = coverage_of(page)
    return [covered[user_id] for user_id in page], len(found) > limit


def user_coverage(user_id: UUID) -> UserCoverage:
    """Compute coverage for one user."""
    return coverage_of([user_id]).get(user_id, UserCoverage(user_id, ()))


@dataclass(frozen=True)
class Openers:
    """Who could approve the release of the newest deposits of some generations today, and how many of them must."""

    generations: tuple[int, ...]
    officers: tuple[UUID, ...]
    needed: int

    @property
    def is_open(self) -> bool:
        """Whether enough could."""
        return len(self.officers) >= self.needed


def openers_of(user_id: UUID) -> list[Openers]:
    """Return who could release what a user has in custody, generations alike together. The user does not count."""
    held = _releasable_by_policy(excluded=frozenset({user_id.bytes}))
    rows = _kept().filter(user_id=user_id).order_by("generation", "created_at")
    newest = {
        generation: bytes(policy_hash) for generation, policy_hash in rows.values_list("generation", "policy_hash")
    }
    alike: dict[tuple[tuple[UUID, ...], int], list[int]] = defaultdict(list)
    for generation, policy_hash in newest.items():
        found = held[policy_hash]
        alike[tuple(UUID(bytes=one.person) for one in found.approvers), found.needed].append(generation)
    return [Openers(tuple(generations), officers, needed) for (officers, needed), generations in alike.items()]


def _kept() -> QuerySet[Deposit]:
    """Select the deposits that were not shredded."""
    rows: QuerySet[Deposit] = Deposit.objects.filter(shredded_at=None)
    return rows


def _releasable_by_policy(*, excluded: frozenset[bytes] = frozenset()) -> dict[bytes, Releasable]:
    """Return, by the hash of each version, who could release what was deposited under it; four queries.

    excluded: persons who do not count.
    """
    history = access.history()
    if not history.versions:
        return {}
    now, present = int(timezone.now().timestamp()), present_officers(OfficerState.ACTIVE)
    return {
        signed.hash: releasable(signed, history=history, at=now, present=present, excluded=excluded)
        for signed in history.versions
    }


def present_officers(
    *states: OfficerState, leaver: UUID | None = None, even_with_lost_keys: bool = False
) -> frozenset[bytes]:
    """Return the persons who are active officers of the tenant, in one of the states where a policy names them.

    Not those whose keys in the policy in force were lost with a device, unless told otherwise.
    """
    known = access.states_of_officers()
    out = {leaver} if even_with_lost_keys else {leaver, *access.with_lost_keys(timezone.now())}
    return frozenset(
        person.pk.bytes
        for person in tenants.active_officers()
        if known.get(person.pk, OfficerState.ACTIVE) in states and person.pk not in out
    )


def releasable_now(
    *,
    made_under: Sequence[bytes] = (),
    excluded: frozenset[UUID] = frozenset(),
    asked_under: Sequence[bytes] = (),
    at: datetime | None = None,
) -> Releasable:
    """Return who could release deposits of these versions, all of them; of the newest one where none is named.

    made_under, asked_under: hashes of versions; of several, the one for which the fewest could approve counts.
    asked_under: the policy of a case, whose officers alone decide it. excluded: who may not. Four queries. Raises
    EscrowOff when there is no policy, NotFound for an unknown one.
    """
    history = access.history()
    if not history.versions:
        raise EscrowOff
    named = {signed.hash: signed for signed in history.versions}
    if not named.keys() >= {*made_under, *asked_under}:
        raise NotFound
    present = present_officers(OfficerState.ACTIVE)
    found = [
        releasable(
            named[policy_hash],
            history=history,
            at=int((at or timezone.now()).timestamp()),
            present=present,
            excluded={person_id.bytes for person_id in excluded},
            asked_under=[named[one].policy for one in asked_under],
        )
        for policy_hash in made_under or [history.newest.hash]
    ]
    return min(found, key=lambda one: len(one.approvers) - one.needed)


def count_active_officers() -> int:
    """Count the active officers whom the newest version names, whether they cool off still or not; four queries."""
    present = present_officers(OfficerState.ACTIVE)
    return sum(officer.person in present for officer in access.history().newest.policy.roster)


@dataclass(frozen=True)
class Lost:
    """The deposits that could be released no more: how many, of how many users, the RFC 6962 root over their ids."""

    deposits: int
    users: int
    root: bytes

    def given_up(self) -> GivenUp:
        """Return field 13 of a policy that gives up exactly these."""
        return GivenUp(self.deposits, self.root)


def _by_version(
    before: History, after: History, *, leaver: UUID | None = None
) -> dict[bytes, tuple[Releasable, Releasable]]:
    """Return who could release what was deposited under each version of `before`, before and after a change.

    As it stands at the end of the last cooling-off, with nobody away: whoever is not there then, is gone.
    """
    stay = (OfficerState.ACTIVE, OfficerState.AWAY)
    was, will = present_officers(*stay), present_officers(*stay, leaver=leaver)
    at = max(before.settled_at, after.settled_at)
    return {
        one.hash: (
            releasable(one, history=before, at=at, present=was),
            releasable(one, history=after, at=at, present=will),
        )
        for one in before.versions
    }


def touched_between(before: History, after: History) -> int:
    """Count the deposits for which other officers, or another number of them, would be needed under a version.

    With those that it would lose. Counted in the database, by the few versions that it touches.
    """
    touched = [
        policy_hash
        for policy_hash, (was, will) in _by_version(before, after).items()
        if (was.approvers, was.needed) != (will.approvers, will.needed)
    ]
    return _kept().filter(policy_hash__in=touched).count() if touched else 0


def lost_between(before: History, after: History, *, leaver: UUID | None = None) -> Lost | None:
    """Return what a version, or an officer's leaving, would lose for good; None for nothing.

    A deposit that could be released before and not after counts, unless another of the same generation still could.
    """
    found = _by_version(before, after, leaver=leaver)
    opened = {policy_hash for policy_hash, (was, _) in found.items() if was.is_open}
    opens = {policy_hash for policy_hash, (_, will) in found.items() if will.is_open}
    closing = opened - opens
    if not closing:
        return None
    alike = _kept().filter(user_id=OuterRef("user_id"), generation=OuterRef("generation"))
    lost = _kept().filter(policy_hash__in=closing).exclude(Exists(alike.filter(policy_hash__in=opens)))
    rows = list(lost.order_by("id").values_list("id", "user_id"))
    if not rows:
        return None
    ids = sorted(deposit_id.bytes for deposit_id, _ in rows)
    return Lost(len(ids), len({user_id for _, user_id in rows}), merkle.root([merkle.leaf_hash(one) for one in ids]))


def _cover(deposit: Deposit, held: dict[bytes, Releasable]) -> DepositCoverage:
    found = held[bytes(deposit.policy_hash)]
    return DepositCoverage(
        deposit_id=deposit.id,
        user_id=deposit.user_id,
        generation=deposit.generation,
        record_hash=bytes(deposit.record_hash),
        indices=found.indices,
        m=found.needed,
        flagged=deposit.flagged_at is not None,
        exposed=deposit.exposed_at is not None,
    )


@dataclass(frozen=True)
class CoverageTotals:
    """The whole tenant: users with a deposit, and how many of them have one that too few officers could open."""

    covered: int
    lost: int


def coverage_of(user_ids: Iterable[UUID]) -> dict[UUID, UserCoverage]:
    """Compute coverage for some users: those of one page. Users who have announced and deposited nothing are left out.

    A key in use that nobody deposited is lost with its devices, whatever else is in custody; six queries.
    """
    wanted = list(user_ids)
    held = _releasable_by_policy()
    announced = chains.announced_generations(wanted)
    newest: dict[UUID, dict[int, DepositCoverage]] = defaultdict(dict)
    # What was shredded was wanted so: its generation is neither covered nor missing.
    shredded: dict[UUID, set[int]] = defaultdict(set)
    rows = Deposit.objects.filter(user_id__in=wanted).defer("sealed").order_by("created_at")
    for deposit in rows:
        if deposit.shredded_at is None:
            newest[deposit.user_id][deposit.generation] = _cover(deposit, held)
        else:
            shredded[deposit.user_id].add(deposit.generation)
    return {
        user_id: UserCoverage(
            user_id,
            tuple(newest[user_id][generation] for generation in sorted(newest[user_id])),
            tuple(sorted(announced.get(user_id, set()) - newest[user_id].keys() - shredded[user_id])),
        )
        for user_id in announced.keys() | newest.keys()
    }


def coverage_totals() -> CoverageTotals:
    """Count, in the database, who is covered and who has a generation that too few officers could open."""
    closed = [policy_hash for policy_hash, found in _releasable_by_policy().items() if not found.is_open]
    newer = Deposit.objects.filter(
        user_id=OuterRef("user_id"), generation=OuterRef("generation"), created_at__gt=OuterRef("created_at")
    )
    lost = _kept().filter(policy_hash__in=closed).filter(~Exists(newer))
    return CoverageTotals(
        covered=_kept().values("user_id").distinct().count(),
        lost=lost.values("user_id").distinct().count() if closed else 0,
    )


def coverage_of_deposits(deposits: Iterable[Deposit]) -> list[DepositCoverage]:
    """Compute coverage for these very deposits, whether they are the newest of their generation or not."""
    held = _releasable_by_policy()
    return [_cover(deposit, held) for deposit in deposits]
