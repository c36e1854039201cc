# SPDX-License-Identifier: Apache-2.0
"""The console's page of programs: service accounts, and log tokens for programs that cannot sign.

Implements ORGANISATION "People". It only looks; what its buttons do, `tenants.acts` decides.
"""

from __future__ import annotations

from typing import Final

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from console.frame import console_page
from console.paging import PAGE, Column, Listing
from kernel.actors import Actor
from kernel.clock import database_now
from tenants import access, log_tokens
from tenants.acts import engine
from tenants.permissions import PermissionName

COLUMNS: Final = (
    Column("Program", "name", ("name", "id")),
    Column("State"),
    Column("Added", "added", ("created_at", "id")),
    Column("By"),
    Column("Acts"),
)


@console_page(PermissionName.TENANT_ADMINISTER)
def programs_page(request: HttpRequest, actor: Actor) -> HttpResponse:
    """List service accounts, and on the first page the newest log tokens, each with its state and who made it."""
    listing, now = Listing.of(request, COLUMNS, by_default="name"), database_now()
    programs, total = access.programs(order=listing.order, start=listing.start, limit=PAGE)
    # As many as may be open and as many ended ones: what ended is forgotten after 90 days.
    tokens, tokens_total = log_tokens.listed(start=0, limit=2 * log_tokens.MAX_OPEN)
    makers = [*(one.account.created_by for one in programs), *(row.created_by for row in tokens)]
    context = {
        "programs": [
            {"account": one.account, "state": one.state, "acts": engine.offered(actor, "service-account", one)}
            for one in programs
        ],
        "tokens": [
            {"token": row, "state": log_tokens.state(row, now), "acts": engine.offered(actor, "log-token", row)}
            for row in tokens
        ],
        "more_tokens": tokens_total - len(tokens),
        "people": access.people_by_id(one for one in makers if one is not None),
        "acts": engine.offered(actor, "programs", None),
    }
    return render(request, "console/programs.html", listing.shown(total, **context))
