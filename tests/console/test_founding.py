# SPDX-License-Identifier: Apache-2.0
"""The page of a founding: who is waited for and what each has to do next, until the tenant is founded."""

from __future__ import annotations

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from kernel.actors import system_actor
from kernel.scope import tenant_scope
from tenants import services
from tenants.models import Person, Tenant
from tenants.states import TenantState
from tests.cast.browsers import signed_in, text_of
from tests.cast.tenants import Cast, build_world, give_password


@pytest.fixture
def world(db: None) -> Cast:
    made = build_world()
    Tenant.objects.filter(pk=made.acme.pk).update(state=TenantState.FOUNDING)
    return made


def test_overview_says_who_is_waited_for_and_is_itself_again_afterwards(world: Cast) -> None:
    give_password(world.carol)
    client = signed_in(world.olivia)
    page = client.get("/console/")
    text = text_of(page)
    assert "Acme is being founded" in text
    assert page["cache-control"] == "no-store"
    assert "dan@acme.test officer Open the link in the invitation, and set a password nothing yet" in text
    assert "carol@acme.test officer Make a device, an account and an officer's keys holdfast officer join" in text
    assert "alice@acme.test" not in text
    assert (
        "no founding code to use. The operator makes one: manage.py ceremony tenant acme --officer carol@acme.test"
        in text
    )
    with tenant_scope(world.acme.pk):
        actor = system_actor(world.acme.pk, "ceremony")
        services.issue_enrolment_code(person=world.carol, code_hash=bytes(32), actor=actor)
    assert "By their founding code, which works once, until" in text_of(client.get("/console/"))
    assert "Waiting for" not in text.split("How a founding goes")[1]
    with tenant_scope(world.acme.pk):
        services.finish_founding(actor=system_actor(world.acme.pk, "ceremony"))
    assert "is being founded" not in text_of(client.get("/console/"))


def test_too_few_officers_are_said_with_the_command(world: Cast) -> None:
    client = signed_in(world.olivia)
    assert "A policy takes at least three" not in text_of(client.get("/console/"))
    Person.unscoped.filter(pk=world.dan.pk).update(role="reviewer")
    text = text_of(client.get("/console/"))
    assert "at least three officers, and 2 are named" in text
    assert "manage.py ceremony tenant acme --officer E-MAIL" in text


def test_page_costs_the_same_for_three_people_and_for_twenty(world: Cast) -> None:
    client = signed_in(world.olivia)
    with CaptureQueriesContext(connection) as few:
        client.get("/console/")
    with tenant_scope(world.acme.pk):
        for number in range(20):
            services.create_person(
                email=f"o{number}@acme.test",
                name=f"O {number}",
                role="officer",
                actor=system_actor(world.acme.pk, "ceremony"),
            )
    with CaptureQueriesContext(connection) as many:
        page = client.get("/console/")
    assert len(many) == len(few)
    assert "more are not listed" in text_of(page)
