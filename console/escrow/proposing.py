# SPDX-License-Identifier: Apache-2.0
"""The console's pages of policy versions: what each changed, and a form that writes the command for the next one.

Implements ESCROW "Policy and officers" and ORGANISATION "Founding, at different desks". A session changes nothing: a
version is drafted by the client of whoever proposes it, over the versions that its own pin leads to, and each officer's
client reads the proposed bytes before it signs. So the form stores nothing, and what it shows is only ever as good as
this server.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone

from console.frame import console_page
from console.paging import PAGE, Listing
from escrow import access
from escrow.errors import EscrowOff
from holdfast.core.base.errors import HoldfastError
from holdfast.core.base.text import is_dangerous
from holdfast.core.identity.officers import OfficerStatement
from holdfast.core.identity.policy import (
    MAX_COOLING_OFF_SECONDS,
    MAX_OFFICERS,
    MAX_PURPOSES,
    MAX_TEXT,
    MIN_OFFICERS,
    MIN_QUORUM,
    NEVER,
    ApproveWith,
    DepositRule,
    Officer,
    Policy,
    Terms,
)
from holdfast.core.identity.policy_change import Clause, change_of, clauses, in_words, text_box
from holdfast.core.signed.cose import Sign1
from kernel.actors import Actor
from tenants import access as tenants
from tenants.permissions import MATRIX, PermissionName

_UNITS: Final = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_SPAN: Final = re.compile(r"(\d{1,9})([smhd])", re.ASCII)
_YEAR: Final = 365 * 86400  # the most that a policy takes for a notice, or for how long a yes binds
_ALWAYS: Final = "while-it-stands"
_PURPOSE: Final = re.compile(r"[^\s,]{1,64}")
# Of each span of time: the option that says it, and the most seconds it may have.
_SPANS: Final[Mapping[str, tuple[str, int]]] = {
    "delay_seconds": ("--delay", _YEAR),
    "max_notice_delay_seconds": ("--notice-delay", _YEAR),
    "cooling_off_seconds": ("--cooling-off", MAX_COOLING_OFF_SECONDS),
    "undelivered_delay_seconds": ("--undelivered-delay", _YEAR),
    "consent_binds_seconds": ("--consent-binds", _YEAR),
}
_LABELS: Final = (
    ("delay_seconds", "Delay", "From quorum to release: the time in which the subject can veto."),
    ("max_notice_delay_seconds", "Notice put off by at most", "How late a case may tell its subject."),
    ("cooling_off_seconds", "Cooling-off", "Before a new officer counts, and a lowered guard holds."),
    ("undelivered_delay_seconds", "When notice fails", "Takes the place of the delay when the subject cannot be told."),
    ("consent_binds_seconds", "A yes binds for", "0s: it can be taken back at any time. while-it-stands: not at all."),
)  # fmt: skip
_APPROVE: Final = (("cli", "the command line only"), ("any", "the command line or a browser"))
_DEPOSITS: Final = (
    ("optional", "each user decides"),
    ("from-consent", "from the user’s consent on"),
    ("all", "all generations"),
)


def span(seconds: int) -> str:
    """Write a span of time as the command takes it, in the largest unit that it is whole in."""
    if seconds == NEVER:
        return _ALWAYS
    unit = next(name for name, size in _UNITS.items() if seconds % size == 0)
    return f"{seconds // _UNITS[unit]}{unit}" if seconds else "0s"


@dataclass(frozen=True)
class Candidate:
    """Somebody who could come onto the roster, or get other keys there. row: as their own account states it."""

    person_id: UUID
    row: Officer
    is_in: bool


@dataclass(frozen=True)
class Draft:
    """What was typed, what of it could not be read by field, and what it comes to.

    command: what proposes it, "" where nothing does. lines: what it changes, in words. rows: terms now and then.
    """

    typed: Mapping[str, Any]
    errors: Mapping[str, str]
    command: str = ""
    lines: tuple[str, ...] = ()
    box: tuple[str, ...] = ()
    rows: tuple[tuple[Clause, Clause], ...] = ()


@console_page(PermissionName.COVERAGE_READ)
def versions_page(request: HttpRequest, actor: Actor) -> HttpResponse:
    """List the policy versions, newest first, each with what it changed of the one that it follows, in words."""
    now = timezone.now()
    known = access.policies()
    if not known:
        return render(request, "console/escrow/escrow_off.html", {"is_pending": False})
    try:
        in_force = access.policy_in_force(now).version
    except EscrowOff:
        in_force = 0
    listing = Listing.of(request, (), by_default="")
    shown = known[::-1][listing.start : listing.start + PAGE]
    by_hash = {bytes(row.hash): row for row in known}
    versions = [_version(row, by_hash) for row in shown]
    people = {person for one in versions for person in (*one["came"], *one["left"], *one["rekeyed"])}
    context = {
        "versions": versions,
        "in_force": in_force,
        "people": tenants.people_by_id(people),
        "may_propose": may_propose(actor),
    }
    return render(request, "console/escrow/versions.html", listing.shown(len(known), **context))


def may_propose(actor: Actor) -> bool:
    """Whether this person's client may propose a version: their session never does."""
    return PermissionName.POLICY_PROPOSE in MATRIX.get(actor.role, frozenset())


