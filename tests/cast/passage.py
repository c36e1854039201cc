# SPDX-License-Identifier: Apache-2.0
"""A way to a server that can be closed and opened again: whoever goes through it meets a server that is away."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Passage:
    """Passes connections at a loopback port on to another one, while it is open."""

    def __init__(self, to: int, port: int) -> None:
        self.port, self._to = port, to
        self._listener: socket.socket | None = None
        self._held: list[socket.socket] = []

    def open(self) -> None:
        """Take connections."""
        self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._serve, args=[self._listener], daemon=True).start()

    def close(self) -> None:
        """Break every connection off, and refuse those that come."""
        listener, self._listener = self._listener, None
        if listener is not None:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        for one in self._held:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        self._held.clear()

    def _serve(self, listener: socket.socket) -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self._to))
            self._held += [near, far]
            threading.Thread(target=_pass_both_ways, args=[near, far], daemon=True).start()


def _pass_both_ways(near: socket.socket, far: socket.socket) -> None:
    with near, far:
        back = threading.Thread(target=_pass_on, args=[far, near], daemon=True)
        back.start()
        _pass_on(near, far)
        back.join()


def _pass_on(one: socket.socket, other: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while octets := one.recv(65536):
            other.sendall(octets)
    for end in (one, other):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


@contextmanager
def passage(to: int) -> Iterator[Passage]:
    """Open a way to a loopback port, and close it afterwards."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    made = Passage(to, port)
    made.open()
    try:
        yield made
    finally:
        made.close()
