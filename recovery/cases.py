# SPDX-License-Identifier: Apache-2.0
"""Opening a case and ending it: by the requester, by the subject, by time. `services` re-exports these verbs.

Implements ESCROW "Case"; FAULTS P1, P4, P14, P17, R5, R14. It decides no release.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import UUID

from django.db import IntegrityError, transaction
from django.utils import timezone

from audit import services as audit
from escrow import access as escrow
from holdfast.core.base.errors import HoldfastError
from holdfast.core.identity import cases
from holdfast.core.identity.policy import strictest
from holdfast.core.signed.cose import Purpose, Sign1
from holdfast.core.signed.payloads import check_time
from holdfast.core.signed.statements import DeviceStatement
from kernel.actors import Actor
from kernel.queue import enqueue
from kernel.transitions import advance
from keys import access as keys
from recovery import access
from recovery.errors import CaseExists, CaseMoved, CaseRefused, TooFewOfficers
from recovery.models import Case, CaseDeposit, Notice, SealedShare, Veto
from recovery.states import CASE, FAILED, UNDECIDED, CaseState
from tenants import access as tenants

if TYPE_CHECKING:
    from escrow.models import Deposit, Policy

# A third veto in one subject's cases asks one officer more instead of ending the case.
VETOES_THAT_END = 2
RELEASE_JOB = "recovery.release"
NOTICE_JOB = "recovery.notice"


def open_case(*, statement: bytes, actor: Actor) -> Case:
    """Open a case for the device that signed it, tell who must be told, and log it.

    Raises CaseRefused, naming what does not fit; TooFewOfficers when it could never be released; CaseExists.
    """
    # To open a case we must know:
    #
    # (1) that the very device that asks signed it, with the keys of its own statement;
    # (2) that its terms are within the policy: purpose, notice, times;
    # (3) that every deposit is one subject's and is the one that is meant;
    # (4) that enough officers could decide it.
    now = timezone.now()
    signed, case = _require_signed(statement, actor, now)  # (1)
    with transaction.atomic():
        newest = escrow.newest_policy_for_update()
        if newest is None or bytes(newest.hash) != case.policy_hash:
            raise CaseRefused("The case names another policy than the newest one.", field="case")
        held = _require_deposits(case)  # (3)
        named = {bytes(row.policy_hash): row for row in held}
        policies = [escrow.policy_named(policy_hash) for policy_hash in named]
        m, terms = strictest([escrow.reading(row) for row in [*policies, newest, escrow.policy_in_force(now)]])
        if case.purpose not in terms.purposes:  # (2)
            allowed = ", ".join(sorted(terms.purposes)) or "nothing"
            raise CaseRefused(f"The purpose is not allowed. Every policy concerned allows: {allowed}.", field="case")
        if case.notice_at - now.timestamp() > terms.max_notice_delay_seconds:
            raise CaseRefused("The notice is delayed longer than the policy allows.", field="case")
        row = _store(signed, statement, case, actor, now)
        _require_enough_officers(row, newest, m, now)  # (4)
        _owe_notices(row, now)
        audit.append(
            tag="recovery:case:open",
            actor=actor,
            subject=str(row.pk),
            body={
                "q": bytes(row.q),
                "policy": case.policy_hash,
                "user": str(row.subject_id),
                "requester": str(row.requester_id),
                "recipient": str(row.recipient_person_id),
                "recipient_device": str(row.recipient_device_id),
            },
        )
    return row


def _require_signed(statement: bytes, actor: Actor, now: datetime) -> tuple[Sign1, cases.Case]:
    if actor.kind != "device" or actor.id is None or actor.person_id is None or actor.tenant_id is None:
        raise CaseRefused("Only a device opens a case.")
    device_row = keys.device(actor.id)
    try:
        device = DeviceStatement.open(Sign1.parse(bytes(device_row.statement)))
        signed = Sign1.parse(statement)
        signed.verify(device.signing_key, purpose=Purpose.CASE)
        case = cases.Case.from_payload(signed.payload)
        check_time(case.header, int(now.timestamp()))
    except HoldfastError as error:
        raise CaseRefused(str(error), field="case") from error
    whose = (actor.tenant_id.bytes, actor.person_id.bytes, actor.id.bytes)
    if (case.header.tenant, case.header.user, case.header.device) != whose:
        raise CaseRefused("The case names another tenant, user or device than the one that asks.", field="case")
    if case.recipient_device_hash != bytes(device_row.statement_hash):
        raise CaseRefused("The case names another recipient than the device that signed it.", field="case")
    # Nobody is named requester by somebody else: naming an officer would shut her out of the decision.
    if case.requester != actor.person_id.bytes:
        raise CaseRefused("The requester is the person whose device opens the case.", field="case")
    if case.expiry <= now.timestamp():
        raise CaseRefused("The case has expired already.", field="case")
    tenants.person(UUID(bytes=case.subject))
    return signed, case


def _require_deposits(case: cases.Case) -> list[Deposit]:
    held = escrow.deposits_named([UUID(bytes=deposit_id) for deposit_id, _ in case.deposits])
    for deposit_id, record_hash in case.deposits:
        row = held.get(UUID(bytes=deposit_id))
        # One answer for an unknown deposit and for another person's: a case finds nothing out.
        if row is None or row.user_id.bytes != case.subject or bytes(row.record_hash) != record_hash:
            raise CaseRefused("A deposit is not the subject's, or is not the one that is in custody.", field="case")
    return list(held.values())


def _store(signed: Sign1, statement: bytes, case: cases.Case, actor: Actor, now: datetime) -> Case:
    try:
        with transaction.atomic():
            row: Case = Case.objects.create(
                id=UUID(bytes=case.case_id),
                q=signed.payload_hash,
                statement=statement,
                subject_id=UUID(bytes=case.subject),
                requester_id=UUID(bytes=case.requester),
                recipient_device_id=actor.id,
                recipient_person_id=actor.person_id,
                purpose=case.purpose,
                policy_hash=case.policy_hash,
                opened_at=now,
                notice_at=_time(case.notice_at),
                not_before=_time(case.not_before),
                expiry=_time(case.expiry),
            )
    except IntegrityError as error:
        raise CaseExists from error
    held = escrow.deposits_named([UUID(bytes=deposit_id) for deposit_id, _ in case.deposits])
    for position, (deposit_id, record_hash) in enumerate(case.deposits):
        CaseDeposit.objects.create(
            case=row,
            position=position,
            deposit_id=UUID(bytes=deposit_id),
            record_hash=record_hash,
            generation=held[UUID(bytes=deposit_id)].generation,
        )
    return row


def _require_enough_officers(row: Case, newest: Policy, m: int, now: datetime) -> None:
    needed = m + (1 if access.vetoes_about(row.subject_id) >= VETOES_THAT_END else 0)
    eligible = access.eligible_for(row, newest, now)
    if len(eligible) < needed:
        raise TooFewOfficers(
            f"{len(eligible)} officers may decide this case, and {needed} are needed: the requester, the subject "
            "and the recipient's person do not count, nor do officers who are away, suspended or cooling off. "
            "Have another person open it, or have officers come back first.",
            eligible=len(eligible),
            needed=needed,
        )


def _owe_notices(row: Case, now: datetime) -> None:
    """Promise the subject her notice for the date that the case fixes, and the officers theirs now."""
    owed = [(row.subject_id, access.OPENED, max(row.notice_at, now))]
    policy = escrow.policy_named(bytes(row.policy_hash))
    owed += [(officer.person_id, "asked", now) for officer in access.eligible_for(row, policy, now)]
    for person_id, kind, due_at in owed:
        owe(row, person_id, kind, due_at)


def owe(row: Case, person_id: UUID, kind: str, due_at: datetime) -> None:
    """Promise one notice, once, in the transaction that is open."""
    notice, is_new = Notice.objects.get_or_create(
        tenant_id=row.tenant_id, case=row, person_id=person_id, kind=kind, defaults={"due_at": due_at}
    )
    if is_new:
        enqueue(NOTICE_JOB, run_at=due_at, unique=str(notice.pk), notice=str(notice.pk))


def cancel_case(*, case_id: UUID, actor: Actor) -> Case:
    """End a case by the word of the person who opened it. Raises CaseMoved when it is decided already."""
    return _end(case_id, CaseState.CANCELLED, "recovery:case:cancel", actor)


def veto_case(*, case_id: UUID, statement: bytes, reason: str, actor: Actor) -> Case:
    """Take the subject's veto, signed by one of her active devices; two in her cases end them.

    A third asks one officer more instead. Raises CaseRefused for a statement that does not fit, CaseMoved when
    the HSM may have worked already.
    """
    device = DeviceStatement.open(Sign1.parse(bytes(keys.active_device(_device_id(actor)).statement)))
    with transaction.atomic():
        row = access.locked(case_id)
        try:
            signed = Sign1.parse(statement)
            said = cases.Veto.from_payload(signed.verify(device.signing_key, purpose=Purpose.VETO))
        except HoldfastError as error:
            raise CaseRefused(str(error), field="statement") from error
        if said.case_hash != bytes(row.q) or said.header.user != row.subject_id.bytes:
            raise CaseRefused("The veto is about another case, or not the subject's.", field="statement")
        if row.state not in UNDECIDED:
            raise CaseMoved(f"The case is {row.state}.", state=row.state)
        ends = access.vetoes_about(row.subject_id) < VETOES_THAT_END
        if access.has_vetoed(row):
            return row
        Veto.objects.create(
            case=row, device_id=_device_id(actor), statement=statement, reason=reason, at=timezone.now()
        )
        audit.append(
            tag="recovery:case:veto",
            actor=actor,
            subject=str(row.pk),
            body={"q": bytes(row.q), "device": str(actor.id), "ends": int(ends)},
        )
        if ends:
            finish_failed(row, CaseState.VETOED)
        elif row.state != CaseState.REQUESTED:
            reopen(row, why="veto", actor=actor)
    return row


def expire_case(*, case_id: UUID, actor: Actor) -> None:
    """End a case whose time is over. Called by the worker; a case that moved meanwhile is left alone."""
    with transaction.atomic():
        row = access.locked(case_id)
        if row.expiry > timezone.now() or not CASE.allows(row.state, CaseState.EXPIRED):
            return
        finish_failed(row, CaseState.EXPIRED)
        audit.append(tag="recovery:case:expire", actor=actor, subject=str(row.pk), body={"q": bytes(row.q)})


def reopen(row: Case, *, why: str, actor: Actor) -> None:
    """Send a case back to its officers, because an approval counts no more. Inside the caller's transaction."""
    advance(row, CASE, CaseState.REQUESTED, why=why, quorate_at=None, release_at=None)
    audit.append(tag="recovery:case:reopen", actor=actor, subject=str(row.pk), body={"why": why})


