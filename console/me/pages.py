# SPDX-License-Identifier: Apache-2.0
"""A person's own pages that only look: who they are and what needs doing, devices, ways back, keys, notices.

Implements ORGANISATION "People" (each person) and FAULTS R3. Nothing of a case stands here before the date on which its
signed statement has its subject told.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone

from audit import access as log
from audit import services as audit
from console.cases import case_list
from console.frame import console_page
from console.me import duties, own_devices
from console.words import me_words
from escrow import access as escrow
from escrow import coverage
from escrow.errors import EscrowOff
from holdfast.core.base.errors import HoldfastError
from holdfast.core.signed.cose import Sign1
from holdfast.core.vault.blob import Section
from holdfast.core.vault.share_manifest import Manifest
from kernel.actors import Actor
from keys import access as keys
from recovery import access as recovery
from recovery.contacts import access as contacts
from tenants import access as tenants
from tenants.permissions import PermissionName

if TYPE_CHECKING:
    from audit.models import Numbered

SHOWN: Final = 50  # rows of a list: more than anybody has, and a page's cost has an end
_READ: Final = "escrow:deposit:read"


@console_page(PermissionName.ME_READ)
def home(request: HttpRequest, actor: Actor) -> HttpResponse:
    """Say who is signed in, and what they should do first."""
    assert actor.person_id is not None
    context = {
        "me": tenants.person(actor.person_id),
        "duties": duties.of(actor, now=timezone.now()),
        "enters_console": actor.can(PermissionName.CONSOLE_ENTER),
    }
    return render(request, "console/me/home.html", context)


@console_page(PermissionName.ME_READ)
def devices(request: HttpRequest, actor: Actor) -> HttpResponse:
    """List their devices: state, when each was last used, how its pre-keys last."""
    assert actor.person_id is not None
    listed, has_more = own_devices.of(actor.person_id, now=timezone.now(), limit=SHOWN)
    context = {"devices": listed, "has_more": has_more, "shown": SHOWN, "stale_days": own_devices.STALE.days}
    return render(request, "console/me/devices.html", context)


@console_page(PermissionName.ME_READ)
def recovery_ways(request: HttpRequest, actor: Actor) -> HttpResponse:
    """Show the ways back to their keys, when each was last proven, and who their trusted contacts are."""
    assert actor.person_id is not None
    person_id = actor.person_id
    last_read: dict[str, Numbered] = {}
    for entry in log.search(tag="keys:door:read", subject=str(person_id), reader=actor, limit=SHOWN):
        last_read.setdefault(str(entry.body.get("kind", "")), entry)
    doors = [*keys.doors(person_id), *keys.doors(person_id, Section.OFFICERS)]
    manifest = _manifest(person_id)
    asked, asks = contacts.open_contact_requests(person_id), contacts.open_requests_to(person_id, limit=SHOWN)
    named = {UUID(bytes=one) for one in manifest.contacts} if manifest else set()
    context = {
        "doors": [{"row": row, "words": me_words.door(row.kind), "read": last_read.get(row.kind)} for row in doors],
        "vault": keys.vault(person_id),
        "manifest": manifest,
        "contacts": sorted(named),
        "asked": asked,
        "asks": asks,
        "people": tenants.people_by_id(named | {row.owner_id for row in asks}),
    }
    return render(request, "console/me/recovery.html", context)


def _manifest(person_id: UUID) -> Manifest | None:
    row = contacts.contact_set(person_id)
    try:
        return Manifest.from_payload(Sign1.parse(bytes(row.manifest)).payload) if row else None
    except HoldfastError:
        return None  # a row that was changed: their client says so, which holds the signature to it


@console_page(PermissionName.ME_READ)
def who_could_open(request: HttpRequest, actor: Actor) -> HttpResponse:
    """Show who could open their archive keys, the cases about them, and what others have read for those.

    That the log was read for it is written down before the page leaves.
    """
    assert actor.person_id is not None
    now, person_id = timezone.now(), actor.person_id
    cases = recovery.cases_about(actor, limit=SHOWN)
    reads = _reads(actor, person_id)
    context: dict[str, Any] = {
        "cases": case_list.rows_of(cases, now=now),
        "sees_cases": actor.can(PermissionName.CASE_READ),
        "released": recovery.first_released([case.id for case in cases]),
        "reads": reads,
        "shown": SHOWN,
        **_custody(person_id),
    }
    named = {row.requester_id for row in cases} | {row.recipient_person_id for row in cases}
    named |= {row.person_id for row in reads if row.person_id} | {one.person_id for one in context["officers"]}
    context["people"] = tenants.people_by_id(named)
    return render(request, "console/me/keys.html", context)


def _reads(actor: Actor, person_id: UUID) -> list[Numbered]:
    with transaction.atomic():
        audit.append_first(
            tag="audit:entries:read", actor=actor, apart="me", body={"filter": "subject tag", "count": SHOWN}
        )
    found = log.search(tag=_READ, subject=str(person_id), reader=actor, limit=SHOWN)
    return [entry for entry in found if entry.person_id != person_id]


def _custody(person_id: UUID) -> dict[str, Any]:
    """Return the policy in force with those who count as its officers, and the person's deposits by generation."""
    now = timezone.now()
    try:
        policy = escrow.policy_in_force(now)
    except EscrowOff:
        return {"policy": None, "officers": [], "deposits": [], "missing": ()}
    covered = coverage.user_coverage(person_id)
    return {
        "policy": policy,
        "officers": escrow.eligible(policy, now=now, excluded=frozenset()),
        "deposits": covered.deposits,
        "missing": covered.missing,
    }


@console_page(PermissionName.ME_READ)
def notices(request: HttpRequest, actor: Actor) -> HttpResponse:
    """List what they were told of: notices about cases page by page, and beside the first the newest mails."""
    assert actor.person_id is not None
    after = _after(request)
    rows, more = recovery.notices_for(actor.person_id, after=after)
    mails = [] if after else log.search(tag="keys:notice:", subject=str(actor.person_id), reader=actor, limit=SHOWN)
    context = {
        "rows": [
            {"row": row, "words": me_words.case_notice(row.kind), "state": me_words.STATES[row.state]} for row in rows
        ],
        "next": rows[-1].pk if more else None,
        "is_first": after is None,
        "mails": [
            {"row": row, "words": me_words.mail(str(row.body.get("kind", ""))), "is_failed": row.tag.endswith(":fail")}
            for row in mails
        ],
        "sees_cases": actor.can(PermissionName.CASE_READ),
    }
    return render(request, "console/me/notices.html", context)


def _after(request: HttpRequest) -> UUID | None:
    """Return the last notice of the page before; what is no id is the first page."""
    try:
        return UUID(request.GET["after"]) if "after" in request.GET else None
    except ValueError:
        return None
