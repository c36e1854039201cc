# SPDX-License-Identifier: Apache-2.0
"""Whose time counts: the database's for every row that another process decides by.

FAULTS R6, W10. It sets no clock and judges none.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from django.db import connection

# Not PostgreSQL's CURRENT_TIMESTAMP, which is when the transaction began: it may have waited long for a lock since.
_NOW: Final = {"postgresql": "SELECT clock_timestamp()", "sqlite": "SELECT strftime('%Y-%m-%dT%H:%M:%f', 'now')"}


def database_now() -> datetime:
    """Return the time by the database's clock: one for all processes, whatever theirs say (FAULTS R6, W10)."""
    with connection.cursor() as cursor:
        cursor.execute(_NOW[connection.vendor])
        now = cursor.fetchone()[0]
    return now if isinstance(now, datetime) else datetime.fromisoformat(now).replace(tzinfo=UTC)
