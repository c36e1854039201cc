# SPDX-License-Identifier: Apache-2.0
"""The console's pages of people from a file: what a file would do, line by line; how far it is; the list as a file.

Implements ORGANISATION "People from a file". Confirming is an act (`console.acts`); these pages read and show.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final
from uuid import UUID

from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, StreamingHttpResponse
from django.shortcuts import render
from django.urls import reverse

from console.frame import console_page
from console.paging import PAGE, Column, Listing
from kernel.actors import Actor
from kernel.errors import DomainError
from kernel.scope import current_tenant, tenant_scope
from tenants import access as tenants
from tenants.acts import engine
from tenants.errors import ImportRefused
from tenants.imports import export, reading, services
from tenants.permissions import PermissionName
from tenants.roles import ROLE_WORDS, Role

_METHODS: Final = ("GET", "HEAD", "POST")
# Lines stand as they do in the file.
GOOD: Final = (Column("Line", is_number=True), Column("Name"), Column("Address"), Column("Role"))
BAD: Final = (Column("Line", is_number=True), Column("Field"), Column("What is wrong"), Column("The line"))


@console_page(PermissionName.PERSON_ADMINISTER, methods=_METHODS)
def import_form(request: HttpRequest, actor: Actor) -> HttpResponse:
    """Take a file, or its text, and go to the page that says what it would do; an error names the line."""
    text, error = request.POST.get("text", ""), None
    if request.method == "POST":
        try:
            row = services.read(text=_text(request), actor=actor)
            return HttpResponseRedirect(reverse("console-import", args=[row.pk]))
        except DomainError as refused:
            error = refused
    context = {
        "error": error,
        "text": text,
        "most_lines": reading.MAX_LINES,
        "roles": [(str(role), words) for role, words in ROLE_WORDS.items()],
        "recent": services.running(),
    }
    return render(request, "console/people/import_form.html", context, status=400 if error else 200)


def _text(request: HttpRequest) -> str:
    file, text = request.FILES.get("file"), request.POST.get("text", "")
    if file is not None and text.strip():
        raise ImportRefused("Choose a file or paste its text, not both.", field="file")
    if file is not None:
        return reading.text_of(file.read())
    if not text.strip():
        raise ImportRefused("Choose a file, or paste its text.", field="file")
    return text


@console_page(PermissionName.PERSON_ADMINISTER)
def import_page(request: HttpRequest, actor: Actor, import_id: UUID) -> HttpResponse:
    """Show what a file would do, with every bad line; once it was confirmed, how far it is and what came of it."""
    row = services.import_of(import_id)
    shows_good = request.GET.get("show") == "good" if row.bad else True
    show = "good" if shows_good and row.bad else ""
    listing = Listing.of(request, GOOD if shows_good else BAD, by_default="", show=show)
    total = row.good if shows_good else row.bad
    context = {
        "row": row,
        "lines": services.some_lines(row, is_good=shows_good, start=listing.start, limit=PAGE),
        "shows_good": shows_good,
        "acts": engine.offered(actor, "import", row),
        "roles": [(Role(role).label.lower(), count) for role, count in sorted(row.roles.items())],
        "skipped": row.done - row.created,
        "people": tenants.people_by_id([row.by_id]),
    }
    return render(request, "console/people/import.html", listing.shown(total, **context))


@console_page(PermissionName.PERSON_ADMINISTER)
def bad_lines(request: HttpRequest, actor: Actor, import_id: UUID) -> StreamingHttpResponse:
    """Give the bad lines of a file as a file."""
    return _file(_in_scope(import_id), "bad-lines.csv")


def _in_scope(import_id: UUID) -> Iterator[str]:
    """Read a file's bad lines as they are sent, after the request's scope was closed. Raises NotFound now."""
    tenant_id, row = current_tenant(), services.import_of(import_id)

    def lines() -> Iterator[str]:
        for number in range(0, row.bad, PAGE):
            with tenant_scope(tenant_id):
                some = services.some_lines(row, is_good=False, start=number, limit=PAGE)
            yield from services.bad_lines_file(some, with_heads=number == 0)

    return lines()


@console_page(PermissionName.PERSON_ADMINISTER, methods=("POST",))
def people_file(request: HttpRequest, actor: Actor) -> StreamingHttpResponse:
    """Give the list of people as a file; the log says that it was taken out."""
    return _file(export.begin(actor=actor), "people.csv")


def _file(lines: Iterator[str], name: str) -> StreamingHttpResponse:
    answer = StreamingHttpResponse((line.encode() for line in lines), content_type="text/csv; charset=utf-8")
    answer["content-disposition"] = f'attachment; filename="{name}"'
    return answer
