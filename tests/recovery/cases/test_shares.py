# SPDX-License-Identifier: Apache-2.0
"""A wrong share is void and not its officer; what was released is kept no longer than it is needed (ESCROW "Case")."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.core import mail
from django.db import transaction
from django.utils import timezone

from audit.models import Entry
from holdfast.core.base.encoding import b64u, label, unb64u
from holdfast.core.base.secret import SecretBytes
from holdfast.core.crypto import sealing
from holdfast.core.escrow.approvals import ShareBlamed
from holdfast.core.escrow.deposit import Deposit
from holdfast.core.identity.acts import Standing
from holdfast.core.identity.cases import Approval
from holdfast.core.signed import cose
from holdfast.core.signed.cose import Purpose, Sign1
from kernel.scope import tenant_scope
from recovery import tasks
from recovery.cases import collection, notices
from recovery.cases.endings import finish_failed
from recovery.cases.standing import ALARM_AFTER, raise_alarms
from recovery.models import Case, Notice, Release, ReleasedShare, SealedShare
from recovery.release import record
from recovery.states import CaseState
from tenants import services as tenants
from tests.cast.founded import Hsm
from tests.cast.world import OpenCase, World, as_superuser
from tests.recovery.release.test_apart import poison
from tests.recovery.release.test_forged_rows import key
from tests.recovery.release.test_renumbered import renumber

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgres]


def send(world: World, case: OpenCase, name: str, document: dict[str, Any]) -> dict[str, Any]:
    answer = world.directory.phone(name).send("POST", f"{case.path}/approvals", document)
    assert answer.status_code == 201, answer.content
    return dict(answer.json())


def wrong_inside(world: World, case: OpenCase, name: str, deposit: Deposit) -> dict[str, Any]:
    """An approval of another share than the deposit has: well sealed, and signed for by its officer."""
    honest = world.signed_approval(case, name, [deposit])
    said = Approval.from_payload(Sign1.parse(unb64u(honest["statement"])).payload)
    ((deposit_id, index, _),) = said.shares
    named = (case.statement.payload_hash, deposit_id, index)
    to = case.sealing_key.public
    sealed = sealing.seal(SecretBytes(secrets.token_bytes(32)), to=to, info=label("release-share", *named))
    outer = sealing.seal(
        SecretBytes(sealed), to=world.terms.release_sealing_key, info=label("release-share-outer", *named)
    )
    lying = replace(said, shares=((deposit_id, index, hashlib.sha256(sealed).digest()),))
    signed = cose.sign(lying.to_payload(), purpose=Purpose.APPROVAL, key=world.founders[name].signing_key)
    return {"statement": b64u(signed.encode()), "shares": [[honest["shares"][0][0], b64u(outer)]]}


def wrong_outside(world: World, case: OpenCase, name: str, deposit: Deposit) -> dict[str, Any]:
    """An approval whose share is another than the one that it signs for."""
    honest, other = (world.signed_approval(case, name, [deposit]) for _ in range(2))
    return {**honest, "shares": other["shares"]}


def blame(world: World, case: OpenCase, deposit: Deposit, *indices: int) -> Any:
    document = {"shares": [[str(_id(deposit)), list(indices)]]}
    return case.phone.send("POST", f"{case.path}/blame", document)


def _id(deposit: Deposit) -> UUID:
    return UUID(bytes=deposit.header.deposit_id)


def awaiting(world: World, hsm: Hsm) -> tuple[OpenCase, Deposit]:
    """A case whose recipient has found carol's share wrong, and has said so."""
    case, deposit = world.approved()
    send(world, case, "carol", wrong_inside(world, case, "carol", deposit))
    assert world.approve(case, "dan", deposit).status_code == 201
    world.tick()
    assert (world.state(case), hsm.unwraps()) == ("released", 1)
    with pytest.raises(ShareBlamed) as found:
        world.combine(case, deposit, world.collect(case).json())
    assert found.value.indices == (1,)
    answer = blame(world, case, deposit, *found.value.indices)
    assert (answer.status_code, answer.json()["state"]) == (201, "awaiting-share"), answer.content
    return case, deposit


def is_open(world: World, case: OpenCase, deposit: Deposit) -> bool:
    return world.combine(case, deposit, world.collect(case).json()) == world.archive_keys[deposit.header.deposit_id]


