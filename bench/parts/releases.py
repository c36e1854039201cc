# SPDX-License-Identifier: Apache-2.0
"""A release, from the followed log to the recorded result, against the bare HSM unwrap and wrap on the same token."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from bench import world

TIMES = 4  # releases in one round
GOAL = "<= 4"


def main() -> None:
    """Measure and report."""
    world.start()
    from hsm.ceremony import Ceremony
    from kernel.scope import tenant_scope
    from recovery.cases import opening
    from recovery.release.process import open_process
    from tests.cast.hsm import TENANT
    from tests.cast.world import RECIPIENT_RSA

    with world.hsm() as (config, tokens):
        made, key = world.founded(), Ceremony(config).escrow_keys(TENANT)[0]
        world.say("opening and approving cases")
        phone = made.new_phone()  # one for all cases: a person has only so many devices
        opening.MAX_OPEN = 100  # type: ignore[misc]  # as the hourly limits, lifted here
        waiting = [made.approved("carol", "dan", phone=phone) for _ in range(world.ROUNDS * (TIMES + 1))]
        made.work()
        made.sequence()
        sealed, spki = waiting[0][1].sealed_half, RECIPIENT_RSA.public.raw
        with open_process(made.home) as process:
            cases = iter(case for case, _ in waiting)

            def release() -> None:
                case = next(cases)
                with tenant_scope(made.tenant_id):
                    process._tenant(made.tenant_id).attempt(case.id)

            releases, rewraps, floors = [], [], []
            for number in range(world.ROUNDS):
                world.say(f"releases, round {number + 1} of {world.ROUNDS}")
                releases.append(world.median_of(release, TIMES))
                rewraps.append(world.median_of(lambda: tokens.escrow.rewrap(key.ref, sealed, spki), 50))
                floors.append(_bare(config.home, key, sealed, spki))
        states = {made.state(case) for case, _ in waiting}
        if states != {"released"}:
            raise RuntimeError(f"not every case was released: {states}")
    what = "a release: log, rules, shares, journal, HSM, record"
    world.report(
        [
            world.row(what, releases, floors, "ms", scale=1e3, goal=GOAL),
            world.row("  of which the re-wrap through our HSM layer", rewraps, floors, "ms", scale=1e3),
        ]
    )


def _bare(home: Path, key: Any, sealed: bytes, spki: bytes) -> float:
    """Unwrap and wrap with nothing around it, in a process of its own: one library, one session, one thread."""
    given = {"home": str(home), "id": key.ref.cka_id.hex(), "sealed": sealed.hex(), "spki": spki.hex()}
    done = subprocess.run(
        [sys.executable, "-m", "bench.peers.bare_rewrap"],
        input=json.dumps(given),
        text=True,
        stdout=subprocess.PIPE,
        check=True,
    )
    return float(done.stdout)


if __name__ == "__main__":
    main()
