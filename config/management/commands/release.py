# SPDX-License-Identifier: Apache-2.0
"""`manage.py release`: the release process, the only one that opens the escrow token."""

from __future__ import annotations

import logging
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError

from config.loop import LoopCommand
from config.refusal import refuse
from recovery.release.process import open_process

log = logging.getLogger("holdfast.release")


class Command(LoopCommand):
    help = "Verify approved cases against the log and have the HSM re-wrap, until SIGTERM."

    def handle(self, *args: Any, **options: Any) -> None:
        if settings.HOLDFAST_ROLE != "release":
            refuse("Run it with HOLDFAST_ROLE=release, as its own account, with its own PINs.")
        self.prepare()
        try:
            with open_process(settings.HOLDFAST_RELEASE_DIR) as process:
                self.run_until_told({"release": process.tick}, log)
        except BlockingIOError as error:
            raise CommandError(f"Another release process holds {settings.HOLDFAST_RELEASE_DIR}.") from error
