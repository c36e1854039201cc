# SPDX-License-Identifier: Apache-2.0
"""Verbs on a tenant's lock: one owner locks; two owners ask for its end, which comes after the long delay.

Implements ORGANISATION "Lock". Called inside the transaction of an act. The rows serve people; the release process
goes by the log alone (ESCROW "What it believes of the log").
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from django.db import transaction

from audit import services as audit
from kernel.actors import Actor, system_actor
from kernel.clock import database_now
from kernel.errors import Conflict
from kernel.queue import apart
from kernel.scope import current_tenant, resting
from kernel.transitions import advance
from tenants.models import Tenant
from tenants.states import TENANT, TenantState

# ORGANISATION "Lock": whoever locks again so soon may be the one who must not.
LOCK_AGAIN: Final = timedelta(days=30)


def is_soon_again(tenant: Tenant, now: datetime) -> bool:
    """Tell whether the tenant was unlocked within 30 days: then one owner alone does not lock it."""
    return tenant.unlocked_at is not None and tenant.unlocked_at > now - LOCK_AGAIN


def lock(*, actor: Actor) -> None:
    """Lock the open scope's tenant, or keep it locked though an unlocking was asked for.

    Raises Conflict in any other state, and where it is locked and nobody asked.
    """
    with transaction.atomic():
        tenant = _locked_row()
        if tenant.state == TenantState.LOCKED and tenant.unlock_at is not None:
            tenant.unlock_at = None
            tenant.save(update_fields=["unlock_at"])
        elif tenant.state == TenantState.ACTIVE:
            advance(tenant, TENANT, TenantState.LOCKED, locked_at=database_now(), unlock_at=None)
        else:
            raise Conflict(f"The organisation is {tenant.state}: there is nothing to lock.")
        audit.append(tag="tenants:tenant:lock", actor=actor, subject=str(tenant.pk))


def ask_unlock(*, proposer_id: UUID, delay: timedelta, actor: Actor) -> datetime:
    """Have the lock end after a delay, as two owners ask: the actor and whoever proposed it. Returns when.

    Raises Conflict unless the tenant is locked and nobody has asked yet.
    """
    with transaction.atomic():
        tenant = _locked_row()
        if tenant.state != TenantState.LOCKED or tenant.unlock_at is not None:
            raise Conflict("The organisation is not locked, or its unlocking runs already.")
        tenant.unlock_at = database_now() + delay
        tenant.save(update_fields=["unlock_at"])
        audit.append(
            tag="tenants:tenant:ask-unlock",
            actor=actor,
            subject=str(tenant.pk),
            body={"proposer": str(proposer_id), "unlock_at": int(tenant.unlock_at.timestamp())},
        )
    return tenant.unlock_at


def unlock_due() -> int:
    """End the locks whose delay is over, of all tenants, each with its entry; return how many."""
    ended = Tenant.objects.filter(state=TenantState.LOCKED, unlock_at__lte=database_now())
    due = list(ended.values_list("pk", flat=True))
    for tenant_id in set(due) - resting():
        with apart(tenant_id, "its unlocking"), transaction.atomic():
            tenant = _locked_row()
            now = database_now()
            # An owner may have kept it locked meanwhile.
            if tenant.state == TenantState.LOCKED and tenant.unlock_at is not None and tenant.unlock_at <= now:
                advance(tenant, TENANT, TenantState.ACTIVE, locked_at=None, unlock_at=None, unlocked_at=now)
                actor = system_actor(tenant_id, "worker")
                audit.append(tag="tenants:tenant:unlock", actor=actor, subject=str(tenant_id))
    return len(due)


def lock_again() -> None:
    """Lock the open scope's tenant as an entry says that a restored database had lost; nothing where it is locked."""
    tenant = _locked_row()
    if tenant.state == TenantState.ACTIVE:
        advance(tenant, TENANT, TenantState.LOCKED, locked_at=database_now(), unlock_at=None)
    elif tenant.state == TenantState.LOCKED and tenant.unlock_at is not None:
        tenant.unlock_at = None
        tenant.save(update_fields=["unlock_at"])


def _locked_row() -> Tenant:
    return Tenant.objects.select_for_update().get(pk=current_tenant())
