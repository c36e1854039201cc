# SPDX-License-Identifier: Apache-2.0
"""A backup of a whole installation, made while it serves, and put back while it does not, as docs/operations.md says.

The database by its own program (`pg_dump`, or SQLite's online backup), the directories after it.
"""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.cast.database_roles import fresh_database
from tests.cast.postgres import CANDIDATES, ON_POSTGRES
from tests.cast.server import Installation, installation

# What must not be older than the database: section 5 of docs/operations.md.
REMEMBERING = ("release", "sequencer")
# What a ceremony makes, and what is saved after each.
MADE = ("hsm", "ceremony")


@contextmanager
def kept_installation(owner: str) -> Iterator[Installation]:
    """Start an installation on SQLite, or, where the tests have its server, on PostgreSQL as a user of this name."""
    if not ON_POSTGRES:
        with installation() as made:
            yield made
        return
    with fresh_database(owner) as url, installation(by_up=True, HOLDFAST_DATABASE_URL=url) as made:
        yield made


@dataclass
class Backup:
    """One backup of an installation, in a directory of its own."""

    of: Installation
    directory: Path
    url: str = field(init=False)

    def __post_init__(self) -> None:
        self.url = self.of.extra.get("HOLDFAST_DATABASE_URL", "")
        self.directory.mkdir(mode=0o700, parents=True)

    def take(self) -> None:
        """Save the database, then the directories; everything may run meanwhile."""
        if self.url:
            _postgres("pg_dump", "--format", "custom", "--file", str(self._dump), self.url)
        else:
            with closing(sqlite3.connect(self._database)) as live, closing(sqlite3.connect(self._dump)) as copy:
                live.backup(copy, pages=200)
        for name in (*REMEMBERING, *MADE):
            shutil.copytree(self.of.state_dir / name, self.directory / name, symlinks=True)

    def put_back(self, *directories: str) -> None:
        """Put back the database, and of the directories those that are named. Every service has to be stopped."""
        assert self.of.process is None, "every service is stopped first"
        if self.url:
            options = ("--exit-on-error", "--clean", "--if-exists", "--no-owner")
            _postgres("pg_restore", *options, "--dbname", self.url, str(self._dump))
        else:
            for path in self._database.parent.glob(f"{self._database.name}*"):
                path.unlink()
            shutil.copyfile(self._dump, self._database)
        for name in directories:
            shutil.rmtree(self.of.state_dir / name)
            shutil.copytree(self.directory / name, self.of.state_dir / name, symlinks=True)

    @property
    def _dump(self) -> Path:
        return self.directory / "holdfast.dump"

    @property
    def _database(self) -> Path:
        return self.of.state_dir / "holdfast.sqlite3"


def _postgres(program: str, *arguments: str) -> None:
    subprocess.run([CANDIDATES[0] / program, *arguments], check=True, capture_output=True, timeout=120)
