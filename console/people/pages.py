# SPDX-License-Identifier: Apache-2.0
"""The console's pages of people: who has which devices, and whether their archive keys are covered.

Implements PLATFORM "Console". Pages only look.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone

from console import pending_acts
from console.frame import console_page
from console.paging import PAGE, Column, Listing
from console.words import chain_words, mail_words
from escrow import access, coverage
from escrow.coverage import UserCoverage
from escrow.services import MAX_CONSENTS, MAX_DEPOSITS
from holdfast.core.base.errors import HoldfastError
from kernel.actors import Actor
from kernel.api import MOST_ANSWERS, count_answers
from kernel.errors import NotFound
from keys import access as keys
from keys import chains, health, services
from keys.devices import MAX_WAITING
from keys.mailbox import LETTERS, MESSAGES, MIB
from recovery import access as recovery
from recovery.cases.opening import MAX_OPEN
from recovery.leaving.report import report_of
from recovery.leaving.words import custody_warnings, openers_line
from tenants import access as tenants
from tenants import mails
from tenants.acts import engine
from tenants.permissions import PermissionName
from tenants.roles import Role
from tenants.states import CredentialState, PersonState

if TYPE_CHECKING:
    from tenants.models import Person

MAX_SEARCH: Final = 100
# Of a person's devices, entries and deposits each: more than anybody reads, and a page's cost has an end.
SHOWN: Final = 100
# Of a person's mails: whether the last of them arrived is the question.
SHOWN_MAILS: Final = 10
# Of a person's unused codes, the newest: those that somebody asks about today.
SHOWN_CODES: Final = 10
# From here on a cap is shown as near: there is time to act, and nobody honest is there by chance.
NEAR: Final = 0.8


def coverage_state(of_user: UserCoverage | None) -> tuple[str, str]:
    """Return badge and words for a user's coverage."""
    if of_user is None or not of_user.deposits:
        return "off", "nothing deposited"
    if not all(deposit.is_open for deposit in of_user.deposits):
        return "uncovered", "cannot be opened"
    if of_user.missing:
        return "uncovered", f"{len(of_user.missing)} missing"
    if any(deposit.is_alarming for deposit in of_user.deposits):
        return "stale", "no officer to spare"
    return "covered", "covered"


# What the list of people shows of a state: words, and the state or "no-link".
NO_LINK: Final = "no-link"
SHOWN_STATES: Final = (
    *((state.value, str(state.label).lower()) for state in PersonState),
    (NO_LINK, "invited, link has ended"),
)
COLUMNS: Final = (
    Column("Person", "name", ("search", "id")),
    Column("Role", "role", ("role", "search", "id")),
    Column("State", "state", ("state", "search", "id")),
    Column("Devices", is_number=True),
    Column("Archive keys"),
    Column("Added", "added", ("created_at", "id")),
)


