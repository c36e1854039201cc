# SPDX-License-Identifier: Apache-2.0
"""Console pages of one's exports of the logs: asked for, made in the background, downloaded and gone on with.

Implements PLATFORM "Console" and docs/formats/audit-log.md "Export". It makes nothing itself: the worker does. Beside
them the page that verifies them, to take home.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Final
from uuid import UUID

from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect, StreamingHttpResponse
from django.shortcuts import render
from django.urls import reverse

from audit import exporting
from audit.errors import NoCheckpoint
from console.frame import LOOKING, console_page
from kernel.actors import Actor
from kernel.errors import LimitReached, NotFound
from tenants import access as tenants
from tenants.permissions import PermissionName

LOGS: Final = {"audit": "Audit log", "keys": "Log of keys"}
# The offline verifier as it is committed: one page with all that it needs (docs/verifier.md).
_VERIFIER: Final = Path("web", "dist", "verify.html")
# One range, as a browser asks for the rest of a file (RFC 9110 section 14.1.2); any other is answered by the whole.
_REST: Final = re.compile(r"bytes=([0-9]{1,15})-", re.ASCII)


@console_page(PermissionName.AUDIT_READ, methods=(*LOOKING, "POST"))
def log_exports(request: HttpRequest, actor: Actor) -> HttpResponseBase:
    """List one's own exports and how far each is; posted, ask for one."""
    refusal, status = "", 200
    if request.method == "POST":
        try:
            exporting.ask(log="keys" if request.POST.get("log") == "keys" else "audit", actor=actor)
        except (LimitReached, NoCheckpoint) as error:
            refusal, status = error.detail, 409
        else:
            return HttpResponseRedirect(reverse("console-log-exports"))
    rows = [(row, LOGS[row.log]) for row in exporting.exports_of(actor)]
    digest = hashlib.sha256(_verifier()).hexdigest()
    context = {"rows": rows, "logs": LOGS.items(), "refusal": refusal, "most": exporting.MOST_OWN, "verifier": digest}
    return render(request, "console/audit/exports.html", context, status=status)


@console_page(PermissionName.AUDIT_READ, methods=("GET",))
def log_export_file(request: HttpRequest, actor: Actor, export_id: UUID) -> HttpResponse:
    """Hand an export over to whoever asked for it, from wherever a download of before broke off."""
    row = exporting.one(actor, export_id)
    if row.ready_at is None:
        raise NotFound
    tag, start = f'"{row.pk}"', 0
    asked = _REST.fullmatch(request.headers.get("range", ""))
    # What is kept under one id never changes, so the rest of it is the rest of what was begun.
    if asked is not None and request.headers.get("if-range", tag) == tag:
        start = int(asked[1])
    if start >= row.octets:
        answer = HttpResponse(status=416)
        answer["content-range"] = f"bytes */{row.octets}"
        return answer
    exporting.take(row, actor=actor)
    answer = StreamingHttpResponse(exporting.octets(row, start), content_type="application/gzip")  # type: ignore[assignment]
    if start:
        answer.status_code = 206
        answer["content-range"] = f"bytes {start}-{row.octets - 1}/{row.octets}"
    answer["content-length"] = str(row.octets - start)
    answer["accept-ranges"], answer["etag"] = "bytes", tag
    name = f"{tenants.tenant().slug}-{row.log}-{row.size}.jsonl.gz"
    answer["content-disposition"] = f'attachment; filename="{name}"'
    return answer


@console_page(PermissionName.AUDIT_READ)
def verifier_file(_request: HttpRequest, _actor: Actor) -> HttpResponse:
    """Hand over the page that verifies an export on the reader's own machine; it is not opened here, among our own."""
    answer = HttpResponse(_verifier(), content_type="text/html; charset=utf-8")
    answer["content-disposition"] = 'attachment; filename="verify.html"'
    return answer


def _verifier() -> bytes:
    return (settings.BASE_DIR / _VERIFIER).read_bytes()
