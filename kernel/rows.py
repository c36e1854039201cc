# SPDX-License-Identifier: Apache-2.0
"""Whole rows of the open tenant past the model layer's query builder: the same rows, by a condition written by hand.

Implements the speed goal of a release. A query that is built each time takes a millisecond of CPU, and the same one
written down and prepared a tenth. What comes of it are the model's own instances, with the model's own conversions.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from django.db import connection, connections, models, transaction
from django.db.models.expressions import Col

from kernel import statements
from kernel.scope import ForeignRow, TenantModel, current_tenant

Row = TypeVar("Row", bound=TenantModel)
_Convert = Callable[[Any, Any, Any], Any]


@dataclass(frozen=True)
class _Made:
    """A statement, the names of what it gives, and (place, column, conversion) of what its values still need."""

    sql: str
    names: tuple[str, ...]
    conversions: tuple[tuple[int, Col, _Convert], ...]


class Rows(Generic[Row]):
    """The rows of one model and of the open tenant for which a condition holds; made once, at import.

    condition: SQL with %s for each value that `read` is given, over the model's own columns. order: SQL as well. locks:
    whether the rows stay locked until the transaction ends, which has to be open.
    """

    def __init__(self, model: type[Row], condition: str, *, order: str = "", locks: bool = False) -> None:
        self._model, self._condition, self._locks = model, condition, locks
        self._order = f" ORDER BY {order}" if order else ""
        self._made: dict[str, _Made] = {}

    def read(self, *values: Any) -> list[Row]:
        """Return the rows, in their order. Raises Django's database errors, and outside a scope as `current_tenant`."""
        to = connections["default"]
        if self._locks and not to.in_atomic_block:
            raise transaction.TransactionManagementError("rows are locked inside a transaction")
        made = self._made.get(to.vendor) or self._make()
        found = statements.run(made.sql, statements.plain((current_tenant(), *values)))
        rows = []
        for cells in map(list, found):
            for place, column, convert in made.conversions:
                cells[place] = convert(cells[place], column, to)
            rows.append(self._model.from_db("default", made.names, cells))
        return rows

    def first(self, *values: Any) -> Row | None:
        """Return the first of the rows, if there is one. All of them are read: for a condition that one row fits."""
        return next(iter(self.read(*values)), None)

    def _make(self) -> _Made:
        meta: Any = self._model._meta
        quote = connection.ops.quote_name
        columns = [field.get_col(meta.db_table) for field in meta.concrete_fields]
        conversions = tuple(
            (place, column, convert)
            for place, column in enumerate(columns)
            for convert in (*connection.ops.get_db_converters(column), *column.get_db_converters(connection))
        )
        is_postgres = connection.vendor == "postgresql"
        named = ", ".join(
            quote(column.target.column) + ("::text" if is_postgres and _is_json(column.target) else "")
            for column in columns
        )
        lock = " FOR UPDATE" if self._locks and is_postgres else ""
        sql = (
            f"SELECT {named} FROM {quote(meta.db_table)} WHERE tenant_id = %s AND {self._condition}{self._order}{lock}"  # noqa: S608 — our own names and conditions
        )
        made = self._made[connection.vendor] = _Made(sql, tuple(one.target.attname for one in columns), conversions)
        return made


def _is_json(field: Any) -> bool:
    return isinstance(field, models.JSONField)


_INSERTS: Final[dict[tuple[str, type[models.Model], int, bool], str]] = {}


def insert(*rows: TenantModel, once: bool = False) -> int:
    """Insert new rows of one model for the open tenant in one statement, and return how many were.

    once: one that a unique key of its table keeps out is left out, and was never there. Values are plain: no
    expressions. Raises ForeignRow for a row of another tenant, and Django's database errors.
    """
    for row in rows:
        row.tenant_id = row.tenant_id or current_tenant()
        if row.tenant_id != current_tenant():
            raise ForeignRow(type(row).__name__)
    model = type(rows[0])
    values = [_value(row, field) for row in rows for field in model._meta.concrete_fields]
    return len(statements.run(_insert_statement(model, len(rows), once=once), statements.plain(values)))


def _value(row: TenantModel, field: Any) -> Any:
    value = field.get_prep_value(field.pre_save(row, add=True))
    return json.dumps(value) if _is_json(field) and value is not None else value


def _insert_statement(model: type[TenantModel], count: int, *, once: bool) -> str:
    key = (connection.vendor, model, count, once)
    if key not in _INSERTS:
        meta: Any = model._meta
        quote, fields = connection.ops.quote_name, meta.concrete_fields
        places = ", ".join("%s::jsonb" if _is_json(one) and key[0] == "postgresql" else "%s" for one in fields)
        columns = ", ".join(quote(field.column) for field in fields)
        conflict = " ON CONFLICT DO NOTHING" if once else ""
        _INSERTS[key] = (
            f"INSERT INTO {quote(meta.db_table)} ({columns}) VALUES "  # noqa: S608 — our own names
            + ", ".join([f"({places})"] * count)
            + f"{conflict} RETURNING 1"
        )
    return _INSERTS[key]
