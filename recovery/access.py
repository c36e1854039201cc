# SPDX-License-Identifier: Apache-2.0
"""Fetching cases and what hangs on them, for those who may see them or act on them.

Implements ESCROW "Case" and ORGANISATION "Tenants": what an actor may not see is not found. It writes nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from django.db.models import Exists, Min, OuterRef, Q, QuerySet
from django.utils import timezone

from audit import access as audit
from escrow import access as escrow
from holdfast.core.identity.cases import VETOES_COUNT_SECONDS
from holdfast.core.identity.cases import Approval as ApprovalStatement
from holdfast.core.identity.cases import Case as CaseStatement
from holdfast.core.identity.policy import Terms, strictest
from holdfast.core.signed.cose import Sign1
from kernel import statements
from kernel.actors import Actor
from kernel.clock import SKEW
from kernel.errors import Denied, NotFound
from kernel.paging import page, page_in_parts
from kernel.rows import Rows
from kernel.scope import current_tenant
from keys import access as keys
from recovery.models import (
    Approval,
    Attestation,
    Case,
    CaseDeposit,
    ContactRequest,
    Notice,
    Release,
    ReleasedShare,
    SealedShare,
    Shredding,
    Veto,
)
from recovery.states import APPROVABLE, COLLECTABLE, HAD, TERMINAL, UNDECIDED, UNRELEASED, CaseState, NoticeState
from tenants import access as people
from tenants.permissions import PermissionName
from tenants.states import CredentialState, PersonState

if TYPE_CHECKING:
    from escrow.models import Deposit, Policy, PolicyOfficer

OPENED = "opened"
# A case has some tens of entries; one whose release is put off again and again has hundreds.
MAX_TIMELINE = 500


@dataclass(frozen=True)
class TimelineRow:
    """One entry about a case: what happened, when, and who did it."""

    tag: str
    at: datetime
    by: str
    person_id: UUID | None


_READ = "escrow:deposit:read"


def _early(actor: Actor, now: datetime) -> Q:
    """Select the cases of which the actor is not to learn yet: about them, opened by another, before the notice."""
    return Q(subject_id=actor.person_id, notice_at__gt=now) & ~Q(requester_id=actor.person_id)


def withheld_entries(reader: Actor) -> Q | None:
    """Return the condition of the audit entries about cases of which the reader is not to learn yet, if there are any.

    Every entry about a case names it as its subject. A deposit is read by others for a case only, and that entry names
    the person: so the reads of the reader's own deposits by others are withheld since the first such case was opened,
    and with them the counts of such reads, whoever made them. One query; none for an actor who is no person.
    """
    if reader.person_id is None:
        return None
    hidden = list(Case.objects.filter(_early(reader, timezone.now())).values_list("id", "opened_at"))
    if not hidden:
        return None
    # Cases are dated by the database's clock, and entries, in whole seconds, by the clock of whoever writes them.
    since = min(opened_at for _, opened_at in hidden).replace(microsecond=0) - SKEW
    own = Q(subject=str(reader.person_id), time__gte=since)
    reads = own & Q(tag=_READ) & ~Q(person_id=reader.person_id)
    counts = own & Q(tag="audit:entries:counted", body__tag=_READ)
    named = Q(subject__in=[str(case_id) for case_id, _ in hidden])
    return named | reads | counts


def visible_to(actor: Actor, now: datetime) -> QuerySet[Case]:
    """Select the cases that the actor may see.

    A subject learns of a case when its signed statement says and not by asking earlier, whatever their role.
    """
    if actor.can(PermissionName.COVERAGE_READ):
        return Case.objects.exclude(_early(actor, now))
    told = Q(subject_id=actor.person_id, notice_at__lte=now)
    if actor.is_suspended:
        return Case.objects.filter(told)
    return Case.objects.filter(told | Q(requester_id=actor.person_id) | Q(recipient_person_id=actor.person_id))


def cases_about(actor: Actor, *, limit: int) -> list[Case]:
    """List the newest cases about the actor themselves, of which they may know, whatever their role. One query."""
    rows = Case.objects.filter(subject_id=actor.person_id).exclude(_early(actor, timezone.now()))
    return list(rows.order_by("-opened_at", "id")[:limit])


def cases_for(actor: Actor, *, after: UUID | None = None, limit: int = 100) -> tuple[list[Case], bool]:
    """List the cases that the actor may see, and say whether there are more: those not over first, then newest first.

    What is open stands in front of whatever was opened and ended after it. after: the last case of the page before.
    Raises NotFound for one that the actor may not see.
    """
    # A case that is over has its end's date: a condition without values, by which an index of either part is found.
    parts = (Q(ended_at__isnull=True), Q(ended_at__isnull=False))
    return page_in_parts(visible_to(actor, timezone.now()), parts, ("-opened_at", "-id"), after=after, limit=limit)


def case_for_reading(actor: Actor, case_id: UUID) -> Case:
    """Return a case that the actor may see. Raises NotFound, also to a suspended device that no chain lists."""
    if actor.is_suspended and actor.id is not None:
        keys.active_device(actor.id)
    row = visible_to(actor, timezone.now()).filter(id=case_id).first()
    if row is None:
        raise NotFound
    return row


def case_for_recipient(actor: Actor, case_id: UUID) -> Case:
    """Return a case whose recipient is the very device that asks. Raises NotFound for every other."""
    row: Case | None = Case.objects.filter(id=case_id, recipient_device_id=actor.id).first()
    if row is None or actor.kind != "device":
        raise NotFound
    return row


def case_for_subject(actor: Actor, case_id: UUID) -> Case:
    """Return a case about the actor, once they have been told. Raises NotFound."""
    told = Case.objects.filter(id=case_id, subject_id=actor.person_id, notice_at__lte=timezone.now())
    row: Case | None = told.first()
    if row is None or actor.kind != "device":
        raise NotFound
    return row


def case_for_requester(actor: Actor, case_id: UUID) -> Case:
    """Return a case that was opened in the actor's name, for a device that may end it.

    Raises NotFound, and Denied to a pending device that did not open it.
    """
    row: Case | None = Case.objects.filter(id=case_id, requester_id=actor.person_id).first()
    if row is None:
        raise NotFound
    # All that lets such a device in is a code: whoever has one must not end what the person's own new device asks for.
    if actor.credential_state != CredentialState.ACTIVE and row.recipient_device_id != actor.id:
        raise Denied(
            "A device that your account does not list yet takes back the case that it opened, and no other. Cancel it "
            "on a device of your account or on the one that opened it, or have an officer deny it."
        )
    return row


_CASE, _LOCKED = Rows(Case, "id = %s"), Rows(Case, "id = %s", locks=True)


def lock_case(case_id: UUID) -> Case:
    """Return a case, locked until the transaction ends, as it is now. Raises NotFound."""
    row = _LOCKED.first(case_id)
    if row is None:
        raise NotFound
    return row


def statement_of(case: Case) -> CaseStatement:
    """Return what a case's statement says. Its signature was checked when the case was opened."""
    return _case_statement(bytes(case.statement))


