# SPDX-License-Identifier: Apache-2.0
"""The directory: an address finds an active person of one's own tenant, and everybody else is answered alike.

ORGANISATION "Directory"; FAULTS T1 and T12: neither the answer nor the queries behind it say who is there.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from urllib.parse import quote

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from audit.models import Entry
from kernel.actors import system_actor
from kernel.scope import tenant_scope
from tenants import services
from tenants.models import Person, RateWindow
from tenants.roles import Role
from tests.cast.phones import Directory, Phone, issue, new_phone, post_enrolment
from tests.cast.tenants import make_device

pytestmark = pytest.mark.postgres
USERS = "/api/v1/users"
ENROLLEES = "/api/v1/enrolment-codes/person"
CYRILLIC_A = "\u0430"


def find(phone: Phone, address: str, *, at: str = USERS) -> Any:
    return phone.send("GET", f"{at}?email={quote(address, safe='')}")


def invited(directory: Directory, address: str) -> Person:
    tenant = directory.world.acme
    with tenant_scope(tenant.pk):
        return services.create_person(
            email=address, name="Somebody", role=Role.MEMBER, actor=system_actor(tenant.pk, "ceremony")
        )


def suspend(directory: Directory, name: str) -> None:
    tenant = directory.world.acme
    with tenant_scope(tenant.pk):
        services.suspend_person(person=directory.world.people[name], actor=system_actor(tenant.pk, "ceremony"))


def asked(phone: Phone, address: str, *, at: str = USERS) -> tuple[Any, list[str]]:
    """Return the answer and the shape of each query it took; a savepoint has a name of its own each time."""
    with CaptureQueriesContext(
        connection,
    ) as made:
        answer = find(phone, address, at=at)
    texts = [query["sql"] for query in made.captured_queries]
    return answer, [sql.partition("WHERE")[0].partition("VALUES")[0] for sql in texts if "SAVEPOINT" not in sql]


@pytest.mark.parametrize("address", ["bob@acme.test", "BOB@Acme.TEST", " bob@acme.test ", "\uff22ob@acme.test"])
def test_address_finds_an_active_person_and_the_devices_that_their_chain_lists(
    directory: Directory, address: str
) -> None:
    alice, bob = directory.phone("alice"), directory.phone("bob")
    waiting = new_phone(bob.person)
    issue(waiting)
    assert post_enrolment(waiting).status_code == 201
    answer = find(alice, address)
    assert answer.status_code == 200
    document = answer.json()
    assert document["user_id"] == str(bob.person.pk)
    assert [row["device_id"] for row in document["devices"]] == [str(bob.id)]
    assert set(document) == {"user_id", "devices"}


def test_active_person_without_a_device_is_found_with_none(directory: Directory) -> None:
    answer = find(directory.phone("alice"), "rex@acme.test")
    assert answer.json() == {"user_id": str(directory.world.rex.pk), "devices": []}


def test_everybody_who_cannot_be_reached_is_answered_alike_and_after_the_same_queries(directory: Directory) -> None:
    alice = directory.phone("alice")
    for name in ("bob", "carol"):
        directory.phone(name)
    with tenant_scope(directory.world.other.pk):
        services.create_person(
            email="nina@other.test", name="Nina", actor=system_actor(directory.world.other.pk, "ceremony")
        )
    invited(directory, "ivan@acme.test")
    suspend(directory, "bob")
    nobody = asked(alice, "nobody@acme.test")
    assert (nobody[0].status_code, nobody[0].json()["code"]) == (404, "not-found")
    for address in ("ivan@acme.test", "bob@acme.test", "mallory@acme.test", "nina@other.test", "x@y"):
        answer, queries = asked(alice, address)
        assert answer.content == nobody[0].content, address
        # But for the number of the request, which is every request's own.
        assert {**answer.headers, "x-request-id": ""} == {**nobody[0].headers, "x-request-id": ""}, address
        assert queries == nobody[1], address
    # Whom there is to find takes no query more.
    answer, queries = asked(alice, "carol@acme.test")
    assert answer.status_code == 200
    assert queries == nobody[1]


def test_same_address_in_two_tenants_finds_ones_own(directory: Directory) -> None:
    other = directory.world.other
    with tenant_scope(other.pk):
        actor = system_actor(other.pk, "ceremony")
        theirs = services.create_person(email="bob@acme.test", name="Another Bob", actor=actor)
        services.activate_person(person=theirs, actor=actor)
    alice, mallory = directory.phone("alice"), directory.phone("mallory")
    assert find(alice, "bob@acme.test").json()["user_id"] == str(directory.world.bob.pk)
    assert find(mallory, "bob@acme.test").json()["user_id"] == str(theirs.pk)
    assert find(mallory, "alice@acme.test").status_code == 404


def test_address_that_looks_like_anothers_finds_nobody(directory: Directory) -> None:
    directory.phone("alice")
    answer = find(directory.phone("bob"), f"{CYRILLIC_A}lice@acme.test")
    assert answer.status_code == 404


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("", "malformed-request"),
        ("?email=bob%40acme.test&email=bob%40acme.test", "malformed-request"),
        ("?email=", "name-refused"),
        ("?email=bob", "name-refused"),
        ("?email=bob%40", "name-refused"),
        ("?email=a%40b%40acme.test", "name-refused"),
        ("?email=%25%40acme.test%0A", "not-found"),
        ("?email=b%E2%80%AEob%40acme.test", "name-refused"),
        ("?email=bob%40acme.test%2Ccarol%40acme.test", "name-refused"),
        ("?email=" + "b" * 65 + "%40acme.test", "name-refused"),
        ("?email=" + "%CC%81" * 1200 + "%40acme.test", "name-refused"),
        ("?email=%FF%40acme.test", "not-found"),
    ],
)
@pytest.mark.parametrize("at", [USERS, ENROLLEES])
def test_what_is_not_one_address_is_refused_by_name(directory: Directory, at: str, query: str, code: str) -> None:
    answer = directory.phone("carol").send("GET", at + query)
    assert 400 <= answer.status_code < 500
    assert answer.json()["code"] == code
    if code != "not-found":
        assert [row["field"] for row in answer.json()["errors"]] == ["email"]


def test_pattern_is_no_address_of_anybody(directory: Directory) -> None:
    directory.phone("alice")
    for pattern in ("%@acme.test", "b_b@acme.test", "*@acme.test", "bo%@acme.test"):
        assert find(directory.phone("bob"), pattern).status_code == 404


def test_who_tries_many_addresses_is_stopped_whether_they_find_or_not_and_nobody_else_is(directory: Directory) -> None:
    directory.phone("bob")
    alice, carol = directory.phone("alice"), directory.phone("carol")
    assert find(alice, "bob@acme.test").status_code == 200
    assert find(carol, "nobody@acme.test", at=ENROLLEES).status_code == 404
    counted = RateWindow.objects.filter(key__startswith="find:")
    assert sorted(counted.values_list("count", flat=True)) == [1, 1]
    # All but one of the hour's are used; the next hour's as well, should it begin just now.
    for row in counted:
        row.count = services.SEARCHES_PER_PERSON - 1
        row.save()
        RateWindow.objects.create(
            key=row.key, window=row.window + 1, count=row.count, expires_at=row.expires_at + timedelta(hours=1)
        )
    assert find(alice, "nobody@acme.test").status_code == 404
    refused = [find(alice, address) for address in ("bob@acme.test", "nobody@acme.test")]
    assert [answer.status_code for answer in refused] == [429, 429]
    assert {answer.json()["detail"] for answer in refused} == {"Too many requests. Wait, then retry."}
    # Another device of the person's counts with this one, and both look-ups count together.
    assert find(directory.account("alice").add_phone(), "bob@acme.test").status_code == 429
    assert find(carol, "bob@acme.test").status_code == 200
    assert find(carol, "bob@acme.test", at=ENROLLEES).status_code == 429


def test_looking_somebody_up_is_no_entry_and_changes_nothing(directory: Directory) -> None:
    alice = directory.phone("alice")
    before = Entry.unscoped.count()
    find(alice, "bob@acme.test")
    find(alice, "nobody@acme.test")
    assert Entry.unscoped.count() == before


def test_pending_device_finds_nobody(directory: Directory) -> None:
    directory.phone("bob")
    pending = make_device(directory.world.alice, active=False)
    uri = f"{USERS}?email=bob%40acme.test"
    answer = Client().get(uri, headers=pending.headers("GET", uri, b""))
    assert (answer.status_code, answer.json()["code"]) == (403, "denied")


# For whom a code could be.


def test_issuer_finds_the_invited_and_the_active_and_nobody_else(directory: Directory) -> None:
    carol = directory.phone("carol")
    ivan = invited(directory, "ivan@acme.test")
    suspend(directory, "bob")
    assert find(carol, "IVAN@acme.test", at=ENROLLEES).json() == {"person_id": str(ivan.pk)}
    assert find(carol, "alice@acme.test", at=ENROLLEES).json() == {"person_id": str(directory.world.alice.pk)}
    nobody = asked(carol, "nobody@acme.test", at=ENROLLEES)
    for address in ("bob@acme.test", "mallory@acme.test"):
        answer, queries = asked(carol, address, at=ENROLLEES)
        assert (answer.status_code, answer.content) == (404, nobody[0].content)
        assert queries == nobody[1]


def test_who_issues_no_codes_learns_of_no_invitation(directory: Directory) -> None:
    invited(directory, "ivan@acme.test")
    answer = find(directory.phone("alice"), "ivan@acme.test", at=ENROLLEES)
    assert (answer.status_code, answer.json()["code"]) == (403, "denied")
