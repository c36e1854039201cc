# SPDX-License-Identifier: Apache-2.0
"""What may come without end: its beginning is in the log, the rest is one count (FAULTS L10)."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from django.db import connections, transaction

from audit import services
from audit.models import Entry, Tally
from kernel.scope import tenant_scope
from kernel.sweeps import BATCH
from tests.audit.support import OTHER, TAG, TENANT, actor

pytestmark = [pytest.mark.postgres, pytest.mark.django_db]
COUNTED = "audit:entries:counted"
WHO = {tenant: actor(tenant) for tenant in (TENANT, OTHER)}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The time of entries: the beginning of an hour, moved by hand."""
    at = [datetime(2026, 1, 1, 12, tzinfo=UTC)]
    monkeypatch.setattr(services, "timezone", SimpleNamespace(now=lambda: at[0]))
    return at


def read(times: int, *, tenant: Any = TENANT, **more: Any) -> int:
    """Do one thing again and again, and return how often it was an entry."""
    with tenant_scope(tenant), transaction.atomic():
        entries = [services.append_first(tag=TAG, actor=WHO[tenant], **more) for _ in range(times)]
    return sum(entry is not None for entry in entries)


def counted() -> list[tuple[str, dict[str, Any]]]:
    rows = Entry.unscoped.filter(tag=COUNTED).order_by("seq")
    return [(row.subject, row.body) for row in rows]


def test_first_of_an_hour_is_an_entry_and_the_rest_one_count_when_it_is_over(clock: Any) -> None:
    assert [read(1, subject="a"), read(4, subject="a")] == [1, 0]
    assert services.conclude_hours() == 0, "the hour is not over"
    clock[0] += timedelta(hours=1)
    assert read(1, subject="a") == 1
    assert services.conclude_hours() == 1
    assert counted() == [("a", {"tag": TAG, "by": WHO[TENANT].label, "count": 4})]
    assert (services.conclude_hours(), Tally.unscoped.count()) == (0, 1)


def test_what_came_once_is_not_counted_a_second_time(clock: Any) -> None:
    assert read(1) == 1
    clock[0] += timedelta(hours=1)
    assert services.conclude_hours() == 0
    assert (counted(), Tally.unscoped.count()) == ([], 0)


def test_other_subjects_other_kinds_and_other_tenants_are_entries(clock: Any) -> None:
    assert read(2, subject="a") + read(2, subject="b") + read(2, subject="a", apart="x") == 3
    assert read(2, subject="a", tenant=OTHER) == 1


def test_all_subjects_together_have_as_many_entries_as_are_asked_for(clock: Any) -> None:
    assert sum(read(1, subject=str(n), most=3, all_subjects=True) for n in range(10)) == 3
    clock[0] += timedelta(hours=1)
    services.conclude_hours()
    assert counted() == [("", {"tag": TAG, "by": WHO[TENANT].label, "count": 7})]


def test_count_is_undone_with_the_act(clock: Any) -> None:
    with tenant_scope(TENANT), transaction.atomic():
        services.append_first(tag=TAG, actor=WHO[TENANT])
        transaction.set_rollback(True)
    assert read(1) == 1, "an entry that was undone is made again"


def test_long_backlog_is_concluded(clock: Any) -> None:
    number = BATCH + 1
    for n in range(number):
        read(2, subject=str(n))
    clock[0] += timedelta(hours=5)
    assert services.conclude_hours() == number
    assert (len(counted()), Tally.unscoped.count()) == (number, 0)


@pytest.mark.django_db(transaction=True)
def test_of_many_at_once_one_is_an_entry() -> None:
    found: list[int] = []

    def work() -> None:
        found.extend(read(1, subject="a") for _ in range(3))
        connections.close_all()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(found) == Entry.unscoped.filter(subject="a").count() == 1
    assert Tally.unscoped.get().count == 24
