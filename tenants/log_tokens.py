# SPDX-License-Identifier: Apache-2.0
"""Log tokens: leave for a program that cannot sign requests (a SIEM) to pull the audit log, and nothing else.

Implements ORGANISATION "People" and FAULTS A5, A9. The token was never here: only its SHA-256. It is read again with
its tenant for every request, so that a revocation, an expiry or a suspended tenant ends it with the next one.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Now

from audit import services as audit
from holdfast.core.base.encoding import b64u
from holdfast.core.base.secret import SecretBytes
from kernel.actors import Actor
from kernel.clock import database_now
from kernel.errors import Conflict, Invalid, LimitReached, NotFound
from kernel.sweeps import delete_in_batches
from tenants import names
from tenants.models import LogToken
from tenants.permissions import log_token_permissions

# By it, people and scanners know what they found in a file.
PREFIX: Final = "hf_log_"
_SIZE: Final = 32  # bytes: 256 bits
_HEADER: Final = re.compile(r"Bearer +(hf_log_[A-Za-z0-9_-]{43})", re.ASCII | re.IGNORECASE)
MAX_LIFE: Final = timedelta(days=365)
MAX_OPEN: Final = 50  # of one tenant: more programs than ever pull one log
# How long one is still listed after its end: whoever looks into what it read finds its name.
KEPT: Final = timedelta(days=90)


@dataclass(frozen=True)
class Made:
    """A new token: its text, shown once and stored nowhere, and its row."""

    text: SecretBytes
    row: LogToken


def create(*, name: str, life: timedelta, actor: Actor) -> Made:
    """Make a token for the open scope's tenant, good for `life`, at most a year.

    Raises NameRefused, Invalid for another life, LimitReached while as many are open as may be.
    """
    if not timedelta(0) < life <= MAX_LIFE:
        raise Invalid("Must end within a year.", field="days")
    text = PREFIX + b64u(secrets.token_bytes(_SIZE))
    with transaction.atomic():
        require_room()
        row: LogToken = LogToken.objects.create(
            name=names.display_name(name),
            token_hash=_hash(text),
            created_by=actor.person_id,
            expires_at=database_now() + life,
        )
        audit.append(
            tag="tenants:log-token:create",
            actor=actor,
            subject=str(row.pk),
            body={"expires_at": int(row.expires_at.timestamp())},
        )
    return Made(SecretBytes(text.encode()), row)


def require_room() -> None:
    """Raise LimitReached while the tenant has as many open tokens as it may."""
    if LogToken.objects.filter(revoked_at=None, expires_at__gt=Now()).count() >= MAX_OPEN:
        raise LimitReached(
            "The organisation has as many log tokens as it may. Revoke one that nobody uses.",
            limit="log-tokens",
            most=MAX_OPEN,
        )


def revoke(*, token: LogToken, actor: Actor) -> None:
    """End a token with its next request. Raises Conflict when it is revoked already."""
    with transaction.atomic():
        if LogToken.objects.filter(pk=token.pk, revoked_at=None).update(revoked_at=Now()) != 1:
            raise Conflict("The token is revoked already.")
        audit.append(tag="tenants:log-token:revoke", actor=actor, subject=str(token.pk))


def token(token_id: UUID, *, lock: bool = False) -> LogToken:
    """Return a token's row, whatever became of it. Raises NotFound."""
    rows = LogToken.objects.filter(pk=token_id)
    found: LogToken | None = (rows.select_for_update() if lock else rows).first()
    if found is None:
        raise NotFound
    return found


def is_open(row: LogToken, now: datetime) -> bool:
    """Tell whether a token can be used at a time, for all that its own row says."""
    return row.revoked_at is None and row.expires_at > now


def state(row: LogToken, now: datetime) -> str:
    """Return what a token is at a time, in a word: active, expired or revoked."""
    if row.revoked_at is not None:
        return "revoked"
    return "active" if is_open(row, now) else "expired"


def listed(*, start: int, limit: int) -> tuple[list[LogToken], int]:
    """List the tenant's tokens, the newest first: one page, and how many there are."""
    rows = LogToken.objects.order_by("-created_at", "id")
    return list(rows[start : start + limit]), rows.count()


def actor_of(header: str) -> Actor | None:
    """Return whom a header `Authorization: Bearer …` stands for; None for every token that is not to be used.

    One query, whatever is wrong with it. Reads across tenants: the token alone says whose it is.
    """
    found = _HEADER.fullmatch(header)
    digest = _hash(found[1] if found else "")
    row: LogToken | None = (
        LogToken.unscoped.filter(token_hash=digest, revoked_at=None, expires_at__gt=Now())
        .select_related("tenant")
        .first()
    )
    permissions = log_token_permissions(row.tenant.state) if row else frozenset()
    if row is None or not permissions:
        return None
    today = database_now().date()
    if row.last_used_on != today:
        LogToken.unscoped.filter(pk=row.pk).update(last_used_on=today)
    return Actor(row.tenant_id, "log-token", row.pk, permissions=permissions)


def sweep() -> None:
    """Forget tokens that ended long ago, of all tenants; the log keeps what they did."""
    before = database_now() - KEPT
    delete_in_batches(LogToken.unscoped.filter(Q(expires_at__lt=before) | Q(revoked_at__lt=before)))


def _hash(text: str) -> bytes:
    # Of 256 random bits no slower hash would protect more, and the look-up's time says nothing about others.
    return hashlib.sha256(text.encode()).digest()
