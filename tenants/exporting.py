# SPDX-License-Identifier: Apache-2.0
"""The export of a tenant: its logs, statements and ciphertexts as one zip, gathered by the worker piece by piece.

Implements ORGANISATION "Export". Web process and worker share nothing but the database, so the pieces lie there, for a
week. A piece and how far it leads are one commit: a worker that dies repeats nothing and leaves nothing out. What the
apps above have to give, they register here.
"""

from __future__ import annotations

import io
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from django.db import transaction
from django.db.models import QuerySet
from django.db.models.functions import Now

from audit import access as audit_access
from audit import export as log_export
from audit import services as audit
from audit.errors import NoCheckpoint
from holdfast.core.log.log_export import checkpoint_line
from kernel.actors import Actor
from kernel.clock import database_now
from kernel.errors import Conflict, NotFound
from kernel.models import Job
from kernel.queue import RunLater, enqueue
from kernel.scope import tenant_scope
from kernel.strict_json import dumps
from kernel.sweeps import delete_in_batches
from kernel.transitions import advance
from tenants import access
from tenants.models import ExportPiece, TenantExport
from tenants.sessions import session_actor
from tenants.states import EXPORT, ExportState, PersonState

EXPORT_JOB: Final = "tenants.export"
KEPT: Final = timedelta(days=7)
# Of rows, in a piece and so in memory: a row has 64 KiB at most, and mostly some hundred octets.
BATCH: Final = 100
# A job's lease is a minute: a longer export goes on in the next.
TURN_SECONDS: Final = 20
LOGS: Final = ("audit", "keys")


@dataclass(frozen=True)
class Source:
    """What one app has to give. file: its name in the zip; rows: the rows that somebody may have; line: one of them."""

    file: str
    rows: Callable[[Actor], QuerySet[Any]]
    line: Callable[[Any], dict[str, Any]]


_sources: list[Source] = []


def exports(*sources: Source) -> None:
    """Say once, at start, what of an app's rows goes into an export."""
    _sources.extend(sources)


def ask(*, actor: Actor) -> TenantExport:
    """Promise an export to whoever asks. Raises Conflict while one is being made."""
    assert actor.person_id is not None
    with transaction.atomic():
        if TenantExport.objects.filter(state=ExportState.WAITING).exists():
            raise Conflict("An export is being made already. Wait for it.")
        row: TenantExport = TenantExport.objects.create(asked_by=actor.person_id, expires_at=database_now() + KEPT)
        enqueue(EXPORT_JOB, queue="worker", unique=str(row.pk), export=str(row.pk))
        audit.append(tag="tenants:tenant:export", actor=actor, subject=str(row.tenant_id), body={"export": str(row.pk)})
    return row


def exports_of(actor: Actor) -> list[TenantExport]:
    """List the exports that an actor asked for and that are not over, newest first."""
    rows = TenantExport.objects.filter(asked_by=actor.person_id, expires_at__gt=Now())
    return list(rows.order_by("-created_at")[:10])


def for_download(actor: Actor, export_id: UUID) -> TenantExport:
    """Return an export that its asker can take home, with the entry that they do. Raises NotFound for anybody else.

    What was withheld from its asker is withheld in it: nobody else may have it.
    """
    with transaction.atomic():
        rows = TenantExport.objects.filter(pk=export_id, asked_by=actor.person_id, state=ExportState.READY)
        row: TenantExport | None = rows.filter(expires_at__gt=Now()).first()
        if row is None:
            raise NotFound
        tag, subject = "tenants:tenant:take-export", str(row.tenant_id)
        audit.append(tag=tag, actor=actor, subject=subject, body={"export": str(row.pk)})
    return row


def octets(row: TenantExport) -> Iterator[bytes]:
    """Give the zip, piece by piece: one is held at a time."""
    tail = _Tail()
    with zipfile.ZipFile(tail, "w", zipfile.ZIP_DEFLATED) as archive:
        number, name, member = 0, "", None
        try:
            while True:
                # The scope is opened for each piece: between two, other work may run in this thread.
                with tenant_scope(row.tenant_id):
                    piece = ExportPiece.objects.filter(export_id=row.pk, number=number).first()
                if piece is None:
                    break
                if piece.file != name or member is None:
                    if member is not None:
                        member.close()
                    name = piece.file
                    member = archive.open(zipfile.ZipInfo(name, _dos(row.created_at)), "w", force_zip64=True)
                member.write(bytes(piece.octets))
                number += 1
                yield tail.taken()
        finally:
            if member is not None:
                member.close()
    yield tail.taken()


