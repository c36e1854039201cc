# SPDX-License-Identifier: Apache-2.0
"""Whether the database is of this version of the code: which migrations it lacks, and which it has that nobody knows.

PLATFORM "Running it": processes of two versions never run together.
"""

from __future__ import annotations

from django.db import connection
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder

_TABLE = "django_migrations"


def is_visible() -> bool:
    """Tell whether this account's user may see which are made. True of a database without any. Raises DatabaseError."""
    return may_read(_TABLE)


def may_read(table: str) -> bool:
    """Tell whether this account's user may: services see what they work with, and nothing else. True of no table."""
    if connection.vendor != "postgresql":
        return True
    with connection.cursor() as cursor:
        cursor.execute("SELECT coalesce(has_table_privilege(to_regclass(%s), 'SELECT'), true)", [table])
        return bool(cursor.fetchone()[0])


def differing() -> tuple[list[str], list[str]]:
    """Return the migrations that are not made, and those that were made by code which is not here, as `app.name`.

    Raises DatabaseError.
    """
    made = set(MigrationRecorder(connection).applied_migrations())
    loader = MigrationLoader(None, ignore_no_migrations=True)
    known, ours = set(loader.disk_migrations), loader.migrated_apps
    missing = sorted(f"{app}.{name}" for app, name in known - made)
    # Of an app that is not here nothing can be said: somebody has more in this database.
    unknown = sorted(f"{app}.{name}" for app, name in made - known if app in ours)
    return missing, unknown
