# SPDX-License-Identifier: Apache-2.0
"""The list of cases in pages: whole and in order, and each page costs what the first one does."""

from __future__ import annotations

import re
import uuid
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from kernel.scope import tenant_scope
from recovery.models import Case
from recovery.states import CaseState
from tests.cast.plans import plan
from tests.cast.world import World, columns_of

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgres]
OPEN, OVER = 230, 230  # more than two pages of each
# A page is read by as many statements wherever it lies: what follows a row is found by that row.
STATEMENTS = 30


def many(world: World) -> list[str]:
    """Give the tenant cases, half of them over, opened one after another but for pairs; return their ids as listed."""
    like = world.row(world.opened(world.deposit()))
    kept = columns_of(like)
    rows = [like]
    for number in range(1, OPEN + OVER):
        one, at = uuid.uuid4(), like.opened_at + timedelta(seconds=number // 2)
        # By turns: neither part lies together in the order of dates.
        ended = {"state": CaseState.CANCELLED, "ended_at": at} if number % 2 else {}
        rows.append(Case(**kept | {"id": one, "q": one.bytes * 2, "opened_at": at} | ended))
    with tenant_scope(world.tenant_id):
        Case.objects.bulk_create(rows[1:])
    rows.sort(key=lambda row: (row.ended_at is None, row.opened_at, row.id), reverse=True)
    return [str(row.id) for row in rows]


def test_list_is_whole_and_no_page_sorts_or_passes_over_others(world: World) -> None:
    wanted = many(world)
    officer = world.directory.phone("olivia")
    seen: list[str] = []
    counts: list[int] = []
    query = ""
    while True:
        with CaptureQueriesContext(connection) as captured:
            answer = officer.send("GET", f"/api/v1/cases{query}").json()
        counts.append(len(captured))
        pages = [
            one["sql"]
            for one in captured
            if re.search(r'FROM "recovery_case" .*ORDER BY "recovery_case"."opened_at"', one["sql"])
        ]
        assert pages
        for sql in pages:
            assert "_by_date" in plan(sql), plan(sql)
        seen += [listed["case_id"] for listed in answer["cases"]]
        if not answer["more"]:
            break
        query = f"?after={seen[-1]}"
    assert seen == wanted
    assert max(counts) <= STATEMENTS, counts
