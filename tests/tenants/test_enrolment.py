# SPDX-License-Identifier: Apache-2.0
"""Enrolment codes: issued by officers, used once, refused in one way."""

from __future__ import annotations

import json
import threading
import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.db import connections
from django.test import Client
from django.utils import timezone

from audit.models import Entry
from holdfast.core.base.encoding import b64u
from holdfast.core.base.secret import SecretBytes
from holdfast.core.signed.enrolment import EnrolmentCode as CodeText
from kernel.actors import Actor, system_actor
from kernel.errors import Throttled
from kernel.fields import rfc3339
from kernel.scope import tenant_scope
from tenants import services
from tenants.errors import EnrolmentRefused, TooManyCodes
from tenants.models import EnrolmentCode, Person, RateWindow, Tenant
from tests.cast.tenants import Cast, build_world, make_device

pytestmark = [pytest.mark.urls("tests.tenants.urls"), pytest.mark.postgres]
ADDRESS = "/api/v1/enrolment-codes"


def code_for(person: Person) -> CodeText:
    return CodeText.new(tenant=person.tenant_id.bytes, person=person.pk.bytes)


def issue(person: Person, code: CodeText, **fields: Any) -> EnrolmentCode:
    with tenant_scope(person.tenant_id):
        return services.issue_enrolment_code(
            person=person, code_hash=code.hash, actor=system_actor(person.tenant_id, "ceremony"), **fields
        )


def consume(code: CodeText, **changes: Any) -> EnrolmentCode:
    given: dict[str, Any] = {
        "tenant_id": uuid.UUID(bytes=code.tenant),
        "person_id": uuid.UUID(bytes=code.person),
        "secret": code.secret,
    }
    return services.consume_enrolment_code(**(given | changes))


def ask(client: Client, who: Person, **changes: Any) -> Any:
    code = code_for(who)
    body = {"person_id": str(who.pk), "code_hash": b64u(code.hash), **changes}
    return code, json.dumps(body).encode()


@pytest.mark.parametrize("officer", ["carol", "olivia"])
def test_officer_issues_a_code_by_its_hash(officer: str, world: Cast, client: Client) -> None:
    code, body = ask(client, world.alice)
    answer = make_device(getattr(world, officer)).send(client, "POST", ADDRESS, body)
    assert answer.status_code == 201
    row = EnrolmentCode.unscoped.get(pk=answer.json()["id"])
    assert answer.json() == {
        "id": str(row.pk),
        "person_id": str(world.alice.pk),
        "expires_at": rfc3339(row.expires_at),
        "trust": "pinned",
        "awaits_second": False,
    }
    assert abs(row.expires_at - timezone.now() - timedelta(days=7)) < timedelta(seconds=10)
    assert consume(code).person == world.alice
    assert Entry.unscoped.filter(tag="tenants:enrolment-code:issue", subject=str(world.alice.pk)).count() == 1


def test_code_of_a_founding_is_of_its_own_kind_for_owners_and_officers_and_ends_with_it(
    world: Cast, client: Client
) -> None:
    carol, olivia = make_device(world.carol), make_device(world.olivia)
    _, body = ask(client, world.dan)
    assert carol.send(client, "POST", ADDRESS, body).json()["trust"] == "pinned"
    Tenant.objects.filter(pk=world.acme.pk).update(state="founding")
    late, body = ask(client, world.carol)
    answer = carol.send(client, "POST", ADDRESS, body)
    assert (answer.status_code, answer.json()["trust"]) == (201, "founding")
    own, body = ask(client, world.olivia)
    assert olivia.send(client, "POST", ADDRESS, body).json()["trust"] == "founding"
    for who in (world.alice, world.otto):
        _, body = ask(client, who)
        answer = carol.send(client, "POST", ADDRESS, body)
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "person_id")
        assert "owners and officers" in answer.json()["detail"]
    assert issue(world.dan, code_for(world.dan), trust="tofu").trust == "founding"
    assert consume(own).person == world.olivia
    Tenant.objects.filter(pk=world.acme.pk).update(state="active")
    with pytest.raises(EnrolmentRefused):
        consume(late)


@pytest.mark.parametrize("who", ["alice", "rex", "otto"])
def test_nobody_else_issues_codes(who: str, world: Cast, client: Client) -> None:
    _, body = ask(client, world.bob)
    assert make_device(getattr(world, who)).send(client, "POST", ADDRESS, body).status_code == 403
    assert not EnrolmentCode.unscoped.exists()