@lru_cache(maxsize=64)
def _case_statement(statement: bytes) -> CaseStatement:
    # What the same bytes say is the same for ever, and one release asks for it four times.
    return CaseStatement.from_payload(Sign1.parse(statement).payload)


def disclosed_until(case: Case) -> datetime | None:
    """Return when the disclosure of a case ends, by its signed statement; None where the subject receives."""
    asked = statement_of(case)
    return datetime.fromtimestamp(asked.disclosed_until, UTC) if asked.is_disclosure else None


def ends_at(case: Case) -> datetime:
    """Return when nothing may come of a case any more: at its expiry, or sooner when its disclosure ends."""
    return min(case.expiry, disclosed_until(case) or case.expiry)


_DEPOSITS: Final = Rows(CaseDeposit, "case_id = %s", order="position")
_DECISIONS: Final = Rows(Approval, "case_id = %s", order="at, id")


def deposits_of(case: Case) -> list[CaseDeposit]:
    """List the deposits that a case names, in its own order."""
    return _DEPOSITS.read(case.id)


def decisions_of(case: Case) -> list[Approval]:
    """List everything that officers signed about a case, oldest first: also what they have signed again since."""
    return _DECISIONS.read(case.id)


def approvals_of(case: Case) -> list[Approval]:
    """List each officer's last decision, by their number in the case's policy."""
    return _last_of_each(decisions_of(case))


def _last_of_each(decisions: Iterable[Approval]) -> list[Approval]:
    last = {row.person_id: row for row in decisions}
    return sorted(last.values(), key=lambda row: row.index)


