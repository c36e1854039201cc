# SPDX-License-Identifier: Apache-2.0
"""The database of a test as it is now, to be put back later: what a backup of the database alone is.

Everything outside of it (tokens, directories, what clients hold) stays as it is.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

from django.db import connection, transaction


def copied_database() -> Callable[[], None]:
    """Copy the database and return what puts the copy back. For tests with `transaction=True`."""
    connection.ensure_connection()
    return _copied_postgres() if connection.vendor == "postgresql" else _copied_sqlite()


def _copied_sqlite() -> Callable[[], None]:
    copy = sqlite3.connect(":memory:", check_same_thread=False)
    connection.connection.backup(copy)

    def restore() -> None:
        connection.ensure_connection()
        copy.backup(connection.connection)

    return restore


def _copied_postgres() -> Callable[[], None]:
    """As pg_dump and pg_restore do it: the rows of every table and where each sequence stood, without any trigger."""
    with connection.cursor() as cursor:
        tables = ", ".join(f'"{name}"' for name in connection.introspection.table_names(cursor))
        cursor.execute("SELECT sequencename, coalesce(last_value, 1), last_value IS NOT NULL FROM pg_sequences")
        sequences = cursor.fetchall()
        rows: dict[str, bytes] = {}
        for name in tables.split(", "):
            with cursor.copy(f"COPY {name} TO STDOUT (FORMAT BINARY)") as copy:
                rows[name] = b"".join(bytes(part) for part in copy)

    def restore() -> None:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SET LOCAL session_replication_role = replica")
            cursor.execute(f"TRUNCATE {tables}")
            for name, data in rows.items():
                with cursor.copy(f"COPY {name} FROM STDIN (FORMAT BINARY)") as copy:
                    copy.write(data)
            for sequence in sequences:
                cursor.execute("SELECT setval(%s, %s, %s)", sequence)

    return restore
