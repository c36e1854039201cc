# SPDX-License-Identifier: Apache-2.0
"""The export of a tenant: made by the worker in pieces, verified by the auditor's own code, for whoever asked alone."""

from __future__ import annotations

import io
import json
import zipfile
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from audit import sequencer
from audit.models import Entry
from holdfast.client.auditor.auditor import Verdict, verify_export
from holdfast.core.base.encoding import b64u, encode
from kernel import queue
from kernel.clock import database_now
from kernel.models import Job
from kernel.scope import tenant_scope
from keys.models import VaultDoor
from tenants import exporting
from tenants.models import ExportPiece, Person, TenantExport
from tenants.roles import Role
from tenants.states import ExportState, PersonState
from tests.cast.administrators import Administrator, administrator
from tests.cast.browsers import text_of
from tests.cast.phones import Phone
from tests.cast.tenants import make_person
from tests.cast.world import World
from tests.faults.acts import Act

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.rounds("rules")]
PAGE = "/console/organisation/"


@pytest.fixture
def olivia(world: World) -> Administrator:
    return administrator(world.cast.olivia)


def ask(olivia: Administrator) -> TenantExport:
    assert olivia.do("tenant-export").status_code == 302
    row: TenantExport = TenantExport.unscoped.get()
    return row


def work(world: World) -> None:
    for log in ("audit", "keys"):
        sequencer.sequence(world.tenant_id, log)
    world.work()


def store(phone: Phone, path: str, document: dict[str, str]) -> None:
    answer = Act(phone.signer, "PUT", f"/api/v1/{path}", document, {"If-Match": '"0"'}).send()
    assert answer.status_code in (200, 201, 204), answer.content


def download(who: Administrator, row: TenantExport) -> Any:
    return who.client.get(f"{PAGE}export/{row.pk}/")


def files(answer: Any) -> dict[str, bytes]:
    archive = zipfile.ZipFile(io.BytesIO(b"".join(answer.streaming_content)))
    assert archive.testzip() is None
    return {name: archive.read(name) for name in archive.namelist()}


def test_owner_takes_everything_home_and_the_log_verifies(world: World, olivia: Administrator, tmp_path: Path) -> None:
    case, deposit = world.approved("carol", "dan")
    account, phone = world.directory.account("alice"), world.directory.phone("alice")
    vault = account.vault(phone, 1)
    store(phone, "vault", vault)
    row = ask(olivia)
    assert "0 of " in text_of(olivia.client.get(PAGE))
    assert download(olivia, row).status_code == 404
    work(world)
    answer = download(olivia, row)
    assert (answer.status_code, answer["content-type"]) == (200, "application/zip")
    found = files(answer)
    for log in ("audit", "keys"):
        path = tmp_path / f"{log}.jsonl"
        path.write_bytes(found[f"log/{log}.jsonl"])
        report = verify_export(path)
        assert report.verdict is Verdict.NOT_ANCHORED, report
    deposits = [json.loads(line) for line in found["ciphertexts/deposits.jsonl"].splitlines()]
    assert [one["record"] for one in deposits] == [b64u(deposit.to_record())]
    assert vault["blob"] not in found["statements/devices.jsonl"].decode()
    assert found["ciphertexts/vaults.jsonl"].count(b"\n") == 1
    cases = [json.loads(line) for line in found["statements/cases.jsonl"].splitlines()]
    assert [one["statement"] for one in cases] == [b64u(case.statement.encode())]
    assert found["statements/approvals.jsonl"].count(b"\n") == 2
    assert found["statements/policies.jsonl"]
    tags = set(Entry.unscoped.filter(person_id=world.cast.olivia.pk).values_list("tag", flat=True))
    assert {"tenants:tenant:export", "tenants:tenant:take-export"} <= tags


