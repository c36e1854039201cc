# SPDX-License-Identifier: Apache-2.0
"""`manage.py hsm_restore TOKEN`: put a damaged token back from the copy its last ceremony left."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from config.hsm import hsm_config
from hsm.config import TOKENS
from hsm.directories import restore_token
from hsm.errors import HsmError


class Command(BaseCommand):
    help = "Restore a SoftHSM token directory from its newest backup. Stop the processes first."
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("token", choices=TOKENS)

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            restore_token(hsm_config(), options["token"])
        except HsmError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"The token {options['token']} is restored. Start again with `make up`.")
