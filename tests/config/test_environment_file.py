# SPDX-License-Identifier: Apache-2.0
"""The environment files of docs/operations.md mean the same to systemd, to a shell and to the processes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.checks import PROJECT

PAGE = (PROJECT / "docs" / "operations.md").read_text()
LINE = re.compile(r"((?:HOLDFAST|DJANGO)_[A-Z_]+)=(.*)", re.ASCII)
# What a shell (POSIX, "Token Recognition") and systemd.exec(5), "EnvironmentFile=", both take as it stands: nothing of
# these is expanded, ends a word, or is an escape. Anything else stands in single quotes, which both take off.
PLAIN, QUOTED = re.compile(r"[A-Za-z0-9_./:@%+,=-]*", re.ASCII), re.compile(r"'([^'\n\\]*)'")


def shown() -> list[tuple[str, str]]:
    """Return every line of an environment file that the page shows: the name, and the value as it is written there."""
    return [match.groups() for line in PAGE.splitlines() if (match := LINE.fullmatch(line))]  # type: ignore[misc]


@pytest.mark.parametrize(("name", "written"), shown(), ids=lambda one: one[:40])
def test_line_means_the_same_to_systemd_and_to_a_shell(name: str, written: str, tmp_path: Path) -> None:
    quoted = QUOTED.fullmatch(written)
    assert quoted or PLAIN.fullmatch(written), "put it into single quotes"
    file = tmp_path / "environment"
    file.write_text(f"{name}={written}\n")
    read = 'set -a; . "$0"; set +a; exec "$1" -c "import os, sys; sys.stdout.write(os.environ[sys.argv[1]])" "$2"'
    done = subprocess.run(
        ["sh", "-c", read, str(file), sys.executable, name], capture_output=True, text=True, check=True
    )
    assert done.stdout == (quoted[1] if quoted else written)


def test_processes_take_what_the_page_shows() -> None:
    values = {name: written.strip("'") for name, written in shown()}
    # Files that the page has the operator make.
    values = {name: value for name, value in values.items() if not name.endswith("_FILE")}
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HOLDFAST_", "DJANGO_"))}
    done = subprocess.run(
        [sys.executable, "-c", "from config.env import ENV; print(ENV.database_url, ENV.role)"],
        cwd=PROJECT,
        env=kept | values,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [values["HOLDFAST_DATABASE_URL"], "ceremony"]
