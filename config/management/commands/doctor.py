# SPDX-License-Identifier: Apache-2.0
"""`manage.py doctor`: look at the whole installation, and say the way out for whatever is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from config import doctor
from holdfast.core.base.text import written_out


class Command(BaseCommand):
    help = (
        "Say of each part of this installation whether it is as it has to be, and the way out where it is not. Changes "
        "nothing, and tries no PIN. Run it under the environment of each account; exit status 1 when anything is wrong."
    )
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--files",
            type=Path,
            metavar="DIRECTORY",
            help="look at the files of all accounts below it as well, as root: /etc/holdfast",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        wrong = 0
        for finding in (*doctor.look(), *(doctor.layout(options["files"]) if options["files"] else ())):
            wrong += finding.state == "wrong"
            self.stdout.write(f"{finding.state:<7} {finding.part:<16} {written_out(finding.said)}")
            if finding.way_out:
                self.stdout.write(f"{'':<24} → {written_out(finding.way_out)}")
        if wrong:
            raise CommandError(f"{wrong} {'part is' if wrong == 1 else 'parts are'} not as they have to be.")
        self.stdout.write("Everything that this account sees is as it has to be.")
