# SPDX-License-Identifier: Apache-2.0
"""An officer who lost a device counts for nothing until a version names other keys: by the rows, and by the log alone.

Implements ESCROW "Policy and officers": revoking an officer's device as lost suspends the officer.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from django.db import transaction

from audit.models import Entry
from escrow import access, coverage
from escrow.errors import PolicyRefused
from escrow.models import PolicyOfficer
from holdfast.core.base.encoding import b64u
from holdfast.core.identity.acts import Act
from holdfast.core.identity.entries import Reason
from holdfast.core.log.log_entry import LogEntry
from holdfast.core.log.writers import Role
from kernel.clock import database_now
from kernel.models import Job
from kernel.scope import tenant_scope
from keys import devices
from keys.models import Message
from recovery.models import SealedShare
from tests.cast.browsers import signed_in, text_of
from tests.cast.founded import Hsm
from tests.cast.officers import Founder
from tests.cast.world import World
from tests.recovery.release.test_believed import follow, forge

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.rounds("rules")]


@pytest.fixture
def quick(found: Callable[..., World]) -> World:
    """A tenant in which nobody cools off."""
    return found(cooling_off_seconds=0)


def lose(world: World, name: str = "dan", reason: Reason = Reason.DEVICE_LOST) -> None:
    """Have an officer revoke the device that they have, on another one."""
    account = world.directory.account(name)
    world.directory.phone(name)
    account.add_phone()
    answer = account.revoke(account.phones[0], reason=reason)
    assert answer.status_code == 201, answer.content


def new_keys(world: World, name: str = "dan", *signers: str) -> Founder:
    """Publish a version that names other keys of an officer's; return those of before."""
    before = world.founders[name]
    world.add_founder(name)
    world.publish(world.policy(m=2), signers=[world.founders[one] for one in signers or ("carol", "erin")])
    time.sleep(1.1)  # a cooling-off of nothing ends with the second
    return before