def deposits_by_case(cases: Sequence[Case]) -> dict[UUID, list[CaseDeposit]]:
    """Return what `deposits_of` lists, for many cases. One query."""
    rows = CaseDeposit.objects.filter(case_id__in=[case.id for case in cases]).order_by("position")
    return _by_case(cases, rows)


def approvals_by_case(cases: Sequence[Case]) -> dict[UUID, list[Approval]]:
    """Return what `approvals_of` lists, for many cases. One query."""
    rows = Approval.objects.filter(case_id__in=[case.id for case in cases]).order_by("at", "pk")
    return {case_id: _last_of_each(decisions) for case_id, decisions in _by_case(cases, rows).items()}


def _by_case(cases: Sequence[Case], rows: Iterable[Any]) -> dict[UUID, list[Any]]:
    found: dict[UUID, list[Any]] = {case.id: [] for case in cases}
    for row in rows:
        found[row.case_id].append(row)
    return found


def approvals_by(case: Case, person_id: UUID) -> list[Approval]:
    """List one officer's approvals of a case, oldest first: more than one when the earlier ones have ended."""
    rows = Approval.objects.filter(case_id=case.id, person_id=person_id, decision="approve")
    return list(rows.order_by("at", "pk"))


def ended_approvals(case: Case, rows: Iterable[Approval]) -> set[UUID]:
    """Return the ids of those decisions that are approvals and have ended: their officers are asked to approve anew.

    An approval stands while all shares that it names are kept, or were released and nobody found them wrong. rows: each
    officer's last decision.
    """
    if case.state not in APPROVABLE:
        return set()
    signed = {row.pk: _shares_signed_in(row) for row in rows if row.decision == "approve"}
    held: dict[UUID, set[tuple[UUID, int]]] = {}
    for approval_id, deposit_id, index in shares_of(case).values_list("approval_id", "deposit_id", "index"):
        held.setdefault(approval_id, set()).add((deposit_id, index))
    right: set[tuple[UUID, int]] = set()
    if case.state == CaseState.AWAITING_SHARE:
        right = set(released_shares_of(case).filter(blamed_at=None).values_list("release__deposit_id", "index"))
    return {pk for pk, shares in signed.items() if shares - held.get(pk, set()) - right}


def _shares_signed_in(row: Approval) -> set[tuple[UUID, int]]:
    said = ApprovalStatement.from_payload(Sign1.parse(bytes(row.statement)).payload)
    return {(UUID(bytes=deposit_id), index) for deposit_id, index, _ in said.shares}


def shares_of(case: Case) -> QuerySet[SealedShare]:
    """Return the sealed shares kept for a case."""
    of_case = {"approval__tenant_id": case.tenant_id, "approval__case_id": case.id}
    return SealedShare.objects.filter(**of_case).select_related("approval")


_APPROVED: Final = f"SELECT id FROM {Approval._meta.db_table} WHERE tenant_id = %s AND case_id = %s"  # noqa: S608 — our own table's name
_SHARES: Final = Rows(SealedShare, f"approval_id IN ({_APPROVED})")


def kept_shares(case: Case) -> list[SealedShare]:
    """List the sealed shares kept for a case, in no order, without the approvals that they are part of."""
    return _SHARES.read(current_tenant(), case.id)


# What a count needs of the shares kept for a case that are part of an approval, and nothing that is sealed.
_GIVEN: Final = (
    f"SELECT s.deposit_id, s.approval_id, a.person_id FROM {SealedShare._meta.db_table} s"  # noqa: S608 — our own tables' names
    f" JOIN {Approval._meta.db_table} a ON a.id = s.approval_id AND a.tenant_id = s.tenant_id"
    " WHERE s.tenant_id = %s AND a.case_id = %s AND a.decision = 'approve'"
)


def shares_given(case: Case) -> list[tuple[UUID, UUID, UUID]]:
    """List (deposit, approval, person) of every share that is kept for a case. One query."""
    found = statements.run(_GIVEN, statements.plain((current_tenant(), case.id)))
    return [(keys.as_uuid(deposit), keys.as_uuid(given), keys.as_uuid(person)) for deposit, given, person in found]


_DESTROY: Final = f"DELETE FROM {SealedShare._meta.db_table} WHERE tenant_id = %s AND approval_id IN ({_APPROVED})"  # noqa: S608 — as above


