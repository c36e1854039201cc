# SPDX-License-Identifier: Apache-2.0
"""`manage.py up`: make the embedded installation when there is none, start it, and say who can sign in."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError

from config.ceremonies import roles, tenant_keys
from config.development import is_set_up, welcome
from config.env import ENV, make_secret_key
from config.memory import die_with_parent
from config.supervisor import STOP_SECONDS, hand_over, hear_no_more
from tenants.models import Tenant

# In the state directory: who uses it, where the first ceremonies are held, and what says that they were held.
_LOCK: Final = ".up.lock"
_MAKING: Final = ".making"
_READY: Final = "ready"
# What may lie in a directory that is to become an installation: what an earlier start has left, and what a disk brings.
_OF_NOBODY: Final = {_LOCK, _MAKING, "secret.key", "lost+found"}


class Command(BaseCommand):
    help = "Start proxy, web, worker, sequencer and release process as one command (development: SQLite, SoftHSM)."

    def handle(self, *args: Any, **options: Any) -> None:
        if settings.HOLDFAST_PRODUCTION:
            raise CommandError("Production settings are set. There, a service manager starts the processes: deploy/.")
        # Also while it starts: what it was at is undone, and what it started ends with it.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        # Everything in the directory is this account's alone, whatever its owner's umask is for other things.
        os.umask(0o077)
        try:
            self._refuse_when_taken()
            with self._alone() as lock:
                self._prepare()
                hand_over(
                    project=settings.BASE_DIR,
                    public_url=settings.HOLDFAST_PUBLIC_URL,
                    state_dir=ENV.state_dir,
                    listen=ENV.listening_at,
                    welcome=welcome(),
                    keep=lock,
                )
        except KeyboardInterrupt:
            pass
        self.stdout.write("Stopped.")

    def _prepare(self) -> None:
        if not is_set_up():
            self._set_up()
        make_secret_key(ENV.state_dir)
        call_command("migrate", verbosity=0)
        self._carry_over()

    @contextmanager
    def _alone(self) -> Iterator[int]:
        """Hold the state directory, which may have been made beforehand, for this process; yields its lock."""
        directory = ENV.state_dir
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(directory / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise CommandError(
                f"This account (uid {os.geteuid()}) cannot write in {directory}: {error.strerror}. Give it the "
                "directory, or set HOLDFAST_STATE_DIR to another."
            ) from None
        with suppress(PermissionError):  # a directory of another owner, who lets us write
            directory.chmod(0o700)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CommandError(
                f"Another `up` uses {directory} at this moment. Stop it, or set HOLDFAST_STATE_DIR and "
                "HOLDFAST_PUBLIC_URL for a second installation."
            ) from None
        try:
            yield lock
        finally:
            os.close(lock)

    def _set_up(self) -> None:
        """Make everything in a directory of its own, then put it in place: a kill leaves nothing half-made.

        What says that it is ready comes last in both, so that a start after a kill goes on with the putting, or makes
        all of it anew.
        """
        target, making = ENV.state_dir, ENV.state_dir / _MAKING
        if not (making / _READY).exists():
            if {path.name for path in target.iterdir()} - _OF_NOBODY:
                raise CommandError(
                    f"{target} holds something, but no finished installation. Move it away, then try again."
                )
            try:
                shutil.rmtree(making, ignore_errors=True)
                self._make(making)
            except BaseException:
                shutil.rmtree(making, ignore_errors=True)
                raise
        for path in sorted(making.iterdir(), key=lambda path: path.name == _READY):
            path.rename(target / path.name)
        making.rmdir()

    def _make(self, making: Path) -> None:
        make_secret_key(making)
        self.stdout.write("First start: making a development installation")
        self.stdout.flush()
        if self._ceremony("demo", HOLDFAST_STATE_DIR=str(making)) != 0:
            raise CommandError("The development installation could not be made; what went wrong stands above.")

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
        if self._ceremony("ceremony", *ceremony, "--yes") != 0:
            raise CommandError("It could not be carried over; what is in the way stands above. Nothing was started.")

    def _ceremony(self, *command: str, **environment: str) -> int:
        """Hold a ceremony in a process of its own, and return its status; nothing of it outlives an interruption."""
        child = subprocess.Popen(  # noqa: S603 — our own command
            [sys.executable, str(settings.BASE_DIR / "manage.py"), *command],
            env={**os.environ, **environment, "HOLDFAST_ROLE": "ceremony"},
            # With a group of its own, in which its own processes are too: a Ctrl-C is handed on below.
            start_new_session=True,
            preexec_fn=die_with_parent,  # noqa: PLW1509 — this process has one thread
        )
        try:
            return child.wait()
        except BaseException:
            hear_no_more()
            for number in (signal.SIGTERM, signal.SIGKILL):
                with suppress(ProcessLookupError):
                    os.killpg(child.pid, number)
                with suppress(subprocess.TimeoutExpired):
                    child.wait(timeout=STOP_SECONDS)
            raise

    def _refuse_when_taken(self) -> None:
        address = urlsplit(f"http://{ENV.listening_at}")
        try:
            socket.create_connection((address.hostname or "127.0.0.1", address.port or 8000), timeout=1).close()
        except OSError:
            return
        raise CommandError(
            f"Something answers at {ENV.listening_at} already. Stop it, or set HOLDFAST_PUBLIC_URL or HOLDFAST_LISTEN."
        )
