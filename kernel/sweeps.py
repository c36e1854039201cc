# SPDX-License-Identifier: Apache-2.0
"""Deleting what is over, a little at a time.

Implements PLATFORM "Work that takes time": a sweep that was away for a month comes back to a million rows, and must
hold neither SQLite's one writer nor a transaction open for all of them.
"""

from __future__ import annotations

from typing import Any, Final

from django.db.models import QuerySet

from kernel.scope import at_work

# Some milliseconds of SQLite's write lock. More at once would be a little quicker, and make requests wait.
BATCH: Final = 500


def delete_in_batches(rows: QuerySet[Any], *, of_all: bool = False) -> int:
    """Delete the selected rows, which nothing refers to, at most `BATCH` to a statement; return how many there were.

    Those of a tenant that rests stay, unless they are of_all: such as count or carry requests, and are no state.

    Call it outside a transaction, so that each statement commits by itself. An index has to lead to the rows.
    """
    if not of_all and any(field.attname == "tenant_id" for field in rows.model._meta.concrete_fields):
        rows = at_work(rows)
    count = 0
    while True:
        some = rows.model._base_manager.filter(pk__in=rows.order_by().values("pk")[:BATCH])
        gone: int = some.delete()[0]
        count += gone
        if gone < BATCH:
            return count
