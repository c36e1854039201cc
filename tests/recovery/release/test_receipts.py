# SPDX-License-Identifier: Apache-2.0
"""Receipts: the release process signs for each deposit whose half is its own, and for none that carries another's."""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import replace
from typing import Any

import pytest

from holdfast.core.base.encoding import unb64u
from holdfast.core.base.errors import HoldfastError, UnwrapFailed
from holdfast.core.base.secret import SecretBytes
from holdfast.core.escrow.receipt import verify_receipt
from holdfast.core.identity.acts import Act
from holdfast.core.log.merkle import leaf_hash
from holdfast.core.log.writers import Role
from holdfast.core.signed.cose import Sign1
from tests.cast.founded import Hsm
from tests.cast.world import RECIPIENT_RSA, World
from tests.recovery.release.test_believed import follow, forge, put_into_the_log, resolve

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.rounds("rules")]


def shown(world: World, name: str = "alice") -> dict[uuid.UUID, str | None]:
    answer = world.directory.phone(name).send("GET", "/api/v1/escrow/deposits")
    return {uuid.UUID(row["deposit_id"]): row["receipt"] for row in answer.json()["deposits"]}


def test_deposit_gets_a_receipt_that_its_owner_can_verify(world: World, hsm: Hsm) -> None:
    deposit = world.deposit()
    (deposit_id,) = shown(world)
    assert shown(world)[deposit_id] is None
    follow(world)
    receipt = shown(world)[deposit_id]
    assert receipt is not None
    record_hash = hashlib.sha256(deposit.to_record()).digest()
    policy = world.policies[0].policy
    said = verify_receipt(Sign1.parse(unb64u(receipt)), deposit, policy, record_hash=record_hash)
    assert said.half_hash == deposit.half_hash
    # Another's receipt is none of this deposit, and the log says that it was given, once.
    other = world.deposit()
    with pytest.raises(HoldfastError):
        verify_receipt(Sign1.parse(unb64u(receipt)), other, policy, record_hash=record_hash)
    follow(world)
    follow(world)
    assert all(shown(world).values())
    assert world.followed().facts.unreceipted == {}


def forge_deposit(world: World, **said: Any) -> None:
    """Append the entry of a deposit that there is not, as whoever took over the web process does."""
    body: dict[str, Any] = {
        "deposit": str(uuid.uuid4()),
        "device": str(uuid.uuid4()),
        "escrow_key": bytes(32),
        "generation": 1,
        "record_hash": bytes(32),
    } | said
    forge(world, Role.WEB, "escrow:deposit:accept", subject=body["deposit"], **body)


def test_half_that_was_logged_in_anothers_name_first_gets_no_receipt(
    world: World, hsm: Hsm, caplog: pytest.LogCaptureFixture
) -> None:
    """FAULTS P19: whoever sees a record before it is stored puts its half into a deposit of their own first."""
    deposit = world.build()
    forge_deposit(world, half_hash=deposit.half_hash, policy=world.policies[0].hash)
    assert world.upload(deposit).status_code == 201
    follow(world)
    assert shown(world) == {uuid.UUID(bytes=deposit.header.deposit_id): None}
    assert "its half was in another's before; no receipt" in caplog.text
    (row,) = world.directory.phone("alice").send("GET", "/api/v1/escrow/deposits").json()["deposits"]
    assert row["refused"] is True
    world.sequence()
    assert world.followed().facts.unreceipted == {}


def test_deposit_of_a_policy_that_nobody_knows_keeps_no_other_from_its_receipt(world: World, hsm: Hsm) -> None:
    forge_deposit(world, half_hash=b"h" * 32, policy=bytes(32))
    world.deposit()
    follow(world)
    assert all(shown(world).values())


def test_receipts_go_on_after_an_acknowledgement(world: World, hsm: Hsm) -> None:
    world.sequence()
    index = put_into_the_log(world, b"no entry")
    world.deposit()
    follow(world)
    assert not any(shown(world).values())
    resolve(world, Act.ACKNOWLEDGE_LEAF, index, leaf_hash(b"no entry"))
    follow(world)  # with no case under way
    assert all(shown(world).values())


def test_half_copied_on_its_way_opens_nothing_and_its_owner_makes_another(world: World, hsm: Hsm) -> None:
    """The web process shows alice's record to bob before it stores it, and bob deposits the half in his own name."""
    deposit = world.build()
    stolen = replace(world.build("bob"), sealed_half=deposit.sealed_half)
    assert world.upload(stolen, "bob").status_code == 201
    answer = world.upload(deposit)
    assert (answer.status_code, answer.json()["code"]) == (409, "deposit-repeated")
    follow(world)
    # Bob's case brings him alice's half, which opens neither his own deposit nor hers.
    case = world.opened(stolen, phone=world.new_phone("bob"))
    for name in ("carol", "dan"):
        assert world.approve(case, name, stolen).status_code == 201
    world.tick()
    document = world.collect(case).json()
    with pytest.raises(UnwrapFailed):
        world.combine(case, stolen, document)
    ((_, half),) = document["halves"]
    with pytest.raises(UnwrapFailed):
        deposit.open(half=RECIPIENT_RSA.unwrap(unb64u(half), hash_name="sha1"), officers_half=SecretBytes(bytes(32)))
    again = world.build_again(deposit)
    assert world.upload(again).status_code == 201
    follow(world)
    assert all(shown(world).values())
    case = world.opened(again)
    for name in ("carol", "dan"):
        assert world.approve(case, name, again).status_code == 201
    world.tick()
    key = world.archive_keys[deposit.header.deposit_id]
    assert world.combine(case, again, world.collect(case).json()) == key


def test_deposit_without_its_half_is_opened_in_nobodys_case(world: World, hsm: Hsm) -> None:
    """FAULTS P19: the half is bob's, by the log; alice's deposit that names it too is asked of no HSM."""
    deposit = world.build()
    forge_deposit(world, half_hash=deposit.half_hash, policy=world.policies[0].hash)
    assert world.upload(deposit).status_code == 201
    case = world.opened(deposit)
    for name in ("carol", "dan"):
        assert world.approve(case, name, deposit).status_code == 201
    world.tick()
    assert (world.state(case), hsm.unwraps()) == ("held", 0)
