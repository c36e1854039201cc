# SPDX-License-Identifier: Apache-2.0
"""What is possible in each state of a tenant, written out: a new state, or a new right in one, is changed here too."""

from __future__ import annotations

import secrets
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client

from holdfast.core.base.secret import SecretBytes
from holdfast.core.signed.enrolment import code_hash
from kernel.actors import system_actor
from kernel.errors import DomainError
from kernel.scope import tenant_scope
from tenants import access, invitations, log_tokens, services
from tenants.backends import TenantBackend
from tenants.models import Tenant
from tenants.permissions import (
    MATRIX,
    OBJECTION,
    PENDING_DEVICE,
    PermissionName,
    device_permissions,
    log_token_permissions,
    session_permissions,
    suspended_permissions,
)
from tenants.roles import Role
from tenants.states import TENANT, TenantState
from tests.cast.tenants import Cast, build_world, make_device

#                   founding active suspended locked ending ended
TABLE = """
sign-in             x        x      -         x      x      -
signed-requests     x        x      -         x      x      -
invitation          x        x      -         -      -      -
enrolment           -        x      -         -      x      -
enrolment-code      x        x      -         -      x      -
log-token           -        x      -         x      x      -
veto                -        x      -         x      x      -
deposit             -        x      -         x      x      -
suspend             x        x      -         x      x      -
case-verbs          x        x      x         -      x      x
"""
STATES = list(TenantState.values)
ROWS = [
    (words[0], state, mark == "x")
    for words in map(str.split, TABLE.strip().splitlines())
    for state, mark in zip(STATES, words[1:], strict=True)
]


@pytest.fixture
def cast(db: None) -> Cast:
    return build_world()


def test_table_names_every_state() -> None:
    assert STATES == ["founding", "active", "suspended", "locked", "ending", "ended"]
    assert [state for state in STATES if TENANT.is_terminal(state)] == ["ended"]


def _sign_in(cast: Cast) -> bool:
    return TenantBackend().get_user(cast.olivia.pk) is not None and access.entered_tenant_by_slug("acme") is not None


def _signed_requests(cast: Cast) -> bool:
    signer = make_device(cast.olivia)
    return bool(signer.send(Client(), "GET", "/api/v1/probe").status_code == 200)


def _invitation(cast: Cast) -> bool:
    link = invitations.invite(person=cast.alice, actor=system_actor(cast.acme.pk, "ceremony"))
    token = link.text.reveal().decode().rstrip("/").rsplit("/", 1)[1]
    try:
        invitations.find(tenant_id=cast.acme.pk, token=token)
    except DomainError:
        return False
    return True


def _enrolment(cast: Cast) -> bool:
    state, secret = cast.acme.state, SecretBytes(secrets.token_bytes(16))
    Tenant.objects.filter(pk=cast.acme.pk).update(state=TenantState.ACTIVE)
    hashed = code_hash(tenant=cast.acme.pk.bytes, person=cast.alice.pk.bytes, secret=secret)
    services.issue_enrolment_code(person=cast.alice, code_hash=hashed, actor=system_actor(cast.acme.pk, "ceremony"))
    Tenant.objects.filter(pk=cast.acme.pk).update(state=state)
    try:
        services.consume_enrolment_code(tenant_id=cast.acme.pk, person_id=cast.alice.pk, secret=secret)
    except DomainError:
        return False
    return True


def _log_token(cast: Cast) -> bool:
    made = log_tokens.create(name="x", life=timedelta(days=1), actor=system_actor(cast.acme.pk, "test"))
    return log_tokens.actor_of(f"Bearer {made.text.reveal().decode()}") is not None


def _may(permission: str, role: str = Role.OWNER) -> Any:
    return lambda cast: permission in device_permissions(role, "active", cast.acme.state)


def _case_verbs(cast: Cast) -> bool:
    try:
        access.require_unlocked()
    except DomainError:
        return False
    return True


TRIES = {
    "sign-in": _sign_in,
    "signed-requests": _signed_requests,
    "invitation": _invitation,
    "enrolment": _enrolment,
    "enrolment-code": _may(PermissionName.ENROLMENT_CREATE),
    "log-token": _log_token,
    "veto": _may(PermissionName.CASE_VETO),
    "deposit": _may(PermissionName.DEPOSIT_WRITE),
    "suspend": _may(PermissionName.PERSON_ADMINISTER),
    "case-verbs": _case_verbs,
}


@pytest.mark.urls("tests.tenants.urls")
@pytest.mark.parametrize(("what", "state", "possible"), ROWS)
def test_state_allows_what_the_table_says(cast: Cast, what: str, state: str, possible: bool) -> None:
    Tenant.objects.filter(pk=cast.acme.pk).update(state=state)
    cast.acme.refresh_from_db()
    with tenant_scope(cast.acme.pk):
        assert TRIES[what](cast) is possible


@pytest.mark.parametrize("role", [*Role.values, "service"])
def test_lock_takes_nothing_but_codes_and_an_end_takes_nothing(role: str) -> None:
    left = MATRIX[role] - {PermissionName.ENROLMENT_CREATE}
    objects = OBJECTION if role in Role.values else frozenset()
    assert device_permissions(role, "active", TenantState.LOCKED) == left | objects
    assert device_permissions(role, "pending", TenantState.LOCKED) == left & PENDING_DEVICE
    assert device_permissions(role, "active", TenantState.ENDING) == device_permissions(role, "active")
    assert PermissionName.ENROLMENT_CREATE not in session_permissions(role, TenantState.LOCKED)
    assert session_permissions(role, TenantState.LOCKED) >= session_permissions(role) - {
        PermissionName.ENROLMENT_CREATE
    }


@pytest.mark.parametrize("state", ["suspended", "ended", "", "unlocked"])
def test_every_other_state_gives_nothing(state: str) -> None:
    for role in Role.values:
        assert not device_permissions(role, "active", state)
        assert not suspended_permissions(role, state)
    assert not log_token_permissions(state)
