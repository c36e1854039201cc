# SPDX-License-Identifier: Apache-2.0
"""`/readyz` names what is away or late, and writes before it says that requests can be served.

Where the database takes nothing more, pages and REST answer 503 and say so (FAULTS D5).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.db import connection
from django.test import Client
from django.utils import timezone

from audit import restored
from config import doctor, readiness
from hsm import registry
from hsm.errors import HsmUnavailable
from kernel import heartbeats
from kernel.models import Heartbeat
from kernel.scope import tenant_scope
from tenants.models import Tenant

LANES = ("worker/schedule", "worker/jobs", "worker/mail", "sequencer", "release", "heads")


class Root:
    """Stands where the HSM's token would; whether the real one answers, tests/hsm shows."""

    is_there = True

    def answers(self) -> bool:
        return self.is_there


@pytest.fixture(autouse=True)
def root(monkeypatch: pytest.MonkeyPatch) -> Root:
    found = Root()
    monkeypatch.setattr(readiness, "_kept", None)
    monkeypatch.setattr(readiness, "_KEEP_SECONDS", 0.0)
    monkeypatch.setattr(registry, "root", lambda: found)
    return found


@contextmanager
def read_only() -> Iterator[None]:
    """Have the database refuse every write of this connection, as on a disk that is full or mounted read-only."""
    on, off = (
        ("SET default_transaction_read_only = on", "SET default_transaction_read_only = off")
        if connection.vendor == "postgresql"
        else ("PRAGMA query_only = ON", "PRAGMA query_only = OFF")
    )
    with connection.cursor() as cursor:
        cursor.execute(on)
        try:
            yield
        finally:
            cursor.execute(off)


def ask() -> tuple[int, dict[str, Any]]:
    answer = Client().get("/readyz")
    return answer.status_code, answer.json()


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_readyz_names_each_part_that_is_away_or_late(root: Root) -> None:
    for lane in LANES:
        heartbeats.note(lane)
    status, said = ask()
    assert 0 <= said.pop("head_age_seconds") < 60
    assert (status, said) == (
        200,
        {"status": "ok", "parts": dict.fromkeys(("database", "hsm", "disk", "restored", *LANES), "ok")},
    )
    Heartbeat.objects.filter(name="worker/mail").update(at=timezone.now() - timedelta(seconds=90))
    Heartbeat.objects.filter(name="heads").update(at=timezone.now() - timedelta(seconds=130))
    Heartbeat.objects.filter(name="release").delete()
    root.is_there = False
    status, said = ask()
    assert (status, said["status"]) == (200, "degraded")
    wrong = {name: state for name, state in said["parts"].items() if state != "ok"}
    assert wrong == {"hsm": "away", "worker/mail": "late", "heads": "late", "release": "away"}
    assert said["head_age_seconds"] >= 130


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_readyz_and_doctor_say_of_how_many_tenants_a_backup_waits_for_officers() -> None:
    assert ask()[1]["parts"]["restored"] == "ok"
    assert [one.state for one in doctor.look() if one.part == "restored"] == ["ok"]
    acme = Tenant.objects.create(slug="acme", name="Acme", id=UUID(int=0))
    marked = [acme.pk, *(UUID(int=number) for number in range(1, 30))]
    for tenant_id in marked:
        with tenant_scope(tenant_id):
            restored.mark(by="sequencer")
    status, said = ask()
    assert (status, said["status"], said["parts"]["restored"]) == (200, "degraded", "waiting")
    assert said["restored_tenants"] == 30
    found = [one for one in doctor.look() if one.part == "restored"]
    assert [one.state for one in found] == ["wrong"] * 21
    assert found[0].said.startswith("tenant acme is read-only since ")
    assert "accept-restored acme" in found[0].way_out
    assert found[1].said.startswith(f"tenant {marked[1]} is read-only since ")
    assert "10 more tenants" in found[-1].said


@pytest.mark.django_db(transaction=True)
def test_readyz_says_that_an_hsm_that_cannot_be_opened_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    def closed() -> Root:
        raise HsmUnavailable("not there")

    monkeypatch.setattr(registry, "root", closed)
    assert ask()[1]["parts"]["hsm"] == "away"


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("bound", ["LOW_BYTES", "LOW_FILES"])
def test_readyz_says_that_a_disk_is_nearly_full(bound: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ask()[1]["parts"]["disk"] == "ok"
    monkeypatch.setattr(f"config.disk.{bound}", 2**62)
    status, said = ask()
    assert (status, said["status"], said["parts"]["disk"]) == (200, "degraded", "low")


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_readyz_is_unavailable_where_nothing_can_be_written() -> None:
    assert ask()[0] == 200
    with read_only():
        assert ask() == (
            503,
            {
                "status": "unavailable",
                "parts": {"database": "away", "hsm": "ok", "disk": "ok"},
                "head_age_seconds": None,
            },
        )
    assert ask()[0] == 200


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_pages_and_rest_say_that_nothing_can_be_written() -> None:
    client = Client(raise_request_exception=False)
    form = {"tenant": "acme", "email": "carol@acme.test", "password": "wrong"}
    enrolment = {"tenant_id": "00000000-0000-4000-8000-000000000000", "code_secret": "", "device_statement": ""}
    with read_only():
        page = client.post("/console/sign-in/", form)
        problem = client.post("/api/v1/devices", enrolment, content_type="application/json")
    assert (page.status_code, page["retry-after"]) == (503, "5")
    assert "nothing was lost" in page.content.decode()
    assert (problem.status_code, problem.json()["code"]) == (503, "unavailable")


@pytest.mark.django_db(transaction=True)
def test_what_was_found_is_kept_for_a_moment_and_nobody_waits_for_a_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "_KEEP_SECONDS", 60.0)
    first = readiness.look()
    assert readiness.look() is first
    monkeypatch.setattr(readiness, "_KEEP_SECONDS", 0.0)
    with readiness._lock:
        assert readiness.look() is first, "another is looking: what was found last will do"
    assert readiness.look() is not first


@pytest.mark.django_db(transaction=True)
def test_a_rehearsal_is_said_on_every_page_and_by_readyz(settings: Any) -> None:
    assert "rehearsal" not in ask()[1]
    assert "Rehearsal" not in Client().get("/").content.decode()
    settings.HOLDFAST_REHEARSAL = True
    assert ask()[1]["rehearsal"] is True
    for page in ("/", "/console/sign-in/", "/docs/problems", "/nowhere"):
        assert "Rehearsal: the HSM is software" in Client().get(page).content.decode(), page
