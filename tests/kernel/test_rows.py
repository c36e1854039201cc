# SPDX-License-Identifier: Apache-2.0
"""Rows read and written by hand are the model layer's own, and stay inside their tenant."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db import IntegrityError, transaction

from kernel.models import Job, ReplayableAnswer
from kernel.rows import Rows, insert
from kernel.scope import ForeignRow, TenantModel, UnscopedQuery, tenant_scope

pytestmark = [pytest.mark.django_db, pytest.mark.postgres]
AT = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
ALL = Rows(Job, "kind = %s OR kind = %s", order="run_at DESC")


@pytest.fixture
def tenant() -> UUID:
    return uuid4()


def job(**changes: Any) -> Job:
    return Job(**{"kind": "a", "queue": "q", "run_at": AT, "payload": {"é": [1, None]}} | changes)


def values(row: TenantModel) -> dict[str, Any]:
    octets = {field.attname: getattr(row, field.attname) for field in row._meta.concrete_fields}
    return {name: bytes(value) if isinstance(value, memoryview) else value for name, value in octets.items()}


@pytest.mark.parametrize(
    "row",
    [
        job(unique="once", lease_until=AT, attempts=7),
        job(payload={}),
        ReplayableAnswer(actor_id=UUID(int=1), key="k", request_hash=b"\0" * 32, status=201, body=b"\xff%s\0"),
    ],
)
def test_row_is_the_one_that_the_model_layer_reads(tenant: UUID, row: TenantModel) -> None:
    model = type(row)
    with tenant_scope(tenant):
        assert insert(row) == 1
        (found,) = Rows(model, "id = %s").read(row.pk)
        expected = model.objects.get(pk=row.pk)
        assert values(found) == values(expected) == values(row)
        assert (found._state.adding, found._state.db) == (False, "default")
    model.unscoped.all().delete()
    row.tenant_id = None  # type: ignore[assignment]


def test_rows_are_of_the_open_tenant_whatever_the_condition(tenant: UUID) -> None:
    with tenant_scope(uuid4()):
        insert(job(kind="b"), job(kind="a"))
    with tenant_scope(tenant):
        assert ALL.read("a", "b") == []
        insert(job(kind="b"))
        assert [row.tenant_id for row in ALL.read("a", "b")] == [tenant]
        assert ALL.first("a", "c") is None
        with pytest.raises(ForeignRow):
            insert(job(), job(tenant_id=uuid4()))
        assert Job.unscoped.count() == 3
    for act in (lambda: ALL.read("a", "b"), lambda: insert(job())):
        with pytest.raises(UnscopedQuery):
            act()


@pytest.mark.parametrize("number", range(6))
def test_list_is_matched_whatever_its_length(tenant: UUID, number: int) -> None:
    rows = [job(run_at=AT.replace(second=at)) for at in range(6)]
    named = Rows(Job, "id IN (%s) AND queue = %s", order="run_at")
    with tenant_scope(tenant):
        assert insert(*rows) == 6
        assert named.read([row.pk for row in rows[:number]], "q") == rows[:number]
        assert named.read([row.pk for row in rows], "other") == []


def test_second_of_its_kind_is_left_out_only_if_that_was_said(tenant: UUID) -> None:
    with tenant_scope(tenant):
        assert insert() == 0
        assert insert(job(unique="u"), once=True) == 1
        assert insert(job(unique="u"), job(unique="v"), once=True) == 1
        with pytest.raises(IntegrityError), transaction.atomic():
            insert(job(unique="u"))


@pytest.mark.django_db(transaction=True)
def test_rows_are_locked_inside_a_transaction_only(tenant: UUID) -> None:
    locking = Rows(Job, "kind = %s", locks=True)
    with tenant_scope(tenant):
        row = job()
        insert(row)
        with pytest.raises(transaction.TransactionManagementError):
            locking.read("a")
        with transaction.atomic():
            assert locking.read("a") == [row]
