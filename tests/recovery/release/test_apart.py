# SPDX-License-Identifier: Apache-2.0
"""One case's, one deposit's, one tenant's trouble is its own: what nobody foresaw stops nothing else.

ESCROW "Release process". The rows are put in as whoever has the database puts them: by SQL, with the triggers off.
"""

from __future__ import annotations

import logging
import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection

from escrow import services as custody
from hsm.ceremony import Ceremony
from kernel.actors import system_actor
from kernel.retries import Retries
from kernel.scope import tenant_scope
from recovery.cases import standing
from recovery.models import Case
from recovery.release.directory import tenants
from recovery.release.log import ReleaseLog
from tenants.services import create_tenant
from tests.cast.founded import Hsm
from tests.cast.phones import Directory
from tests.cast.postgres import ON_POSTGRES
from tests.cast.roles import found_roles
from tests.cast.tenants import Cast, make_person
from tests.cast.world import OpenCase, World, as_superuser
from tests.recovery.release.test_believed import Turned, settled
from tests.recovery.release.test_receipts import shown

pytestmark = pytest.mark.django_db(transaction=True)
# SQLite keeps what is no date in a column of dates; PostgreSQL keeps one that Python has no room for.
NO_DATE = "infinity" if ON_POSTGRES else "2026-13-45 00:00:00"


def second_world(world: World, hsm: Hsm) -> World:
    """Another tenant with an escrow of its own, served by the same release process."""
    tenant = create_tenant(slug="zeta", name="Zeta", actor=system_actor(None, "ceremony"), is_development=True)
    found_roles(tenant.pk)
    cast = Cast(tenant, world.cast.other)
    with tenant_scope(tenant.pk):
        for name in ("carol", "dan", "erin", "alice"):
            cast.people[name] = make_person(name, "member" if name == "alice" else "officer")
    key = Ceremony(hsm.config).create_escrow_key(str(tenant.pk))
    hsm.interposer.forget()  # the ceremony has tried it
    return World(world.home, key, hsm.tokens.log.public_key, directory=Directory(cast))


def poison(case: OpenCase) -> None:
    """Make a case's row one that cannot be read."""
    with as_superuser("recovery_case") as cursor:
        key = case.id if connection.vendor == "postgresql" else case.id.hex
        cursor.execute("UPDATE recovery_case SET expiry = %s WHERE id = %s", [NO_DATE, key])


def why(case: OpenCase) -> tuple[str, str]:
    """Read a case's state, and why it waits, without the rest of its row."""
    row: tuple[str, str] = Case.unscoped.filter(id=case.id).values_list("state", "why").get()
    return row


@pytest.mark.postgres
def test_case_that_cannot_be_read_stops_no_other_case_and_no_other_tenant(
    world: World, hsm: Hsm, caplog: pytest.LogCaptureFixture
) -> None:
    zeta = second_world(world, hsm)
    sick, _ = world.approved("carol", "dan")
    well, _ = world.approved("carol", "dan")
    others, _ = zeta.approved("carol", "dan")
    poison(sick)
    world.sequence()
    zeta.sequence()
    with world.process() as process:
        process.tick()
    assert (world.state(well), zeta.state(others), why(sick)) == ("released", "released", ("waiting", "error"))
    (key,) = Ceremony(hsm.config).escrow_keys(str(zeta.tenant_id))
    assert (hsm.unwraps(), hsm.interposer.entered("C_UnwrapKey", key.ref.cka_id)) == (1, 1)
    (said,) = [one.getMessage() for one in caplog.records if f"case {sick.id} failed" in one.getMessage()]
    assert f"tenant {world.tenant_id}" in said
    assert NO_DATE not in said


