# SPDX-License-Identifier: Apache-2.0
"""The console's page of custody: the policy in force and what it means, its officers, the escrow keys.

Implements PLATFORM "Console" and ESCROW "Policy and officers". Only looks; reads terms from the signed statements.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone

from console.frame import console_page
from console.words import terms
from escrow import access, coverage
from escrow.errors import EscrowOff
from holdfast.core.base.encoding import MAX_BLOB
from holdfast.core.base.errors import HoldfastError
from holdfast.core.identity import trust
from holdfast.core.identity.policy import Officer, Policy
from holdfast.core.signed import cose
from holdfast.core.signed.statements import EscrowKey
from kernel.actors import Actor
from tenants import access as tenants
from tenants.permissions import PermissionName

if TYPE_CHECKING:
    from escrow.models import Policy as PolicyRow


@dataclass(frozen=True)
class Place:
    """One row of the roster: the officer as signed, and how they stand now."""

    officer: Officer
    person_id: UUID
    state: str
    counts_from: datetime | None
    is_counting: bool

    @property
    def words(self) -> tuple[str, ...]:
        """The eight words of the officer's signing key."""
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
    available = len(coverage.releasable_now(made_under=[bytes(in_force.hash)], at=now).approvers)
    newer = [row for row in rows if row.version > in_force.version and row.withdrawn_at is None]
    context = {
        "policy": in_force,
        "places": places,
        "available": available,
        "people": tenants.people_by_id([place.person_id for place in places]),
        "clauses": terms.clauses(signed),
        "warnings": terms.warnings(signed, available=available, active=coverage.count_active_officers()),
        "release_words": signed.terms.release_sealing_key.fingerprint("release"),
        "newer": newer,
        "versions": _versions(rows),
        "totals": coverage.coverage_totals(),
        "people_count": tenants.count_active_people(),
        **_trust(),
        **_escrow_keys(),
    }
    return render(request, "console/escrow/escrow.html", context)


def _places(row: PolicyRow, signed: Policy, now: datetime) -> list[Place]:
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
    """Return every version, newest first, with what it changed of the one that it follows."""
    read = {bytes(row.hash): access.reading(row) for row in rows}
    lines = []
    for row in rows:
        policy = read[bytes(row.hash)]
        before = read.get(policy.predecessor)
        lines.append({"row": row, "changes": terms.changes(before, policy) if before else []})
    return list(reversed(lines))


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
