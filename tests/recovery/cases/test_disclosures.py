# SPDX-License-Identifier: Apache-2.0
"""Cases that open one person's archive to another: the end that they name, and what is sealed when nobody is left."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

import pytest
from django.db import DatabaseError, connection, transaction
from django.test.utils import CaptureQueriesContext

from escrow.models import Deposit as StoredDeposit
from holdfast.core.crypto.keys import SigningKey
from holdfast.core.escrow.approvals import ShareBlamed
from holdfast.core.escrow.deposit import Deposit
from holdfast.core.identity import chain_author
from holdfast.core.identity.entries import Reason
from kernel.clock import database_now
from kernel.fields import rfc3339
from kernel.scope import tenant_scope
from recovery import tasks
from recovery.models import Case
from tenants import access as people
from tenants import services as tenants
from tests.cast.founded import Hsm
from tests.cast.phones import now
from tests.cast.world import OpenCase, World, as_superuser
from tests.recovery.cases.test_shares import blame, is_open, left, run_out, send, wrong_inside
from tests.recovery.release.test_forged_rows import key

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.rounds("rules")]
DAY = 86_400


def for_bob(world: World, deposit: Deposit, **changes: Any) -> OpenCase:
    return world.case(world.directory.phone("bob"), deposit, purpose="device-loss", **changes)


def collected_by_bob(world: World) -> tuple[OpenCase, Deposit]:
    """A case about alice's archive that bob has collected."""
    case, deposit = world.approved("carol", "dan", phone=world.directory.phone("bob"))
    world.tick()
    assert world.collect(case).status_code == 200
    return case, deposit


def leave(world: World) -> None:
    """Have alice's person suspended, as whoever leaves is."""
    with tenant_scope(world.tenant_id):
        alice = world.cast.people["alice"]
        tenants.suspend_person(person=people.person(alice.pk), actor=world.ceremony)


def come_back(world: World) -> None:
    with tenant_scope(world.tenant_id):
        alice = world.cast.people["alice"]
        tenants.activate_person(person=people.person(alice.pk), actor=world.ceremony)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"disclosure_ends": None}, "Field 22 is missing"),
        ({"disclosure_ends": -1}, "ended already"),
        ({"disclosure_ends": 0}, "field 22"),
        ({"disclosure_ends": 3600 + 365 * DAY + 60}, "over 365 days"),
        ({"disclosure_ends": 2**53 - 1 - 2**33}, "field 22"),
    ],
)
def test_case_to_another_is_refused_without_an_end_that_fits(world: World, changes: dict[str, Any], why: str) -> None:
    deposit, ends = world.deposit(), changes["disclosure_ends"]
    at = {"disclosure_ends": ends if not ends else now() + ends}
    if ends == -1:
        at |= {"header": world.directory.phone("bob").header(issued_at=now() - 600), "not_before": 0, "notice_at": 0}
    answer = world.open(for_bob(world, deposit, **at))
    assert (answer.status_code, answer.json()["code"]) == (422, "case-refused")
    assert why in answer.content.decode()
    assert answer.json()["errors"][0]["field"] == "case"


def test_case_to_oneself_names_no_end(world: World) -> None:
    deposit, phone = world.deposit(), world.new_phone()
    answer = world.open(world.case(phone, deposit, disclosure_ends=now() + DAY))
    assert (answer.status_code, answer.json()["code"]) == (422, "case-refused")
    # A client from before there was the field leaves it out.
    answer = world.open(world.case(phone, deposit, disclosure_ends=None))
    assert answer.status_code == 201, answer.content
    assert answer.json()["disclosure_ends"] is None


def test_case_shows_the_end_of_its_disclosure(world: World) -> None:
    ends = now() + DAY
    case = for_bob(world, world.deposit(), disclosure_ends=ends)
    shown = rfc3339(datetime.fromtimestamp(ends, UTC))
    assert world.open(case).json()["disclosure_ends"] == shown
    listed = world.directory.phone("carol").send("GET", "/api/v1/cases").json()["cases"]
    assert [one["disclosure_ends"] for one in listed] == [shown]


# Seconds: enough for two approvals and a release on a machine that does five things at once.
ENDS_IN = 14


def wait_for_the_end(case: OpenCase) -> None:
    ends = Case.unscoped.get(id=case.id).disclosed_until
    assert ends is not None
    while database_now() < ends:
        time.sleep(0.05)


