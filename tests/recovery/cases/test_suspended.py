# SPDX-License-Identifier: Apache-2.0
"""A device that one person suspended, or whose person was: it forbids a case about its owner, and does nothing else.

ESCROW "Case" (veto): no one person's act ends a veto.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest

from kernel.scope import tenant_scope
from tenants import access as people
from tenants import services as tenants
from tenants.roles import Role
from tests.cast.founded import Hsm
from tests.cast.phones import Phone, new_phone, now
from tests.cast.world import World
from tests.faults.routes import Route, api_routes
from tests.recovery.cases.test_vetoes import by_the_log, quorate, veto

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.rounds("rules")]

# What is left to it: the case itself, the veto and its proof, and whose keys sign the log.
HEAD = {("audit-head", "GET"), ("audit-head", "POST")}
LEFT = {("case", "GET"), ("case-veto", "GET"), ("case-veto", "POST"), ("audit-roles", "GET"), *HEAD}
_FILLED = {"uuid": str(UUID(int=7)), "int": "1", "str": "audit"}
STOPS = ["the device", "the person", "both"]


def stop(world: World, phone: Phone, what: str) -> None:
    with tenant_scope(world.tenant_id):
        if what != "the person":
            tenants.suspend_credential(credential_id=phone.id, actor=world.ceremony)
        if what != "the device":
            tenants.suspend_person(person=people.person(phone.person.pk), actor=world.ceremony)


def address(route: Route) -> str:
    """An address of this route, with ids that nobody has and whatever else stands in it."""
    filled = re.sub(r"<(uuid|int|str):\w+>", lambda found: _FILLED[found[1]], route.pattern)
    return "/" + re.sub(r"<[^>]+>", "audit", filled)


def answered(phone: Phone, route: Route, method: str) -> tuple[int, str]:
    answer: Any = phone.send(method, address(route), None if method == "GET" else {})
    return answer.status_code, answer.json()["code"] if answer.status_code >= 400 else ""


def admitted(phone: Phone) -> set[tuple[str, str]]:
    """The calls, over every route, that answer this device other than one that nobody has enrolled.

    That it is suspended, and not unknown, is all that it is told by a refusal.
    """
    stranger, calls = new_phone(phone.person), [(route, method) for route in api_routes() for method in route.methods]
    return {
        (route.name, method)
        for route, method in calls
        if answered(phone, route, method) not in ((401, "access-suspended"), answered(stranger, route, method))
    }


@pytest.mark.parametrize("what", STOPS)
def test_suspended_device_reads_vetoes_and_proves_and_nothing_else(what: str, world: World, hsm: Hsm) -> None:
    deposit, alice = world.deposit(), world.directory.phone("alice")
    case = quorate(world, deposit, world.new_phone())
    stop(world, alice, what)
    assert alice.send("GET", case.path).json()["case_id"] == str(case.id)
    assert veto(case, alice).json()["state"] == "vetoed"
    assert by_the_log(world, case) == ("vetoed", 0)
    assert alice.send("GET", f"{case.path}/veto").status_code == 200
    assert alice.send("GET", "/api/v1/audit/roles").status_code == 200
    assert admitted(alice) == LEFT
    world.tick()
    assert (world.state(case), hsm.unwraps()) == ("vetoed", 0)


@pytest.mark.parametrize("what", ["nothing", "the device"])
@pytest.mark.parametrize("role", [Role.AUDITOR, Role.SUPPORT])
def test_subject_forbids_a_case_in_whichever_role_another_gave_them(
    role: str, what: str, world: World, hsm: Hsm
) -> None:
    deposit, alice = world.deposit(), world.directory.phone("alice")
    with tenant_scope(world.tenant_id):
        tenants.change_role(person=people.person(alice.person.pk), role=role, actor=world.ceremony)
        if what == "the device":
            tenants.suspend_credential(credential_id=alice.id, actor=world.ceremony)
    case = quorate(world, deposit, world.directory.phone("bob"))
    assert alice.send("GET", case.path).json()["case_id"] == str(case.id)
    assert veto(case, alice).json()["state"] == "vetoed"
    assert by_the_log(world, case) == ("vetoed", 0)


def test_suspended_device_reads_cases_about_its_owner_alone(world: World) -> None:
    deposit, carol = world.deposit(), world.directory.phone("carol")
    theirs = world.opened(deposit, phone=carol, purpose="legal")
    assert carol.send("GET", theirs.path).status_code == 200
    stop(world, carol, "the device")
    assert carol.send("GET", theirs.path).json()["code"] == "not-found"
    assert veto(theirs, carol).status_code == 404


def test_suspended_device_that_no_chain_lists_and_a_revoked_one_forbid_nothing(world: World) -> None:
    deposit, waiting, other = world.deposit(), world.new_phone(), world.new_phone()
    case = world.opened(deposit)
    with tenant_scope(world.tenant_id):
        tenants.suspend_credential(credential_id=waiting.id, actor=world.ceremony)
        tenants.suspend_credential(credential_id=other.id, actor=world.ceremony)
        tenants.revoke_credential(credential_id=other.id, actor=world.ceremony)
    assert [one.status_code for one in (veto(case, waiting), waiting.send("GET", case.path))] == [404, 404]
    assert [one.status_code for one in (veto(case, other), other.send("GET", case.path))] == [401, 401]
    assert world.state(case) == "requested"


def test_device_of_a_suspended_tenant_is_a_stranger(world: World) -> None:
    deposit, alice = world.deposit(), world.directory.phone("alice")
    case = world.opened(deposit)
    stop(world, alice, "the device")
    with tenant_scope(world.tenant_id):
        type(world.cast.acme).objects.filter(pk=world.tenant_id).update(state="suspended")
    assert veto(case, alice).status_code == 401


def test_case_is_hidden_from_a_suspended_subject_until_its_notice(found: Callable[..., World]) -> None:
    world = found(max_notice_delay_seconds=600)
    deposit, alice = world.deposit(), world.directory.phone("alice")
    stop(world, alice, "the device")
    case = world.opened(deposit, phone=world.directory.phone("carol"), purpose="legal", notice_at=now() + 300)
    assert [alice.send("GET", case.path).status_code, veto(case, alice).status_code] == [404, 404]