def test_enrolment_codes_is_not_found_for_mallory(world: Cast, client: Client) -> None:
    device = make_device(world.mallory)
    _, foreign = ask(client, world.alice)
    _, unknown = ask(client, world.alice, person_id=str(uuid.uuid4()))
    answers = [device.send(client, "POST", ADDRESS, body) for body in (foreign, unknown)]
    assert [answer.status_code for answer in answers] == [404, 404]
    assert answers[0].content == answers[1].content
    assert not EnrolmentCode.unscoped.exists()


BAD: dict[str, dict[str, Any]] = {
    "person_id": {"person_id": "alice"},
    "code_hash": {"code_hash": b64u(b"h" * 31)},
    "code_hash ": {"code_hash": b64u(b"h" * 32) + "="},
    "expires_at": {"expires_at": "tomorrow"},
    "role": {"role": "owner"},
    "used_at": {"used_at": None},
    "tenant_id": {"tenant_id": str(uuid.uuid4())},
}


@pytest.mark.parametrize("field", BAD)
def test_bad_field_is_named(field: str, world: Cast, client: Client) -> None:
    _, body = ask(client, world.alice, **BAD[field])
    answer = make_device(world.carol).send(client, "POST", ADDRESS, body)
    assert answer.status_code == 400
    assert [row["field"] for row in answer.json()["errors"]] == [field.strip()]


@pytest.mark.parametrize("days", [-1, 31])
def test_expiry_out_of_bounds_is_refused(days: int, world: Cast, client: Client) -> None:
    _, body = ask(client, world.alice, expires_at=rfc3339(timezone.now() + timedelta(days=days)))
    answer = make_device(world.carol).send(client, "POST", ADDRESS, body)
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "expires_at")


def test_same_code_is_issued_once(world: Cast, client: Client) -> None:
    _, body = ask(client, world.alice)
    device = make_device(world.carol)
    assert [device.send(client, "POST", ADDRESS, body).status_code for _ in range(2)] == [201, 409]


def test_idempotency_key_gives_the_same_answer_again(world: Cast, client: Client) -> None:
    _, body = ask(client, world.alice)
    device = make_device(world.carol)
    first, second = (device.send(client, "POST", ADDRESS, body, **{"Idempotency-Key": "k1"}) for _ in range(2))
    assert (first.status_code, first.content) == (second.status_code, second.content)
    assert second["idempotent-replay"] == "true"
    assert EnrolmentCode.unscoped.count() == 1


def test_suspended_person_gets_no_code(world: Cast, client: Client) -> None:
    with tenant_scope(world.acme.pk):
        services.suspend_person(person=world.alice, actor=system_actor(None, "test"))
    _, body = ask(client, world.alice)
    assert make_device(world.carol).send(client, "POST", ADDRESS, body).status_code == 404


def test_eleventh_open_code_is_refused(world: Cast) -> None:
    for _ in range(10):
        issue(world.alice, code_for(world.alice))
    with pytest.raises(TooManyCodes):
        issue(world.alice, code_for(world.alice))
    issue(world.bob, code_for(world.bob))


def test_codes_of_one_issuer_keep_out_none_of_anothers(world: Cast, client: Client) -> None:
    carol, olivia = make_device(world.carol), make_device(world.olivia)
    made = [carol.send(client, "POST", ADDRESS, ask(client, world.alice)[1]) for _ in range(11)]
    assert [answer.status_code for answer in made] == [201] * 10 + [409]
    assert made[10].json()["code"] == "too-many-codes"
    assert olivia.send(client, "POST", ADDRESS, ask(client, world.alice)[1]).status_code == 201


def test_code_is_used_once_and_activates_an_invited_person(world: Cast) -> None:
    with tenant_scope(world.acme.pk):
        ivy = services.create_person(email="ivy@acme.test", name="Ivy", actor=system_actor(None, "test"))
    code = code_for(ivy)
    issue(ivy, code)
    assert consume(code).trust == "pinned"
    ivy.reload()
    assert ivy.state == "active"
    with pytest.raises(EnrolmentRefused):
        consume(code)
    used = Entry.unscoped.filter(subject=str(ivy.pk)).order_by("seq").values_list("tag", flat=True)
    assert list(used)[-2:] == ["tenants:enrolment-code:use", "tenants:person:activate"]


