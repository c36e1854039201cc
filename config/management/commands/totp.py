# SPDX-License-Identifier: Apache-2.0
"""`manage.py totp E-MAIL`: print the code that a demo person's authenticator would show now."""

from __future__ import annotations

import base64
import time
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from config.development import demo_directory
from holdfast.core.base.secret import SecretBytes
from tenants.sign_in import totp_code


class Command(BaseCommand):
    help = "Print the current TOTP code of a demo person (development only)."
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("email")

    def handle(self, *args: Any, **options: Any) -> None:
        path = demo_directory() / "sign-in.txt"
        rows = [line.split("\t") for line in path.read_text().splitlines()] if path.exists() else []
        for email, _, _, secret in rows:
            if email == options["email"]:
                self.stdout.write(totp_code(SecretBytes(base64.b32decode(secret)), at=time.time()))
                return
        raise CommandError(f"{path} lists no {options['email']}")