def destroy_shares(case: Case) -> None:
    """Delete the sealed shares kept for a case. In the caller's transaction, which says why."""
    tenant = current_tenant()
    statements.run(_DESTROY, statements.plain((tenant, tenant, case.id)))


def released_shares_of(case: Case) -> QuerySet[ReleasedShare]:
    """Return the shares that were released in a case, those that the recipient found wrong among them."""
    return ReleasedShare.objects.filter(release__tenant_id=case.tenant_id, release__case_id=case.id)


@dataclass(frozen=True)
class SharesLeft:
    """Of one deposit that was released: the indices of shares that nobody found wrong, and how many open it."""

    right: frozenset[int]
    needed: int


def shares_left(case: Case) -> dict[UUID, SharesLeft]:
    """Return, by deposit, the released shares that may still be right."""
    held = escrow.deposits_named([row.deposit_id for row in deposits_of(case)])
    needed = {deposit_id: escrow.policy_named(bytes(row.policy_hash)).m for deposit_id, row in held.items()}
    right: dict[UUID, set[int]] = {deposit_id: set() for deposit_id in held}
    rows = released_shares_of(case).filter(blamed_at=None).values_list("release__deposit_id", "index")
    for deposit_id, index in rows:
        right[deposit_id].add(index)
    return {deposit_id: SharesLeft(frozenset(right[deposit_id]), m) for deposit_id, m in needed.items()}


@dataclass(frozen=True)
class SharesWanted:
    """Of a deposit that was released and cannot be opened: who holds a share that is not there, how many lack."""

    holders: frozenset[UUID]
    missing: int


def shares_wanted(case: Case) -> list[SharesWanted]:
    """Return what each deposit lacks of which too few released shares may be right. Holders are of its own roster."""
    made_under, wanted = policies_at_deposit(case), []
    for deposit_id, left in shares_left(case).items():
        missing = left.needed - len(left.right)
        if missing > 0:
            roster = escrow.officers(made_under[deposit_id])
            holders = frozenset(officer.person_id for officer in roster if officer.index not in left.right)
            wanted.append(SharesWanted(holders, missing))
    return wanted


def is_heard(case: Case, now: datetime) -> bool:
    """Tell whether a case's subject could object ever since it was opened: active, with a device that may act.

    Asked where another receives; a subject who does so themselves has lost what they would object with. Four queries.
    """
    if case.recipient_person_id == case.subject_id:
        return True
    return (
        people.person(case.subject_id).state == PersonState.ACTIVE
        and not audit.was_logged_after(
            str(case.subject_id), tag="tenants:person:suspend", act=(str(case.id), "recovery:case:open")
        )
        and keys.had_device_since(case.subject_id, case.opened_at, now=now)
    )


def had_quorum(case: Case) -> bool:
    """Tell whether as many officers have signed for a case as its policies ask for, as the release process counts.

    Also those who count no more: whoever is suspended afterwards has signed all the same.
    """
    held = escrow.deposits_named([row.deposit_id for row in deposits_of(case)])
    hashes = {bytes(case.policy_hash), *(bytes(row.policy_hash) for row in held.values())}
    m, _ = strictest([escrow.reading(escrow.policy_named(policy_hash)) for policy_hash in sorted(hashes)])
    return len({row.person_id for row in decisions_of(case) if row.decision == "approve"}) >= m


def counted_vetoes(subject_id: UUID, now: datetime) -> int:
    """Count one subject's vetoes of the last 90 days, of cases that had their quorum."""
    since = now - timedelta(seconds=VETOES_COUNT_SECONDS)
    about = Case.objects.filter(subject_id=subject_id).values("id")
    return Veto.objects.filter(case_id__in=about, counts=True, at__gt=since).count()


def veto_by(case_id: UUID, device_id: UUID) -> Veto | None:
    """Return one device's veto of one case, if there is one."""
    return Veto.objects.filter(case_id=case_id, device_id=device_id).first()


def has_vetoed(case: Case) -> bool:
    """Tell whether the subject vetoed this case, ended by it or not. One that only delays it is none."""
    return bool(Veto.objects.filter(case_id=case.id, delays=False).exists())


def delaying_veto(case: Case) -> Veto | None:
    """Return the first veto by a device that m officers had suspended: the long delay runs from it."""
    return Veto.objects.filter(case_id=case.id, delays=True).order_by("at").first()