def test_doors_are_in_no_export(world: World, olivia: Administrator) -> None:
    """Whoever has a door's blob guesses at its password without a limit."""
    phone, account = world.directory.phone("alice"), world.directory.account("alice")
    store(phone, "vault", account.vault(phone, 1))
    door = {"blob": b64u(encode({1: b"a door of a password"}))}
    store(phone, "vault/doors/password", door)
    assert VaultDoor.unscoped.exists()
    row = ask(olivia)
    work(world)
    assert not [name for name, octets in files(download(olivia, row)).items() if door["blob"].encode() in octets]


def test_nobody_else_takes_it(world: World, olivia: Administrator) -> None:
    with tenant_scope(world.tenant_id):
        oscar = administrator(make_person("oscar", Role.OWNER))
    row = ask(olivia)
    work(world)
    for other in (oscar, administrator(world.cast.people["mallory"])):
        assert download(other, row).status_code == 404
    assert download(administrator(world.cast.people["carol"]), row).status_code == 403
    assert download(olivia, row).status_code == 200


def test_what_is_withheld_from_its_asker_is_withheld_in_it(found: Any, tmp_path: Path) -> None:
    world = found(max_notice_delay_seconds=3600, purposes=frozenset({"device-loss", "legal"}))
    olivia = administrator(world.cast.olivia)
    deposit = world.deposit("olivia")
    later = int((database_now() + timedelta(minutes=30)).timestamp())
    case = world.opened(deposit, phone=world.directory.phone("alice"), purpose="legal", notice_at=later)
    row = ask(olivia)
    work(world)
    taken = files(download(olivia, row))
    assert not [name for name, octets in taken.items() if str(case.id).encode() in octets]
    path = tmp_path / "audit.jsonl"
    path.write_bytes(taken["log/audit.jsonl"])
    report = verify_export(path)
    assert report.verdict is Verdict.NOT_ANCHORED, report
    assert json.loads(taken["log/audit.jsonl"].splitlines()[0])["withheld"] > 0


def test_worker_that_stops_midway_goes_on_where_it_was(
    world: World, olivia: Administrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.approved("carol", "dan")
    whole = ask(olivia)
    work(world)
    expected = files(download(olivia, whole))
    TenantExport.unscoped.filter(pk=whole.pk).update(asked_by=world.cast.bob.pk)
    monkeypatch.setattr(exporting, "BATCH", 1)
    # Every turn does one step and ends.
    monkeypatch.setattr(exporting, "TURN_SECONDS", -1)
    with tenant_scope(world.tenant_id):
        pieces = TenantExport.unscoped.count()
    olivia.do("tenant-export")
    row = TenantExport.unscoped.exclude(pk=whole.pk).get()
    turns = 0
    job = Job.unscoped.get(payload__export=str(row.pk))
    while TenantExport.unscoped.get(pk=row.pk).state == ExportState.WAITING:
        turns += 1
        with tenant_scope(world.tenant_id):
            try:
                exporting.work(job)
            except queue.RunLater:
                continue
    assert (turns > 5, pieces) == (True, 1)
    again = files(download(olivia, TenantExport.unscoped.get(pk=row.pk)))
    assert again.keys() == expected.keys()
    same = [name for name in again if not name.startswith("log/")]
    assert {name: again[name] for name in same} == {name: expected[name] for name in same}


def test_asker_who_was_suspended_meanwhile_gets_nothing(world: World, olivia: Administrator) -> None:
    row = ask(olivia)
    Person.unscoped.filter(pk=world.cast.olivia.pk).update(state=PersonState.SUSPENDED)
    work(world)
    assert TenantExport.unscoped.get(pk=row.pk).state == ExportState.FAILED
    assert not ExportPiece.unscoped.exists()


def test_one_is_made_at_a_time_and_a_week_later_it_is_gone(world: World, olivia: Administrator) -> None:
    row = ask(olivia)
    assert olivia.confirm(olivia.look("tenant-export"), "tenant-export").status_code == 409
    work(world)
    TenantExport.unscoped.update(expires_at=database_now() - timedelta(seconds=5))
    assert download(olivia, row).status_code == 404
    exporting.sweep()
    assert not ExportPiece.unscoped.exists()
    assert not TenantExport.unscoped.exists()
