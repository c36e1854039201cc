# SPDX-License-Identifier: Apache-2.0
"""Who may decide a case, and what an approval is about (FAULTS P1 to P9)."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from holdfast.core.base.encoding import b64u, unb64u
from holdfast.core.identity import cases
from holdfast.core.identity.acts import Standing
from holdfast.core.identity.policy import GivenUp
from holdfast.core.log import merkle
from holdfast.core.signed import cose
from holdfast.core.signed.cose import Purpose
from holdfast.core.signed.payloads import Header
from kernel.actors import system_actor
from kernel.scope import tenant_scope
from recovery.cases import opening
from recovery.models import Approval, Case
from recovery.release import record
from tenants import services as tenants
from tests.cast.founded import Hsm
from tests.cast.phones import now
from tests.cast.world import World

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgres]

# Nothing, what is white, and what nobody sees.
BLANK = ("", " \t\n", "\u200b\u2060\u3164")


def test_open_case_refuses_a_reason_that_says_nothing(world: World) -> None:
    deposit, phone = world.deposit(), world.new_phone()
    for text in BLANK:
        answer = world.open(world.case(phone, deposit, reason=text))
        problem = answer.json()
        assert (answer.status_code, problem["code"], problem["errors"][0]["field"]) == (422, "case-refused", "case")
        assert "reason says nothing" in problem["detail"]
    assert not Case.unscoped.exists()


def test_open_case_refuses_a_requester_who_is_not_the_person_at_the_device(world: World) -> None:
    deposit, phone = world.deposit(), world.new_phone()
    carol = world.cast.carol.pk.bytes
    answer = world.open(world.case(phone, deposit, requester=carol))
    assert (answer.status_code, answer.json()["code"]) == (422, "case-refused")


def test_open_case_refuses_when_officers_have_other_keys_than_their_shares_were_sealed_to(world: World) -> None:
    """They have not lost their office, and have nothing to hand over: better known now than after the delay."""
    deposit = world.deposit()
    before = dict(world.founders)
    for name in ("dan", "erin"):
        world.add_founder(name)
    (held,) = world.held()
    made = replace(world.policy(m=2), given_up=GivenUp(1, merkle.leaf_hash(held.bytes)))
    world.publish(made, signers=before.values())
    answer = world.open(world.case(world.new_phone(), deposit))
    problem = answer.json()
    assert (answer.status_code, problem["code"], problem["eligible"], problem["needed"]) == (
        409,
        "too-few-officers",
        1,
        2,
    )


def test_officer_whom_a_waiting_version_takes_out_decides_until_it_is_in_force(world: World) -> None:
    """FAULTS P5, P8: m officers cannot shut out another's voice by publishing a roster without them."""
    deposit = world.deposit()
    with tenant_scope(world.tenant_id):
        tenants.change_role(person=world.cast.rex, role="officer", actor=world.ceremony)
    world.add_founder("rex")
    made = world.policy(m=2, names=("carol", "dan", "rex"))
    world.publish(made, signers=[world.founders[name] for name in ("carol", "dan")])
    case = world.opened(deposit, policy_hash=world.policies[0].hash)
    for name in ("carol", "erin"):
        assert world.approve(case, name, deposit).status_code == 201
    assert world.state(case) == "waiting"


def test_open_case_refuses_a_policy_that_is_neither_in_force_nor_the_newest(world: World) -> None:
    deposit = world.deposit()
    world.publish(world.policy(m=2, delay_seconds=600), signers=world.founders.values())
    answer = world.open(world.case(world.new_phone(), deposit, policy_hash=world.policies[0].hash))
    assert (answer.status_code, answer.json()["code"]) == (422, "case-refused")


