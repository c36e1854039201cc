# SPDX-License-Identifier: Apache-2.0
"""Shredding one person's keys: asked by two persons for somebody who has left, done by the worker, for good.

Implements ORGANISATION "People" ("One person's keys can be shredded on request"). Every record has a record key of its
own, wrapped in its row: with the row goes the key. Ids, hashes, public keys and the log stay. A backup of before still
has the rows.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Final
from uuid import UUID

from django.db import transaction

from audit import services as audit
from escrow import access as escrow_access
from escrow import services as escrow
from kernel.actors import Actor
from kernel.clock import database_now
from kernel.errors import Conflict
from kernel.queue import RunLater, enqueue
from keys import mailbox
from keys import services as keys
from recovery import access
from recovery.cases.endings import SHREDDED, cancel_case, destroy_released, finish_failed
from recovery.contacts import services as contacts
from recovery.models import Case, Release, Shredding
from recovery.states import CASE, UNDECIDED, CaseState
from tenants import access as tenants_access
from tenants import services as tenants
from tenants.models import Person
from tenants.states import PersonState

SHRED_JOB: Final = "recovery.shred"
# Deposits of one transaction: a person with thousands of them holds up nobody's.
AT_ONCE: Final = 100
# A release takes seconds; one that is put off goes back to `waiting`, where it can be ended.
_WAIT: Final = timedelta(seconds=30)


def require_shreddable(person: Person) -> None:
    """Raise Conflict for whoever has not left, or is shredded already, or of whom something is being released."""
    if person.state != PersonState.LEFT:
        raise Conflict(f"{person.name} has not left. Record that first: what is shredded opens for nobody, ever.")
    if access.shredding_of(person.pk) is not None:
        raise Conflict(f"The keys of {person.name} are shredded already, or are about to be.")
    if access.cases_of_subject(person.pk, states=[CaseState.RELEASING]):
        raise Conflict(f"A case about {person.name} is being released at this moment. Try again in a minute.")


def begin(*, person: Person, actor: Actor) -> None:
    """Promise that a person's keys are shredded, and end the cases about them that are not decided.

    In one transaction with what they signed in with, which is deleted at once. Raises Conflict.
    """
    with transaction.atomic():
        # What opens a case holds this lock: none about them is opened meanwhile.
        escrow_access.newest_policy_for_update()
        require_shreddable(person)
        for case in access.cases_of_subject(person.pk, states=UNDECIDED):
            cancel_case(case_id=case.id, actor=actor, why=SHREDDED)
        tenants.forget_sign_in(person)
        Shredding.objects.create(person_id=person.pk, asked_at=database_now())
        enqueue(SHRED_JOB, unique=str(person.pk), person=str(person.pk))
        audit.append(tag="recovery:shredding:begin", actor=actor, subject=str(person.pk))


def shred(*, person_id: UUID, actor: Actor, renew: Callable[[], None]) -> None:
    """Destroy what is a person's, step by step, and log at the end how much it was. Done again, it goes on.

    renew: called between steps, to keep the job. Raises RunLater while something of theirs is being released.
    """
    row = access.shredding_of(person_id)
    if row is None or row.finished_at is not None or tenants_access.person(person_id).state != PersonState.LEFT:
        return
    # The cases first: what was released opens a deposit as well as its record does.
    for case in access.cases_of_subject(person_id, states=set(CaseState)):
        _end_case(case.id, person_id, actor)
        renew()
    with transaction.atomic():
        sections, doors = keys.destroy_vault(person_id)
        sets, shares = contacts.destroy_contacts(person_id)
        _note(person_id, vaults=sections, doors=doors, contacts=sets, given=shares)
    with transaction.atomic():
        _note(person_id, messages=mailbox.destroy_waiting(person_id))
    while _shred_deposits(person_id):
        renew()
    _finish(person_id, actor)


def _end_case(case_id: UUID, person_id: UUID, actor: Actor) -> None:
    with transaction.atomic():
        case = access.lock_case(case_id)
        if case.state == CaseState.RELEASING:
            raise RunLater(database_now() + _WAIT, "a case is being released")
        kept = Release.objects.filter(case_id=case.id, destroyed_at=None).count()
        sealed, _ = access.shares_of(case).delete()
        if CASE.allows(case.state, CaseState.EXPIRED):
            finish_failed(case, CaseState.EXPIRED, why=SHREDDED)
            audit.append(tag="recovery:case:expire", actor=actor, subject=str(case.id), body={"q": bytes(case.q)})
        elif kept:
            _destroy(case, kept, actor)
        _note(person_id, releases=kept, given=sealed)


def _destroy(case: Case, deposits: int, actor: Actor) -> None:
    destroy_released(case)
    audit.append(
        tag="recovery:release:destroy",
        actor=actor,
        subject=str(case.id),
        body={"q": bytes(case.q), "deposits": deposits},
    )


def _shred_deposits(person_id: UUID) -> int:
    with transaction.atomic():
        count = escrow.shred_deposits(user_id=person_id, now=database_now(), limit=AT_ONCE)
        _note(person_id, deposits=count)
    return count


def _note(person_id: UUID, **counts: int) -> None:
    """Add to what the row says was done, in the transaction that does it: a job that died goes on counting."""
    row = access.shredding_for_update(person_id)
    assert row is not None
    row.done = {**row.done, **{name: row.done.get(name, 0) + count for name, count in counts.items()}}
    row.save(update_fields=["done"])


def _finish(person_id: UUID, actor: Actor) -> None:
    with transaction.atomic():
        row = access.shredding_for_update(person_id)
        if row is None or row.finished_at is not None:
            return
        row.finished_at = database_now()
        row.save(update_fields=["finished_at"])
        counts = {name: int(count) for name, count in row.done.items()}
        audit.append(tag="recovery:shredding:finish", actor=actor, subject=str(person_id), body=counts)
