# SPDX-License-Identifier: Apache-2.0
"""`manage.py hsm_accept_module`: pin the PKCS#11 module as it is now, after an upgrade that you made."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from config.hsm import hsm_config
from hsm.ceremony import Ceremony
from hsm.errors import HsmError


class Command(BaseCommand):
    help = "Accept the PKCS#11 module's new bytes. Only after an upgrade that you made yourself."
    requires_system_checks = ()

    def handle(self, *args: Any, **options: Any) -> None:
        config = hsm_config()
        try:
            Ceremony(config).accept_module()
        except HsmError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"{config.module} is pinned as it is now.")