def refused(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


def told(world: World, name: str) -> list[Any]:
    """The notices of a loss in a person's newest mailbox."""
    bodies = [bytes(one.body) for one in Message.unscoped.filter(device_id=world.directory.phone(name).id)]
    notices = [json.loads(body) for body in bodies if body.startswith(b'{"event"')]
    return [notice["by"] for notice in notices if notice["event"] == "officer-keys-lost"]


def test_lost_device_takes_its_officer_out_and_ends_what_they_approved(quick: World, hsm: Hsm) -> None:
    world = quick
    case, deposit = world.approved("carol", "dan")
    assert world.state(case) == "waiting"
    lose(world)
    world.tick()
    assert (world.state(case), world.row(case).why, hsm.unwraps()) == ("requested", "quorum-lost", 0)
    assert [one.approval.person_id for one in SealedShare.unscoped.select_related("approval")] == [
        world.cast.people["carol"].pk
    ]
    # On another device of theirs, with the keys of before: in nobody's eyes.
    assert refused(world.approve(case, "dan", deposit)) == (403, "not-eligible")
    text = str(world.directory.phone("carol").send("GET", case.path).json())
    assert "lost a device with their keys" in text
    assert world.approve(case, "erin", deposit).json()["state"] == "waiting"
    world.tick()
    assert (world.state(case), hsm.unwraps()) == ("released", 1)


@pytest.mark.parametrize("reason", [Reason.DEVICE_RETIRED, Reason.USER_REQUEST, Reason.SCHEDULE])
def test_device_that_goes_in_order_takes_nobody_out(quick: World, hsm: Hsm, reason: Reason) -> None:
    world = quick
    case, _ = world.approved("carol", "dan")
    lose(world, reason=reason)
    world.tick()
    assert (world.state(case), hsm.unwraps()) == ("released", 1)


@pytest.mark.parametrize(
    "reason", [Reason.DEVICE_LOST, Reason.DEVICE_COMPROMISED, Reason.SECURITY_EVENT, Reason.RECOVERY]
)
def test_release_process_believes_a_loss_by_the_log_alone(
    quick: World, hsm: Hsm, monkeypatch: pytest.MonkeyPatch, reason: Reason
) -> None:
    """A server whose rows know nothing of it gains nothing."""
    world = quick
    monkeypatch.setattr(devices, "_ends_with_a_loss", [])
    case, _ = world.approved("carol", "dan")
    lose(world, reason=reason)
    world.tick()
    assert (world.state(case), world.row(case).why, hsm.unwraps()) == ("held", "quorum-not-in-log", 0)


def test_approval_after_the_loss_counts_for_nothing_in_the_log_either(
    quick: World, hsm: Hsm, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lost device's own, that a server lets in."""
    world = quick
    monkeypatch.setattr(devices, "_ends_with_a_loss", [])
    case, deposit = world.approved("carol")
    lose(world)
    assert world.approve(case, "dan", deposit).status_code == 201
    world.tick()
    assert (world.state(case), hsm.unwraps()) == ("held", 0)


def test_officer_counts_again_under_a_version_with_other_keys(quick: World, hsm: Hsm) -> None:
    world = quick
    lose(world)
    new_keys(world)
    case, _ = world.approved("carol", "dan")
    world.tick()
    assert (world.state(case), hsm.unwraps()) == ("released", 1)


def test_version_that_leaves_the_keys_as_they_are_brings_nobody_back(quick: World, hsm: Hsm) -> None:
    world = quick
    deposit = world.deposit()
    lose(world)
    world.publish(world.policy(m=2), signers=[world.founders[one] for one in ("carol", "erin")])
    time.sleep(1.1)
    case = world.opened(deposit)
    assert refused(world.approve(case, "dan", deposit)) == (403, "not-eligible")
    follow(world)
    facts = world.followed().facts
    (row,) = (one for one in world.policy(m=2).roster if one.person == world.cast.dan.pk.bytes)
    assert facts.lost_keys == {row.person: {row.signing_key.encoded, row.sealing_key.encoded}}


def test_keys_of_before_the_loss_never_count_again(quick: World, hsm: Hsm) -> None:
    """Not by way of other ones either, and not in rows of a server that forgot them."""
    world = quick
    lose(world)
    world.founders["dan"] = new_keys(world)
    signers = [world.founders[one] for one in ("carol", "erin")]
    with pytest.raises(PolicyRefused, match="lost with a device"):
        world.publish(world.policy(m=2), signers=signers)
    with tenant_scope(world.tenant_id):
        PolicyOfficer.objects.update(keys_lost_at=None)
    world.publish(world.policy(m=2), signers=signers)
    time.sleep(1.1)
    case, _ = world.approved("carol", "dan")
    world.tick()
    assert (world.state(case), hsm.unwraps()) == ("held", 0)


def test_no_resolution_returns_whoever_lost_a_device(quick: World, hsm: Hsm, monkeypatch: pytest.MonkeyPatch) -> None:
    world = quick
    lose(world)
    made = world.resolution(Act.RETURN_OFFICER, world.cast.dan.pk.bytes)
    answer = world.resolve(made, "carol")
    assert refused(answer) == (422, "resolution-refused")
    assert "holdfast officer new-keys" in answer.json()["detail"]
    # And one that a server let pass changes nothing for the release process.
    monkeypatch.setattr("escrow.access.with_lost_keys", lambda now: frozenset())
    assert world.resolve(made, "carol").status_code == 201
    assert world.resolve(made, "erin").json()["state"] == "passed"
    with tenant_scope(world.tenant_id):
        PolicyOfficer.objects.update(keys_lost_at=None)
    case, _ = world.approved("carol", "dan")
    world.tick()
    assert (world.state(case), hsm.unwraps()) == ("held", 0)


def test_whoever_lost_a_device_votes_on_nothing(quick: World, hsm: Hsm, monkeypatch: pytest.MonkeyPatch) -> None:
    world = quick
    lose(world)
    device = world.directory.phone("alice")
    made = world.resolution(Act.SUSPEND_DEVICE, world.cast.alice.pk.bytes, device.id.bytes)
    assert refused(world.resolve(made, "dan")) == (403, "not-counting")
    # A server that takes it all the same: two of three signed, and one of the two may be a thief.
    with tenant_scope(world.tenant_id):
        PolicyOfficer.objects.update(keys_lost_at=None)
    assert world.resolve(made, "dan").status_code == 201
    assert world.resolve(made, "carol").json()["state"] == "passed"
    follow(world)
    facts = world.followed().facts
    assert (facts.pending, facts.silenced, facts.wrong) == ([], set(), {})


def test_coverage_and_signatures_reckon_with_the_loss(quick: World) -> None:
    world = quick
    world.deposit()
    lose(world)
    with tenant_scope(world.tenant_id):
        assert [officer.index for officer in coverage.releasable_now().approvers] == [1, 3]
    # Under a version alone they still sign: where too few keep theirs, nobody else could end it.
    before = world.founders["dan"]
    world.add_founder("dan")
    policy, world.founders["dan"] = world.policy(m=2), before
    assert world.propose(policy, "carol").status_code == 201
    assert world.sign_policy(policy, "dan").status_code == 201


def test_all_who_are_concerned_are_told(quick: World) -> None:
    world = quick
    for name in ("carol", "erin"):
        world.directory.phone(name)
    lose(world)
    mails = {job.payload["person"] for job in Job.unscoped.all() if job.payload.get("event") == "officer-keys-lost"}
    assert mails == {str(world.cast.people[name].pk) for name in ("carol", "dan", "erin")}
    for name in ("carol", "dan", "erin"):
        assert told(world, name) == [str(world.cast.dan.pk)], name
    body = world.directory.phone("carol").send("GET", "/api/v1/escrow/officers").json()
    assert [bool(row["keys_lost_at"]) for row in body["officers"]] == [False, True, False]


def test_member_who_loses_a_device_takes_nobody_out(quick: World) -> None:
    world = quick
    lose(world, "alice")
    follow(world)
    assert not world.followed().facts.lost_keys
    assert not Job.unscoped.filter(payload__event="officer-keys-lost").exists()


def test_entry_of_before_reasons_takes_nobody_out(quick: World, hsm: Hsm) -> None:
    world = quick
    case, _ = world.approved("carol", "dan")
    forge(
        world, Role.WEB, "keys:device:revoke", subject=str(world.directory.phone("dan").id), user=str(world.cast.dan.pk)
    )
    world.tick()
    assert (world.state(case), hsm.unwraps()) == ("released", 1)


def test_entry_names_the_reason_that_the_account_signed(quick: World) -> None:
    world = quick
    lose(world, reason=Reason.DEVICE_COMPROMISED)
    (row,) = Entry.unscoped.filter(tag="keys:device:revoke")
    assert LogEntry.from_leaf(bytes(row.leaf)).body["reason"] == Reason.DEVICE_COMPROMISED


def test_keys_that_were_stated_before_the_loss_are_no_other_ones(quick: World) -> None:
    world, phone = quick, quick.directory.phone("dan")
    account, other = world.directory.account("dan"), Founder(quick.cast.dan.pk.bytes)
    account.keep_officers_section(phone)
    said = account.officer_keys(phone, signing_key=other.signing_key.public, sealing_key=other.sealing_key.public)
    document = {"statement": b64u(said.encode())}
    assert phone.send("POST", "/api/v1/escrow/officer-statements", document).status_code == 201
    lose(world)
    world.founders["dan"] = other
    with pytest.raises(PolicyRefused, match="lost with a device"):
        world.publish(world.policy(m=2), signers=[world.founders[one] for one in ("carol", "erin")])


def test_one_lost_half_is_enough(quick: World) -> None:
    world = quick
    lose(world)
    world.founders["dan"] = replace(Founder(world.cast.dan.pk.bytes), sealing_key=world.founders["dan"].sealing_key)
    with pytest.raises(PolicyRefused, match="lost with a device"):
        world.publish(world.policy(m=2), signers=[world.founders[one] for one in ("carol", "erin")])


@pytest.mark.parametrize(
    ("reason", "is_lost"), [(int(Reason.DEVICE_LOST), True), (int(Reason.SCHEDULE), False), (None, False)]
)
def test_restored_database_is_told_of_the_loss_again(quick: World, reason: int | None, is_lost: bool) -> None:
    world, phone = quick, quick.directory.phone("dan")
    with tenant_scope(world.tenant_id), transaction.atomic():
        devices.revoke_again(device_id=phone.id, user_id=world.cast.dan.pk, reason=reason)
        assert (world.cast.dan.pk in access.with_lost_keys(database_now())) is is_lost


def test_console_shows_the_loss_and_the_way_out(quick: World) -> None:
    world = quick
    lose(world)
    text = text_of(signed_in(world.cast.otto).get("/console/escrow/"))
    for said in ("keys lost", "2 can act, 2 needed", "holdfast officer new-keys", f"--add {world.cast.dan.pk}"):
        assert said in text, said
