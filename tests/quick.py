# SPDX-License-Identifier: Apache-2.0
"""`make quick`: the tests of the core, and those of the folders in which something has changed, in under two minutes.

Changed is what differs from the branch's beginning on main, committed or not. What takes long by itself (order.LONG) is
left out, and named; `make test` runs everything.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
CORE = Path("tests/core")


def _git(*arguments: str) -> list[str]:
    done = subprocess.run(["git", *arguments], cwd=PROJECT, capture_output=True, text=True, check=False)
    return done.stdout.splitlines()


def changed() -> list[Path]:
    """List the files that differ from where this branch left main, or from HEAD on main itself."""
    base = next((found[0] for name in ("origin/main", "main") if (found := _git("merge-base", "HEAD", name))), "HEAD")
    names = [*_git("diff", "--name-only", base), *_git("ls-files", "--others", "--exclude-standard")]
    return [Path(name) for name in dict.fromkeys(names)]


def tests_of(path: Path) -> Path | None:
    """Return the test file itself, or the folder under tests/ that mirrors the folder of any other file, if any."""
    parts = list(path.parent.parts)
    if parts[:1] == ["tests"]:
        if path.name.startswith("test_"):
            return path if (PROJECT / path).exists() else None
        parts = parts[1:]
    # holdfast/core/x.py is tested in tests/core, keys/migrations/x.py in tests/keys.
    starts = [parts, parts[1:]] if parts[:1] == ["holdfast"] else [parts]
    for start in starts:
        for length in range(len(start), 0, -1):
            folder = Path("tests", *start[:length])
            if list((PROJECT / folder).rglob("test_*.py")):
                return folder
    return None


def selection(paths: list[Path]) -> list[str]:
    """Return pytest's arguments: the core, what mirrors the changes, and the long files that are left out."""
    from tests.order import LONG

    wanted = {found for path in paths if (found := tests_of(path))} | {CORE}
    there = {one for one in wanted if (PROJECT / one).is_dir()}
    folders = {one for one in there if not there & set(one.parents)}
    files = {one for one in wanted - there if not folders & set(one.parents) and one.stem not in LONG}
    tests = {path.relative_to(PROJECT) for one in folders for path in (PROJECT / one).rglob("test_*.py")}
    left_out = {path for path in tests | wanted if path.stem in LONG}
    return [*map(str, sorted(folders | files)), *(f"--ignore={path}" for path in sorted(left_out))]


def main() -> int:
    """Run them, and return pytest's exit status."""
    arguments = selection(changed())
    sys.stdout.write(f"{' '.join(arguments)}\n")
    sys.stdout.flush()
    at_once = str(min(4, os.cpu_count() or 1))
    command = [sys.executable, "-m", "pytest", "-q", "-n", at_once, "--dist", "worksteal", *arguments]
    return subprocess.run(command, cwd=PROJECT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
