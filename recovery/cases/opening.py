# SPDX-License-Identifier: Apache-2.0
"""Opening a case: what its signed statement must say, and who is told of it.

Implements ESCROW "Case"; FAULTS P1, P4, P14, P17, R5. It decides no release.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final
from uuid import UUID

from django.conf import settings
from django.db import IntegrityError, transaction

from audit import services as audit
from escrow import access as escrow
from escrow import coverage
from holdfast.core.base.errors import HoldfastError
from holdfast.core.identity import cases
from holdfast.core.identity.policy import strictest
from holdfast.core.signed.cose import Purpose, Sign1
from holdfast.core.signed.payloads import check_time
from holdfast.core.signed.requests import WINDOW_SECONDS
from holdfast.core.signed.statements import DeviceStatement
from kernel.actors import Actor
from kernel.clock import database_now
from kernel.errors import LimitReached, Throttled
from keys import access as keys
from keys.notices import owe as tell_devices
from recovery import access
from recovery.cases.notices import owe
from recovery.errors import CaseExists, CaseRefused, TooFewOfficers
from recovery.models import Case, CaseDeposit
from tenants import access as tenants
from tenants.limits import count_in_window

if TYPE_CHECKING:
    from escrow.models import Deposit


# Cases in one person's name that are open at once, for devices that the same people let in: each tells its subject and
# every officer.
MAX_OPEN: Final = 10
_DAY: Final = 86_400


def open_case(*, statement: bytes, actor: Actor) -> Case:
    """Open a case for the device that signed it, tell who must be told, and log it.

    Raises CaseRefused, naming what does not fit; TooFewOfficers when it could never be released; CaseExists;
    LimitReached, and Throttled, for whoever opens many.
    """
    # To open a case we must know:
    #
    # (1) that the very device that asks signed it, with the keys of its own statement;
    # (2) that its terms are within the policy: purpose, notice, times;
    # (3) that every deposit is one subject's and is the one that is meant;
    # (4) that enough officers could decide it.
    now = database_now()
    signed, case = _require_signed(statement, actor, now)  # (1)
    with transaction.atomic():
        tenants.require_unlocked()
        newest = escrow.newest_policy_for_update()
        if newest is None:
            raise CaseRefused("There is no policy under which a case could be opened.", field="case")
        in_force = escrow.policy_in_force(now)
        # The officers of a case are those of its policy: the ones in force, until others are.
        if case.policy_hash not in (bytes(in_force.hash), bytes(newest.hash)):
            raise CaseRefused("The case names neither the policy in force nor the newest one.", field="case")
        held = _require_deposits(case)  # (3)
        named = sorted({bytes(row.policy_hash) for row in held})
        policies = [escrow.policy_named(policy_hash) for policy_hash in named]
        _, terms = strictest([escrow.reading(row) for row in [*policies, newest, in_force]])
        if case.purpose not in terms.purposes:  # (2)
            allowed = ", ".join(sorted(terms.purposes)) or "nothing"
            raise CaseRefused(f"The purpose is not allowed. Every policy concerned allows: {allowed}.", field="case")
        # Its device's clock may be as far ahead as its request's was allowed to be.
        if case.notice_at - WINDOW_SECONDS - now.timestamp() > terms.max_notice_delay_seconds:
            raise CaseRefused("The notice is delayed longer than the policy allows.", field="case")
        row = _store(signed, statement, case, actor, now)
        _require_within_limits(row)
        _require_enough_officers(row, named, now)  # (4)
        _owe_notices(row, now)
        audit.append(
            tag="recovery:case:open",
            actor=actor,
            subject=str(row.id),
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


def _require_within_limits(row: Case) -> None:
    # After the row is stored, so that the same case again is `case-exists`. The policy's lock lets one in at a time.
    if access.count_open_cases_beside(row) > MAX_OPEN:
        raise LimitReached(
            "You have as many cases open as one person may. Cancel one, or let it end.",
            limit="open-cases",
            most=MAX_OPEN,
        )
    # Inside the transaction: what was not opened tells nobody, and is not counted.
    most = settings.HOLDFAST_CASES_PER_DAY
    by, left = count_in_window(_counted_for(row), seconds=_DAY)
    if by > most:
        raise Throttled(
            f"You have opened {most} cases today, as many as one person may in a day. Those that are open go on: have "
            "your officers decide them. Open another tomorrow, or today from a device that is in your account.",
            retry_after=left,
        )
    # One that its subject is not told of yet is counted for its requester alone: a count that all others meet would
    # tell them of it.
    # A date that only a clock that is ahead can have made is no such delay.
    is_hidden = row.notice_at > row.opened_at + timedelta(seconds=WINDOW_SECONDS)
    if row.subject_id == row.requester_id or is_hidden:
        return
    # Counted apart from the subject's own: whoever asks about somebody must not keep them from asking for themselves.
    about, left = count_in_window(f"cases-about:{row.subject_id}", seconds=_DAY)
    if about > most:
        raise Throttled(
            f"Others have opened {most} cases about this person today, as many as may be in a day. Each tells the "
            "person and every officer. See those that are open, or open another tomorrow.",
            retry_after=left,
        )


def _counted_for(row: Case) -> str:
    """Name the count of a day that a case is part of: its requester's, apart for who let in a device not listed yet."""
    by = keys.let_in_by(keys.device(row.recipient_device_id))
    if by is None:
        return f"cases:{row.requester_id}"
    return f"cases:{row.requester_id}:{hashlib.sha256(' '.join(by).encode()).hexdigest()[:32]}"


