# SPDX-License-Identifier: Apache-2.0
"""What a page asks of the database: a number that is pinned here, and that no number of rows makes larger."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from console.urls import me_urlpatterns
from kernel.clock import database_now
from kernel.scope import tenant_scope
from tenants.models import Import, Mail, RecoveryCode, TenantExport
from tests.cast.administrators import Administrator, administrator
from tests.cast.tenants import make_person
from tests.cast.world import World

pytestmark = pytest.mark.django_db(transaction=True)
# Of each page, no more than this. A page that needs more has to say here what for.
MOST = {
    "console-person": 30,
    "console-organisation": 9,
    "console-programs": 8,
    "console-import-form": 4,
    "console-import": 6,
    "console-ceremonies": 11,
    "console-transcript": 10,
    "me-home": 18,
    "me-devices": 9,
    "me-recovery": 11,
    "me-sessions": 6,
    "me-factors": 6,
    "me-authenticator": 5,
    "me-keys": 22,
    "me-notices": 6,
    "me-data": 3,
}


def asked(who: Administrator, path: str) -> int:
    # What is written once an hour, or made at a first look, is not what a page costs.
    assert who.client.get(path).status_code == 200
    with CaptureQueriesContext(connection) as captured:
        assert who.client.get(path).status_code == 200
    return len(captured)


def file_of(who: Administrator, people: int, first: int = 0) -> Import:
    text = "".join(f"Person {one},p{one}@acme.test,member\nX{one},nobody\n" for one in range(first, first + people))
    answer = who.client.post(
        "/console/people/import/", {"file": SimpleUploadedFile("p.csv", text.encode(), "text/csv")}
    )
    row: Import = Import.unscoped.get(pk=answer["location"].rstrip("/").split("/")[-1])
    return row


def more(world: World, olivia: Administrator, number: int) -> None:
    """Have there be more of all that these pages show."""
    person = olivia.person
    for _ in range(number):
        world.new_phone("olivia")
    with tenant_scope(world.tenant_id):
        for place in range(number):
            make_person(f"more-{number}-{place}", "member")
            RecoveryCode.unscoped.create(
                tenant_id=world.tenant_id, person=person, code_hash=bytes([number, place] * 16)
            )
            TenantExport.unscoped.create(
                tenant_id=world.tenant_id,
                asked_by=person.pk,
                state="failed",
                expires_at=database_now() + timedelta(days=1),
            )
            Mail.unscoped.create(tenant_id=world.tenant_id, kind="tenant-locked", person_id=person.pk)
            world.transcript(f"{number} {place}\n")
    world.sequence()


def test_pages_cost_what_is_pinned_however_many_rows_there_are(world: World) -> None:
    olivia = administrator(world.cast.olivia)
    more(world, olivia, 1)
    row = file_of(olivia, 2)
    paths = {
        "console-person": reverse("console-person", args=[olivia.person.pk]),
        "console-import": reverse("console-import", args=[row.pk]),
        "console-transcript": reverse("console-transcript", args=[1]),
    }
    paths |= {name: reverse(name) for name in MOST if name not in paths}
    before = {name: asked(olivia, path) for name, path in paths.items()}
    more(world, olivia, 8)
    paths["console-import"] = reverse("console-import", args=[file_of(olivia, 1200, 10).pk])
    after = {name: asked(olivia, path) for name, path in paths.items()}
    assert {name: (before[name], now) for name, now in after.items() if now > before[name]} == {}
    assert {name: now for name, now in after.items() if now > MOST[name]} == {}


def test_every_page_about_oneself_is_pinned() -> None:
    acts = {"me-recovery-codes", "me-recovery-codes-confirm", "me-sessions-end"}
    looked: set[Any] = {one.name for one in me_urlpatterns} - acts
    assert looked == {name for name in MOST if name.startswith("me-")}
