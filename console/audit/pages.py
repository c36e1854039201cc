# SPDX-License-Identifier: Apache-2.0
"""Console pages of the audit log: entries by filter, and one entry with its proof. Every read is an entry itself.

Implements PLATFORM "Audit" and "Console". `audit` stands below sessions, so its pages stand here, in the topmost app.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from audit import access
from audit import services as audit
from audit.errors import LogBroken, NoCheckpoint, OutsideTheLog
from audit.tags import TAGS
from console.frame import console_page
from console.paging import PAGE, Column, Listing
from console.words import audit_words
from holdfast.core.base.errors import HoldfastError, Untrusted
from holdfast.core.crypto.keys import SIGNING_KINDS, decode_public_key
from holdfast.core.identity.roles import Roles, WrongLeaf, check_leaf, verify_roles
from holdfast.core.log.log_entry import LogEntry
from holdfast.core.log.merkle import leaf_hash, verify_inclusion
from holdfast.core.signed.cose import Sign1
from kernel.actors import Actor, system_actor
from tenants import access as tenants
from tenants.permissions import PermissionName

if TYPE_CHECKING:
    from audit.models import Checkpoint, Numbered

SHOWN_REFUSED: Final = 10  # enough to see what is at fault; the log itself counts the rest
MAX_FIELD: Final = 200
COLUMNS: Final = (
    # By its number alone: it is the order of the log, and the cursor.
    Column("Entry", "entry", ("leaf_index",), is_number=True),
    Column("Time"),
    Column("What"),
    Column("By"),
    Column("About"),
)
_ACTORS: Final = {"person", "device", "service", "operator", "log-token", "system"}
_BY: Final = {
    "person": "person",
    "device": "device",
    "service": "service account",
    "log-token": "log token",
    "operator": "operator",
}


@dataclass(frozen=True)
class Filters:
    """What was typed, what of it is searched for, and what could not be read, by field."""

    typed: dict[str, str]
    wanted: dict[str, Any]
    errors: dict[str, str]


def _filters(request: HttpRequest) -> Filters:
    typed = {name: request.GET.get(name, "").strip()[:MAX_FIELD] for name in ("tag", "by", "about", "since", "until")}
    wanted: dict[str, Any] = {"tag": typed["tag"], "subject": typed["about"]}
    errors: dict[str, str] = {}
    if typed["by"]:
        _read_actor(typed["by"], wanted, errors)
    for name, days in (("since", 0), ("until", 1)):
        if typed[name]:
            try:
                day = datetime.strptime(typed[name], "%Y-%m-%d").replace(tzinfo=UTC)
                wanted[name] = day + timedelta(days=days)
            except (ValueError, OverflowError):
                errors[name] = "A day, as 2026-11-24."
    for name in ("before", "after"):
        index = request.GET.get(name, "")
        if index.isascii() and index.isdigit() and len(index) < 16:
            wanted[name] = int(index)
    return Filters(typed, wanted, errors)


def _read_actor(text: str, wanted: dict[str, Any], errors: dict[str, str]) -> None:
    """Take a person's id, or an actor as entries print it: `device:<id>`, `system:worker`."""
    if text.partition(":")[0] in _ACTORS:
        wanted["actor"] = text
        return
    try:
        wanted["person"] = UUID(text)
    except ValueError:
        errors["by"] = "A person’s id, or an actor as device:… or system:worker."


@dataclass(frozen=True)
class Writer:
    """Which part of the server wrote an entry, in words; why it may not have, "" when it may."""

    words: str
    fault: str = ""


def _roles() -> Roles | None:
    """Return the root's newest word on whose keys write the log; None where there is none that the root signed."""
    row, tenant = access.newest_roles(), tenants.tenant()
    if row is None or tenant.root_key is None:
        return None
    try:
        root_key = decode_public_key(bytes(tenant.root_key), expect=SIGNING_KINDS)
        return verify_roles(Sign1.parse(bytes(row.statement)), tenant=tenant.pk.bytes, root_key=root_key).roles
    except HoldfastError:
        return None


def _writer(row: Numbered, roles: Roles | None) -> Writer:
    """Say who wrote an entry, by the signature in its leaf and not by any column."""
    if roles is None:
        return Writer("")
    try:
        entry = check_leaf(bytes(row.leaf), index=row.leaf_index or 0, roles=roles)
    except WrongLeaf as error:
        return Writer("nobody who may", audit_words.fault(error.why))
    named = roles.named(entry.kid) if entry.kid else None
    return Writer(audit_words.WRITERS[named.role] if named else "before parts of the server signed")


@console_page(PermissionName.AUDIT_READ)
def audit_list(request: HttpRequest, actor: Actor) -> HttpResponse:
    """List entries, newest first. That this was read is written down before the page leaves."""
    filters = _filters(request)
    listing = Listing.of(request, COLUMNS, by_default="-entry", **filters.typed)
    rows = (
        []
        if filters.errors
        else access.search(**filters.wanted, is_oldest_first=not listing.is_reversed, limit=PAGE, reader=actor)
    )
    _record(actor, filters.wanted, len(rows))
    roles = _roles()
    context = {
        "rows": [_line(row, roles) for row in rows],
        **_refused(),
        "people": _people(row.person_id for row in rows),
        "filters": filters,
        "is_filtered": any(filters.typed.values()),
        "tags": sorted({":".join(tag.split(":")[:2]) for tag in TAGS}),
        "heads": listing.heads(),
        "sort": listing.sort_asked,
        "older": _further(listing, rows),
        "newest": listing.address(),
        "is_first": not filters.wanted.keys() & {"before", "after"},
        **_head(),
    }
    return render(request, "console/audit/entries.html", context)


