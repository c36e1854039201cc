# SPDX-License-Identifier: Apache-2.0
"""Officers' statements about their keys, over HTTP (ESCROW "Policy and officers", PROTOCOL section 3)."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from django.db import DatabaseError, transaction

from audit.models import Entry as AuditEntry
from escrow import access, officers, policies
from escrow.models import OfficerKeyStatement
from holdfast.core.base.encoding import b64u
from holdfast.core.crypto.keys import SigningKey
from holdfast.core.identity.officers import OfficerStatement
from holdfast.core.signed.cose import Sign1
from holdfast.core.signed.payloads import MAX_AHEAD_SECONDS
from kernel.scope import tenant_scope
from tenants import services as tenants
from tests.cast.phones import Account, Directory, Phone, now
from tests.cast.world import World

PATH = "/api/v1/escrow/officer-statements"


pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def directory(world: World) -> Directory:
    return world.directory


@pytest.fixture
def carol(directory: Directory) -> Phone:
    return directory.phone("carol")


@pytest.fixture
def account(carol: Phone, directory: Directory) -> Account:
    return directory.account("carol")


def state(phone: Phone, statement: Sign1) -> Any:
    return phone.send("POST", PATH, {"statement": b64u(statement.encode())})


def code(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


@pytest.mark.postgres
def test_statement_is_taken_logged_and_listed_with_the_newest_first(carol: Phone, account: Account) -> None:
    account.keep_officers_section(carol)
    first = account.officer_keys(carol)
    for _ in range(2):
        assert state(carol, first).status_code == 201
    second = account.officer_keys(carol, predecessor=first.payload_hash)
    assert state(carol, second).status_code == 201
    listed = carol.send("GET", f"{PATH}?person={carol.person.pk}").json()
    assert [row["hash"] for row in listed["statements"]] == [b64u(second.payload_hash), b64u(first.payload_hash)]
    assert listed["statements"][1]["statement"] == b64u(first.encode())
    after = listed["statements"][0]["statement_id"]
    (row,) = carol.send("GET", f"{PATH}?after={after}").json()["statements"]
    assert row["hash"] == b64u(first.payload_hash)
    tagged = AuditEntry.unscoped.filter(tag="escrow:officer:state-keys").order_by("seq")
    assert [entry.body.get("predecessor") for entry in tagged] == [None, b64u(first.payload_hash)]


@pytest.mark.postgres
def test_statement_is_not_taken_before_two_doors_are_proven(carol: Phone, account: Account) -> None:
    statement = account.officer_keys(carol)
    assert code(state(carol, statement)) == (409, "doors-unproven")
    account.keep_officers_section(carol, ("phrase",))
    assert code(state(carol, statement)) == (409, "doors-unproven")
    assert carol.send("PUT", "/api/v1/vault/officers/doors/passkey", account.officers_door(carol, "passkey"),
                      if_match='"0"').status_code == 204  # fmt: skip
    assert state(carol, statement).status_code == 201


def test_statement_of_another_person_key_or_time_is_refused(
    carol: Phone, account: Account, directory: Directory
) -> None:
    account.keep_officers_section(carol)
    dan = directory.phone("dan")
    wrong = [
        account.officer_keys(carol, key=SigningKey.generate()),
        directory.account("dan").officer_keys(dan),
        account.officer_keys(carol, header=dan.header(), person=dan.person.pk.bytes),
        account.officer_keys(carol, header=carol.header(issued_at=now() + MAX_AHEAD_SECONDS + 60)),
    ]
    for statement in wrong:
        assert code(state(carol, statement)) == (422, "officer-keys-refused")
    assert OfficerKeyStatement.unscoped.count() == 0


def test_statement_names_the_one_before_it(carol: Phone, account: Account) -> None:
    account.keep_officers_section(carol)
    assert code(state(carol, account.officer_keys(carol, predecessor=b"p" * 32))) == (409, "officer-keys-stale")
    assert state(carol, account.officer_keys(carol)).status_code == 201
    assert code(state(carol, account.officer_keys(carol))) == (409, "officer-keys-stale")


def test_statements_of_a_month_are_bounded(carol: Phone, account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(officers, "MAX_STATEMENTS", 1)
    account.keep_officers_section(carol)
    first = account.officer_keys(carol)
    assert state(carol, first).status_code == 201
    refused = state(carol, account.officer_keys(carol, predecessor=first.payload_hash))
    assert code(refused) == (409, "limit-reached")


def test_only_an_officer_states_keys_and_only_oversight_reads_them(carol: Phone, directory: Directory) -> None:
    alice = directory.phone("alice")
    assert state(alice, directory.account("alice").officer_keys(alice)).status_code == 403
    assert alice.send("GET", PATH).status_code == 403
    assert carol.send("GET", f"{PATH}?person=carol").status_code == 400
    assert carol.send("GET", f"{PATH}?after={uuid4()}").status_code == 404
    assert directory.phone("mallory").send("GET", PATH).status_code in (200, 403)


@pytest.mark.postgres
def test_what_was_stated_is_never_changed(carol: Phone, account: Account) -> None:
    account.keep_officers_section(carol)
    assert state(carol, account.officer_keys(carol)).status_code == 201
    with pytest.raises(DatabaseError), transaction.atomic():
        OfficerKeyStatement.unscoped.update(statement=b"other")


def test_officer_of_the_policy_in_force_cannot_close_one_of_two_doors(world: World) -> None:
    carol = world.directory.phone("carol")
    world.directory.account("carol").keep_officers_section(carol)
    refused = carol.send("DELETE", "/api/v1/vault/officers/doors/phrase")
    assert code(refused) == (409, "door-needed")
    third = world.directory.account("carol").officers_door(carol, "password")
    path = "/api/v1/vault/officers/doors/password"
    assert carol.send("PUT", path, third, if_match='"0"').status_code == 204
    assert carol.send("DELETE", path).status_code == 204
    with tenant_scope(world.tenant_id):
        assert access.has_two_proven_doors(carol.person.pk)
        assert access.is_in_office(carol.person.pk)
        assert not access.is_in_office(world.cast.people["alice"].pk)


def test_officer_of_a_version_that_waits_is_in_office_for_their_doors_until_it_is_withdrawn(world: World) -> None:
    rex = world.cast.people["rex"].pk
    with tenant_scope(world.tenant_id):
        tenants.change_role(person=world.cast.people["rex"], role="officer", actor=world.ceremony)
    world.add_founder("rex")
    signers = [world.founders[name] for name in ("carol", "dan")]
    world.publish(world.policy(m=2, names=("carol", "dan", "rex")), signers=signers)
    with tenant_scope(world.tenant_id):
        assert [access.is_in_office(one) for one in (rex, world.cast.people["erin"].pk)] == [True, True]
    world.withdraw(world.policies[-1].hash)
    with tenant_scope(world.tenant_id):
        assert not access.is_in_office(rex)


def test_officer_whose_keys_were_lost_makes_a_section_under_another_key(world: World) -> None:
    """The key of before is what a thief may hold: it keeps nobody from the next."""
    phone, account = world.directory.phone("carol"), world.directory.account("carol")
    account.keep_officers_section(phone)
    section, door = "/api/v1/vault/officers", "/api/v1/vault/officers/doors/phrase"
    other = account.officers_section(phone, 2, epoch=2)
    assert code(phone.send("PUT", section, other, if_match='"1"')) == (409, "door-needed")
    with tenant_scope(world.tenant_id), transaction.atomic():
        policies.lose_keys(phone.person.pk)
    assert phone.send("PUT", section, other, if_match='"1"').status_code == 204
    assert phone.send("PUT", door, account.officers_door(phone, epoch=2), if_match='"1"').status_code == 204


def test_statement_reads_back_as_signed(carol: Phone, account: Account) -> None:
    account.keep_officers_section(carol)
    statement = account.officer_keys(carol)
    state(carol, statement)
    with tenant_scope(carol.person.tenant_id):
        kept = access.newest_officer_keys(carol.person.pk)
        assert kept is not None
        said = OfficerStatement.from_payload(Sign1.parse(bytes(kept.statement)).payload)
    assert said.person == carol.person.pk.bytes
