# SPDX-License-Identifier: Apache-2.0
"""`manage.py up`: make the embedded installation when there is none, start it, and say who can sign in."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError

from config.ceremonies import roles, tenant_keys
from config.development import is_set_up, welcome
from config.env import ENV, make_secret_key
from config.supervisor import Supervisor
from tenants.models import Tenant


class Command(BaseCommand):
    help = "Start proxy, web, worker, sequencer and release process as one command (development: SQLite, SoftHSM)."

    def handle(self, *args: Any, **options: Any) -> None:
        if settings.HOLDFAST_PRODUCTION:
            raise CommandError("Production settings are set. There, a service manager starts the processes: deploy/.")
        self._refuse_when_taken()
        if not is_set_up():
            self._set_up()
        make_secret_key(ENV.state_dir)
        call_command("migrate", verbosity=0)
        self._carry_over()
        supervisor = Supervisor(
            project=settings.BASE_DIR,
            public_url=settings.HOLDFAST_PUBLIC_URL,
            state_dir=ENV.state_dir,
            listen=ENV.listening_at,
        )
        try:
            supervisor.start()
            self.stdout.write(welcome())
            self.stdout.flush()
            supervisor.wait()
        except KeyboardInterrupt:
            pass
        except RuntimeError as error:
            raise CommandError(str(error)) from error
        finally:
            supervisor.stop()
        self.stdout.write("Stopped.")

    def _set_up(self) -> None:
        """Make everything in a directory beside, and put it in place at once: a kill leaves nothing half-made."""
        target = ENV.state_dir
        if target.exists() and {path.name for path in target.iterdir()} - {"secret.key"}:
            raise CommandError(f"{target} holds something, but no finished installation. Move it away, then try again.")
        making = target.with_name(f"{target.name}.making")
        shutil.rmtree(making, ignore_errors=True)
        make_secret_key(making)
        self.stdout.write("First start: making a development installation")
        self.stdout.flush()
        environment = {**os.environ, "HOLDFAST_STATE_DIR": str(making), "HOLDFAST_ROLE": "ceremony"}
        command = [sys.executable, str(settings.BASE_DIR / "manage.py"), "demo"]
        if subprocess.run(command, env=environment, check=False).returncode != 0:  # noqa: S603 — our own command
            raise CommandError("The development installation could not be made; what went wrong stands above.")
        shutil.rmtree(target, ignore_errors=True)
        making.rename(target)

    def _carry_over(self) -> None:
        """Bring an installation that earlier code made up to this code, before anything runs on it."""
        for tenant in Tenant.objects.filter(is_development=True).order_by("slug"):
            if roles.is_missing(tenant):
                self.stdout.write(f"{tenant.slug} was founded by an earlier version: carrying it over")
                self._hold("roles", tenant.slug)
        # After the roles: each key that is bound is an entry, and those name who may write one.
        if tenant_keys.is_missing():
            self.stdout.write("The tenants' master keys were made by an earlier version: binding them")
            self._hold("tenant-keys")

    def _hold(self, *ceremony: str) -> None:
        self.stdout.flush()
        command = [sys.executable, str(settings.BASE_DIR / "manage.py"), "ceremony", *ceremony, "--yes"]
        environment = {**os.environ, "HOLDFAST_ROLE": "ceremony"}
        if subprocess.run(command, env=environment, check=False).returncode != 0:  # noqa: S603 — our own command
            raise CommandError("It could not be carried over; what is in the way stands above. Nothing was started.")

    def _refuse_when_taken(self) -> None:
        address = urlsplit(f"http://{ENV.listening_at}")
        try:
            socket.create_connection((address.hostname or "127.0.0.1", address.port or 8000), timeout=1).close()
        except OSError:
            return
        raise CommandError(
            f"Something answers at {ENV.listening_at} already. Stop it, or set HOLDFAST_PUBLIC_URL or HOLDFAST_LISTEN."
        )
