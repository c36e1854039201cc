# SPDX-License-Identifier: Apache-2.0
"""While a tenant is being founded: where that stands, who is waited for, and what each has to do next.

Implements ORGANISATION "Founding, at different desks". It only looks, and stands in place of the overview until the
tenant is founded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from holdfast.core.identity.policy import MIN_OFFICERS
from keys import health
from tenants import access as tenants
from tenants.roles import Role
from tenants.states import PersonState

if TYPE_CHECKING:
    from tenants.models import Person

SHOWN: Final = 20  # people in the list: the most officers a policy takes, and some owners


@dataclass(frozen=True)
class Waited:
    """One person of the founding. next: what they have to do, or "". command: with what, where it is a command."""

    person: Person
    done: tuple[str, ...]
    next: str
    command: str = ""


def page(request: HttpRequest) -> HttpResponse:
    """Show the founding of the open scope's tenant."""
    people = tenants.people(roles=[Role.OWNER, Role.OFFICER])
    shown = people[:SHOWN]
    devices = health.device_counts([person.pk for person in shown])
    rows = [_row(person, has_device=bool((found := devices.get(person.pk)) and found.active)) for person in shown]
    officers = sum(person.role == Role.OFFICER for person in people)
    context = {
        "rows": rows,
        "more": len(people) - len(rows),
        "missing": max(0, MIN_OFFICERS - officers),
        "officers": officers,
        "waiting": sum(bool(row.next) for row in rows),
    }
    return render(request, "console/founding.html", context)


def _row(person: Person, *, has_device: bool) -> Waited:
    is_officer = person.role == Role.OFFICER
    done = (
        *(["console"] if person.has_usable_password() else []),
        *(["device"] if has_device else []),
    )
    if not person.has_usable_password():
        return Waited(person, done, "Open the link in the invitation, and set a password and an authenticator")
    if is_officer and not has_device:
        return Waited(
            person,
            done,
            "Make a device and an account, with the code of the founding",
            "holdfast enrol --code-file FILE",
        )
    if person.state != PersonState.ACTIVE:
        return Waited(person, done, f"Is {person.state}")
    return Waited(person, done, "")
