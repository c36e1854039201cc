# SPDX-License-Identifier: Apache-2.0
"""A long log's export with the real client and server: in pieces, broken off anywhere, gone on with, and held to all
that a short one is held to.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.db import transaction

from audit import api, exporting, services
from audit.models import Entry, LogExport
from holdfast.client.auditor import fetching, log
from holdfast.client.auditor.auditor import Verdict
from holdfast.client.errors import AnswerRefused, NotYet, Unreachable
from holdfast.client.profile.account import Account
from holdfast.client.server.transport import Api
from kernel.actors import system_actor
from kernel.scope import tenant_scope
from tests.cast.callers import Callers
from tests.cast.world import World

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def world(found: Callable[..., World]) -> World:
    return found()


@pytest.fixture
def callers(world: World, monkeypatch: pytest.MonkeyPatch) -> Callers:
    monkeypatch.setattr(api, "MOST_AT_ONCE", 50)
    monkeypatch.setattr(exporting, "PIECE", 256)
    monkeypatch.setattr(fetching, "_POLL_SECONDS", 0.0)
    actor = system_actor(world.tenant_id, "worker")
    with tenant_scope(world.tenant_id), transaction.atomic():
        for number in range(600):
            services.append(tag="audit:entries:read", actor=actor, body={"count": number})
    return Callers(world)


@pytest.fixture
def otto(callers: Callers) -> Account:
    return callers.enrolled("otto")


@pytest.fixture
def working(callers: Callers, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a worker do a piece at each look of the client."""
    get = Api.get

    def looked(self: Api, path: str, **named: Any) -> Any:
        if path.startswith("audit/exports/"):
            with tenant_scope(callers.world.tenant_id):
                row = LogExport.objects.filter(ready_at=None).first()
                if row is not None:
                    exporting._step(row)
        return get(self, path, **named)

    monkeypatch.setattr(Api, "get", looked)


def parts(directory: Path) -> list[Path]:
    return sorted(directory.glob("*.part"))


@pytest.mark.usefixtures("working")
def test_long_log_comes_in_pieces_and_is_verified(callers: Callers, otto: Account, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    report = log.export(otto, tmp_path / "log.jsonl", tell=lambda done, size: told.append((done, size)))
    assert report.verdict is not Verdict.BROKEN
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert told[-1] == (report.size, report.size)
    assert len(told) == 3
    assert not parts(tmp_path)
    assert Entry.unscoped.filter(tag="audit:entries:exported").count() == 1


@pytest.mark.usefixtures("working")
@pytest.mark.parametrize("torn", [0, 1, 1000])
def test_broken_download_goes_on_where_it_stopped(
    callers: Callers, otto: Account, tmp_path: Path, torn: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    download = Api.download

    def breaks(self: Api, path: str, *, maximum: int) -> Any:
        if path.endswith("/pieces/1"):
            raise Unreachable("The line broke.")
        return download(self, path, maximum=maximum)

    monkeypatch.setattr(Api, "download", breaks)
    with pytest.raises(Unreachable) as broken:
        log.export(otto, tmp_path / "log.jsonl")
    assert "Run the same command again" in broken.value.way_out
    (part,) = parts(tmp_path)
    assert part.stat().st_mode & 0o777 == 0o600
    with part.open("ab") as file:
        file.write(os.urandom(torn))  # of a piece that was being written as the process was killed
    monkeypatch.setattr(Api, "download", download)
    callers.calls.clear()
    report = log.export(otto, tmp_path / "log.jsonl")
    assert report.verdict is not Verdict.BROKEN
    fetched = [path.rpartition("/")[2] for method, path in callers.calls if "/pieces/" in path]
    assert fetched == ["1", "2"]
    assert not [path for method, path in callers.calls if (method, path) == ("POST", "audit/exports")]
    assert not parts(tmp_path)


@pytest.mark.usefixtures("working")
def test_export_that_the_server_keeps_no_longer_is_begun_anew(callers: Callers, otto: Account, tmp_path: Path) -> None:
    left = tmp_path / "log.jsonl.0b2f3a52-2c0d-4f0f-9d7c-1f6a1a5f5a11.part"
    left.write_bytes(b"of yesterday")
    other = tmp_path / "log.jsonl.notes.part"
    other.write_bytes(b"somebody's")
    log.export(otto, tmp_path / "log.jsonl")
    assert parts(tmp_path) == [other]


def test_server_that_makes_no_headway_is_left_with_the_way_to_go_on(
    callers: Callers, otto: Account, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "_PATIENCE_SECONDS", -1)
    with pytest.raises(NotYet) as waits:
        log.export(otto, tmp_path / "log.jsonl")
    assert "Run the same command again" in waits.value.way_out
    assert not (tmp_path / "log.jsonl").exists()


@pytest.mark.usefixtures("working")
@pytest.mark.parametrize("lie", ["shorter", "nothing", "noise"])
def test_pieces_that_are_not_what_the_server_said_are_refused(
    callers: Callers, otto: Account, tmp_path: Path, lie: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lies(_self: Api, path: str, *, maximum: int) -> Any:
        if "/pieces/" not in path:
            return download(_self, path, maximum=maximum)
        return iter([{"shorter": b"x", "nothing": b"", "noise": b"x" * maximum}[lie]])

    download = Api.download
    monkeypatch.setattr(Api, "download", lies)
    with pytest.raises(AnswerRefused):
        log.export(otto, tmp_path / "log.jsonl")
    assert not (tmp_path / "log.jsonl").exists()
