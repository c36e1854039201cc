# SPDX-License-Identifier: Apache-2.0
"""The export of a long log as a job: made by the worker piece by piece, fetched piece by piece by whoever asked for it.

Implements docs/formats/audit-log.md "Export". No web thread reads a log: one piece is one answer, so a download that
broke off goes on where it stopped. Web process and worker share nothing but the database, so the pieces lie there, for
a day. A piece and how far it leads are one commit: a worker that dies repeats nothing and leaves nothing out.
"""

from __future__ import annotations

import gzip
import time
from bisect import bisect_right
from collections.abc import Iterator
from datetime import timedelta
from itertools import accumulate
from typing import Final
from uuid import UUID

from django.db import transaction
from django.db.models import F, QuerySet
from django.db.models.functions import Now

from audit import access, export, services
from audit.models import LogExport, LogExportPiece
from holdfast.core.log.log_export import checkpoint_line
from holdfast.core.log.tiles import WIDTH
from kernel.actors import Actor
from kernel.clock import database_now
from kernel.errors import LimitReached, NotFound
from kernel.models import Job
from kernel.queue import RunLater, enqueue
from kernel.scope import tenant_scope
from kernel.sweeps import delete_in_batches

EXPORT_JOB: Final = "audit.export"
KEPT: Final = timedelta(days=1)
# Of entries in a piece, in whole tiles: about 1.5 MiB as it is stored, and 4 MiB in the worker's memory.
PIECE: Final = 16 * WIDTH
# A job's lease is a minute: a longer export goes on in the next turn.
TURN_SECONDS: Final = 20
# A person has one for each log and one to compare; an organisation as many as auditors work at once. Each may be as
# large as the log.
MOST_OWN: Final = 3
MOST: Final = 10
_FULL: Final = "The organisation has as many exports of its logs as it may. Each is deleted after a day."
# The lines are mostly hashes and signatures, which nothing packs; what else they are, the quickest level packs as well.
_LEVEL: Final = 1


def ask(*, log: str, actor: Actor) -> LogExport:
    """Promise an export of the log up to its newest signed head, with the entry that it was asked for.

    The same that is there already is given again, made or not; the oldest of one's own makes room. Raises NoCheckpoint,
    and LimitReached while the organisation has as many as it may.
    """
    # Read after the head: whose keys wrote what it covers had been said by then.
    head, newest = access.latest_checkpoint(log), access.newest_roles()
    # Asked for once: a date that passes meanwhile must not make head and lines disagree.
    withheld = access.places_withheld(access.withheld_from(actor) if log == "audit" else None, size=head.size)
    with transaction.atomic():
        own = list(_open().filter(owner=_owner(actor)).order_by("created_at", "id"))
        for row in own:
            if (row.log, row.size, row.withheld) == (log, head.size, withheld):
                return row
        for row in own[: max(0, len(own) + 1 - MOST_OWN)]:
            LogExport.objects.filter(pk=row.pk).update(expires_at=Now())
        if _open().count() >= MOST:
            raise LimitReached(_FULL, limit="log-exports", most=MOST)
        made: LogExport = LogExport.objects.create(
            owner=_owner(actor),
            log=log,
            size=head.size,
            vkey=head.vkey,
            note=head.note,
            roles=bytes(newest.statement) if newest else b"",
            withheld=withheld,
            created_at=database_now(),
            expires_at=database_now() + KEPT,
        )
        enqueue(EXPORT_JOB, queue="worker", unique=str(made.pk), export=str(made.pk))
        services.append(
            tag="audit:export:ask",
            actor=actor,
            body={"export": str(made.pk), "log": log, "size": head.size, "withheld": len(withheld)},
        )
    return made


def exports_of(actor: Actor) -> list[LogExport]:
    """List the exports that an actor asked for and that are not over, newest first: MOST_OWN at most."""
    return list(_open().filter(owner=_owner(actor)).order_by("-created_at", "id"))


def one(actor: Actor, export_id: UUID) -> LogExport:
    """Return an export to whoever asked for it. Raises NotFound for anybody else: what it withholds is their own."""
    row = _open().filter(pk=export_id, owner=_owner(actor)).first()
    if row is None:
        raise NotFound
    return row


