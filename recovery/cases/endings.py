# SPDX-License-Identifier: Apache-2.0
"""How a case ends without a release: taken back, vetoed, run out of time; and how it goes back to its officers.

Implements ESCROW "Case"; FAULTS R14. The shares that officers sealed for a failed case are destroyed with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from uuid import UUID

from django.db import transaction

from audit import access as audit_log
from audit import services as audit
from audit.errors import NoCheckpoint
from escrow import access as escrow
from holdfast.core.base.errors import HoldfastError
from holdfast.core.identity import cases
from holdfast.core.signed.cose import Sign1
from kernel.actors import Actor
from kernel.clock import database_now
from kernel.errors import NotFound
from kernel.transitions import advance
from keys import access as keys
from keys.notices import owe_device as tell_device
from recovery import access
from recovery.errors import CaseMoved, CaseRefused, VetoNotLoggedYet
from recovery.models import Case, Release, ReleasedShare, SealedShare, Veto
from recovery.states import CASE, FAILED, KEPT, UNDECIDED, UNRELEASED, CaseState

# Why a case was cancelled that nobody took back.
REQUESTER_LEFT: Final = "requester-left"
SHREDDED: Final = "shredded"


def cancel_case(*, case_id: UUID, actor: Actor, why: str = "") -> Case:
    """End a case by the word of the person who opened it, and tell the device that did, if it was by another.

    why: a fixed word, where no word of theirs ended it: REQUESTER_LEFT or SHREDDED. Raises CaseMoved when it is decided
    already.
    """
    with transaction.atomic():
        row = access.lock_case(case_id)
        if row.state == CaseState.CANCELLED:
            return row
        if row.state not in UNDECIDED:
            raise CaseMoved(f"The case is {row.state}.", state=row.state)
        finish_failed(row, CaseState.CANCELLED, why=why)
        audit.append(tag="recovery:case:cancel", actor=actor, subject=str(row.id), body={"q": bytes(row.q)})
        if row.recipient_device_id != actor.id:
            tell_device(
                device_ids=[row.recipient_device_id],
                event="case-cancelled",
                case_id=str(row.id),
                device_id=str(actor.id),
            )
    return row


def veto_case(*, case_id: UUID, statement: bytes, reason: str, actor: Actor) -> Case:
    """Take the subject's veto, signed by one of their devices that the chain lists; it ends the case.

    A third one within 90 days, of cases that had their quorum, asks one officer more instead; one by a device that m
    officers have suspended gives the long delay. Sent again, it changes nothing. Raises CaseRefused for a statement
    that does not fit, CaseMoved when the HSM may have worked already, or where another device's veto leaves this one
    nothing to do.
    """
    device_id = _device_id(actor)
    device = Sign1.parse(bytes(keys.active_device(device_id).statement))
    with transaction.atomic():
        row = access.lock_case(case_id)
        try:
            signed = Sign1.parse(statement)
            cases.verify_veto(signed, case=Sign1.parse(bytes(row.statement)), device=device)
        except HoldfastError as error:
            raise CaseRefused(str(error), field="statement") from error
        if access.veto_by(row.id, device_id) is not None:
            return row
        if row.state not in UNDECIDED:
            raise CaseMoved(f"The case is {row.state}.", state=row.state)
        delays = escrow.is_suspended_by_officers(device_id)
        # Said, and not passed over: whoever is told that their veto was taken waits for a proof that never comes.
        if access.has_vetoed(row):
            raise CaseMoved(
                "This case was vetoed already, the third time within 90 days: it goes on with one officer more, and a "
                "further veto changes nothing. Speak to your officers: each of them can deny it.",
                state=row.state,
            )
        if delays and access.delaying_veto(row) is not None:
            raise CaseMoved(
                "Another device that officers suspended has vetoed this case already: the long delay runs from then. "
                "A device that is not suspended can still end it.",
                state=row.state,
            )
        now = database_now()
        # Whoever opens cases in somebody's name, and has them vetoed, uses up nothing: m officers had to sign as well.
        counts = not delays and access.had_quorum(row)
        ends = not delays and (not counts or access.counted_vetoes(row.subject_id, now) < cases.VETOES_THAT_END)
        Veto.objects.create(
            case_id=row.id,
            device_id=device_id,
            statement=statement,
            reason=reason,
            at=now,
            counts=counts,
            delays=delays,
        )
        audit.append(
            tag="recovery:case:veto",
            actor=actor,
            subject=str(row.id),
            body={
                "q": bytes(row.q),
                "device": str(device_id),
                "ends": int(ends),
                # What the release process believes a veto by: this word of ours uses up none of the subject's.
                "statement": signed.payload_hash,
            },
        )
        if ends:
            finish_failed(row, CaseState.VETOED)
        elif delays:
            wait_anew(row)
        elif row.state != CaseState.REQUESTED:
            reopen(row, why="veto", actor=actor)
    return row


@dataclass(frozen=True)
class VetoProof:
    """That one device's veto is a leaf of the audit log, under its newest signed head. hashes: 32 bytes each."""

    statement: bytes
    leaf_index: int
    leaf: bytes
    hashes: list[bytes]
    checkpoint: str


