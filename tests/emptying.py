# SPDX-License-Identifier: Apache-2.0
"""Emptying the database behind a test that commits: only the tables with rows, the append-only ones as well.

Django's own way writes the permissions and content types of every model anew, and on PostgreSQL truncates every
table: several times what most tests cost.
"""

from __future__ import annotations

import importlib
from functools import cache
from typing import Any

from django.contrib.auth.models import Permission
from django.contrib.contenttypes.models import ContentType
from django.db import connection

# What follows from the models and no test changes.
KEPT = {Permission._meta.db_table, ContentType._meta.db_table}
# SQLite runs every trigger always, so those that refuse a deletion are dropped and made again.
FROZEN = [f"audit.migrations.{name}" for name in ("0008_waiting", "0005_transcript", "0006_restored")]


@cache
def _tables() -> tuple[str, ...]:
    names = connection.introspection.django_table_names(only_existing=True, include_views=False)
    return tuple(sorted(set(names) - KEPT))


def _with_rows(cursor: Any) -> list[str]:
    cursor.execute(" UNION ALL ".join(f"SELECT '{name}' WHERE EXISTS (SELECT 1 FROM {name})" for name in _tables()))
    return [name for (name,) in cursor.fetchall()]


def _on_postgres() -> None:
    with connection.cursor() as cursor:
        if names := _with_rows(cursor):
            # A replica's session runs no trigger: neither those that refuse, nor those of foreign keys.
            deletions = "".join(f"DELETE FROM {name};" for name in names)
            cursor.execute(f"DO $$ BEGIN SET LOCAL session_replication_role = replica; {deletions} END $$")


def _on_sqlite() -> None:
    frozen = [importlib.import_module(name) for name in FROZEN]
    with connection.schema_editor() as editor:
        for one in frozen:
            one.thaw(None, editor)
        with connection.cursor() as cursor:
            for name in _with_rows(cursor):
                cursor.execute(f"DELETE FROM {name}")
        for one in frozen:
            one.freeze(None, editor)


def empty() -> None:
    """Delete every row but those of `KEPT`; at once or not at all."""
    (_on_sqlite if connection.vendor == "sqlite" else _on_postgres)()
