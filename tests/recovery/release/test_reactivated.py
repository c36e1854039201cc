# SPDX-License-Identifier: Apache-2.0
"""Whoever was suspended, or off the roster, and is back lends no approval that they gave before.

Implements ESCROW "Case": a suspension ends all standing approvals of that officer, by the rows and by the log alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from escrow import policies
from holdfast.core.base.encoding import b64u
from holdfast.core.identity.acts import Act, Standing
from holdfast.core.identity.policy import Officer
from holdfast.core.log.writers import Role
from kernel.actors import Actor
from kernel.scope import tenant_scope
from recovery.cases import decisions
from recovery.cases.counting import settle_case
from recovery.models import Approval, Case, SealedShare
from tenants import services as tenants
from tests.cast.founded import Hsm
from tests.cast.world import OpenCase, World
from tests.recovery.release.test_believed import forge, living, settled
from tests.recovery.release.test_forged_rows import due

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.rounds("rules")]


def back(world: World, name: str, *by: str) -> None:
    """Have two officers return another."""
    made = world.resolution(Act.RETURN_OFFICER, world.cast.people[name].pk.bytes)
    for one in by:
        answer = world.resolve(made, one)
        assert answer.status_code in (200, 201), answer.content


def by_an_officer(world: World) -> None:
    world.stand("dan", Standing.SUSPENDED, by="erin")
    back(world, "dan", "carol", "erin")


def as_a_person(world: World) -> None:
    with tenant_scope(world.tenant_id):
        tenants.suspend_person(person=world.cast.dan, actor=world.ceremony)
        tenants.activate_person(person=world.cast.dan, actor=world.ceremony)
    back(world, "dan", "carol", "erin")


def by_the_role(world: World) -> None:
    with tenant_scope(world.tenant_id):
        tenants.change_role(person=world.cast.dan, role="member", actor=world.ceremony)
        tenants.change_role(person=world.cast.dan, role="officer", actor=world.ceremony)
    back(world, "dan", "carol", "erin")


def by_the_roster(world: World) -> None:
    for names in (("carol", "erin", "rex"), ("carol", "dan", "erin", "rex")):
        world.publish(world.policy(m=2, names=names), signers=[world.founders[one] for one in ("carol", "erin")])
    time.sleep(1.1)  # a cooling-off of nothing ends with the second


def with_the_keys_of_before(world: World) -> None:
    keys = world.founders["dan"]
    signers = [world.founders["carol"], keys, world.founders["erin"]]
    world.add_founder("dan")
    world.publish(world.policy(m=2), signers=signers)
    world.founders["dan"] = keys
    world.publish(world.policy(m=2), signers=[world.founders["carol"], world.founders["erin"]])
    time.sleep(1.1)


STOPS = [by_an_officer, as_a_person, by_the_role, by_the_roster, with_the_keys_of_before]


def world_of(found: Callable[..., World]) -> World:
    """A tenant in which nobody cools off, with a fourth who may become an officer."""
    world = found(cooling_off_seconds=0)
    world.add_founder("rex")
    with tenant_scope(world.tenant_id):
        tenants.change_role(person=world.cast.rex, role="officer", actor=world.ceremony)
    return world


def asked(world: World, case: OpenCase) -> str:
    return str(world.directory.phone("dan").send("GET", case.path).json()["waiting_for"]["text"])


@pytest.mark.parametrize("stop", STOPS, ids=lambda stop: stop.__name__)
def test_officer_who_is_back_approves_anew(
    found: Callable[..., World], hsm: Hsm, stop: Callable[[World], None]
) -> None:
    world = world_of(found)
    case, deposit = world.approved("carol", "dan")
    assert world.state(case) == "waiting"
    stop(world)
    world.tick()
    assert (world.state(case), world.row(case).why, hsm.unwraps()) == ("requested", "quorum-lost", 0)
    assert [one.approval.person_id for one in SealedShare.unscoped.select_related("approval")] == [
        world.cast.people["carol"].pk
    ]
    answer = world.approve(case, "dan", deposit)
    assert answer.status_code == 201, answer.content
    assert (answer.json()["state"], len(answer.json()["approvals"])) == ("waiting", 2)
    # A second one changes nothing again.
    assert world.approve(case, "dan", deposit).status_code == 201
    assert Approval.unscoped.filter(case_id=case.id).count() == 3
    world.tick()
    assert (world.state(case), hsm.unwraps()) == ("released", 1)


@pytest.mark.parametrize("stop", STOPS, ids=lambda stop: stop.__name__)
def test_release_process_ends_an_approval_by_the_log_alone(
    found: Callable[..., World], hsm: Hsm, monkeypatch: pytest.MonkeyPatch, stop: Callable[[World], None]
) -> None:
    """A server that keeps what has ended gains nothing by it."""
    world = world_of(found)
    monkeypatch.setattr(policies, "_ends_with_an_office", [])
    monkeypatch.setattr("recovery.cases.counting.end_outlived", lambda case, now: None)
    case, _ = world.approved("carol", "dan")
    stop(world)
    world.tick()
    assert (world.state(case), world.row(case).why, hsm.unwraps()) == ("held", "quorum-not-in-log", 0)


def test_approval_that_has_ended_is_not_given_again(world: World, hsm: Hsm) -> None:
    case, deposit = world.approved("carol")
    document = world.signed_approval(case, "dan", [deposit])
    phone = world.directory.phone("dan")
    assert phone.send("POST", f"{case.path}/approvals", document).status_code == 201
    by_an_officer(world)
    answer = phone.send("POST", f"{case.path}/approvals", document)
    assert (answer.status_code, answer.json()["code"]) == (422, "approval-refused")
    with tenant_scope(world.tenant_id):
        settle_case(case_id=case.id, actor=world.ceremony)
    assert "Officer 2 approved and is asked to approve anew." in asked(world, case)


def test_approval_that_has_ended_is_not_logged_again(world: World, hsm: Hsm) -> None:
    """By the web process itself, which has the statement and the key of its role."""
    case, _ = world.approved("carol", "dan")
    person = world.cast.people["dan"].pk
    row = Approval.unscoped.get(case_id=case.id, person_id=person)
    by_an_officer(world)
    forge(
        world,
        Role.WEB,
        "recovery:case:approve",
        subject=str(case.id),
        person=str(person),
        q=case.statement.payload_hash,
        statement_hash=bytes(row.statement_hash),
    )
    world.tick()
    assert (world.state(case), hsm.unwraps()) == ("waiting", 0)
    assert world.row(case).why == "log-wrong"


def test_approval_in_anothers_name_does_not_outlive_its_officers_suspension(
    world: World, hsm: Hsm, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A web process that stores and logs dan's approval as erin's, whom nobody suspends."""
    case, deposit = world.approved("carol")
    erin = world.cast.people["erin"].pk.bytes
    for name in ("_store", "_log"):
        honest = getattr(decisions, name)

        def lying(*given: Any, honest: Callable[..., Any] = honest, **named: Any) -> Any:
            return honest(*(replace(one, person=erin) if isinstance(one, Officer) else one for one in given), **named)

        monkeypatch.setattr(decisions, name, lying)
    assert world.approve(case, "dan", deposit).status_code == 201
    monkeypatch.undo()
    by_an_officer(world)
    due(world, case)
    world.tick()
    assert (world.state(case), world.row(case).why, hsm.unwraps()) == ("held", "rows-and-log-disagree", 0)


