# SPDX-License-Identifier: Apache-2.0
"""A founding, from the empty server to the working tenant, beside the time that it spends in the PKCS#11 module.

The keys are RSA for escrow, whose primes are found by luck: the spread is theirs. The commands are the operator's and
the three officers', each in a process of its own as people run them: what is above the floor is six starts of Python,
the officers' joining, their policy and words, and what the ceremonies verify and write down. The floor is what lies
between the module's being entered and left, for the functions that tests/hsm/interposer.c logs; the making of the
tokens, by softhsm2-util, is not in it.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Final

from bench.world import ROUNDS, report, row
from tests.cast.hsm import Interposer, build_interposer
from tests.cast.server import PROJECT, Installation

OFFICERS: Final = tuple(f"--officer={name}@acme.test" for name in ("carol", "dan", "erin"))
MANAGE: Final = (str(PROJECT / "manage.py"), "ceremony")
DESKS: Final = ("-m", "tests.cast.founders")
STEPS: Final = (
    (*MANAGE, "init", "--yes"),
    (*MANAGE, "tenant", "acme", "--name=Acme", "--owner=olivia@acme.test", *OFFICERS, "--yes"),
    (*DESKS, "propose"),
    (*DESKS, "found"),
    (*DESKS, "key"),
    (*MANAGE, "found", "acme", "--yes"),
)


def _seconds_inside(interposer: Interposer) -> float:
    """Add up what lies between enter and leave; a process of a ceremony calls from one thread at a time."""
    entered: dict[tuple[str, str], list[int]] = defaultdict(list)
    spent = 0
    for pid, what, function, *_, nanoseconds in interposer.log():
        if what == "enter":
            entered[pid, function].append(int(nanoseconds))
        elif what == "leave":
            spent += int(nanoseconds) - entered[pid, function].pop()
    return spent / 1e9


def _found() -> tuple[float, float]:
    """Found a tenant on an empty server and return the seconds that it took, and those in the module."""
    with tempfile.TemporaryDirectory(prefix="holdfast-bench-founding-") as directory:
        interposer = build_interposer(Path(directory) / "module")
        # Each round on SQLite and a server of its own, whatever the benchmark runs on.
        given = {"HOLDFAST_HSM_MODULE": str(interposer.module), "HOLDFAST_ROLE": "ceremony"}
        made = Installation(Path(directory), extra=given)
        made.state_dir.mkdir(mode=0o700)
        made.manage("migrate")
        begun = time.perf_counter()
        for step in STEPS:
            subprocess.run(
                [sys.executable, *step], cwd=PROJECT, env=made.environment, stdout=subprocess.DEVNULL, check=True
            )
        return time.perf_counter() - begun, _seconds_inside(interposer)


def main() -> None:
    """Measure, and print the row."""
    ours, floor = zip(*(_found() for _ in range(ROUNDS)), strict=True)
    report([row("found a tenant, from the empty server to the working tenant", ours, floor, "s")])


if __name__ == "__main__":
    main()
