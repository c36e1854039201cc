# SPDX-License-Identifier: Apache-2.0
"""What must not run in production (FAULTS U6, D8, L14): refused by `check --deploy`, and at every process's start."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from email.utils import parseaddr
from pathlib import Path
from typing import Any, Final, TypeVar

from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage, Error, Tags, register
from django.db import DatabaseError, connection

from config import schema
from config.database import is_exposed
from config.database_roles import PROCESSES, RIGHTS_OF_THE_USER, differing
from config.hsm import hsm_config
from config.mail import is_local
from config.refusal import refuse
from config.start import PRODUCTION

log = logging.getLogger("holdfast.posture")

# What a rehearsal is about, and so lets pass: an HSM of software, and the tenants that were founded on it.
_REHEARSED: Final = frozenset({"holdfast.E005", "holdfast.E011"})
_AWAY_SECONDS: Final = 2.0
_SHOWN: Final = 5  # a user of another process differs in all tables; the first few say so

Answer = TypeVar("Answer")


@register(Tags.security, deploy=True)
def check_posture(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Refuse in production debug, SQLite, a bundled libpq, SoftHSM, http, open memory, a proxy that nobody trusts."""
    found: list[CheckMessage] = _passed(_findings())
    if settings.HOLDFAST_REHEARSAL:
        said = "This is a rehearsal: SoftHSM and development tenants pass."
        found.append(checks.Warning(said, hint="Keep nothing real here.", id="holdfast.W002"))
    return found


@register(Tags.database)
def check_authenticators(app_configs: Any, databases: Sequence[str] | None = None, **kwargs: Any) -> list[CheckMessage]:
    """Say how many authenticators' keys are not sealed yet: `manage.py check --database default`."""
    from tenants import sign_in

    # `migrate` asks as well, before there is a table.
    if not databases or "tenants_authenticator" not in connection.introspection.table_names():
        return []
    count = sign_in.count_unsealed()
    if not count:
        return []
    return [
        checks.Warning(
            f"{count} authenticators' keys stand unsealed in the database, as before 0013_sealed_factors.",
            hint="The worker seals them within ten minutes where the HSM is there and the tenant has its master key.",
            id="holdfast.W001",
        )
    ]


def require_posture() -> None:
    """End this process, with a sentence for each finding, when production settings meet what must not run there.

    A database that is away is waited for: whether it holds development tenants, and who this process is there, cannot
    be known before. Does nothing under other settings.
    """
    if not settings.HOLDFAST_PRODUCTION:
        return
    version = _from_the_database(lambda: [*other_version()])
    found = [*unsafe_posture(), *version]
    # Whoever asks for rows asks for tables of this version.
    if not version:
        found += [*_passed(_development_tenants()), *_from_the_database(lambda: [*database_user()])]
    if settings.HOLDFAST_REHEARSAL:
        log.warning("this is a rehearsal: keep nothing real here")
    if found:
        refuse("\n".join(f"{one.id}: {one.msg}{f' {one.hint}' if one.hint else ''}" for one in found))


def unsafe_posture() -> list[CheckMessage]:
    """Return what of these settings must not run in production, as far as it can be told without the database."""
    return _passed((*_findings(), *_static_findings()))


def _passed(found: Iterable[CheckMessage]) -> list[CheckMessage]:
    """Leave out what a rehearsal lets pass, in one."""
    return [one for one in found if not (settings.HOLDFAST_REHEARSAL and one.id in _REHEARSED)]


def _findings() -> Iterator[CheckMessage]:
    if not settings.HOLDFAST_PRODUCTION:
        yield Error(
            f"These are not the settings of production, but {settings.SETTINGS_MODULE}.",
            hint=f"Set DJANGO_SETTINGS_MODULE to {PRODUCTION}.",
            id="holdfast.E017",
        )
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
    import psycopg  # not above: every process reads this file, and SQLite has no use for it

    if psycopg.pq.__impl__ == "binary":
        yield Error(
            "The database driver brings its own libpq and OpenSSL, which Debian's security updates do not mend.",
            hint="Uninstall psycopg-binary; psycopg then uses the Debian package libpq5.",
            id="holdfast.E012",
        )
    if not settings.HOLDFAST_PUBLIC_URL.startswith("https://"):
        yield Error("HOLDFAST_PUBLIC_URL is not https.", id="holdfast.E003")
    if not settings.HOLDFAST_TRUSTED_PROXIES:
        yield Error(
            "A proxy is in front, as there is no https without one, and none is trusted: all people would count as "
            "one source, and one who mistypes a password eight times would lock out all.",
            hint="Set HOLDFAST_TRUSTED_PROXIES to unix (the peer at the web process's socket) or to its address.",
            id="holdfast.E010",
        )
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
    yield from _mail_findings()
    if settings.HOLDFAST_ADMIN and not (
        settings.SESSION_COOKIE_SECURE
        and settings.CSRF_COOKIE_SECURE
        and settings.HOLDFAST_ADMIN_COOKIE.startswith("__Host-")
    ):
        yield Error(
            "The operators' admin is on, and the cookies of its sessions could be read or planted outside https.",
            hint="Use config.settings.production as it is, or set HOLDFAST_ADMIN to 0.",
            id="holdfast.E016",
        )
    if settings.STATIC_ROOT is not None and Path(settings.STATIC_ROOT).resolve().is_relative_to(settings.BASE_DIR):
        yield Error(
            f"Static files would be collected into the code, at {settings.STATIC_ROOT}, where nothing writes.",
            hint="Set HOLDFAST_STATIC_ROOT to a directory outside it, such as /var/lib/holdfast/static.",
            id="holdfast.E018",
        )
    yield from _directory_findings()
    yield from _hsm_findings()


