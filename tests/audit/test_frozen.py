# SPDX-License-Identifier: Apache-2.0
"""The triggers: nothing in the logs is changed or deleted through the database as the product uses it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from django.db import DatabaseError, connection, transaction
from django.db.models import F, Value
from django.db.models.functions import Concat
from django.utils import timezone

from audit.models import AcceptedLog, Checkpoint, LogHead, Numbered, Tile, Transcript, Waiting
from tests.audit.support import TENANT, append, sequence

ATTEMPTS: dict[str, Callable[[], Any]] = {
    "entry deleted": lambda: Numbered.unscoped.filter(leaf_index=0).delete(),
    "waiting entry deleted": lambda: Waiting.unscoped.all().delete(),
    "leaf edited": lambda: Numbered.unscoped.filter(leaf_index=0).update(leaf=b"forged"),
    "waiting leaf edited": lambda: Waiting.unscoped.update(leaf=b"forged"),
    "waiting leaf edited and refused": lambda: Waiting.unscoped.update(leaf=b"forged", refused="key"),
    "column edited": lambda: Numbered.unscoped.filter(leaf_index=0).update(subject="forged"),
    "waiting column edited": lambda: Waiting.unscoped.update(actor="forged"),
    "index moved": lambda: Numbered.unscoped.filter(leaf_index=0).update(leaf_index=7),
    "index taken back": lambda: Numbered.unscoped.filter(leaf_index=0).update(leaf_index=None),
    "entry inserted that did not wait": lambda: _number(id=uuid4()),
    "entry inserted with another leaf": lambda: _number(leaf=b"forged"),
    "entry inserted without an index": lambda: _number(leaf_index=None),
    "waiting entry inserted as refused": lambda: _wait(refused="key"),
    "refused entry given an index": lambda: _number(of=_refused()),
    "refusal taken back": lambda: _refused() and Waiting.unscoped.update(refused=""),
    "refusal changed": lambda: _refused() and Waiting.unscoped.update(refused="role"),
    "refused entry deleted": lambda: _refused() and Waiting.unscoped.all().delete(),
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
    "entry of a taken index": lambda: _number(leaf_index=0),
}


def _number(of: Waiting | None = None, **changes: Any) -> None:
    """Give the row that waits its index, as the sequencer does, but for what is told otherwise."""
    row = of or Waiting.unscoped.get()
    Numbered.unscoped.create(**{name: getattr(row, name) for name in COLUMNS} | {"leaf_index": 3} | changes)


def _wait(**changes: Any) -> None:
    row = Waiting.unscoped.get()
    columns = {name: getattr(row, name) for name in COLUMNS if name != "seq"}
    Waiting.unscoped.create(**columns | {"id": uuid4()} | changes)


def _refused() -> Waiting:
    """Have the row that waits refused, which is for ever."""
    Waiting.unscoped.update(refused="key")
    row: Waiting = Waiting.unscoped.get()
    return row


COLUMNS = ("seq", "id", "tenant_id", "log", "leaf", "tag", "actor", "person_id", "subject", "time", "body")


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
    _number()
    assert Waiting.unscoped.all().delete()[0] == 1
    append(1)
    assert Waiting.unscoped.update(refused="key") == 1
    assert Checkpoint.unscoped.update(note=Concat("note", Value("\n"))) == 1


@pytest.mark.postgres_only
@pytest.mark.django_db
def test_database_refuses_to_empty_a_table() -> None:
    for table in ["entry", "waiting", "tile", "loghead", "checkpoint", "transcript", "acceptedlog"]:
        with pytest.raises(DatabaseError), transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(f"TRUNCATE audit_{table}")


def _everything() -> list[list[tuple[Any, ...]]]:
    return [
        [
            tuple(bytes(value) if isinstance(value, memoryview) else value for value in row)
            for row in model.unscoped.order_by("pk").values_list()
        ]
        for model in (Numbered, Waiting, Tile, LogHead, Checkpoint, Transcript, AcceptedLog)
    ]
