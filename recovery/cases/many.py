# SPDX-License-Identifier: Apache-2.0
"""Which of all open cases a count would move, a delay is too short for, or are stuck: for the worker's rounds.

Implements ESCROW "Case". A few statements for thousands of cases of all tenants, by the rules that count one; what is
found here is counted again on its locked row. It writes nothing. A case that cannot be read is among those found: there
it fails alone, and is named.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING
from uuid import UUID

from django.db.models import Exists, F, OuterRef, Q
from django.db.models.functions import Coalesce

from audit import access as audit
from escrow import grounds
from holdfast.core.base.errors import HoldfastError
from holdfast.core.escrow.release import stands
from holdfast.core.identity.entries import ArchiveGeneration, ReGenesis, RotateKey
from holdfast.core.signed.cose import Sign1
from kernel.errors import DomainError
from kernel.scope import in_their_tenants
from keys import access as keys
from recovery import access
from recovery.cases import counting
from recovery.models import Approval, Case, CaseDeposit, Notice, SealedShare, Veto
from recovery.states import CaseState, NoticeState
from tenants import access as people

if TYPE_CHECKING:
    from holdfast.core.identity.policy import Terms

Key = tuple[UUID, UUID]  # tenant and id

# Of a case, what is read here: the rest of a thousand rows would cost as much again.
_READ = (
    *("id", "tenant_id", "state", "subject_id", "requester_id", "recipient_person_id", "behind", "policy_hash"),
    *("opened_at", "notice_at", "not_before", "quorate_at", "release_at"),
)
_READ_OF_APPROVAL = ("id", "tenant_id", "case_id", "person_id", "decision", "at")


def to_settle(now: datetime) -> list[Key]:
    """List (case, tenant) of the cases that officers decide and that a count now would move."""
    shares = SealedShare.unscoped.filter(approval__tenant_id=OuterRef("tenant_id"), approval__case_id=OuterRef("id"))
    # What nobody approved is moved by no count.
    rows = Case.unscoped.filter(state__in=(CaseState.REQUESTED, CaseState.QUORATE))
    sheet = _Sheet(list(rows.filter(Q(state=CaseState.QUORATE) | Exists(shares)).only(*_READ)), now)
    return sheet.those(sheet.would_move)


def to_lengthen(now: datetime) -> list[Key]:
    """List (case, tenant) of the cases whose delay is too short, as their subject can object no more."""
    rows = Case.unscoped.filter(state=CaseState.WAITING, release_at__isnull=False)
    sheet = _Sheet(list(rows.exclude(recipient_person_id=F("subject_id")).only(*_READ)), now)
    short = set(sheet.those(sheet.would_lengthen))
    return sorted(short - _heard([case for case in sheet.cases if (case.id, case.tenant_id) in short], now))


def to_follow(now: datetime, *, close_after: timedelta) -> list[Key]:
    """List (case, tenant) of the cases of which what was collected is renewed, or can be by nobody, or that are over.

    In whichever state: also while such a case awaits a share, and after it has ended. Three statements.
    """
    collected = Case.unscoped.filter(collected_at__isnull=False)
    whose = {"tenant_id": OuterRef("tenant_id"), "user_id": OuterRef("subject_id")}

    def appended(kind: int) -> Exists:
        return Exists(keys.entries_of_kind(kind).filter(**whose, appended_at__gt=OuterRef("collected_at")))

    renewed = appended(ReGenesis.TYPE) | (appended(RotateKey.TYPE) & appended(ArchiveGeneration.TYPE))
    gone = Exists(people.people_gone().filter(pk=OuterRef("subject_id"))) | ~Exists(
        keys.listed_devices().filter(**whose)
    )
    left_behind = Q(notice_at__lte=now) & ~Q(recipient_person_id=F("subject_id")) & gone
    moves = renewed | left_behind
    return sorted(
        {
            *collected.filter(moves, renewed_at=None).values_list("id", "tenant_id"),
            *collected.filter(moves, state=CaseState.COLLECTED).values_list("id", "tenant_id"),
            *collected.filter(
                state__in=(CaseState.ROTATED, CaseState.SEALED), collected_at__lte=now - close_after
            ).values_list("id", "tenant_id"),
        }
    )


def _heard(cases: Sequence[Case], now: datetime) -> set[Key]:
    """Return those of the cases of which `access.is_heard` is true, as (case, tenant)."""
    subjects = [(case.tenant_id, case.subject_id) for case in cases]
    active = people.active_among(subjects)
    asked = [(case.tenant_id, str(case.subject_id), str(case.id)) for case in cases]
    suspended = audit.logged_after(asked, tag="tenants:person:suspend", act="recovery:case:open")
    spans = [(case.tenant_id, case.subject_id, case.opened_at) for case in cases]
    with_device = keys.had_devices_since(spans, now=now)
    return {
        (case.id, case.tenant_id)
        for case, one, span in zip(cases, asked, spans, strict=True)
        if case.subject_id in active and one not in suspended and span in with_device
    }


def stuck(*, since: datetime, words: Iterable[str], now: datetime) -> list[Key]:
    """List (case, tenant) of the cases that are stuck since a moment or longer, but for those that await a share.

    words: why a case waits that is stuck.
    """
    rows = Case.unscoped.annotate(began=Coalesce("why_since", "quorate_at", "opened_at"))
    waiting = rows.filter(state__in=(CaseState.WAITING, CaseState.RELEASING), why__in=list(words), began__lte=since)
    opened = Notice.unscoped.filter(
        tenant_id=OuterRef("tenant_id"), case_id=OuterRef("id"), person_id=OuterRef("subject_id"), kind=access.OPENED
    )
    untold = ~Exists(opened) | Exists(opened.filter(state=NoticeState.PENDING, attempts__gt=0))
    quorate = Case.unscoped.filter(untold, state=CaseState.QUORATE, quorate_at__lte=since)
    asked = Case.unscoped.annotate(began=Coalesce("why_since", "opened_at")).filter(began__lte=since)
    sheet = _Sheet(list(asked.filter(state=CaseState.REQUESTED).only(*_READ)), now)
    return [
        *waiting.values_list("id", "tenant_id"),
        *quorate.values_list("id", "tenant_id"),
        *sheet.those(sheet.has_too_few),
    ]


@dataclass(frozen=True)
class _Sheet:
    """Cases of all tenants with what they are counted by. What is read of them is read once, for all of them."""

    cases: Sequence[Case]
    now: datetime

    def those(self, rule: Callable[[Case], bool]) -> list[Key]:
        """List (case, tenant) of the cases for which a rule is true, or fails."""
        found = []
        for case in self.cases:
            try:
                is_one = rule(case)
            except (HoldfastError, DomainError, LookupError, ValueError):
                is_one = True  # it is met again where it stops this case alone, and is named there
            if is_one:
                found.append((case.id, case.tenant_id))
        return found

    def would_move(self, case: Case) -> bool:
        """Tell whether `recount` would move a case that officers decide, or destroy a share that is kept for it."""
        ground, key = self._grounds[case.tenant_id], _key(case)
        last = self._last.get(key, {})
        shares = self._shares.get(key, [])
        given = {pk for _, pk, _ in shares}
        acted = {one.person_id: one.at for one in self._given.get(key, []) if one.pk in given}
        if ground.left_since(acted, bytes(case.policy_hash), opened_at=case.opened_at):
            return True
        m, terms = self._terms(case)
        eligible = ground.eligible(bytes(case.policy_hash)) - access.excluded_from(case)
        counting_now = {one.pk for person_id, one in last.items() if person_id in eligible}
        if self._fewest(case, shares, counting_now) >= m:
            counting_now = {pk for pk in counting_now if self._stands(pk, terms)}
        fewest = self._fewest(case, shares, counting_now)
        if case.state == CaseState.REQUESTED:
            return fewest >= m
        return fewest < m or case.notice_at > self.now or key in self._told

    def would_lengthen(self, case: Case) -> bool:
        """Tell whether the long delay would end after the one that runs."""
        _, terms = self._terms(case)
        assert case.release_at is not None
        ends = counting.end_of_delay(
            case,
            terms,
            is_long=True,
            objected_at=self._objected.get(_key(case)),
            settled_at=self._told.get(_key(case)) if case.notice_at <= self.now else None,
            now=self.now,
        )
        return ends > case.release_at

    def has_too_few(self, case: Case) -> bool:
        """Tell whether fewer officers are left than have to decide a case."""
        m, _ = self._terms(case)
        policy_hash = bytes(case.policy_hash)
        return len(self._grounds[case.tenant_id].eligible(policy_hash) - access.excluded_from(case)) < m

    def _terms(self, case: Case) -> tuple[int, Terms]:
        """Return m and terms as `access.terms_of` does."""
        made_under = {self._made_under[case.tenant_id, one] for one in self._deposits.get(_key(case), [])}
        m, terms = self._grounds[case.tenant_id].strictest({*made_under, bytes(case.policy_hash)})
        return m + (1 if _key(case) in self._vetoed else 0), terms

    def _fewest(self, case: Case, shares: Iterable[tuple[UUID, UUID, UUID]], standing: set[UUID]) -> int:
        held = counting.persons_of(self._deposits.get(_key(case), []), shares, standing)
        return min(len(persons) for persons in held.values())

    def _stands(self, approval_id: UUID, terms: Terms) -> bool:
        return stands(Sign1.parse(self._statements[approval_id]), terms, at=int(self.now.timestamp()))

    @cached_property
    def _keys(self) -> list[Key]:
        return [_key(case) for case in self.cases]

    @cached_property
    def _grounds(self) -> dict[UUID, grounds.Ground]:
        return grounds.grounds({case.tenant_id for case in self.cases}, self.now)

    @cached_property
    def _deposits(self) -> dict[Key, list[UUID]]:
        found: dict[Key, list[UUID]] = {}
        for those in in_their_tenants("case_id", self._keys):
            rows = CaseDeposit.unscoped.filter(those).order_by("position")
            for tenant_id, case_id, deposit_id in rows.values_list("tenant_id", "case_id", "deposit_id"):
                found.setdefault((tenant_id, case_id), []).append(deposit_id)
        return found

    @cached_property
    def _made_under(self) -> dict[Key, bytes]:
        return grounds.made_under((key[0], deposit_id) for key, those in self._deposits.items() for deposit_id in those)

    @cached_property
    def _given(self) -> dict[Key, list[Approval]]:
        """Everything that officers signed about each case, oldest first, without what they signed."""
        found: dict[Key, list[Approval]] = {}
        for those in in_their_tenants("case_id", self._keys):
            rows = Approval.unscoped.filter(those).order_by("at", "pk").only(*_READ_OF_APPROVAL)
            for row in rows:
                found.setdefault((row.tenant_id, row.case_id), []).append(row)
        return found

    @cached_property
    def _last(self) -> dict[Key, dict[UUID, Approval]]:
        return {key: {row.person_id: row for row in rows} for key, rows in self._given.items()}

    @cached_property
    def _shares(self) -> dict[Key, list[tuple[UUID, UUID, UUID]]]:
        """The shares kept for each case that are part of an approval, as `counting.persons_of` takes them."""
        approvals = {
            row.pk: (key, row.person_id)
            for key, rows in self._given.items()
            for row in rows
            if row.decision == "approve"
        }
        found: dict[Key, list[tuple[UUID, UUID, UUID]]] = {}
        for those in in_their_tenants("approval_id", ((key[0], pk) for pk, (key, _) in approvals.items())):
            for pk, deposit_id in SealedShare.unscoped.filter(those).values_list("approval_id", "deposit_id"):
                key, person_id = approvals[pk]
                found.setdefault(key, []).append((deposit_id, pk, person_id))
        return found

    @cached_property
    def _statements(self) -> dict[UUID, bytes]:
        """What was signed in the last decision of each officer of those cases that have as many shares as they need."""
        given = ((key[0], row.pk) for key, rows in self._last.items() for row in rows.values())
        return {
            pk: bytes(statement)
            for those in in_their_tenants("pk", given)
            for pk, statement in Approval.unscoped.filter(those).values_list("pk", "statement")
        }

    @cached_property
    def _vetoed(self) -> set[Key]:
        rows = Veto.unscoped.filter(delays=False)
        return {
            key
            for those in in_their_tenants("case_id", self._keys)
            for key in rows.filter(those).values_list("tenant_id", "case_id")
        }

    @cached_property
    def _objected(self) -> dict[Key, datetime]:
        """When the first device that officers had suspended objected to each case, where one did."""
        rows = Veto.unscoped.filter(delays=True).order_by("-at")
        return {
            (tenant_id, case_id): at
            for those in in_their_tenants("case_id", self._keys)
            for tenant_id, case_id, at in rows.filter(those).values_list("tenant_id", "case_id", "at")
        }

    @cached_property
    def _told(self) -> dict[Key, datetime | None]:
        """When the subject was told of the opening, or could not be, of the cases of which that is settled."""
        opened = {_key(case): case.subject_id for case in self.cases if case.state != CaseState.REQUESTED}
        rows = Notice.unscoped.filter(kind=access.OPENED).exclude(state=NoticeState.PENDING)
        names = ("tenant_id", "case_id", "person_id", "settled_at")
        return {
            (tenant_id, case_id): settled_at
            for those in in_their_tenants("case_id", opened)
            for tenant_id, case_id, person_id, settled_at in rows.filter(those).values_list(*names)
            if opened[tenant_id, case_id] == person_id
        }


def _key(case: Case) -> Key:
    return case.tenant_id, case.id
