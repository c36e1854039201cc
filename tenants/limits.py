# SPDX-License-Identifier: Apache-2.0
"""Counting windows: at most so many tries of one thing from one source in one stretch of time.

Implements FAULTS I10a and T9 (the tenant is part of every key). Counts in the shared database, so that several
web processes count together; a count is committed at once, whatever becomes of the request.
"""

from __future__ import annotations

from datetime import UTC, datetime

from django.db import connection
from django.utils import timezone

from kernel.errors import Throttled
from tenants.models import RateWindow


def count_against(key: str, *, limit: int, seconds: int) -> None:
    """Count one try of `key` in the current window of `seconds`. Raises Throttled above `limit`.

    Call it outside the act's transaction: a refused act must still be counted.
    """
    now = int(timezone.now().timestamp())
    window = now // seconds
    ends = (window + 1) * seconds
    if _increment(key, window, datetime.fromtimestamp(ends, UTC)) > limit:
        raise Throttled(retry_after=ends - now)


def _increment(key: str, window: int, expires_at: datetime) -> int:
    table = RateWindow._meta.db_table
    with connection.cursor() as cursor:
        cursor.execute(
            f'INSERT INTO {table} (key, "window", count, expires_at) VALUES (%s, %s, 1, %s)'  # noqa: S608 — our own table's name
            f' ON CONFLICT (key, "window") DO UPDATE SET count = {table}.count + 1 RETURNING count',
            [key[:120], window, connection.ops.adapt_datetimefield_value(expires_at)],
        )
        return int(cursor.fetchone()[0])
