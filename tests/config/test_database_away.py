# SPDX-License-Identifier: Apache-2.0
"""A database that goes away under an installation: everybody says so, and goes on by themselves when it is back."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
from contextlib import closing
from urllib.parse import urlsplit

from tests.cast.passage import passage
from tests.cast.postgres import postgres
from tests.cast.server import PROJECT, Installation, installation, wait_for


def ask(running: Installation, path: str, method: str = "GET", body: bytes | None = None) -> tuple[int, str, str]:
    asked = http.client.HTTPConnection("127.0.0.1", running.port, timeout=30)
    # Of some session: whose it is stands in the database.
    headers = {"Content-Type": "application/json"} if body else {"Cookie": f"sessionid={'s' * 32}"}
    with closing(asked):
        asked.request(method, path, body=body, headers=headers)
        answer = asked.getresponse()
        return answer.status, answer.headers["content-type"], answer.read().decode()


def whole(running: Installation) -> bool:
    status, _, text = ask(running, "/readyz")
    return status == 200 and json.loads(text)["status"] == "ok"


def says_so(running: Installation, role: str) -> bool:
    return any(f" {role} " in line and "the database is away" in line for line in running.log.read_text().splitlines())


def command(running: Installation, *arguments: str) -> subprocess.CompletedProcess[str]:
    profile = running.demo / "profiles" / "carol"
    words = [sys.executable, "-m", "holdfast.cli", "--profile", str(profile)]
    words += ["--passphrase-file", str(profile / "passphrase"), *arguments]
    return subprocess.run(
        words, cwd=PROJECT, env=running.environment, capture_output=True, text=True, check=False, timeout=60
    )


def test_everybody_says_that_the_database_is_away_and_goes_on_when_it_is_back() -> None:
    roles = ("web", "worker", "sequencer", "release")
    enrolment = json.dumps({"tenant_id": "00000000-0000-4000-8000-000000000000"}).encode()
    with postgres() as url, passage(urlsplit(url).port or 0) as way:
        address = url.replace(f":{urlsplit(url).port}/", f":{way.port}/")
        with installation(by_up=True, HOLDFAST_DATABASE_URL=address) as running:
            wait_for(lambda: whole(running), seconds=60)
            pids = {role: running.pid_of(role) for role in roles}
            way.close()
            status, kind, text = ask(running, "/console/")
            assert (status, kind.partition(";")[0], "Away for a moment" in text) == (503, "text/html", True)
            status, kind, text = ask(running, "/api/v1/devices", "POST", enrolment)
            assert (status, kind, json.loads(text)["code"]) == (503, "application/problem+json", "unavailable")
            wait_for(lambda: ask(running, "/readyz")[0] == 503, seconds=10)
            assert json.loads(ask(running, "/readyz")[2])["parts"]["database"] == "away"
            assert ask(running, "/livez")[0] == 200
            told = command(running, "officer", "cases")
            assert told.returncode != 0
            assert "A part of the service is away. Nothing was done" in told.stderr
            for role in roles[1:]:
                wait_for(lambda role=role: says_so(running, role), seconds=20)  # type: ignore[misc]
            assert {role: running.pid_of(role) for role in roles} == pids, "no process ended by it"
            way.open()
            wait_for(lambda: whole(running), seconds=60)
            assert command(running, "officer", "cases").returncode == 0
            assert {role: running.pid_of(role) for role in roles} == pids
