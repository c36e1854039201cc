# SPDX-License-Identifier: Apache-2.0
"""Which approvals of a case count now, and where that moves it: to its quorum, into its delay, back to its officers.

Implements ESCROW "Case" and FAULTS R3. Called whenever something changed that may move a case, on its locked row.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING
from uuid import UUID

from django.db import transaction

from audit import services as audit
from escrow import access as escrow
from holdfast.core.escrow.release import stands
from holdfast.core.signed.cose import Sign1
from kernel.actors import Actor, system_actor
from kernel.clock import database_now
from kernel.queue import enqueue
from kernel.transitions import advance
from recovery import access
from recovery.cases.endings import reopen, wait_anew
from recovery.models import Case
from recovery.states import CASE, UNDECIDED, CaseState, NoticeState

if TYPE_CHECKING:
    from holdfast.core.identity.policy import Terms

RELEASE_JOB = "recovery.release"


def count_approvals(case: Case, standard: access.Standard, now: datetime) -> dict[UUID, set[UUID]]:
    """Return, for each deposit of the case, the persons whose approvals count for it now."""
    policy, terms = standard.at_request, standard.terms
    eligible = {officer.person_id for officer in access.eligible_for(case, policy, now, standard.in_force)}
    # By the rule of the release process, or a case would be sent to it again and again that it sends back.
    standing = {
        row.pk
        for row in access.approvals_of(case)
        if row.person_id in eligible and stands(Sign1.parse(bytes(row.statement)), terms, at=int(now.timestamp()))
    }
    return persons_of(standard.deposit_ids, access.shares_given(case), standing)


def persons_of(
    deposit_ids: Iterable[UUID], shares: Iterable[tuple[UUID, UUID, UUID]], standing: Collection[UUID]
) -> dict[UUID, set[UUID]]:
    """Return, for each deposit, the persons whose share of it is part of an approval that stands.

    shares: (deposit, approval, person) of every share that is kept. standing: ids of approvals.
    """
    held: dict[UUID, set[UUID]] = {deposit_id: set() for deposit_id in deposit_ids}
    for deposit_id, approval_id, person_id in shares:
        if approval_id in standing:
            held.setdefault(deposit_id, set()).add(person_id)
    return held


def end_outlived(case: Case, now: datetime) -> None:
    """Destroy the shares of officers who were off the roster since they approved: who is back approves anew.

    Inside the caller's transaction, under the locks of officers and of the case.
    """
    # Nobody left while no version came into force: one query, and nothing to do for nearly every case.
    if not escrow.has_changed(since=case.opened_at, now=now):
        return
    given = {share.approval.pk: share.approval for share in access.shares_of(case)}.values()
    left = escrow.left_since({row.person_id: row.at for row in given}, bytes(case.policy_hash), now)
    access.shares_of(case).filter(approval__person_id__in=left).delete()


def recount(case: Case, *, now: datetime, actor: Actor) -> None:
    """Move a case to where its approvals and notices have it. Inside the caller's transaction, on a locked row."""
    end_outlived(case, now)
    standard = access.standard_of(case, now)
    m, terms = standard.m, standard.terms
    fewest = min(len(persons) for persons in count_approvals(case, standard, now).values())
    if case.state in (CaseState.QUORATE, CaseState.WAITING) and fewest < m:
        reopen(case, why="quorum-lost", actor=actor)
    if case.state == CaseState.REQUESTED and fewest >= m:
        advance(case, CASE, CaseState.QUORATE, quorate_at=now, why="")
        audit.append(tag="recovery:case:quorum", actor=actor, subject=str(case.id), body={"q": bytes(case.q)})
    if case.state == CaseState.QUORATE:
        _start_waiting(case, terms, now)


class LongDelay(StrEnum):
    """Why the policy's long delay applies to a case, in place of the delay. For rows; the release process asks the log.

    ESCROW "Case".
    """

    UNHEARD = "unheard"  # another receives, and the subject is or was suspended, gone or without a device
    OBJECTED = "objected"  # a device that m officers had suspended vetoed
    NOT_TOLD = "not-told"


def why_long(case: Case, now: datetime) -> LongDelay | None:
    """Return why the long delay applies to a case, None where it does not."""
    if not access.is_heard(case, now):
        return LongDelay.UNHEARD
    if access.delaying_veto(case) is not None:
        return LongDelay.OBJECTED
    notice = access.notice_of_opening(case) if case.notice_at <= now else None
    return LongDelay.NOT_TOLD if notice is not None and notice.state == NoticeState.FAILED else None


def _release_at(case: Case, terms: Terms, now: datetime) -> datetime:
    """Return when a quorate case is due, by the rows: what the log says of it, the release process asks itself."""
    veto, is_long = access.delaying_veto(case), why_long(case, now) is not None
    notice = access.notice_of_opening(case) if case.notice_at <= now else None
    return end_of_delay(
        case,
        terms,
        is_long=is_long,
        objected_at=veto.at if veto else None,
        settled_at=notice.settled_at if notice else None,
        now=now,
    )


def end_of_delay(
    case: Case,
    terms: Terms,
    *,
    is_long: bool,
    objected_at: datetime | None,
    settled_at: datetime | None,
    now: datetime,
) -> datetime:
    """Return when the delay of a case ends that has its quorum, by the rows.

    is_long: whether the long delay applies. objected_at: when the first device objected that officers had suspended.
    settled_at: when the subject was told of the opening, or could not be, with which the time to object begins.
    """
    delay = max(terms.delay_seconds, terms.undelivered_delay_seconds if is_long else 0)
    quorate_at = case.quorate_at or now
    start = max(quorate_at, objected_at or quorate_at, settled_at or quorate_at)
    return max(case.not_before, start + timedelta(seconds=delay))


def _start_waiting(case: Case, terms: Terms, now: datetime) -> None:
    """Start the delay once the subject was told, could not be told, or is to be told later (FAULTS R3)."""
    if case.notice_at <= now:
        notice = access.notice_of_opening(case)
        if notice is None or notice.state == NoticeState.PENDING:
            return
    release_at = _release_at(case, terms, now)
    advance(case, CASE, CaseState.WAITING, release_at=release_at)
    # Under the process's own name: nobody's act starts the delay, the rules do.
    audit.append(
        tag="recovery:case:wait",
        actor=system_actor(case.tenant_id, "recovery"),
        subject=str(case.id),
        body={"q": bytes(case.q), "release_at": int(release_at.timestamp())},
    )
    enqueue(RELEASE_JOB, queue="release", run_at=release_at, unique=str(case.id), case=str(case.id))


def lengthen_delay(*, case_id: UUID, actor: Actor) -> None:
    """Reckon the delay of a case that waits anew where its subject cannot object any more. It gets no shorter."""
    with transaction.atomic():
        escrow.lock_policies()
        case, now = access.lock_case(case_id), database_now()
        if case.state != CaseState.WAITING or case.release_at is None or access.is_heard(case, now):
            return
        _, terms, _ = access.terms_of(case, now)
        if _release_at(case, terms, now) > case.release_at:
            wait_anew(case)
            recount(case, now=now, actor=actor)


def settle_case(*, case_id: UUID, actor: Actor) -> None:
    """Count a case's rows again and move it to where they have it: an officer left, came back, or a notice settled."""
    with transaction.atomic():
        escrow.lock_policies()
        case = access.lock_case(case_id)
        if case.state in UNDECIDED:
            recount(case, now=database_now(), actor=actor)
