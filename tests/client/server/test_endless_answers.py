# SPDX-License-Identifier: Apache-2.0
"""Answers that do not end, end too early, or unpack into more than was asked for, each over a real socket.

Implements FAULTS D6 on the client's side: a refusal of the client's own, in time, at every door through which it reads.
"""

from __future__ import annotations

import contextlib
import gzip
import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterator

import pytest

from holdfast.client.errors import AnswerRefused, ClientError, Unreachable
from holdfast.client.server import pace, transport
from holdfast.client.server.pace import Pace
from holdfast.client.server.transport import Api

PATIENCE = 0.3
# What a test may take: the patience, and the scheduling of a busy machine. Without the rule each would take an hour.
BEARABLE = 5.0

Serve = Callable[[socket.socket], None]
Read = Callable[[Api], object]

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"

DOORS: dict[str, Read] = {
    "get": lambda api: api.get("devices"),
    "a long get": lambda api: api.get("recovery/1/release", maximum=16 * 1024 * 1024),
    "pages": lambda api: list(api.pages("cases", "cases", "id")),
    "post": lambda api: api.post("cases", {"case": "AAAA"}),
    "put": lambda api: api.put("vault", {"blob": "A" * 1_000_000}),
    "delete": lambda api: api.delete("vault"),
    "download": lambda api: b"".join(api.download("audit/export", maximum=4 * 1024**3)),
}


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "PATIENCE_SECONDS", PATIENCE)
    monkeypatch.setattr(transport, "TIMEOUT_SECONDS", 0.15)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> float:
    """Enough patience for an answer that is to come, on a machine that is busy with others."""
    monkeypatch.setattr(pace, "PATIENCE_SECONDS", 1.5)
    monkeypatch.setattr(transport, "TIMEOUT_SECONDS", 5.0)
    return 1.5


