# SPDX-License-Identifier: Apache-2.0
"""The list of people over REST: whom each condition leaves, in pages, for oversight alone, at a bounded cost."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from kernel.actors import system_actor
from kernel.paging import PAGE
from kernel.scope import tenant_scope
from tenants import services
from tenants.models import Person
from tenants.roles import Role
from tests.cast.tenants import Cast, build_world, make_device, make_person

pytestmark = [pytest.mark.urls("tests.tenants.urls"), pytest.mark.postgres]
PEOPLE = "/api/v1/organisation/people"


@pytest.fixture
def cast(db: None) -> Cast:
    return build_world()


@pytest.fixture
def signer(cast: Cast) -> Any:
    return make_device(cast.olivia)


def found(signer: Any, **asked: str) -> Any:
    query = "&".join(f"{name}={quote(value, safe='')}" for name, value in asked.items())
    return signer.send(Client(), "GET", f"{PEOPLE}?{query}" if query else PEOPLE)


def names(answer: Any) -> list[str]:
    assert answer.status_code == 200, answer.content
    return [one["name"] for one in answer.json()["people"]]


def test_person_is_found_by_their_whole_address_in_every_state(cast: Cast, signer: Any) -> None:
    assert names(found(signer, email="BOB@acme.test")) == ["Bob"]
    assert names(found(signer, email="bob@acme")) == []
    with tenant_scope(cast.acme.pk):
        services.suspend_person(person=cast.bob, actor=system_actor(cast.acme.pk, "ceremony"))
        services.create_person(
            email="ivy@acme.test", name="Ivy", role=Role.MEMBER, actor=system_actor(cast.acme.pk, "ceremony")
        )
    (bob,) = found(signer, email="bob@acme.test").json()["people"]
    assert bob["id"] == str(cast.bob.pk)
    assert bob["state"] == "suspended"
    (ivy,) = found(signer, email="ivy@acme.test").json()["people"]
    assert (ivy["state"], ivy["active_since"]) == ("invited", None)


def test_conditions_given_together_all_hold(cast: Cast, signer: Any) -> None:
    everybody = names(found(signer))
    assert everybody == sorted(everybody)
    assert {"Bob", "Olivia"} <= set(everybody)
    assert names(found(signer, q="OLI")) == ["Olivia"]
    assert names(found(signer, q="oli", role="member")) == []
    assert names(found(signer, role="owner", state="active", email="olivia@acme.test")) == ["Olivia"]
    assert names(found(signer, state="left")) == []


def test_people_of_another_tenant_are_not_among_them(cast: Cast, signer: Any) -> None:
    listed = {one["id"] for one in found(signer).json()["people"]}
    here = set(map(str, Person.unscoped.filter(tenant_id=cast.acme.pk).values_list("pk", flat=True)))
    assert listed == here
    assert Person.unscoped.exclude(tenant_id=cast.acme.pk).exists()


def test_list_comes_in_pages_of_the_same_cost(cast: Cast, signer: Any) -> None:
    first = found(signer)
    assert first.json()["more"] is False
    Person.unscoped.bulk_create(
        Person(tenant_id=cast.acme.pk, email=f"p{one}@acme.test", email_key=f"p{one}@acme.test", name="Many")
        for one in range(2 * PAGE)
    )
    seen: list[str] = []
    asked: dict[str, str] = {}
    counts = set()
    while True:
        with CaptureQueriesContext(connection) as made:
            answer = found(signer, **asked).json()
        seen += [one["id"] for one in answer["people"]]
        counts.add(len(made.captured_queries))
        if not answer["more"]:
            break
        asked = {"after": seen[-1]}
    assert len(seen) == len(set(seen)) == Person.unscoped.filter(tenant_id=cast.acme.pk).count()
    assert max(counts) - min(counts) <= 1, "one more query finds where the page before ended"


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"role": "king"}, "role"),
        ({"state": "gone"}, "state"),
        ({"role": ""}, "role"),
        ({"q": "x" * 101}, "q"),
        ({"after": "x"}, "after"),
        ({"email": "nobody"}, "email"),
    ],
)
def test_condition_that_says_nothing_is_refused_and_named(signer: Any, asked: dict[str, str], field: str) -> None:
    answer = found(signer, **asked)
    assert answer.status_code in (400, 422), answer.content
    assert answer.json()["errors"][0]["field"] == field


@pytest.mark.parametrize("role", list(Role))
def test_list_is_for_whoever_administers_or_oversees(cast: Cast, role: str) -> None:
    with tenant_scope(cast.acme.pk):
        person = make_person(f"another-{role}", role)
    assert found(make_device(person)).status_code == (403 if role == Role.MEMBER else 200)
