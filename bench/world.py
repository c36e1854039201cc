# SPDX-License-Identifier: Apache-2.0
"""What every part shares: a migrated database, the web process, rows with their goals, and the clock.

A part is a module with a `main()` that measures and calls `report`. It measures ours and the floor (or the peer) in
turn, round by round, and makes a row of both; a goal is `<=` or `>=` and a number, held against the ratio.
"""

from __future__ import annotations

import json
import operator
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import django

ROUNDS: Final = 3
START_SECONDS: Final = 120
PUBLIC_URL: Final = "https://bench.test"
_GOAL: Final = re.compile(r"(<=|>=) ([0-9.]+)")
_HOLDS: Final = {"<=": operator.le, ">=": operator.ge}
Row = dict[str, Any]
Curve = dict[str, Any]


class NotMeasured(Exception):
    """A peer cannot be had on this machine; the text says why."""


def start() -> None:
    """Set Django up, make the database's tables, and give this process the role keys of the cast."""
    django.setup()
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    from audit import signing
    from tests.cast.roles import ROLE_KEYS

    signing.install(lambda: ROLE_KEYS)


@contextmanager
def hsm() -> Iterator[Any]:
    """Open a SoftHSM after every ceremony, for this process and for the web process; gives config and tokens."""
    from hsm import registry
    from hsm.runtime import open_tokens

    config = _home()
    with open_tokens(config, ["root", "log", "escrow"]) as tokens:
        registry.install(lambda: {"root": tokens.root, "log": tokens.log, "escrow": tokens.escrow})
        yield config, tokens


def _home() -> Any:
    """Return the HSM's home of this part, made when it is first asked for."""
    from tests.cast.hsm import _config, make_home

    home = Path(os.environ["HOLDFAST_STATE_DIR"]) / "hsm"
    return _config(home) if home.exists() else make_home(home)


def founded() -> Any:
    """Return a tenant with a founded escrow, on the HSM that this process opened."""
    from hsm import registry
    from hsm.ceremony import Ceremony
    from tests.cast.hsm import TENANT
    from tests.cast.world import World

    key = Ceremony(_home()).escrow_keys(TENANT)[0]
    return World(Path(os.environ["HOLDFAST_STATE_DIR"]) / "release", key, registry.log().public_key)


def say(text: str) -> None:
    """Say what is being done, to whoever waits."""
    print(f"{time.strftime('%H:%M:%S')}   {text}", file=sys.stderr, flush=True)


def report(rows: list[Row], curves: Sequence[Curve] = ()) -> None:
    """Hand rows and curves to `bench.__main__`, as the last line."""
    print(json.dumps({"rows": rows, "curves": [*curves]}))


def row(
    what: str, ours: float | Sequence[float], floor: float | Sequence[float], unit: str, *, scale: float = 1.0,
    goal: str = "", beside: str = "",
) -> Row:  # fmt: skip
    """Make one row: our figure, the floor's or peer's, and the ratio between them.

    ours, floor: a figure for each round, of which the median counts, as does the median of the rounds' ratios; their
    least and most are the spread. goal: such as `<= 1.15`. beside: what the second figure is of, if not the floor.
    """
    ours, floor = _rounds(ours), _rounds(floor)
    ratios = [a / b for a, b in zip(ours, floor, strict=True)]
    made = {
        "what": what,
        "ours": f"{statistics.median(ours) * scale:,.2f} {unit}",
        "floor": f"{statistics.median(floor) * scale:,.2f} {unit}" + (f" ({beside})" if beside else ""),
        "ratio": f"{statistics.median(ratios):.2f}",
    }
    if len(ratios) > 1:
        made["spread"] = f"{min(ratios):.2f} to {max(ratios):.2f}"
    if goal:
        made |= {"goal": goal, "holds": _holds(statistics.median(ratios), goal)}
    return made


def figure(what: str, ours: float | Sequence[float], unit: str, *, scale: float = 1.0, goal: str = "") -> Row:
    """Make a row of a figure of ours that has no floor; a goal is held against the figure itself."""
    ours = _rounds(ours)
    made: Row = {"what": what, "ours": f"{statistics.median(ours) * scale:,.2f} {unit}"}
    if len(ours) > 1:
        made["spread"] = f"{min(ours) * scale:,.2f} to {max(ours) * scale:,.2f}"
    if goal:
        made |= {"goal": f"{goal} {unit}", "holds": _holds(statistics.median(ours) * scale, goal)}
    return made


def missing(what: str, reason: NotMeasured, *, goal: str = "") -> Row:
    """Make the row of a figure whose peer cannot be had here. A goal that was not measured does not hold."""
    made: Row = {"what": what, "ours": f"not measured: {reason}"}
    return made | ({"goal": goal, "holds": False} if goal else {})


def _rounds(figures: float | Sequence[float]) -> Sequence[float]:
    return [figures] if isinstance(figures, float | int) else figures


