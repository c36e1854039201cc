# SPDX-License-Identifier: Apache-2.0
"""Console pages of people and of custody: who is covered by how many officers, and what the policy means.

PLATFORM "Console", ESCROW "Policy and officers". Pages only look; terms are read from the signed statements.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone

from escrow import access, coverage, terms
from escrow.coverage import UserCoverage
from escrow.errors import EscrowOff
from holdfast.core.base.encoding import MAX_BLOB
from holdfast.core.base.errors import HoldfastError
from holdfast.core.identity import trust
from holdfast.core.identity.policy import Officer, Policy
from holdfast.core.signed import cose
from holdfast.core.signed.statements import EscrowKey
from kernel.actors import Actor
from kernel.errors import NotFound
from keys import access as keys
from keys import chain_words, chains, health
from tenants import access as tenants
from tenants.permissions import PermissionName
from tenants.roles import Role
from tenants.sessions import console_page

PAGE: Final = 50
MAX_SEARCH: Final = 100


def page_number(request: HttpRequest) -> int:
    """Return the page asked for, from 1; what is no number is the first page."""
    text = request.GET.get("page", "1")
    return max(1, int(text)) if text.isascii() and text.isdigit() and len(text) < 7 else 1


def pages(number: int, total: int, **kept: str) -> dict[str, Any]:
    """Return what the pager needs: its place, the pages beside it, and the filters to keep."""
    first = (number - 1) * PAGE
    return {
        "first": min(first + 1, total),
        "last": min(first + PAGE, total),
        "total": total,
        "previous": number - 1 if number > 1 else None,
        "next": number + 1 if first + PAGE < total else None,
        "kept": {name: value for name, value in kept.items() if value},
    }


def coverage_state(of_user: UserCoverage | None) -> tuple[str, str]:
    """Return badge and words for a user's coverage."""
    if of_user is None or not of_user.deposits:
        return "off", "nothing deposited"
    if not of_user.is_recoverable:
        return "uncovered", "cannot be opened"
    if any(deposit.is_alarming for deposit in of_user.deposits):
        return "stale", "no officer to spare"
    return "covered", "covered"


@console_page(PermissionName.PERSON_READ)
def people_list(request: HttpRequest, actor: Actor) -> HttpResponse:
    """List people by name, with how many devices each has and whether her archive keys are covered."""
    text, number = request.GET.get("q", "")[:MAX_SEARCH].strip(), page_number(request)
    role = request.GET.get("role", "")
    role = role if role in Role.values else ""
    found, total = tenants.people_found(text, role, start=(number - 1) * PAGE, limit=PAGE)
    ids = [person.pk for person in found]
    counts = health.device_counts(ids)
    sees_coverage = actor.can(PermissionName.COVERAGE_READ)
    covered = coverage.coverage_of(ids) if sees_coverage else {}
    rows = [
        {
            "person": person,
            "devices": counts.get(person.pk, health.DeviceCount()),
            "coverage": coverage_state(covered.get(person.pk)),
            "generations": len(covered[person.pk].deposits) if person.pk in covered else 0,
        }
        for person in found
    ]
    context = {
        "rows": rows,
        "text": text,
        "role": role,
        "roles": Role.choices,
        "sees_coverage": sees_coverage,
        "pages": pages(number, total, q=text, role=role),
    }
    return render(request, "console/escrow/people.html", context)


@console_page(PermissionName.PERSON_READ)
def person_page(request: HttpRequest, actor: Actor, person_id: UUID) -> HttpResponse:
    """Show one person: devices and their pre-keys, chain, vault, deposits by generation."""
    person, now = tenants.person(person_id), timezone.now()
    # Those that peers send to come first; the rest is history, oldest first.
    devices = sorted(keys.devices_of(person_id), key=lambda device: device.revoked_at is not None)
    standings = health.of_devices(devices, now=now)
    by_id = {device.pk: device for device in devices}
    sees_coverage = actor.can(PermissionName.COVERAGE_READ)
    context = {
        "subject": person,
        "devices": [{"standing": one, "pool_state": one.state_at(now)} for one in standings],
        "chain": _chain_lines(person_id, by_id),
        "vault": keys.vault(person_id),
        "doors": keys.doors(person_id),
        "sees_coverage": sees_coverage,
        "sees_cases": actor.can(PermissionName.CASE_READ),
        "deposits": _deposit_lines(person_id, by_id) if sees_coverage else [],
        **_chain_head(person_id),
    }
    context["coverage"] = coverage_state(coverage.user_coverage(person_id)) if sees_coverage else ("", "")
    return render(request, "console/escrow/person.html", context)