@console_page(PermissionName.PERSON_READ)
def people_list(request: HttpRequest, actor: Actor) -> HttpResponse:
    """List people, with how many devices each has and whether their archive keys are covered."""
    text = request.GET.get("q", "")[:MAX_SEARCH].strip()
    role, show = request.GET.get("role", ""), request.GET.get("show", "")
    role = role if role in Role.values else ""
    show = show if show in dict(SHOWN_STATES) else ""
    sees_coverage = actor.can(PermissionName.COVERAGE_READ)
    columns = [column for column in COLUMNS if sees_coverage or column.words != "Archive keys"]
    listing = Listing.of(request, columns, by_default="name", q=text, role=role, show=show)
    found, total = tenants.people_found(
        text,
        role,
        state="" if show == NO_LINK else show,
        has_no_link=show == NO_LINK,
        order=listing.order,
        start=listing.start,
        limit=PAGE,
    )
    ids = [person.pk for person in found]
    counts, without_link = health.device_counts(ids), tenants.people_without_link(ids)
    covered = coverage.coverage_of(ids) if sees_coverage else {}
    rows = [
        {
            "person": person,
            "has_no_link": person.pk in without_link,
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
        "show": show,
        "states": SHOWN_STATES,
        "sees_coverage": sees_coverage,
        "acts": engine.offered(actor, "people", None),
        "administers": actor.can(PermissionName.PERSON_ADMINISTER),
    }
    return render(request, "console/people/people.html", listing.shown(total, **context))


@console_page(PermissionName.PERSON_READ)
def person_page(request: HttpRequest, actor: Actor, person_id: UUID) -> HttpResponse:
    """Show one person: devices and their pre-keys, chain, vault, deposits by generation."""
    person, now = tenants.person(person_id), timezone.now()
    # Those that peers send to come first; the rest is history, oldest first.
    devices, has_more_devices = keys.devices_of(person_id, limit=SHOWN)
    standings = health.of_devices(devices, now=now)
    by_id = {device.id: device for device in devices}
    suspended = _suspended(by_id)
    chain = _chain_lines(person_id, by_id)
    sees_coverage = actor.can(PermissionName.COVERAGE_READ)
    context = {
        "subject": person,
        "devices": [
            {
                "standing": one,
                "pool_state": one.state_at(now),
                "is_suspended": one.device.id in suspended,
            }
            for one in standings
        ],
        "has_more_devices": has_more_devices,
        "shown": SHOWN,
        "chain": chain,
        "entries": chain[0].seq + 1 if chain else 0,
        "acts": engine.offered(actor, "person", person),
        "pending": pending_acts.rows(actor, engine.pending_about(actor, person_id)),
        "codes": _codes(actor, person_id),
        "vault": keys.vault(person_id),
        "doors": keys.doors(person_id),
        "mails": [mail_words.read(mail) for mail in mails.of_person(person_id, limit=SHOWN_MAILS)],
        "sees_coverage": sees_coverage,
        "sees_cases": actor.can(PermissionName.CASE_READ),
        "deposits": [],
        **_chain_head(person_id),
    }
    if person.state == PersonState.LEFT and sees_coverage:
        context |= _report(person, actor)
    if actor.can(PermissionName.CASE_READ):
        context["limits"] = _limits(actor, person_id, context["entries"], standings)
    if sees_coverage:
        covered = coverage.user_coverage(person_id)
        listing = Listing.of(request, DEPOSIT_COLUMNS, by_default="-generation")
        lines, total = _deposit_lines(covered, by_id, listing)
        context |= listing.shown(total, deposits=lines)
        context["coverage"] = coverage_state(covered)
        context["missing"] = covered.missing
    return render(request, "console/people/person.html", context)


def _suspended(device_ids: Collection[UUID]) -> set[UUID]:
    """Return whose requests are refused for now: a device's row says what the chain holds, and not this."""
    uses = tenants.credential_uses(device_ids)
    return {device_id for device_id, (state, _) in uses.items() if state == CredentialState.SUSPENDED}


def _report(person: Person, actor: Actor) -> dict[str, Any]:
    """Return what became of a person who left, with the names of whoever is in it."""
    report = report_of(person, reader=actor)
    custody = report.custody
    return {
        "report": report,
        "openers": [openers_line(one.generations, one.officers, one.needed) for one in custody.openers if one.is_open],
        "unopened": custody_warnings(custody, has_left=True) if report.shredding is None else [],
        "people": tenants.people_by_id([report.by_id] if report.by_id else []),
    }


def _codes(actor: Actor, person_id: UUID) -> list[dict[str, Any]]:
    """Return the codes that this person could enrol by, and which wait for a second, for whoever issues codes."""
    if not actor.can(PermissionName.ENROLMENT_CREATE):
        return []
    codes = tenants.open_codes(person_id)
    issuers = tenants.people_by_id({code.issuer_id for code in codes if code.issuer_id})
    return [
        {
            "code": code,
            "issuer": issuers.get(code.issuer_id) if code.issuer_id else None,
            "awaits_second": tenants.awaits_second(code, code.person),
            "acts": engine.offered(actor, "code", code),
        }
        for code in codes[:SHOWN_CODES]
    ]


def _limits(actor: Actor, person_id: UUID, entries: int, standings: list[health.DeviceHealth]) -> list[dict[str, Any]]:
    """Return what this person has of all that is capped, beside the cap."""
    active = [standing for standing in standings if standing.is_active]
    device_ids = [one.device.id for one in active]
    mailbox = keys.fullest_mailbox(device_ids)
    one_time = max((one.count for one in active), default=0)
    rows = (
        ("Entries of the account chain", entries, services.MAX_CHAIN),
        ("Devices that wait for the chain", keys.most_waiting_devices(person_id), MAX_WAITING),
        ("One-time pre-keys of one device", one_time, services.MAX_UNISSUED),
        ("Signed pre-keys kept of one device", keys.most_signed_pre_keys(device_ids), services.MAX_SIGNED_PRE_KEYS),
        ("Messages in the fullest mailbox", mailbox.messages, MESSAGES.messages),
        ("MiB of messages in the fullest mailbox", mailbox.octets // MIB, MESSAGES.octets // MIB),
        ("Letters in the fullest mailbox", mailbox.letters, LETTERS.messages),
        ("Deposits of one generation under one policy", access.most_deposits_alike(person_id), MAX_DEPOSITS),
        ("Answers to one policy", access.most_consents_alike(person_id), MAX_CONSENTS),
        ("Cases of theirs that wait for a release", recovery.most_open_cases_seen(actor, person_id), MAX_OPEN),
        ("Answers stored to be repeated, of one device", count_answers(device_ids), MOST_ANSWERS),
    )
    return [{"words": words, "used": used, "most": most, "is_near": used >= NEAR * most} for words, used, most in rows]


def _chain_lines(person_id: UUID, devices: dict[UUID, Any]) -> list[chain_words.ChainLine]:
    return [chain_words.read(row, devices) for row in keys.newest_chain_entries(person_id, SHOWN)]


def _chain_head(person_id: UUID) -> dict[str, Any]:
    """Verify the chain as every client does, and say what it comes to or why it does not hold."""
    try:
        state = chains.whole_chain_state(person_id)
        return {"chain_state": state, "chain_refusal": "", "identity_words": state.aik.fingerprint("aik")}
    except NotFound:
        return {"chain_state": None, "chain_refusal": ""}
    except HoldfastError as error:
        return {"chain_state": None, "chain_refusal": str(error)}


DEPOSIT_COLUMNS: Final = (
    Column("Generation", "generation", ("generation", "created_at", "pk")),
    Column("Deposited", "at", ("created_at", "pk")),
    Column("Officers who hold shares"),
)


def _deposit_lines(
    of_user: UserCoverage, devices: dict[UUID, Any], listing: Listing
) -> tuple[list[dict[str, Any]], int]:
    """Return a page of the deposits, each with coverage where it counts for its generation, and how many there are."""
    counted = {covered.deposit_id: covered for covered in of_user.deposits}
    rows, total = access.deposits_found(of_user.user_id, order=listing.order, start=listing.start, limit=PAGE)
    lines = [
        {
            "deposit": row,
            "coverage": counted.get(row.id),
            "device": devices.get(row.device_id),
        }
        for row in rows
    ]
    return lines, total
