# SPDX-License-Identifier: Apache-2.0
"""The console's first page: what waits for whom, whether keys would come back, and whether the machinery stands.

Implements PLATFORM "Console". It only looks.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone

from audit import access as audit
from audit.errors import NoCheckpoint
from console import first, founding, pending_acts
from console.cases import case_list
from console.charts import Chart, Row, chart
from console.frame import console_page
from console.words import terms
from escrow import access as escrow
from escrow import coverage
from escrow.errors import EscrowOff
from hsm import registry
from hsm.errors import HsmUnavailable
from kernel import queue
from kernel.actors import Actor
from keys import health
from recovery import access as recovery
from recovery.cases.notices import NOTICE_JOB
from tenants import access as tenants
from tenants import mails
from tenants.acts import engine
from tenants.permissions import PermissionName
from tenants.roles import Role
from tenants.sessions import session_tenant
from tenants.states import TenantState

SHOWN: Final = 8  # lines of a list on the overview
# A head that is wanted and older than this has lost its sequencer, or the sequencer its HSM.
HEAD_SECONDS: Final = 120
_NOT_DELIVERED: Final = ("keys:notice:fail", "recovery:notice:fail", "tenants:mail:fail")


@console_page(PermissionName.CONSOLE_ENTER)
def overview(request: HttpRequest, actor: Actor) -> HttpResponse:
    """Show what waits for whom, whether keys would come back, and whether the machinery stands."""
    if session_tenant(request).state == TenantState.FOUNDING:
        return founding.page(request)
    now = timezone.now()
    directory = health.of_directory(now)
    context: dict[str, Any] = {"directory": directory, "people_count": tenants.count_active_people()}
    waiting = engine.pending(actor)
    context["waiting"] = pending_acts.rows(actor, waiting[:SHOWN])
    context["more_waiting"] = len(waiting) > SHOWN
    if actor.can(PermissionName.CASE_READ):
        context |= _cases(actor)
    if actor.can(PermissionName.COVERAGE_READ):
        context |= _custody()
    if actor.can(PermissionName.AUDIT_READ):
        context |= _log(actor)
    seen = first.Seen(
        directory=directory,
        held=context["counts"]["operator"] if "counts" in context else 0,
        dead=context.get("dead_jobs", 0),
        not_taken=context.get("late_mails", 0) + context.get("failed_mails", 0),
        awaiting=len(context.get("mine", [])),
        has_more_awaiting=context.get("more_mine", False),
        available=context.get("available"),
        needed=context["policy"].m if context.get("policy") else 0,
    )
    context |= {"first": first.lines(actor, seen, now=now), "has_work": actor.role in first.WORK}
    context["charts"] = _charts(context)
    return render(request, "console/overview.html", context)


def _charts(seen: dict[str, Any]) -> list[Chart]:
    found = []
    if seen.get("policy"):
        totals, people = seen["totals"], reverse("console-people")
        found.append(
            chart(
                "coverage",
                "Archive keys",
                "Active people by whether their archive keys would come back",
                [
                    Row("Covered", seen["recoverable"], "ok", people),
                    Row("Deposited, and too few officers could open it", totals.lost, "alarm", people),
                    Row("Nothing deposited", max(0, seen["people_count"] - totals.covered), "off", people),
                ],
            )
        )
    if "ages" in seen:
        kinds = ("ok", "ok", "wait", "wait", "alarm")
        rows = [Row(words, count, kind) for (words, count), kind in zip(seen["ages"], kinds, strict=True)]
        found.append(chart("ages", "Open cases by age", "Open cases by how long ago they were opened", rows))
    directory, failing = seen["directory"], reverse("console-failing-devices")
    both = directory.exhausted + directory.unsigned - directory.failing
    rows = [
        Row("With one-time and signed pre-keys", directory.devices - directory.failing, "ok"),
        Row("No one-time pre-key left", directory.exhausted - both, "wait", failing),
        Row("No signed pre-key that holds", directory.unsigned - both, "wait", failing),
        Row("Neither", both, "alarm", failing),
    ]
    return [*found, chart("pre-keys", "Pre-keys", "Active devices by their pre-keys", rows)]


def _cases(actor: Actor) -> dict[str, Any]:
    now = timezone.now()
    awaiting = case_list.awaiting(actor, now=now, limit=SHOWN + 1) if actor.role == Role.OFFICER else []
    mine = awaiting[:SHOWN]
    # One place for a case: what waits for the viewer is not listed a second time below.
    other = case_list.in_group(actor, "open", None, now=now).exclude(id__in=[case.id for case in mine])
    listed = list(other[: SHOWN + 1])
    found = listed[:SHOWN]
    return {
        "sees_cases": True,
        "is_officer": actor.role == Role.OFFICER,
        "counts": case_list.counts(actor, now=now),
        "ages": case_list.ages(actor, now=now),
        "more_mine": len(awaiting) > SHOWN,
        "more_open": len(listed) > SHOWN,
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
    # The version in force alone: its officers are those who act today.
    available = len(coverage.releasable_now(made_under=[bytes(policy.hash)], at=now).approvers)
    totals = coverage.coverage_totals()
    return {
        "sees_custody": True,
        "policy": policy,
        "available": available,
        "pips": [place < available for place in range(policy.n)],
        "warnings": terms.warnings(
            escrow.reading(policy),
            available=available,
            active=coverage.count_active_officers(),
            endings=escrow.newest_endings(now),
        ),
        "totals": totals,
        "recoverable": totals.covered - totals.lost,
    }


def _log(actor: Actor) -> dict[str, Any]:
    found: dict[str, Any] = {"sees_log": True, "dead_jobs": queue.count_dead(), "hsm_is_away": False, **_mail(actor)}
    found["has_refused"] = bool(audit.refused(limit=1))
    try:
        # Opening is once for a process; a token that this process lost says so here.
        registry.root()
    except HsmUnavailable:
        found["hsm_is_away"] = True
    try:
        head = audit.latest_checkpoint("audit")
    except NoCheckpoint:
        return {**found, "head": None, "pending": audit.pending("audit")}
    # A log without news is signed again only while a case is open.
    pending, fresh = audit.pending("audit"), audit.wanted_fresh()
    is_wanted = pending > 0 or actor.tenant_id in fresh
    age = (timezone.now() - head.signed_at).total_seconds()
    return {
        **found,
        "head": head,
        "pending": pending,
        "head_is_old": is_wanted and age > HEAD_SECONDS,
    }


def _mail(actor: Actor) -> dict[str, int]:
    """Count the mails that the mail server does not take, and those that were given up within the last day."""
    now = timezone.now()
    late = now - mails.LATE
    # Notices of cases apart: of some the viewer is not to learn yet, not even by a number.
    notices = recovery.count_late_notices(actor, since=late)
    return {
        "late_mails": notices + queue.count_late(queue.MAIL, since=late, but=[NOTICE_JOB]),
        "failed_mails": audit.count_entries(*_NOT_DELIVERED, reader=actor, since=now - timedelta(days=1)),
    }