def left(case: OpenCase) -> tuple[int, int, int]:
    """How many sealed shares, released shares and halves there are still."""
    released = Release.unscoped.filter(case_id=case.id, destroyed_at=None)
    assert not any(bytes(row.half) for row in Release.unscoped.exclude(destroyed_at=None))
    return SealedShare.unscoped.count(), ReleasedShare.unscoped.count(), released.count()


@pytest.mark.parametrize("other", ["erin", "carol"])
def test_another_share_replaces_a_wrong_one_without_a_second_unwrap(world: World, hsm: Hsm, other: str) -> None:
    case, deposit = awaiting(world, hsm)
    assert case.phone.send("GET", f"{case.path}/release").json()["code"] == "not-released"
    waits = case.phone.send("GET", case.path).json()["waiting_for"]
    assert (waits["code"], waits["stuck"], "1, 3" in waits["text"]) == ("share", False, True), waits
    # By another officer, or by the one whose share is void; the case goes on where it was.
    assert world.approve(case, other, deposit).json()["state"] == "awaiting-share"
    for _ in range(2):
        world.tick()
    assert (world.state(case), hsm.unwraps()) == ("released", 1)
    assert is_open(world, case, deposit)
    assert world.state(case) == "collected"
    for tag, count in {"recovery:share:blame": 1, "recovery:share:replace": 1, "recovery:release:begin": 1}.items():
        assert world.tags(case).count(tag) == count, tag
    facts = world.followed().facts
    assert (facts.cases[case.id.bytes].stage, facts.wrong) == ("released", {})


def test_officers_are_told_once_that_a_share_is_wanted(world: World, hsm: Hsm) -> None:
    case, deposit = awaiting(world, hsm)
    assert blame(world, case, deposit, 1).json()["state"] == "awaiting-share"
    told = Notice.unscoped.filter(case_id=case.id, kind="share").values_list("person_id", flat=True)
    # Dan's share is right: dan has no other to give.
    assert set(told) == {world.cast.people[name].pk for name in ("carol", "erin")}
    world.work()
    assert Notice.unscoped.filter(case_id=case.id, kind="share", state="handed-over").count() == 2


def test_officer_who_holds_no_share_is_not_asked_for_one_and_too_few_others_are_an_alarm(
    found: Callable[..., World], hsm: Hsm
) -> None:
    """Rex came after the deposit: by the case's policy an officer, and by the deposit's nobody."""
    world = found(cooling_off_seconds=0)
    deposit = world.deposit()
    world.add_founder("rex")
    with tenant_scope(world.tenant_id):
        tenants.change_role(person=world.cast.rex, role="officer", actor=world.ceremony)
    renumber(world, "rex", "erin", "dan", "carol")
    time.sleep(1.1)  # a cooling-off of nothing ends with the second
    case = world.opened(deposit)
    send(world, case, "carol", wrong_inside(world, case, "carol", deposit))
    assert world.approve(case, "dan", deposit).status_code == 201
    world.tick()
    with pytest.raises(ShareBlamed) as found_wrong:
        world.combine(case, deposit, world.collect(case).json())
    assert blame(world, case, deposit, *found_wrong.value.indices).status_code == 201
    told = Notice.unscoped.filter(case_id=case.id, kind="share").values_list("person_id", flat=True)
    assert set(told) == {world.cast.people[name].pk for name in ("carol", "erin")}
    waits = case.phone.send("GET", case.path).json()["waiting_for"]
    assert (waits["stuck"], "same case: 2, 4." in waits["text"]) == (False, True), waits
    for name in ("carol", "erin"):
        world.stand(name, Standing.AWAY)
    waits = case.phone.send("GET", case.path).json()["waiting_for"]
    assert (waits["stuck"], "same case: none." in waits["text"], "ask anew" in waits["text"]) == (True, True, True)
    Case.unscoped.filter(id=case.id).update(why_since=timezone.now() - ALARM_AFTER - timedelta(seconds=1))
    assert raise_alarms() == 1