def _refusals(world: Cast) -> dict[str, tuple[CodeText, dict[str, Any]]]:
    alice, bob = code_for(world.alice), code_for(world.bob)
    issue(world.alice, alice)
    issue(world.bob, bob)
    expired = code_for(world.alice)
    row = issue(world.alice, expired)
    EnrolmentCode.unscoped.filter(pk=row.pk).update(expires_at=timezone.now() - timedelta(seconds=1))
    return {
        "a wrong secret": (alice, {"secret": SecretBytes(b"x" * 16)}),
        "an empty secret": (alice, {"secret": SecretBytes(b"")}),
        "another person": (alice, {"person_id": world.bob.pk}),
        "an unknown person": (alice, {"person_id": uuid.uuid4()}),
        "another tenant": (alice, {"tenant_id": world.other.pk}),
        "an expired code": (expired, {}),
    }


def test_every_refusal_is_the_same(world: Cast) -> None:
    texts = set()
    for code, changes in _refusals(world).values():
        with pytest.raises(EnrolmentRefused) as refused:
            consume(code, **changes)
        texts.add((refused.value.code, refused.value.detail))
    assert len(texts) == 1
    assert not EnrolmentCode.unscoped.exclude(used_at=None).exists()


@pytest.mark.parametrize("state", ["suspended", "locked", ""])
def test_code_of_whoever_is_not_invited_or_active_is_refused(state: str, world: Cast) -> None:
    code = code_for(world.alice)
    issue(world.alice, code)
    Person.unscoped.filter(pk=world.alice.pk).update(state=state)
    with pytest.raises(EnrolmentRefused):
        consume(code)
    assert not EnrolmentCode.unscoped.exclude(used_at=None).exists(), "a refused use leaves the code unused"