class _Tail(io.RawIOBase):
    """What a zip wrote and nobody has taken yet. It cannot be gone back in."""

    def __init__(self) -> None:
        self._held = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._held += data
        return len(data)

    def taken(self) -> bytes:
        found, self._held = bytes(self._held), bytearray()
        return found


def _dos(at: datetime) -> tuple[int, int, int, int, int, int]:
    return (at.year, at.month, at.day, at.hour, at.minute, at.second)


def work(job: Job) -> None:
    """Go on with an export for one turn, in its tenant's scope. Raises RunLater while there is more."""
    row: TenantExport | None = TenantExport.objects.filter(pk=UUID(job.payload["export"])).first()
    if row is None or row.state != ExportState.WAITING:
        return
    asker = access.people_by_id([row.asked_by]).get(row.asked_by)
    if asker is None or asker.state != PersonState.ACTIVE:
        # Whom nothing is to be given to any more.
        advance(row, EXPORT, ExportState.FAILED, ended_at=database_now())
        return
    actor, until = session_actor(asker), time.monotonic() + TURN_SECONDS
    # One step at least in every turn, however slow: a turn that does nothing would come again for ever.
    _step(row, actor)
    while row.state == ExportState.WAITING:
        if time.monotonic() > until:
            raise RunLater(database_now(), "the export is not over")
        _step(row, actor)


def _step(row: TenantExport, actor: Actor) -> None:
    files = [*(f"log/{log}.jsonl" for log in LOGS), *(source.file for source in _sources)]
    if row.file >= len(files):
        advance(row, EXPORT, ExportState.READY, ended_at=database_now())
        return
    name = files[row.file]
    if row.file < len(LOGS):
        lines, after = _of_log(row, LOGS[row.file], actor)
    else:
        # What is opened of a record asks the HSM: outside the transaction.
        lines, after = _of_source(_sources[row.file - len(LOGS)], row.after, actor)
    with transaction.atomic():
        if lines:
            body = b"".join(lines)
            ExportPiece.objects.create(export_id=row.pk, number=row.pieces, file=name, octets=body)
            row.pieces += 1
            row.size += len(body)
            row.lines += len(lines)
        row.file, row.after = (row.file + 1, "") if after is None else (row.file, after)
        row.save(update_fields=["pieces", "size", "lines", "file", "after"])


def files_in_all() -> int:
    """Return how many files an export has."""
    return len(LOGS) + len(_sources)


def _of_log(row: TenantExport, log: str, actor: Actor) -> tuple[list[bytes], str | None]:
    """Give the next lines of a log as `holdfast audit verify` reads it, up to the head that was newest at its first.

    row.after: the head's size, and the index to go on at.
    """
    size, _, low = row.after.partition(":")
    try:
        head = audit_access.latest_checkpoint(log) if not size else audit_access.checkpoint_of(log, int(size))
    except NoCheckpoint:
        # A log without a signed head says nothing that anybody could verify.
        return [], None
    start = int(low or 0)
    withheld = audit_access.withheld_from(actor) if log == "audit" else None
    lines = []
    if not size:
        newest = audit_access.newest_roles()
        count = len(audit_access.places_withheld(withheld, size=head.size))
        roles = bytes(newest.statement) if newest else b""
        lines.append(log_export.header(row.tenant_id, head, log, roles=roles, count=count))
    stop = min(start + log_export.BATCH, head.size)
    hidden = audit_access.places_withheld(withheld, start=start, size=stop)
    lines += log_export.lines_between(log, start, stop, size=head.size, hidden=hidden)
    if stop < head.size:
        return lines, f"{head.size}:{stop}"
    return [*lines, checkpoint_line(head.note)], None


def _of_source(source: Source, after: str, actor: Actor) -> tuple[list[bytes], str | None]:
    rows = source.rows(actor).order_by("pk")
    if after:
        rows = rows.filter(pk__gt=after)
    found = list(rows[:BATCH])
    lines = [dumps(source.line(one)) + b"\n" for one in found]
    return lines, str(found[-1].pk) if len(found) == BATCH else None


def sweep() -> None:
    """Forget exports whose week is over, of all tenants, with their pieces."""
    over = TenantExport.unscoped.filter(expires_at__lt=database_now())
    delete_in_batches(ExportPiece.unscoped.filter(export__in=over))
    delete_in_batches(over)
