# SPDX-License-Identifier: Apache-2.0
"""`python -m bench`: every figure beside its floor, in one run, as ratios. Run under `python -m tests.cast.postgres`.

Each part runs in a process of its own, because a process has one database. Only ratios travel between machines.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile

import psycopg

PARTS = (
    ("claims", "postgresql"),
    ("claims", "sqlite"),
    ("growth", "postgresql"),
    ("growth", "sqlite"),
    ("background", "postgresql"),
    ("background", "sqlite"),
    ("uploads", "postgresql"),
    ("uploads", "sqlite"),
    ("people_files", "postgresql"),
    ("people_files", "sqlite"),
    ("releases", "sqlite"),
    ("followed", "sqlite"),
    ("console", "postgresql"),
    ("sessions", "none"),
    ("entries", "none"),
    ("exports", "none"),
    ("policies", "none"),
    ("founding", "none"),
    ("start", "none"),
)


def run(part: str, database: str) -> list[dict[str, str]]:
    """Run one part on one database and return its rows."""
    with tempfile.TemporaryDirectory(prefix="holdfast-bench-") as state:
        environment = {**os.environ, "HOLDFAST_STATE_DIR": state, "DJANGO_SETTINGS_MODULE": "bench.settings"}
        if database != "postgresql":
            environment.pop("HOLDFAST_TEST_POSTGRES", None)
        else:
            environment["HOLDFAST_TEST_POSTGRES"] = _fresh_database(part)
        done = subprocess.run(
            [sys.executable, "-m", f"bench.{part}"], env=environment, text=True, stdout=subprocess.PIPE, check=False
        )
    if done.returncode:
        return [{"what": f"{part} on {database}: FAILED"}]
    return [{"database": database, **row} for row in json.loads(done.stdout.splitlines()[-1])]


def _fresh_database(name: str) -> str:
    """Make an empty database on the server at our side and return its address."""
    url = os.environ["HOLDFAST_TEST_POSTGRES"]
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
    return url.rpartition("/")[0] + f"/{name}"


def main() -> int:
    """Run every part and print the table."""
    if "HOLDFAST_TEST_POSTGRES" not in os.environ:
        print("Run it as `make bench`: it needs a PostgreSQL server at its side.", file=sys.stderr)
        return 2
    print(
        f"Holdfast benchmarks, {os.cpu_count()} cores, Python {platform.python_version()}. Ratios are ours / floor.\n"
    )
    columns = (("what", 58), ("database", 11), ("ours", 18), ("floor", 18), ("ratio", 7))
    print("".join(f"{name:<{width}}" for name, width in columns))
    failed = False
    for part, database in PARTS:
        for row in run(part, database):
            failed |= "FAILED" in row["what"]
            print("".join(f"{row.get(name, ''):<{width}}" for name, width in columns), flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