@pytest.mark.django_db(transaction=True)
def test_code_is_used_once_under_twenty_threads() -> None:
    world = build_world()
    code = code_for(world.alice)
    issue(world.alice, code)
    start, outcomes = threading.Barrier(20), []

    def use() -> None:
        start.wait()
        try:
            consume(code)
            outcomes.append("used")
        except EnrolmentRefused:
            outcomes.append("refused")
        finally:
            connections.close_all()

    threads = [threading.Thread(target=use) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["refused"] * 19 + ["used"]
    assert Entry.unscoped.filter(tag="tenants:enrolment-code:use").count() == 1


def test_code_of_a_tenant_that_is_not_active_is_refused(world: Cast) -> None:
    code = code_for(world.alice)
    issue(world.alice, code)
    Tenant.objects.filter(pk=world.acme.pk).update(state="suspended")
    with pytest.raises(EnrolmentRefused):
        consume(code)
    Tenant.objects.filter(pk=world.acme.pk).update(state="active")
    assert consume(code).person == world.alice


def test_enrolments_are_counted_by_source(world: Cast) -> None:
    for _ in range(services.ENROLMENTS_PER_SOURCE):
        services.count_enrolment(source="192.0.2.1")
    with pytest.raises(Throttled) as throttled:
        services.count_enrolment(source="192.0.2.1")
    assert 0 < throttled.value.retry_after <= 600
    services.count_enrolment(source="192.0.2.2")
    RateWindow.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    services.sweep()
    assert not RateWindow.objects.exists()


def test_hash_of_another_length_is_a_programming_error(world: Cast) -> None:
    with tenant_scope(world.acme.pk), pytest.raises(ValueError, match="32 bytes"):
        services.issue_enrolment_code(person=world.alice, code_hash=b"h", actor=system_actor(None, "test"))


# Codes for owners and officers.


def issue_as(client: Client, by: str, person: Person, world: Cast) -> tuple[CodeText, dict[str, Any]]:
    """Have somebody issue a code over HTTP; the code, and what the server answered."""
    code, body = ask(client, person)
    answer = make_device(world.people[by]).send(client, "POST", ADDRESS, body)
    assert answer.status_code == 201, answer.content
    return code, answer.json()


def confirm_as(client: Client, by: str, person: Person, code_id: str, world: Cast) -> Any:
    body = json.dumps({"person_id": str(person.pk)}).encode()
    return make_device(world.people[by]).send(client, "POST", f"{ADDRESS}/{code_id}/confirm", body)


@pytest.mark.parametrize("person", ["dan", "olivia"])
def test_code_for_an_officer_or_owner_works_once_a_second_person_has_confirmed_it(
    person: str, world: Cast, client: Client
) -> None:
    whose = world.people[person]
    code, issued = issue_as(client, "carol", whose, world)
    assert issued["awaits_second"] is True
    with pytest.raises(EnrolmentRefused):
        consume(code)
    # Neither whoever issued it nor whoever it is for is a second person.
    for one in ("carol", person):
        answer = confirm_as(client, one, whose, issued["id"], world)
        assert (answer.status_code, answer.json()["code"]) == (403, "confirmation-refused")
    with pytest.raises(EnrolmentRefused):
        consume(code)
    for _ in range(2):  # the same person again changes nothing
        answer = confirm_as(client, "erin", whose, issued["id"], world)
        assert (answer.status_code, answer.json()["awaits_second"]) == (201, False)
    assert Entry.unscoped.filter(tag="tenants:enrolment-code:confirm", subject=str(whose.pk)).count() == 1
    assert consume(code).person == whose


def test_officers_own_device_lets_another_of_theirs_in_alone(world: Cast, client: Client) -> None:
    code, issued = issue_as(client, "carol", world.carol, world)
    assert issued["awaits_second"] is False
    assert consume(code).person == world.carol


def test_ceremonys_code_for_an_officer_needs_nobody_else(world: Cast) -> None:
    code = code_for(world.carol)
    issue(world.carol, code)
    assert consume(code).person == world.carol


def test_code_made_before_its_person_became_an_officer_is_guarded_as_an_officers(world: Cast, client: Client) -> None:
    code, issued = issue_as(client, "carol", world.rex, world)
    assert issued["awaits_second"] is False
    with tenant_scope(world.acme.pk):
        services.change_role(person=world.rex, role="officer", actor=system_actor(world.acme.pk, "ceremony"))
    with pytest.raises(EnrolmentRefused):
        consume(code)
    assert confirm_as(client, "dan", world.rex, issued["id"], world).status_code == 201
    assert consume(code).person == world.rex


def test_code_of_before_issuers_were_kept_lets_no_officer_in(world: Cast, client: Client) -> None:
    code, issued = issue_as(client, "carol", world.dan, world)
    EnrolmentCode.unscoped.update(issuer_id=None)
    refused = confirm_as(client, "erin", world.dan, issued["id"], world)
    assert refused.status_code == 403
    assert "have a new one made" in refused.json()["detail"]
    with pytest.raises(EnrolmentRefused):
        consume(code)


@pytest.mark.parametrize(("made", "maker"), [("erin", "carol"), ("carol", "erin")])
def test_two_of_whom_one_let_the_other_in_are_one(made: str, maker: str, world: Cast, client: Client) -> None:
    with tenant_scope(world.acme.pk):
        actor = Actor(world.acme.pk, "person", world.people[maker].pk, person_id=world.people[maker].pk)
        services.change_role(person=world.people[made], role="officer", actor=actor)
    code, issued = issue_as(client, "carol", world.dan, world)
    answer = confirm_as(client, "erin", world.dan, issued["id"], world)
    assert (answer.status_code, answer.json()["code"]) == (403, "confirmation-refused")
    assert confirm_as(client, "olivia", world.dan, issued["id"], world).status_code == 201
    assert consume(code).person == world.dan


def test_confirmation_names_the_person_and_an_open_code(world: Cast, client: Client) -> None:
    code, issued = issue_as(client, "carol", world.dan, world)
    wrong = confirm_as(client, "erin", world.alice, issued["id"], world)
    assert (wrong.status_code, wrong.json()["errors"][0]["field"]) == (422, "person_id")
    assert confirm_as(client, "alice", world.dan, issued["id"], world).status_code == 403
    foreign = confirm_as(client, "mallory", world.dan, issued["id"], world)
    unknown = confirm_as(client, "erin", world.dan, str(uuid.uuid4()), world)
    assert (foreign.status_code, foreign.content) == (unknown.status_code, unknown.content)
    assert unknown.status_code == 404
    assert confirm_as(client, "erin", world.dan, issued["id"], world).status_code == 201
    assert confirm_as(client, "olivia", world.dan, issued["id"], world).status_code == 409
    consume(code)
    assert confirm_as(client, "erin", world.dan, issued["id"], world).status_code == 404, "a used code is none"
    _, members = issue_as(client, "carol", world.alice, world)
    assert confirm_as(client, "erin", world.alice, members["id"], world).status_code == 409
