# SPDX-License-Identifier: Apache-2.0
"""What officers do: approve with their shares, deny, attest a new identity.

Implements ESCROW "Case"; FAULTS P1, P2, P3, P5, P9. What they come to, `counting` says for the state column;
the release process counts the signed statements again, by itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

from django.db import transaction

from audit import services as audit
from escrow import access as escrow
from holdfast.core.base.errors import HoldfastError
from holdfast.core.crypto.keys import PublicKey
from holdfast.core.crypto.sealing import OVERHEAD
from holdfast.core.escrow import approvals
from holdfast.core.identity import cases
from holdfast.core.identity.policy import Officer, SignedPolicy
from holdfast.core.signed.cose import Purpose, Sign1
from holdfast.core.signed.payloads import check_time
from kernel.actors import Actor
from kernel.clock import database_now
from kernel.queue import enqueue
from keys.services import seal_record
from recovery import access
from recovery.cases.counting import RELEASE_JOB, end_outlived, recount
from recovery.cases.endings import finish_failed
from recovery.errors import ApprovalRefused, AttestationRefused, CaseMoved, NotEligible
from recovery.models import Approval, Attestation, Case, SealedShare
from recovery.states import APPROVABLE, UNDECIDED, CaseState

if TYPE_CHECKING:
    pass

SHARE_KIND = "case-share"
# A 32-byte share, sealed to the recipient and once more to the release process.
OUTER_SIZE = 32 + 2 * OVERHEAD
_ATTESTABLE = frozenset({CaseState.RELEASED, CaseState.COLLECTED, CaseState.ROTATED})


@dataclass(frozen=True)
class PreparedApproval:
    """An approval that was verified, with its shares encrypted for storage; not stored yet."""

    case_id: UUID
    officer: Officer
    statement: bytes
    statement_hash: bytes
    shares: tuple[tuple[UUID, UUID, int, bytes], ...]  # row id, deposit id, number in the deposit, sealed at rest


def prepare_approval(
    *, case: Case, statement: bytes, shares: list[tuple[UUID, bytes]], actor: Actor
) -> PreparedApproval:
    """Verify an approval and encrypt its shares; call it before the transaction, since it asks the HSM.

    shares: (deposit id, outer-sealed share of 2,304 bytes) each. Raises NotEligible, logged, for a person who may
    not decide; CaseMoved for a case whose time is over; ApprovalRefused for a statement or shares that do not fit the
    case; HsmUnavailable.
    """
    _refuse_ended(case, database_now())
    officer, said, signed = _read(case, statement, actor, approves=True)
    outers, numbers = dict(shares), {UUID(bytes=deposit): index for deposit, index, _ in said.shares}
    if len(outers) != len(shares) or outers.keys() != numbers.keys():
        raise ApprovalRefused("The shares are not those that the statement names.", field="shares")
    if any(len(outer) != OUTER_SIZE for outer in outers.values()):
        raise ApprovalRefused(f"A share sealed twice has {OUTER_SIZE} octets.", field="shares")
    rows = []
    for deposit_id, outer in outers.items():
        row_id = uuid4()
        sealed = seal_record(outer, user_id=case.subject_id, object_id=row_id, kind=SHARE_KIND, version=1)
        rows.append((row_id, deposit_id, numbers[deposit_id], sealed))
    return PreparedApproval(case.id, officer, statement, signed.payload_hash, tuple(rows))


def approve_case(*, prepared: PreparedApproval, actor: Actor) -> Case:
    """Store a prepared approval, count, and move the case on when enough officers approve.

    An officer counts once: while an approval of theirs stands, a second one changes nothing. In a case that awaits a
    share the release process takes it from here. Raises CaseMoved; NotEligible when they stopped being eligible
    meanwhile; ApprovalRefused for an approval that has ended.
    """
    with transaction.atomic():
        # The lock of every change of officers: no suspension slips between the count and what is kept.
        escrow.newest_policy_for_update()
        case = access.lock_case(prepared.case_id)
        now = database_now()
        given = access.approvals_by(case, UUID(bytes=prepared.officer.person))
        if given:
            end_outlived(case, now)
            # Of a case that was decided meanwhile no shares are left, and nothing more is asked.
            if given[-1].pk not in access.ended_approvals(case, given[-1:]):
                return case
        if case.state not in APPROVABLE:
            raise CaseMoved(f"The case is {case.state}.", state=case.state)
        _refuse_ended(case, now)
        _require_eligible(case, actor, now)
        if prepared.statement_hash in {bytes(row.statement_hash) for row in given}:
            raise ApprovalRefused("This approval has ended. Sign a new one.", field="statement")
        if given:
            # Of several shares one was void: the others go too, or one officer's would be there twice.
            access.shares_of(case).filter(approval=given[-1]).delete()
        row = _store(
            case,
            prepared.officer,
            statement=prepared.statement,
            statement_hash=prepared.statement_hash,
            decision="approve",
            now=now,
        )
        for row_id, deposit_id, index, sealed in prepared.shares:
            SealedShare.objects.create(id=row_id, approval=row, deposit_id=deposit_id, index=index, sealed=sealed)
        _log("recovery:case:approve", case, prepared.officer, prepared.statement_hash, actor)
        if case.state == CaseState.AWAITING_SHARE:
            case.release_at = now
            case.save(update_fields=["release_at"])
            enqueue(RELEASE_JOB, queue="release", unique=str(case.id), case=str(case.id))
        else:
            recount(case, now=now, actor=actor)
    return case


def _refuse_ended(case: Case, now: datetime) -> None:
    """Raise CaseMoved once the time of a case is over, whether or not the worker has ended it yet."""
    if access.ends_at(case) <= now:
        raise CaseMoved("The case has expired, or the disclosure that it asks for has ended.", state=case.state)


def prepare_denial(*, case: Case, statement: bytes, actor: Actor) -> PreparedApproval:
    """Verify a denial; call it before the transaction, so that a refusal is logged even though nothing else is.

    Raises NotEligible, logged, and ApprovalRefused.
    """
    officer, _, signed = _read(case, statement, actor, approves=False)
    return PreparedApproval(case.id, officer, statement, signed.payload_hash, ())


def deny_case(*, prepared: PreparedApproval, actor: Actor) -> Case:
    """End a case by one officer's signed denial: whoever sees the fraud stops it, and a new case may be opened.

    Raises CaseMoved, and NotEligible when the officer stopped being eligible meanwhile.
    """
    officer = prepared.officer
    with transaction.atomic():
        case = access.lock_case(prepared.case_id)
        if case.state not in UNDECIDED:
            raise CaseMoved(f"The case is {case.state}.", state=case.state)
        now = database_now()
        _require_eligible(case, actor, now)
        _store(
            case,
            officer,
            statement=prepared.statement,
            statement_hash=prepared.statement_hash,
            decision="deny",
            now=now,
        )
        _log("recovery:case:deny", case, officer, prepared.statement_hash, actor)
        finish_failed(case, CaseState.DENIED)
    return case


def _read(case: Case, statement: bytes, actor: Actor, *, approves: bool) -> tuple[Officer, cases.Approval, Sign1]:
    refuse_ineligible(case, actor)
    signed_policy = _policy_of(case)
    made_under = {one.bytes: escrow.reading(row) for one, row in access.policies_at_deposit(case).items()}
    try:
        signed = Sign1.parse(statement)
        officer, said = approvals.read_decision(
            signed, case=Sign1.parse(bytes(case.statement)), policy=signed_policy, made_under=made_under
        )
        said.require_told()
        check_time(said.header, int(database_now().timestamp()))
    except HoldfastError as error:
        raise ApprovalRefused(str(error), field="statement") from error
    if actor.person_id is None or officer.person != actor.person_id.bytes:
        raise ApprovalRefused("The statement is another officer's than the one who sent it.", field="statement")
    if said.approves is not approves:
        raise ApprovalRefused("An approval goes to approvals, a denial to deny.", field="statement")
    return officer, said, signed


def _policy_of(case: Case) -> SignedPolicy:
    return escrow.signed_reading(escrow.policy_named(bytes(case.policy_hash)))


def refuse_ineligible(case: Case, actor: Actor) -> None:
    """Raise NotEligible, after logging it, unless the actor is an officer who may decide this case now."""
    try:
        _require_eligible(case, actor, database_now())
    except NotEligible as refusal:
        with transaction.atomic():
            why = refusal.extra["why"]
            audit.append_first(
                tag="recovery:approval:refuse", actor=actor, subject=str(case.id), apart=why, body={"why": why}
            )
        raise


def _require_eligible(case: Case, actor: Actor, now: datetime) -> None:
    """Persons are compared, never accounts or keys: a second device of the requester is the requester (FAULTS P1)."""
    for person_id, why, text in (
        (case.subject_id, "subject", "You are the subject of this case."),
        (case.requester_id, "requester", "You opened this case."),
        (case.recipient_person_id, "recipient", "Your device receives this case's release."),
    ):
        if actor.person_id == person_id:
            raise NotEligible(f"{text} Other officers decide it.", why=why)
    if actor.person_id in access.behind(case):
        raise NotEligible(
            "You issued the enrolment code of the receiving device, or within 90 days let in whoever did or whoever "
            "asks. Other officers decide it.",
            why="behind",
        )
    policy = escrow.policy_named(bytes(case.policy_hash))
    if actor.person_id not in {officer.person_id for officer in access.eligible_for(case, policy, now)}:
        raise NotEligible(
            "You are not an officer who counts for this case now: not named by its policy and the one in force, away, "
            "suspended, or still cooling off.",
            why="not-counting",
        )


def _store(
    case: Case, officer: Officer, *, statement: bytes, statement_hash: bytes, decision: str, now: datetime
) -> Approval:
    row: Approval = Approval.objects.create(
        case_id=case.id,
        index=officer.index,
        person_id=UUID(bytes=officer.person),
        decision=decision,
        statement=statement,
        statement_hash=statement_hash,
        at=now,
    )
    return row


def _log(tag: str, case: Case, officer: Officer, statement_hash: bytes, actor: Actor) -> None:
    audit.append(
        tag=tag,
        actor=actor,
        subject=str(case.id),
        body={"q": bytes(case.q), "person": str(UUID(bytes=officer.person)), "statement_hash": statement_hash},
    )


def propose_successor(*, case_id: UUID, identity_key: PublicKey, old_head: bytes, actor: Actor) -> Case:
    """Keep the identity key under which the subject asks to begin again, for officers to see. It is set once.

    Only in a case in which the subject recovers their own keys, after the release. Raises CaseMoved.
    """
    with transaction.atomic():
        case = access.lock_case(case_id)
        if case.subject_id != case.recipient_person_id or case.state not in _ATTESTABLE:
            raise CaseMoved("Only a released case to its own subject names a new identity.", state=case.state)
        if case.successor_key is not None:
            if (bytes(case.successor_key), bytes(case.successor_head or b"")) != (identity_key.encoded, old_head):
                raise CaseMoved("This case has named another new identity already. Open a new case.")
            return case
        case.successor_key, case.successor_head = identity_key.encoded, old_head
        case.save(update_fields=["successor_key", "successor_head"])
        audit.append(
            tag="recovery:case:succeed",
            actor=actor,
            subject=str(case.id),
            body={"identity_key": identity_key.encoded},
        )
    return case


@dataclass(frozen=True)
class PreparedAttestation:
    """An attestation that was verified, not stored yet."""

    case_id: UUID
    index: int
    statement: bytes
    statement_hash: bytes


def prepare_attestation(*, case: Case, statement: bytes, actor: Actor) -> PreparedAttestation:
    """Verify an officer's word that a new key is the subject's, for the re-genesis of their chain.

    Raises NotEligible, logged; AttestationRefused for a statement that does not fit the case; CaseMoved.
    """
    refuse_ineligible(case, actor)
    if case.state not in _ATTESTABLE:
        raise CaseMoved(f"The case is {case.state}.", state=case.state)
    policy = _policy_of(case).policy
    try:
        signed = Sign1.parse(statement)
        officer = policy.officer(signed.kid)
        if officer is None or actor.person_id is None or officer.person != actor.person_id.bytes:
            raise AttestationRefused("It is not signed by your key in the case's policy.", field="statement")
        said = cases.Attestation.from_payload(signed.verify(officer.signing_key, purpose=Purpose.ATTESTATION))
        check_time(said.header, int(database_now().timestamp()))
    except HoldfastError as error:
        raise AttestationRefused(str(error), field="statement") from error
    _require_about(case, said)
    return PreparedAttestation(case.id, officer.index, statement, signed.payload_hash)


def attest(*, prepared: PreparedAttestation, actor: Actor) -> Attestation:
    """Store a verified attestation; an officer attests once, and a second time changes nothing."""
    with transaction.atomic():
        case = access.lock_case(prepared.case_id)
        known = next((row for row in access.attestations_of(case) if row.index == prepared.index), None)
        if known is not None:
            return known
        row: Attestation = Attestation.objects.create(
            case_id=case.id,
            index=prepared.index,
            person_id=actor.person_id,
            statement=prepared.statement,
            at=database_now(),
        )
        audit.append(
            tag="recovery:attestation:accept",
            actor=actor,
            subject=str(case.id),
            body={"index": prepared.index, "statement_hash": prepared.statement_hash},
        )
    return row


def _require_about(case: Case, said: cases.Attestation) -> None:
    asked = access.statement_of(case)
    if case.subject_id != case.recipient_person_id:
        raise AttestationRefused("This case releases to another person: nobody's account begins again by it.")
    named = (said.header.tenant, said.header.user, said.case_id, said.device_hash)
    if named != (asked.header.tenant, asked.subject, asked.case_id, asked.recipient_device_hash):
        raise AttestationRefused("The attestation is about another case, person or device.", field="statement")
    proposed = (bytes(case.successor_key or b""), bytes(case.successor_head or b""))
    if (said.new_aik.encoded, said.old_head) != proposed:
        raise AttestationRefused("The attestation is about another key than the one proposed.", field="statement")