def _mail_findings() -> Iterator[CheckMessage]:
    """Find out whether mail that is handed over would be taken, as far as that is said by the settings."""
    has_user, has_password = bool(settings.EMAIL_HOST_USER), bool(settings.EMAIL_HOST_PASSWORD)
    if settings.HOLDFAST_ROLE == "worker" and has_user != has_password:
        # Django does not sign in then, and says nothing.
        missing = "password" if has_user else "user"
        yield Error(
            f"The mail server would not be signed in to: the {missing} is missing.",
            hint="Set HOLDFAST_EMAIL_PASSWORD_FILE, and HOLDFAST_EMAIL_URL with the user; or neither.",
            id="holdfast.E020",
        )
    sender = parseaddr(settings.DEFAULT_FROM_EMAIL)[1]
    if settings.EMAIL_TIMEOUT and sender.endswith("@localhost") and not is_local(settings.EMAIL_HOST):
        yield Error(
            f"Mail would come from {sender}, which mail servers elsewhere refuse.",
            hint="Set HOLDFAST_EMAIL_FROM to an address of yours, such as Holdfast <holdfast@mail.example>.",
            id="holdfast.E021",
        )


def _static_findings() -> Iterator[CheckMessage]:
    """Find out whether pages can be shown: each names static files by what `collectstatic` wrote down."""
    listed = Path(settings.STATIC_ROOT or "") / "staticfiles.json"
    if settings.HOLDFAST_ROLE == "web" and not os.access(listed, os.R_OK):
        yield Error(
            f"There is no {listed} that this account can read, so that no page could be shown.",
            hint="Run manage.py collectstatic, which writes where HOLDFAST_STATIC_ROOT says.",
            id="holdfast.E019",
        )


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


def _directory_findings() -> Iterator[CheckMessage]:
    for name in ("SEQUENCER", "RELEASE"):
        path = Path(getattr(settings, f"HOLDFAST_{name}_DIR"))
        try:
            mode = path.stat().st_mode
        except OSError:
            continue  # not made yet, or another account's and out of sight
        if mode & 0o077:
            yield Error(
                f"Others than its owner may enter {path}, the memory of a process that believes nobody else.",
                hint=f"chmod 700 it (HOLDFAST_{name}_DIR).",
                id="holdfast.E014",
            )


def _development_tenants() -> Iterator[CheckMessage]:
    from tenants import access as tenants  # not above: the web process imports this before the apps are loaded

    slugs = _from_the_database(tenants.development_slugs)
    if slugs:
        yield Error(
            f"The database holds tenants that were founded for development: {', '.join(slugs)}.",
            hint="Their officers' keys were made in one process. Use another database.",
            id="holdfast.E011",
        )


def other_version() -> Iterator[CheckMessage]:
    """Find out whether the database is of this version of the code, as far as this user may see. Raises DatabaseError.

    Without its tables a process would take every answer for that of a database which is away, and wait for ever.
    """
    if not schema.is_visible():
        return  # a user without the rights of a service, which is said of it
    missing, unknown = schema.differing()
    if missing:
        yield Error(
            f"The database lacks migrations of this version: {_some(missing)}.",
            hint="Stop all processes, back up, then as the owner: manage.py migrate, and manage.py database_roles.",
            id="holdfast.E022",
        )
    if unknown:
        yield Error(
            f"The database was migrated by a newer version than this code: {_some(unknown)}.",
            hint="Install that version, or put back the backup from before the upgrade: migrations do not lead back.",
            id="holdfast.E023",
        )


def _some(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f", and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


def database_user() -> Iterator[CheckMessage]:
    """Find out whether this process is, to PostgreSQL, who it has to be: no more, and no less. Raises DatabaseError."""
    process = settings.HOLDFAST_ROLE
    if process not in PROCESSES or connection.vendor != "postgresql":
        return  # a ceremony is the owner's; SQLite has no users, and is refused above
    name, is_master = _who_am_i()
    if is_master:
        yield Error(
            f"The database user {name} is a superuser, or owns the tables: it could rewrite the logs.",
            hint=f"Give the {process} process a user of its own: manage.py database_roles.",
            id="holdfast.E013",
        )
        return
    wrong = _differing(process)
    if wrong:
        yield Error(
            f"The database user {name} has not the rights of the {process} process: {_some(wrong)}.",
            hint="Run manage.py database_roles as the owner, after each migrate; HOLDFAST_DATABASE_URL names the user.",
            id="holdfast.E015",
        )


def _who_am_i() -> tuple[str, bool]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT current_user, rolsuper OR rolbypassrls OR rolcreaterole OR pg_has_role(relowner, 'MEMBER')"
            " FROM pg_roles, pg_class WHERE rolname = current_user AND pg_class.oid = 'audit_entry'::regclass"
        )
        name, is_master = cursor.fetchone()
    return str(name), bool(is_master)


def _differing(process: str) -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute(RIGHTS_OF_THE_USER)
        return differing(process, cursor.fetchall())


def _from_the_database(question: Callable[[], Answer]) -> Answer:
    """Ask, and ask again until the database answers."""
    while True:
        try:
            return question()
        except DatabaseError as error:
            log.warning("the database is away (%s)", type(error).__name__)
            connection.close()
            time.sleep(_AWAY_SECONDS)
