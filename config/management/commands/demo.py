# SPDX-License-Identifier: Apache-2.0
"""`manage.py demo`: found the demo tenant Acme by the operator's own ceremonies. `make up` runs it the first time."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser

from config import development
from config.env import ENV


class Command(BaseCommand):
    help = "Hold the ceremonies of the demo tenant Acme, with scripted answers and officers (development only)."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--members-only", action="store_true", help="Only give alice and bob fresh codes.")

    def handle(self, *args: Any, **options: Any) -> None:
        if settings.HOLDFAST_PRODUCTION:
            raise CommandError("Production settings are set: this makes officers' keys in one process, to try it out.")
        if ENV.role != "ceremony":
            raise CommandError("Run it with HOLDFAST_ROLE=ceremony: it opens tokens that no running process opens.")
        founded = ENV.state_dir / "ready"
        if options["members_only"]:
            # Without it the first thing asked of the database, or of a file, fails in words about neither.
            if not founded.exists() or not development.is_founded():
                elsewhere = "run make up there first, or set HOLDFAST_STATE_DIR to where it runs."
                raise CommandError(f"No demo is in {ENV.state_dir}: {elsewhere}")
            development.renew_members(self.stdout.write)
            return
        call_command("migrate", verbosity=0)
        development.hold_ceremonies(self.stdout.write)
        founded.touch()
