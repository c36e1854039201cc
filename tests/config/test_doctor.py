# SPDX-License-Identifier: Apache-2.0
"""`manage.py doctor`: names whatever is wrong with an installation and says the way out, and changes nothing."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from config import doctor
from config.database_roles import PROCESSES
from config.env import PROJECT
from kernel import heartbeats
from kernel.models import Heartbeat
from tests.cast.database_roles import acting_as, database_users
from tests.checks import manage, production

LANES = ("worker/schedule", "worker/jobs", "worker/mail", "sequencer", "release", "heads")


def found(part: str) -> list[tuple[str, str, str]]:
    return [(one.state, one.said, one.way_out) for one in doctor.look() if one.part == part]


def test_installation_where_everything_is_wrong_has_a_way_out_for_each(tmp_path: Path) -> None:
    environment = production(tmp_path) | {
        "HOLDFAST_ROLE": "web",
        "HOLDFAST_DATABASE_URL": "postgres://holdfast@127.0.0.1:9/holdfast",
        "HOLDFAST_PUBLIC_URL": "https://127.0.0.1:9",
        "HOLDFAST_EMAIL_URL": "smtp://127.0.0.1:9",
        "HOLDFAST_REDIS_URL": "redis://127.0.0.1:9/0",
        "HOLDFAST_HSM_MODULE": "/usr/lib/softhsm/libsofthsm2.so",
    }
    (tmp_path / "secret.key").chmod(0o644)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    done = manage("doctor", **environment)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    lines = done.stdout.splitlines()
    wrong = [line.split()[1] for line in lines if line.startswith("wrong")]
    assert {"settings", "secrets", "database", "hsm", "role", "mail", "broker", "address"} <= {*wrong}
    ways_out = [line for number, line in enumerate(lines) if lines[number - 1].startswith("wrong")]
    assert all(line.strip().startswith("→ ") for line in ways_out), ways_out
    assert f"{len(wrong)} parts are not as they have to be." in done.stderr
    assert f"chmod o= {tmp_path}/secret.key" in done.stdout
    assert "collectstatic" in done.stdout
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_lane_that_is_late_or_was_never_seen_is_named_with_its_process() -> None:
    for lane in LANES:
        heartbeats.note(lane)
    assert all(found(lane)[0][0] == "ok" for lane in LANES)
    assert found("database")[0][0] == found("clock")[0][0] == "ok"
    for lane, process in zip(LANES, ("worker", "worker", "worker", "sequencer", "release", "sequencer"), strict=True):
        Heartbeat.objects.filter(name=lane).update(at=timezone.now() - timedelta(hours=1))
        ((state, said, way_out),) = found(lane)
        assert (state, "last at work" in said) == ("wrong", True)
        assert f"holdfast-{process}" in way_out
        Heartbeat.objects.filter(name=lane).delete()
        assert found(lane)[0][:2] == ("wrong", "was never at work")
        heartbeats.note(lane)


@pytest.mark.postgres_only
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("process", PROCESSES)
def test_user_of_a_service_is_told_nothing_wrong_of_what_only_others_may_see(process: str, settings: Any) -> None:
    settings.HOLDFAST_ROLE = process
    for lane in LANES:
        heartbeats.note(lane)
    with database_users() as prefix, acting_as(process, prefix=prefix):
        said = [*doctor._database(), *doctor._rows()]
    assert {one.state for one in said} == {"ok"}, said
    assert {"database", "clock", "restored", *LANES} == {one.part for one in said}


FULL = """
import os, resource, sys
import django
django.setup()
from config import doctor, readiness
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))  # from here on no file takes an octet, as on a full disk
os.write(int(sys.argv[1]), repr(([one.part for one in doctor._disk()], readiness._disk())).encode())
"""


def test_full_disk_is_looked_at_all_the_same() -> None:
    read, write = os.pipe()
    environment = os.environ | {"DJANGO_SETTINGS_MODULE": "config.settings.test", "PYTHONPATH": str(PROJECT)}
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(write)],
        env=environment,
        pass_fds=[write],
        capture_output=True,
        text=True,
        check=False,
    )
    os.close(write)
    with os.fdopen(read) as said:
        parts, state = ast.literal_eval(said.read() or "([], '')")
    assert ({*parts}, state in {"ok", "low"}) == ({"disk"}, True), (state, done.stderr)


@pytest.mark.django_db(transaction=True)
def test_doctor_writes_no_row() -> None:
    with pytest.raises(CommandError):
        call_command("doctor", stdout=StringIO())
    assert not Heartbeat.objects.exists()


class Answers(BaseHTTPRequestHandler):
    ours = True

    def do_GET(self) -> None:
        self.send_response(200)
        if self.ours:
            self.send_header("x-request-id", "1")
        self.end_headers()

    def log_message(self, *arguments: Any) -> None:
        pass


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[int]:
    server = HTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def address_found() -> tuple[str, str, str]:
    (one,) = doctor._address()
    return one.state, one.said, one.way_out


def test_address_that_is_answered_by_ours_by_another_and_by_nobody(settings: Any) -> None:
    with serving(Answers) as port:
        settings.HOLDFAST_PUBLIC_URL = f"http://127.0.0.1:{port}"
        assert address_found()[0] == "ok"
    assert "does not answer" in address_found()[1]
    with serving(type("Another", (Answers,), {"ours": False})) as port:
        settings.HOLDFAST_PUBLIC_URL = f"http://127.0.0.1:{port}"
        state, said, way_out = address_found()
    assert (state, "something else" in said, "nginx" in way_out) == ("wrong", True, True)


@pytest.mark.parametrize(
    ("break_it", "said"),
    [
        (lambda path: path.unlink(), "there is no "),
        (lambda path: path.chmod(0o640), "others than root may read "),
        (lambda path: path.chmod(0o604), "others than root may read "),
    ],
    ids=["missing", "group", "world"],
)
@pytest.mark.parametrize("name", ["web/environment", "release/role.key", "worker/database.password", "pins/escrow.pin"])
def test_file_of_an_account_that_is_missing_or_open_is_named(
    name: str, break_it: Any, said: str, tmp_path: Path
) -> None:
    own = [f"{role}/{file}" for role in PROCESSES for file in ("environment", "database.password", "role.key")]
    for file in (*own, "pins/root.pin", "pins/log.pin", "pins/escrow.pin", "secret.key"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).touch(mode=0o600)
    if os.geteuid() == 0:
        assert [one.state for one in doctor.layout(tmp_path)] == ["ok"]
    break_it(tmp_path / name)
    assert f"{said}{tmp_path / name}" in {one.said for one in doctor.layout(tmp_path)}
    (tmp_path / "pins" / "log.pin.new").touch()
    assert any("the token log that was stopped" in one.said for one in doctor.layout(tmp_path))
    (tmp_path / "pins" / "ceremony.pin").touch()
    assert any("ceremony.pin stays on this machine" in one.said for one in doctor.layout(tmp_path))
