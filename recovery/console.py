# SPDX-License-Identifier: Apache-2.0
"""Console pages of the whole tenant and of its cases: what waits for whom, and each case exactly as signed.

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

from audit import access as audit
from audit.errors import NoCheckpoint
from escrow import access as escrow
from escrow import coverage, terms
from escrow.console import PAGE, page_number, pages
from escrow.errors import EscrowOff
from hsm import registry
from hsm.errors import HsmUnavailable
from kernel import queue
from kernel.actors import Actor
from keys import health
from recovery import case_file, case_list
from recovery.access import TimelineRow
from recovery.case_words import entry_words, is_alarming
from tenants import access as tenants
from tenants.permissions import PermissionName
from tenants.roles import Role
from tenants.sessions import console_page

SHOWN: Final = 8  # lines of a list on the overview
# A head older than this has lost its sequencer, or the sequencer its HSM.
HEAD_SECONDS: Final = 120
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


@console_page(PermissionName.CONSOLE_ENTER)
def overview(request: HttpRequest, actor: Actor) -> HttpResponse:
    """Show what waits for whom, whether keys would come back, and whether the machinery stands."""
    context: dict[str, Any] = {"directory": health.of_directory(), "people_count": tenants.count_active_people()}
    if actor.can(PermissionName.CASE_READ):
        context |= _cases(actor)
    if actor.can(PermissionName.COVERAGE_READ):
        context |= _custody()
    if actor.can(PermissionName.AUDIT_READ):
        context |= _log()
    return render(request, "console/recovery/overview.html", context)


def _cases(actor: Actor) -> dict[str, Any]:
    now = timezone.now()
    mine = case_list.awaiting(actor, now=now, limit=SHOWN) if actor.role == Role.OFFICER else []
    # One place for a case: what waits for the viewer is not listed a second time below.
    found = list(case_list.found(actor, "open", None, now=now).exclude(pk__in=[one.pk for one in mine])[:SHOWN])
    return {
        "sees_cases": True,
        "is_officer": actor.role == Role.OFFICER,
        "counts": case_list.counts(actor, now=now),
        "mine": case_list.rows_of(mine, now=now),
        "open": case_list.rows_of(found, now=now),
        "people": tenants.people_by_id({case.subject_id for case in [*mine, *found]}),
    }


def _custody() -> dict[str, Any]:
    now = timezone.now()
    try:
        policy = escrow.policy_in_force(now)
    except EscrowOff:
        return {"sees_custody": True, "policy": None, "recoverable": 0}
    available = len(escrow.eligible(policy, now=now, excluded=frozenset()))
    totals = coverage.coverage_totals()
    return {
        "sees_custody": True,
        "policy": policy,
        "available": available,
        "pips": [place < available for place in range(policy.n)],
        "warnings": terms.warnings(escrow.reading(policy), available=available),
        "totals": totals,
        "recoverable": totals.covered - totals.lost,
    }


def _log() -> dict[str, Any]:
    found: dict[str, Any] = {"sees_log": True, "dead_jobs": queue.count_dead(), "hsm_is_away": False}
    try:
        # Opening is once for a process; a token that this process lost says so here.
        registry.root()
    except HsmUnavailable:
        found["hsm_is_away"] = True
    try:
        head = audit.latest_checkpoint("audit")
    except NoCheckpoint:
        return {**found, "head": None, "pending": audit.pending("audit")}
    age = (timezone.now() - head.signed_at).total_seconds()
    return {**found, "head": head, "pending": audit.pending("audit"), "head_is_old": age > HEAD_SECONDS}


@console_page(PermissionName.CASE_READ)
def case_index(request: HttpRequest, actor: Actor) -> HttpResponse:
    """List cases by who must act, or of one subject."""
    now, number = timezone.now(), page_number(request)
    group = request.GET.get("group", "open")
    group = group if group in dict(GROUP_WORDS) else "open"
    subject, problem = _subject(request)
    found = case_list.found(actor, group, subject, now=now)
    rows = case_list.rows_of(list(found[(number - 1) * PAGE : number * PAGE]), now=now)
    named = {row.case.subject_id for row in rows}
    context = {
        "rows": rows,
        "people": tenants.people_by_id(named),
        "group": group,
        "groups": GROUP_WORDS,
        "subject": subject,
        "typed_subject": request.GET.get("subject", "")[:60],
        "problem": problem,
        "pages": pages(number, found.count(), group=group, subject=str(subject or "")),
    }
    return render(request, "console/recovery/cases.html", context)


def _subject(request: HttpRequest) -> tuple[UUID | None, str]:
    text = request.GET.get("subject", "").strip()
    if not text:
        return None, ""
    try:
        return UUID(text), ""
    except ValueError:
        return None, "A person’s id, as her page shows it."


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
    return render(request, "console/recovery/case.html", context)