def _version(row: Any, by_hash: Mapping[bytes, Any]) -> dict[str, Any]:
    policy = access.reading(row)
    found: dict[str, Any] = {"row": row, "changes": [], "came": [], "left": [], "rekeyed": [], "clauses": []}
    before_row = by_hash.get(policy.predecessor)
    if before_row is None:
        return found | {"clauses": clauses(policy)}
    before = access.reading(before_row)
    old = {clause.name: clause for clause in clauses(before)}
    had, has = ({officer.person: officer for officer in one.roster} for one in (before, policy))
    return found | {
        "before": before_row.version,
        "changes": [(old[one.name], one) for one in clauses(policy) if old[one.name].value != one.value],
        "came": [UUID(bytes=person) for person in has if person not in had],
        "left": [UUID(bytes=person) for person in had if person not in has],
        "rekeyed": [UUID(bytes=one) for one in has if one in had and has[one].who != had[one].who],
        "is_other_release": before.terms.release_sealing_key != policy.terms.release_sealing_key,
        "is_other_end": before.header.expires_at != policy.header.expires_at,
        "ends_at": policy.header.expires_at,
    }


@console_page(PermissionName.COVERAGE_READ)
def propose_page(request: HttpRequest, actor: Actor) -> HttpResponse:
    """Show the form for the next version, what it would change in words, and the command that proposes it."""
    now = timezone.now()
    try:
        newest = access.reading(access.newest_policy())
    except EscrowOff:
        return render(request, "console/escrow/escrow_off.html", {"is_pending": False})
    candidates = _candidates(newest)
    draft = Draft(_as_it_is(newest), {})
    if "m" in request.GET:
        stands = access.next_place(now)
        place = replace(
            newest,
            header=replace(newest.header, issued_at=int(now.timestamp()), expires_at=0),
            version=stands.version,
            predecessor=stands.predecessor,
            held_in_force=stands.held_in_force,
            given_up=None,
        )
        draft = _read(request, newest, place, candidates)
    named = {UUID(bytes=officer.person) for officer in newest.roster} | {one.person_id for one in candidates}
    context = {
        "policy": newest,
        "draft": draft,
        "spans": [(name, words, hint, draft.typed[name], draft.errors.get(name)) for name, words, hint in _LABELS],
        "roster": [
            (officer.index, UUID(bytes=officer.person), str(officer.index) in draft.typed["remove"])
            for officer in newest.roster
        ],
        "candidates": [(one, str(one.person_id) in draft.typed["add"]) for one in candidates],
        "approve": _APPROVE,
        "deposits": _DEPOSITS,
        "most_officers": MAX_OFFICERS - 1,
        "least": MIN_QUORUM,
        "most_text": MAX_TEXT,
        "people": tenants.people_by_id(named),
        "may_propose": may_propose(actor),
    }
    return render(request, "console/escrow/propose.html", context)


def _candidates(newest: Policy) -> list[Candidate]:
    """Return the active officers whose accounts state keys that the roster does not have."""
    have = {officer.who for officer in newest.roster}
    persons = {officer.person for officer in newest.roster}
    found = []
    for person in tenants.active_officers()[: 2 * MAX_OFFICERS]:
        row = access.newest_officer_keys(person.pk)
        if row is None:
            continue
        try:
            said = OfficerStatement.from_payload(Sign1.parse(bytes(row.statement)).payload)
        except HoldfastError:
            continue
        officer = Officer(0, person.pk.bytes, said.signing_key, said.sealing_key)
        if officer.who not in have:
            found.append(Candidate(person.pk, officer, person.pk.bytes in persons))
    return found


def _as_it_is(newest: Policy) -> dict[str, Any]:
    """Return the form as it stands before anybody typed: the newest version, unchanged."""
    terms = newest.terms
    return {
        "m": str(newest.m),
        **{name: span(getattr(terms, name)) for name in _SPANS},
        "purposes": ", ".join(sorted(terms.purposes)),
        "approve_with": terms.approve_with.name.lower(),
        "deposits": terms.deposits.name.lower().replace("_", "-"),
        "text": terms.text,
        "remove": [],
        "add": [],
    }


