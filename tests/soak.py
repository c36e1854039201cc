# SPDX-License-Identifier: Apache-2.0
"""The storms and sweeps at full length, in parts of at most an hour: `make soak PART=<name>`.

A test belongs to a part by its marker: `soak("name")` runs nowhere else, `rounds("name")` runs in `make test` too,
with fewer rounds. Each case that ends is a line of var/soak/<name>.jsonl, and the next run of the same commit leaves
out what has passed. This module is also the pytest plugin that keeps that file.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent
FIGURES = PROJECT / "var" / "soak"
SECONDS = 3600
PART = os.environ.get("HOLDFAST_TEST_SOAK", "")
# What each part does, on which databases.
PARTS = {
    "messages": "kill -9 of sender and receiver at every call",
    "rotation": "kill -9 of a rotation at every durable call and every request",
    "cuts": "a client cut off at every single moment of what it does",
    "release": "kill -9 of the release process at every durable call",
    "requests": "a hundred thousand requests made from the schema, on SQLite",
    "requests-postgres": "the same on PostgreSQL",
    "rules-postgres": "what a case and its release are held to, on PostgreSQL as well",
    "parsers": "a million inputs for each parser",
    "answers": "two thousand garbled conversations with a server",
    "judge": "two thousand orders of events before the judge of a release",
    "storm": "what any stranger and any member can send, against a whole installation on each database",
    "accounts-postgres": "the whole work by processes under accounts of their own, as root",
    "accessible": "every page of the console to every role, in every form, before axe",
    "restore": "a backup made while six work for a while, put back under them and healed, on SQLite",
    "restore-postgres": "the same on PostgreSQL",
    "web-faults": "a tab closed at every commit of a send and of a rotation, in Chromium",
    "salts": "a million messages by forked processes, without one salt twice",
    "web-node": "the npm package under the oldest Node that is promised, which pip fetches for it",
    "web-differential": "a hundred thousand inputs that Python and TypeScript must read the same",
    "web-messages": "a thousand messages each way between browser and Python, and a tab killed at every step",
    "web-journey": "a person who loses two browsers, and comes back by password and by phrase",
    "web-rooms": "the client's own tests once more, with their accounts in TypeScript",
}
POSTGRES = "-postgres"


def rounds(few: int, every: int) -> int:
    """Return the first for `make test`, and the second when a part of the soak runs."""
    return every if PART else few


def is_wanted(item: pytest.Item, markexpr: str) -> bool:
    """Tell whether a test belongs to this run: to the part asked for, or else to everyday's tests."""
    if PART:
        part = PART.removesuffix(POSTGRES)
        return any(part in marker.args for name in ("soak", "rounds") for marker in item.iter_markers(name))
    return item.get_closest_marker("soak") is None or "soak" in markexpr


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=PROJECT, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def _commit() -> str:
    """Name the tree that is tried. A changed one has no name that would mean the same tomorrow."""
    return f"{_git('rev-parse', 'HEAD')}{'-changed' if _git('status', '--porcelain') else ''}"


class Record:
    """The cases of one part that have ended, in a file."""

    def __init__(self, part: str, commit: str) -> None:
        self.path, self.commit = FIGURES / f"{part}.jsonl", commit
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        kept = [line for line in map(json.loads, lines) if line["commit"] == commit and not commit.endswith("-changed")]
        self.passed = {str(line["case"]) for line in kept if line["outcome"] == "passed"}

    def keep(self, report: pytest.TestReport) -> None:
        """Write down how a case ended: one line, also when only its preparation or its end failed."""
        if report.when != "call" and report.outcome == "passed":
            return
        line = {
            "commit": self.commit,
            "case": report.nodeid,
            "outcome": report.outcome if report.when == "call" else f"{report.outcome} in its {report.when}",
            "seconds": round(report.duration, 1),
            "figures": dict(report.user_properties),
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a") as file:
            file.write(json.dumps(line) + "\n")


_record: list[Record] = []


def pytest_configure(config: pytest.Config) -> None:
    """Open the record of this part."""
    _record.append(Record(PART, _commit()))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what has passed on this commit before."""
    passed = [item for item in items if item.nodeid in _record[0].passed]
    config.hook.pytest_deselected(items=passed)
    items[:] = [item for item in items if item.nodeid not in _record[0].passed]


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Keep each end as it comes, so that nothing is lost by Ctrl-C."""
    _record[0].keep(report)


def _run(part: str) -> int:
    """Run what is left of one part; 0 when all of it has passed."""
    # A test that says how long it may take goes by that; the others have the whole hour.
    limits = (f"--session-timeout={SECONDS}", f"--timeout={SECONDS}")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.soak", *limits]
    if part.endswith(POSTGRES):
        command = [sys.executable, "-m", "tests.cast.postgres", *command]
    sys.stdout.write(f"{part}: {PARTS[part]}. Figures: {FIGURES.relative_to(PROJECT)}/{part}.jsonl\n")
    sys.stdout.flush()
    environment = {**os.environ, "HOLDFAST_TEST_SOAK": part}
    status = subprocess.run(command, cwd=PROJECT, env=environment, check=False).returncode
    nothing_left = status == pytest.ExitCode.NO_TESTS_COLLECTED and bool(Record(part, _commit()).passed)
    return 0 if nothing_left else status


def main(arguments: list[str]) -> int:
    """Run the parts that are named, one after the other; list them when none is. `all` names every one."""
    wanted = list(PARTS) if arguments == ["all"] else arguments
    if not wanted or not set(wanted) <= PARTS.keys():
        listed = "\n".join(f"  {name:<18} {what}" for name, what in PARTS.items())
        sys.stdout.write(f"make soak PART=<name>, or PART=all for one after the other:\n{listed}\n")
        return 2 if wanted else 0
    return max([_run(part) for part in wanted])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
