# SPDX-License-Identifier: Apache-2.0
"""The web process's own database user is enough for all that operators do, and for no operator more (FAULTS L14)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.contrib import admin
from django.db import ProgrammingError, connection, transaction
from django.test import Client

from kernel import queue
from kernel.models import Job
from kernel.scope import tenant_scope
from operators.models import Operator
from tenants.models import Tenant
from tests.cast.database_roles import acting_as, database_users
from tests.cast.operators import Desk
from tests.cast.tenants import Cast

pytestmark = pytest.mark.postgres_only


@pytest.fixture
def prefix(db: None) -> Iterator[str]:
    with database_users() as made:
        yield made


def test_the_web_user_signs_operators_in_lists_and_acts(prefix: str, world: Cast, petra: Desk) -> None:
    with tenant_scope(world.acme.pk), transaction.atomic():
        job = queue.enqueue("keys.notice", person=str(world.alice.pk), event="device-added", ids="{}")
    assert job is not None
    Job.unscoped.update(state="dead")
    with acting_as("web", prefix=prefix):
        browser = Client()
        assert petra.give(browser).status_code == 302
        assert browser.get("/admin/").status_code == 200
        for model in admin.site._registry:
            assert browser.get(f"/admin/{model._meta.label_lower.replace('.', '/')}/").status_code == 200
        assert browser.get(f"/admin/tenants/tenant/{world.acme.pk}/").status_code == 200
        assert browser.post(f"/admin/acts/tenant/{world.acme.pk}/suspend/").status_code == 302
        assert browser.post(f"/admin/acts/tenant/{world.acme.pk}/resume/").status_code == 302
        assert browser.post(f"/admin/acts/job/{job.pk}/drop/").status_code == 302
        assert browser.post("/admin/sign-out/").status_code == 302
    with acting_as("worker", prefix=prefix):
        queue.run_due("worker")
    assert not Job.unscoped.filter(pk=job.pk).exists()


@pytest.mark.parametrize("process", ["web", "worker", "release", "sequencer"])
def test_no_process_makes_an_operator_or_lets_a_removed_one_in(process: str, prefix: str, petra: Desk) -> None:
    for attempt in (
        lambda: Operator.objects.create(name="mallory", password="x", totp_key=""),
        lambda: Operator.objects.update(state="active", password="x"),
        lambda: Operator.objects.all().delete(),
    ):
        with acting_as(process, prefix=prefix), pytest.raises(ProgrammingError), transaction.atomic():
            attempt()


def test_the_web_user_changes_nothing_of_a_tenant_but_its_state(prefix: str, world: Cast) -> None:
    for column in ("root_key", "root_pin", "slug", "name", "is_development"):
        with (
            acting_as("web", prefix=prefix),
            pytest.raises(ProgrammingError),
            transaction.atomic(),
            connection.cursor() as cursor,
        ):
            cursor.execute(f"UPDATE tenants_tenant SET {column} = NULL")
    assert Tenant.objects.get(pk=world.acme.pk).name == "Acme"
