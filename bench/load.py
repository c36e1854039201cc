# SPDX-License-Identifier: Apache-2.0
"""A load generator: requests made beforehand, sent over persistent connections by processes that do nothing else.

Each client sends its next request when the last one is answered. The processes are no part of the server's
interpreter, nor of the one that made the requests: what they cost is theirs, and the same for whoever is measured.
"""

from __future__ import annotations

import json
import os
import pickle
import selectors
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

SECONDS: Final = 3.0  # after which a client sends no more
_PROCESSES: Final = min(4, max(2, os.cpu_count() or 1))
_LAST_CHUNK: Final = b"\r\n0\r\n\r\n"
_MOST_SHOWN: Final = 1500  # bytes of an answer that was a refusal


@dataclass(frozen=True)
class Run:
    """How many requests were answered in how many seconds, and how many of them with what was asked for."""

    answered: int
    good: int
    seconds: float

    @property
    def rate(self) -> float:
        """Good answers a second."""
        return self.good / self.seconds

    def whole(self) -> Run:
        """Return this run. Raises RuntimeError when an answer was not a good one."""
        if self.good != self.answered:
            raise RuntimeError(f"{self.answered - self.good} of {self.answered} answers lack what was asked for")
        return self


def run(port: int, lines: Sequence[Sequence[bytes]], *, has: bytes = b"", seconds: float = SECONDS) -> Run:
    """Have one client for each line send its requests in their order, until it has no more or the time is over.

    Every answer must be a 200, 201 or 204. Raises RuntimeError, with one of them, for others. has: what an answer has
    somewhere in it to count as a good one.
    """
    shares = [share for share in (lines[at::_PROCESSES] for at in range(_PROCESSES)) if share]
    started = [
        subprocess.Popen([sys.executable, "-m", "bench.load"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for _ in shares
    ]
    try:
        for process, share in zip(started, shares, strict=True):
            _write(process, pickle.dumps((port, share, has, seconds)))
        for process in started:
            _said(process)
        for process in started:
            _write(process, b"go")
        ended = [json.loads(_said(process)) for process in started]
    finally:
        for process in started:
            process.kill()
            process.communicate()
    refused = [text for one in ended for text in one["refused"]]
    if refused:
        raise RuntimeError(f"{len(refused)} of the requests were refused: {refused[0]}")
    begun, over = min(one["begun"] for one in ended), max(one["over"] for one in ended)
    answered, good = (sum(one[name] for one in ended) for name in ("answered", "good"))
    return Run(answered, good, over - begun)


def _write(process: subprocess.Popen[bytes], message: bytes) -> None:
    assert process.stdin is not None
    process.stdin.write(len(message).to_bytes(8, "big") + message)
    process.stdin.flush()


def _said(process: subprocess.Popen[bytes]) -> bytes:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise RuntimeError("a load generator ended before its time")
    return line


class _Client:
    """One connection, and what is still to be sent over it."""

    def __init__(self, port: int, requests: Sequence[bytes]) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.waiting = deque(requests)
        self.held = b""
        self.needs = 0  # bytes of the whole answer, 0 while its head is not whole, -1 when it comes in chunks

    def send(self) -> None:
        self.held, self.needs = b"", 0
        self.socket.sendall(self.waiting.popleft())

    def has_answer(self) -> bool:
        """Read what is there, and tell whether the answer is whole."""
        more = self.socket.recv(262_144)
        if not more:
            raise RuntimeError("the server closed the connection")
        self.held += more
        if not self.needs:
            head, found, _ = self.held.partition(b"\r\n\r\n")
            if not found:
                return False
            length = _length(head)
            self.needs = -1 if length is None else len(head) + 4 + length
        return self.held.endswith(_LAST_CHUNK) if self.needs < 0 else len(self.held) >= self.needs


def _length(head: bytes) -> int | None:
    """Return the bytes of a body, None for one that comes in chunks."""
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line[15:])
        if line == b"transfer-encoding: chunked":
            return None
    return 0


def _work(port: int, lines: Sequence[Sequence[bytes]], has: bytes, seconds: float) -> dict[str, Any]:
    selector = selectors.DefaultSelector()
    clients = [_Client(port, requests) for requests in lines]
    for client in clients:
        selector.register(client.socket, selectors.EVENT_READ, client)
    _tell("ready")
    _read()
    begun = time.monotonic()
    answered, good, refused, open_ = 0, 0, [], len(clients)
    for client in clients:
        client.send()
    while open_:
        for key, _ in selector.select():
            client = key.data
            if not client.has_answer():
                continue
            answered += 1
            good += has in client.held
            if client.held[9:12] not in (b"200", b"201", b"204"):
                refused.append(client.held[:_MOST_SHOWN].decode(errors="replace"))
            if client.waiting and not refused and time.monotonic() - begun < seconds:
                client.send()
            else:
                open_ -= 1
    return {"answered": answered, "good": good, "begun": begun, "over": time.monotonic(), "refused": refused}


def _read() -> bytes:
    return sys.stdin.buffer.read(int.from_bytes(sys.stdin.buffer.read(8), "big"))


def _tell(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    _tell(json.dumps(_work(*pickle.loads(_read()))))
