# SPDX-License-Identifier: Apache-2.0
"""Whether an installation is whole, seen from one of its accounts: each part, what is wrong with it, and the way out.

PLATFORM "Running it". Changes nothing, writes nothing and tries no PIN: it may be run at any time, also while the
processes run. What only another account can see is said to be unseen, and is seen when that account runs it.
"""

from __future__ import annotations

import ssl
import stat
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

from django.conf import settings
from django.core.checks import Warning as CheckWarning
from django.core.mail import get_connection
from django.db import DatabaseError, InterfaceError, connection

from audit.access import restored_marks
from config import checks, readiness, schema
from config.access_log import HEADER
from config.database_roles import PROCESSES
from config.disk import is_low, places
from config.env import ENV
from config.hsm import ROLE_TOKENS, hsm_config, pin_file, waiting_pin
from config.mail import REFUSALS, refusal
from config.roles import RoleKeyMissing, open_role_keys
from hsm import manifest as manifests
from hsm.config import TOKENS
from hsm.errors import HsmError
from kernel import heartbeats
from kernel.clock import database_now
from tenants.models import Tenant

# A database is a step away, and a mail server a few: what takes longer is away to those who wait for it.
_PATIENCE: Final = 5.0  # seconds
# Clocks this far apart make signatures look too old or too new (PROTOCOL section 7: a window of 60 seconds).
_APART: Final = 5.0  # seconds
_MOST_NAMED: Final = 20  # tenants: where all were put back, one is like the other

State = Literal["ok", "wrong", "unseen"]


@dataclass(frozen=True)
class Finding:
    """What was found of one part. way_out: what a person does about it; "" where nothing is to be done."""

    part: str
    state: State
    said: str
    way_out: str = ""


def look() -> Iterator[Finding]:
    """Look at every part, the ground first. Raises nothing that a part which is away can cause."""
    yield from _posture()
    yield from _secrets()
    is_there = False
    for finding in _database():
        is_there |= finding.state == "ok"
        yield finding
    if is_there:
        yield from _rows()
    else:
        yield Finding("processes", "unseen", "when they were last at work stands in the database")
    yield from _hsm()
    yield from _role_key()
    yield from _disk()
    yield from _mail()
    yield from _broker()
    yield from _address()


def _posture() -> Iterator[Finding]:
    if not settings.HOLDFAST_PRODUCTION:
        yield Finding("settings", "ok", f"{settings.SETTINGS_MODULE}: for development, nothing real is kept here")
        return
    found = checks.unsafe_posture()
    for one in found:
        yield Finding("settings", "wrong", f"{one.id}: {one.msg}", str(one.hint or "Use config.settings.production."))
    if not found:
        said = "; a rehearsal, nothing real is kept here" if settings.HOLDFAST_REHEARSAL else ""
        yield Finding("settings", "ok", f"{settings.SETTINGS_MODULE}, as {ENV.role}{said}")


def _secrets() -> Iterator[Finding]:
    """Look at the files that nobody but their owner may read."""
    named = {
        "HOLDFAST_SECRET_KEY_FILE": ENV.secret_key_file,
        "HOLDFAST_DATABASE_PASSWORD_FILE": ENV.database_password_file,
        "HOLDFAST_EMAIL_PASSWORD_FILE": ENV.email_password_file,
    }
    wrong = []
    for name, path in named.items():
        if path is not None and stat.S_IMODE(path.stat().st_mode) & 0o007:
            wrong.append(Finding("secrets", "wrong", f"everybody may read {path} ({name})", f"chmod o= {path}"))
    yield from wrong or [Finding("secrets", "ok", "no file of a secret is open to everybody")]


def _database() -> Iterator[Finding]:
    way_out = "Look at HOLDFAST_DATABASE_URL, at its password file, and at the database's own log."
    name = Path(str(settings.DATABASES["default"]["NAME"]))
    if connection.vendor == "sqlite" and not name.exists():
        # To ask would make it.
        yield Finding("database", "wrong", f"there is none at {name}", "Look at HOLDFAST_STATE_DIR.")
        return
    try:
        connection.ensure_connection()
        other = [*checks.other_version()]
        is_seen = schema.is_visible()
        apart = abs((database_now() - datetime.now(UTC)).total_seconds())
    except (DatabaseError, InterfaceError) as error:
        said = str(error).strip().splitlines()
        yield Finding("database", "wrong", f"it does not answer: {said[0] if said else type(error).__name__}", way_out)
        return
    if other:
        for one in other:
            yield Finding("database", "wrong", f"{one.id}: {one.msg}", str(one.hint))
        return
    seen = "with every migration" if is_seen else "which migrations are made, the owner sees"
    yield Finding("database", "ok", f"{connection.vendor}; {seen}")
    if apart > _APART:
        yield Finding("clock", "wrong", f"it is {apart:.0f} s off the database's", "Set both by NTP; see timedatectl.")
    else:
        yield Finding("clock", "ok", "as the database's")


