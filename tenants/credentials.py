# SPDX-License-Identifier: Apache-2.0
"""The two statements behind every signed request: who is this credential now, and is this nonce fresh.

Implements ORGANISATION "Requests" and the speed goal of claims: one SELECT, one INSERT, no object mapping between.
Does not verify signatures. Reads across tenants, because before the look-up there is no tenant.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from django.db import connection

from kernel.actors import Actor
from tenants.models import Credential, Nonce, Person, Tenant
from tenants.permissions import device_permissions
from tenants.roles import SERVICE_ROLE
from tenants.states import PersonState, TenantState

_CREDENTIAL, _TENANT, _PERSON = (model._meta.db_table for model in (Credential, Tenant, Person))
_NONCE: Final = Nonce._meta.db_table
_LOOK_UP: Final = (
    "SELECT c.tenant_id, c.kind, c.public_key, c.state, c.person_id, t.state, p.role, p.state"  # noqa: S608 — our own tables' names
    f" FROM {_CREDENTIAL} c JOIN {_TENANT} t ON t.id = c.tenant_id"
    # The tenant stands in the join as well: a row forged with another tenant's person finds nobody.
    f" LEFT JOIN {_PERSON} p ON p.id = c.person_id AND p.tenant_id = c.tenant_id WHERE c.id = %s"
)
_SPEND: Final = (
    f"INSERT INTO {_NONCE} (credential_id, nonce, tenant_id, expires_at) VALUES (%s, %s, %s, %s)"  # noqa: S608 — as above
    " ON CONFLICT (credential_id, nonce) DO NOTHING"
)


@dataclass(frozen=True, slots=True)
class Known:
    """A credential whose tenant, owner and own state let it act, as the database says at this moment."""

    actor: Actor
    public_key: bytes


def look_up(credential_id: UUID) -> Known | None:
    """Return the credential with the actor it stands for, or None when nobody may act by it.

    Tenant, person and credential are read again for every request: a demotion or suspension counts from the
    next request on (FAULTS A6), and every state but the listed ones counts for nothing (P9).
    """
    with connection.cursor() as cursor:
        cursor.execute(_LOOK_UP, [_uuid_parameter(credential_id)])
        row = cursor.fetchone()
    if row is None:
        return None
    tenant_id, kind, public_key, state, person_id, tenant_state, role, person_state = row
    is_service = kind == Credential.Kind.SERVICE
    if tenant_state != TenantState.ACTIVE or (not is_service and person_state != PersonState.ACTIVE):
        return None
    role = SERVICE_ROLE if is_service else role
    permissions = device_permissions(role, state)
    if not permissions:
        return None
    actor = Actor(
        tenant_id=_uuid(tenant_id),
        kind="service" if is_service else "device",
        id=credential_id,
        person_id=None if person_id is None else _uuid(person_id),
        role=role,
        permissions=permissions,
        credential_state=state,
    )
    return Known(actor, bytes(public_key))


def spend_nonce(actor: Actor, nonce: bytes, *, expires_at: datetime) -> bool:
    """Record a nonce, and tell whether this request was the first to bring it.

    Committed at once and on its own: a request that fails later has still spent its signature.
    """
    assert actor.id is not None
    assert actor.tenant_id is not None
    values = [_uuid_parameter(actor.id), _octets_parameter(nonce), _uuid_parameter(actor.tenant_id)]
    with connection.cursor() as cursor:
        cursor.execute(_SPEND, [*values, connection.ops.adapt_datetimefield_value(expires_at)])
        return bool(cursor.rowcount == 1)


def _octets_parameter(value: bytes) -> Any:
    return Nonce._meta.get_field("nonce").get_db_prep_value(value, connection)


def _uuid_parameter(value: UUID) -> Any:
    return value if connection.features.has_native_uuid_field else value.hex


def _uuid(value: Any) -> UUID:
    return value if isinstance(value, UUID) else UUID(value)
