# SPDX-License-Identifier: Apache-2.0
"""The statements of the hot paths: written by hand, prepared once per connection on PostgreSQL, without a cursor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from django.db import connections


def run(sql: str, parameters: Sequence[Any] | Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """Run one statement, a constant of the code, in the transaction that is open if one is; return its rows.

    On PostgreSQL the parameters are None, bool, int, str, bytes, UUID, datetime or a list of ids or numbers, and octets
    come as bytes. What no statement of ours gives, a cursor reads. Raises Django's database errors.
    """
    connection = connections["default"]
    # Who counts or watches the statements of a connection does so at its cursors.
    is_watched = connection.queries_logged or connection.execute_wrappers
    if connection.vendor == "postgresql" and not is_watched:
        return cast("list[tuple[Any, ...]]", cast(Any, connection).run(sql, parameters))
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return cursor.fetchall() if cursor.description else []
