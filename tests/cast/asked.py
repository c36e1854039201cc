# SPDX-License-Identifier: Apache-2.0
"""What one request asks of the database: every statement, with BEGIN, COMMIT and the nonce's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.db import connection
from django.test.utils import CaptureQueriesContext


def statements_of(act: Callable[[], Any], *, status: int | None = None) -> list[str]:
    """Do one request and return the statements that it took, in order. Only for tests whose transactions are real.

    status: of its answer; none where the act sees to it itself.
    """
    with CaptureQueriesContext(connection) as asked:
        answer = act()
    assert status is None or answer.status_code == status, answer.content
    return [query["sql"] for query in asked.captured_queries]


def on(*, postgresql: int, sqlite: int) -> int:
    """The number for the database under test: what PostgreSQL does in one statement may be several of SQLite's."""
    return postgresql if connection.vendor == "postgresql" else sqlite
