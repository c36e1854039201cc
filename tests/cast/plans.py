# SPDX-License-Identifier: Apache-2.0
"""How the database means to answer a query: that no page of a list sorts what it does not show."""

from __future__ import annotations

from django.db import connection, transaction


def plan(sql: str) -> str:
    """Return how the database answers a query of a large table, and see that it sorts nothing.

    PostgreSQL is told that its other ways are dear: it has no figures of a table that is large.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute(f"EXPLAIN QUERY PLAN {sql}")
        else:
            for way in ("seqscan", "sort", "bitmapscan", "hashagg"):
                cursor.execute(f"SET LOCAL enable_{way} = off")
            cursor.execute(f"EXPLAIN {sql}")
        found = " ".join(str(row[-1]) for row in cursor.fetchall())
    assert "TEMP B-TREE" not in found, found
    assert "Sort" not in found, found
    return found
