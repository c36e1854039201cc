# SPDX-License-Identifier: Apache-2.0
"""Deleting what is over, a little at a time.

Implements PLATFORM "Work that takes time": a sweep that was away for a month comes back to a million rows, and must
hold neither SQLite's one writer nor a transaction open for all of them.
"""

from __future__ import annotations

from typing import Any, Final

from django.db.models import QuerySet

# Some milliseconds of SQLite's write lock. More at once would be a little quicker, and make requests wait.
BATCH: Final = 500


def delete_in_batches(rows: QuerySet[Any]) -> int:
    """Delete the selected rows, which nothing refers to, at most `BATCH` to a statement; return how many there were.

    Call it outside a transaction, so that each statement commits by itself. An index has to lead to the rows.
    """
    count = 0
    while True:
        some = rows.model._base_manager.filter(pk__in=rows.order_by().values("pk")[:BATCH])
        gone: int = some.delete()[0]
        count += gone
        if gone < BATCH:
            return count
