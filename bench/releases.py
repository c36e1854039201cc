# SPDX-License-Identifier: Apache-2.0
"""A release, from the followed log to the recorded result, against the bare HSM unwrap and wrap on the same token."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench import world

ROUNDS = 3
TIMES = 8  # a person has room for so many devices, and each case is for a new one


def main() -> None:
    """Measure and report."""
    world.start()
    with tempfile.TemporaryDirectory(prefix="holdfast-bench-hsm-") as directory:
        world.report(_measure(Path(directory)))


def _measure(directory: Path) -> list[dict[str, str]]:
    from hsm import registry
    from hsm.ceremony import Ceremony
    from hsm.runtime import open_tokens
    from kernel.scope import tenant_scope
    from recovery.release.process import open_process
    from tests.cast.hsm import TENANT, make_home
    from tests.cast.world import RECIPIENT_RSA, World

    config = make_home(directory / "hsm")
    with open_tokens(config, ["root", "log", "escrow"]) as tokens:
        opened = {"root": tokens.root, "log": tokens.log, "escrow": tokens.escrow}
        registry.install(lambda: dict(opened))
        key = Ceremony(config).escrow_keys(TENANT)[0]
        made = World(directory / "release", key, tokens.log.public_key)
        waiting = [made.approved("carol", "dan") for _ in range(TIMES + 1)]
        made.work()
        made.sequence()
        sealed, spki = waiting[0][1].sealed_half, RECIPIENT_RSA.public.raw
        with open_process(made.home) as process:
            cases = iter(case for case, _ in waiting)

            def release() -> None:
                case = next(cases)
                with tenant_scope(made.tenant_id):
                    process._tenant(made.tenant_id).attempt(case.id)

            release()
            # In turn with the floor: what else the machine does hits both.
            pairs = [(_seconds(release), _bare(config.home, key, sealed, spki)) for _ in range(TIMES)]
            ours, floor = [one for one, _ in pairs], [one for _, one in pairs]
        states = [made.state(case) for case, _ in waiting]
        if set(states) != {"released"}:
            raise RuntimeError(f"not every case was released: {states}")
        ours_again = [world.median_of(lambda: tokens.escrow.rewrap(key.ref, sealed, spki), 50) for _ in range(ROUNDS)]
        floor_again = [_bare(config.home, key, sealed, spki) for _ in range(ROUNDS)]
    return [
        world.row("a release: log, rules, shares, journal, HSM, record", ours, floor, "ms", scale=1e3, goal="<= 4"),
        world.row("  of which the re-wrap through our HSM layer", ours_again, floor_again, "ms", scale=1e3),
    ]


def _seconds(work: Callable[[], None]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _bare(home: Path, key: Any, sealed: bytes, spki: bytes) -> float:
    """Unwrap and wrap with nothing around it, in a process of its own: one library, one session, one thread."""
    given = {"home": str(home), "id": key.ref.cka_id.hex(), "sealed": sealed.hex(), "spki": spki.hex()}
    done = subprocess.run(
        [sys.executable, "-m", "bench.bare_rewrap"],
        input=json.dumps(given),
        text=True,
        stdout=subprocess.PIPE,
        check=True,
    )
    return float(done.stdout)


if __name__ == "__main__":
    main()
