# SPDX-License-Identifier: Apache-2.0
"""kill -9 of a writing process as it enters each of its writes and flushes (FAULTS C1, D13; PROTOCOL section 9)."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from holdfast.client.profile.head import Head
from holdfast.client.profile.store import PROFILE_FILE, SqliteStore
from holdfast.core.base.secret import SecretBytes

pytestmark = pytest.mark.skipif(shutil.which("strace") is None, reason="strace makes the kills")

PROJECT = Path(__file__).resolve().parents[3]
KEY = SecretBytes(b"k" * 32)
# All by which SQLite, and the making of a profile, change files.
CHANGING = ("pwrite64", "write", "fdatasync", "fsync", "ftruncate", "unlink", "renameat2", "mkdir")
MOST_CALLS = 60

WRITER = """
import sys
from pathlib import Path
from holdfast.client.profile.store import PROFILE_FILE, SqliteStore
from holdfast.core.base.secret import SecretBytes

store = SqliteStore(Path(sys.argv[1]) / PROFILE_FILE, SecretBytes(b"k" * 32))
with store.transaction():
    store.put("session", b"bob", SecretBytes(b"new" * 3000))
    store.put("outbox", b"1", SecretBytes(b"new" * 30))
    with store.transaction():
        store.delete("one-time-pre-key", b"1")
    store.put("state", b"", SecretBytes(b"new"))
store.close()
"""

MAKER = """
import sys
from pathlib import Path
from holdfast.client.profile.head import Head
from holdfast.client.profile.store import PROFILE_FILE, SqliteStore
from holdfast.core.base.secret import SecretBytes

head = Head.new(tenant=b"t" * 16, user=b"a" * 16)
SqliteStore.create(Path(sys.argv[1]) / PROFILE_FILE, SecretBytes(b"k" * 32), head).close()
"""

Rows = tuple[bytes | None, ...]
OLD: Rows = (b"old" * 3000, None, b"to be destroyed", b"old")
NEW: Rows = (b"new" * 3000, b"new" * 30, None, b"new")


def killed_at(program: str, directory: Path, call: str, number: int) -> bool:
    """Kill the program as it enters its call of this name and number; False when it ended well with fewer."""
    inject = f"inject={call}:signal=KILL:when={number}"
    command = ["strace", "-f", "-o", "/dev/null", "-e", f"trace={call}", "-e", inject, sys.executable, "-B", "-c"]
    done = subprocess.run(
        [*command, program, str(directory)], cwd=PROJECT, check=False, capture_output=True, timeout=60
    )
    assert done.returncode in (0, -signal.SIGKILL, 128 + signal.SIGKILL), done.stderr
    return done.returncode != 0


def made_in(directory: Path) -> SqliteStore:
    return SqliteStore.create(directory / PROFILE_FILE, KEY, Head.new(tenant=b"t" * 16, user=b"a" * 16))


def found_in(directory: Path) -> Rows:
    store = SqliteStore(directory / PROFILE_FILE, KEY)
    names = (("session", b"bob"), ("outbox", b"1"), ("one-time-pre-key", b"1"), ("state", b""))
    values = [store.get(*name) for name in names]
    listed = [key for kind in ("session", "outbox", "one-time-pre-key", "state") for key in store.keys(kind)]
    assert len(listed) == sum(value is not None for value in values)
    store.close()
    return tuple(value.reveal() if value else None for value in values)


def test_transaction_killed_at_any_write_is_there_wholly_or_not_at_all(tmp_path: Path) -> None:
    store = made_in(tmp_path / "p")
    store.put("session", b"bob", SecretBytes(b"old" * 3000))
    store.put("one-time-pre-key", b"1", SecretBytes(b"to be destroyed"))
    store.put("state", b"", SecretBytes(b"old"))
    store.close()
    killed: Counter[str] = Counter()
    left: Counter[Rows] = Counter()
    for call in CHANGING:
        for number in range(1, MOST_CALLS):
            directory = tmp_path / f"{call}-{number}"
            shutil.copytree(tmp_path / "p", directory)
            was_killed = killed_at(WRITER, directory, call, number)
            rows = found_in(directory)
            assert rows in (OLD, NEW), f"after a kill at {call} number {number}"
            left[rows] += 1
            if not was_killed:
                assert rows == NEW
                break
            killed[call] += 1
        else:
            pytest.fail(f"a transaction made {MOST_CALLS} calls of {call}")
    # Pages and their flush, the checkpoint's own, and the cut of the log: all were met, on both sides of the commit.
    assert {"pwrite64", "fdatasync", "ftruncate"} <= killed.keys()
    assert killed.total() >= 10
    assert left[OLD] >= 3
    assert left[NEW] >= len(CHANGING) + 3


def test_profile_killed_while_it_is_made_is_there_wholly_or_can_be_made_again(tmp_path: Path) -> None:
    killed: Counter[str] = Counter()
    for call in CHANGING:
        for number in range(1, MOST_CALLS):
            directory = tmp_path / f"{call}-{number}"
            directory.mkdir(mode=0o700)
            was_killed = killed_at(MAKER, directory, call, number)
            is_there = (directory / PROFILE_FILE).exists()
            store = SqliteStore(directory / PROFILE_FILE, KEY) if is_there else made_in(directory)
            store.put("state", b"", SecretBytes(b"x"))
            store.close()
            assert not [file.name for file in directory.iterdir() if file.name not in (PROFILE_FILE, "lock")]
            if not was_killed:
                break
            killed[call] += 1
        else:
            pytest.fail(f"making a profile took {MOST_CALLS} calls of {call}")
    assert {"pwrite64", "fdatasync", "fsync", "renameat2"} <= killed.keys()
