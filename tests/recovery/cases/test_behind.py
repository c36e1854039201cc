# SPDX-License-Identifier: Apache-2.0
"""Who stands behind a case decides nothing in it: whoever enrolled its device, or let in whoever did or asks."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from django.core import mail

from audit.models import Entry
from holdfast.core.base.encoding import b64u, unb64u
from holdfast.core.base.secret import SecretBytes
from kernel.actors import Actor
from kernel.clock import database_now
from kernel.scope import tenant_scope
from keys import access as keys
from keys import devices
from keys.models import Device
from recovery import access
from recovery.cases import opening
from recovery.models import Case
from tenants import services as tenants
from tenants.models import EnrolmentCode, Person, Sponsorship
from tests.cast.founded import Hsm
from tests.cast.phones import Phone, new_phone, post_enrolment, successor
from tests.cast.tenants import make_person
from tests.cast.world import World

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.rounds("rules")]
CODES = "/api/v1/enrolment-codes"


def enrolled_by(world: World, *issuers: str, person: Person | None = None) -> Phone:
    """Enrol a device in a person's name, alice's unless told otherwise, by a code that these people issued."""
    phone = new_phone(person or world.cast.alice)
    body = {"person_id": str(phone.person.pk), "code_hash": b64u(phone.code.hash)}
    code = world.directory.phone(issuers[0]).send("POST", CODES, body)
    assert code.status_code == 201, code.content
    for name in issuers[1:]:
        path = f"{CODES}/{code.json()['id']}/confirm"
        answer = world.directory.phone(name).send("POST", path, {"person_id": str(phone.person.pk)})
        assert answer.status_code == 201, answer.content
    assert post_enrolment(phone).status_code == 201
    return phone


def why_not(world: World, phone: Phone, case: Any) -> dict[str, str]:
    names = {str(world.cast.people[name].pk): name for name in ("carol", "dan", "erin")}
    answer = phone.send("GET", case.path)
    assert answer.status_code == 200, answer.content
    return {names[row["person_id"]]: row["why_not"] for row in answer.json()["officers"]}


def told(phone: Phone) -> list[dict[str, str]]:
    """What the server put into a device's mailbox."""
    rows = phone.send("GET", "/api/v1/messages").json()["messages"]
    return [json.loads(unb64u(row["message"])) for row in rows if row["kind"] == "notice"]


def test_officer_who_asks_in_anothers_name_is_refused_to_the_end_and_the_person_is_told(world: World, hsm: Hsm) -> None:
    deposit, laptop = world.deposit(), world.directory.phone("alice")
    phone = enrolled_by(world, "carol")
    case = world.opened(deposit, phone=phone)

    # Carol, who has that device in hand, is told why; nothing that carol sends counts.
    words = "issued the code of the receiving device, or let in whoever did or whoever asks"
    assert why_not(world, world.directory.phone("carol"), case) == {"carol": words, "dan": "", "erin": ""}
    for path in ("approvals", "deny"):
        document = world.signed_approval(case, "carol", [deposit])
        answer = world.directory.phone("carol").send(
            "POST", f"{case.path}/{path}", document if path == "approvals" else {"statement": document["statement"]}
        )
        assert (answer.status_code, answer.json()["code"], answer.json()["why"]) == (403, "not-eligible", "behind")
    assert world.approve(case, "dan", deposit).status_code == 201
    world.tick()
    assert (world.state(case), hsm.unwraps()) == ("requested", 0)

    # Alice is told of each step, at the laptop and by mail.
    assert told(laptop) == [
        {"event": "code-issued", "by": str(world.cast.carol.pk)},
        {"event": "device-enrolled", "device_id": str(phone.id)},
        {"event": "case-opened", "case_id": str(case.id)},
    ]
    own = {sent.subject: str(sent.body) for sent in mail.outbox if sent.to == ["alice@acme.test"]}
    assert "Carol <carol@acme.test>" in own["An enrolment code was issued in your name"]
    assert str(phone.id) in own["A device was enrolled in your name"]
    assert str(case.id) in own["Somebody asked to open your escrowed keys"]

    # And ends it from there, in whose name it was opened.
    assert laptop.send("POST", f"{case.path}/cancel", {"reason": "Not me."}).status_code == 201


