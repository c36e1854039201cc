# SPDX-License-Identifier: Apache-2.0
"""How the database means to answer a query: that no page of a list sorts what it does not show."""

from __future__ import annotations

from django.db import connection


def plan(sql: str) -> str:
    """Return how the database answers a query of a large table: what it takes for one, it has no figures of."""
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute(f"EXPLAIN QUERY PLAN {sql}")
            found = " ".join(str(row[-1]) for row in cursor.fetchall())
            assert "TEMP B-TREE" not in found, found
            return found
        cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute("SET LOCAL enable_sort = off")
        cursor.execute("SET LOCAL enable_bitmapscan = off")
        cursor.execute(f"EXPLAIN {sql}")
        found = " ".join(str(row[0]) for row in cursor.fetchall())
        assert "Sort" not in found, found
        return found
