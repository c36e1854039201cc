# SPDX-License-Identifier: Apache-2.0
"""What the audit tests share: appending as an actor, exporting to a file, taking the triggers off as a DBA would."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID, uuid4

from django.db import connection, transaction

from audit import access, export, sequencer, services
from audit.models import Entry
from audit.services import Appended
from holdfast.core.log.merkle import leaf_hash
from kernel.actors import Actor
from kernel.scope import tenant_scope
from tests.cast.roles import found_roles

TENANT = UUID("11111111-1111-4111-8111-111111111111")
OTHER = UUID("22222222-2222-4222-8222-222222222222")
TAG = "audit:entries:read"


def actor(tenant_id: UUID = TENANT) -> Actor:
    return Actor(tenant_id=tenant_id, kind="device", id=uuid4(), person_id=uuid4())


def append(count: int = 1, *, tenant_id: UUID = TENANT) -> list[Appended]:
    """Append entries, each in a transaction of its own, as requests do."""
    found_roles(tenant_id)
    made = []
    with tenant_scope(tenant_id):
        for number in range(count):
            with transaction.atomic():
                made.append(services.append(tag=TAG, actor=actor(tenant_id), body={"count": number}))
    return made


def leaf_hashes(tenant_id: UUID = TENANT, log: str = "audit") -> list[bytes]:
    """The hashes of all numbered leaves, straight from the table, in order."""
    rows = Entry.unscoped.filter(tenant_id=tenant_id, log=log, leaf_index__isnull=False).order_by("leaf_index")
    return [leaf_hash(bytes(row.leaf)) for row in rows]


def indices(tenant_id: UUID = TENANT, log: str = "audit") -> list[int]:
    rows = Entry.unscoped.filter(tenant_id=tenant_id, log=log, leaf_index__isnull=False)
    return list(rows.order_by("leaf_index").values_list("leaf_index", flat=True))


def sequence(tenant_id: UUID = TENANT, log: str = "audit") -> int:
    return sequencer.sequence(tenant_id, log)


def export_to(path: Path, *, tenant_id: UUID = TENANT, log: str = "audit") -> Path:
    with tenant_scope(tenant_id):
        head = access.latest_checkpoint(log)
    path.write_bytes(b"".join(export.lines(tenant_id, log, head)))
    return path


@contextmanager
def as_database_administrator() -> Iterator[None]:
    """Take the triggers off, as whoever owns the database can, and put them back."""
    frozen = importlib.import_module("audit.migrations.0008_waiting")
    with connection.schema_editor() as editor:
        frozen.thaw(None, editor)
    try:
        yield
    finally:
        with connection.schema_editor() as editor:
            frozen.freeze(None, editor)