def test_open_case_refuses_when_fewer_officers_are_eligible_than_the_policy_asks_for(world: World) -> None:
    deposit = world.deposit()
    for name in ("dan", "erin"):
        world.stand(name, Standing.SUSPENDED, by="carol")
    answer = world.open(world.case(world.new_phone(), deposit))
    problem = answer.json()
    assert (answer.status_code, problem["code"], problem["eligible"], problem["needed"]) == (
        409,
        "too-few-officers",
        1,
        2,
    )


@pytest.mark.parametrize("name", ["carol", "alice", "rex"])
def test_approve_is_refused_to_subject_requester_and_whoever_is_no_officer(world: World, name: str) -> None:
    # carol recovers alice's key to carol's own device: as requester and recipient carol decides nothing here.
    deposit = world.deposit()
    phone = world.directory.phone("carol")
    case = world.opened(deposit, phone=phone, purpose="legal")
    answer = (
        world.approve(case, "carol", deposit)
        if name == "carol"
        else world.directory.phone(name).send(
            "POST", f"{case.path}/approvals", world.signed_approval(case, "dan", [deposit])
        )
    )
    assert answer.status_code == 403
    if name == "carol":
        assert answer.json()["code"] == "not-eligible"
        assert "recovery:approval:refuse" in world.tags(case)
    assert Approval.unscoped.count() == 0


def test_approve_refuses_the_requester_on_a_second_device_too(world: World, hsm: Hsm) -> None:
    deposit = world.deposit()
    case = world.opened(deposit, phone=world.directory.phone("carol"), purpose="legal")
    second = world.directory.account("carol").add_phone()
    answer = second.send("POST", f"{case.path}/approvals", world.signed_approval(case, "carol", [deposit]))
    assert (answer.status_code, answer.json()["code"]) == (403, "not-eligible")
    world.approve(case, "dan", deposit)
    assert world.state(case) == "requested"


def test_approve_counts_an_officer_once_when_they_approve_twice(world: World, hsm: Hsm) -> None:
    case, deposit = world.approved("carol")
    assert world.approve(case, "carol", deposit).status_code == 201
    second = world.directory.account("carol").add_phone()
    document = world.signed_approval(case, "carol", [deposit])
    assert second.send("POST", f"{case.path}/approvals", document).status_code == 201
    assert (world.state(case), Approval.unscoped.count()) == ("requested", 1)
    world.tick()
    assert hsm.unwraps() == 0


def test_approve_refuses_an_approval_of_another_case(world: World) -> None:
    deposit, phone = world.deposit(), world.new_phone()
    mine, other = world.opened(deposit, phone=phone), world.opened(deposit, phone=phone)
    document = world.signed_approval(other, "carol", [deposit])
    answer = world.directory.phone("carol").send("POST", f"{mine.path}/approvals", document)
    assert (answer.status_code, answer.json()["code"]) == (422, "approval-refused")


def test_approve_refuses_a_statement_that_another_officer_signed(world: World) -> None:
    deposit = world.deposit()
    case = world.opened(deposit)
    document = world.signed_approval(case, "dan", [deposit])
    answer = world.directory.phone("carol").send("POST", f"{case.path}/approvals", document)
    assert (answer.status_code, answer.json()["code"]) == (422, "approval-refused")


def test_approve_refuses_shares_that_the_statement_does_not_name(world: World) -> None:
    deposit = world.deposit()
    case = world.opened(deposit)
    document = world.signed_approval(case, "carol", [deposit])
    document["shares"] = [[str(uuid.uuid4()), document["shares"][0][1]]]
    answer = world.directory.phone("carol").send("POST", f"{case.path}/approvals", document)
    assert (answer.status_code, answer.json()["code"]) == (422, "approval-refused")


def test_approve_refuses_the_browser_when_the_policy_takes_the_command_line_only(world: World) -> None:
    deposit = world.deposit()
    case = world.opened(deposit)
    document = world.signed_approval(case, "carol", [deposit], client_kind=cases.ClientKind.BROWSER)
    answer = world.directory.phone("carol").send("POST", f"{case.path}/approvals", document)
    assert (answer.status_code, answer.json()["code"]) == (422, "approval-refused")


