# SPDX-License-Identifier: Apache-2.0
"""What a command says, in one sentence and without a trace, when the database is at fault, or the one who set it.

FAULTS U6. A defect of ours keeps its trace: it is to be reported.
"""

from __future__ import annotations

from typing import Final

import psycopg
from django.db import DatabaseError, InterfaceError, OperationalError, connection

from config import schema

OF_DATABASE: Final = (DatabaseError, InterfaceError)
_ADDRESS: Final = "HOLDFAST_DATABASE_URL names it, and HOLDFAST_DATABASE_PASSWORD_FILE its password"


def of_database(error: Exception) -> str:
    """Return what an operator can do about what the database said, or nothing where it is a defect."""
    if isinstance(error.__cause__, psycopg.errors.InsufficientPrivilege):
        return f"The database's user may not do this: {_line(error)}. Run it as the owner: {_ADDRESS}."
    try:
        # What was asked may have ended the connection, or never had one.
        connection.close()
        connection.ensure_connection()
        missing, unknown = schema.differing() if schema.is_visible() else ([], [])
    except OF_DATABASE as away:
        return f"The database does not answer: {_line(away)}. {_ADDRESS}; manage.py doctor looks at the rest."
    if missing:
        return f"The database lacks {len(missing)} migrations of this version: as the owner, run manage.py migrate."
    if unknown:
        return (
            f"The database was migrated by a newer version than this code ({unknown[0]}): install that version, or put "
            "back the backup from before the upgrade."
        )
    # A full disk, a file that is read-only, a lock that nobody gives up.
    return f"The database takes nothing: {_line(error)}. {_ADDRESS}." if isinstance(error, OperationalError) else ""


def _line(error: Exception) -> str:
    said = str(error).strip().splitlines()
    return said[0].strip().rstrip(".") if said else type(error).__name__