def _rows() -> Iterator[Finding]:
    sealed = (
        checks.check_authenticators(None, databases=["default"]) if schema.may_read("tenants_authenticator") else []
    )
    for one in (*checks.database_user(), *sealed):
        state: State = "ok" if isinstance(one, CheckWarning) else "wrong"
        yield Finding("database", state, f"{one.id}: {one.msg}", str(one.hint or ""))
    yield from _restored()
    ages = heartbeats.ages()
    for lane, found in readiness.lanes(ages).items():
        process = "sequencer" if lane == "heads" else lane.partition("/")[0]
        if found == "ok":
            yield Finding(lane, "ok", f"at work {ages[lane].total_seconds():.0f} s ago")
            continue
        said = "was never at work" if lane not in ages else f"last at work {ages[lane].total_seconds():.0f} s ago"
        way_out = f"systemctl status holdfast-{process}; journalctl -u holdfast-{process} says why."
        yield Finding(lane, "wrong", said, way_out)


def _restored() -> Iterator[Finding]:
    if not schema.may_read("audit_restored"):
        yield Finding("restored", "unseen", "whether a backup waits for a tenant's officers")
        return
    marked = restored_marks()
    # Services see less of a tenant than the ceremony's account does.
    rows = Tenant.objects.filter(pk__in=[mark.tenant_id for mark in marked[:_MOST_NAMED]])
    names = dict(rows.values_list("pk", "slug")) if schema.may_read(Tenant._meta.db_table) else {}
    for mark in marked[:_MOST_NAMED]:
        slug = names.get(mark.tenant_id)
        yield Finding(
            "restored",
            "wrong",
            f"tenant {slug or mark.tenant_id} is read-only since {mark.since:%Y-%m-%d %H:%M} UTC: its database was put "
            "back from a backup",
            "Tell its officers what was put back and why; m of them run: holdfast officer resolve accept-log. Then "
            f"hold manage.py ceremony accept-restored {slug or 'SLUG'}. If nobody put a backup back, stop everything: "
            "somebody rewrites rows.",
        )
    if len(marked) > _MOST_NAMED:
        yield Finding("restored", "wrong", f"and {len(marked) - _MOST_NAMED} more tenants", "The same.")
    if not marked:
        yield Finding("restored", "ok", "no backup waits for a tenant's officers")


def _hsm() -> Iterator[Finding]:
    config = hsm_config()
    if not config.module.exists():
        yield Finding("hsm", "wrong", f"there is no module at {config.module}", "Name it in HOLDFAST_HSM_MODULE.")
        return
    try:
        manifest = manifests.load(config.manifest_path)
        manifest.check_module(config.module)
    except (HsmError, OSError) as error:
        yield Finding("hsm", "wrong", str(error), "Hold `manage.py ceremony init`, or set HOLDFAST_HSM_HOME.")
        return
    tokens = ROLE_TOKENS[ENV.role]
    if not tokens:
        yield Finding("hsm", "unseen", f"PINs belong to the processes; as {ENV.role} none is read")
    for name in tokens:
        try:
            config.refused_pins.require_untried(name)
            config.pin(name).read()
        except HsmError as error:
            way_out = f"Put the PIN of the token {name} there, mode 0600, and remove what marks a refused one."
            yield Finding("hsm", "wrong", str(error), way_out)
        else:
            yield Finding("hsm", "ok", f"the token {name} is pinned, and its PIN is there; it was not tried")
    for name in TOKENS:
        yield from _stopped_change("hsm", name, waiting_pin(pin_file(name)))


def _stopped_change(part: str, token: str, path: Path) -> Iterator[Finding]:
    # A directory that this account may not enter is none of its own.
    with suppress(OSError):
        if path.exists():
            said = f"{path} is of a change of the PIN of the token {token} that was stopped"
            yield Finding(part, "wrong", said, f"Hold `manage.py ceremony pin {token}` again before a service starts.")


def _role_key() -> Iterator[Finding]:
    try:
        keys = open_role_keys()
    except RoleKeyMissing as error:
        yield Finding("role key", "wrong", str(error), "Hold `manage.py ceremony hand-out`, or see manage.py role_key.")
        return
    said = f"of {ENV.role}" if keys else f"as {ENV.role} none is needed"
    yield Finding("role key", "ok" if keys else "unseen", said)


