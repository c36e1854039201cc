# SPDX-License-Identifier: Apache-2.0
"""Starts: of the command, beside the import of typer alone; of `manage.py up`, and what its processes then hold.

Processor seconds, and not those of a clock: what else the machine does is not ours. The slowest help is named.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

import typer

from bench.world import Row, report, row
from holdfast.cli.app import app
from holdfast.cli.page import leaves
from tests.cast.server import Installation, descendants_of

GOAL: Final = "<= 2"
ROUNDS: Final = 7
TYPER: Final = ("-c", "import typer")
COMMAND: Final = ("-m", "holdfast.cli")
SETTLED_SECONDS: Final = 10  # after which the processes of an idle installation take no more


def seconds_of(*lines: tuple[str, ...]) -> list[list[float]]:
    """Return the rounds' processor seconds of Python with each of these arguments, which take turns."""
    taken: list[list[float]] = [[] for _ in lines]
    for _ in range(ROUNDS):
        for line, seconds in zip(lines, taken, strict=True):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run([sys.executable, *line], capture_output=True, check=False)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return taken


def kib_of(pids: list[int]) -> int:
    """Return what these processes hold, each page shared out among those that share it (proc(5): Pss)."""
    rollups = "\n".join(Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in pids)
    return sum(int(line.split()[1]) for line in rollups.splitlines() if line.startswith("Pss:"))


def helps() -> list[Row]:
    """Measure the help of the command, of every group, and of one command of each."""
    root: Any = typer.main.get_command(app)
    words = {leaf.words[0]: leaf.words for leaf in leaves(root)}
    asked = [(), *dict.fromkeys(one[:length] for one in words.values() for length in range(1, len(one) + 1))]
    floor, *ours = seconds_of(TYPER, *((*COMMAND, *one, "--help") for one in asked))
    slowest = max(range(1, len(asked)), key=lambda one: statistics.median(ours[one]))
    said = " ".join(("holdfast", *asked[slowest], "--help"))
    return [
        row("holdfast --help, beside import typer", ours[0], floor, "ms CPU", scale=1e3, goal=GOAL),
        row(f"the slowest of {len(asked) - 1} others: {said}", ours[slowest], floor, "ms CPU", scale=1e3, goal=GOAL),
    ]


def installation(directory: Path) -> list[Row]:
    """Measure the first start of an installation beside its second, and its memory beside one bare `manage.py`."""
    made = Installation(directory)
    began = time.perf_counter()
    made.start()
    first = time.perf_counter() - began
    made.stop()
    began = time.perf_counter()
    made.start()
    second = time.perf_counter() - began
    try:
        time.sleep(SETTLED_SECONDS)
        assert made.process is not None
        parent, all_of_it = kib_of([made.process.pid]), kib_of([made.process.pid, *descendants_of(made.process.pid)])
    finally:
        made.stop()
    django = "import django, os, resource; django.setup(); print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    environment = {**made.environment, "DJANGO_SETTINGS_MODULE": "config.settings.development"}
    said = subprocess.run([sys.executable, "-c", django], env=environment, capture_output=True, text=True, check=True)
    bare = int(said.stdout)
    return [
        row("manage.py up: the first start, beside the second", first, second, "s"),
        row("idle: what the waiting parent holds, beside one Django", parent, bare, "MiB", scale=1 / 1024),
        row("idle: what all its processes hold, beside one Django", all_of_it, bare, "MiB", scale=1 / 1024),
    ]


def main() -> None:
    """Measure, and print the rows."""
    report([*helps(), *installation(Path(os.environ["HOLDFAST_STATE_DIR"]))])


if __name__ == "__main__":
    main()
