# SPDX-License-Identifier: Apache-2.0
"""`ceremony end`: the end of a tenant whose 30 days are over: its keys are destroyed, and its rows with them.

Implements ORGANISATION "End" and "Commands of the operator". Each step finds what the one before left. What backups
still open is said in the closing entry and to the operator: no ceremony reaches into a backup.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Final
from uuid import UUID

from django.db import transaction

from audit import access as audit
from config.ceremonies import CeremonyRefused, Step
from config.hsm import hsm_config
from holdfast.core.base.text import written_out
from hsm.ceremony import Ceremony
from kernel.actors import system_actor
from kernel.clock import database_now
from kernel.fields import rfc3339
from kernel.scope import tenant_scope
from keys.tenant_end import destroy_tenant_keys
from recovery.cases.endings import destroy_all_sealed
from tenants import access, ending
from tenants.models import Tenant
from tenants.states import TenantState

_MOST_NAMED: Final = 50  # keys of one kind in the closing entry: more than a tenant ever has


def steps(tenant: Tenant) -> Iterator[Step]:
    """Give what is missing of a tenant's end; none once it has ended. Raises CeremonyRefused before its day."""
    if tenant.state == TenantState.ENDED:
        return
    if tenant.state != TenantState.ENDING or tenant.ends_at is None:
        raise CeremonyRefused(f"{tenant.slug} is {tenant.state}: two owners ask for its end in the console first.")
    if not ending.is_due(tenant, database_now()):
        raise CeremonyRefused(f"{tenant.slug} ends {rfc3339(tenant.ends_at)}. Until then its owners can stop it.")
    escrow = Ceremony(hsm_config()).escrow_keys(str(tenant.pk))
    # First, while the rows still say what they were: a kill in between leaves them to be named.
    if escrow:
        yield Step(
            f"destroy the {len(escrow)} escrow keys of {tenant.slug} on the token escrow: what was deposited to them "
            f"is never opened again. {_who_asked(tenant)}",
            partial(_destroy_escrow, tenant),
        )
    yield Step(
        f"destroy the master keys of {tenant.slug}, its vaults, doors, mailboxes and exports, what its cases released "
        f"and what its people sign in with, and end it for ever. {_who_asked(tenant)}",
        partial(_finish, tenant),
    )


def _who_asked(tenant: Tenant) -> str:
    """Say by whom the end was asked for, as the log has it: the row alone any web process could have written."""
    with tenant_scope(tenant.pk):
        entry = audit.last_entry(str(tenant.pk), tag="tenants:tenant:ask-end")
        if entry is None:
            return "No entry of the log says who asked for it: call two owners, and hear both say so"
        asked = access.people_by_id(UUID(str(one)) for one in (entry.body["proposer"], entry.person_id) if one)
    names = " and ".join(f"{written_out(one.name)} <{written_out(one.email)}>" for one in asked.values())
    return f"{names} asked for it {rfc3339(entry.time)}: call both, and hear them say so"


def _destroy_escrow(tenant: Tenant) -> list[str]:
    ceremony = Ceremony(hsm_config())
    # Again: the operator may have taken their time for the yes, and somebody may have stopped it.
    if not ending.is_due(Tenant.objects.get(pk=tenant.pk), database_now()):
        raise CeremonyRefused("The end was stopped meanwhile. Nothing was destroyed.")
    ceremony.destroy_escrow_keys(str(tenant.pk))
    copies = ceremony.token_backups("escrow")
    return [
        "start the release process anew: it holds the keys in its memory until it ends",
        *(f"this copy of the token still has the keys; destroy it when you have another: {path}" for path in copies),
    ]


def _finish(tenant: Tenant) -> list[str]:
    actor = system_actor(tenant.pk, "ceremony")
    with tenant_scope(tenant.pk), transaction.atomic():
        # All of it or nothing: whoever stopped the end meanwhile keeps everything.
        destroy_all_sealed()
        ended = destroy_tenant_keys(actor=actor)
        masters = sorted({one.master_version for one in ended})
        closing = (
            f"tenant master keys {_named([one.name for one in ended])} wrapped by master versions "
            f"{_named([str(one) for one in masters])}: a backup of the database together with these master keys opens "
            "what they sealed; the escrow keys are opened by a backup of the token escrow alone"
        )
        ending.finish(closing=closing, actor=actor)
    return [
        closing,
        "start web process and worker anew: what they opened stays in their memory until they end",
        "destroy the database's backups of before, or wait until they are overwritten: until then they open with the "
        "HSM's master keys",
    ]


def _named(names: list[str]) -> str:
    return ", ".join(names[:_MOST_NAMED]) or "none"
