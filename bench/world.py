# SPDX-License-Identifier: Apache-2.0
"""What every part shares: a migrated database, the cast with devices, a server at one's side, and the clock."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import django

PORT_FILE = "port"


def start() -> None:
    """Set Django up, make the database's tables, and give this process the role keys of the cast."""
    django.setup()
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    from audit import signing
    from tests.cast.roles import ROLE_KEYS

    signing.install(lambda: ROLE_KEYS)


def report(rows: list[dict[str, str]]) -> None:
    """Print the rows for `bench.__main__`, as the last line."""
    print(json.dumps(rows))


def row(what: str, ours: float, floor: float, unit: str, *, scale: float = 1.0) -> dict[str, str]:
    """Make one row: our figure, its floor, and the ratio between them."""
    return {
        "what": what,
        "ours": f"{ours * scale:,.2f} {unit}",
        "floor": f"{floor * scale:,.2f} {unit}",
        "ratio": f"{ours / floor:.2f}",
    }


def median_of(work: Callable[[], Any], times: int) -> float:
    """Return the median seconds of `times` runs, after a tenth of them as warm-up."""
    for _ in range(max(1, times // 10)):
        work()
    taken = []
    for _ in range(times):
        begun = time.perf_counter()
        work()
        taken.append(time.perf_counter() - begun)
    return statistics.median(taken)


def paired(ours: Callable[[], Any], floor: Callable[[], Any], times: int, *, rounds: int = 5) -> tuple[float, float]:
    """Measure both in turn, round by round, and return the median of each: drift hits both alike."""
    pairs = [(median_of(ours, times), median_of(floor, times)) for _ in range(rounds)]
    return statistics.median(a for a, _ in pairs), statistics.median(b for _, b in pairs)


def cpu_seconds(pid: int) -> float:
    """Return the CPU time that a process has used, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def server() -> Iterator[tuple[str, int, int]]:
    """Start the web process as in production (one worker, eight threads); gives host, port and the worker's pid."""
    from tests.cast.postgres import free_port
    from tests.cast.server import descendants_of

    port = free_port()
    # Claims touch no HSM, so the server is given none.
    environment = {**os.environ, "HOLDFAST_ROLE": "tool", "HOLDFAST_PUBLIC_URL": f"http://127.0.0.1:{port}"}
    command = [sys.executable, "-m", "granian", "--interface", "wsgi", "config.wsgi:application", "--no-ws"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--workers", "1", "--blocking-threads", "8"]
    with subprocess.Popen(
        [*command, "--backpressure", "64", "--log-level", "error"], env=environment, stdout=subprocess.DEVNULL
    ) as process:
        try:
            _wait(port)
            workers = descendants_of(process.pid) or [process.pid]
            yield "127.0.0.1", port, max(workers, key=cpu_seconds)
        finally:
            process.terminate()
            process.wait(timeout=20)


def _wait(port: int) -> None:
    import urllib.request

    deadline = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/livez", timeout=2):
                return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
