# SPDX-License-Identifier: Apache-2.0
"""`manage.py collectstatic`: Django's own, whose files every account can read, whatever the umask of who runs it."""

from __future__ import annotations

import os
from typing import Any

from django.conf import settings
from django.contrib.staticfiles.management.commands.collectstatic import Command as Collect
from django.core.management.base import CommandError

# Nothing in them is secret: they are served to everybody, by an account that is not the one that collects them.
_UMASK = 0o022


class Command(Collect):
    def handle(self, *args: Any, **options: Any) -> str | None:
        if not settings.STATIC_ROOT:
            raise CommandError("HOLDFAST_STATIC_ROOT is not set: it names the directory that the static files go to.")
        before = os.umask(_UMASK)
        try:
            return super().handle(*args, **options)
        finally:
            os.umask(before)