def _disk() -> Iterator[Finding]:
    is_well = True
    for place in places():
        try:
            if not is_low(place):
                continue
            said, way_out = f"{place} is nearly full", "Make room there, or give it a larger disk."
        except OSError as error:
            said, way_out = f"{place} does not answer: {error.strerror}", "Look at what is mounted there."
        is_well = False
        yield Finding("disk", "wrong", said, way_out)
    if is_well:
        yield Finding("disk", "ok", "there is room wherever this account writes")


def _mail() -> Iterator[Finding]:
    if not settings.EMAIL_TIMEOUT:
        yield Finding("mail", "unseen", "none is handed over: HOLDFAST_EMAIL_URL is not set")
        return
    at = f"{settings.EMAIL_HOST}:{settings.EMAIL_PORT}"
    try:
        with get_connection("django.core.mail.backends.smtp.EmailBackend", timeout=_PATIENCE):
            pass
    except REFUSALS as error:
        found = refusal(error)
        way_out = f"{found.way_out} Then manage.py sendtestmail YOUR-ADDRESS."
        yield Finding("mail", "wrong", f"{at} does not take us: {found.said}", way_out)
    else:
        yield Finding("mail", "ok", f"{at} takes our mail; whether it arrives: manage.py sendtestmail YOUR-ADDRESS")


def _broker() -> Iterator[Finding]:
    if not settings.CELERY_BROKER_URL:
        return
    from config.celery import app

    try:
        with app.connection(connect_timeout=_PATIENCE) as broker:
            broker.ensure_connection(max_retries=1, timeout=_PATIENCE)
    except Exception as error:  # noqa: BLE001 — each broker's client has errors of its own
        yield Finding("broker", "wrong", f"it does not answer ({type(error).__name__})", "Look at HOLDFAST_REDIS_URL.")
    else:
        yield Finding("broker", "ok", "it answers")


def _address() -> Iterator[Finding]:
    url = f"{settings.HOLDFAST_PUBLIC_URL}/livez"
    way_out = "Look at nginx (nginx -t, its journal), at the name in DNS, and at systemctl status holdfast-web."
    began = time.monotonic()
    try:
        with urllib.request.urlopen(url, timeout=_PATIENCE) as answer:  # noqa: S310 — the operator's own address
            is_ours = HEADER in answer.headers
    except urllib.error.HTTPError as error:
        yield Finding("address", "wrong", f"{url} answers {error.code}", way_out)
    except (urllib.error.URLError, OSError) as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, ssl.SSLCertVerificationError):
            reason, way_out = f"its certificate is refused: {reason.verify_message}", "Renew it, and reload nginx."
        yield Finding("address", "wrong", f"{url} does not answer: {reason}", way_out)
    else:
        if is_ours:
            yield Finding("address", "ok", f"{url} answers in {time.monotonic() - began:.1f} s")
        else:
            yield Finding("address", "wrong", f"{url} is answered by something else", way_out)


def layout(directory: Path) -> Iterator[Finding]:
    """Look at the files of all accounts below `directory` (/etc/holdfast), as root: who may read them, what is missing.

    Each service's environment, database password and role key, the PINs, and the secret that all share.
    """
    own = [f"{role}/{name}" for role in PROCESSES for name in ("environment", "database.password", "role.key")]
    pins = [f"pins/{token}.pin" for token in sorted({one for role in PROCESSES for one in ROLE_TOKENS[role]})]
    wrong = []
    for name in (*own, *pins, "secret.key"):
        finding = _kept(directory / name)
        if finding is not None:
            wrong.append(finding)
    for token in TOKENS:
        wrong += _stopped_change("files", token, waiting_pin(directory / "pins" / f"{token}.pin"))
    if (directory / "pins" / "ceremony.pin").exists():
        path = directory / "pins" / "ceremony.pin"
        wrong.append(Finding("files", "wrong", f"{path} stays on this machine", "Take it away: no process needs it."))
    yield from wrong or [Finding("files", "ok", f"every file below {directory} is there, and root's alone")]


def _kept(path: Path) -> Finding | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return Finding("files", "wrong", f"there is no {path}", "Put it there: docs/operations.md, section 1.")
    except OSError as error:
        return Finding("files", "unseen", f"{path}: {error.strerror}", "Run it as root.")
    if found.st_uid != 0 or stat.S_IMODE(found.st_mode) & 0o077:
        return Finding("files", "wrong", f"others than root may read {path}", f"chown root: {path} && chmod 600 {path}")
    return None
