# SPDX-License-Identifier: Apache-2.0
"""State machines as tables: the only code in the product that assigns a `state` column.

A move is a compare-and-set on the row's current state, so two processes never both make it.
It authorizes nothing and writes no audit entry: the verb that calls it does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.db import connection, models

from kernel import statements
from kernel.errors import Conflict


class TransitionTable:
    """Which state may follow which. A state that is not a key, or maps to nothing, is terminal."""

    def __init__(self, table: Mapping[str, frozenset[str]]) -> None:
        self.table = dict(table)

    def allows(self, origin: str, target: str) -> bool:
        """Tell whether the table lists the move."""
        return target in self.table.get(origin, frozenset())

    def check(self, origin: str, target: str) -> None:
        """Raise ValueError for a move the table does not list: a programming error."""
        if not self.allows(origin, target):
            raise ValueError(f"no transition from {origin} to {target}")

    def is_terminal(self, state: str) -> bool:
        """Tell whether nothing follows this state."""
        return not self.table.get(state)


def advance(row: models.Model, table: TransitionTable, target: str, **fields: Any) -> None:
    """Move `row` to `target` by compare-and-set on its current state, setting `fields` with it.

    Raises ValueError for a move that the table does not list (a programming error), and Conflict
    when another process moved the row first (the caller's 409).
    """
    origin: str = row.state  # type: ignore[attr-defined]
    table.check(origin, target)
    if _move(row, origin, {"state": target, **fields}) != 1:
        raise Conflict
    for name, value in {"state": target, **fields}.items():
        setattr(row, name, value)


def _move(row: models.Model, origin: str, fields: Mapping[str, Any]) -> int:
    meta: Any = row._meta
    quote = connection.ops.quote_name
    columns = [meta.get_field(name) for name in fields]
    set_to = ", ".join(f"{quote(column.column)} = %s" for column in columns)
    sql = f"UPDATE {quote(meta.db_table)} SET {set_to} WHERE {quote(meta.pk.column)} = %s AND state = %s RETURNING 1"  # noqa: S608 — our own names
    values = [column.get_prep_value(value) for column, value in zip(columns, fields.values(), strict=True)]
    return len(statements.run(sql, statements.plain((*values, row.pk, origin))))