def test_officers_are_told_of_each_report_and_of_five_in_one_case(world: World, hsm: Hsm) -> None:
    case, deposit = awaiting(world, hsm)
    send(world, case, "carol", wrong_inside(world, case, "carol", deposit))
    for _ in range(2):
        world.tick()
    assert world.collect(case).status_code == 200
    assert blame(world, case, deposit, 1).json()["state"] == "awaiting-share"
    world.work()
    told = Notice.unscoped.filter(case_id=case.id, state="handed-over", person_id=world.cast.erin.pk)
    assert set(told.values_list("kind", flat=True)) >= {"share", "share-2"}
    mails = [one for one in mail.outbox if one.to == ["erin@acme.test"] and "another officer's share" in one.subject]
    assert len(mails) == 2
    with tenant_scope(world.tenant_id), transaction.atomic():
        for _ in range(9):
            notices.owe_share_notices(world.row(case))
    kinds = Notice.unscoped.filter(case_id=case.id, kind__startswith="share").values_list("kind", flat=True)
    assert set(kinds) == {"share", *(f"share-{number}" for number in range(2, 6))}


def test_right_share_is_not_given_twice_and_a_wrong_outer_one_replaces_nothing(world: World, hsm: Hsm) -> None:
    case, deposit = awaiting(world, hsm)
    # Dan's is right: what dan sends again changes nothing.
    world.approve(case, "dan", deposit)
    assert SealedShare.unscoped.count() == 0
    send(world, case, "erin", wrong_outside(world, case, "erin", deposit))
    world.tick()
    assert (world.state(case), world.row(case).release_at, left(case)) == ("awaiting-share", None, (0, 2, 1))
    # Erin signed for it, and may send another.
    assert world.approve(case, "erin", deposit).status_code == 201
    world.tick()
    assert (world.state(case), hsm.unwraps()) == ("released", 1)
    assert is_open(world, case, deposit)


def test_share_of_an_officer_who_does_not_count_now_is_not_handed_on(world: World, hsm: Hsm) -> None:
    case, deposit = awaiting(world, hsm)
    assert world.approve(case, "erin", deposit).status_code == 201
    world.stand("erin", Standing.SUSPENDED, by="dan")
    world.tick()
    assert (world.state(case), hsm.unwraps()) == ("awaiting-share", 1)
    assert 3 not in ReleasedShare.unscoped.values_list("index", flat=True)


def test_share_of_an_officer_who_is_suspended_while_it_is_handed_on_is_void(world: World, hsm: Hsm) -> None:
    case, deposit = awaiting(world, hsm)
    assert world.approve(case, "erin", deposit).status_code == 201
    opened = {_id(deposit): {3: secrets.token_bytes(64)}}
    world.stand("erin", Standing.SUSPENDED, by="dan")
    with tenant_scope(world.tenant_id):
        record.replace_shares(case_id=case.id, shares=opened, handled={(_id(deposit), 3)}, actor=world.ceremony)
    assert (world.state(case), left(case)) == ("awaiting-share", (0, 2, 1))


def test_report_names_released_shares_of_a_case_that_cannot_be_opened(world: World, hsm: Hsm) -> None:
    case, deposit = world.approved("carol", "dan", "erin")
    other, another = world.deposit(), world.new_phone()
    assert blame(world, case, deposit, 1).json()["code"] == "case-moved"
    world.tick()
    assert world.collect(case).status_code == 200
    for wrong in ((deposit, 9), (other, 1), (deposit, 1), (deposit,)):
        answer = blame(world, case, *wrong)
        assert (answer.status_code, answer.json()["code"]) == (422, "blame-refused"), wrong
        assert answer.json()["errors"][0]["field"] == "shares"
    for shares in ([], [["x", [1]]], [[str(_id(deposit)), [0]]], [[str(_id(deposit)), "1"]], "1"):
        assert case.phone.send("POST", f"{case.path}/blame", {"shares": shares}).status_code == 400, shares
    for phone in (another, world.directory.phone("carol"), world.directory.phone("mallory")):
        document = {"shares": [[str(_id(deposit)), [1, 2]]]}
        assert phone.send("POST", f"{case.path}/blame", document).status_code == 404
    assert world.state(case) == "collected"


def test_missing_share_is_reported_without_an_index(world: World, hsm: Hsm) -> None:
    case, deposit = world.approved("carol", "dan")
    world.tick()
    assert world.collect(case).status_code == 200
    ReleasedShare.unscoped.filter(index=2).delete()
    assert blame(world, case, deposit).json()["state"] == "awaiting-share"
    assert world.approve(case, "erin", deposit).status_code == 201
    world.tick()
    assert (world.state(case), hsm.unwraps(), is_open(world, case, deposit)) == ("released", 1, True)


