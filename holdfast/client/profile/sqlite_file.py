# SPDX-License-Identifier: Apache-2.0
"""The SQLite file of a profile as such: made whole, opened with what durability and deletion need, its head read.

Implements docs/formats/profile.md (the file).
Does not encrypt or decrypt; `store` does, row by row.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from holdfast.client.errors import MachineError, UpdateNeeded, damaged
from holdfast.client.profile.head import Head, read_head
from holdfast.client.profile.private_files import no_profile, require_private
from holdfast.files import explained, part_beside, put_in_place

_APPLICATION_ID: Final = 0x48464431  # "HFD1"
_NEWEST_ID: Final = 0x48464439  # "HFD9": what files of other versions of this program would be marked by
_SCHEMA: Final = """
CREATE TABLE head (only INTEGER PRIMARY KEY CHECK (only = 0), document BLOB NOT NULL) STRICT;
CREATE TABLE entry (place INTEGER PRIMARY KEY, kind TEXT NOT NULL, name BLOB NOT NULL UNIQUE, sealed BLOB NOT NULL)
STRICT;
CREATE INDEX entry_kind ON entry (kind, place);
"""


def head_of(path: Path) -> Head:
    """Return the head of a profile file, not authenticated yet. Raises ProfileError for none or a damaged one."""
    with explain_errors(), contextlib.closing(connect(path)) as connection:
        return read_head(read_document(connection))


def write_empty(path: Path, document: bytes) -> None:
    """Make a profile file with its head and no rows: made beside, and renamed when it is complete."""
    beside = part_beside(path)
    with explained(path):
        os.close(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    try:
        with explain_errors(), contextlib.closing(sqlite3.connect(beside, isolation_level=None)) as connection:
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            connection.executescript(f"BEGIN;{_SCHEMA}")
            connection.execute("INSERT INTO head VALUES (0, ?)", (document,))
            connection.execute("COMMIT")
            connection.execute("PRAGMA journal_mode = WAL")
        put_in_place(beside, path, replaces=False)
    finally:
        for suffix in ("", "-journal", "-wal", "-shm"):
            beside.with_name(beside.name + suffix).unlink(missing_ok=True)


def connect(path: Path) -> sqlite3.Connection:
    """Open the file. Raises ProfileError when it is missing or no profile, MachineError when others may enter."""
    if not path.exists():
        raise no_profile(path.parent)
    require_private(path.parent)
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5)
    try:
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA secure_delete = ON")
        connection.execute("PRAGMA temp_store = MEMORY")
        # Functions hidden in a schema that somebody else wrote are not run.
        connection.execute("PRAGMA trusted_schema = OFF")
        found = connection.execute("PRAGMA application_id").fetchone()[0]
    except BaseException:
        connection.close()
        raise
    if found != _APPLICATION_ID:
        connection.close()
        if _APPLICATION_ID < found <= _NEWEST_ID:
            raise UpdateNeeded
        raise damaged("not a profile file")
    return connection


def read_document(connection: sqlite3.Connection) -> bytes:
    """Return the bytes of the head. Raises ProfileError when there are none."""
    with explain_errors():
        row = connection.execute("SELECT document FROM head").fetchone()
    if row is None:
        raise damaged("no head")
    return bytes(row[0])


@contextlib.contextmanager
def explain_errors() -> Iterator[None]:
    """Say what SQLite found in words about the profile."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise MachineError(
            f"The profile cannot be read or written ({error}).",
            way_out="Nothing of the last step was kept. Check the disk's space and state, and run the command again.",
        ) from error
    except sqlite3.DatabaseError as error:
        raise damaged(error) from error