def _read(request: HttpRequest, newest: Policy, place: Policy, candidates: Sequence[Candidate]) -> Draft:
    """Read the form. place: the version after the newest, before anything is changed."""
    as_it_is = _as_it_is(newest)
    typed: dict[str, Any] = {
        name: request.GET.get(name, text).strip()[: 2 * MAX_TEXT]
        for name, text in as_it_is.items()
        if isinstance(text, str)
    }
    typed |= {name: request.GET.getlist(name)[:MAX_OFFICERS] for name in ("remove", "add")}
    errors: dict[str, str] = {}
    roster = _roster(typed, newest, candidates)
    if not MIN_OFFICERS <= len(roster) <= MAX_OFFICERS:
        errors["roster"] = f"A policy takes {MIN_OFFICERS} to {MAX_OFFICERS} officers, and this leaves {len(roster)}."
    m = int(typed["m"]) if typed["m"].isascii() and typed["m"].isdigit() and len(typed["m"]) < 3 else 0
    if not MIN_QUORUM <= m <= len(roster) - 1:
        errors["m"] = f"A number from {MIN_QUORUM} to one less than the officers, who are {len(roster)}."
    terms = _terms(typed, newest.terms, errors)
    if errors:
        return Draft(typed, errors)
    after = replace(place, m=m, roster=roster, terms=terms)
    options = _options(typed, newest, after)
    if not options:
        return Draft(typed, errors)
    known = access.chronicle()
    at = place.header.issued_at
    change = change_of(after, versions=known.versions, published=known.published, withdrawn=known.withdrawn, at=at)
    old = {clause.name: clause for clause in clauses(newest)}
    return Draft(
        typed,
        errors,
        command=shlex.join(["holdfast", "officer", "policy", "propose", *options]),
        lines=tuple(in_words(change, at=at)),
        box=tuple(text_box(terms)) if terms.text != newest.terms.text else (),
        rows=tuple((old[one.name], one) for one in clauses(after) if old[one.name].value != one.value),
    )


def _roster(typed: Mapping[str, Any], newest: Policy, candidates: Sequence[Candidate]) -> tuple[Officer, ...]:
    """Return the roster as the command would number it: who stays in their order, then who comes."""
    added = {one.row.person: one.row for one in candidates if str(one.person_id) in typed["add"]}
    stays = [officer for officer in newest.roster if str(officer.index) not in typed["remove"]]
    rows = [added.pop(officer.person, officer) for officer in stays]
    return tuple(replace(row, index=place) for place, row in enumerate([*rows, *added.values()], start=1))


def _terms(typed: Mapping[str, Any], before: Terms, errors: dict[str, str]) -> Terms:
    """Read the terms; what cannot be read stays as before and is named in `errors`."""
    given: dict[str, Any] = {}
    for name, (_, most) in _SPANS.items():
        if name == "consent_binds_seconds" and typed[name] == _ALWAYS:
            given[name] = NEVER
            continue
        found = _SPAN.fullmatch(typed[name])
        seconds = int(found[1]) * _UNITS[found[2]] if found else most + 1
        if seconds > most:
            errors[name] = f"A number and its unit, as 90m, 48h or 14d; {span(most)} at most."
        else:
            given[name] = seconds
    purposes = [one for one in re.split(r"[\s,]+", typed["purposes"]) if one]
    if not 1 <= len(set(purposes)) <= MAX_PURPOSES or not all(map(_PURPOSE.fullmatch, purposes)):
        errors["purposes"] = f"One to {MAX_PURPOSES} words of at most 64 characters, with commas between."
    given["purposes"] = frozenset(purposes)
    for name, kind in (("approve_with", ApproveWith), ("deposits", DepositRule)):
        by_name = {one.name.lower().replace("_", "-"): one for one in kind}
        if typed[name] not in by_name:
            errors[name] = "Choose one of the list."
        else:
            given[name] = by_name[typed[name]]
    given["text"] = typed["text"]
    if len(typed["text"]) > MAX_TEXT or any(map(is_dangerous, typed["text"].replace("\t", "\n"))):
        errors["text"] = f"One paragraph of plain text, of at most {MAX_TEXT} characters."
    return replace(before, **given) if not errors else before


def _options(typed: Mapping[str, Any], before: Policy, after: Policy) -> list[str]:
    """Return the options of the command for what differs, and for nothing else."""
    old, new = before.terms, after.terms
    options = ["--m", str(after.m)] if after.m != before.m else []
    had, has = ({officer.person: officer for officer in one.roster} for one in (before, after))
    for person, officer in has.items():
        if person not in had or had[person].who != officer.who:
            options += ["--add", str(UUID(bytes=person))]
    for person, officer in had.items():
        if person not in has:
            options += ["--remove", str(officer.index)]
    for name, (option, _) in _SPANS.items():
        if getattr(old, name) != getattr(new, name):
            options += [option, span(getattr(new, name))]
    if old.purposes != new.purposes:
        for purpose in sorted(new.purposes):
            options += ["--purpose", purpose]
    for name, option in (("approve_with", "--approve-with"), ("deposits", "--deposits")):
        if getattr(old, name) != getattr(new, name):
            options += [option, typed[name]]
    if old.text != new.text:
        options += ["--text", new.text]
    return options
