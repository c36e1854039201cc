# SPDX-License-Identifier: Apache-2.0
"""How a case ends without a release: taken back, vetoed, run out of time; and how it goes back to its officers.

Implements ESCROW "Case"; FAULTS R14. The shares that officers sealed for a failed case are destroyed with it.
"""

from __future__ import annotations

from typing import Final
from uuid import UUID

from django.db import transaction

from audit import services as audit
from holdfast.core.base.errors import HoldfastError
from holdfast.core.identity import cases
from holdfast.core.signed.cose import Purpose, Sign1
from holdfast.core.signed.statements import DeviceStatement
from kernel.actors import Actor
from kernel.clock import database_now
from kernel.transitions import advance
from keys import access as keys
from recovery import access
from recovery.errors import CaseMoved, CaseRefused
from recovery.models import Case, SealedShare, Veto
from recovery.states import CASE, FAILED, UNDECIDED, UNRELEASED, CaseState


def cancel_case(*, case_id: UUID, actor: Actor) -> Case:
    """End a case by the word of the person who opened it. Raises CaseMoved when it is decided already."""
    return _end(case_id, CaseState.CANCELLED, "recovery:case:cancel", actor)


def veto_case(*, case_id: UUID, statement: bytes, reason: str, actor: Actor) -> Case:
    """Take the subject's veto, signed by one of their active devices; two in their cases end them.

    A third asks one officer more instead. Raises CaseRefused for a statement that does not fit, CaseMoved when
    the HSM may have worked already.
    """
    device = DeviceStatement.open(Sign1.parse(bytes(keys.active_device(_device_id(actor)).statement)))
    with transaction.atomic():
        row = access.lock_case(case_id)
        try:
            signed = Sign1.parse(statement)
            said = cases.Veto.from_payload(signed.verify(device.signing_key, purpose=Purpose.VETO))
        except HoldfastError as error:
            raise CaseRefused(str(error), field="statement") from error
        if said.case_hash != bytes(row.q) or said.header.user != row.subject_id.bytes:
            raise CaseRefused("The veto is about another case, or not the subject's.", field="statement")
        if row.state not in UNDECIDED:
            raise CaseMoved(f"The case is {row.state}.", state=row.state)
        ends = access.vetoes_about(row.subject_id) < cases.VETOES_THAT_END
        if access.has_vetoed(row):
            return row
        Veto.objects.create(
            case_id=row.id, device_id=_device_id(actor), statement=statement, reason=reason, at=database_now()
        )
        audit.append(
            tag="recovery:case:veto",
            actor=actor,
            subject=str(row.id),
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
        row = access.lock_case(case_id)
        if row.expiry > database_now() or not CASE.allows(row.state, CaseState.EXPIRED):
            return
        finish_failed(row, CaseState.EXPIRED)
        audit.append(tag="recovery:case:expire", actor=actor, subject=str(row.id), body={"q": bytes(row.q)})


def end_again(*, case_id: UUID, tag: str, device_id: UUID | None) -> bool:
    """End a case in the rows whose end a restored database had lost; False when the case itself is lost.

    In the transaction that puts the entry back. device_id: whose veto it was; its statement is lost, and the log's word
    stands.
    """
    row = Case.objects.filter(id=case_id).first()
    if row is None:
        return False
    if device_id is not None:
        Veto.objects.get_or_create(
            tenant_id=row.tenant_id, case_id=row.id, device_id=device_id, defaults={"at": database_now()}
        )
    state = _ENDS_AGAIN.get(tag)
    if state is not None and CASE.allows(row.state, state):
        finish_failed(row, state)
    return True


_ENDS_AGAIN: Final = {
    "recovery:case:cancel": CaseState.CANCELLED,
    "recovery:case:deny": CaseState.DENIED,
    "recovery:case:veto": CaseState.VETOED,
}


def reopen(row: Case, *, why: str, actor: Actor) -> None:
    """Send a case back to its officers, because an approval counts no more. Inside the caller's transaction."""
    advance(row, CASE, CaseState.REQUESTED, why=why, why_since=database_now(), quorate_at=None, release_at=None)
    audit.append(tag="recovery:case:reopen", actor=actor, subject=str(row.id), body={"why": why})


def finish_failed(row: Case, state: CaseState, *, why: str = "") -> None:
    """End a case without a release, and destroy the shares that officers had sealed for it.

    Inside the caller's transaction. Shares of failed cases must not add up to a quorum.
    """
    if state not in FAILED:
        raise ValueError(f"{state} is no failed end")
    advance(row, CASE, state, why=why, ended_at=database_now())
    access.shares_of(row).delete()


def end_approvals(person_id: UUID) -> None:
    """Destroy what an officer has sealed for cases of which nothing was released: whoever is back approves anew.

    In the transaction that changes their standing. Each case is back with its officers when it is counted next.
    """
    open_cases = Case.objects.filter(state__in=UNRELEASED).values("id")
    SealedShare.objects.filter(approval__person_id=person_id, approval__case_id__in=open_cases).delete()


def _end(case_id: UUID, state: CaseState, tag: str, actor: Actor) -> Case:
    with transaction.atomic():
        row = access.lock_case(case_id)
        if row.state == state:
            return row
        if row.state not in UNDECIDED:
            raise CaseMoved(f"The case is {row.state}.", state=row.state)
        finish_failed(row, state)
        audit.append(tag=tag, actor=actor, subject=str(row.id), body={"q": bytes(row.q)})
    return row


def _device_id(actor: Actor) -> UUID:
    if actor.kind != "device" or actor.id is None:
        raise CaseRefused("Only a device acts here.")
    return actor.id
