# SPDX-License-Identifier: Apache-2.0
"""The console's page of the organisation as a whole: its state, what of it is on its way, and the acts on it.

Implements ORGANISATION "Lock". It only looks; what its buttons do, `tenants.acts` decides.
"""

from __future__ import annotations

from uuid import UUID

from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import render

from console.frame import console_page
from escrow import tenant_acts
from kernel.actors import Actor
from kernel.clock import database_now
from tenants import access, exporting, locking
from tenants.acts import act as acts
from tenants.acts import engine
from tenants.permissions import PermissionName


@console_page(PermissionName.TENANT_KEEP)
def organisation_page(request: HttpRequest, actor: Actor) -> HttpResponse:
    """Show the tenant's state, when an unlocking takes effect, and which acts wait for a second person."""
    tenant = access.tenant()
    waiting = [row for row in engine.pending(actor) if acts.named(row.act).kind == "tenant"]
    context = {
        "organisation": tenant,
        # What one owner does at once stands before what takes two.
        "acts": sorted(engine.offered(actor, "tenant", tenant), key=lambda act: act.needs_two),
        "pending": [{"row": row, "title": acts.named(row.act).title} for row in waiting],
        "people": access.people_by_id([row.proposer_id for row in waiting]),
        "long_delay": tenant_acts.long_delay(),
        "exports": exporting.exports_of(actor),
        "files_in_all": exporting.files_in_all(),
        "is_soon_again": locking.is_soon_again(tenant, database_now()),
    }
    return render(request, "console/organisation.html", context)


@console_page(PermissionName.TENANT_ADMINISTER, methods=("GET",))
def export_file(request: HttpRequest, actor: Actor, export_id: UUID) -> HttpResponse:
    """Hand an export over to whoever asked for it, as a stream; each time is an entry."""
    row = exporting.for_download(actor, export_id)
    answer = StreamingHttpResponse(exporting.octets(row), content_type="application/zip")
    answer["content-disposition"] = f'attachment; filename="{access.tenant().slug}-{row.created_at:%Y-%m-%d}.zip"'
    return answer  # type: ignore[return-value]
