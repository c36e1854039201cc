# SPDX-License-Identifier: Apache-2.0
"""`manage.py database_roles`: grant each process's database user what that process needs, after each migration."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connection, transaction

from config.database_roles import PREFIX, PROCESSES, role_name, statements
from config.env import ENV


class Command(BaseCommand):
    help = "Grant the database users of web, worker, sequencer and release process what each needs, as the owner."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--prefix", default=PREFIX, help=f"what the users' names begin with; {PREFIX} unless said")
        parser.add_argument("--sql", action="store_true", help="print the statements, for whoever owns the tables")

    def handle(self, *args: Any, **options: Any) -> None:
        if ENV.role not in ("tool", "ceremony"):
            raise CommandError("Run it as the owner of the tables, with HOLDFAST_ROLE unset or ceremony.")
        if connection.vendor != "postgresql":
            raise CommandError("The database is SQLite, which has no users. Set HOLDFAST_DATABASE_URL.")
        prefix = options["prefix"]
        try:
            wanted = list(statements(connection.settings_dict["NAME"], prefix=prefix))
        except ValueError as error:
            raise CommandError(f"--prefix: {error}.") from error
        if options["sql"]:
            self.stdout.write("BEGIN;\n" + "".join(f"{one};\n" for one in wanted) + "COMMIT;")
            return
        with transaction.atomic(), connection.cursor() as cursor:
            self._require_roles(cursor, prefix)
            for one in wanted:
                cursor.execute(one)
                self.stdout.write(f"{one};")

    def _require_roles(self, cursor: Any, prefix: str) -> None:
        names = [role_name(process, prefix=prefix) for process in PROCESSES]
        cursor.execute("SELECT rolname FROM pg_roles WHERE rolname = ANY(%s)", [names])
        found = {name for (name,) in cursor.fetchall()}
        if missing := [name for name in names if name not in found]:
            lines = "\n".join(f"  CREATE ROLE {name} LOGIN;" for name in missing)
            raise CommandError(f"Database users are missing. Have PostgreSQL's administrator make them:\n{lines}")
