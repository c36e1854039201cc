# SPDX-License-Identifier: Apache-2.0
"""Deployment checks: `manage.py check --deploy` refuses what must not run in production (FAULTS U6, D8)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, register

from config.database import is_exposed
from config.hsm import hsm_config


@register(Tags.security, deploy=True)
def check_posture(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Refuse debug, SQLite, a bundled libpq, SoftHSM, plain http and open memory in production."""
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
    if is_exposed(settings.DATABASES["default"]):
        yield Error(
            "The database is on another machine, and nothing proves that it is yours.",
            hint="Add ?sslmode=verify-full&sslrootcert=/path/ca.pem to HOLDFAST_DATABASE_URL.",
            id="holdfast.E009",
        )
    if psycopg.pq.__impl__ == "binary":
        yield Error(
            "The database driver brings its own libpq and OpenSSL, which Debian's security updates do not mend.",
            hint="Uninstall psycopg-binary; psycopg then uses the Debian package libpq5.",
            id="holdfast.E010",
        )
    if not settings.HOLDFAST_PUBLIC_URL.startswith("https://"):
        yield Error("HOLDFAST_PUBLIC_URL is not https.", id="holdfast.E003")
    if not settings.HOLDFAST_CLOSE_MEMORY:
        yield Error("Processes leave their memory readable to debuggers.", id="holdfast.E004")
    if settings.HOLDFAST_CONTACTS_DELAY_SECONDS < 3600:
        yield Error(
            "Trusted contacts' shares are handed out within the hour: too soon for anybody to veto.",
            hint="Leave HOLDFAST_CONTACTS_DELAY_SECONDS unset for 24 hours.",
            id="holdfast.E007",
        )
    if not settings.EMAIL_TIMEOUT:
        yield Error(
            "Nobody hands mail over: notices of cases would never arrive.",
            hint="Set HOLDFAST_EMAIL_URL, for example to smtp://user@host:587.",
            id="holdfast.E008",
        )
    yield from _hsm_findings()


def _hsm_findings() -> Iterator[CheckMessage]:
    config = hsm_config()
    if config.softhsm or "softhsm" in str(config.module).lower():
        yield Error(
            "The HSM is SoftHSM, which computes inside the process.",
            hint="Set HOLDFAST_HSM_MODULE to your vendor's PKCS#11 module and HOLDFAST_HSM_SOFTHSM to false.",
            id="holdfast.E005",
        )
    if not config.manifest_path.exists():
        yield Error(
            f"There is no HSM manifest at {config.manifest_path}.",
            hint="Hold the ceremony, or set HOLDFAST_HSM_HOME.",
            id="holdfast.E006",
        )