def _holds(value: float, goal: str) -> bool:
    parts = _GOAL.fullmatch(goal)
    assert parts is not None, goal
    return bool(_HOLDS[parts[1]](value, float(parts[2])))


def median_of(work: Callable[[], Any], times: int) -> float:
    """Return the median seconds of `times` runs, after a tenth of them as warm-up."""
    for _ in range(max(1, times // 10)):
        work()
    return statistics.median(seconds_of(work) for _ in range(times))


def seconds_of(work: Callable[[], Any]) -> float:
    """Return how many seconds one run takes."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def paired(
    ours: Callable[[], Any], floor: Callable[[], Any], times: int, *, rounds: int = ROUNDS
) -> tuple[list[float], list[float]]:
    """Measure both in turn and return the rounds' medians of each, for `row`: drift hits both alike."""
    pairs = [(median_of(ours, times), median_of(floor, times)) for _ in range(rounds)]
    return [a for a, _ in pairs], [b for _, b in pairs]


def best_of(*steps: Callable[[], Any], rounds: int, per: int) -> list[float]:
    """Return each step's least processor seconds per call; they take turns. What is left is the work itself."""
    import gc

    least = [float("inf")] * len(steps)
    gc.disable()
    try:
        for _ in range(rounds):
            for which, step in enumerate(steps):
                begun = time.process_time()
                for _ in range(per):
                    step()
                least[which] = min(least[which], (time.process_time() - begun) / per)
            gc.collect(0)
    finally:
        gc.enable()
    return least


def cpu_seconds(*pids: int) -> float:
    """Return the processor time that these processes have used, with those of theirs that have ended."""
    return sum(_cpu(pid) for pid in pids)


def _cpu(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return sum(int(one) for one in fields[11:15]) / os.sysconf("SC_CLK_TCK")


def family(pid: int) -> list[int]:
    """Return a process and all below it."""
    from tests.cast.server import descendants_of

    return [pid, *descendants_of(pid)]


def database_cpu() -> float:
    """Return the processor time that PostgreSQL has used, all its processes together; 0 for SQLite."""
    from django.db import connection

    if connection.vendor != "postgresql":
        return 0.0
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        backend = cursor.fetchone()[0]
    master = int(Path(f"/proc/{backend}/stat").read_text().rsplit(")", 1)[1].split()[1])
    return cpu_seconds(*family(master))


@dataclass(frozen=True)
class Serving:
    """A server on loopback, ours or a peer's."""

    port: int
    pid: int

    def cpu(self) -> float:
        """Return the processor time that all its processes have used."""
        return cpu_seconds(*family(self.pid))


@contextmanager
def server(*, workers: int = 1) -> Iterator[Serving]:
    """Start the web process as in production, eight threads for each worker."""
    from holdfast.core.log.writers import Role
    from tests.cast.roles import key_file

    state = Path(os.environ["HOLDFAST_STATE_DIR"])
    _home()
    changed = {
        "HOLDFAST_ROLE": "web",
        "HOLDFAST_PUBLIC_URL": PUBLIC_URL,
        "HOLDFAST_TRUSTED_PROXIES": "127.0.0.1",
        "HOLDFAST_ROLE_KEY_FILE": str(key_file(Role.WEB, state)),
    }
    command = ["config.web", "--interface", "wsgi", "config.wsgi:application", "--workers", str(workers)]
    command += ["--blocking-threads", "8", "--backpressure", "64", "--no-ws", "--log-level", "error"]
    with serving([sys.executable, "-m", *command], changed, path="/livez") as made:
        yield made


@contextmanager
def serving(
    command: Sequence[str], changed: dict[str, str], *, path: str, option: str = "--port", cwd: Path | None = None
) -> Iterator[Serving]:
    """Run a server until the block ends. option: how it is told its port, "" where its own configuration says.

    Raises RuntimeError, with the end of what it said, when it does not answer at `path` in time.
    """
    from tests.cast.postgres import free_port

    port = int(changed.pop("PORT", 0)) or free_port()
    arguments = [*command, *((option, str(port)) if option else ())]
    with tempfile.TemporaryFile(mode="w+") as said:
        process = subprocess.Popen(
            arguments, env={**os.environ, **changed}, cwd=cwd, stdout=said, stderr=subprocess.STDOUT
        )
        try:
            _wait(process, port, path, said)
            yield Serving(port, process.pid)
        finally:
            process.terminate()
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait(process: subprocess.Popen[bytes], port: int, path: str, said: Any) -> None:
    host = PUBLIC_URL.removeprefix("https://")
    asked = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers={"host": host})
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            with urllib.request.urlopen(asked, timeout=2):
                return
        except urllib.error.HTTPError as error:
            if error.code < 500:
                return  # it answers
            raise
        except OSError:
            if time.monotonic() > deadline or process.poll() is not None:
                said.seek(0)
                raise RuntimeError(f"{process.args} did not start:\n{said.read()[-2000:]}") from None
            time.sleep(0.1)