def prove_veto(*, case: Case, actor: Actor) -> VetoProof:
    """Prove to the device that vetoed a case that the log has it: only then is the veto made (ESCROW "Case").

    Raises NotFound where it has not vetoed, VetoNotLoggedYet while no signed head covers the entry.
    """
    veto = access.veto_by(case.id, _device_id(actor))
    if veto is None or veto.statement is None:
        raise NotFound
    row = audit_log.entry_about(str(case.id), tag="recovery:case:veto", device=str(veto.device_id))
    try:
        head = audit_log.latest_checkpoint("audit")
    except NoCheckpoint as error:
        raise VetoNotLoggedYet from error
    if row is None or row.leaf_index is None or row.leaf_index >= head.size:
        raise VetoNotLoggedYet
    hashes = audit_log.inclusion("audit", index=row.leaf_index, size=head.size)
    return VetoProof(bytes(veto.statement), row.leaf_index, bytes(row.leaf), hashes, head.note)


def expire_case(*, case_id: UUID, actor: Actor) -> None:
    """End a case whose time is over. Called by the worker; a case that moved meanwhile is left alone."""
    with transaction.atomic():
        row = access.lock_case(case_id)
        if access.ends_at(row) > database_now() or not CASE.allows(row.state, CaseState.EXPIRED):
            return
        finish_failed(row, CaseState.EXPIRED)
        audit.append(tag="recovery:case:expire", actor=actor, subject=str(row.id), body={"q": bytes(row.q)})


def end_again(*, case_id: UUID, tag: str, device_id: UUID | None, veto: bytes | None = None) -> bool:
    """End a case in the rows whose end a restored database had lost; False when the case itself is lost.

    In the transaction that puts the entry back. device_id: whose veto it was. veto: its statement, where it was kept;
    without one the log's word stands, and the veto counts towards no third.
    """
    row = Case.objects.filter(id=case_id).first()
    if row is None:
        return False
    if device_id is not None:
        delays = escrow.is_suspended_by_officers(device_id)
        counts = veto is not None and not delays and access.had_quorum(row)
        defaults = {"at": database_now(), "statement": veto, "counts": counts, "delays": delays}
        Veto.objects.get_or_create(tenant_id=row.tenant_id, case_id=row.id, device_id=device_id, defaults=defaults)
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


def wait_anew(row: Case) -> None:
    """Have the delay of a case that waits reckoned anew, by its next count. Inside the caller's transaction."""
    if row.state == CaseState.WAITING:
        advance(row, CASE, CaseState.QUORATE, release_at=None)


def finish_failed(row: Case, state: CaseState, *, why: str = "") -> None:
    """End a case that its recipient gets nothing from, and destroy all that was sealed for it.

    Inside the caller's transaction. Shares of failed cases must not add up to a quorum, and what was released and not
    collected, or opens nothing for lack of a share, is not kept for a better day.
    """
    if state not in FAILED:
        raise ValueError(f"{state} is no failed end")
    was_released = row.state in KEPT
    advance(row, CASE, state, why=why, ended_at=database_now())
    access.shares_of(row).delete()
    # Only the processes that end such cases may destroy what was released: no deny, veto or cancel comes so late.
    if was_released:
        destroy_released(row)


def destroy_released(row: Case) -> int:
    """Destroy what was released in a case, halves and shares, and return of how many deposits. The rows stay.

    Inside the caller's transaction.
    """
    access.released_shares_of(row).delete()
    kept = Release.objects.filter(case_id=row.id, destroyed_at=None)
    return int(kept.update(half=b"", destroyed_at=database_now()))


def destroy_all_sealed() -> None:
    """Destroy what was sealed and released in every case of the open scope's tenant, at its end. The cases stay.

    In the transaction that ends it, whose entry says so: its halves were made by keys that are gone.
    """
    SealedShare.objects.all().delete()
    ReleasedShare.objects.all().delete()
    Release.objects.filter(destroyed_at=None).update(half=b"", destroyed_at=database_now())


def end_approvals(person_id: UUID) -> None:
    """Destroy what an officer has sealed for cases of which nothing was released: whoever is back approves anew.

    In the transaction that changes their standing. Each case is back with its officers when it is counted next.
    """
    open_cases = Case.objects.filter(state__in=UNRELEASED).values("id")
    SealedShare.objects.filter(approval__person_id=person_id, approval__case_id__in=open_cases).delete()


def _device_id(actor: Actor) -> UUID:
    if actor.kind != "device" or actor.id is None:
        raise CaseRefused("Only a device acts here.")
    return actor.id
