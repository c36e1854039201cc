# SPDX-License-Identifier: Apache-2.0
"""Which vetoes count towards the third, by the rows and by the release process, and what nobody can make up.

ESCROW "Case" (veto), and "What it believes of the log": each test has the process read the log by itself.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from audit.models import Entry
from holdfast.core.base.encoding import b64u, unb64u
from holdfast.core.crypto.keys import SigningKey
from holdfast.core.identity import cases
from holdfast.core.identity.roles import Roles
from holdfast.core.log.log_entry import LogEntry
from holdfast.core.log.merkle import leaf_hash, verify_inclusion
from holdfast.core.log.writers import Role
from holdfast.core.signed import cose
from holdfast.core.signed.cose import Purpose, Sign1
from kernel.scope import tenant_scope
from recovery.models import Case, Veto
from tests.cast.founded import Hsm
from tests.cast.phones import Phone
from tests.cast.world import OpenCase, World
from tests.recovery.release.test_believed import forge

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgres]


def signed_veto(case: OpenCase, phone: Phone, *, key: SigningKey | None = None) -> Sign1:
    statement = cases.Veto(phone.header(), case.statement.payload_hash, "This is not me.")
    return cose.sign(statement.to_payload(), purpose=Purpose.VETO, key=key or phone.isk)


def veto(case: OpenCase, phone: Phone) -> Any:
    return phone.send("POST", f"{case.path}/veto", {"statement": b64u(signed_veto(case, phone).encode())})


def quorate(world: World, deposit: Any, phone: Phone) -> OpenCase:
    case = world.opened(deposit, phone=phone)
    for name in ("carol", "dan"):
        assert world.approve(case, name, deposit).status_code == 201
    return case


def by_the_log(world: World, case: OpenCase) -> tuple[str, int]:
    """What the release process, which reads all of the log, has of a case: its stage, and officers above m."""
    world.sequence()
    found = world.followed().facts.cases[case.id.bytes]
    return found.stage, found.extra_officers


def test_vetoes_of_cases_without_a_quorum_use_up_nothing(world: World, hsm: Hsm) -> None:
    deposit, phone, alice = world.deposit(), world.new_phone(), world.directory.phone("alice")
    for _ in range(3):
        # Whoever asks in alice's name, and has alice veto.
        case = world.opened(deposit, phone=phone)
        assert world.approve(case, "carol", deposit).status_code == 201
        assert veto(case, alice).json()["state"] == "vetoed"
        assert by_the_log(world, case) == ("vetoed", 0)
    for _ in range(2):
        case = quorate(world, deposit, phone)
        assert veto(case, alice).json()["state"] == "vetoed"
        assert by_the_log(world, case) == ("vetoed", 0)
    third = quorate(world, deposit, phone)
    assert veto(third, alice).json()["state"] == "requested"
    assert by_the_log(world, third)[1] == 1
    assert world.approve(third, "erin", deposit).status_code == 201
    world.tick()
    assert (world.state(third), hsm.unwraps()) == ("released", 1)


def test_vetoes_of_ninety_days_ago_count_no_more(world: World) -> None:
    deposit, phone, alice = world.deposit(), world.new_phone(), world.directory.phone("alice")
    for _ in range(2):
        assert veto(quorate(world, deposit, phone), alice).json()["state"] == "vetoed"
    Veto.unscoped.update(at=timezone.now() - timedelta(days=90, seconds=1))
    assert veto(quorate(world, deposit, phone), alice).json()["state"] == "vetoed"


def test_veto_of_another_device_that_changes_nothing_is_refused_with_the_reason(world: World) -> None:
    """After a third one, which asks for an officer more and ends nothing."""
    deposit, phone, alice = world.deposit(), world.new_phone(), world.directory.phone("alice")
    account, other = world.directory.account("alice"), world.new_phone()
    assert account.append(alice, [account.adding(other, by=alice)]).status_code == 201
    for _ in range(2):
        assert veto(quorate(world, deposit, phone), alice).json()["state"] == "vetoed"
    third = quorate(world, deposit, phone)
    assert veto(third, alice).json()["state"] == "requested"
    answer = veto(third, other)
    assert (answer.status_code, answer.json()["code"], "one officer more" in answer.json()["detail"]) == (
        409,
        "case-moved",
        True,
    )
    # Its own, sent again, is there and proven.
    assert veto(third, alice).status_code == 201
    world.sequence()
    assert alice.send("GET", f"{third.path}/veto").status_code == 200


def test_web_process_makes_up_no_veto_that_counts(world: World, hsm: Hsm) -> None:
    """It writes entries with its own key, of whatever device and statement, and enrols devices of its own."""
    deposit, phone, alice = world.deposit(), world.new_phone(), world.directory.phone("alice")
    stranger = world.new_phone()
    forged = [(alice, b"x" * 32), (alice, None), (stranger, None)]
    for device, named in forged:
        case = quorate(world, deposit, phone)
        made_up = signed_veto(case, device, key=None if device is stranger else SigningKey.generate())
        with tenant_scope(world.tenant_id):
            # The row as well, for the stranger: a device of alice's that no chain lists.
            Veto.objects.create(
                case_id=case.id, device_id=device.id, statement=made_up.encode(), at=timezone.now(), counts=True
            )
        world.sequence()
        body: dict[str, Any] = {"q": case.statement.payload_hash, "device": str(device.id), "ends": 1}
        forge(
            world,
            Role.WEB,
            "recovery:case:veto",
            subject=str(case.id),
            **body,
            statement=named or made_up.payload_hash,
        )
        # It is never lost: whatever it is, it ends the case.
        assert by_the_log(world, case) == ("vetoed", 0)
        assert not world.followed().facts.vetoes
    Veto.unscoped.all().delete()
    case = quorate(world, deposit, phone)
    assert veto(case, alice).json()["state"] == "vetoed"
    assert by_the_log(world, case) == ("vetoed", 0)
    assert not world.followed().facts.wrong


def test_veto_that_nothing_bears_out_stops_the_release(world: World, hsm: Hsm) -> None:
    case, _ = world.approved("carol", "dan")
    forge(world, Role.WEB, "recovery:case:veto", subject=str(case.id), q=case.statement.payload_hash)
    world.tick()
    assert (world.state(case), world.row(case).why, hsm.unwraps()) == ("held", "vetoed-in-log", 0)


def test_quorum_is_what_officers_signed_and_not_what_the_web_process_says(world: World) -> None:
    deposit, phone, alice = world.deposit(), world.new_phone(), world.directory.phone("alice")
    for _ in range(3):
        case = world.opened(deposit, phone=phone)
        assert world.approve(case, "carol", deposit).status_code == 201
        q = case.statement.payload_hash
        forge(world, Role.WEB, "recovery:case:approve", subject=str(case.id), index=2, q=q, statement_hash=bytes(32))
        forge(world, Role.WEB, "recovery:case:quorum", subject=str(case.id), q=q)
        assert veto(case, alice).status_code == 201
        assert by_the_log(world, case) == ("vetoed", 0)
    assert not world.followed().facts.vetoes


def test_veto_of_another_case_or_in_another_name_is_refused(world: World) -> None:
    case, deposit = world.approved("carol")
    other = world.opened(deposit)
    alice, bob = world.directory.phone("alice"), world.directory.phone("bob")
    for wrong in (signed_veto(other, alice), signed_veto(case, alice, key=bob.isk), signed_veto(case, bob)):
        answer = alice.send("POST", f"{case.path}/veto", {"statement": b64u(wrong.encode())})
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "statement"), answer.content
    assert world.state(case) == "requested"


def test_veto_is_proven_to_its_device_once_the_log_has_it(world: World) -> None:
    case, _ = world.approved("carol")
    alice, path = world.directory.phone("alice"), f"{case.path}/veto"
    assert alice.send("GET", path).json()["code"] == "not-found"
    first = signed_veto(case, alice)
    for _ in range(2):
        # Sent again after the case has ended by it, it is no conflict.
        assert alice.send("POST", path, {"statement": b64u(first.encode())}).status_code == 201
    assert alice.send("GET", path).json()["code"] == "veto-not-logged-yet"
    assert Entry.unscoped.filter(tag="recovery:case:veto").count() == 1
    world.sequence()
    proof = alice.send("GET", path).json()
    roles = Roles.from_payload(
        Sign1.parse(unb64u(alice.send("GET", "/api/v1/audit/roles").json()["statement"])).payload
    )
    head, leaf = roles.open_head(proof["checkpoint"]), unb64u(proof["leaf"])
    verify_inclusion(
        leaf_hash(leaf),
        index=proof["leaf_index"],
        size=head.size,
        proof=[unb64u(one) for one in proof["proof"]],
        expected_root=head.root,
    )
    body = LogEntry.from_leaf(leaf).body
    assert (body["statement"], body["device"]) == (first.payload_hash, str(alice.id))
    assert unb64u(proof["statement"]) == first.encode()
    # Nobody else asks for it.
    for name in ("bob", "carol", "mallory"):
        assert world.directory.phone(name).send("GET", path).status_code == 404


def test_cases_of_a_day_are_limited_by_who_asks_and_by_whom_they_are_about(world: World, settings: Any) -> None:
    settings.HOLDFAST_CASES_PER_DAY = 3
    deposit, phone = world.deposit(), world.new_phone()
    carol, dan = (world.directory.phone(name) for name in ("carol", "dan"))
    for asker in (carol, carol, dan):
        assert world.open(world.case(asker, deposit, purpose="legal")).status_code == 201
    refused = world.open(world.case(dan, deposit, purpose="legal"))
    assert (refused.status_code, refused.json()["code"]) == (429, "too-many-requests")
    assert 0 < int(refused["retry-after"]) <= 86_400
    assert "about this person" in refused.json()["detail"]
    # What others ask about alice keeps alice from nothing, and what alice asks nobody else.
    for _ in range(3):
        assert world.open(world.case(phone, deposit)).status_code == 201
    refused = world.open(world.case(phone, deposit))
    assert (refused.status_code, "You have opened 3 cases today" in refused.json()["detail"]) == (429, True)
    assert int(refused["retry-after"]) > 0
    # What was not opened told nobody.
    assert Case.unscoped.count() == 6


def test_limit_is_three_a_day_unless_an_operator_says_otherwise() -> None:
    from config.env import ENV

    assert ENV.cases_per_day == 3
