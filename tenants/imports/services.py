# SPDX-License-Identifier: Apache-2.0
"""Verbs on files of people: read one and say what it would do, begin what was confirmed, and do it bit by bit.

Implements ORGANISATION "People from a file". The only writer of these rows. Reading invites nobody; only the act does
(`imports.act`), with a code for exactly what was read.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from django.db import transaction
from django.db.models import F, QuerySet
from django.db.models.functions import Now

from audit import services as audit
from holdfast.core.base.encoding import label
from kernel.actors import Actor
from kernel.clock import database_now
from kernel.errors import Conflict, NotFound
from kernel.queue import enqueue
from kernel.strict_json import dumps
from kernel.sweeps import delete_in_batches
from kernel.transitions import advance
from tenants import access, invitations
from tenants.errors import ImportRefused
from tenants.imports import cells, reading
from tenants.imports.reading import BadLine, Line
from tenants.models import Import, ImportChunk
from tenants.permissions import PermissionName, session_permissions
from tenants.services import NewPerson, create_people
from tenants.states import IMPORT, INVITING_STATES, ImportState, PersonState

IMPORT_JOB: Final = "tenants.import"
UNCONFIRMED: Final = timedelta(hours=1)  # somebody reads it and confirms it, or goes home
KEPT: Final = timedelta(days=7)  # after it was confirmed: its report is read within the week, and has addresses in it
CHUNK: Final = 500  # lines in one row: some 50 KiB
BATCH: Final = 100  # people in one transaction: about a second of SQLite's write lock
BATCHES: Final = 5  # of one turn of the job, so that what else waits gets its own


def read(*, text: str, actor: Actor) -> Import:
    """Read a file of people, and keep for an hour whom it would invite and which lines are bad. Invites nobody.

    What the same person read before and did not confirm is forgotten. Raises ImportRefused for what is no such file.
    """
    assert actor.person_id is not None
    now = database_now()
    with transaction.atomic():
        Import.objects.filter(by_id=actor.person_id, state=ImportState.READ).delete()
        row: Import = Import.objects.create(
            by_id=actor.person_id, digest=b"", good=0, bad=0, expires_at=now + UNCONFIRMED
        )
        good, bad = _Chunks(row, is_good=True), _Chunks(row, is_good=False)
        for lines in _parts(reading.lines(text)):
            here = access.addresses_here([one.key for one in lines if isinstance(one, Line)])
            for one in lines:
                if isinstance(one, BadLine):
                    bad.add([one.number, one.field, one.reason, list(one.cells)])
                elif one.key in here:
                    reason = "A person with this address is here already."
                    bad.add([one.number, "email", reason, [one.name, one.email, one.role]])
                else:
                    good.add([one.number, one.name, one.email, one.key, one.role])
        row.digest = good.close()
        bad.close()
        row.good, row.bad, row.roles = good.count, bad.count, dict(good.roles)
        if not row.good and not row.bad:
            raise ImportRefused("There is no line in this file.", field="file")
        row.save(update_fields=["digest", "good", "bad", "roles"])
        audit.append(
            tag="tenants:import:read",
            actor=actor,
            subject=str(row.pk),
            body={"hash": bytes(row.digest), "good": row.good, "bad": row.bad},
        )
    return row


def _parts(lines: Iterator[Line | BadLine]) -> Iterator[list[Line | BadLine]]:
    part: list[Line | BadLine] = []
    for one in lines:
        part.append(one)
        if len(part) == CHUNK:
            yield part
            part = []
    yield part


class _Chunks:
    """Lines of one kind on their way into rows, CHUNK at a time, and the hash of them all."""

    def __init__(self, row: Import, *, is_good: bool) -> None:
        self.count = 0
        self.roles: Counter[str] = Counter()
        self._row, self._is_good, self._number = row, is_good, 0
        self._lines: list[list[Any]] = []
        self._hash = hashlib.sha256(label("people-import"))

    def add(self, line: list[Any]) -> None:
        self.count += 1
        if self._is_good:
            self.roles[line[-1]] += 1
        self._lines.append(line)
        if len(self._lines) == CHUNK:
            self._write()

    def close(self) -> bytes:
        if self._lines:
            self._write()
        return self._hash.digest()

    def _write(self) -> None:
        ImportChunk.objects.create(of=self._row, is_good=self._is_good, number=self._number, lines=self._lines)
        self._hash.update(dumps(self._lines))
        self._number, self._lines = self._number + 1, []


def import_of(import_id: UUID, *, lock: bool = False) -> Import:
    """Return a file that was read, whatever became of it. Raises NotFound for one that nobody confirmed in time."""
    rows = Import.objects.filter(pk=import_id, expires_at__gt=Now())
    found: Import | None = (rows.select_for_update() if lock else rows).first()
    if found is None:
        raise NotFound
    return found


def running() -> list[Import]:
    """List the files of the last week that were confirmed, the newest first, at most ten."""
    rows = Import.objects.filter(expires_at__gt=Now()).exclude(state=ImportState.READ)
    return list(rows.order_by("-confirmed_at")[:10])


def some_lines(row: Import, *, is_good: bool, start: int, limit: int) -> Sequence[Line | BadLine]:
    """Return up to `limit` lines of one kind from the `start`th on, in the file's order: of at most two chunks."""
    numbers = {start // CHUNK, (start + limit - 1) // CHUNK}
    first, found = min(numbers) * CHUNK, []
    for chunk in _chunks(row, is_good=is_good).filter(number__in=numbers):
        found += chunk.lines
    some = found[start - first : start - first + limit]
    return [_line(one) for one in some] if is_good else [_bad_line(one) for one in some]


def bad_lines_file(lines: Iterable[Line | BadLine], *, with_heads: bool) -> Iterator[str]:
    """Give bad lines as lines of a CSV file: number, field, reason, and the first cells, none of them a formula."""
    if with_heads:
        # The mark tells a spreadsheet that this is UTF-8.
        heads = (f"cell {place + 1}" for place in range(reading.KEPT_CELLS))
        yield "\ufeff" + cells.line(["line", "field", "reason", *heads])
    for one in lines:
        if isinstance(one, BadLine):
            yield cells.line([str(one.number), one.field, one.reason, *one.cells])


def begin(*, row: Import, actor: Actor) -> None:
    """Let a file that was read and is locked by the caller be done, in the transaction of the confirmed act.

    Raises Conflict for one that was confirmed before, invites nobody, or whose lines are not those that were shown.
    """
    require_waiting(row)
    digest = hashlib.sha256(label("people-import"))
    for chunk in _chunks(row, is_good=True).iterator(chunk_size=1):
        digest.update(dumps(chunk.lines))
    if digest.digest() != bytes(row.digest):
        raise Conflict("The lines are not those that were read. Read the file again.")
    now = database_now()
    advance(row, IMPORT, ImportState.RUNNING, by_id=actor.person_id, confirmed_at=now, expires_at=now + KEPT)
    audit.append(
        tag="tenants:import:confirm",
        actor=actor,
        subject=str(row.pk),
        body={"hash": bytes(row.digest), "good": row.good},
    )
    enqueue(IMPORT_JOB, unique=str(row.pk), of=str(row.pk))


def require_waiting(row: Import) -> None:
    """Raise Conflict unless the file can be confirmed."""
    if row.state != ImportState.READ:
        raise Conflict("This file was confirmed already. Its page says how far it is.")
    if not row.good:
        raise Conflict("No line of this file invites anybody.")


def go_on(*, import_id: UUID) -> bool:
    """Invite the next people of a confirmed file, a transaction for each hundred, and tell whether more wait.

    Whoever is here by then is left out, so that it can be done again from where it stopped. It stops for good when
    whoever confirmed it may invite nobody any more.
    """
    return all(_next_batch(import_id) for _ in range(BATCHES))


def _next_batch(import_id: UUID) -> bool:
    with transaction.atomic():
        row: Import | None = Import.objects.select_for_update().filter(pk=import_id, state=ImportState.RUNNING).first()
        if row is None:
            return False
        person = access.person(row.by_id)
        actor = Actor(row.tenant_id, "person", person.pk, person_id=person.pk, role=person.role)
        may = person.state == PersonState.ACTIVE and PermissionName.PERSON_ADMINISTER in session_permissions(
            person.role
        )
        if not may or access.tenant().state not in INVITING_STATES:
            _end(row, ImportState.STOPPED, "stop", actor)
            return False
        lines = some_lines(row, is_good=True, start=row.done, limit=BATCH)
        new = [NewPerson(one.email, one.key, one.name, one.role) for one in lines if isinstance(one, Line)]
        made = create_people(people=new, actor=actor)
        invitations.promise_each(people=made, actor=actor)
        Import.objects.filter(pk=row.pk).update(done=F("done") + len(new), created=F("created") + len(made))
        row.refresh_from_db()
        if row.done < row.good and new:
            return True
        _end(row, ImportState.DONE, "finish", actor)
        return False


def _end(row: Import, state: ImportState, verb: str, actor: Actor) -> None:
    advance(row, IMPORT, state, ended_at=database_now())
    audit.append(
        tag=f"tenants:import:{verb}",
        actor=actor,
        subject=str(row.pk),
        body={"created": row.created, "skipped": row.done - row.created},
    )


def sweep() -> int:
    """Delete, in every tenant, what was read and not confirmed within the hour, and old reports; return how many."""
    now = database_now()
    delete_in_batches(ImportChunk.unscoped.filter(of__expires_at__lt=now))
    return delete_in_batches(Import.unscoped.filter(expires_at__lt=now))


def _chunks(row: Import, *, is_good: bool) -> QuerySet[ImportChunk]:
    return ImportChunk.objects.filter(of=row, is_good=is_good).order_by("number")


def _line(stored: list[Any]) -> Line:
    number, name, email, key, role = stored
    return Line(number, name, email, key, role)


def _bad_line(stored: list[Any]) -> BadLine:
    number, field, reason, some = stored
    return BadLine(number, field, reason, tuple(some))
