# SPDX-License-Identifier: Apache-2.0
"""The triggers: nothing in the logs is changed or deleted through the database as the product uses it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import DatabaseError, connection, transaction
from django.db.models import F, Value
from django.db.models.functions import Concat
from django.utils import timezone

from audit.models import AcceptedLog, Checkpoint, Entry, LogHead, Tile, Transcript
from tests.audit.support import TENANT, append, sequence

ATTEMPTS: dict[str, Callable[[], Any]] = {
    "entry deleted": lambda: Entry.unscoped.filter(leaf_index=0).delete(),
    "pending entry deleted": lambda: Entry.unscoped.filter(leaf_index=None).delete(),
    "leaf edited": lambda: Entry.unscoped.filter(leaf_index=0).update(leaf=b"forged"),
    "pending leaf edited": lambda: Entry.unscoped.filter(leaf_index=None).update(leaf=b"forged", leaf_index=9),
    "column edited": lambda: Entry.unscoped.filter(leaf_index=0).update(subject="forged"),
    "pending column edited": lambda: Entry.unscoped.filter(leaf_index=None).update(actor="forged"),
    "index moved": lambda: Entry.unscoped.filter(leaf_index=0).update(leaf_index=7),
    "index taken back": lambda: Entry.unscoped.filter(leaf_index=0).update(leaf_index=None),
    "tile deleted": lambda: Tile.unscoped.all().delete(),
    "tile rewritten": lambda: Tile.unscoped.update(hashes=bytes(96)),
    "tile cut": lambda: Tile.unscoped.update(hashes=b""),
    "tile moved": lambda: Tile.unscoped.update(index=1),
    "head deleted": lambda: LogHead.unscoped.all().delete(),
    "head put back": lambda: LogHead.unscoped.update(size=F("size") - 1),
    "edge rewritten": lambda: LogHead.unscoped.update(edge=bytes(8)),
    "checkpoint deleted": lambda: Checkpoint.unscoped.all().delete(),
    "checkpoint of another root": lambda: Checkpoint.unscoped.update(root=bytes(32)),
    "checkpoint of another size": lambda: Checkpoint.unscoped.update(size=F("size") + 1),
    "transcript deleted": lambda: Transcript.unscoped.all().delete(),
    "transcript rewritten": lambda: Transcript.unscoped.update(text=b"forged"),
    "accepted log deleted": lambda: AcceptedLog.unscoped.all().delete(),
    "accepted log rewritten": lambda: AcceptedLog.unscoped.update(statement=b"forged"),
    "entry of a taken index": lambda: Entry.unscoped.filter(leaf_index=None).update(leaf_index=0),
}


@pytest.mark.postgres
@pytest.mark.django_db
@pytest.mark.usefixtures("log_token")
@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_database_refuses_every_change_but_growth(attempt: str) -> None:
    append(3)
    sequence()
    append(1)
    Transcript.unscoped.create(
        tenant_id=TENANT, number=1, text=b"said", installation_lines=1, own_lines=1, made_at=timezone.now()
    )
    AcceptedLog.unscoped.create(tenant_id=TENANT, statement=b"said", audit_size=1, keys_size=1, at=timezone.now())
    before = _everything()
    with pytest.raises(DatabaseError), transaction.atomic():
        ATTEMPTS[attempt]()
    assert _everything() == before


@pytest.mark.postgres
@pytest.mark.django_db
@pytest.mark.usefixtures("log_token")
def test_database_takes_growth() -> None:
    append(3)
    sequence()
    append(1)
    assert Entry.unscoped.filter(leaf_index=None).update(leaf_index=3) == 1
    assert Checkpoint.unscoped.update(note=Concat("note", Value("\n"))) == 1


@pytest.mark.postgres_only
@pytest.mark.django_db
def test_database_refuses_to_empty_a_table() -> None:
    for table in ["entry", "tile", "loghead", "checkpoint", "transcript", "acceptedlog"]:
        with pytest.raises(DatabaseError), transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(f"TRUNCATE audit_{table}")


def _everything() -> list[list[tuple[Any, ...]]]:
    return [
        [
            tuple(bytes(value) if isinstance(value, memoryview) else value for value in row)
            for row in model.unscoped.order_by("pk").values_list()
        ]
        for model in (Entry, Tile, LogHead, Checkpoint, Transcript, AcceptedLog)
    ]