def ends_of(row: LogExport) -> list[int]:
    """Return where each piece that is made ends, in bytes of the whole file, in order."""
    sizes = LogExportPiece.objects.filter(export_id=row.pk).order_by("number").values_list("size", flat=True)
    return list(accumulate(sizes))


def piece(actor: Actor, export_id: UUID, number: int) -> bytes:
    """Return one piece to whoever asked for the export, with the entry that they read the log: once an hour.

    Raises NotFound for anybody else, and for a piece that is not made.
    """
    row = one(actor, export_id)
    octets = _octets(row, number)
    take(row, actor=actor)
    return octets


def take(row: LogExport, *, actor: Actor) -> None:
    """Append the entry that an actor reads an export of theirs: once an hour."""
    with transaction.atomic():
        services.append_first(
            tag="audit:entries:exported",
            actor=actor,
            apart=str(row.pk),
            body={"log": row.log, "size": row.size, "withheld": len(row.withheld)},
        )


def octets(row: LogExport, start: int) -> Iterator[bytes]:
    """Give the file from a byte on, piece by piece: one is held at a time."""
    with tenant_scope(row.tenant_id):
        ends = ends_of(row)
    for number in range(bisect_right(ends, start), len(ends)):
        # The scope is opened for each piece: between two, other work may run in this thread.
        with tenant_scope(row.tenant_id):
            piece_octets = _octets(row, number)
        begins = ends[number] - len(piece_octets)
        yield piece_octets[max(0, start - begins) :]


def _octets(row: LogExport, number: int) -> bytes:
    found = LogExportPiece.objects.filter(export_id=row.pk, number=number).values_list("octets", flat=True).first()
    if found is None:
        raise NotFound
    return bytes(found)


def _owner(actor: Actor) -> str:
    # A person's devices are one owner: what was asked for on the page is fetched by the command.
    return f"person:{actor.person_id}" if actor.person_id is not None else actor.label


def _open() -> QuerySet[LogExport]:
    rows: QuerySet[LogExport] = LogExport.objects.filter(expires_at__gt=Now())
    return rows


def work(job: Job) -> None:
    """Go on with an export for one turn, in its tenant's scope. Raises RunLater while there is more."""
    until, mine = time.monotonic() + TURN_SECONDS, _open().filter(pk=UUID(job.payload["export"]), ready_at=None)
    # One step at least in every turn, however slow: a turn that does nothing would come again for ever.
    while (row := mine.first()) is not None:
        _step(row)
        if time.monotonic() > until and mine.exists():
            raise RunLater(database_now(), "the export is not over")


def _step(row: LogExport) -> None:
    stop = min(row.done + PIECE, row.size)
    lines = (
        []
        if row.done
        else [export.header(row.tenant_id, row, row.log, roles=bytes(row.roles), count=len(row.withheld))]
    )
    lines += export.lines_between(row.log, row.done, stop, size=row.size, hidden=row.withheld)
    is_last = stop == row.size
    if is_last:
        lines.append(checkpoint_line(row.note))
    # Members of gzip one after another are one file of gzip (RFC 1952 section 2.2). Without a time: one log, one form.
    octets = gzip.compress(b"".join(lines), _LEVEL, mtime=0)
    with transaction.atomic():
        # Two workers that are at it: the second finds the row moved on, or the piece there, and begins again.
        ready = {"ready_at": Now()} if is_last else {}
        moved = LogExport.objects.filter(pk=row.pk, done=row.done, pieces=row.pieces, ready_at=None)
        if moved.update(done=stop, pieces=F("pieces") + 1, octets=F("octets") + len(octets), **ready):
            LogExportPiece.objects.create(export_id=row.pk, number=row.pieces, octets=octets, size=len(octets))


def forget() -> None:
    """Delete every export of the tenant whose scope is open, inside the caller's transaction: at its end."""
    LogExportPiece.objects.all().delete()
    LogExport.objects.all().delete()


def sweep() -> None:
    """Forget exports whose day is over, of all tenants, with their pieces."""
    over = LogExport.unscoped.filter(expires_at__lt=database_now())
    delete_in_batches(LogExportPiece.unscoped.filter(export__in=over))
    delete_in_batches(over)