@pytest.mark.skipif(ON_POSTGRES, reason="PostgreSQL's columns keep no text for bytes")
def test_case_that_fails_is_tried_ever_less_often_and_goes_on_when_it_is_mended(
    world: World, hsm: Hsm, monkeypatch: pytest.MonkeyPatch
) -> None:
    case, _ = world.approved("carol", "dan")
    statement = bytes(world.row(case).statement)
    with as_superuser("recovery_case") as cursor:
        cursor.execute("UPDATE recovery_case SET statement = 'text' WHERE id = %s", [case.id.hex])
    now, tries, opened, open_log = [0.0], [], [], ReleaseLog.open

    def open_counted(*given: Any) -> ReleaseLog:
        opened.append(given)
        return open_log(*given)

    monkeypatch.setattr(ReleaseLog, "open", open_counted)
    with world.process() as process:
        process._failing = Retries(5, 600, clock=lambda: now[0])
        attempted = process._attempt_now

        def counted(*case_and_tenant: Any, early: bool) -> Any:
            tries.append(case_and_tenant)
            return attempted(*case_and_tenant, early=early)

        process._attempt_now = counted  # type: ignore[method-assign,assignment]
        for _ in range(300):
            Case.unscoped.filter(id=case.id).update(release_at=world.row(case).opened_at)
            process._swept = None
            process._sweep()
            now[0] += 5
        assert 5 < len(tries) < 12, "in 25 minutes"
        assert len(opened) == 1, "the log is not read anew for it: all others would wait meanwhile"
        assert why(case) == ("waiting", "error")
        with as_superuser("recovery_case") as cursor:
            cursor.execute("UPDATE recovery_case SET statement = %s WHERE id = %s", [statement, case.id.hex])
        now[0] += 600
        Case.unscoped.filter(id=case.id).update(release_at=world.row(case).opened_at)
        world.sequence()
        settled(process)
    assert why(case) == ("released", "")


def test_case_that_failed_is_an_alarm_and_one_that_cannot_be_read_keeps_no_other_from_being_one(
    world: World, hsm: Hsm, caplog: pytest.LogCaptureFixture
) -> None:
    sick, _ = world.approved("carol", "dan")
    failed, _ = world.approved("carol", "dan")
    since = world.row(failed).opened_at - timedelta(minutes=11)
    both = Case.unscoped.filter(id__in=(failed.id, sick.id))
    assert both.update(why="error", why_since=since, state="releasing") == 2
    poison(sick)
    with caplog.at_level(logging.WARNING):
        assert standing.raise_alarms() == 1
    assert f"case {failed.id} is stuck" in caplog.text
    assert "its log names the case" in caplog.text
    assert f"standing of case {sick.id}" in caplog.text


def test_deposit_whose_receipt_fails_keeps_no_other_from_its_own(
    world: World, hsm: Hsm, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """More of them than one round has time for stand before the one that has nothing wrong with it."""
    monkeypatch.setattr("recovery.release.process.RECEIPTS_A_ROUND", 2)
    sick = {uuid.UUID(bytes=world.deposit().header.deposit_id) for _ in range(3)}
    well = uuid.UUID(bytes=world.deposit().header.deposit_id)
    keep, tried = custody.keep_receipt, []

    def fails(*, deposit_id: uuid.UUID, **given: Any) -> None:
        tried.append(deposit_id)
        if deposit_id in sick:
            raise ZeroDivisionError
        keep(deposit_id=deposit_id, **given)

    monkeypatch.setattr(custody, "keep_receipt", fails)
    world.sequence()
    clock = Turned()
    with world.process(clock=clock.clock(world)) as process:
        for _ in range(2):
            process.follow_all()
        assert [found for found, receipt in shown(world).items() if receipt] == [well]
        assert len(tried) == 4
        assert "no receipt for 2 deposits" in caplog.text
        assert "ZeroDivisionError at " in caplog.text
        process.follow_all()
        assert len(tried) == 4, "they are left alone for a while"
        monkeypatch.setattr(custody, "keep_receipt", keep)
        clock.monotonic += 30
        for _ in range(2):
            process.follow_all()
    assert all(shown(world).values())


def test_what_lies_beside_the_tenants_is_no_tenant(world: World, hsm: Hsm) -> None:
    for name in ("lost+found", "old"):
        (world.home / name).mkdir()
        (world.home / name / "trust").write_bytes(b"")
    assert tenants(world.home) == [world.tenant_id]
    case, _ = world.approved("carol", "dan")
    world.tick()
    assert world.state(case) == "released"
