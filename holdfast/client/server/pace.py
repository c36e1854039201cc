# SPDX-License-Identifier: Apache-2.0
"""How long a client waits for one answer: patience that slow octets use up, and octets that come renew.

Implements FAULTS D6 on the client's side. Does not retry, and does not bound how much is read: `transport` does both.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any, Final

import httpcore2
import httpx2

# How far an answer may fall behind FLOOR before it is given up: four silences of 30 s, or the restart of a server.
PATIENCE_SECONDS: Final = 120.0
# Octets a second: slower than a modem. An answer of at most `maximum` octets ends within PATIENCE + maximum / FLOOR
# seconds: two minutes for one that trickles octet by octet, under eleven for 2 MiB at the slowest.
FLOOR: Final = 4096
_PIECE: Final = 65_536  # written at once; a peer that takes nothing of it for a while is noticed between two
_KEEP_SECONDS: Final = 5.0  # an idle connection is left before servers and proxies close theirs, at ten or more

# What says that no whole answer came. Every other exception of the connection would be a fault of this program.
FAILURES: Final = (
    httpx2.TransportError,
    httpcore2.TimeoutException,
    httpcore2.NetworkError,
    httpcore2.ProtocolError,
)


class Pace:
    """The patience left for the request under way.

    It runs from `begin`, and each octet of body earns a part of a second, up to the whole patience again: time
    earned by a fast beginning cannot be hoarded for a stall.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._until = 0.0

    def begin(self, seconds: float | None = None) -> None:
        """Start to wait, for `seconds` or with the whole patience."""
        self._until = self._clock() + (PATIENCE_SECONDS if seconds is None else seconds)

    def left(self) -> float:
        """Return the seconds of patience left; 0 when there are none."""
        return max(0.0, self._until - self._clock())

    def came(self, octets: int) -> None:
        """Count octets that went or came. Raises httpx2.ReadTimeout when they came too late."""
        now = self._clock()
        self._until = min(self._until + octets / FLOOR, now + PATIENCE_SECONDS)
        if self._until <= now:
            raise httpx2.ReadTimeout("slower than the floor")

    def within(self, timeout: float | None) -> float:
        """Return how long one wait may take. Raises httpx2.ReadTimeout when no patience is left."""
        left = self.left()
        if not left:
            raise httpx2.ReadTimeout("slower than the floor")
        return left if timeout is None else min(timeout, left)


class _PacedStream(httpcore2.NetworkStream):
    """A connection on which each wait ends with the patience: headers that trickle are caught here and nowhere else."""

    def __init__(self, stream: httpcore2.NetworkStream, pace: Pace) -> None:
        self._stream = stream
        self._pace = pace

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._pace.within(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        for start in range(0, len(buffer), _PIECE):
            piece = buffer[start : start + _PIECE]
            self._stream.write(piece, self._pace.within(timeout))
            self._pace.came(len(piece))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.NetworkStream:
        inner = self._stream.start_tls(ssl_context, server_hostname, self._pace.within(timeout))
        return _PacedStream(inner, self._pace)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class _PacedBackend(httpcore2.SyncBackend):
    def __init__(self, pace: Pace) -> None:
        self._pace = pace

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.NetworkStream:
        try:
            stream = super().connect_tcp(host, port, self._pace.within(timeout), local_address, socket_options)
        except (UnicodeError, OverflowError) as error:  # a name or a port that no network can have
            raise httpcore2.ConnectError(str(error)) from error
        return _PacedStream(stream, self._pace)


class PacedTransport(httpx2.BaseTransport):
    """HTTP/1.1 over TCP or TLS, paced. httpx2's own transport has no place for a network of one's own."""

    def __init__(self, pace: Pace) -> None:
        context = httpx2.create_ssl_context(trust_env=False)
        self._pool = httpcore2.ConnectionPool(
            ssl_context=context, keepalive_expiry=_KEEP_SECONDS, network_backend=_PacedBackend(pace)
        )

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send one request; the body of the answer is read from the connection as it is asked for."""
        url = request.url
        answer = self._pool.handle_request(
            httpcore2.Request(
                request.method,
                httpcore2.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
                headers=request.headers.raw,
                content=request.stream,
                extensions=request.extensions,
            )
        )
        return httpx2.Response(
            answer.status, headers=answer.headers, stream=_Body(answer), extensions=answer.extensions
        )

    def close(self) -> None:
        """Close the connections."""
        self._pool.close()


class _Body(httpx2.SyncByteStream):
    def __init__(self, answer: httpcore2.Response) -> None:
        self._answer = answer

    def __iter__(self) -> Any:
        return self._answer.iter_stream()

    def close(self) -> None:
        self._answer.close()
