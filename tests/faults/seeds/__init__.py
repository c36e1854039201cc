# SPDX-License-Identifier: Apache-2.0
"""Goal G0: one patch for each rule whose loss nobody may overlook, and the test that must see it.

A patch is a unified diff below the lines `# rule: …`, `# caught-by: tests/…::test_…` and, where SQLite cannot show
the fault, `# on: postgres`. The working tree is never patched: `python -m tests.faults.seeds` works on a copy.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
PROJECT = HERE.parents[2]


@dataclass(frozen=True)
class Seed:
    """One fault, as its file has it."""

    path: Path
    rule: str
    caught_by: str
    on_postgres: bool

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def is_typescript(self) -> bool:
        """Whether its test needs Node."""
        return self.caught_by.startswith("tests/web/")

    def apply(self, tree: Path, *flags: str) -> None:
        """Patch a tree. One line of context has to agree, so that a change nearby spoils no patch."""
        command = ["git", "apply", "-C1", "--whitespace=nowarn", *flags, str(self.path)]
        done = subprocess.run(command, cwd=tree, capture_output=True, text=True, check=False)
        if done.returncode:
            raise DoesNotApply(f"{self.name}: {done.stderr.strip()}")


class DoesNotApply(Exception):
    """The patch does not fit the tree: whoever changed the code renews it."""


def seeds() -> list[Seed]:
    """Read every patch, by number."""
    return [_read(path) for path in sorted(HERE.glob("*.patch"))]


def _read(path: Path) -> Seed:
    said = dict(
        line.removeprefix("# ").split(": ", 1) for line in path.read_text().splitlines() if line.startswith("# ")
    )
    return Seed(path, said["rule"], said["caught-by"], said.get("on") == "postgres")
