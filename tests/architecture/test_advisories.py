# SPDX-License-Identifier: Apache-2.0
"""`make audit` is never green by silence: a known-bad pin fails it, and so does a pin that nobody looked at.

The advisory service is one of the tests' own, on loopback, in the form of OSV's; pip-audit is the real one.
"""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests import advisories
from tests.advisories import CANARY, FILES, PROJECT, pins

HASH = "--hash=sha256:" + "0" * 64
GOOD = f"idna==3.20 {HASH}\ntyping-extensions==4.16.0 {HASH}\n"
BAD = f"jinja2==2.4.1 {HASH}\n"


def advisory(name: str) -> dict[str, Any]:
    ranges = [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "9.9"}]}]
    affected = [{"package": {"name": name, "ecosystem": "PyPI"}, "ranges": ranges}]
    return {"vulns": [{"id": "PYSEC-2014-8", "summary": "Known to be bad.", "affected": affected}]}


class Service:
    """Knows the canary and one bad release, unless a test makes it ignorant."""

    def __init__(self) -> None:
        self.known = {("django", CANARY["version"]), ("jinja2", "2.4.1")}
        self.asked: list[tuple[str, str]] = []
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                query = json.loads(self.rfile.read(int(self.headers["content-length"])))
                one = (query["package"]["name"], query["version"])
                service.asked.append(one)
                body = json.dumps(advisory(one[0]) if one in service.known else {}).encode()
                self.send_response(200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_arguments: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/v1/query"


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    made = Service()
    thread = threading.Thread(target=made.http.serve_forever, daemon=True)
    thread.start()
    yield made
    made.http.shutdown()
    made.http.server_close()
    thread.join()


def audited(service: Service, tmp_path: Path, text: str, **environment: str) -> int:
    file = tmp_path / "requirements.txt"
    file.write_text(text)
    return advisories.main([file], {"HOLDFAST_AUDIT_URL": service.url, **environment})


def test_pins_without_an_advisory_pass_and_are_counted(
    service: Service, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert audited(service, tmp_path, GOOD) == 0
    assert capsys.readouterr().out == "2 of 2 audited\n"


def test_known_bad_pin_fails_and_is_named(service: Service, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert audited(service, tmp_path, GOOD + BAD) == 1
    assert capsys.readouterr().out == "jinja2 2.4.1: PYSEC-2014-8, mended in 9.9\n3 of 3 audited\n"


def test_pin_without_a_hash_fails(service: Service, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert audited(service, tmp_path, GOOD + "six==1.17.0\n") == 1
    out = capsys.readouterr().out
    assert "six==1.17.0: not audited" in out
    assert out.endswith("0 of 3 audited\n")


def test_no_pins_at_all_fail(service: Service, tmp_path: Path) -> None:
    assert audited(service, tmp_path, "") == 1


@pytest.mark.parametrize(("required", "exit_code"), [("", 0), ("1", 1)])
@pytest.mark.parametrize("is_there", [True, False])
def test_service_that_is_away_or_knows_nothing_is_said_aloud(  # noqa: PLR0917
    service: Service,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    is_there: bool,
    required: str,
    exit_code: int,
) -> None:
    service.known.clear()
    url = service.url if is_there else "http://127.0.0.1:9/v1/query"
    assert audited(service, tmp_path, BAD, HOLDFAST_AUDIT_URL=url, HOLDFAST_AUDIT_REQUIRED=required) == exit_code
    out = capsys.readouterr().out
    assert out.startswith("NOT AUDITED: http://127.0.0.1")
    assert out.count("\n") == 1


def test_every_pin_of_this_project_is_asked_about(service: Service, capsys: pytest.CaptureFixture[str]) -> None:
    assert advisories.main(FILES, {"HOLDFAST_AUDIT_URL": service.url}) == 0
    count = len(pins(FILES))
    assert capsys.readouterr().out == f"{count} of {count} audited\n"
    assert count == sum("==" in line for line in FILES[1].read_text().splitlines())
    assert {f"{name}=={version}" for name, version in service.asked} >= pins(FILES)


def test_the_change_gate_runs_the_audit_last_and_lets_it_fail() -> None:
    script = (PROJECT / ".ci/run").read_text()
    assert "set -euo pipefail" in script
    assert script.splitlines()[-2] == "make audit"
    # Also when these tests themselves are run by make, which would have it say where it is.
    command = ["make", "-n", "--no-print-directory", "audit"]
    done = subprocess.run(command, cwd=PROJECT, text=True, capture_output=True, check=True)
    assert done.stdout.strip() == ".venv/bin/python -m tests.advisories"
