# SPDX-License-Identifier: Apache-2.0
"""The console's pages of custody: the policy in force and those proposed, its officers, keys, and who has answered.

Implements PLATFORM "Console" and ESCROW "Policy and officers". Only looks; reads terms from the signed statements.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone

from console.frame import console_page
from console.paging import PAGE, Column, Listing
from console.words import act_words, terms
from escrow import access, campaign, coverage, services
from escrow.errors import EscrowOff
from holdfast.core.base.encoding import MAX_BLOB
from holdfast.core.base.errors import HoldfastError
from holdfast.core.identity import trust
from holdfast.core.identity.acts import ABOUT_A_PERSON, Resolution, Standing
from holdfast.core.identity.policy import Officer, Policy
from holdfast.core.identity.policy_change import change_of, clauses, in_words, text_box
from holdfast.core.signed import cose
from holdfast.core.signed.statements import EscrowKey
from kernel.actors import Actor
from tenants import access as tenants
from tenants.permissions import PermissionName

if TYPE_CHECKING:
    from escrow.models import OfficerStatement, PolicyOfficer
    from escrow.models import Policy as PolicyRow
    from escrow.models import PolicyProposal as ProposalRow
    from escrow.models import Resolution as ResolutionRow
    from tenants.models import Person


# Badge and words of an answer.
ANSWERS: Final = {
    "agreed": ("ok", "agreed"),
    "refused": ("off", "refused"),
    "older": ("wait", "answered an older version"),
    "none": ("wait", "never answered"),
}


@dataclass(frozen=True)
class Place:
    """One row of the roster: the officer as signed, and how they stand now."""

    officer: Officer
    person_id: UUID
    state: str
    counts_from: datetime | None
    keys_lost_at: datetime | None
    is_counting: bool
    # What was last signed about this officer's standing, where that is why they stand as they do.
    word: OfficerStatement | None

    @property
    def words(self) -> tuple[str, ...]:
        """The eight words of the officer's signing key."""
        return self.officer.signing_key.fingerprint("officer")


@dataclass(frozen=True)
class Resolved:
    """One resolution as signed, and how far it is. signers: the persons whose signatures count."""

    row: ResolutionRow
    words: str
    state: str
    person_id: UUID | None
    hash: bytes
    signers: tuple[UUID, ...]
    needed: int


@dataclass(frozen=True)
class Proposed:
    """One proposed policy, what it would change in words, and how far it is. signers: whose signatures count."""

    row: ProposalRow
    state: str
    lines: list[str]
    signers: tuple[UUID, ...]
    missing: int
    is_undone: bool


OFFICER_COLUMNS: Final = (
    Column("Number", "number"),
    Column("Officer", "name"),
    Column("Standing", "standing"),
    Column("Signing key"),
)


# Of resolutions on the page: every open one of a roster of 16 at five each would be 80, and people read ten.
SHOWN = 10


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
    resolutions, more = _resolutions(in_force, now)
    proposals, more_proposals = _proposals(now)
    people = tenants.people_by_id(_named(places, resolutions, proposals))
    listing = Listing.of(request, OFFICER_COLUMNS, by_default="number")
    newest = access.newest_policy()
    newer = [row for row in rows if row.version > in_force.version and row.withdrawn_at is None]
    context = {
        "policy": in_force,
        "places": _sorted(places, listing, people),
        "heads": listing.heads(),
        "available": available,
        "people": people,
        "proposals": proposals,
        "more_proposals": more_proposals,
        "answers": campaign.answer_totals(newest) if newest.version > 1 else None,
        "newest": newest,
        "answer_until": newest.published_at + campaign.ANSWER_WITHIN,
        "resolutions": resolutions,
        "more_resolutions": more,
        "clauses": clauses(signed),
        "text": signed.terms.text,
        "warnings": terms.warnings(
            signed,
            available=available,
            active=coverage.count_active_officers(),
            endings=access.newest_endings(now),
        ),
        "release_words": signed.terms.release_sealing_key.fingerprint("release"),
        "newer": newer,
        "totals": coverage.coverage_totals(),
        "people_count": tenants.count_active_people(),
        **_trust(),
        **_escrow_keys(),
    }
    return render(request, "console/escrow/escrow.html", context)


ANSWER_COLUMNS: Final = (
    Column("Person", "name", ("search", "id")),
    Column("Role", "role", ("role", "search", "id")),
    Column("Answer"),
    Column("When"),
)


