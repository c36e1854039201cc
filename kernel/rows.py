# SPDX-License-Identifier: Apache-2.0
"""Whole rows of the open tenant past the model layer's query builder: the same rows, by a condition written by hand.

Implements the speed goal of a release. A query that is built each time takes a millisecond of CPU, and the same one
written down and prepared a tenth. What comes of it are the model's own instances, with the model's own conversions.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, Generic, TypeVar

from django.db import connection, connections, models, transaction
from django.db.models.expressions import Col

from kernel import statements
from kernel.scope import ForeignRow, TenantModel, current_tenant

Row = TypeVar("Row", bound=TenantModel)
_Convert = Callable[[Any, Any, Any], Any]


@dataclass(frozen=True)
class _Columns:
    """A model's columns as SQL, the names of what they give, and (place, column, conversion) of what it still needs."""

    sql: str
    names: tuple[str, ...]
    conversions: tuple[tuple[int, Col, _Convert], ...]


class Rows(Generic[Row]):
    """The rows of one model and of the open tenant for which a condition holds; made once, at import.

    condition: SQL with %s for each value that `read` is given, over the model's own columns; a value may be a list, for
    `column IN (%s)`. order: SQL as well. locks: whether the rows stay locked until the transaction ends, which has to
    be open.
    """

    def __init__(self, model: type[Row], condition: str, *, order: str = "", locks: bool = False) -> None:
        self._model, self._condition, self._locks = model, condition, locks
        self._order = f" ORDER BY {order}" if order else ""
        self._statements: dict[tuple[Any, ...], str] = {}

    def read(self, *values: Any) -> list[Row]:
        """Return the rows, in their order. Raises Django's database errors, and outside a scope as `current_tenant`."""
        to = connections["default"]
        if self._locks and not to.in_atomic_block:
            raise transaction.TransactionManagementError("rows are locked inside a transaction")
        columns = _columns(to.vendor, self._model)
        # A list has the next power of two of places, so that there are few statements: NULL is equal to nothing.
        sizes = tuple(1 << len(value).bit_length() if isinstance(value, list) else 0 for value in values)
        sql = self._statements.get((to.vendor, *sizes)) or self._statement(to.vendor, columns.sql, sizes)
        given: list[Any] = [current_tenant()]
        for value, size in zip(values, sizes, strict=True):
            given += [*value, *[None] * (size - len(value))] if size else [value]
        rows = []
        for cells in map(list, statements.run(sql, statements.plain(given))):
            for place, column, convert in columns.conversions:
                cells[place] = convert(cells[place], column, to)
            rows.append(self._model.from_db("default", columns.names, cells))
        return rows

    def first(self, *values: Any) -> Row | None:
        """Return the first of the rows, if there is one. All of them are read: for a condition that one row fits."""
        return next(iter(self.read(*values)), None)

    def _statement(self, vendor: str, columns: str, sizes: tuple[int, ...]) -> str:
        first, *parts = self._condition.split("%s")
        places = [", ".join(["%s"] * (size or 1)) for size in sizes]
        condition = first + "".join(place + part for place, part in zip(places, parts, strict=True))
        table, lock = self._model._meta.db_table, " FOR UPDATE" if self._locks and vendor == "postgresql" else ""
        sql = f"SELECT {columns} FROM {table} WHERE tenant_id = %s AND ({condition}){self._order}{lock}"  # noqa: S608 — our own names
        self._statements[(vendor, *sizes)] = sql
        return sql


@cache
def _columns(vendor: str, model: type[TenantModel]) -> _Columns:
    meta: Any = model._meta
    quote = connection.ops.quote_name
    columns = [field.get_col(meta.db_table) for field in meta.concrete_fields]
    # JSON comes as its text on both databases, which is what the field's own conversion reads.
    named = [
        quote(column.target.column) + ("::text" if vendor == "postgresql" and _is_json(column.target) else "")
        for column in columns
    ]
    conversions = tuple(
        (place, column, convert)
        for place, column in enumerate(columns)
        for convert in (*connection.ops.get_db_converters(column), *column.get_db_converters(connection))
    )
    return _Columns(", ".join(named), tuple(one.target.attname for one in columns), conversions)


def _is_json(field: Any) -> bool:
    return isinstance(field, models.JSONField)


def insert(*rows: TenantModel, once: bool = False) -> int:
    """Insert new rows of one model for the open tenant in one statement, and return how many were.

    once: one that a unique key of its table keeps out is left out, and was never there. Values are plain: no
    expressions. A number that the database gives as primary key is not read back. Raises ForeignRow for a row of
    another tenant, and Django's database errors.
    """
    for row in rows:
        row.tenant_id = row.tenant_id or current_tenant()
        if row.tenant_id != current_tenant():
            raise ForeignRow(type(row).__name__)
    if not rows:
        return 0
    model = type(rows[0])
    values = [_value(row, field) for row in rows for field in _given(model)]
    return len(statements.run(_insert_statement(connection.vendor, model, len(rows), once), statements.plain(values)))


@cache
def _given(model: type[TenantModel]) -> tuple[Any, ...]:
    """The columns whose values are given: all but a primary key that the database counts."""
    return tuple(field for field in model._meta.concrete_fields if not isinstance(field, models.AutoField))


def _value(row: TenantModel, field: Any) -> Any:
    value = field.get_prep_value(field.pre_save(row, add=True))
    return json.dumps(value) if _is_json(field) and value is not None else value


@lru_cache(maxsize=64)
def _insert_statement(vendor: str, model: type[TenantModel], count: int, once: bool) -> str:
    meta: Any = model._meta
    quote, fields = connection.ops.quote_name, _given(model)
    row = ", ".join("%s::jsonb" if _is_json(one) and vendor == "postgresql" else "%s" for one in fields)
    columns = ", ".join(quote(field.column) for field in fields)
    conflict = " ON CONFLICT DO NOTHING" if once else ""
    rows = ", ".join([f"({row})"] * count)
    return f"INSERT INTO {quote(meta.db_table)} ({columns}) VALUES {rows}{conflict} RETURNING 1"  # noqa: S608 — our own names