def count_open_cases_beside(case: Case) -> int:
    """Count the cases in one person's name of which nothing was released yet, for devices that the same people let in.

    The case itself among them. A released one stays for a month until it is closed; whoever off-boards a dozen leavers
    has a dozen of those.
    """
    counts = _open_cases(Case.objects.all(), case.requester_id)
    return counts[keys.let_in_by(keys.device(case.recipient_device_id))]


def most_open_cases_seen(actor: Actor, requester_id: UUID) -> int:
    """Count as `count_open_cases_beside` does, for those who let in most, what the actor may see.

    The number must not tell what the list hides.
    """
    return max(_open_cases(visible_to(actor, timezone.now()), requester_id).values(), default=0)


def _open_cases(rows: QuerySet[Case], requester_id: UUID) -> Counter[tuple[str, ...] | None]:
    open_now = rows.filter(requester_id=requester_id, state__in=UNRELEASED)
    return keys.count_by_whom(open_now.values_list("recipient_device_id", flat=True))


def is_recipient(device_id: UUID, user_id: UUID) -> bool:
    """Tell whether a case that is not over, or a request to contacts, gives or gave its release to a user's device."""
    cases = Case.objects.filter(requester_id=user_id, state__in=set(CaseState) - TERMINAL)
    requests = ContactRequest.objects.filter(owner_id=user_id, state__in=COLLECTABLE)
    return cases.filter(recipient_device_id=device_id).exists() or requests.filter(device_id=device_id).exists()


def shredding_of(person_id: UUID) -> Shredding | None:
    """Return what was asked and done to shred a person's keys, if it was asked."""
    return Shredding.objects.filter(person_id=person_id).first()


def shredding_for_update(person_id: UUID) -> Shredding | None:
    """Return that row locked until the transaction ends."""
    return Shredding.objects.select_for_update().filter(person_id=person_id).first()


def cases_of_subject(person_id: UUID, *, states: Iterable[str]) -> list[Case]:
    """List the cases about a person in some states, by id, whoever may see them: for whoever ends them."""
    return list(Case.objects.filter(subject_id=person_id, state__in=states).order_by("id"))


def cases_of_requester(person_id: UUID, *, states: Iterable[str]) -> list[Case]:
    """List the cases that a person asked for, in some states, by id, whoever may see them: for whoever ends them."""
    return list(Case.objects.filter(requester_id=person_id, state__in=states).order_by("id"))


def approved_by(person_id: UUID, *, states: Iterable[str]) -> QuerySet[Approval, dict[str, UUID]]:
    """Return the ids of the cases in some states that a person approved, as a part of another query."""
    given = Approval.objects.filter(person_id=person_id, decision="approve")
    return given.filter(case_id__in=Case.objects.filter(state__in=states).values("id")).values("case_id")


def notice_of_opening(case: Case) -> Notice | None:
    """Return the notice that the subject is owed about the opening."""
    return Notice.objects.filter(case_id=case.id, person_id=case.subject_id, kind=OPENED).first()


def count_late_notices(reader: Actor, *, since: datetime) -> int:
    """Count the notices that are tried in vain, or were due before `since`, of cases that the reader may know of."""
    waiting = Notice.objects.filter(Q(due_at__lt=since) | Q(attempts__gt=0), state=NoticeState.PENDING)
    early = Case.objects.filter(_early(reader, timezone.now()))
    return int(waiting.exclude(case_id__in=early.values("id")).count())


def share_notices(case: Case) -> int:
    """Count the reports of wrong shares that officers were promised a notice of."""
    kinds = Notice.objects.filter(case_id=case.id, kind__startswith="share")
    return int(kinds.order_by().values("kind").distinct().count())


def notices_for(person_id: UUID, *, after: UUID | None = None) -> tuple[list[Notice], bool]:
    """List the notices that one person was given, newest first, and say whether there are more. Raises NotFound."""
    due = Notice.objects.filter(person_id=person_id, due_at__lte=timezone.now())
    return page(due, ("-due_at", "-id"), after=after)


def newest_notices(person_id: UUID, *, limit: int) -> list[Notice]:
    """List the newest notices that one person was given."""
    return list(
        Notice.objects.filter(person_id=person_id, due_at__lte=timezone.now()).order_by("-due_at", "-id")[:limit]
    )