def test_no_code_of_anybodys_ends_what_the_persons_own_new_device_asks_for(world: World) -> None:
    """A pending device is whoever had its code: it ends its own case, and none of another device."""
    deposit, laptop = world.deposit(), world.directory.phone("alice")
    own, stolen = enrolled_by(world, "olivia"), enrolled_by(world, "carol")
    case = world.opened(deposit, phone=own)
    refused = stolen.send("POST", f"{case.path}/cancel", {"reason": "No longer needed."})
    assert (refused.status_code, refused.json()["code"], world.state(case)) == (403, "denied", "requested")
    assert "have an officer deny it" in refused.json()["detail"]
    # What it opened itself it ends, and no device is told what it did itself.
    its_own = world.opened(deposit, phone=stolen)
    assert stolen.send("POST", f"{its_own.path}/cancel", {}).status_code == 201
    assert told(stolen) == []
    # A device of the account ends any, and the one that asked hears of it.
    assert laptop.send("POST", f"{case.path}/cancel", {}).status_code == 201
    assert told(own) == [{"event": "case-cancelled", "case_id": str(case.id), "device_id": str(laptop.id)}]


def test_person_is_told_of_a_case_about_another_that_was_opened_in_their_name(world: World) -> None:
    desktop, phone = world.directory.phone("bob"), enrolled_by(world, "carol", person=world.cast.bob)
    case = world.opened(world.deposit(), phone=phone)
    assert told(desktop)[-1] == {"event": "case-opened", "case_id": str(case.id)}
    sent = {one.to[0]: str(one.body) for one in mail.outbox if "in your name" in one.subject and "case" in one.subject}
    assert sent.keys() == {"bob@acme.test"}
    assert f"holdfast recover escrow cancel --case {case.id}" in sent["bob@acme.test"]
    assert "case-opened" not in {one["event"] for one in told(world.directory.phone("alice"))}


def test_device_that_follows_another_has_the_same_people_behind_it(world: World) -> None:
    deposit, account = world.deposit(), world.directory.account("alice")
    first = enrolled_by(world, "carol")
    assert account.append(account.phones[0], [account.adding(first, by=account.phones[0])]).status_code == 201
    second = successor(first)
    assert first.register_successor(second).status_code == 201
    # However long ago: what carol gave out is still in that device, whoever stands behind alice by now.
    Sponsorship.unscoped.update(at=database_now() - timedelta(days=91))
    case = world.opened(deposit, phone=second)
    assert why_not(world, second, case)["carol"]
    assert Case.unscoped.get(id=case.id).behind == [str(world.cast.carol.pk)]
    assert world.followed().facts.enrolled_by[second.id.bytes] == {world.cast.carol.pk.bytes}


def test_release_process_leaves_out_whoever_stands_behind_by_the_log_alone(world: World, hsm: Hsm) -> None:
    """Rows that say otherwise make a quorum, and open nothing; they take over what the log says."""
    deposit = world.deposit()
    case = world.opened(deposit, phone=enrolled_by(world, "carol"))
    Case.unscoped.filter(id=case.id).update(behind=[])
    for name in ("carol", "dan"):
        assert world.approve(case, name, deposit).status_code == 201
    world.tick()
    row = world.row(case)
    assert (row.state, row.why, row.behind, hsm.unwraps()) == (
        "requested",
        "quorum-lost",
        [str(world.cast.carol.pk)],
        0,
    )


def test_case_goes_on_with_others_where_the_release_process_counts_fewer_days_than_the_rows(
    world: World, hsm: Hsm
) -> None:
    """Its count stands still while its machine is off: somebody's ninety days are over by the rows, and not by it."""
    deposit = world.deposit()
    enrolled_by(world, "carol")
    world.tick()
    Sponsorship.unscoped.update(at=database_now() - timedelta(days=91))
    case = world.opened(deposit)
    assert world.row(case).behind == []
    for name in ("carol", "dan"):
        assert world.approve(case, name, deposit).status_code == 201
    world.tick()
    assert (world.state(case), hsm.unwraps()) == ("requested", 0)
    waits = case.phone.send("GET", case.path).json()["waiting_for"]
    assert (waits["stuck"], "Officer 1 approved and issued the code" in waits["text"]) == (False, True), waits
    assert world.approve(case, "erin", deposit).json()["state"] == "waiting"
    world.tick()
    assert (world.state(case), hsm.unwraps()) == ("released", 1)


