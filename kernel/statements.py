# SPDX-License-Identifier: Apache-2.0
"""The statements of the hot paths: written by hand, prepared once per connection, without Django's cursors."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, Final, cast
from uuid import UUID

from django.db import connections

_PLACE: Final = re.compile(r"%(?:(s)|\((\w+)\)s|%)")


def run(sql: str, parameters: Sequence[Any] | Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """Run one statement, a constant of the code, in the transaction that is open if one is; return its rows.

    On PostgreSQL the parameters are None, bool, int, str, bytes, UUID, datetime or a list of ids or numbers, and octets
    come as bytes. What no statement of ours gives, a cursor reads. Raises Django's database errors.
    """
    connection = connections["default"]
    # Who counts or watches the statements of a connection does so at its cursors.
    if connection.queries_logged or connection.execute_wrappers:
        with connection.cursor() as cursor:
            cursor.execute(sql, parameters)
            return cursor.fetchall() if cursor.description else []
    if connection.vendor == "postgresql":
        return cast("list[tuple[Any, ...]]", cast(Any, connection).run(sql, parameters))
    return _run_on_sqlite(connection, sql, parameters)


def _run_on_sqlite(connection: Any, sql: str, parameters: Sequence[Any] | Mapping[str, Any]) -> list[tuple[Any, ...]]:
    connection.close_if_health_check_failed()
    connection.ensure_connection()
    connection.validate_thread_sharing()
    connection.validate_no_broken_transaction()
    with connection.wrap_database_errors:
        return cast("list[tuple[Any, ...]]", connection.connection.execute(_for_sqlite(sql), parameters).fetchall())


@lru_cache(maxsize=1024)
def _for_sqlite(sql: str) -> str:
    return _PLACE.sub(lambda found: "?" if found[1] else f":{found[2]}" if found[2] else "%", sql)


def parameter(value: Any) -> Any:
    """Return a value as `run` takes it: SQLite has no type for an id or a time."""
    return plain([value])[0]


def plain(values: Sequence[Any]) -> list[Any]:
    """Return values as `run` takes them."""
    connection = connections["default"]
    if connection.features.has_native_uuid_field:
        return list(values)
    return [
        value.hex
        if isinstance(value, UUID)
        else connection.ops.adapt_datetimefield_value(value)
        if isinstance(value, datetime)
        else value
        for value in values
    ]
