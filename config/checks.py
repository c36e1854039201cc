# SPDX-License-Identifier: Apache-2.0
"""Deployment checks: `manage.py check --deploy` refuses what must not run in production (FAULTS U6, D8)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, register


@register(Tags.security, deploy=True)
def check_posture(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Refuse debug, SQLite, SoftHSM, plain http and open memory in production."""
    return list(_findings())


def _findings() -> Iterator[CheckMessage]:
    if settings.DEBUG:
        yield Error("DEBUG is on.", id="holdfast.E001")
    if "sqlite3" in settings.DATABASES["default"]["ENGINE"]:
        yield Error(
            "The database is SQLite.",
            hint="Set HOLDFAST_DATABASE_URL to postgres://user@host/name.",
            id="holdfast.E002",
        )
    if not settings.HOLDFAST_PUBLIC_URL.startswith("https://"):
        yield Error("HOLDFAST_PUBLIC_URL is not https.", id="holdfast.E003")
    if not settings.HOLDFAST_CLOSE_MEMORY:
        yield Error("Processes leave their memory readable to debuggers.", id="holdfast.E004")
    yield from _hsm_findings()


def _hsm_findings() -> Iterator[CheckMessage]:
    path = settings.HOLDFAST_HSM_MANIFEST
    try:
        manifest = json.loads(path.read_text())
    except FileNotFoundError:
        yield Error(
            f"There is no HSM manifest at {path}.",
            hint="Run the ceremony, or set HOLDFAST_HSM_MANIFEST.",
            id="holdfast.E005",
        )
        return
    if manifest.get("softhsm"):
        yield Error("The HSM is SoftHSM, which computes inside the process.", id="holdfast.E006")