def _chain_lines(person_id: UUID, devices: dict[UUID, Any]) -> list[chain_words.ChainLine]:
    return [chain_words.read(row, devices) for row in reversed(keys.chain_entries(person_id))]


def _chain_head(person_id: UUID) -> dict[str, Any]:
    """Verify the chain as every client does, and say what it comes to or why it does not hold."""
    try:
        state = chains.chain_state(person_id).state
        return {"chain_state": state, "chain_refusal": "", "identity_words": state.aik.fingerprint("aik")}
    except NotFound:
        return {"chain_state": None, "chain_refusal": ""}
    except HoldfastError as error:
        return {"chain_state": None, "chain_refusal": str(error)}


def _deposit_lines(person_id: UUID, devices: dict[UUID, Any]) -> list[dict[str, Any]]:
    """Return every deposit, newest first, with its coverage when it is the one of its generation that counts."""
    counted = {one.deposit_id: one for one in coverage.user_coverage(person_id).deposits}
    return [
        {
            "deposit": row,
            "coverage": counted.get(row.pk),
            "device": devices.get(row.device_id),
        }
        for row in reversed(access.deposits_of(person_id))
    ]


@dataclass(frozen=True)
class Place:
    """One row of the roster: the officer as signed, and how she stands now."""

    officer: Officer
    person_id: UUID
    state: str
    counts_from: datetime | None
    is_counting: bool

    @property
    def words(self) -> tuple[str, ...]:
        """The eight words of her signing key."""
        return self.officer.signing_key.fingerprint("officer")


@console_page(PermissionName.COVERAGE_READ)
def escrow_page(request: HttpRequest, actor: Actor) -> HttpResponse:
    """Show the policy in force with its officers and terms in words, the escrow key, and earlier versions."""
    now = timezone.now()
    rows = access.policies()
    try:
        in_force = access.policy_in_force(now)
    except EscrowOff:
        return render(request, "console/escrow/escrow_off.html", {"is_pending": bool(rows)})
    signed = access.reading(in_force)
    places = _places(in_force, signed, now)
    available = sum(place.is_counting for place in places)
    newer = [row for row in rows if row.version > in_force.version]
    context = {
        "policy": in_force,
        "places": places,
        "available": available,
        "people": tenants.people_by_id([place.person_id for place in places]),
        "clauses": terms.clauses(signed),
        "warnings": terms.warnings(signed, available=available),
        "release_words": signed.terms.release_sealing_key.fingerprint("release"),
        "newer": newer,
        "versions": _versions(rows),
        "totals": coverage.coverage_totals(),
        "people_count": tenants.count_active_people(),
        **_trust(),
        **_escrow_keys(),
    }
    return render(request, "console/escrow/escrow.html", context)


def _places(row: Any, signed: Policy, now: datetime) -> list[Place]:
    counting = {officer.index for officer in access.eligible(row, now=now, excluded=frozenset())}
    stored = {officer.index: officer for officer in access.officers(row)}
    return [
        Place(
            officer=officer,
            person_id=UUID(bytes=officer.person),
            state=stored[officer.index].state if officer.index in stored else "missing",
            counts_from=stored[officer.index].counts_from if officer.index in stored else None,
            is_counting=officer.index in counting,
        )
        for officer in signed.roster
    ]


def _versions(rows: list[Any]) -> list[dict[str, Any]]:
    """Return every version, newest first, with what it changed."""
    read = [(row, access.reading(row)) for row in rows]
    steps = itertools.pairwise(read)
    lines = [{"row": row, "changes": terms.changes(before, after)} for (_, before), (row, after) in steps]
    first = [{"row": read[0][0], "changes": []}] if read else []
    return list(reversed(first + lines))


def _trust() -> dict[str, Any]:
    """Follow the policies from the tenant's pin, as every client does, and say whether they hold."""
    tenant = tenants.tenant()
    pin = trust.pin_words(bytes(tenant.root_pin)) if tenant.root_pin else ()
    try:
        access.trusted_tenant()
    except (HoldfastError, EscrowOff) as error:
        return {"pin_words": pin, "trust_refusal": str(error)}
    return {"pin_words": pin, "trust_refusal": ""}


def _escrow_keys() -> dict[str, Any]:
    rows = access.escrow_keys()
    read = [EscrowKey.from_payload(cose.parse_many(bytes(row.statement), max_size=MAX_BLOB)[0].payload) for row in rows]
    lines = [
        {"row": row, "words": key.key.fingerprint("escrow-key"), "algorithm": key.algorithm}
        for row, key in zip(rows, read, strict=True)
    ]
    return {"escrow_keys": list(reversed(lines))}
