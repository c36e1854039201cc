# SPDX-License-Identifier: Apache-2.0
"""Recording that a person has left: all that was theirs stops in one transaction, and nothing of it is deleted.

Implements ORGANISATION "People" (leaver) and ESCROW "Case": nothing is released more easily afterwards. Their archive
stays where it is; officers open it by a case, with the long delay, and the leaver's devices can still forbid it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from uuid import UUID

from django.db import transaction

from audit import services as audit
from escrow import access as escrow
from escrow import policies
from kernel.actors import Actor
from kernel.queue import enqueue
from keys import access as keys_access
from keys import services as keys
from recovery import access
from recovery.cases.endings import REQUESTER_LEFT, cancel_case
from recovery.contacts import services as contacts
from recovery.errors import OfficerInOffice
from recovery.states import UNDECIDED
from tenants import access as tenants_access
from tenants import mails
from tenants import services as tenants
from tenants.acts import engine
from tenants.models import Person
from tenants.session_store import end_sessions

CONTACT_LEFT_JOB: Final = "recovery.contact-left"


@dataclass(frozen=True)
class Left:
    """What stopped with a person: numbers of each."""

    sessions: int
    devices: int
    ways_in: int
    cases: int
    requests: int
    acts: int


def require_succeeded(person: Person) -> None:
    """Raise OfficerNeeded or OfficerInOffice for a person whom the policy in force, or one that waits, has as officer.

    Whoever holds shares of others' deposits hands them on, or is taken out of office by officers, before they go: the
    web process's word takes nobody out of a policy.
    """
    if not escrow.is_in_office(person.pk):
        return
    policies.require_enough_without(person.pk, for_ever=True)
    raise OfficerInOffice(
        f"{person.name} is an officer of the escrow policy, and holds shares of others’ deposits. Have the officers "
        "publish a version without them, or one of them take them out of office: holdfast officer remove. Then record "
        "that they left."
    )


def leave(*, person: Person, actor: Actor) -> Left:
    """Record that a person has left, for good, and end in the same transaction all that they could still do.

    Their devices’ credentials and pre-keys, invitations and codes, cases that they asked for and that are not decided,
    requests to their trusted contacts, and acts that wait for a second person. Whoever chose them as a trusted contact
    is told by a job. Raises LastOfficer, OfficerNeeded, OfficerInOffice, Conflict.
    """
    with transaction.atomic():
        # In this order everywhere: the person's chain, the officers, cases.
        keys_access.chain_head_for_update(person.pk)
        escrow.newest_policy_for_update()
        require_succeeded(person)
        ways_in = tenants_access.count_ways_in(person.pk)
        devices = keys.stop_all(user_id=person.pk, actor=actor)
        cases = access.cases_of_requester(person.pk, states=UNDECIDED)
        for case in cases:
            cancel_case(case_id=case.id, actor=actor, why=REQUESTER_LEFT)
        left = Left(
            sessions=end_sessions(person, actor=actor),
            devices=devices,
            ways_in=ways_in,
            cases=len(cases),
            requests=contacts.end_requests_of(owner_id=person.pk, actor=actor),
            acts=engine.withdraw_of(person.pk, actor=actor),
        )
        tenants.leave_person(person=person, actor=actor)
        enqueue(CONTACT_LEFT_JOB, person=str(person.pk), after="")
        mails.promise(kind="left", to=person, actor=actor)
        audit.append(
            tag="recovery:person:leave",
            actor=actor,
            subject=str(person.pk),
            # Not how many cases: one of them may be about somebody who is not to learn of it yet, and reads the log.
            body={
                "devices": left.devices,
                "ways_in": left.ways_in,
                "requests": left.requests,
                "acts": left.acts,
                "sessions": left.sessions,
            },
        )
    return left


def tell_contacts(*, person_id: UUID, after: UUID | None) -> None:
    """Tell the next people who chose a person who has left as a trusted contact, and promise the rest."""
    last = contacts.tell_of_leaving(person_id=person_id, after=after)
    if last is not None:
        with transaction.atomic():
            enqueue(CONTACT_LEFT_JOB, person=str(person_id), after=str(last))
