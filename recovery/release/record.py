# SPDX-License-Identifier: Apache-2.0
"""Moving a case through its release, and keeping what came of it.

Implements ESCROW "Release process" on the side of the rows; FAULTS P5, P11, P12, X4. It asks the HSM nothing and
judges nothing: `process` does, and calls these.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db import transaction

from audit import services as audit
from escrow import access as escrow
from kernel.actors import Actor
from kernel.clock import database_now
from kernel.rows import insert
from kernel.transitions import advance
from keys.services import open_record, tenant_key
from recovery import access
from recovery.cases.counting import end_outlived, recount
from recovery.cases.decisions import SHARE_KIND
from recovery.cases.endings import finish_failed, reopen
from recovery.cases.notices import owe_end_notices, owe_release_notice
from recovery.errors import CaseMoved
from recovery.models import Case, Release, ReleasedShare
from recovery.states import CASE, UNRELEASED, CaseState

# Why a case waits that the release process failed at in a way that nobody foresaw.
ERROR = "error"


@dataclass(frozen=True)
class OpenedDeposit:
    """One deposit as the HSM and the release process opened it: still sealed to the recipient alone.

    half: 384 bytes under the case's RSA key. shares: {number of the share: share sealed to the case's X-Wing key}.
    """

    half: bytes
    shares: Mapping[int, bytes]


def load_shares(case: Case) -> dict[tuple[UUID, int], bytes]:
    """Return {(deposit id, its number in that deposit): outer-sealed share} from storage.

    Asks the HSM; call it outside transactions.

    Raises UnwrapFailed when a row was changed or moved, HsmUnavailable.
    """
    shares = access.kept_shares(case)
    key = tenant_key() if shares else None
    return {
        (share.deposit_id, share.index): open_record(
            bytes(share.sealed), user_id=case.subject_id, object_id=share.pk, kind=SHARE_KIND, version=1, key=key
        )
        for share in shares
    }


def begin_release(*, case_id: UUID, is_known: bool, actor: Actor) -> bool:
    """Commit the intent: `waiting` becomes `releasing`, after one more count of the rows under their lock.

    is_known: the log has the intent already, and nothing since but that it was put off. It is not said again: a
    trouble that lasts would say it without end. False, and the case is back with its officers, when an approval stopped
    counting a moment ago (FAULTS P5). From here on a veto comes too late. Raises CaseMoved when another process or an
    end was faster.
    """
    with transaction.atomic():
        # The same lock as every change of officers and policies: none of them slips between count and intent.
        escrow.lock_policies()
        case = access.lock_case(case_id)
        if case.state == CaseState.RELEASING:
            return True
        if case.state != CaseState.WAITING:
            raise CaseMoved(f"The case is {case.state}.", state=case.state)
        recount(case, now=database_now(), actor=actor)
        if case.state != CaseState.WAITING:
            return False
        advance(case, CASE, CaseState.RELEASING, why=case.why if is_known else "")
        if not is_known:
            audit.append(tag="recovery:release:begin", actor=actor, subject=str(case.id), body={"q": bytes(case.q)})
    return True


def finish_release(*, case_id: UUID, opened: Mapping[UUID, OpenedDeposit], actor: Actor) -> None:
    """Record what was opened, all of it and once: `releasing` becomes `released` in the same transaction.

    Raises CaseMoved when it was recorded already; a unique key per deposit says so as well.
    """
    with transaction.atomic():
        case = access.lock_case(case_id)
        if case.state != CaseState.RELEASING:
            raise CaseMoved(f"The case is {case.state}.", state=case.state)
        now = database_now()
        for deposit_id, deposit in opened.items():
            row = Release(case_id=case.id, deposit_id=deposit_id, half=deposit.half, at=now)
            insert(row)
            insert(
                *(
                    ReleasedShare(release=row, index=index, sealed=sealed)
                    for index, sealed in sorted(deposit.shares.items())
                )
            )
        # Their work is done, and what stays behind could only add up with something else.
        access.destroy_shares(case)
        advance(case, CASE, CaseState.RELEASED, why="")
        audit.append(
            tag="recovery:release:finish",
            actor=actor,
            subject=str(case.id),
            body={"q": bytes(case.q), "deposits": len(opened)},
        )
        owe_release_notice(case, now)


def defer_release(*, case_id: UUID, why: str, retry_at: datetime, is_known: bool, actor: Actor) -> None:
    """Put a case back to waiting, because the HSM was away or the rules say not now; nothing is lost.

    is_known: the log says already that it was put off, and is not told again.
    """
    with transaction.atomic():
        case = access.lock_case(case_id)
        if case.state != CaseState.RELEASING:
            return
        since = case.why_since if case.why == why else database_now()
        advance(case, CASE, CaseState.WAITING, why=why, why_since=since, release_at=retry_at)
        if not is_known:
            audit.append(tag="recovery:release:defer", actor=actor, subject=str(case.id), body={"why": why})


def postpone(*, case_id: UUID, why: str, release_at: datetime) -> None:
    """Show why a case still waits, and until when, where the log or the HSM says other than the rows."""
    with transaction.atomic():
        case = access.lock_case(case_id)
        waits = case.state in (CaseState.WAITING, CaseState.AWAITING_SHARE)
        if waits and (case.release_at, case.why) != (release_at, why):
            if case.why != why:
                case.why_since = database_now()
            case.release_at, case.why = release_at, why
            case.save(update_fields=["release_at", "why", "why_since"])


def leave_alone(*, case_id: UUID, retry_at: datetime) -> None:
    """Show that the release process failed at a case, and until when it leaves it alone.

    Written without reading the row, which may be what it fails at. One in `releasing` stays there.
    """
    waits = (CaseState.WAITING, CaseState.AWAITING_SHARE)
    going = Case.objects.filter(id=case_id, state__in=(*waits, CaseState.RELEASING))
    going.exclude(why=ERROR).update(why=ERROR, why_since=database_now())
    going.filter(state__in=waits).update(release_at=retry_at)


def void_shares(*, case_id: UUID, shares: Sequence[tuple[UUID, int]], actor: Actor) -> None:
    """Destroy shares (deposit id, number) that are not what their officers signed for; others replace them.

    The case goes back to its officers, and needs no new one (ESCROW "Case").
    """
    with transaction.atomic():
        escrow.lock_policies()
        case = access.lock_case(case_id)
        if case.state not in (CaseState.WAITING, CaseState.QUORATE):
            return
        # A share that is gone was not wrong: its officer was suspended a moment ago, and the log does not say so yet.
        recount(case, now=database_now(), actor=actor)
        if case.state == CaseState.REQUESTED:
            return
        for deposit_id, index in shares:
            access.shares_of(case).filter(deposit_id=deposit_id, index=index).delete()
        reopen(case, why="share-wrong", actor=actor)


def add_behind(*, case_id: UUID, persons: Iterable[UUID]) -> int:
    """Take over from the log who stands behind a case, and return how many of them its rows had left out.

    Their ninety days are over sooner by the database's clock than by a count that stands still while this machine is
    off. Officers are told of them, and others decide.
    """
    with transaction.atomic():
        case = access.lock_case(case_id)
        known = access.behind(case)
        missing = set(persons) - known
        if missing:
            case.behind = sorted(map(str, known | missing))
            case.save(update_fields=["behind"])
        return len(missing)


def replace_shares(
    *,
    case_id: UUID,
    shares: Mapping[UUID, Mapping[int, bytes]],
    handled: Container[tuple[UUID, int]],
    actor: Actor,
) -> None:
    """Keep shares for the recipient of a released case in the place of those that were wrong; nothing was unwrapped.

    shares: {deposit: {number of the share: share sealed to the case's X-Wing key}}. handled: (deposit, number) of those
    that were looked at; of these what was not what its officer signed for is void, and so is what is of an officer who
    stopped counting meanwhile. The case is released again once every deposit has as many as open it.
    """
    with transaction.atomic():
        # The lock of every change of officers, as before a release: no suspension slips between.
        escrow.lock_policies()
        case = access.lock_case(case_id)
        if case.state != CaseState.AWAITING_SHARE:
            raise CaseMoved(f"The case is {case.state}.", state=case.state)
        counting = _counting_shares(case)
        kept, before = access.released_shares_of(case), access.shares_left(case)
        taken = 0
        for release in access.releases_of(case):
            fresh = shares.get(release.deposit_id, {})
            right = before[release.deposit_id].right
            for index in sorted(
                index for index in fresh if index not in right and (release.deposit_id, index) in counting
            ):
                kept.filter(release=release, index=index).delete()
                ReleasedShare.objects.create(release=release, index=index, sealed=fresh[index])
                taken += 1
        enough = all(len(left.right) >= left.needed for left in access.shares_left(case).values())
        stored = access.shares_of(case)
        done = [row.pk for row in stored if enough or (row.deposit_id, row.index) in handled]
        stored.filter(pk__in=done).delete()
        if enough:
            # Until now it opened nothing, so the time for which it is kept begins anew.
            Release.objects.filter(case_id=case.id, destroyed_at=None).update(at=database_now())
            advance(case, CASE, CaseState.RELEASED, why="", release_at=None)
        else:
            # Another may have come while these were looked at.
            case.release_at, case.why = database_now() if stored.exists() else None, "share-wrong"
            case.save(update_fields=["release_at", "why"])
        if taken:
            audit.append(
                tag="recovery:share:replace",
                actor=actor,
                subject=str(case.id),
                body={"q": bytes(case.q), "replaced": taken},
            )


def _counting_shares(case: Case) -> set[tuple[UUID, int]]:
    """Return (deposit, number) of the stored shares whose officers count now, and have not left since they approved."""
    now = database_now()
    end_outlived(case, now)
    policy = escrow.policy_named(bytes(case.policy_hash))
    eligible = {officer.person_id for officer in access.eligible_for(case, policy, now)}
    stored = access.shares_of(case)
    return {(row.deposit_id, row.index) for row in stored if row.approval.person_id in eligible}


def void_open_cases(*, why: str, actor: Actor) -> int:
    """End every case of the open tenant that is not released, tell those concerned, and return how many ended.

    why: a fixed word of ours. Nothing that was decided counts any more: the log it rests on was not watched, or is not
    whole. Each in a transaction of its own, so that it goes on where a kill stopped it.
    """
    ended = 0
    for case_id, tenant_id in access.in_states(*UNRELEASED):
        if tenant_id != actor.tenant_id:
            continue
        with transaction.atomic():
            case = access.lock_case(case_id)
            if not CASE.allows(case.state, CaseState.HELD):
                continue
            finish_failed(case, CaseState.HELD, why=why)
            audit.append(tag="recovery:case:void", actor=actor, subject=str(case.id), body={"why": why})
            owe_end_notices(case)
            ended += 1
    return ended


def hold_case(*, case_id: UUID, why: str, actor: Actor) -> None:
    """Hold a case for ever, because rows and log disagree, and raise the alarm (FAULTS P16).

    why: a fixed word of ours. A person must look; only a new case goes on.
    """
    with transaction.atomic():
        case = access.lock_case(case_id)
        if not CASE.allows(case.state, CaseState.HELD):
            return
        finish_failed(case, CaseState.HELD, why=why)
        audit.append(tag="recovery:release:held", actor=actor, subject=str(case.id), body={"why": why})