def test_wrong_outer_share_voids_the_share_and_not_the_officer(world: World, hsm: Hsm) -> None:
    case, deposit = world.approved()
    first = wrong_outside(world, case, "carol", deposit)
    send(world, case, "carol", first)
    assert world.approve(case, "dan", deposit).status_code == 201
    world.tick()
    assert (world.state(case), world.row(case).why, hsm.unwraps()) == ("requested", "share-wrong", 0)
    again = world.directory.phone("carol").send("POST", f"{case.path}/approvals", first)
    assert (again.status_code, again.json()["code"]) == (422, "approval-refused")
    seen = {row["index"]: row["decision"] for row in world.approve(case, "carol", deposit).json()["approvals"]}
    assert seen == {1: "approve", 2: "approve"}
    # A third time changes nothing: both shares of carol's newest approval stand.
    assert world.approve(case, "carol", deposit).json()["state"] == "waiting"
    assert SealedShare.unscoped.count() == 2
    world.tick()
    assert (world.state(case), hsm.unwraps()) == ("released", 1)
    assert is_open(world, case, deposit)


def test_wrong_share_of_a_release_that_a_dead_process_began_sends_the_case_back(world: World, hsm: Hsm) -> None:
    case, deposit = world.approved()
    send(world, case, "carol", wrong_outside(world, case, "carol", deposit))
    assert world.approve(case, "dan", deposit).json()["state"] == "waiting"
    with as_superuser("recovery_case") as cursor:
        cursor.execute("UPDATE recovery_case SET state = 'releasing' WHERE id = %s", [key(case.id)])
    world.tick()
    assert (world.state(case), world.row(case).why, hsm.unwraps()) == ("requested", "share-wrong", 0)


# What is destroyed when.


def end_by(world: World, case: OpenCase, how: str) -> None:
    if how == "expired":
        tasks.expire_cases()
    elif how == "voided":
        with tenant_scope(world.tenant_id):
            record.void_open_cases(why="voided", actor=world.ceremony)
    else:
        with tenant_scope(world.tenant_id):
            record.hold_case(case_id=case.id, why="log-changed", actor=world.ceremony)


