# SPDX-License-Identifier: Apache-2.0
"""`manage.py role_key`: make this account's role key where it is missing, and print its public half."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from config.ceremonies.roles import key_text
from config.env import ENV
from config.roles import WRITING_ROLES, RoleKeyMissing, create_role_key
from holdfast.core.log.writers import Role


class Command(BaseCommand):
    help = "Make the role key of HOLDFAST_ROLE, on its own account, and print its public half: `ceremony roles --key`."
    requires_system_checks = ()

    def handle(self, *args: Any, **options: Any) -> None:
        if ENV.role not in WRITING_ROLES:
            raise CommandError(f"Set HOLDFAST_ROLE to one of: {', '.join(WRITING_ROLES)}.")
        try:
            self.stdout.write(key_text(Role(ENV.role), create_role_key(Role(ENV.role)).public))
        except RoleKeyMissing as error:
            raise CommandError(str(error)) from error