def numbered(world: World, monkeypatch: pytest.MonkeyPatch, **numbers: int) -> None:
    """Have approvals logged as the first signed entries told of them: by number, the officer's own or another's."""
    persons = {world.cast.people[name].pk.bytes: index for name, index in numbers.items()}

    def log(tag: str, case: Case, officer: Officer, statement_hash: bytes, actor: Actor) -> None:
        index = persons.get(officer.person, officer.index)
        forge(world, Role.WEB, tag, subject=str(case.id), q=bytes(case.q), index=index, statement_hash=statement_hash)

    monkeypatch.setattr(decisions, "_log", log)


def test_signed_entries_that_name_officers_by_number_are_theirs(
    world: World, hsm: Hsm, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an installation wrote them between the first signatures and the first entries that name persons."""
    numbered(world, monkeypatch)
    case, _ = world.approved("carol", "dan")
    world.sequence()
    facts = world.followed().facts
    assert facts.wrong == {}
    persons = {world.cast.people[name].pk.bytes for name in ("carol", "dan")}
    assert facts.cases[case.id.bytes].approvals.keys() == persons
    world.tick()
    assert (world.state(case), hsm.unwraps()) == ("released", 1)


def test_number_of_another_officer_makes_no_approval_theirs(
    world: World, hsm: Hsm, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A web process that logs dan's approval under erin's number, whom nobody suspends."""
    case, deposit = world.approved("carol")
    numbered(world, monkeypatch, dan=3)
    assert world.approve(case, "dan", deposit).status_code == 201
    world.sequence()
    due(world, case)
    world.tick()
    assert (world.state(case), world.row(case).why, hsm.unwraps()) == ("held", "rows-and-log-disagree", 0)


def test_absence_ends_no_approval(world: World, hsm: Hsm) -> None:
    case, _ = world.approved("carol", "dan")
    world.stand("dan", Standing.AWAY)
    with tenant_scope(world.tenant_id):
        settle_case(case_id=case.id, actor=world.ceremony)
    assert world.state(case) == "requested"
    world.stand("dan", Standing.BACK)
    with tenant_scope(world.tenant_id):
        settle_case(case_id=case.id, actor=world.ceremony)
    world.work()
    world.tick()
    assert (world.state(case), hsm.unwraps(), Approval.unscoped.count()) == ("released", 1, 2)


def test_forged_suspension_costs_time_and_nothing_else(world: World, hsm: Hsm) -> None:
    """The web process may say that a person was stopped: they are stopped and let in again in truth, and returned."""
    case, deposit = world.approved("carol", "dan")
    forge(world, Role.WEB, "tenants:person:suspend", subject=str(world.cast.people["dan"].pk))
    world.sequence()
    with living(world, patience=600) as process:
        settled(process)
        assert (world.state(case), hsm.unwraps()) == ("waiting", 0)
        as_a_person(world)
        world.sequence()
        due(world, case)
        settled(process)
        assert (world.state(case), hsm.unwraps()) == ("requested", 0)
        assert world.approve(case, "dan", deposit).status_code == 201
        world.sequence()
        settled(process)
    assert (world.state(case), hsm.unwraps()) == ("released", 1)


def test_ended_approval_is_shown_as_such_and_the_officer_is_asked_again(world: World) -> None:
    case, deposit = world.approved("dan")
    by_an_officer(world)
    document = world.directory.phone("dan").send("GET", case.path).json()
    assert [(one["decision"], one["why_not"]) for one in document["approvals"]] == [
        ("approve", "is asked to approve anew")
    ]
    assert b64u(case.statement.payload_hash) == document["q"]
    assert world.approve(case, "dan", deposit).json()["approvals"][0]["why_not"] == ""
