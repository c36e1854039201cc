# SPDX-License-Identifier: Apache-2.0
"""nginx in front, as it is shipped: half-sent requests hold no thread, bodies have a cap and never touch the disk.

One installation by `up`, asked through its proxy from several loopback addresses: each is a source of its own.
"""

from __future__ import annotations

import http.client
import json
import resource
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import pytest

from config.proxy import nginx
from tests.cast.server import PROJECT, Installation, installation, wait_for

STRANGER = "127.0.0.7"


@pytest.fixture(scope="module")
def running() -> Iterator[Installation]:
    with installation() as made:
        yield made


def connect(running: Installation, source: str = "127.0.0.1") -> socket.socket:
    return socket.create_connection(("127.0.0.1", running.port), timeout=30, source_address=(source, 0))


def ask(
    running: Installation,
    method: str = "GET",
    path: str = "/livez",
    *,
    body: bytes | None = None,
    source: str = "127.0.0.1",
    headers: dict[str, str] | None = None,
) -> tuple[int, bytes]:
    asked = http.client.HTTPConnection("127.0.0.1", running.port, timeout=30, source_address=(source, 0))
    with closing(asked):
        asked.request(method, path, body=body, headers=headers or {})
        answer = asked.getresponse()
        return answer.status, answer.read()


def half_sent(running: Installation, path: str, declared: int, sent: bytes = b"{") -> socket.socket:
    """Begin a request whose body never ends, as a stranger."""
    stranger = connect(running, STRANGER)
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{running.port}\r\nContent-Type: application/json\r\n"
    stranger.sendall(f"{head}Content-Length: {declared}\r\n\r\n".encode() + sent)
    return stranger


def test_half_sent_bodies_and_heads_keep_no_thread_from_others(running: Installation) -> None:
    with ExitStack() as held:
        for number in range(60):
            path = ("/api/v1/devices", "/console/sign-in/", "/api/v1/nowhere")[number % 3]
            held.enter_context(half_sent(running, path, 60_000 if number % 2 else 100))
        for _ in range(200):
            held.enter_context(connect(running, STRANGER)).sendall(b"GET / HTTP/1.1\r\nHost: ")
        started = time.monotonic()
        for _ in range(20):
            assert ask(running)[0] == 200
        assert time.monotonic() - started < 5, "twenty small answers, while 260 requests of a stranger never end"
        assert json.loads(ask(running, path="/readyz")[1])["parts"]["database"] == "ok"


def test_a_request_that_does_not_come_is_dropped_after_ten_seconds(running: Installation) -> None:
    with half_sent(running, "/api/v1/devices", 100) as body, connect(running, STRANGER) as head:
        head.sendall(b"GET / HTTP/1.1\r\nHost: ")
        started = time.monotonic()
        for stranger in (body, head):
            stranger.settimeout(25)
            with suppress(ConnectionResetError):
                while stranger.recv(4096):
                    pass
        assert time.monotonic() - started < 25


@pytest.mark.parametrize(
    ("path", "octets", "status"),
    [
        ("/api/v1/devices", 2 * 1024 * 1024 + 1, 413),
        ("/console/sign-in/", 64 * 1024 + 1, 413),
        ("/", 64 * 1024 + 1, 413),
        # Within the proxy's cap, above the address's own.
        ("/api/v1/devices", 1024 * 1024, 413),
    ],
)
def test_a_body_that_is_too_large_is_refused_in_words(
    running: Installation, path: str, octets: int, status: int
) -> None:
    headers = {"Content-Type": "application/json"}
    found, body = ask(running, "POST", path, body=b" " * octets, headers=headers)
    assert found == status
    assert json.loads(body)["code"] == "too-large"


@pytest.mark.parametrize(
    ("path", "host", "status"),
    [
        ("/api/v1/devices", "", 413),
        ("/api/v1/nowhere", "", 404),
        ("/api/v1/vault", "", 401),
        ("/livez", "", 400),
        ("/console/sign-in/", "", 400),
        ("/livez", "elsewhere.example", 400),
    ],
)
def test_an_answer_that_needs_no_body_waits_until_the_proxy_has_handed_it_over(
    running: Installation, path: str, host: str, status: int
) -> None:
    """nginx writes a body in parts: a web process that answers and closes after the first makes a 503 of the answer."""
    body = b" " * 1_500_000
    with socket.socket(socket.AF_UNIX) as proxy:
        proxy.settimeout(30)
        proxy.connect(str(running.state_dir / "proxy" / "web.sock"))
        host = host or f"127.0.0.1:{running.port}"
        head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        proxy.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body[:100_000])
        time.sleep(0.3)
        proxy.sendall(body[100_000:])
        with closing(http.client.HTTPResponse(proxy)) as answer:
            answer.begin()
            assert answer.status == status
            answer.read()