def releases_of(case: Case) -> list[Release]:
    """List what was released, with its shares."""
    return list(Release.objects.filter(case_id=case.id).prefetch_related("shares").order_by("deposit_id"))


def first_released(case_ids: list[UUID]) -> dict[UUID, datetime]:
    """Return, of these cases, when each was first released, if it was. One query."""
    rows = Release.objects.filter(case_id__in=case_ids).values("case_id").annotate(first=Min("at")).order_by("case_id")
    return dict(rows.values_list("case_id", "first"))


def outlived_releases(now: datetime, *, until: datetime, limit: int) -> list[tuple[UUID, UUID]]:
    """List (case, tenant) of which something is still kept that was collected before a time, or whose disclosure ended.

    The oldest first, in every tenant; at most `limit` cases.
    """
    had = Case.unscoped.filter(tenant_id=OuterRef("tenant_id"), id=OuterRef("case_id"), state__in=HAD)
    long_ago = Q(Exists(had.filter(collected_at__lte=until)), at__lte=until)
    over = Exists(had.filter(disclosed_until__lte=now))
    cases = Release.unscoped.filter(long_ago | over, destroyed_at=None).values_list("case_id", "tenant_id")
    return list(cases.annotate(first=Min("at")).order_by("first").values_list("case_id", "tenant_id")[:limit])


def attestations_of(case: Case) -> list[Attestation]:
    """List the officers' attestations by index."""
    return list(Attestation.objects.filter(case_id=case.id).order_by("index"))


def timeline(case: Case) -> tuple[list[TimelineRow], bool]:
    """List the newest log entries about this case, oldest first, and say whether there are earlier ones.

    What is seconds old may still be missing.
    """
    rows = audit.about(str(case.id), limit=MAX_TIMELINE + 1)
    shown = [TimelineRow(row.tag, row.time, row.actor, row.person_id) for row in reversed(rows[:MAX_TIMELINE])]
    return shown, len(rows) > MAX_TIMELINE


def policies_at_deposit(case: Case) -> dict[UUID, Policy]:
    """Return, for each deposit of a case, the policy that it was made under: by that, its shares are numbered."""
    hashes = escrow.policies_of_deposits(_deposit_ids(case))
    named = {policy_hash: escrow.policy_named(policy_hash) for policy_hash in set(hashes.values())}
    return {deposit_id: named[policy_hash] for deposit_id, policy_hash in hashes.items()}


def _deposit_ids(case: Case) -> list[UUID]:
    return list(CaseDeposit.objects.filter(case_id=case.id).order_by("position").values_list("deposit_id", flat=True))


@dataclass(frozen=True)
class Standard:
    """By what a case is counted: the strictest of deposit, request and now (ESCROW "Policy and officers").

    m counts one officer more when the subject's vetoes no longer end their cases.
    """

    m: int
    terms: Terms
    at_request: Policy
    in_force: Policy
    deposit_ids: tuple[UUID, ...]


# The deposits that a case names, in its order, each with the policy that it was made under, and whether the subject has
# vetoed the case as `has_vetoed` has it.
_NAMED: Final = (
    "SELECT n.deposit_id, d.policy_hash,"  # noqa: S608 — our own tables' names
    f" EXISTS (SELECT 1 FROM {Veto._meta.db_table} v"
    " WHERE v.tenant_id = n.tenant_id AND v.case_id = n.case_id AND NOT v.delays)"
    f" FROM {CaseDeposit._meta.db_table} n"
    f" LEFT JOIN {escrow.DEPOSIT_TABLE} d ON d.tenant_id = n.tenant_id AND d.id = n.deposit_id"
    " WHERE n.tenant_id = %s AND n.case_id = %s ORDER BY n.position"
)


def standard_of(case: Case, now: datetime) -> Standard:
    """Return by what a case is counted now. Two queries."""
    requested = bytes(case.policy_hash)
    found = statements.run(_NAMED, statements.plain((current_tenant(), case.id)))
    made_under = {bytes(policy_hash) for _, policy_hash, _ in found if policy_hash is not None}
    named, in_force = escrow.policies_named({*made_under, requested}, now)
    m, terms = strictest([escrow.reading(row) for row in (*named.values(), in_force)])
    deposit_ids = tuple(keys.as_uuid(deposit_id) for deposit_id, _, _ in found)
    more = 1 if any(has_veto for _, _, has_veto in found) else 0
    return Standard(m + more, terms, named[requested], in_force, deposit_ids)