def finish_failed(row: Case, state: CaseState, *, why: str = "") -> None:
    """End a case without a release, and destroy the shares that officers had sealed for it.

    Inside the caller's transaction. Shares of failed cases must not add up to a quorum.
    """
    if state not in FAILED:
        raise ValueError(f"{state} is no failed end")
    advance(row, CASE, state, why=why, ended_at=timezone.now())
    SealedShare.objects.filter(approval__case=row).delete()


def _end(case_id: UUID, state: CaseState, tag: str, actor: Actor) -> Case:
    with transaction.atomic():
        row = access.locked(case_id)
        if row.state == state:
            return row
        if row.state not in UNDECIDED:
            raise CaseMoved(f"The case is {row.state}.", state=row.state)
        finish_failed(row, state)
        audit.append(tag=tag, actor=actor, subject=str(row.pk), body={"q": bytes(row.q)})
    return row


def _device_id(actor: Actor) -> UUID:
    if actor.kind != "device" or actor.id is None:
        raise CaseRefused("Only a device acts here.")
    return actor.id


def _time(seconds: int) -> datetime:
    try:
        return datetime.fromtimestamp(seconds, tz=UTC)
    except (OverflowError, ValueError, OSError) as error:
        raise CaseRefused("A time lies outside the calendar.", field="case") from error