def test_no_body_touches_the_disk(running: Installation) -> None:
    parts = (
        b'--x\r\nContent-Disposition: form-data; name="f"; filename="f"\r\n\r\n' + b"z" * 1_900_000 + b"\r\n--x--\r\n"
    )
    temporary = running.state_dir / "proxy"
    with ExitStack() as held:
        for path in ("/api/v1/devices", "/api/v1/nowhere", "/console/sign-in/"):
            held.enter_context(half_sent(running, path, len(parts), parts[:-100]))
        time.sleep(0.5)
        written = [path for path in temporary.rglob("*") if path.is_file() and path.suffix not in (".conf", ".pid")]
        assert written == []
        opened = [
            str(file.readlink())
            for pid in (running.pid_of("proxy"), running.pid_of("web"))
            for file in Path(f"/proc/{pid}/fd").iterdir()
            if file.is_symlink()
        ]
        assert not [name for name in opened if "client_body" in name or "upload" in name]
    multipart = {"Content-Type": "multipart/form-data; boundary=x"}
    assert ask(running, "POST", "/api/v1/devices", body=parts, headers=multipart)[0] in (413, 415)


def test_too_many_requests_of_one_source_are_refused_in_words_and_no_other_is(running: Installation) -> None:
    with ExitStack() as held:
        for _ in range(8):
            held.enter_context(half_sent(running, "/api/v1/devices", 1_000_000))
        time.sleep(0.5)
        headers = {"Content-Type": "application/json"}
        status, body = ask(running, "POST", "/api/v1/devices", body=b" " * 200_000, headers=headers, source=STRANGER)
        assert (status, json.loads(body)["code"]) == (429, "too-many-requests")
        other, _ = ask(running, "POST", "/api/v1/devices", body=b" " * 200_000, headers=headers, source="127.0.0.8")
        assert other == 413, "another source's large body came through, and is too large for this address"
        assert ask(running, source=STRANGER)[0] == 200, "small requests of the same source go on"


def test_processes_survive_a_disk_that_takes_nothing_and_say_so(running: Installation) -> None:
    roles = ("web", "worker", "sequencer", "release")
    pids = {role: running.pid_of(role) for role in roles}
    before = resource.prlimit(pids["web"], resource.RLIMIT_FSIZE)
    try:
        for pid in pids.values():
            # Every write beyond the first octet of a file fails from here on, as on a full disk.
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, before[1]))
        wait_for(lambda: ask(running, path="/readyz")[0] == 503, seconds=20)
        assert json.loads(ask(running, path="/readyz")[1])["parts"]["database"] == "away"
        form = {"Content-Type": "application/x-www-form-urlencoded", "Origin": running.url}
        enrolment = json.dumps({"tenant_id": "00000000-0000-4000-8000-000000000000"}).encode()
        status, body = ask(
            running, "POST", "/api/v1/devices", body=enrolment, headers={"Content-Type": "application/json"}
        )
        assert (status, json.loads(body)["code"]) == (503, "unavailable")
        assert ask(running, path="/console/sign-in/", headers=form)[0] == 200, "what only reads goes on"
        time.sleep(5)
        assert {role: running.pid_of(role) for role in roles} == pids, "no process ended by it"
    finally:
        for pid in pids.values():
            resource.prlimit(pid, resource.RLIMIT_FSIZE, before)
    wait_for(lambda: json.loads(ask(running, path="/readyz")[1])["status"] == "ok", seconds=60)


def test_production_configuration_is_one_that_nginx_takes(tmp_path: Path) -> None:
    key, certificate = tmp_path / "tls.key", tmp_path / "tls.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-keyout", str(key), "-out", str(certificate), "-days", "2", "-subj", "/CN=holdfast.example"),
        ],
        check=True,
        capture_output=True,
    )
    text = (PROJECT / "deploy" / "nginx" / "nginx.conf").read_text()
    for shipped, here in {
        "/opt/holdfast": str(PROJECT),
        "/etc/holdfast/tls": str(tmp_path / "tls"),
        "/run/nginx.pid": str(tmp_path / "nginx.pid"),
        "syslog:server=unix:/dev/log": "stderr",
        "user www-data;": "",
        "access_log off;": "access_log off;"
        + "".join(
            f" {kind}_temp_path {tmp_path}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        ),
    }.items():
        assert shipped in text
        text = text.replace(shipped, here)
    # Where this account may not listen, the test still sees that every line is understood.
    text = text.replace("listen 80 ", "listen 127.0.0.1:18080 ").replace("listen [::]:80 ", "listen [::1]:18080 ")
    text = text.replace("listen 443 ", "listen 127.0.0.1:18443 ").replace("listen [::]:443 ", "listen [::1]:18443 ")
    (tmp_path / "nginx.conf").write_text(text)
    tried = subprocess.run(
        [nginx(), "-e", "stderr", "-t", "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf")],
        text=True,
        capture_output=True,
        check=False,
    )
    assert "test is successful" in tried.stderr, tried.stderr