def terms_of(case: Case, now: datetime) -> tuple[int, Terms, Policy]:
    """Return (m, terms, policy at request) of `standard_of`."""
    standard = standard_of(case, now)
    return standard.m, standard.terms, standard.at_request


def excluded_from(case: Case) -> frozenset[UUID]:
    """Return the persons who may never decide this case: its parties, and whoever stands behind it."""
    return frozenset({case.requester_id, case.subject_id, case.recipient_person_id}) | behind(case)


def behind(case: Case) -> frozenset[UUID]:
    """Return who issued the code of the recipient's device, and who let in whoever did or the requester."""
    return frozenset(UUID(person_id) for person_id in case.behind or [])


def eligible_for(case: Case, policy: Policy, now: datetime, in_force: Policy | None = None) -> list[PolicyOfficer]:
    """List the officers who may decide this case now: of its own policy, and of the one in force as well."""
    return escrow.eligible(policy, now=now, excluded=excluded_from(case), in_force=in_force)


def deposit_for_reading(actor: Actor, deposit_id: UUID) -> Deposit:
    """Return a deposit for its owner, for an officer while a case names it, or for that case's recipient.

    Raises NotFound.
    """
    row = escrow.deposits_named([deposit_id]).get(deposit_id)
    if row is None:
        raise NotFound
    if row.user_id == actor.person_id:
        return row
    named = CaseDeposit.objects.filter(deposit_id=deposit_id).values("case_id")
    naming = Case.objects.filter(id__in=named).exclude(state__in=TERMINAL)
    if actor.can(PermissionName.CASE_APPROVE) and naming.exists():
        return row
    if naming.filter(recipient_device_id=actor.id).exists():
        return row
    raise NotFound


def past_expiry(now: datetime) -> list[tuple[UUID, UUID]]:
    """List (case, tenant) whose time is over, in every tenant: for the worker, which opens each one's scope."""
    ending = [*UNDECIDED, CaseState.RELEASED, CaseState.AWAITING_SHARE]
    over = Q(expiry__lte=now) | Q(disclosed_until__lte=now)
    rows = Case.unscoped.filter(over, state__in=ending)
    return list(rows.values_list("id", "tenant_id"))


def in_states(*states: str) -> list[tuple[UUID, UUID]]:
    """List (case, tenant) of the cases in some states, in every tenant: for system loops."""
    return list(Case.unscoped.filter(state__in=states).values_list("id", "tenant_id"))


def tenants_waiting() -> set[UUID]:
    """Return the tenants with a case of which nothing was released yet: their log has to be fresh at all times."""
    rows = Case.unscoped.filter(state__in=UNRELEASED).order_by()
    return set(rows.values_list("tenant_id", flat=True).distinct())


def notices_of(case: Case) -> list[Notice]:
    """List the notices owed about a case, in the order in which they fall due."""
    return list(Notice.objects.filter(case_id=case.id).order_by("due_at", "kind", "id"))


def vetoes_of(case: Case) -> list[Veto]:
    """List the subject's vetoes of a case."""
    return list(Veto.objects.filter(case_id=case.id).order_by("at"))


def case_for_release(case_id: UUID) -> Case | None:
    """Return a case of the open tenant for the release process, if there is such a case."""
    return _CASE.first(case_id)


def due_for_release(now: datetime) -> list[tuple[UUID, UUID]]:
    """List (case, tenant) that a dead process left in `releasing`, or whose time has come."""
    # In a case that awaits a share there is something to do once one came, which is when it has a time.
    timed = Q(state__in=(CaseState.WAITING, CaseState.AWAITING_SHARE), release_at__lte=now)
    due = Q(state=CaseState.RELEASING) | timed
    return list(Case.unscoped.filter(due).order_by("release_at").values_list("id", "tenant_id"))


def put_off_beyond(at: datetime) -> list[tuple[UUID, UUID]]:
    """List (case, tenant) that the release process has put off until later than `at`: it says why in the row."""
    waits = Case.unscoped.filter(state__in=(CaseState.WAITING, CaseState.AWAITING_SHARE), release_at__gt=at)
    return list(waits.exclude(why="").order_by("release_at").values_list("id", "tenant_id"))
