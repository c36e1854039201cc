# SPDX-License-Identifier: Apache-2.0
"""A tenant that is being founded: who is let in, what they may do there, and how it ends."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from django.test import Client

from audit.models import Entry
from holdfast.core.signed.enrolment import EnrolmentCode as CodeText
from kernel.actors import system_actor
from kernel.errors import Conflict, Invalid
from kernel.scope import tenant_scope
from tenants import access, services
from tenants.errors import EnrolmentRefused
from tenants.models import Person, Tenant
from tenants.permissions import FOUNDING, MATRIX, PermissionName, device_permissions
from tenants.roles import Role
from tenants.states import TenantState
from tests.cast.tenants import Cast, build_world, give_password, make_device

pytestmark = pytest.mark.urls("tests.tenants.urls")
P = PermissionName


@pytest.fixture
def world(db: None) -> Cast:
    made = build_world()
    Tenant.objects.filter(pk=made.acme.pk).update(state=TenantState.FOUNDING)
    return made


def code_of(person: Person) -> CodeText:
    code = CodeText.new(tenant=person.tenant_id.bytes, person=person.pk.bytes)
    with tenant_scope(person.tenant_id):
        services.issue_enrolment_code(
            person=person, code_hash=code.hash, actor=system_actor(person.tenant_id, "ceremony")
        )
    return code


def enrol(code: CodeText) -> Any:
    return services.consume_enrolment_code(
        tenant_id=uuid.UUID(bytes=code.tenant), person_id=uuid.UUID(bytes=code.person), secret=code.secret
    )


@pytest.mark.parametrize("name", ["olivia", "carol"])
def test_people_who_found_it_enrol(name: str, world: Cast) -> None:
    person = getattr(world, name)
    assert enrol(code_of(person)).person == person


def test_no_member_enrols_before_it_is_founded(world: Cast) -> None:
    with pytest.raises(Invalid, match="only its owners and officers"):
        code_of(world.alice)
    # One that was made otherwise: the role, and not the code, says who is let in.
    Tenant.objects.filter(pk=world.acme.pk).update(state=TenantState.ACTIVE)
    code = code_of(world.alice)
    Tenant.objects.filter(pk=world.acme.pk).update(state=TenantState.FOUNDING)
    with pytest.raises(EnrolmentRefused):
        enrol(code)
    with tenant_scope(world.acme.pk):
        services.finish_founding(actor=system_actor(world.acme.pk, "ceremony"))
    assert enrol(code).person == world.alice


@pytest.mark.parametrize("role", list(MATRIX))
def test_nothing_is_deposited_opened_or_decided_while_it_is_founded(role: str) -> None:
    granted = device_permissions(role, "active", TenantState.FOUNDING)
    assert granted == MATRIX[role] & FOUNDING
    assert not granted & {P.DEPOSIT_WRITE, P.CASE_OPEN, P.CASE_APPROVE, P.CASE_COLLECT, P.MESSAGE_SEND, P.PREKEY_CLAIM}
    if role in (Role.OWNER, Role.OFFICER):
        assert granted >= {P.CHAIN_WRITE, P.VAULT_WRITE, P.STATEMENT_WRITE}


# What the others let in, tests/tenants/test_tenant_states.py has the table of.
@pytest.mark.parametrize("state", [TenantState.SUSPENDED, TenantState.ENDED])
def test_every_other_state_lets_nobody_in(state: str, world: Cast, client: Client) -> None:
    device = make_device(world.carol)
    assert device.send(client, "GET", "/api/v1/probe").status_code == 200
    Tenant.objects.filter(pk=world.acme.pk).update(state=state)
    assert device.send(client, "GET", "/api/v1/probe").status_code == 401
    assert access.entered_tenant_by_slug("acme") is None
    assert device_permissions(Role.OWNER, "active", state) == frozenset()
    with pytest.raises(EnrolmentRefused):
        enrol(code_of(world.olivia))


def test_device_is_held_to_what_a_founding_lets_in(world: Cast, client: Client) -> None:
    device = make_device(world.carol)
    assert device.send(client, "POST", "/api/v1/probe", b"{}").status_code == 200
    # It takes the right to approve cases.
    assert device.send(client, "PUT", "/api/v1/probe", b"{}").status_code == 403
    Tenant.objects.filter(pk=world.acme.pk).update(state=TenantState.ACTIVE)
    assert device.send(client, "PUT", "/api/v1/probe", b"{}").status_code == 200


def test_founder_signs_in_to_the_console(world: Cast, client: Client) -> None:
    give_password(world.olivia)
    typed = {"tenant": "acme", "email": "olivia@acme.test", "password": "correct horse battery staple"}
    assert client.post("/console/sign-in/", typed)["location"] == "/console/sign-in/code/"


def test_founding_ends_once_and_only_from_itself(world: Cast) -> None:
    actor = system_actor(world.acme.pk, "ceremony")
    with tenant_scope(world.acme.pk):
        services.abandon_founding(actor=actor)
        services.abandon_founding(actor=actor)
        with pytest.raises(Conflict):
            services.finish_founding(actor=actor)
    assert Tenant.objects.get(pk=world.acme.pk).state == TenantState.ENDED
    with tenant_scope(world.other.pk), pytest.raises(Conflict):
        services.abandon_founding(actor=actor)
    assert Entry.unscoped.filter(tag="tenants:tenant:abandon").count() == 1
