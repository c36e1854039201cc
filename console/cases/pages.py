# SPDX-License-Identifier: Apache-2.0
"""The console's pages of cases: who must act on which, and each case exactly as signed.

Implements PLATFORM "Console" and ESCROW "Case". Pages only look: officers answer at their own command line.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone

from console.cases import case_file, case_list
from console.frame import console_page
from console.paging import PAGE, Column, Listing
from console.words.case_words import entry_words, is_alarming
from kernel.actors import Actor
from recovery.access import TimelineRow
from tenants import access as tenants
from tenants.permissions import PermissionName

GROUP_WORDS: Final = (
    ("open", "Open"),
    ("officers", "Waiting for officers"),
    ("time", "Waiting for time"),
    ("recipient", "To be collected"),
    ("subject", "To be rotated"),
    ("operator", "Held"),
    ("over", "Over"),
    ("all", "All"),
)

COLUMNS: Final = (
    Column("About"),
    Column("State", "state", ("state", "opened_at", "pk")),
    Column("Approvals"),
    Column("Opens"),
    Column("Purpose", "purpose", ("purpose", "opened_at", "pk")),
    Column("Opened", "opened", ("opened_at", "pk")),
    Column("Expires", "expires", ("expiry", "pk")),
)


@console_page(PermissionName.CASE_READ)
def case_index(request: HttpRequest, actor: Actor) -> HttpResponse:
    """List cases by who must act, or of one subject."""
    now = timezone.now()
    group = request.GET.get("group", "open")
    group = group if group in dict(GROUP_WORDS) else "open"
    subject, problem = _subject(request)
    listing = Listing.of(request, COLUMNS, by_default="-opened", group=group, subject=str(subject or ""))
    found = case_list.in_group(actor, group, subject, now=now).order_by(*listing.order)
    rows = case_list.rows_of(list(found[listing.start : listing.start + PAGE]), now=now)
    named = {row.case.subject_id for row in rows}
    context = {
        "rows": rows,
        "people": tenants.people_by_id(named),
        "group": group,
        "groups": GROUP_WORDS,
        "subject": subject,
        "typed_subject": request.GET.get("subject", "")[:60],
        "problem": problem,
    }
    return render(request, "console/cases/cases.html", listing.shown(found.count(), **context))


def _subject(request: HttpRequest) -> tuple[UUID | None, str]:
    text = request.GET.get("subject", "").strip()
    if not text:
        return None, ""
    try:
        return UUID(text), ""
    except ValueError:
        return None, "A person’s id, as their page shows it."


def _timeline(rows: Sequence[TimelineRow]) -> list[dict[str, Any]]:
    """Return the log's entries about a case in words; the same act of the same process again and again is one line."""
    lines = []
    for (tag, _), group in itertools.groupby(rows, key=lambda row: (row.tag, row.by)):
        same = list(group)
        lines.append({"row": same[-1], "words": entry_words(tag), "is_alarming": is_alarming(tag), "times": len(same)})
    return lines


@console_page(PermissionName.CASE_READ)
def case_page(request: HttpRequest, actor: Actor, case_id: UUID) -> HttpResponse:
    """Show one case: what was signed, by whom it is decided, and how far it is."""
    file = case_file.read(actor, case_id, now=timezone.now())
    context = {
        "file": file,
        "case": file.case,
        "asked": file.asked,
        "people": tenants.people_by_id(file.people()),
        "own": case_file.mine(file, actor),
        "commands": case_file.commands(file, actor),
        "timeline": _timeline(file.timeline),
        "statement": bytes(file.case.statement),
    }
    return render(request, "console/cases/case.html", context)