def _require_signed(statement: bytes, actor: Actor, now: datetime) -> tuple[Sign1, cases.Case]:
    if actor.kind != "device" or actor.id is None or actor.person_id is None or actor.tenant_id is None:
        raise CaseRefused("Only a device opens a case.")
    device_row = keys.device(actor.id)
    try:
        device = DeviceStatement.open(Sign1.parse(bytes(device_row.statement)))
        signed = Sign1.parse(statement)
        signed.verify(device.signing_key, purpose=Purpose.CASE)
        case = cases.Case.from_payload(signed.payload)
        case.require_told()
        check_time(case.header, int(now.timestamp()))
    except HoldfastError as error:
        raise CaseRefused(str(error), field="case") from error
    whose = (actor.tenant_id.bytes, actor.person_id.bytes, actor.id.bytes)
    if (case.header.tenant, case.header.user, case.header.device) != whose:
        raise CaseRefused("The case names another tenant, user or device than the one that asks.", field="case")
    if case.recipient_device_hash != bytes(device_row.statement_hash):
        raise CaseRefused("The case names another recipient than the device that signed it.", field="case")
    # Nobody is named requester by somebody else: naming an officer would shut them out of the decision.
    if case.requester != actor.person_id.bytes:
        raise CaseRefused("The requester is the person whose device opens the case.", field="case")
    if case.expiry <= now.timestamp():
        raise CaseRefused("The case has expired already.", field="case")
    # The format bounds how late; that an end is named at all is asked of new cases, since older ones have none.
    if case.is_disclosure and not case.disclosure_ends:
        raise CaseRefused(
            "Field 22 is missing: a case that opens another person's archive says when the disclosure ends.",
            field="case",
        )
    if case.is_disclosure and _time(case.disclosed_until) <= now:
        raise CaseRefused("The disclosure that the case asks for (field 22) has ended already.", field="case")
    subject = tenants.person(UUID(bytes=case.subject))
    if access.shredding_of(subject.pk) is not None:
        raise CaseRefused(
            "The subject has left, and their keys are shredded: there is nothing to ask for.", field="case"
        )
    return signed, case


