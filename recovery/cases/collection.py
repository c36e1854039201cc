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
from kernel.transitions import advance
from keys import access as keys
from recovery import access
from recovery.errors import NotReleased
from recovery.models import Case, Release
from recovery.states import CASE, CaseState
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

    Raises NotReleased before the release.
    """
    if case.state not in _COLLECTABLE:
        raise NotReleased(f"The case is {case.state}.", state=case.state)
    held = escrow.deposits_named([row.deposit_id for row in access.deposits_of(case)])
    opened = {deposit_id: custody.open_deposit(row) for deposit_id, row in held.items()}
    return Collection(access.releases_of(case), opened)


def collect(*, case_id: UUID, actor: Actor) -> Case:
    """Note that the recipient collects: the first time, `released` becomes `collected`."""
    with transaction.atomic():
        case = access.lock_case(case_id)
        if case.state not in _COLLECTABLE:
            raise NotReleased(f"The case is {case.state}.", state=case.state)
        if case.state == CaseState.RELEASED:
            advance(case, CASE, CaseState.COLLECTED, collected_at=database_now())
        audit.append(tag="recovery:case:collect", actor=actor, subject=str(case.id), body={"q": bytes(case.q)})
    return case


def follow_rotation(*, case_id: UUID, actor: Actor) -> None:
    """Move a collected case on once its subject's chain shows that what was exposed is renewed.

    That is a re-genesis, or a new identity key and a new archive generation, accepted after the collection. Where
    somebody else received it and no device of the subject is left that could, what was opened is sealed instead.
    """
    case = Case.objects.get(id=case_id)
    if case.state != CaseState.COLLECTED or case.collected_at is None:
        return
    if _is_renewed(case, case.collected_at):
        with transaction.atomic():
            case = access.lock_case(case_id)
            if case.state == CaseState.COLLECTED:
                advance(case, CASE, CaseState.ROTATED)
                audit.append(tag="recovery:case:rotate", actor=actor, subject=str(case.id))
    elif _is_left_behind(case):
        _seal(case_id, actor)


def _is_left_behind(case: Case) -> bool:
    """Whether nobody can rotate what a case disclosed: its subject may not act, or their chain lists no device."""
    if case.recipient_person_id == case.subject_id:
        return False  # the receiving device is about to become the subject's
    if tenants.person(case.subject_id).state == PersonState.SUSPENDED:
        return True
    return not keys.active_devices(case.subject_id)


def _seal(case_id: UUID, actor: Actor) -> None:
    with transaction.atomic():
        # Before the case, as whoever opens or counts one: a deposit of these generations is taken before, or not.
        escrow.newest_policy_for_update()
        case = access.lock_case(case_id)
        if case.state == CaseState.COLLECTED:
            generations = {row.generation for row in access.deposits_of(case)}
            custody.seal_generations(user_id=case.subject_id, generations=generations, now=database_now())
            advance(case, CASE, CaseState.SEALED)
            audit.append(tag="recovery:case:seal", actor=actor, subject=str(case.id))


def _is_renewed(case: Case, since: datetime) -> bool:
    rows = keys.chain_entries(case.subject_id)
    fresh = {row.kind for row in rows if row.appended_at > since}
    return ReGenesis.TYPE in fresh or {RotateKey.TYPE, ArchiveGeneration.TYPE} <= fresh


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
