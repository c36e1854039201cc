# SPDX-License-Identifier: Apache-2.0
"""`manage.py hsm_restore TOKEN`: put a damaged token back from the copy its last ceremony left."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from config.database_roles import PROCESSES
from config.hsm import ROLE_TOKENS, hsm_config
from hsm.config import TOKENS
from hsm.directories import restore_token
from hsm.errors import HsmError


class Command(BaseCommand):
    help = "Restore a SoftHSM token directory from its newest backup. Stop the processes that open it first."
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("token", choices=TOKENS)

    def handle(self, *args: Any, **options: Any) -> None:
        config, token = hsm_config(), options["token"]
        if not config.softhsm:
            raise CommandError("The tokens are a vendor's, and lie in no directory here: put back the vendor's backup.")
        try:
            restored = restore_token(config, token)
        except HsmError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"The token {token} is restored, in {restored}.")
        self.stdout.write(_what_next(token) if settings.HOLDFAST_PRODUCTION else "Start again with `make up`.")


def _what_next(token: str) -> str:
    services = " ".join(f"holdfast-{role}" for role in PROCESSES if token in ROLE_TOKENS[role])
    if not services:
        return "No service opens it. Hold the ceremony again that stopped."
    return (
        "Where accounts have copies of this home, give them theirs again: manage.py ceremony hand-out, as root. "
        "Then:\n"
        f"  systemctl reset-failed {services}\n"
        f"  systemctl start {services}\n"
        "and look at /readyz and manage.py doctor (docs/operations.md, section 3)."
    )