def test_release_goes_on_with_the_officers_who_stand_behind_nothing(world: World, hsm: Hsm) -> None:
    deposit = world.deposit()
    case = world.opened(deposit, phone=enrolled_by(world, "carol"))
    for name in ("dan", "erin"):
        assert world.approve(case, name, deposit).status_code == 201
    world.tick()
    assert (world.state(case), hsm.unwraps()) == ("released", 1)


def test_case_that_too_few_others_could_decide_is_refused_with_the_reason(world: World) -> None:
    """Whoever let in the issuer is behind as well: here both officers behind an owner's device."""
    deposit, olivia = world.deposit(), world.cast.olivia
    enrolled_by(world, "carol", "dan", person=olivia)
    phone = enrolled_by(world, "olivia")
    answer = world.open(world.case(phone, deposit))
    problem = answer.json()
    assert (answer.status_code, problem["code"], problem["eligible"], problem["needed"]) == (
        409,
        "too-few-officers",
        1,
        2,
    )
    assert "2 do not count since they issued the enrolment code of this device" in problem["detail"]
    assert "owner" in problem["detail"]
    # A device that olivia lets in after ninety days has olivia alone behind it: neither holds what they gave.
    Sponsorship.unscoped.filter(person_id=olivia.pk).update(at=database_now() - timedelta(days=91))
    Sponsorship.unscoped.filter(person_id=world.cast.alice.pk).delete()
    later = world.opened(deposit, phone=enrolled_by(world, "olivia"))
    assert world.row(later).behind == [str(olivia.pk)]


@pytest.mark.parametrize("act", ["invited", "gave a role", "reset"])
def test_whoever_let_in_the_requester_decides_nothing(act: str, world: World) -> None:
    deposit, actor = world.deposit(), world.directory.phone("carol").actor()
    with tenant_scope(world.tenant_id):
        if act == "invited":
            rita = tenants.create_person(email="rita@acme.test", name="Rita", role="reviewer", actor=actor)
        else:
            rita = make_person("rita", "member")
        if act == "gave a role":
            tenants.change_role(person=rita, role="reviewer", actor=actor)
        if act == "reset":
            tenants.set_password(person=rita, password=SecretBytes(b"correct horse battery"), actor=actor)
    world.cast.people["rita"] = rita
    case = world.opened(deposit, phone=world.new_phone("rita"))
    assert world.row(case).behind == [str(world.cast.carol.pk)]
    facts = world.followed().facts
    assert facts.cases[case.id.bytes].behind == {world.cast.carol.pk.bytes}


def test_programs_code_counts_as_of_whoever_made_its_account(world: World, hsm: Hsm) -> None:
    key, carol = world.founders["carol"].signing_key.public.encoded, world.directory.phone("carol").actor()
    with tenant_scope(world.tenant_id):
        account = tenants.create_service_account(name="helpdesk", public_key=key, actor=carol)
        phone = new_phone(world.cast.alice)
        program = Actor(world.tenant_id, "service", account.pk)
        tenants.issue_enrolment_code(person=phone.person, code_hash=phone.code.hash, actor=program)
    assert post_enrolment(phone).status_code == 201
    case = world.opened(world.deposit(), phone=phone)
    assert world.row(case).behind == [str(world.cast.carol.pk)]
    assert world.followed().facts.cases[case.id.bytes].behind == {world.cast.carol.pk.bytes}


def test_ceremonys_code_and_one_of_before_have_nobody_behind_them(world: World) -> None:
    deposit, phone = world.deposit(), world.new_phone()
    case = world.opened(deposit, phone=phone)
    assert world.row(case).behind == []
    old = enrolled_by(world, "carol")
    Device.unscoped.filter(id=old.id).update(behind=None)
    Sponsorship.unscoped.all().delete()
    assert world.row(world.opened(deposit, phone=old)).behind == []


def test_nobody_comes_to_stand_behind_themselves_or_for_longer_by_what_they_do_themselves(world: World) -> None:
    carol, dan, actor = world.cast.carol, world.cast.dan, world.directory.phone("dan").actor()
    with tenant_scope(world.tenant_id):
        tenants.change_role(person=carol, role="officer", actor=actor)
    before = Sponsorship.unscoped.get()
    phone = enrolled_by(world, "carol", person=carol)
    assert Device.unscoped.get(id=phone.id).behind == sorted([str(carol.pk), str(dan.pk)])
    after = Sponsorship.unscoped.get()
    assert (after.person_id, after.sponsor_id, after.at) == (carol.pk, dan.pk, before.at)
    world.sequence()
    facts = world.followed().facts
    assert facts.enrolled_by[phone.id.bytes] == {carol.pk.bytes, dan.pk.bytes}
    assert facts.sponsors[carol.pk.bytes].keys() == {dan.pk.bytes}