def _record(actor: Actor, wanted: dict[str, Any], count: int) -> None:
    with transaction.atomic():
        names = " ".join(sorted(name for name, value in wanted.items() if value != ""))
        audit.append_first(tag="audit:entries:read", actor=actor, apart=names, body={"filter": names, "count": count})


def _line(row: Numbered, roles: Roles | None) -> dict[str, Any]:
    return {
        "row": row,
        "writer": _writer(row, roles),
        "by": _BY.get(str(row.actor).partition(":")[0], ""),
        "words": audit_words.words(row.tag),
        "page": audit_words.page_of(row.tag, row.subject),
        "is_alarming": row.tag in audit_words.ALARMING,
    }


def _refused() -> dict[str, Any]:
    """Name some of the rows that were kept out of the log by their ids alone: all else in them is a forger's text."""
    rows = access.refused(limit=SHOWN_REFUSED + 1)
    shown = [{"id": row.id, "why": audit_words.fault(row.refused)} for row in rows[:SHOWN_REFUSED]]
    return {"refused": shown, "more_refused": len(rows) > SHOWN_REFUSED}


def _people(person_ids: Iterable[UUID | None]) -> dict[UUID, Any]:
    return tenants.people_by_id({person_id for person_id in person_ids if person_id is not None})


def _further(listing: Listing, rows: list[Any]) -> str:
    """Return the address of the entries after these, in the order of the list; "" where there are none."""
    if len(rows) < PAGE:
        return ""
    return listing.address(**{"before" if listing.is_reversed else "after": rows[-1].leaf_index})


def _head() -> dict[str, Any]:
    try:
        return {"head": access.latest_checkpoint("audit"), "pending": access.pending("audit")}
    except NoCheckpoint:
        return {"head": None, "pending": access.pending("audit")}


# A ceremony writes each from the beginning on. A page of one leads to the one before.
SHOWN_TRANSCRIPTS: Final = 5
CEREMONY_COLUMNS: Final = (COLUMNS[0], Column("Time"), Column("What"), Column("Written by"), Column("About"))


@console_page(PermissionName.AUDIT_READ)
def ceremonies_page(request: HttpRequest, actor: Actor) -> HttpResponse:
    """List what the operator's ceremonies did in this tenant, as the log has it. That it was read is written down."""
    # Of the address only where the page begins: it is the log, filtered by one actor.
    wanted = {name: value for name, value in _filters(request).wanted.items() if name in ("before", "after")}
    wanted["actor"] = system_actor(actor.tenant_id, "ceremony").label
    listing = Listing.of(request, CEREMONY_COLUMNS, by_default="-entry")
    rows = access.search(**wanted, is_oldest_first=not listing.is_reversed, limit=PAGE, reader=actor)
    _record(actor, wanted, len(rows))
    roles = _roles()
    context = {
        "rows": [_line(row, roles) for row in rows],
        "transcripts": access.newest_transcripts(SHOWN_TRANSCRIPTS),
        "heads": listing.heads(),
        "sort": listing.sort_asked,
        "older": _further(listing, rows),
        "newest": listing.address(),
        "is_first": not wanted.keys() & {"before", "after"},
    }
    return render(request, "console/audit/ceremonies.html", context)


@console_page(PermissionName.AUDIT_READ)
def audit_entry(request: HttpRequest, actor: Actor, index: int) -> HttpResponse:
    """Show one entry as its leaf says it, and prove that it is in the newest signed head."""
    row = access.entry_at(index, reader=actor)
    _record(actor, {"index": index}, 1)
    leaf = bytes(row.leaf)
    entry, refusal = _decode(leaf)
    context = {
        "row": row,
        "leaf": leaf,
        "leaf_hash": leaf_hash(leaf),
        "entry": entry,
        "refusal": refusal,
        "agrees": entry is not None and _agrees(entry, row),
        "words": audit_words.words(entry.tag if entry else row.tag),
        "page": audit_words.page_of(entry.tag, entry.subject) if entry else "",
        "people": _people([row.person_id]),
        **_head(),
    }
    context["writer"] = _writer(row, _roles())
    context.update(_proof(context["head"], index, context["leaf_hash"]))
    return render(request, "console/audit/entry.html", context)


def _decode(leaf: bytes) -> tuple[LogEntry | None, str]:
    try:
        return LogEntry.from_leaf(leaf), ""
    except HoldfastError as error:
        return None, str(error)


def _agrees(entry: LogEntry, row: Numbered) -> bool:
    """Tell whether the columns, by which the log is searched, say what the proven leaf says."""
    person = row.person_id.bytes if row.person_id else b""
    said = (entry.entry_id, entry.tag, entry.actor, entry.person, entry.subject, entry.time)
    return said == (row.id.bytes, row.tag, row.actor, person, row.subject, int(row.time.timestamp()))


def _proof(head: Checkpoint, index: int, leaf: bytes) -> dict[str, Any]:
    """Return the inclusion proof against a head and whether it holds, or why there is none."""
    if head is None or index >= head.size:
        return {
            "proof": [],
            "proof_holds": False,
            "proof_missing": "No signed head covers this entry yet. Wait a minute.",
        }
    try:
        proof = access.inclusion("audit", index=index, size=head.size)
        verify_inclusion(leaf, index=index, size=head.size, proof=proof, expected_root=bytes(head.root))
    except (OutsideTheLog, LogBroken, Untrusted) as error:
        return {"proof": [], "proof_holds": False, "proof_missing": str(error)}
    return {"proof": proof, "proof_holds": True, "proof_missing": ""}
