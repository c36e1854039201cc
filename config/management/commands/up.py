# SPDX-License-Identifier: Apache-2.0
"""`manage.py up`: make the embedded installation when there is none, start it, and say who can sign in."""

from __future__ import annotations

import socket
import sys
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError

from config.development import is_set_up, welcome
from config.supervisor import Supervisor


class Command(BaseCommand):
    help = "Start web, worker and release process as one command (development form: SQLite and SoftHSM)."

    def handle(self, *args: Any, **options: Any) -> None:
        self._refuse_when_taken()
        if not is_set_up():
            call_command("setup_development", stdout=self.stdout)
        call_command("migrate", verbosity=0)
        supervisor = Supervisor(project=settings.BASE_DIR, public_url=settings.HOLDFAST_PUBLIC_URL)
        try:
            supervisor.start()
            self.stdout.write(welcome())
            self.stdout.flush()
            status = supervisor.wait()
        except KeyboardInterrupt:
            status = 0
        except RuntimeError as error:
            raise CommandError(str(error)) from error
        finally:
            supervisor.stop()
        self.stdout.write("Stopped.")
        sys.exit(status)

    def _refuse_when_taken(self) -> None:
        address = urlsplit(settings.HOLDFAST_PUBLIC_URL)
        with socket.socket() as probe:
            probe.settimeout(1)
            if probe.connect_ex((address.hostname or "127.0.0.1", address.port or 8000)) == 0:
                raise CommandError(
                    f"Something answers at {settings.HOLDFAST_PUBLIC_URL} already. Stop it, or set HOLDFAST_PUBLIC_URL."
                )
