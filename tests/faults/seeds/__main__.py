# SPDX-License-Identifier: Apache-2.0
"""Break the code on purpose, fault by fault, and see the named test catch it: `make seeds` (FAULTS G0).

Each test first passes on an untouched copy of the tree, then fails on a patched one by an assertion of its own.
"""

from __future__ import annotations

import argparse
import os
import queue
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from xml.etree import ElementTree

from tests.cast import node
from tests.cast.node import MODULES
from tests.faults.seeds import PROJECT, DoesNotApply, Seed, seeds

AT_ONCE = min(2, os.cpu_count() or 1)
LEFT_OUT = (
    ".git",
    ".venv",
    "var",
    "__pycache__",
    ".pytest_cache",
    ".mypy_cache",
    ".ruff_cache",
    ".hypothesis",
    MODULES.name,
)
SECONDS = 300
# A test has seen the fault when it is its own line that fails; anything else may be the patch's own mistake.
SEEN = re.compile(r"^tests/\S+:\d+: \w+$")


def main() -> int:
    """Try the seeds that are named, or all of them; 0 when every one was caught."""
    parser = argparse.ArgumentParser(prog="make seeds", description=__doc__)
    parser.add_argument("names", nargs="*", help="numbers or names of seeds; all when none is given")
    wanted = parser.parse_args().names
    chosen = [seed for seed in seeds() if not wanted or any(seed.name.startswith(name) for name in wanted)]
    with tempfile.TemporaryDirectory(prefix="holdfast-seeds-") as directory:
        trees = Trees(Path(directory), with_node=any(seed.is_typescript for seed in chosen))
        unsound = _unsound(chosen, trees)
        with ThreadPoolExecutor(AT_ONCE) as pool:
            verdicts = []
            for seed, verdict, seconds in pool.map(lambda one: _tried(one, trees, unsound), chosen):
                verdicts.append(verdict)
                say(f"{seed.name:44} {verdict:22} {seconds:5.1f} s  {seed.caught_by}")
    caught = verdicts.count("caught")
    say(f"{caught} of {len(chosen)} seeded faults were caught")
    return 0 if chosen and caught == len(chosen) else 1


def say(line: str) -> None:
    """Print one line of the table at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


class Trees:
    """As many copies of the project as seeds are tried at once, which share the npm packages where they need them.

    What a test needs of the TypeScript SDK it bundles itself, from the sources as they are in its tree.
    """

    def __init__(self, directory: Path, *, with_node: bool) -> None:
        if with_node:
            node.ready()
        self._free: queue.Queue[Path] = queue.Queue()
        for number in range(AT_ONCE):
            copy = directory / str(number)
            shutil.copytree(PROJECT, copy, ignore=shutil.ignore_patterns(*LEFT_OUT))
            if with_node:
                (copy / MODULES.relative_to(PROJECT)).symlink_to(MODULES)
            self._free.put(copy)

    @contextmanager
    def one(self) -> Iterator[Path]:
        """Borrow a copy."""
        tree = self._free.get()
        try:
            yield tree
        finally:
            self._free.put(tree)


def _unsound(chosen: list[Seed], trees: Trees) -> set[Seed]:
    """Return the seeds whose test does not pass on the untouched tree; all are tried at once, then each if need be."""
    found: set[Seed] = set()
    with trees.one() as tree:
        for on_postgres in (False, True):
            alike = [seed for seed in chosen if seed.on_postgres == on_postgres]
            if alike and _outcome(alike, tree) != "passed":
                found |= {seed for seed in alike if _outcome([seed], tree) != "passed"}
    return found


def _tried(seed: Seed, trees: Trees, unsound: set[Seed]) -> tuple[Seed, str, float]:
    started = time.monotonic()
    with trees.one() as tree:
        verdict = "FAILS WITHOUT IT" if seed in unsound else _verdict(seed, tree)
    return seed, verdict, time.monotonic() - started


def _verdict(seed: Seed, tree: Path) -> str:
    try:
        seed.apply(tree)
    except DoesNotApply as error:
        return f"DOES NOT APPLY ({error})"
    try:
        outcome = _outcome([seed], tree)
    finally:
        seed.apply(tree, "--reverse")
    return {"seen": "caught", "passed": "SURVIVED"}.get(outcome, outcome)


def _outcome(alike: list[Seed], tree: Path) -> str:
    """Run the seeds' tests: `passed`, `seen` when they failed by their own assertion, or what else became of them."""
    report = tree / "report.xml"
    report.unlink(missing_ok=True)
    tests = sorted({seed.caught_by for seed in alike})
    runner = [sys.executable, "-m", "tests.cast.postgres"] if alike[0].on_postgres else []
    command = [*runner, sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}"]
    # Compiled files are told apart by the second of their source, and a patch may come and go within one.
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        subprocess.run(
            [*command, *tests],
            cwd=tree,
            env=environment,
            capture_output=True,
            timeout=SECONDS + 10 * len(tests),
            check=False,
        )
    except subprocess.TimeoutExpired:
        return "TIMED OUT"
    return _read(report)


def _read(report: Path) -> str:
    if not report.exists():
        return "NOT RUN"
    cases = list(ElementTree.parse(report).iter("testcase"))
    if any(case.find("error") is not None for case in cases) or not cases:
        return "ERROR"
    ends = [(failure.text or "").rstrip().splitlines()[-1:] for case in cases for failure in case.iter("failure")]
    if not ends:
        return "passed" if all(case.find("skipped") is None for case in cases) else "SKIPPED"
    others = [end for end in ends if not (end and SEEN.match(end[0]))]
    return f"FAILED OTHERWISE {others[0]}" if others else "seen"


if __name__ == "__main__":
    sys.exit(main())