def test_disclosure_is_neither_approved_nor_released_after_its_end(world: World, hsm: Hsm) -> None:
    deposit = world.deposit()
    case = world.opened(deposit, phone=world.directory.phone("bob"), disclosure_ends=now() + ENDS_IN)
    for name in ("carol", "dan"):
        assert world.approve(case, name, deposit).status_code == 201
    wait_for_the_end(case)
    answer = world.approve(case, "erin", deposit)
    assert (answer.status_code, answer.json()["code"], "disclosure" in answer.json()["detail"]) == (
        409,
        "case-moved",
        True,
    )
    # By the signed statement alone: whatever the rows say of its end.
    with as_superuser("recovery_case") as cursor:
        cursor.execute("UPDATE recovery_case SET disclosed_until = NULL WHERE id = %s", [key(case.id)])
    world.tick()
    assert (world.state(case), hsm.unwraps()) == ("expired", 0)


def test_disclosure_that_nobody_decides_or_collects_expires_at_its_end(world: World, hsm: Hsm) -> None:
    deposit = world.deposit()
    bob = world.directory.phone("bob")
    undecided, released = (world.opened(deposit, phone=bob, disclosure_ends=now() + ENDS_IN) for _ in range(2))
    for name in ("carol", "dan"):
        assert world.approve(released, name, deposit).status_code == 201
    world.tick()
    tasks.expire_cases()
    assert (world.state(undecided), world.state(released)) == ("requested", "released")
    wait_for_the_end(released)
    answer = world.collect(released)
    assert (answer.status_code, answer.json()["code"], "disclosure" in answer.json()["detail"]) == (
        409,
        "not-released",
        True,
    )
    tasks.expire_cases()
    assert (world.state(undecided), world.state(released), left(released)) == ("expired", "expired", (0, 0, 0))


def test_collected_disclosure_is_destroyed_and_handed_out_no_more_at_its_end(world: World, hsm: Hsm) -> None:
    phone = world.directory.phone("bob")
    case, _ = world.approved("carol", "dan", phone=phone, disclosure_ends=now() + ENDS_IN)
    world.tick()
    assert world.collect(case).status_code == 200
    tasks.destroy_released()
    assert left(case) == (0, 2, 1)
    wait_for_the_end(case)
    assert world.collect(case).json()["code"] == "not-released"
    tasks.destroy_released()
    assert (world.state(case), left(case)) == ("collected", (0, 0, 0))


def test_what_was_disclosed_of_a_person_who_has_left_is_sealed_and_takes_no_deposit(world: World, hsm: Hsm) -> None:
    case, deposit = collected_by_bob(world)
    tasks.follow_rotations()
    assert world.state(case) == "collected"
    leave(world)
    tasks.follow_rotations()
    assert (world.state(case), world.tags(case)[-1]) == ("sealed", "recovery:case:seal")
    assert StoredDeposit.unscoped.get().exposed_at is not None
    # Should they come back: the key that somebody else holds is not deposited anew, a new one is.
    come_back(world)
    answer = world.upload(world.build_again(deposit))
    assert (answer.status_code, answer.json()["code"]) == (409, "generation-sealed")
    assert world.upload(world.build()).status_code == 201
    rows = {row["generation"]: row["exposed"] for row in deposits_of(world)}
    assert rows == {1: True, 2: False}


def deposits_of(world: World) -> Any:
    return world.directory.phone("alice").send("GET", "/api/v1/escrow/deposits").json()["deposits"]


def test_what_was_disclosed_is_sealed_when_the_subjects_last_device_is_gone(world: World, hsm: Hsm) -> None:
    case, _ = collected_by_bob(world)
    account, phone = world.directory.account("alice"), world.directory.phone("alice")
    answer = account.revoke(phone, by=phone)
    assert answer.status_code == 201, answer.content
    tasks.follow_rotations()
    assert world.state(case) == "sealed"


def test_subject_who_has_a_device_rotates_as_after_any_case(world: World, hsm: Hsm) -> None:
    case, _ = collected_by_bob(world)
    with CaptureQueriesContext(connection) as asked:
        tasks.follow_rotations()
    assert world.state(case) == "collected"
    # Every few seconds, for as long as it is not renewed: no entry of the chain is read for it.
    assert not [one["sql"] for one in asked if '"keys_chainentry"."entry"' in one["sql"]]
    rotate(world)
    tasks.follow_rotations()
    assert world.state(case) == "rotated"
    leave(world)
    tasks.follow_rotations()
    assert world.state(case) == "rotated"