def _require_deposits(case: cases.Case) -> list[Deposit]:
    held = escrow.deposits_named([UUID(bytes=deposit_id) for deposit_id, _ in case.deposits])
    for deposit_id, record_hash in case.deposits:
        row = held.get(UUID(bytes=deposit_id))
        # One answer for an unknown deposit and for another person's: a case finds nothing out.
        if (
            row is None
            or row.user_id.bytes != case.subject
            or bytes(row.record_hash) != record_hash
            or row.shredded_at is not None
        ):
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
                behind=_behind(UUID(bytes=case.requester), actor, now),
                purpose=case.purpose,
                policy_hash=case.policy_hash,
                opened_at=now,
                notice_at=_time(case.notice_at),
                not_before=_time(case.not_before),
                expiry=_time(case.expiry),
                disclosed_until=_time(case.disclosed_until) if case.is_disclosure else None,
            )
    except IntegrityError as error:
        raise CaseExists from error
    held = escrow.deposits_named([UUID(bytes=deposit_id) for deposit_id, _ in case.deposits])
    for position, (deposit_id, record_hash) in enumerate(case.deposits):
        CaseDeposit.objects.create(
            case_id=row.id,
            position=position,
            deposit_id=UUID(bytes=deposit_id),
            record_hash=record_hash,
            generation=held[UUID(bytes=deposit_id)].generation,
        )
    return row


def _behind(requester_id: UUID, actor: Actor, now: datetime) -> list[str]:
    """Return who stands behind a case, for as long as it lasts: what is done later had no part in its opening."""
    assert actor.id is not None
    return sorted({*(keys.device(actor.id).behind or []), *map(str, tenants.standing_behind(requester_id, now))})


def _require_enough_officers(row: Case, made_under: list[bytes], now: datetime) -> None:
    found = coverage.releasable_now(
        made_under=made_under,
        excluded=access.excluded_from(row),
        asked_under=[bytes(row.policy_hash)],
        at=now,
    )
    needed = found.needed + (1 if access.counted_vetoes(row.subject_id, now) >= cases.VETOES_THAT_END else 0)
    if len(found.approvers) < needed:
        raise TooFewOfficers(
            f"{len(found.approvers)} officers may decide this case, and {needed} are needed: the requester, the "
            "subject and the recipient's person do not count, nor do officers who are away, suspended or cooling off, "
            "or who have other keys now than when the deposit was made. "
            f"{_of_those_behind(row)}Have another person open it, or have officers come back first.",
            eligible=len(found.approvers),
            needed=needed,
        )


def _of_those_behind(row: Case) -> str:
    roster = escrow.officers(escrow.policy_named(bytes(row.policy_hash)))
    behind = sum(officer.person_id in access.behind(row) for officer in roster)
    if not behind:
        return ""
    return (
        f"{behind} do not count since they issued the enrolment code of this device, or within 90 days let in whoever "
        "did or you: enrol a device by a code of somebody who is no officer, such as an owner, and ask on that one. "
    )


def _owe_notices(row: Case, now: datetime) -> None:
    """Promise the subject a notice for the date that the case fixes, and the officers theirs now."""
    owed = [(row.subject_id, access.OPENED, max(row.notice_at, now))]
    policy = escrow.policy_named(bytes(row.policy_hash))
    owed += [(officer.person_id, "asked", now) for officer in access.eligible_for(row, policy, now)]
    # In whose name it is asked, at once: whoever enrolled the device may have asked in their place (FAULTS P1). The
    # subject's own mail says as much, if it goes now.
    if row.requester_id != row.subject_id or row.notice_at > now:
        owed.append((row.requester_id, "requested", now))
    for person_id, kind, due_at in owed:
        owe(row, person_id, kind, due_at)
    # In the mailboxes alone: the mail above is logged under the case, which its subject may not have read of yet.
    tell_devices(person_ids=[row.requester_id], event="case-opened", case_id=str(row.id))


def _time(seconds: int) -> datetime:
    try:
        return datetime.fromtimestamp(seconds, tz=UTC)
    except (OverflowError, ValueError, OSError) as error:
        raise CaseRefused("A time lies outside the calendar.", field="case") from error
