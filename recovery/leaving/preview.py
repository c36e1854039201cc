# SPDX-License-Identifier: Apache-2.0
"""What a person who leaves leaves behind: what stops, who could open what is in escrow, what would be orphaned.

Implements ORGANISATION "People" (leaver). Of cases it says what the reader may know. It writes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from django.db.models import Q

from escrow import coverage
from escrow.coverage import Openers
from kernel.actors import Actor
from kernel.clock import database_now
from keys import access as keys
from keys.states import DeviceState
from recovery import access
from recovery.contacts import access as contacts
from recovery.models import Case
from recovery.states import HAD, KEPT, UNDECIDED, UNRELEASED, CaseState
from tenants import access as tenants
from tenants.acts import engine
from tenants.models import Person

MAX_CASES: Final = 20  # named one by one: more than anybody reads
MAX_ACCOUNTS: Final = 20


@dataclass(frozen=True)
class CaseFate:
    """One case in which a leaver has a part, and what becomes of it. is_warning: something of it outlasts them."""

    case_id: UUID
    text: str
    is_warning: bool = False


@dataclass(frozen=True)
class Custody:
    """What of a person's archive is in escrow: who could release which generations, and which nobody ever deposited."""

    openers: tuple[Openers, ...]
    missing: tuple[int, ...]


@dataclass(frozen=True)
class Preview:
    """All that a person leaves behind. devices: those that are not revoked, and accounts: service accounts, by name.

    ways_in: open invitations and enrolment codes. requests: to their trusted contacts. acts: those that wait for a
    second person. more_cases: whether there are more than `cases` names.
    """

    devices: tuple[str, ...]
    ways_in: int
    accounts: tuple[str, ...]
    custody: Custody
    cases: tuple[CaseFate, ...]
    more_cases: bool
    requests: int
    acts: int


def preview(person: Person, *, reader: Actor) -> Preview:
    """Say what would stop and what would be left if a person left now, as far as the reader may know."""
    found = cases_of(person.pk, reader=reader)
    return Preview(
        devices=_live_devices(person.pk),
        ways_in=tenants.count_ways_in(person.pk),
        accounts=accounts_of(person.pk),
        custody=custody_of(person.pk),
        cases=tuple(found[:MAX_CASES]),
        more_cases=len(found) > MAX_CASES,
        requests=len(contacts.open_contact_requests(person.pk)),
        acts=engine.count_pending_of(person.pk),
    )


def custody_of(person_id: UUID) -> Custody:
    """Say who could release what a person has in escrow today, and which generations nobody ever deposited."""
    missing = coverage.user_coverage(person_id).missing
    return Custody(tuple(coverage.openers_of(person_id)), missing)


def accounts_of(person_id: UUID) -> tuple[str, ...]:
    """Name the service accounts that a person made."""
    return tuple(one.name for one in tenants.service_accounts_of(person_id)[:MAX_ACCOUNTS])


def cases_of(person_id: UUID, *, reader: Actor) -> list[CaseFate]:
    """Say what becomes of each case in which a person has a part, as far as the reader may know; MAX_CASES and one."""
    now = database_now()
    mine = Q(requester_id=person_id) | Q(subject_id=person_id)
    approved = Q(id__in=access.approved_by(person_id, states=UNRELEASED))
    going_on = Q(state__in=UNRELEASED | KEPT)
    rows = access.visible_to(reader, now).filter(going_on, mine | approved).order_by("opened_at", "id")
    return [fate for row in rows[: MAX_CASES + 1] if (fate := _fate(row, person_id, now)) is not None]


def _fate(case: Case, person_id: UUID, now: datetime) -> CaseFate | None:
    name = f"Case {str(case.id)[:8]}"
    if case.requester_id == person_id:
        return _of_theirs(case, name, now)
    if case.subject_id == person_id:
        if case.state in UNDECIDED:
            return CaseFate(
                case.id, f"{name} about them goes on, with the long delay. Their devices can still forbid it."
            )
        return CaseFate(case.id, f"{name} about them goes on: officers have decided.")
    return CaseFate(case.id, f"{name}, which they approved: their approval ends, and another officer is asked.")


def _of_theirs(case: Case, name: str, now: datetime) -> CaseFate | None:
    ends = access.ends_at(case).strftime("%Y-%m-%d")
    if case.state in UNDECIDED:
        return CaseFate(case.id, f"{name}, which they asked for, is cancelled. Whoever takes over asks anew.")
    if case.state not in HAD:
        return CaseFate(
            case.id,
            f"{name}, which they asked for, is released or about to be. Nobody collects it any more; what was released "
            f"is destroyed when it ends, on {ends}.",
        )
    until = access.disclosed_until(case)
    if until is None or until <= now or case.state == CaseState.CLOSED:
        return None
    return CaseFate(
        case.id,
        f"{name}: they have collected another person’s archive keys. These end on {until:%Y-%m-%d}, and until then "
        "lie on their device: take it back.",
        is_warning=True,
    )


def _live_devices(person_id: UUID) -> tuple[str, ...]:
    # Those that are not revoked stand first; nobody has more than a page of them.
    devices, _ = keys.devices_of(person_id)
    return tuple(one.name for one in devices if one.state != DeviceState.REVOKED)