@pytest.mark.parametrize("how", ["expired", "voided", "held"])
def test_every_end_of_a_case_that_awaits_a_share_destroys_all_of_it(
    world: World, hsm: Hsm, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    case, deposit = awaiting(world, hsm)
    assert world.approve(case, "erin", deposit).status_code == 201
    assert left(case) == (1, 2, 1)
    if how == "expired":
        later = timezone.now() + timedelta(hours=2)
        monkeypatch.setattr(tasks, "database_now", lambda: later)
        monkeypatch.setattr("recovery.cases.endings.database_now", lambda: later)
    end_by(world, case, how)
    assert (world.state(case), left(case)) == ("expired" if how == "expired" else "held", (0, 0, 0))
    if how == "voided":
        world.work()
        (told,) = {str(one.body) for one in mail.outbox if one.subject == "A recovery case has ended"}
        assert ("nothing was released" in told, "counts as exposed" in told) == (False, True)
    world.tick()
    assert hsm.unwraps() == 1
    answer = case.phone.send("GET", f"{case.path}/release")
    assert (answer.status_code, answer.json()["code"]) == (409, "not-released")
    # The device is free, and asks anew with success.
    again = world.opened(deposit, phone=case.phone)
    for name in ("carol", "dan"):
        assert world.approve(again, name, deposit).status_code == 201
    world.tick()
    assert is_open(world, again, deposit)


def be_over(case: OpenCase) -> None:
    """Have a case's time over, by its row alone."""
    with as_superuser("recovery_case") as cursor:
        cursor.execute("UPDATE recovery_case SET expiry = opened_at WHERE id = %s", [key(case.id)])


def run_out(case: OpenCase) -> None:
    """Have a case's time over, and the worker find it: its rows refuse it to everybody else."""
    be_over(case)
    tasks.expire_cases()


def test_release_that_nobody_collects_is_destroyed_when_its_time_is_over(world: World, hsm: Hsm) -> None:
    case, _ = world.approved("carol", "dan")
    world.tick()
    assert (world.state(case), left(case)) == ("released", (0, 2, 1))
    run_out(case)
    assert (world.state(case), left(case)) == ("expired", (0, 0, 0))


def test_released_shares_are_destroyed_ninety_days_after_collection_in_batches(
    world: World, hsm: Hsm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "DESTROY_AT_ONCE", 1)
    phone, deposit = world.new_phone(), world.deposit()
    collected = []
    for _ in range(2):
        case = world.opened(deposit, phone=phone)
        for name in ("carol", "dan"):
            assert world.approve(case, name, deposit).status_code == 201
        world.tick()
        assert world.collect(case).status_code == 200
        collected.append(case)
    old = timezone.now() - timedelta(days=90, seconds=1)
    tasks.destroy_released()
    assert [left(case)[2] for case in collected] == [1, 1]
    Case.unscoped.update(collected_at=old)
    Release.unscoped.update(at=old)
    tasks.destroy_released()
    assert sorted(left(case)[2] for case in collected) == [0, 1]
    for _ in range(2):
        tasks.destroy_released()
    assert [left(case) for case in collected] == [(0, 0, 0)] * 2
    world.sequence()
    assert Entry.unscoped.filter(tag="recovery:release:destroy", refused="").count() == 2
    answer = world.collect(collected[0])
    assert (answer.status_code, "destroyed" in answer.json()["detail"]) == (409, True)
    # The record of the release stays: no case is released twice.
    assert Release.unscoped.count() == 2


def test_what_cannot_be_destroyed_keeps_nothing_else(world: World, hsm: Hsm, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest of them first, and only a few in a round: a case that fails for ever, of two deposits at that."""
    monkeypatch.setattr(tasks, "DESTROY_AT_ONCE", 1)
    phone, deposits = world.new_phone(), [world.deposit() for _ in range(2)]
    collected = []
    for _ in range(2):
        case = world.opened(*deposits, phone=phone)
        for name in ("carol", "dan"):
            assert world.approve(case, name, *deposits).status_code == 201
        world.tick()
        assert world.collect(case).status_code == 200
        collected.append(case)
    sick, well = collected
    for days, case in ((92, sick), (91, well)):
        Case.unscoped.filter(id=case.id).update(collected_at=timezone.now() - timedelta(days=days))
        Release.unscoped.filter(case_id=case.id).update(at=timezone.now() - timedelta(days=days))
    poison(sick)
    for _ in range(2):
        tasks.destroy_released()
    assert [left(case)[2] for case in collected] == [2, 0]


def test_what_awaits_a_share_is_kept_and_its_time_begins_anew_with_the_share(world: World, hsm: Hsm) -> None:
    case, deposit = awaiting(world, hsm)
    before = timezone.now() - timedelta(days=90, seconds=1)
    Case.unscoped.filter(id=case.id).update(collected_at=before)
    Release.unscoped.filter(case_id=case.id).update(at=before)
    with tenant_scope(world.tenant_id):
        collection.destroy_collected(case_id=case.id, actor=world.ceremony, after=tasks.DESTROY_AFTER)
    tasks.destroy_released()
    assert left(case) == (0, 2, 1)
    assert world.approve(case, "erin", deposit).status_code == 201
    for _ in range(2):
        world.tick()
    tasks.destroy_released()
    assert is_open(world, case, deposit)
    tasks.destroy_released()
    assert (world.state(case), left(case)) == ("collected", (0, 3, 1))


def test_share_is_not_reported_of_what_is_destroyed(world: World, hsm: Hsm) -> None:
    case, deposit = world.approved("carol", "dan")
    world.tick()
    assert world.collect(case).status_code == 200
    old = timezone.now() - timedelta(days=90, seconds=1)
    Case.unscoped.filter(id=case.id).update(collected_at=old)
    Release.unscoped.filter(case_id=case.id).update(at=old)
    tasks.destroy_released()
    answer = blame(world, case, deposit)
    assert (answer.status_code, answer.json()["code"], "destroyed" in answer.json()["detail"]) == (
        409,
        "case-moved",
        True,
    )


@pytest.mark.parametrize("why", ["denied", "vetoed", "cancelled", "expired", "held"])
def test_every_failed_end_destroys_the_sealed_shares_and_says_what_ended_it(world: World, hsm: Hsm, why: str) -> None:
    case, _ = world.approved("carol")
    assert SealedShare.unscoped.count() == 1
    with tenant_scope(world.tenant_id):
        finish_failed(world.row(case), CaseState(why))
    assert SealedShare.unscoped.count() == 0
    ended = case.phone.send("GET", case.path).json()["ended"]
    assert (ended["code"], bool(ended["text"])) == (why, True)
