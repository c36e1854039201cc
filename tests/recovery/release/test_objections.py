# SPDX-License-Identifier: Apache-2.0
"""What delays a release that nobody ends: a veto by a device that m officers suspended, a subject who cannot object.

ESCROW "Case", and "What it believes of the log": rows and release process say the same, each by what it believes.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from audit.models import Waiting
from holdfast.core.identity.acts import Act
from holdfast.core.log.writers import Role
from kernel.actors import Actor
from kernel.clock import SKEW, database_now
from kernel.scope import tenant_scope
from recovery import access, tasks
from recovery.models import Veto
from recovery.release.facts import CaseFacts
from recovery.release.presence import Presence
from tenants import access as people
from tenants import services as tenants
from tests.cast.founded import Hsm
from tests.cast.phones import Phone
from tests.cast.world import OpenCase, World, as_superuser
from tests.recovery.cases.test_vetoes import quorate, signed_veto, veto
from tests.recovery.release.test_believed import forge, resolve
from tests.recovery.release.test_forged_rows import due

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.rounds("rules")]

LONG = 3600


def silence(world: World, phone: Phone) -> None:
    """Have two officers suspend a device."""
    resolve(world, Act.SUSPEND_DEVICE, phone.person.pk.bytes, phone.id.bytes)


def logged(world: World, case: OpenCase) -> CaseFacts:
    """A case as a release process has it that reads all of the log."""
    world.sequence()
    return world.followed().facts.cases[case.id.bytes]


def long_delay(world: World, case: OpenCase, reader: str = "carol") -> str:
    found = world.directory.phone(reader).send("GET", case.path).json()["long_delay"]
    return found["code"] if found else ""


def test_veto_of_a_device_that_officers_suspended_gives_the_long_delay(world: World, hsm: Hsm) -> None:
    deposit, alice = world.deposit(), world.directory.phone("alice")
    silence(world, alice)
    assert people_state(world, alice) == "suspended"
    case = quorate(world, deposit, world.new_phone())
    assert world.state(case) == "waiting"
    answer = veto(case, alice)
    assert (answer.status_code, answer.json()["state"]) == (201, "quorate")
    tasks.settle_cases()
    at = Veto.unscoped.get(case_id=case.id).at
    row = world.row(case)
    assert (row.state, row.release_at) == ("waiting", at + timedelta(seconds=LONG))
    assert long_delay(world, case) == "objected"
    found = logged(world, case)
    assert (found.stage, found.extra_officers, found.objected is not None) == ("waiting", 0, True)
    # Whatever the rows say of the time, and however often the thief vetoes.
    assert veto(case, alice).status_code == 201
    due(world, case)
    world.tick()
    row = world.row(case)
    assert (row.state, row.why, hsm.unwraps()) == ("waiting", "not-yet", 0)
    assert row.release_at is not None
    assert abs(row.release_at - at - timedelta(seconds=LONG)) < timedelta(seconds=10)
    assert Veto.unscoped.filter(case_id=case.id).count() == 1


def people_state(world: World, phone: Phone) -> str:
    with tenant_scope(world.tenant_id):
        return people.credential_state(phone.id)


def test_veto_after_the_long_delay_is_over_does_not_stop_its_owner(found: Callable[..., World], hsm: Hsm) -> None:
    world = found(undelivered_delay_seconds=0)
    deposit, alice = world.deposit(), world.directory.phone("alice")
    silence(world, alice)
    case = quorate(world, deposit, world.new_phone())
    assert veto(case, alice).status_code == 201
    tasks.settle_cases()
    world.tick()
    assert (world.state(case), hsm.unwraps()) == ("released", 1)


@pytest.mark.parametrize("receiver", ["bob", "alice"])
def test_nothing_is_released_while_nobody_can_object_and_the_long_delay_follows(
    receiver: str, world: World, hsm: Hsm
) -> None:
    """The operator suspends the tenant for the time in which the subject, or another device of theirs, would object."""
    deposit, operator = world.deposit(), Actor(None, "operator", uuid4())
    case = quorate(world, deposit, world.directory.phone("bob") if receiver == "bob" else world.new_phone())
    assert world.state(case) == "waiting"
    with tenant_scope(world.tenant_id):
        tenants.suspend_tenant(actor=operator)
    assert veto(case, world.directory.phone("alice")).status_code == 401
    due(world, case)
    world.tick()
    row = world.row(case)
    assert (row.state, row.why, hsm.unwraps()) == ("waiting", "not-yet", 0)
    with tenant_scope(world.tenant_id):
        tenants.resume_tenant(actor=operator)
    due(world, case)
    world.tick()
    row = world.row(case)
    assert (row.state, row.why, hsm.unwraps()) == ("waiting", "not-yet", 0)
    assert row.release_at is not None
    assert row.release_at - database_now() > timedelta(seconds=LONG - 60)
    assert veto(case, world.directory.phone("alice")).json()["state"] == "vetoed"


def test_case_of_after_a_suspension_waits_no_longer_for_it(world: World, hsm: Hsm) -> None:
    deposit, operator = world.deposit(), Actor(None, "operator", uuid4())
    with tenant_scope(world.tenant_id):
        tenants.suspend_tenant(actor=operator)
        tenants.resume_tenant(actor=operator)
    case = quorate(world, deposit, world.new_phone())
    due(world, case)
    world.tick()
    assert (world.state(case), hsm.unwraps()) == ("released", 1)


@pytest.mark.parametrize("word", ["suspended by one person", "entries without a resolution"])
def test_no_word_of_the_web_process_takes_a_devices_veto_away(word: str, world: World, hsm: Hsm) -> None:
    deposit, alice = world.deposit(), world.directory.phone("alice")
    with tenant_scope(world.tenant_id):
        tenants.suspend_credential(credential_id=alice.id, actor=world.ceremony)
    case = quorate(world, deposit, world.new_phone())
    if word == "suspended by one person":
        assert veto(case, alice).json()["state"] == "vetoed"
    else:
        with tenant_scope(world.tenant_id):
            Veto.objects.create(
                case_id=case.id,
                device_id=alice.id,
                statement=signed_veto(case, alice).encode(),
                at=world.row(case).opened_at,
                delays=True,
            )
        body: dict[str, Any] = {"q": case.statement.payload_hash, "device": str(alice.id), "ends": 0}
        named = signed_veto(case, alice).payload_hash
        forge(world, Role.WEB, "recovery:case:veto", subject=str(case.id), **body, statement=named)
    found = logged(world, case)
    assert (found.stage, found.objected) == ("vetoed", None)
    due(world, case) if world.state(case) == "waiting" else None
    world.tick()
    assert (world.state(case) in ("held", "vetoed"), hsm.unwraps()) == (True, 0)


def test_veto_of_before_the_resolution_stands(world: World, hsm: Hsm) -> None:
    deposit, alice = world.deposit(), world.directory.phone("alice")
    case = quorate(world, deposit, world.new_phone())
    assert veto(case, alice).json()["state"] == "vetoed"
    silence(world, alice)
    world.sequence()
    log = world.followed()
    log.facts.settle(log.clock.now())
    assert log.facts.silenced == {(alice.person.pk.bytes, alice.id.bytes)}
    kept = log.facts.cases[case.id.bytes]
    assert (kept.stage, kept.is_forbidden, kept.objected) == ("vetoed", True, None)


def test_other_devices_of_the_subject_still_end_a_case_that_one_only_delays(world: World, hsm: Hsm) -> None:
    deposit, alice, tablet = (
        world.deposit(),
        world.directory.phone("alice"),
        world.directory.account("alice").add_phone(),
    )
    silence(world, alice)
    case = quorate(world, deposit, world.new_phone())
    for _ in range(2):
        assert veto(case, alice).json()["state"] == "quorate"
    with tenant_scope(world.tenant_id):
        row = world.row(case)
        assert (access.has_vetoed(row), access.terms_of(row, row.opened_at)[0]) == (False, 2)
    assert veto(case, tablet).json()["state"] == "vetoed"
    assert logged(world, case).stage == "vetoed"
    with tenant_scope(world.tenant_id):
        assert access.counted_vetoes(alice.person.pk, row.opened_at) == 1


# A subject who cannot object.


def suspend(world: World) -> None:
    with tenant_scope(world.tenant_id):
        tenants.suspend_person(person=people.person(world.cast.people["alice"].pk), actor=world.ceremony)


def suspend_and_let_in(world: World) -> None:
    suspend(world)
    with tenant_scope(world.tenant_id):
        tenants.activate_person(person=people.person(world.cast.people["alice"].pk), actor=world.ceremony)


def suspend_the_device(world: World) -> None:
    with tenant_scope(world.tenant_id):
        tenants.suspend_credential(credential_id=world.directory.phone("alice").id, actor=world.ceremony)


@pytest.mark.parametrize("when", ["before", "in the delay"])
@pytest.mark.parametrize("what", [suspend, suspend_and_let_in, suspend_the_device])
def test_another_waits_long_for_what_its_subject_cannot_object_to(
    when: str, what: Callable[[World], None], found: Callable[..., World], hsm: Hsm
) -> None:
    world = found(delay_seconds=60)
    deposit, bob = world.deposit(), world.directory.phone("bob")
    if when == "before":
        what(world)
    case = quorate(world, deposit, bob)
    if when == "in the delay":
        assert (world.state(case), long_delay(world, case)) == ("waiting", "")
        what(world)
        # Of a host whose clock is behind.
        with as_superuser("audit_waiting"):
            Waiting.unscoped.filter(tag="tenants:person:suspend").update(time=database_now() - SKEW)
        tasks.settle_cases()
    if (when, what) == ("before", suspend_and_let_in):
        # Let in again before it was opened: they could object all the time.
        assert (logged(world, case).stage, long_delay(world, case)) == ("waiting", "")
        assert world.followed().facts.is_heard(world.followed().facts.cases[case.id.bytes])
        return
    row = world.row(case)
    assert row.quorate_at is not None
    assert (row.state, row.release_at) == ("waiting", row.quorate_at + timedelta(seconds=LONG))
    assert long_delay(world, case) == "unheard"
    shown = world.directory.phone("carol").send("GET", case.path).json()["waiting_for"]["text"]
    assert "cannot object" in shown
    # Whatever the rows say of the time.
    due(world, case)
    world.tick()
    row = world.row(case)
    assert (row.state, row.why, hsm.unwraps()) == ("waiting", "not-yet", 0)
    assert row.release_at is not None
    assert row.quorate_at is not None
    assert row.release_at - row.quorate_at > timedelta(seconds=LONG - 10)


def test_subject_who_recovers_their_own_waits_no_longer_for_having_no_device(world: World, hsm: Hsm) -> None:
    deposit = world.deposit()
    suspend_the_device(world)
    case = quorate(world, deposit, world.new_phone())
    world.tick()
    assert (world.state(case), hsm.unwraps()) == ("released", 1)


def test_entry_that_says_who_came_back_undoes_no_absence(world: World, hsm: Hsm) -> None:
    """The web process may say that alice is active, and has a device: not that it was so all the time."""
    deposit, alice = world.deposit(), world.directory.phone("alice")
    case = quorate(world, deposit, world.directory.phone("bob"))
    forge(world, Role.WEB, "tenants:credential:suspend", subject=str(alice.id))
    forge(world, Role.WEB, "tenants:credential:activate", subject=str(alice.id))
    forge(world, Role.WEB, "keys:device:activate", subject=str(uuid4()), user=str(alice.person.pk), statement=b"x" * 32)
    due(world, case)
    world.tick()
    assert (world.row(case).why, hsm.unwraps()) == ("not-yet", 0)


def test_presence_lasts_while_a_person_is_active_with_one_device_at_least() -> None:
    alice, first, second = b"a" * 16, b"1" * 16, b"2" * 16
    found = Presence()
    found.acts(first, 1, may=True)  # of a device that no chain lists it says nothing
    found.person_is(alice, 2, active=True)
    assert found.since(alice) is None
    found.is_listed(first, alice, 3)
    found.is_listed(second, alice, 4)
    found.ends(first, 5)
    assert found.since(alice) == 3
    found.acts(first, 6, may=True)  # what is revoked does not come back
    found.acts(second, 7, may=False)
    assert found.since(alice) is None
    found.acts(second, 8, may=True)
    assert found.since(alice) == 8
    found.person_is(alice, 9, active=False)
    found.person_is(alice, 10, active=True)
    assert found.since(alice) == 10
