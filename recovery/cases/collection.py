# SPDX-License-Identifier: Apache-2.0
"""After a release: the recipient collects, what was exposed is rotated or sealed, the case is closed.

Implements ESCROW "Case" and FAULTS P12.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.db import transaction

from audit import services as audit
from escrow import access as escrow
from escrow import services as custody
from holdfast.core.identity.entries import ArchiveGeneration, ReGenesis, RotateKey
from kernel.actors import Actor
from kernel.clock import database_now
from kernel.fields import rfc3339
from kernel.transitions import advance
from keys import access as keys
from recovery import access
from recovery.cases.endings import destroy_released
from recovery.cases.notices import owe_share_notices
from recovery.errors import BlameRefused, CaseMoved, NotReleased
from recovery.models import Case, Release
from recovery.states import CASE, HAD, CaseState
from tenants import access as tenants
from tenants.states import PersonState

_COLLECTABLE = frozenset({CaseState.RELEASED, CaseState.COLLECTED, CaseState.ROTATED, CaseState.SEALED})


@dataclass(frozen=True)
class Collection:
    """Everything a recipient needs to open their deposits on their own device."""

    releases: Sequence[Release]
    deposits: Mapping[UUID, custody.AcceptedDeposit]


def prepare_collection(*, case: Case) -> Collection:
    """Read what was released, and the deposits it opens; call it outside transactions, since it asks the HSM.

    Raises NotReleased before the release, after the end of a disclosure, and once what was released is destroyed;
    TenantLocked while the tenant is locked.
    """
    if case.state not in _COLLECTABLE:
        raise NotReleased(f"The case is {case.state}.", state=case.state)
    _refuse_ended(case)
    # Released before the lock, and not handed out in it: an owner locks because something may be wrong.
    tenants.require_unlocked()
    releases = access.releases_of(case)
    if any(row.destroyed_at for row in releases):
        raise NotReleased(
            "What was released was collected 90 days ago and is destroyed. Open a new case.", state=case.state
        )
    held = escrow.deposits_named([row.deposit_id for row in access.deposits_of(case)])
    opened = {deposit_id: custody.open_deposit(row) for deposit_id, row in held.items()}
    return Collection(releases, opened)


def collect(*, case_id: UUID, actor: Actor) -> Case:
    """Note that the recipient collects: the first time, `released` becomes `collected`."""
    with transaction.atomic():
        case = access.lock_case(case_id)
        if case.state not in _COLLECTABLE:
            raise NotReleased(f"The case is {case.state}.", state=case.state)
        _refuse_ended(case)
        if case.state == CaseState.RELEASED:
            # Again, where a share was replaced since: the keys count as exposed from the first time.
            advance(case, CASE, CaseState.COLLECTED, collected_at=case.collected_at or database_now())
        audit.append(tag="recovery:case:collect", actor=actor, subject=str(case.id), body={"q": bytes(case.q)})
    return case


def _refuse_ended(case: Case) -> None:
    """Raise NotReleased at the end that a disclosure names, whether or not what was released is destroyed yet."""
    ends = access.disclosed_until(case)
    if ends is not None and ends <= database_now():
        raise NotReleased(
            f"The disclosure ended {rfc3339(ends)}, and what was released is destroyed. Open a new case.",
            state=case.state,
        )


def blame_shares(*, case_id: UUID, blamed: Mapping[UUID, Sequence[int]], actor: Actor) -> Case:
    """Take the recipient's word that too few shares of some deposits are right: the case awaits another.

    blamed: {deposit: indices of its wrong shares}, none where only some are missing. Those are void, and their officers
    may send others. The halves are kept: the HSM is not asked again. Sent again, it changes nothing. Raises
    BlameRefused for shares that were not released, or where enough are left; CaseMoved.
    """
    with transaction.atomic():
        case = access.lock_case(case_id)
        if case.state == CaseState.AWAITING_SHARE:
            return case
        if not CASE.allows(case.state, CaseState.AWAITING_SHARE):
            raise CaseMoved(f"The case is {case.state}.", state=case.state)
        if any(row.destroyed_at for row in access.releases_of(case)):
            raise CaseMoved("What was released is destroyed: no share replaces it. Open a new case.", state=case.state)
        now, left = database_now(), access.shares_left(case)
        for deposit_id, indices in blamed.items():
            if deposit_id not in left or not set(indices) <= left[deposit_id].right:
                raise BlameRefused("No such share was released in this case.", field="shares")
            if len(left[deposit_id].right - set(indices)) >= left[deposit_id].needed:
                raise BlameRefused(
                    f"Enough shares of deposit {deposit_id} are left. Collect again: somebody withholds them from you.",
                    field="shares",
                )
        for deposit_id, indices in blamed.items():
            wrong = access.released_shares_of(case).filter(release__deposit_id=deposit_id, index__in=list(indices))
            wrong.update(blamed_at=now)
        advance(case, CASE, CaseState.AWAITING_SHARE, why="share-wrong", why_since=now, release_at=None)
        named = sorted({index for indices in blamed.values() for index in indices})
        audit.append(
            tag="recovery:share:blame",
            actor=actor,
            subject=str(case.id),
            body={"q": bytes(case.q), "deposits": len(blamed), "indices": " ".join(map(str, named))},
        )
        owe_share_notices(case)
    return case


def follow_rotation(*, case_id: UUID, actor: Actor) -> None:
    """Follow whether what a recipient collected is renewed by its subject's chain, and move a collected case on by it.

    That is a re-genesis, or a new identity key and a new archive generation, accepted after the first collection. Where
    somebody else received it and no device of the subject is left that could, what was opened is sealed instead. What
    the recipient says afterwards changes nothing, and no end of the case does: they have had it.
    """
    case = Case.objects.get(id=case_id)
    if not _is_to_follow(case):
        return
    assert case.collected_at is not None
    if _is_renewed(case, case.collected_at):
        with transaction.atomic():
            _note_renewed(access.lock_case(case_id), CaseState.ROTATED, "recovery:case:rotate", actor)
    elif _is_left_behind(case):
        _seal(case_id, actor)


def _is_to_follow(case: Case) -> bool:
    # One that is collected again moves on again.
    return case.collected_at is not None and (case.renewed_at is None or case.state == CaseState.COLLECTED)


def _note_renewed(case: Case, state: CaseState, tag: str, actor: Actor) -> None:
    """Note, once, that what a case exposed is renewed or sealed; only a collected one has a state for it."""
    if not _is_to_follow(case):
        return
    now = database_now()
    if case.state == CaseState.COLLECTED:
        advance(case, CASE, state, renewed_at=now)
    else:
        case.renewed_at = now
        case.save(update_fields=["renewed_at"])
    audit.append(tag=tag, actor=actor, subject=str(case.id))


def _is_left_behind(case: Case) -> bool:
    """Whether nobody can rotate what a case disclosed: its subject may not act, or their chain lists no device."""
    if case.recipient_person_id == case.subject_id:
        return False  # the receiving device is about to become the subject's
    # What is sealed shows in the subject's own list of deposits. It must not tell before the case's notice does.
    if case.notice_at > database_now():
        return False
    if tenants.person(case.subject_id).state in (PersonState.SUSPENDED, PersonState.LEFT):
        return True
    return not keys.active_devices(case.subject_id)


def _seal(case_id: UUID, actor: Actor) -> None:
    with transaction.atomic():
        # Before the case, as whoever opens or counts one: a deposit of these generations is taken before, or not.
        escrow.newest_policy_for_update()
        case = access.lock_case(case_id)
        if _is_to_follow(case):
            generations = {row.generation for row in access.deposits_of(case)}
            custody.seal_generations(user_id=case.subject_id, generations=generations, now=database_now())
            _note_renewed(case, CaseState.SEALED, "recovery:case:seal", actor)


def _is_renewed(case: Case, since: datetime) -> bool:
    # Asked every few seconds, for as long as nobody renews it: of the kinds alone, however long the chain.
    renewing = {ReGenesis.TYPE, RotateKey.TYPE, ArchiveGeneration.TYPE}
    fresh = keys.kinds_appended(case.subject_id, since=since, among=renewing)
    return ReGenesis.TYPE in fresh or {RotateKey.TYPE, ArchiveGeneration.TYPE} <= fresh


def destroy_collected(*, case_id: UUID, actor: Actor, after: timedelta) -> None:
    """Destroy what was released in a case that was collected so long ago: its recipient has it, or asks anew.

    Of a disclosure, when it ends, if that is sooner. The time begins anew where a share was replaced since. A case that
    awaits a share, or is released again, is left alone: its own end destroys what is there.
    """
    with transaction.atomic():
        case = access.lock_case(case_id)
        if case.state not in HAD or case.collected_at is None:
            return
        since = max([case.collected_at, *(row.at for row in access.releases_of(case))])
        if database_now() < min(since + after, access.disclosed_until(case) or since + after):
            return
        if deposits := destroy_released(case):
            audit.append(
                tag="recovery:release:destroy",
                actor=actor,
                subject=str(case.id),
                body={"q": bytes(case.q), "deposits": deposits},
            )


def close_case(*, case_id: UUID, actor: Actor, after: timedelta) -> None:
    """Close a case that was renewed long enough ago."""
    with transaction.atomic():
        case = access.lock_case(case_id)
        collected_at = case.collected_at
        if case.state in (CaseState.ROTATED, CaseState.SEALED) and collected_at is not None:
            if database_now() < collected_at + after:
                return
            advance(case, CASE, CaseState.CLOSED, ended_at=database_now())
            audit.append(tag="recovery:case:close", actor=actor, subject=str(case.id))