def rotate(world: World) -> None:
    account, phone = world.directory.account("alice"), world.directory.phone("alice")
    new = SigningKey.generate()
    rotated = chain_author.rotate_key(account.chain, by=account.author(phone), new_aik=new, reason=Reason.RECOVERY)
    assert account.append(phone, [rotated]).status_code == 201
    account.aik = new
    world.build()


@pytest.mark.parametrize("renewed", ["sealed", "rotated"])
@pytest.mark.parametrize("when", ["awaiting-share", "expired"])
def test_recipients_report_of_a_wrong_share_keeps_nothing_from_being_renewed(
    world: World, hsm: Hsm, renewed: str, when: str
) -> None:
    """Who has collected may have the keys, whatever they say: nobody can tell a right share that they call wrong."""
    case, deposit = collected_by_bob(world)
    assert blame(world, case, deposit, 1).json()["state"] == "awaiting-share"
    if when == "expired":
        run_out(case)
    tasks.follow_rotations()
    assert world.row(case).renewed_at is None
    (leave if renewed == "sealed" else rotate)(world)
    for _ in range(2):
        tasks.follow_rotations()
    assert (world.state(case), world.row(case).renewed_at is None) == (when, False)
    assert (StoredDeposit.unscoped.get(generation=1).exposed_at is not None) is (renewed == "sealed")
    tag = "recovery:case:seal" if renewed == "sealed" else "recovery:case:rotate"
    assert world.tags(case).count(tag) == 1


def test_case_that_ended_after_its_collection_says_that_its_recipient_had_the_keys(world: World, hsm: Hsm) -> None:
    case, deposit = collected_by_bob(world)
    assert blame(world, case, deposit, 1).status_code == 201
    run_out(case)
    shown = world.directory.phone("carol").send("GET", case.path).json()
    collected_at = world.row(case).collected_at
    assert collected_at is not None
    assert shown["collected_at"] == rfc3339(collected_at)
    assert (shown["state"], "counts as exposed" in shown["ended"]["text"]) == ("expired", True), shown["ended"]


def test_leavers_case_gets_its_share_replaced_after_it_was_sealed_and_is_closed_as_any(world: World, hsm: Hsm) -> None:
    case, deposit = world.approved(phone=world.directory.phone("bob"))
    send(world, case, "carol", wrong_inside(world, case, "carol", deposit))
    assert world.approve(case, "dan", deposit).status_code == 201
    world.tick()
    leave(world)
    with pytest.raises(ShareBlamed) as found:
        world.combine(case, deposit, world.collect(case).json())
    first = world.row(case).collected_at
    # Every five seconds: long before a person reads of a wrong share.
    tasks.follow_rotations()
    assert world.state(case) == "sealed"
    exposed_at = StoredDeposit.unscoped.get().exposed_at
    answer = blame(world, case, deposit, *found.value.indices)
    assert (answer.status_code, answer.json()["state"]) == (201, "awaiting-share"), answer.content
    assert world.approve(case, "erin", deposit).status_code == 201
    for _ in range(2):
        world.tick()
    assert (world.state(case), hsm.unwraps()) == ("released", 1)
    assert is_open(world, case, deposit)
    tasks.follow_rotations()
    row = world.row(case)
    assert (row.state, row.collected_at) == ("sealed", first)
    assert StoredDeposit.unscoped.get().exposed_at == exposed_at


def test_own_case_is_never_sealed(world: World, hsm: Hsm) -> None:
    """Its recipient is about to become the subject's device, and none is listed in their chain until then."""
    case, _ = world.approved("carol", "dan")
    world.tick()
    assert world.collect(case).status_code == 200
    leave(world)
    tasks.follow_rotations()
    assert world.state(case) == "collected"


def test_mark_of_a_deposit_is_set_once(world: World, hsm: Hsm) -> None:
    _, deposit = collected_by_bob(world)
    leave(world)
    tasks.follow_rotations()
    with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
        StoredDeposit.unscoped.filter(id__isnull=False).update(exposed_at=None)
    assert deposit.header.generation == 1