@pytest.mark.parametrize(("act", "what"), [("approvals", "identity check"), ("deny", "reason of the denial")])
def test_decision_that_says_nothing_is_refused(world: World, act: str, what: str) -> None:
    deposit = world.deposit()
    case = world.opened(deposit)
    given = world.signed_approval(case, "carol", [deposit])
    approval = cases.Approval.from_payload(cose.Sign1.parse(unb64u(given["statement"])).payload)
    for text in BLANK:
        # Signed by a client that does not ask.
        blank = replace(approval, identity_check=text)
        if act == "deny":
            blank = replace(blank, approves=False, shares=())
        signed = cose.sign(blank.to_payload(), purpose=Purpose.APPROVAL, key=world.founders["carol"].signing_key)
        document = {"statement": b64u(signed.encode()), **({"shares": given["shares"]} if act == "approvals" else {})}
        answer = world.directory.phone("carol").send("POST", f"{case.path}/{act}", document)
        problem = answer.json()
        assert (answer.status_code, problem["errors"][0]["field"]) == (422, "statement"), problem
        assert f"the {what} says nothing" in problem["detail"]
    assert not Approval.unscoped.filter(case_id=case.id).exists()


@pytest.mark.parametrize("standing", [Standing.SUSPENDED, Standing.REMOVED, Standing.AWAY])
def test_release_returns_the_case_when_an_officer_left_after_approving(
    world: World, hsm: Hsm, standing: Standing
) -> None:
    case, deposit = world.approved("carol", "dan")
    world.stand("dan", standing, by="" if standing is Standing.AWAY else "erin")
    world.tick()
    assert (world.state(case), hsm.unwraps()) == ("requested", 0)
    assert world.approve(case, "erin", deposit).status_code == 201
    world.tick()
    assert (world.state(case), hsm.unwraps()) == ("released", 1)


def test_release_returns_the_case_when_an_officer_lost_the_role_after_approving(world: World, hsm: Hsm) -> None:
    case, _ = world.approved("carol", "dan")
    with tenant_scope(world.tenant_id):
        tenants.change_role(person=world.cast.dan, role="member", actor=world.ceremony)
    world.tick()
    assert (world.state(case), hsm.unwraps()) == ("requested", 0)


def test_begin_release_counts_rows_again_when_an_officer_left_a_moment_ago(world: World, hsm: Hsm) -> None:
    case, _ = world.approved("carol", "dan")
    world.sequence()
    # After the log was read, before the intent: only the rows know.
    world.stand("dan", Standing.SUSPENDED, by="erin")
    with tenant_scope(world.tenant_id):
        assert not record.begin_release(case_id=case.id, is_known=False, actor=system_actor(world.tenant_id, "release"))
    assert (world.state(case), hsm.unwraps()) == ("requested", 0)


def test_release_obeys_the_stricter_policy_when_m_is_raised_meanwhile(world: World, hsm: Hsm) -> None:
    world.add_founder("rex")
    case, deposit = world.approved("carol", "dan")
    with tenant_scope(world.tenant_id):
        tenants.change_role(person=world.cast.rex, role="officer", actor=world.ceremony)
    names = ("carol", "dan", "erin", "rex")
    raised = world.policy(m=3, names=names)
    world.publish(raised, signers=[world.founders[name] for name in ("carol", "dan")])
    world.tick()
    assert (world.state(case), hsm.unwraps()) == ("requested", 0)
    assert world.approve(case, "erin", deposit).status_code == 201
    world.tick()
    assert (world.state(case), hsm.unwraps()) == ("released", 1)