@console_page(PermissionName.COVERAGE_READ)
def answers_page(request: HttpRequest, actor: Actor) -> HttpResponse:
    """List the active people with their answer to the newest policy version; of one answer when asked."""
    try:
        newest = access.newest_policy()
    except EscrowOff:
        return render(request, "console/escrow/escrow_off.html", {"is_pending": False})
    answer = request.GET.get("answer", "")
    answer = answer if answer in ANSWERS else ""
    listing = Listing.of(request, ANSWER_COLUMNS, by_default="name", answer=answer)
    rows, total = campaign.answers_found(newest, answer, order=listing.order, start=listing.start, limit=PAGE)
    context = {
        "policy": newest,
        "rows": [(row, ANSWERS[row.answer]) for row in rows],
        "people": tenants.people_by_id([row.person_id for row in rows]),
        "answer": answer,
        "answers": [("", "all"), *((name, words) for name, (_, words) in ANSWERS.items())],
        # They count the whole tenant: on the first page alone.
        "totals": campaign.answer_totals(newest) if listing.number == 1 and not answer else None,
        "until": newest.published_at + campaign.ANSWER_WITHIN,
    }
    return render(request, "console/escrow/answers.html", listing.shown(total, **context))


def _places(row: PolicyRow, signed: Policy, now: datetime) -> list[Place]:
    counting = {officer.index for officer in access.eligible(row, now=now, excluded=frozenset())}
    stored = {officer.index: officer for officer in access.officers(row)}
    words = access.last_words([officer.person_id for officer in stored.values()])
    return [
        Place(
            officer=officer,
            person_id=UUID(bytes=officer.person),
            state=stored[officer.index].state if officer.index in stored else "missing",
            counts_from=stored[officer.index].counts_from if officer.index in stored else None,
            keys_lost_at=stored[officer.index].keys_lost_at if officer.index in stored else None,
            is_counting=officer.index in counting,
            word=_why(words.get(UUID(bytes=officer.person)), stored.get(officer.index)),
        )
        for officer in signed.roster
    ]


def _sorted(places: list[Place], listing: Listing, people: Mapping[UUID, Person]) -> list[Place]:
    """Return the roster in the order asked for: at most 16, as signed and not in any table."""

    def key(place: Place) -> tuple[Any, ...]:
        known = people.get(place.person_id)
        return {
            "number": (place.officer.index,),
            "name": (known.search if known else "", place.officer.index),
            "standing": (not place.is_counting, place.state, place.officer.index),
        }[listing.sort.removeprefix("-")]

    return sorted(places, key=key, reverse=listing.is_reversed)


def _why(word: OfficerStatement | None, place: PolicyOfficer | None) -> OfficerStatement | None:
    """Return what was said last when it is what the officer's state came of; a resolution may have returned them."""
    if word is None or place is None or place.state != act_words.STANDING.get(Standing(word.standing)):
        return None
    return word


def _resolutions(in_force: PolicyRow, now: datetime) -> tuple[list[Resolved], bool]:
    rows, more = access.resolution_page(in_force, now=now, limit=SHOWN)
    found = []
    for row, progress in zip(rows, services.progress_of(rows), strict=True):
        said = Resolution.from_payload(cose.parse_many(bytes(row.statement))[0].payload)
        about = said.act in ABOUT_A_PERSON
        found.append(
            Resolved(
                row=row,
                words=act_words.resolution_words(said),
                state=progress.state,
                person_id=UUID(bytes=said.person) if about else None,
                hash=b"" if about else said.hash,
                signers=tuple(UUID(bytes=officer.person) for officer in progress.signers),
                needed=progress.needed,
            )
        )
    return found, more


def _proposals(now: datetime) -> tuple[list[Proposed], bool]:
    rows, more = access.proposal_page(access.next_place(now), now=now, limit=SHOWN)
    known = access.chronicle()
    found = []
    for row, progress in zip(rows, services.policy_progress(rows), strict=True):
        change = change_of(
            Policy.from_payload(bytes(row.payload)),
            versions=known.versions,
            published=known.published,
            withdrawn=known.withdrawn,
            at=int(now.timestamp()),
        )
        is_open = progress.state == "open"
        lines = [*in_words(change, at=int(now.timestamp())), *text_box(change.after.terms)] if is_open else []
        found.append(Proposed(row, progress.state, lines, progress.signed, progress.missing, progress.is_undone))
    return found, more


def _named(places: list[Place], resolutions: list[Resolved], proposals: list[Proposed]) -> set[UUID]:
    """Return everybody whom the page names."""
    named = {person for one in proposals for person in (one.row.proposer_id, *one.signers)}
    named |= {place.person_id for place in places}
    named |= {place.word.signer_id for place in places if place.word}
    for one in resolutions:
        named |= {one.row.proposer_id, *one.signers, *([one.person_id] if one.person_id else [])}
    return named


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
