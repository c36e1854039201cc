# SPDX-License-Identifier: Apache-2.0
"""Console pages of the signed transcripts of ceremonies: one as text, and both files of it. Each reading is an entry.

Implements PLATFORM "Console". What a page says of the signatures is this server's word; the files are for checking them
on another machine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from audit import access
from audit import services as audit
from audit.errors import RolesMissing, TranscriptRefused
from console.frame import console_page
from holdfast.core.base.errors import HoldfastError
from holdfast.core.base.text import written_out
from holdfast.core.crypto.keys import SIGNING_KINDS, decode_public_key
from holdfast.core.identity.transcript import SignedTranscript
from kernel.actors import Actor
from tenants import access as tenants
from tenants.permissions import PermissionName

if TYPE_CHECKING:
    from audit.models import Transcript


@console_page(PermissionName.AUDIT_READ)
def transcript_page(request: HttpRequest, actor: Actor, index: int) -> HttpResponse:
    """Show a transcript's text, and whether root and log key signed it."""
    row = _read(actor, index)
    signed, fault = _verified(row)
    context = {
        "row": row,
        "text": written_out(bytes(row.text).decode(errors="backslashreplace"), keep="\n"),
        "signed": signed,
        "fault": fault,
        "newest": access.newest_transcripts(1)[0].number,
        "before": row.number - 1,
    }
    return render(request, "console/audit/transcript.html", context)


@console_page(PermissionName.AUDIT_READ)
def transcript_text(_request: HttpRequest, actor: Actor, index: int) -> HttpResponse:
    """Hand over the text, octet by octet as it was signed."""
    row = _read(actor, index)
    return _file(bytes(row.text), "text/plain; charset=utf-8", f"{_name(row)}.txt")


@console_page(PermissionName.AUDIT_READ)
def transcript_signed(_request: HttpRequest, actor: Actor, index: int) -> HttpResponse:
    """Hand over the signatures of root and log key over the text's hash (COSE)."""
    row = _read(actor, index)
    return _file(bytes(row.statement), "application/cose", f"{_name(row)}.signed")


def _read(actor: Actor, number: int) -> Transcript:
    row = access.transcript(number)
    with transaction.atomic():
        audit.append_first(tag="audit:transcript:read", actor=actor, subject=str(row.pk), body={"number": row.number})
    return row


def _verified(row: Transcript) -> tuple[SignedTranscript | None, str]:
    """Return what was signed, or why it counts for nothing."""
    root = tenants.tenant().root_key
    try:
        root_key = decode_public_key(bytes(root or b""), expect=SIGNING_KINDS)
        return audit.check_transcript(bytes(row.statement), bytes(row.text), root_key=root_key), ""
    except (HoldfastError, RolesMissing, TranscriptRefused) as error:
        return None, str(error)


def _name(row: Transcript) -> str:
    return f"transcript-{tenants.tenant().slug}-{row.number}"


def _file(body: bytes, kind: str, name: str) -> HttpResponse:
    answer = HttpResponse(body, content_type=kind)
    answer["content-disposition"] = f'attachment; filename="{name}"'
    return answer