def test_release_still_asks_for_the_old_m_when_it_is_lowered_meanwhile(found: Callable[..., World], hsm: Hsm) -> None:
    world = found(cooling_off_seconds=0)
    world.add_founder("rex")
    with tenant_scope(world.tenant_id):
        tenants.change_role(person=world.cast.rex, role="officer", actor=world.ceremony)
    names = ("carol", "dan", "erin", "rex")
    signers = [world.founders[name] for name in ("carol", "dan", "erin")]
    world.publish(world.policy(m=3, names=names), signers=signers)
    case, _ = world.approved("carol", "dan")
    world.publish(world.policy(m=2, names=names), signers=signers)
    world.tick()
    assert (world.state(case), hsm.unwraps()) == ("requested", 0)


def test_new_officer_counts_only_after_the_cooling_off(world: World) -> None:
    world.add_founder("rex")
    with tenant_scope(world.tenant_id):
        tenants.change_role(person=world.cast.rex, role="officer", actor=world.ceremony)
    names = ("carol", "dan", "erin", "rex")
    world.publish(world.policy(m=2, names=names), signers=[world.founders[one] for one in ("carol", "dan")])
    deposit = world.deposit()
    case = world.opened(deposit)
    answer = world.approve(case, "rex", deposit)
    assert (answer.status_code, answer.json()["code"]) == (403, "not-eligible")


def test_deny_by_one_officer_ends_the_case_and_destroys_the_shares(world: World, hsm: Hsm) -> None:
    case, deposit = world.approved("carol")
    founder = world.founders["dan"]
    denial = cases.Approval(
        Header(world.tenant_id.bytes, founder.person, b"", now()),
        case.statement.payload_hash,
        (),
        world.policies[-1].hash,
        False,
        "not the voice",
        cases.ClientKind.CLI,
    )
    signed = cose.sign(denial.to_payload(), purpose=Purpose.APPROVAL, key=founder.signing_key)
    phone = world.directory.phone("dan")
    answer = phone.send("POST", f"{case.path}/deny", {"statement": b64u(signed.encode()), "reason": "somebody else"})
    assert (answer.status_code, world.state(case)) == (201, "denied")
    assert not Approval.unscoped.get(case_id=case.id, index=1).shares.exists()
    refused = world.approve(case, "erin", deposit)
    assert (refused.status_code, refused.json()["code"]) == (409, "case-moved")
    world.tick()
    assert hsm.unwraps() == 0


def test_case_names_several_deposits_of_one_subject_only(world: World) -> None:
    mine, bobs = world.deposit(), world.deposit("bob")
    phone = world.new_phone()
    answer = world.open(world.case(phone, mine, bobs))
    assert (answer.status_code, answer.json()["code"]) == (422, "case-refused")
    assert world.open(world.case(phone, mine, world.deposit())).status_code == 201


def test_open_case_refuses_a_changed_statement(world: World) -> None:
    case = world.case(world.new_phone(), world.deposit())
    forged = replace(case.statement, signature=bytes(64))
    answer = world.open(replace(case, statement=forged))
    assert (answer.status_code, answer.json()["code"]) == (422, "case-refused")


def test_open_case_refuses_the_eleventh_of_one_person_until_one_has_ended(
    world: World, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    monkeypatch.setattr(opening, "MAX_OPEN", 2)
    settings.HOLDFAST_CASES_PER_DAY = 3
    deposit, phone = world.deposit(), world.new_phone()
    first = world.opened(deposit, phone=phone)
    world.opened(deposit, phone=phone)
    refused = world.open(world.case(phone, deposit))
    assert (refused.status_code, refused.json()["code"], refused.json()["limit"]) == (
        409,
        "limit-reached",
        "open-cases",
    )
    assert Case.unscoped.count() == 2
    assert phone.send("POST", f"{first.path}/cancel", {}).status_code == 201
    third = world.opened(deposit, phone=phone)
    assert phone.send("POST", f"{third.path}/cancel", {}).status_code == 201
    refused = world.open(world.case(phone, deposit))
    assert (refused.status_code, refused.json()["code"]) == (429, "too-many-requests")
