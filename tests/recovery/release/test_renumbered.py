# SPDX-License-Identifier: Apache-2.0
"""Deposits made under one roster, decided under another that numbers the same officers anew.

Implements ESCROW "Deposit" and "Case": the number of a share is that of the deposit's own policy, for ever; approvals
are by person.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest

from holdfast.core.base.encoding import unb64u
from holdfast.core.escrow.deposit import Deposit
from holdfast.core.identity.cases import Approval as Said
from holdfast.core.signed.cose import Sign1
from kernel.scope import tenant_scope
from recovery.models import Approval, SealedShare
from recovery.release import record
from tenants import services as tenants
from tests.cast.founded import Hsm
from tests.cast.world import OpenCase, World

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.rounds("rules")]

# Of three founders in this order: carol is number 1 and erin number 3, and the other way round from then on.
TURNED = ("erin", "dan", "carol")


def renumber(world: World, *names: str) -> None:
    world.publish(world.policy(m=2, names=names or TURNED), signers=[world.founders[one] for one in ("carol", "dan")])


def opens(world: World, case: OpenCase, *deposits: Deposit) -> bool:
    """Collect as the recipient, and tell whether every deposit opens to the archive key that went into it."""
    answer = world.collect(case)
    assert answer.status_code == 200, answer.content
    document = answer.json()
    return all(
        world.combine(case, deposit, document) == world.archive_keys[deposit.header.deposit_id] for deposit in deposits
    )


def numbers(document: dict[str, Any]) -> dict[UUID, int]:
    """The numbers of the shares that an approval hands over, by deposit."""
    said = Said.from_payload(Sign1.parse(unb64u(document["statement"])).payload)
    return {UUID(bytes=deposit_id): index for deposit_id, index, _ in said.shares}


def uuid_of(deposit: Deposit) -> UUID:
    return UUID(bytes=deposit.header.deposit_id)


@pytest.mark.parametrize("names", [("carol", "erin"), ("erin", "dan")])
def test_old_deposit_is_released_by_officers_who_are_numbered_anew(
    world: World, hsm: Hsm, names: tuple[str, str]
) -> None:
    deposit = world.deposit()
    renumber(world)
    case = world.opened(deposit)
    assert numbers(world.signed_approval(case, "carol", [deposit])) == {uuid_of(deposit): 1}
    for name in names:
        answer = world.approve(case, name, deposit)
        assert answer.status_code == 201, answer.content
    world.tick()
    assert (world.state(case), hsm.unwraps()) == ("released", 1)
    assert opens(world, case, deposit)


def test_one_case_releases_deposits_of_both_rosters(world: World, hsm: Hsm) -> None:
    before = world.deposit()
    renumber(world)
    after = world.deposit()
    case = world.opened(before, after)
    assert numbers(world.signed_approval(case, "carol", [before, after])) == {uuid_of(before): 1, uuid_of(after): 3}
    for name in ("carol", "erin"):
        answer = world.approve(case, name, before, after)
        assert answer.status_code == 201, answer.content
    world.tick()
    assert (world.state(case), hsm.unwraps()) == ("released", 2)
    assert opens(world, case, before, after)


def test_wrong_share_is_void_by_its_number_in_its_own_deposit(world: World, hsm: Hsm) -> None:
    """The share of whoever has that number in the case's roster is right, and stays."""
    deposit = world.deposit()
    renumber(world)
    case = world.opened(deposit)
    document = world.signed_approval(case, "carol", [deposit])
    other = world.signed_approval(case, "carol", [deposit])
    # As long as a right one, sealed to the same keys, and not what carol signed for.
    document["shares"] = other["shares"]
    assert world.directory.phone("carol").send("POST", f"{case.path}/approvals", document).status_code == 201
    assert world.approve(case, "erin", deposit).status_code == 201
    world.tick()
    assert (world.state(case), world.row(case).why, hsm.unwraps()) == ("requested", "share-wrong", 0)
    erin = world.cast.people["erin"].pk
    assert [one.approval.person_id for one in SealedShare.unscoped.select_related("approval")] == [erin]
    # Whoever handed over nothing that is right may do so anew.
    assert world.approve(case, "carol", deposit).status_code == 201
    world.tick()
    assert (world.state(case), hsm.unwraps()) == ("released", 1)
    assert opens(world, case, deposit)


def test_officer_of_the_newer_roster_alone_approves_for_the_newer_deposit(
    found: Callable[..., World], hsm: Hsm
) -> None:
    """An approval counts for a deposit only with a share of it."""
    world = found(cooling_off_seconds=0)
    before = world.deposit()
    world.add_founder("rex")
    with tenant_scope(world.tenant_id):
        tenants.change_role(person=world.cast.rex, role="officer", actor=world.ceremony)
    renumber(world, "rex", *TURNED)
    time.sleep(1.1)  # a cooling-off of nothing ends with the second
    after = world.deposit()
    case = world.opened(before, after)
    assert numbers(world.signed_approval(case, "rex", [before, after])) == {uuid_of(after): 1}
    for name in ("rex", "carol"):
        assert world.approve(case, name, before, after).status_code == 201
    assert world.state(case) == "requested"
    assert world.approve(case, "erin", before, after).status_code == 201
    world.tick()
    assert (world.state(case), hsm.unwraps()) == ("released", 2)
    assert opens(world, case, before, after)


def test_log_names_the_person_who_approved(world: World) -> None:
    case, _ = world.approved("carol")
    world.sequence()
    with tenant_scope(world.tenant_id):
        facts = world.followed().facts
        row = Approval.objects.get(case_id=case.id)
    (person,) = facts.cases[case.id.bytes].approvals
    assert UUID(bytes=person) == row.person_id == world.cast.people["carol"].pk


def test_released_shares_have_the_numbers_of_their_own_deposits(world: World, hsm: Hsm) -> None:
    before = world.deposit()
    renumber(world)
    case = world.opened(before)
    for name in ("carol", "erin"):
        assert world.approve(case, name, before).status_code == 201
    with tenant_scope(world.tenant_id):
        assert record.load_shares(world.row(case)).keys() == {(uuid_of(before), 1), (uuid_of(before), 3)}
    world.tick()
    document = world.collect(case).json()
    assert sorted(index for _, index, _ in document["shares"]) == [1, 3]
