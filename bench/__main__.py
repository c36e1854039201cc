# SPDX-License-Identifier: Apache-2.0
"""`python -m bench [PART …]` under `python -m tests.cast.postgres`: every figure beside its floor or peer, in one run.

Each part runs in a process of its own, because a process has one database. Only ratios travel between machines. What
was measured is kept in var/bench, so that a run may be taken part by part; PART `page` makes docs/performance.md and
its pictures of what is kept there. Ends with 1 when a goal does not hold, unless told `--no-goals`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from typing import Final

import psycopg

from bench import page
from bench.world import Curve, Row

BOTH: Final = ("postgresql", "sqlite")
PARTS: Final = {
    "claims": BOTH,
    "persons": ("postgresql",),
    "uploads": BOTH,
    "vaults": ("postgresql",),
    "growth": BOTH,
    "background": BOTH,
    "people_files": BOTH,
    "releases": ("sqlite",),
    "followed": ("sqlite",),
    "console": ("postgresql",),
    "sessions": ("sqlite",),
    "entries": ("sqlite",),
    "exports": ("sqlite",),
    "policies": ("sqlite",),
    "founding": ("sqlite",),
    "start": ("sqlite",),
    "web": ("sqlite",),
}
PAGE: Final = "page"  # not measured: what was is written down
COLUMNS: Final = (("what", 64), ("ours", 16), ("floor", 40), ("ratio", 7), ("spread", 18), ("goal", 8), ("holds", 6))


def run(part: str, database: str, largest: int) -> tuple[list[Row], list[Curve]]:
    """Run one part on one database and return its rows and curves."""
    with tempfile.TemporaryDirectory(prefix="holdfast-bench-") as state:
        environment = {**os.environ, **_environment(state, part, database), "BENCH_LARGEST": str(largest)}
        done = subprocess.run(
            [sys.executable, "-m", f"bench.parts.{part}"],
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            check=False,
        )
    if done.returncode:
        return [{"what": f"{part}: FAILED", "holds": False}], []
    given = json.loads(done.stdout.splitlines()[-1])
    return given["rows"], given["curves"]


def _environment(state: str, part: str, database: str) -> dict[str, str]:
    key = f"{state}/secret.key"
    with open(key, "x", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
        file.write(os.urandom(32).hex())
    url = _fresh_database(f"{part}_{time.time_ns()}") if database == "postgresql" else f"sqlite://{state}/bench.sqlite3"
    return {
        "DJANGO_SETTINGS_MODULE": "bench.settings",
        "HOLDFAST_STATE_DIR": state,
        "HOLDFAST_SECRET_KEY_FILE": key,
        "HOLDFAST_DATABASE_URL": url,
        "HOLDFAST_PUBLIC_URL": "http://testserver",
        "HOLDFAST_CASES_PER_DAY": "1000",
        "HOLDFAST_CONTACTS_DELAY_SECONDS": "0",
    }


def _fresh_database(name: str) -> str:
    """Make an empty database on the server at our side and return its address."""
    url = os.environ["HOLDFAST_TEST_POSTGRES"]
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
    return url.rpartition("/")[0] + f"/{name}"


def main() -> int:
    """Run the parts that were named, or all, and print the table."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", choices=[*PARTS, PAGE, []], help=" ".join([*PARTS, PAGE]))
    parser.add_argument("--no-goals", action="store_true", help="only look: end with 0 whatever was measured")
    parser.add_argument("--largest", type=int, default=10**6, help="how many keys growth goes up to")
    given = parser.parse_args()
    if "HOLDFAST_TEST_POSTGRES" not in os.environ:
        print("Run it as `make bench`: it needs a PostgreSQL server at its side.", file=sys.stderr)
        return 2
    print(f"{page.machine()}\nRatios are ours / floor, or ours / peer.\n", flush=True)
    missed = False
    for part in given.parts or PARTS:
        for database in PARTS.get(part, ()):
            begun = time.monotonic()
            rows, curves = run(part, database, given.largest)
            page.keep(part, database, rows, curves)
            print(f"── {part}, {database}, {time.monotonic() - begun:.0f} s")
            print(" ".join(f"{name:<{width}}" for name, width in COLUMNS))
            for row in rows:
                missed |= row.get("holds") is False
                print(" ".join(f"{_word(row.get(name, '')):<{width}}" for name, width in COLUMNS).rstrip(), flush=True)
            print()
    if PAGE in given.parts:
        print(f"written: {', '.join(page.write())}")
    return int(missed and not given.no_goals)


def _word(value: str | bool) -> str:
    return {True: "yes", False: "MISSED"}.get(value, str(value)) if isinstance(value, bool) else value


if __name__ == "__main__":
    sys.exit(main())
