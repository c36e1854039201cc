# SPDX-License-Identifier: Apache-2.0
"""While a tenant is being founded: where that stands, who is waited for, and what each has to do next.

Implements ORGANISATION "Founding, at different desks". It only looks, and stands in place of the overview until the
tenant is founded.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Final
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from escrow import access, services
from holdfast.core.identity.policy import MIN_OFFICERS
from kernel.clock import database_now
from keys import health
from tenants import access as tenants
from tenants.roles import Role

if TYPE_CHECKING:
    from tenants.models import Person

JOIN: Final = "holdfast officer join --code-file FILE"
PROPOSE: Final = "holdfast officer policy propose"
SIGN: Final = "holdfast officer policy sign"
SIGN_KEY: Final = "holdfast officer key sign"
SHOWN: Final = 20  # people in the list: the most officers a policy takes, and some owners


@dataclass(frozen=True)
class Waited:
    """One person of the founding. next: what they have to do, or "". command: with what, where it is a command.

    code_until: until when their founding code can be used; None where they have none to use.
    """

    person: Person
    done: tuple[str, ...]
    next: str
    command: str = ""
    code_until: datetime | None = None

    @property
    def needs_code(self) -> bool:
        """Whether their next act takes a founding code."""
        return self.command == JOIN


def page(request: HttpRequest) -> HttpResponse:
    """Show the founding of the open scope's tenant."""
    people = tenants.people(roles=[Role.OWNER, Role.OFFICER])
    shown = people[:SHOWN]
    devices = health.device_counts([person.pk for person in shown])
    stage = _stage()
    codes = tenants.open_codes_until([person.pk for person in shown])
    rows = [
        replace(
            _row(person, stage, has_device=bool((found := devices.get(person.pk)) and found.active)),
            code_until=codes.get(person.pk),
        )
        for person in shown
    ]
    officers = sum(person.role == Role.OFFICER for person in people)
    context = {
        "rows": rows,
        "more": len(people) - len(rows),
        "missing": max(0, MIN_OFFICERS - officers),
        "officers": officers,
        "waiting": sum(bool(row.next) for row in rows),
        "stage": stage,
    }
    return render(request, "console/founding.html", context)


@dataclass(frozen=True)
class Stage:
    """How far the tenant's own part is: what is proposed, who has signed it, and what waits for the operator."""

    is_proposed: bool = False
    asked: frozenset[UUID] = frozenset()
    signed: frozenset[UUID] = frozenset()
    is_complete: bool = False
    key_is_asked: bool = False
    key_signed: frozenset[UUID] = frozenset()
    key_missing: int = 0


def _stage() -> Stage:
    now = database_now()
    rows, _ = access.proposal_page(access.next_place(now), now=now, limit=1)
    if not rows:
        return Stage()
    (policy,) = services.policy_progress(rows)
    is_complete = policy.state == "published" or (policy.state == "open" and not policy.missing)
    if policy.state not in ("open", "published"):
        return Stage()
    keys, _ = access.key_proposal_page()
    key = services.key_progress(keys[:1])
    return Stage(
        is_proposed=True,
        asked=frozenset(policy.asked),
        signed=frozenset(policy.signed),
        is_complete=is_complete,
        key_is_asked=bool(key) and key[0].state == "open",
        key_signed=frozenset(key[0].signed) if key else frozenset(),
        key_missing=key[0].missing if key else 0,
    )


def _row(person: Person, stage: Stage, *, has_device: bool) -> Waited:
    done = tuple(
        words
        for words, is_done in (
            ("console", person.has_usable_password()),
            ("device", has_device),
            ("policy signed", person.pk in stage.signed),
            ("escrow key signed", person.pk in stage.key_signed),
        )
        if is_done
    )
    return Waited(person, done, *_next(person, stage, has_device=has_device))


def _next(person: Person, stage: Stage, *, has_device: bool) -> tuple[str, str]:
    """Return what a person has to do next, and the command for it; two empty texts when they wait for others."""
    is_officer, is_asked = person.role == Role.OFFICER, person.pk in stage.asked
    signs_key = stage.key_is_asked and stage.key_missing > 0 and person.pk not in stage.key_signed
    for is_next, words, command in (
        (not person.has_usable_password(), "Open the link in the invitation, and set a password", ""),
        (is_officer and not has_device, "Make a device, an account and an officer's keys", JOIN),
        (is_officer and not stage.is_proposed, "Propose the policy, or agree on who does", PROPOSE),
        (is_asked and person.pk not in stage.signed, "Compare words with every other officer, then sign", SIGN),
        (is_asked and signs_key, "Sign the escrow key", SIGN_KEY),
    ):
        if is_next:
            return words, command
    return "", ""
