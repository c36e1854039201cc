# SPDX-License-Identifier: Apache-2.0
"""Verbs on a tenant's end: two owners ask for it, everybody is told, one person stops it, and a ceremony ends it.

Implements ORGANISATION "End". Called inside the transaction of an act. What else is destroyed at the end, the apps
above know, and the operator's ceremony does.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from django.contrib.auth.hashers import make_password
from django.db import transaction

from audit import exporting as log_exports
from audit import services as audit
from kernel.actors import Actor, system_actor
from kernel.clock import database_now
from kernel.errors import Conflict
from kernel.models import Job
from kernel.queue import enqueue
from kernel.scope import current_tenant
from kernel.transitions import advance
from tenants import access, mails
from tenants.models import Authenticator, ConsoleSession, ExportPiece, Person, RecoveryCode, Tenant, TenantExport
from tenants.states import TENANT, TenantState

# ORGANISATION "End": so long people take home what is theirs, and so long somebody can stop it.
NOTICE: Final = timedelta(days=30)
TELL_JOB: Final = "tenants.tell-ending"
_BATCH: Final = 200  # people told in one transaction


def ask(*, proposer_id: UUID, actor: Actor) -> datetime:
    """Have the open scope's tenant end in 30 days, as two owners ask: the actor, and whoever proposed it.

    Returns when. Raises Conflict unless it is active.
    """
    with transaction.atomic():
        tenant = Tenant.objects.select_for_update().get(pk=current_tenant())
        if tenant.state != TenantState.ACTIVE:
            raise Conflict(f"The organisation is {tenant.state}: its end cannot be asked for.")
        ends_at = database_now() + NOTICE
        advance(tenant, TENANT, TenantState.ENDING, ends_at=ends_at)
        enqueue(TELL_JOB, queue="worker", unique=f"{tenant.pk}:{ends_at.timestamp()}", by=str(actor.person_id or ""))
        audit.append(
            tag="tenants:tenant:ask-end",
            actor=actor,
            subject=str(tenant.pk),
            body={"proposer": str(proposer_id), "ends_at": int(ends_at.timestamp())},
        )
    return ends_at


def stop(*, actor: Actor) -> None:
    """Take the end back: the open scope's tenant goes on. Raises Conflict unless its end was asked for."""
    with transaction.atomic():
        tenant = Tenant.objects.select_for_update().get(pk=current_tenant())
        if tenant.state != TenantState.ENDING:
            raise Conflict(f"The organisation is {tenant.state}: there is no end to stop.")
        advance(tenant, TENANT, TenantState.ACTIVE, ends_at=None)
        audit.append(tag="tenants:tenant:stop-end", actor=actor, subject=str(tenant.pk))


def finish(*, closing: str, actor: Actor) -> None:
    """End the open scope's tenant for ever, with the closing entry: what was destroyed, and what a backup still opens.

    With it go its exports, which hold ciphertexts without the server's layer, and what people signed in with. In the
    transaction that destroys its other rows. Raises Conflict before its day.
    """
    with transaction.atomic():
        tenant = Tenant.objects.select_for_update().get(pk=current_tenant())
        if not is_due(tenant, database_now()):
            raise Conflict("The organisation's day has not come, or its end was stopped.")
        advance(tenant, TENANT, TenantState.ENDED, ended_at=database_now())
        _forget()
        audit.append(tag="tenants:tenant:end", actor=actor, subject=str(tenant.pk), body={"closing": closing})


def _forget() -> None:
    log_exports.forget()
    for model in (ExportPiece, TenantExport, RecoveryCode):
        model.objects.all().delete()
    people = Person.objects.values("pk")
    Authenticator.objects.filter(user__in=people).delete()
    ConsoleSession.objects.filter(person_id__in=people).delete()
    # A hash is guessed at offline for ever, and people use one password in many places.
    Person.objects.update(password=make_password(None))


def is_due(tenant: Tenant, now: datetime) -> bool:
    """Tell whether the tenant's 30 days are over and nobody has stopped its end."""
    return tenant.state == TenantState.ENDING and tenant.ends_at is not None and tenant.ends_at <= now


def tell_all(job: Job) -> None:
    """Promise every active person of the tenant a mail about its end, once each; stops when that was stopped."""
    after: UUID | None = None
    while people := access.active_people_after(after, limit=_BATCH):
        with transaction.atomic():
            tenant = access.tenant()
            if tenant.state != TenantState.ENDING or tenant.ends_at is None:
                return
            act = f"end:{tenant.ends_at:%Y-%m-%dT%H:%M:%S}"
            by = UUID(job.payload["by"]) if job.payload["by"] else None
            actor = Actor(tenant.pk, "person", by, person_id=by) if by else system_actor(tenant.pk, "worker")
            told = mails.told_of(act, people)
            for person in access.people_by_id([one for one in people if one not in told]).values():
                until = {"until": mails.written_time(tenant.ends_at)}
                mails.promise(kind="ending", to=person, actor=actor, act=act, values=until)
        after = people[-1]
