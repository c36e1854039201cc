# SPDX-License-Identifier: Apache-2.0
"""The export of a long log as a job: made piece by piece, fetched piece by piece, and by whoever asked for it alone."""

from __future__ import annotations

import gzip
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext

from audit import api, exporting, sequencer, services
from audit.models import Entry, LogExport, LogExportPiece
from holdfast.client.auditor.auditor import Verdict, verify_export
from kernel import queue
from kernel.actors import system_actor
from kernel.clock import database_now
from kernel.models import Job
from kernel.scope import tenant_scope
from kernel.strict_json import dumps
from tests.cast.tenants import Cast, Signer, build_world, make_device

pytestmark = [
    pytest.mark.urls("tests.audit.urls"),
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("log_token"),
]
API = "/api/v1"


@pytest.fixture
def world() -> Cast:
    return build_world()


@pytest.fixture
def otto(world: Cast) -> Signer:
    return make_device(world.otto)


def get(signer: Signer, path: str) -> Any:
    return signer.send(Client(), "GET", f"{API}/{path}")


def ask(signer: Signer, log: str = "audit") -> Any:
    return signer.send(Client(), "POST", f"{API}/audit/exports", dumps({"log": log}))


def acts(world: Cast, count: int) -> None:
    with tenant_scope(world.acme.pk), transaction.atomic():
        for number in range(count):
            services.append(
                tag="audit:entries:read", actor=system_actor(world.acme.pk, "worker"), body={"count": number}
            )
    sequencer.sequence(world.acme.pk, "audit")


def fetched(signer: Signer, document: dict[str, Any]) -> bytes:
    answers = [get(signer, f"audit/exports/{document['id']}/pieces/{at}") for at in range(len(document["ends"]))]
    assert {answer.status_code for answer in answers} == {200}
    octets = b"".join(answer.content for answer in answers)
    assert len(octets) == document["ends"][-1]
    return octets


def test_long_log_is_made_by_the_worker_and_goes_on_where_one_died(
    world: Cast, otto: Signer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "PIECE", 256)
    acts(world, 700)
    made = ask(otto)
    assert made.status_code == 202
    begun = made.json()
    assert (begun["done"], begun["ready"], begun["ends"]) == (0, False, [])
    assert get(otto, f"audit/exports/{begun['id']}/pieces/0").status_code == 404
    step = exporting._step
    steps: list[int] = []

    def killed(row: LogExport) -> None:
        step(row)
        steps.append(row.done)
        if len(steps) == 2:
            raise KeyboardInterrupt  # as a signal ends it: between two pieces, with its lease

    monkeypatch.setattr(exporting, "_step", killed)
    with pytest.raises(KeyboardInterrupt):
        queue.run_due("worker")
    assert get(otto, f"audit/exports/{begun['id']}").json()["done"] == 512
    with tenant_scope(world.acme.pk):
        Job.objects.update(lease_until=database_now() - timedelta(seconds=1))
    queue.run_due("worker")
    done = get(otto, f"audit/exports/{begun['id']}").json()
    assert (done["done"], done["ready"], len(done["ends"])) == (done["size"], True, 3)
    assert steps == [0, 256, 512]
    path = tmp_path / "log.jsonl"
    path.write_bytes(gzip.decompress(fetched(otto, done)))
    vkey = get(otto, "audit/checkpoint").json()["vkey"]
    assert verify_export(path, vkey).verdict is Verdict.VERIFIED
    # The same log is not made again.
    assert ask(otto).json()["id"] == done["id"]


def test_each_piece_costs_as_many_statements(world: Cast, otto: Signer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "PIECE", 512)
    acts(world, 1100)
    ask(otto)
    with tenant_scope(world.acme.pk):
        counts = []
        while (row := LogExport.objects.filter(ready_at=None).first()) is not None:
            with CaptureQueriesContext(connection) as captured:
                exporting._step(row)
            counts.append(len(captured))
    # Leaves, tiles, the tiles above, and the commit of piece and row: nothing for an entry.
    assert len(counts) == 3
    assert max(counts) <= 8, counts


def test_export_and_each_hour_of_its_reading_are_entries(world: Cast, otto: Signer) -> None:
    acts(world, 3)
    document = ask(otto)
    (asked,) = Entry.unscoped.filter(tag="audit:export:ask")
    size = document.json()["size"]
    assert asked.body == {"export": document.json()["id"], "log": "audit", "size": size, "withheld": 0}
    queue.run_due("worker")
    for _ in range(2):
        fetched(otto, get(otto, f"audit/exports/{document.json()['id']}").json())
    (taken,) = Entry.unscoped.filter(tag="audit:entries:exported")
    assert (taken.person_id, taken.body) == (world.otto.pk, {"log": "audit", "size": size, "withheld": 0})


def test_nobody_else_has_an_export_and_its_owners_other_device_has(world: Cast, otto: Signer) -> None:
    acts(world, 3)
    document = ask(otto).json()
    queue.run_due("worker")
    for path in (f"audit/exports/{document['id']}", f"audit/exports/{document['id']}/pieces/0"):
        for other in (make_device(world.olivia), make_device(world.mallory)):
            assert get(other, path).status_code == 404
        assert get(make_device(world.alice), path).status_code == 403
        assert get(make_device(world.otto), path).status_code == 200
    assert get(make_device(world.olivia), "audit/exports").json() == {"exports": []}
    assert [one["id"] for one in get(otto, "audit/exports").json()["exports"]] == [document["id"]]


def test_exports_have_a_bound_for_a_person_and_for_an_organisation_and_a_day(
    world: Cast, otto: Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    for _ in range(exporting.MOST_OWN + 1):
        acts(world, 1)
        made.append(ask(otto).json()["id"])
    # The oldest of one's own makes room.
    assert [one["id"] for one in get(otto, "audit/exports").json()["exports"]] == made[:0:-1]
    monkeypatch.setattr(exporting, "MOST", exporting.MOST_OWN)
    refused = ask(make_device(world.olivia))
    assert (refused.status_code, refused.json()["code"]) == (409, "limit-reached")
    queue.run_due("worker")
    LogExport.unscoped.update(expires_at=database_now() - timedelta(seconds=1))
    assert get(otto, f"audit/exports/{made[-1]}/pieces/0").status_code == 404
    exporting.sweep()
    assert not LogExport.unscoped.exists()
    assert not LogExportPiece.unscoped.exists()


def test_long_log_is_refused_at_once_and_says_the_way(
    world: Cast, otto: Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    acts(world, 20)
    monkeypatch.setattr(api, "MOST_AT_ONCE", 10)
    answer = get(otto, "audit/export")
    assert (answer.status_code, answer.json()["code"]) == (409, "log-too-long")
    assert "POST audit/exports" in answer.json()["detail"]