def test_enrolment_is_logged_with_its_code_and_both_people_behind_it(world: World) -> None:
    phone = enrolled_by(world, "carol", "olivia", person=world.cast.dan)
    body = Entry.unscoped.get(tag="keys:device:enrol", subject=str(phone.id)).body
    code = EnrolmentCode.unscoped.get(code_hash=phone.code.hash)
    people = world.cast.people
    assert (body["code"], body["issuer"], body["confirmer"]) == (
        str(code.pk),
        str(people["carol"].pk),
        str(people["olivia"].pk),
    )
    world.sequence()
    facts, both = world.followed().facts, {people[name].pk.bytes for name in ("carol", "olivia")}
    assert facts.enrolled_by[phone.id.bytes] == both
    assert facts.sponsors[people["dan"].pk.bytes].keys() == both


def test_log_of_another_device_than_the_case_names_is_held(world: World, hsm: Hsm) -> None:
    """An entry that names a clean device beside a case of a puppet's would leave nobody out."""
    deposit = world.deposit()
    case = world.opened(deposit, phone=enrolled_by(world, "carol"))
    for name in ("dan", "erin"):
        assert world.approve(case, name, deposit).status_code == 201
    world.sequence()
    with world.process() as process:
        process.follow_all()
        (tenant,) = process._tenants.values()
        tenant.log.facts.cases[case.id.bytes].recipient_device = bytes(16)
        process.tick()
    assert (world.state(case), hsm.unwraps()) == ("held", 0)


def test_officers_device_in_a_persons_name_uses_up_none_of_what_their_own_devices_may_open(
    world: World, settings: Any
) -> None:
    settings.HOLDFAST_CASES_PER_DAY = 3
    deposit, own = world.deposit(), world.directory.phone("alice")
    for phone in (enrolled_by(world, "carol"), own):
        for _ in range(3):
            assert world.open(world.case(phone, deposit)).status_code == 201
    # Three are all the same for whoever let a device in, however many devices they make.
    for phone in (enrolled_by(world, "carol"), own):
        refused = world.open(world.case(phone, deposit))
        assert (refused.status_code, refused.json()["code"]) == (429, "too-many-requests")


def test_cases_that_anothers_code_lets_be_opened_leave_the_persons_own_room(
    world: World, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.HOLDFAST_CASES_PER_DAY = 100
    monkeypatch.setattr(opening, "MAX_OPEN", 2)
    deposit, laptop, fresh = world.deposit(), world.directory.phone("alice"), enrolled_by(world, "olivia")
    for phone in (enrolled_by(world, "carol"), laptop, fresh):
        for _ in range(2):
            assert world.open(world.case(phone, deposit)).status_code == 201
    # Each is full by itself, by whichever device of theirs.
    for phone in (enrolled_by(world, "carol"), laptop, enrolled_by(world, "olivia")):
        refused = world.open(world.case(phone, deposit))
        assert (refused.status_code, refused.json()["limit"]) == (409, "open-cases")
    with tenant_scope(world.tenant_id):
        assert access.most_open_cases_seen(laptop.actor(), world.cast.alice.pk) == 2


def test_codes_of_another_neither_end_nor_keep_out_the_persons_own_new_device(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "MAX_WAITING", 2)
    deposit, own = world.deposit(), enrolled_by(world, "olivia")
    # Ones that a case is to bring back, which nothing ends to make room.
    first, second = enrolled_by(world, "carol"), enrolled_by(world, "carol")
    for phone in (first, second):
        world.opened(deposit, phone=phone)
    assert {str(Device.unscoped.get(id=one.id).state) for one in (own, first, second)} == {"pending"}
    full = new_phone(world.cast.alice)
    body = {"person_id": str(full.person.pk), "code_hash": b64u(full.code.hash)}
    assert world.directory.phone("carol").send("POST", CODES, body).status_code == 201
    assert post_enrolment(full).json()["limit"] == "waiting-devices"
    enrolled_by(world, "olivia")
    with tenant_scope(world.tenant_id):
        assert keys.most_waiting_devices(world.cast.alice.pk) == 2