@contextlib.contextmanager
def server(serve: Serve) -> Iterator[Api]:
    """A client of a server that does, with each connection, what `serve` does, and then hangs up."""
    over = threading.Event()
    connections: list[socket.socket] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def run(connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            serve(connection)

    def accept() -> None:
        while not over.is_set():
            with contextlib.suppress(OSError):
                connections.append(listener.accept()[0])
                threading.Thread(target=run, args=(connections[-1],), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    api = Api(f"http://127.0.0.1:{listener.getsockname()[1]}", sleep=lambda _seconds: None)
    try:
        yield api
    finally:
        over.set()
        api.close()
        for each in connections:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)


def asked(connection: socket.socket) -> None:
    """Read the request as far as its body, and what has come of that."""
    head = b""
    while b"\r\n\r\n" not in head and (got := connection.recv(65_536)):
        head += got


def saying(*pieces: bytes, every: float = 0.0, stay: bool = False, again: bytes = b"") -> Serve:
    """Answer with `pieces`, one each `every` seconds, then `again` for ever, or silence, or the end."""

    def serve(connection: socket.socket) -> None:
        asked(connection)
        for piece in pieces:
            connection.sendall(piece)
            time.sleep(every)
        while again:
            connection.sendall(again)
            time.sleep(every)
        if stay:
            connection.settimeout(None)
            while connection.recv(65_536):
                pass

    return serve


def whole(body: bytes, *lines: bytes) -> bytes:
    return HEAD + b"".join(line + b"\r\n" for line in (*lines, b"Content-Length: %d" % len(body))) + b"\r\n" + body


def _deaf(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    while connection.recv(16):
        time.sleep(0.05)


# Trickles and stalls: the total time of a request ends them, whatever each single read would allow.
WITHOUT_END: dict[str, Serve] = {
    "silence": saying(stay=True),
    "a status line, octet by octet": saying(b"H", b"T", b"T", b"P", every=0.1, again=b"/"),
    "headers, octet by octet": saying(HEAD + b"X-Slow: ", every=0.05, again=b"a"),
    "headers without end": saying(HEAD, every=0.05, again=b"X-More: yes\r\n"),
    "interim answers without end": saying(every=0.02, again=b"HTTP/1.1 103 Early Hints\r\n\r\n"),
    "a body, octet by octet": saying(HEAD + b"Content-Length: 100000\r\n\r\n", every=0.05, again=b" "),
    "a body, chunk by chunk": saying(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", every=0.05, again=b"1\r\n \r\n"),
    "a body to the end of a connection that has none": saying(HEAD + b"\r\n", every=0.05, again=b" "),
    "a chunk whose length goes on": saying(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", every=0.05, again=b"0"),
    "trailers without end": saying(
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n", every=0.05, again=b"X-More: yes\r\n"
    ),
    "a body that begins fast and stalls": saying(
        HEAD + b"Content-Length: 900000\r\n\r\n" + b" " * 500_000, every=0.05, again=b" "
    ),
    "a body that stops": saying(HEAD + b"Content-Length: 10\r\n\r\n{", stay=True),
    "a refusal, octet by octet": saying(b"HTTP/1.1 403 No\r\nContent-Length: 100000\r\n\r\n", every=0.05, again=b" "),
}

CUT: dict[str, Serve] = {
    "before a word": saying(),
    "in the status line": saying(b"HTTP/1.1 2"),
    "in the headers": saying(HEAD),
    "in the body": saying(HEAD + b"Content-Length: 10\r\n\r\n{"),
    "in a chunk": saying(HEAD + b"Transfer-Encoding: chunked\r\n\r\n8\r\n{"),
    "between two chunks": saying(HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n"),
    "a length that is too long": saying(HEAD + b"Content-Length: 2000\r\n\r\n{}"),
    "two lengths": saying(HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}"),
    "a length that is no number": saying(HEAD + b"Content-Length: two\r\n\r\n{}"),
    "a negative length": saying(HEAD + b"Content-Length: -1\r\n\r\n{}"),
    "a chunk length that is no number": saying(HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n"),
    "another protocol": saying(b"220 mail.example ESMTP\r\n"),
    "a header line with a NUL": saying(HEAD + b"X: a\0b\r\nContent-Length: 2\r\n\r\n{}"),
    "a switch of protocols": saying(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"),
    "headers of a megabyte": saying(HEAD + b"X-Long: " + b"a" * 1_000_000),
}

_BOMB = gzip.compress(b" " * 50_000_000)
PACKED: dict[str, Serve] = {
    "a gzip body that is none": saying(whole(b"not gzip at all", b"Content-Encoding: gzip")),
    "a gzip body cut short": saying(whole(gzip.compress(b"{}")[:-6], b"Content-Encoding: gzip")),
    "a gzip body with a wrong checksum": saying(
        whole(gzip.compress(b"{}")[:-8] + b"\0" * 8, b"Content-Encoding: gzip")
    ),
    "a bomb": saying(whole(_BOMB, b"Content-Encoding: gzip")),
    "a bomb in a bomb": saying(whole(gzip.compress(_BOMB), b"Content-Encoding: gzip, gzip")),
    "a deflate bomb": saying(whole(zlib.compress(b" " * 50_000_000), b"Content-Encoding: deflate")),
    "a thousand codings": saying(whole(b"{}", b"Content-Encoding: " + b", ".join([b"gzip"] * 1000))),
    "a coding nobody knows": saying(whole(b"{}", b"Content-Encoding: x-holdfast")),
    "more than asked for": saying(
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n", again=b"10000\r\n" + b" " * 65_536 + b"\r\n"
    ),
}


# Every kind through a door of each sort, and three kinds through every door.
_SOME = ("silence", "headers, octet by octet", "a body, octet by octet")


@pytest.mark.parametrize(
    ("kind", "door"),
    [(kind, door) for kind in WITHOUT_END for door in DOORS if kind in _SOME or door in ("get", "download")],
)
def test_answer_without_an_end_is_given_up_in_time(kind: str, door: str) -> None:
    with server(WITHOUT_END[kind]) as api:
        began = time.monotonic()
        with pytest.raises(ClientError) as caught:
            DOORS[door](api)
        assert time.monotonic() - began < BEARABLE
    assert isinstance(caught.value, Unreachable | AnswerRefused)


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("kind", CUT)
def test_answer_that_breaks_off_is_a_refusal_of_the_clients_own(kind: str, door: str) -> None:
    with server(CUT[kind]) as api, pytest.raises(ClientError) as caught:
        DOORS[door](api)
    assert isinstance(caught.value, Unreachable | AnswerRefused)
    assert caught.value.way_out


@pytest.mark.parametrize("door", [door for door in DOORS if door != "download"])
@pytest.mark.parametrize("kind", PACKED)
def test_packed_answer_is_refused_before_it_is_unpacked(kind: str, door: str) -> None:
    with server(PACKED[kind]) as api, pytest.raises(AnswerRefused):
        DOORS[door](api)


@pytest.mark.parametrize("kind", PACKED)
def test_packed_download_is_refused_before_it_is_unpacked(kind: str) -> None:
    with server(PACKED[kind]) as api, pytest.raises(AnswerRefused):
        list(api.download("audit/export", maximum=1_000_000))


@pytest.mark.parametrize("door", ["get", "post", "pages"])
def test_length_that_is_too_short_leaves_no_document(door: str) -> None:
    with server(saying(HEAD + b'Content-Length: 5\r\n\r\n{"a":1}')) as api, pytest.raises(AnswerRefused):
        DOORS[door](api)


def test_server_that_does_not_take_the_request_is_given_up_in_time() -> None:
    with server(_deaf) as api:
        began = time.monotonic()
        with pytest.raises(Unreachable):
            api.put("vault", {"blob": "A" * 20_000_000})
        assert time.monotonic() - began < BEARABLE


def test_cut_connection_is_asked_again_and_the_whole_answer_believed(patient: float) -> None:
    answers = [HEAD + b"Content-Length: 10\r\n\r\n{", HEAD, whole(b'{"a":1}')]

    def serve(connection: socket.socket) -> None:
        asked(connection)
        connection.sendall(answers.pop(0))

    with server(serve) as api:
        assert api.get("devices").number("a") == 1
    assert not answers


def test_attempts_share_the_patience_of_one_request() -> None:
    asks: list[float] = []

    def serve(connection: socket.socket) -> None:
        asks.append(time.monotonic())
        saying(HEAD + b"Content-Length: 100000\r\n\r\n", every=0.02, again=b" ")(connection)

    with server(serve) as api, pytest.raises(Unreachable):
        api.get("devices")
    assert len(asks) == 1


def test_long_download_that_keeps_pace_is_read_to_its_end_however_long_it_takes(patient: float) -> None:
    piece = b"a" * 4000
    pieces = [b"%x\r\n%s\r\n" % (len(piece), piece)] * 30
    serve = saying(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", *pieces, b"0\r\n\r\n", every=0.1)
    with server(serve) as api:
        began = time.monotonic()
        got = b"".join(api.download("audit/export", maximum=1_000_000))
        assert time.monotonic() - began > 1.5 * patient
    assert got == piece * 30


def test_time_in_which_the_caller_works_is_not_the_servers(patient: float) -> None:
    pieces = [b"%x\r\n%s\r\n" % (100, b"a" * 100)] * 4
    with server(saying(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", *pieces, b"0\r\n\r\n", every=0.05)) as api:
        got = b""
        for piece in api.download("audit/export", maximum=1_000_000):
            time.sleep(0.6 * patient)
            got += piece
    assert got == b"a" * 400


def test_nothing_packed_is_asked_for(patient: float) -> None:
    heads: list[bytes] = []

    def serve(connection: socket.socket) -> None:
        heads.append(connection.recv(65_536))
        connection.sendall(whole(b"{}"))

    with server(serve) as api:
        api.get("devices")
    assert b"accept-encoding: identity\r\n" in heads[0].lower()


def test_patience_is_earned_by_octets_and_never_hoarded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "PATIENCE_SECONDS", 120.0)
    now = 0.0
    waits = Pace(lambda: now)
    waits.begin()
    now = 119.0
    waits.came(10 * pace.FLOOR)
    assert waits.left() == 11.0
    waits.came(10**9)
    assert waits.left() == 120.0


def test_whole_answers_share_a_connection(patient: float) -> None:
    connections: list[int] = []

    def serve(connection: socket.socket) -> None:
        connections.append(1)
        for _ in range(3):
            asked(connection)
            connection.sendall(whole(b"{}"))

    with server(serve) as api:
        for _ in range(3):
            api.get("devices")
    assert len(connections) == 1


@pytest.mark.parametrize("address", ["https://a..b", "http://localhost:99999", "https://" + "a" * 300 + ".example"])
def test_address_that_cannot_exist_is_unreachable_or_refused(address: str) -> None:
    with pytest.raises((ClientError, ValueError)):
        Api(address, sleep=lambda _seconds: None).get("devices")
