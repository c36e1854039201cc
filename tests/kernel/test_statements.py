# SPDX-License-Identifier: Apache-2.0
"""The hot paths' statements give what a cursor gives, and a connection that was ended comes back by itself."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID

import pytest
from django.db import DataError, IntegrityError, OperationalError, close_old_connections, connection, transaction
from django.test.utils import CaptureQueriesContext

from kernel import statements
from kernel.models import Heartbeat

pytestmark = [pytest.mark.django_db, pytest.mark.postgres]
ID = UUID("0f8fad5b-d9cb-469f-a165-70867728950e")
AT = datetime(1999, 12, 31, 23, 59, 59, 123456, tzinfo=UTC)

# A type's name in PostgreSQL, a value of it, and what comes back.
VALUES: list[tuple[str, Any, Any]] = [
    ("uuid", ID, ID),
    ("bytea", b"\x00\xff\\'\n", b"\x00\xff\\'\n"),
    ("bytea", b"", b""),
    ("text", "a'\\%s\u2603\n", "a'\\%s\u2603\n"),
    ("varchar", "", ""),
    ("int8", -(2**63), -(2**63)),
    ("int4", 2**31 - 1, 2**31 - 1),
    ("int2", -1, -1),
    ("bool", True, True),
    ("bool", False, False),
    ("timestamptz", AT, AT),
    ("timestamptz", datetime(2030, 1, 2, 3, 4, 5, 6, tzinfo=UTC), datetime(2030, 1, 2, 3, 4, 5, 6, tzinfo=UTC)),
    ("date", date(2026, 2, 28), date(2026, 2, 28)),
    ("text", None, None),
]


@pytest.mark.postgres_only
@pytest.mark.parametrize(("kind", "value", "expected"), VALUES)
def test_value_comes_back_as_from_a_cursor(kind: str, value: Any, expected: Any) -> None:
    sql = f"SELECT %s::{kind}"
    assert statements.run(sql, [value]) == [(expected,)]
    with connection.cursor() as cursor:
        cursor.execute(sql, [value])
        ((by_cursor,),) = cursor.fetchall()
    by_cursor = bytes(by_cursor) if isinstance(by_cursor, memoryview) else by_cursor
    assert by_cursor == expected


@pytest.mark.postgres_only
def test_lists_names_and_percent_signs_are_read() -> None:
    found = statements.run(
        "SELECT x FROM unnest(%(ids)s::uuid[]) x WHERE x = %(one)s OR x = %(one)s", {"ids": [ID], "one": ID}
    )
    assert found == [(ID,)]
    assert statements.run("SELECT x FROM unnest(%s::int[]) x WHERE 7 %% 4 = x", [[1, 2, 3]]) == [(3,)]


@pytest.mark.postgres_only
def test_text_with_a_nul_is_refused_and_not_cut() -> None:
    with pytest.raises(ValueError, match="NUL"):
        statements.run("SELECT %s::text", ["a\0b"])


def test_statement_gives_its_rows_in_and_out_of_a_transaction_and_is_counted() -> None:
    sql = "SELECT count(*) FROM kernel_heartbeat WHERE name = %s"
    assert statements.run(sql, ["nobody"]) == [(0,)]
    with CaptureQueriesContext(connection) as queries:
        assert statements.run(sql, ["nobody"]) == [(0,)]
    assert len(queries) == 1


@pytest.mark.django_db(transaction=True)
def test_statement_is_part_of_the_transaction_and_outlives_its_end() -> None:
    table = Heartbeat._meta.db_table
    insert = f"INSERT INTO {table} (name, at) VALUES (%s, %s) RETURNING name"
    at = AT if connection.vendor == "postgresql" else connection.ops.adapt_datetimefield_value(AT)
    for _ in range(3):
        with transaction.atomic():
            assert statements.run(insert, ["one", at]) == [("one",)]
            transaction.set_rollback(True)
        assert not Heartbeat.objects.exists()
    with transaction.atomic():
        statements.run(insert, ["one", at])
        with pytest.raises(IntegrityError), transaction.atomic():
            statements.run(insert, ["one", at])
    assert Heartbeat.objects.get().name == "one"


@pytest.mark.postgres_only
def test_error_is_djangos_own() -> None:
    with pytest.raises(DataError), transaction.atomic():
        statements.run("SELECT 1 / %s::int", [0])
    assert statements.run("SELECT 1 / %s::int", [1]) == [(1,)]


def ask_another(sql: str) -> Any:
    """Ask about our connection over one of its own; %s is its number at the server."""
    import psycopg

    pid = connection.connection.info.backend_pid
    with psycopg.connect(**{**connection.get_connection_params(), "cursor_factory": psycopg.Cursor}) as other:
        ((answer,),) = other.execute(sql, [pid]).fetchall()
        return answer


def end_connection() -> None:
    """End our connection as an administrator does, or the server at its restart."""
    ask_another("SELECT pg_terminate_backend(%s, 5000)")


@pytest.mark.postgres_only
@pytest.mark.django_db(transaction=True)
def test_connection_that_was_ended_between_requests_is_made_anew_and_none_is_asked_whether_it_works() -> None:
    sql, last = "SELECT %s::int", "SELECT query FROM pg_stat_activity WHERE pid = %s"
    statements.run(sql, [1])
    same = connection.connection
    close_old_connections()  # as between two requests
    assert connection.is_usable()
    assert ask_another(last) == "SELECT $1::int", "nothing was asked since"
    assert statements.run(sql, [1]) == [(1,)]
    assert connection.connection is same
    end_connection()
    close_old_connections()
    assert statements.run(sql, [2]) == [(2,)]


@pytest.mark.postgres_only
@pytest.mark.django_db(transaction=True)
def test_connection_that_was_ended_in_a_request_fails_that_one_alone() -> None:
    sql = "SELECT %s::int"
    statements.run(sql, [1])
    end_connection()
    with pytest.raises(OperationalError):
        statements.run(sql, [1])
    close_old_connections()
    assert statements.run(sql, [2]) == [(2,)]
