# SPDX-License-Identifier: Apache-2.0
"""A person leaves: one act, whose preview says all of it; what was theirs stops, what is in escrow stays as it was.

ORGANISATION "People" (leaver), ESCROW "Case": nothing is released more easily afterwards than before.
"""

from __future__ import annotations

import time
import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.core import mail
from django.db import transaction

from audit.models import Entry
from holdfast.core.base.encoding import b64u
from holdfast.core.identity.acts import Standing
from kernel.clock import database_now
from kernel.scope import tenant_scope
from keys import access as keys
from recovery.cases import collection
from recovery.models import Case, ContactAnswer, ContactRequest
from tenants import access, administration, services
from tenants.acts import engine
from tenants.errors import NameTaken
from tenants.models import Credential, Mail, PendingAct, Person
from tenants.roles import Role
from tenants.states import PersonState
from tests.cast.administrators import Administrator, administrator
from tests.cast.browsers import text_of
from tests.cast.contacts import TrustedContacts
from tests.cast.founded import Hsm
from tests.cast.phones import Phone, audit_away
from tests.cast.tenants import PASSWORD, give_password, make_person
from tests.cast.world import OpenCase, World
from tests.keys.mail import events_of, fetched
from tests.recovery.cases.test_vetoes import by_the_log, quorate, veto

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgres]


@pytest.fixture
def olivia(world: World) -> Administrator:
    return administrator(world.cast.olivia)


def person(world: World, name: str) -> Person:
    found: Person = Person.unscoped.get(pk=world.cast.people[name].pk)
    return found


def left(world: World, olivia: Administrator, name: str = "alice") -> Any:
    answer = olivia.do("person-leave", person(world, name))
    assert answer.status_code == 302, text_of(answer)
    assert person(world, name).state == PersonState.LEFT
    return olivia.client.get(answer["location"])


def body_of(world: World, name: str = "alice", tag: str = "recovery:person:leave") -> dict[str, Any]:
    found: dict[str, Any] = Entry.unscoped.get(subject=str(person(world, name).pk), tag=tag).body
    return found


# What the act says before it is done.


def test_preview_names_what_stops_and_who_could_open_what(world: World, olivia: Administrator) -> None:
    world.deposit()
    world.deposit()
    world.build()  # announced, and never deposited
    words = text_of(olivia.look("person-leave", person(world, "alice")))
    assert "1 device is off for good" in words
    assert "Archive generations 1–2: Carol, Dan, Erin could release it today; 2 of them have to agree." in words
    assert "Archive generation 3: in use and never deposited. Nobody could ever open" in words
    assert "There is no way back" in words
    assert person(world, "alice").state == PersonState.ACTIVE


def test_preview_says_what_nobody_could_release_today(world: World, olivia: Administrator) -> None:
    world.deposit()
    with tenant_scope(world.tenant_id):
        for name in ("carol", "dan"):
            services.suspend_person(person=access.person(world.cast.people[name].pk), actor=world.ceremony)
    words = text_of(olivia.look("person-leave", person(world, "alice")))
    assert "Archive generation 1: nobody can release it today. 1 officer could agree, and 2 are needed." in words


def test_preview_names_service_accounts_and_cases(world: World, olivia: Administrator) -> None:
    actor = world.directory.phone("alice").actor()
    with tenant_scope(world.tenant_id):
        services.create_service_account(name="Backup robot", public_key=_key(), actor=actor)
    deposit = world.deposit("bob")
    case = world.opened(deposit, phone=world.directory.phone("alice"), subject=person(world, "bob").pk.bytes)
    words = text_of(olivia.look("person-leave", person(world, "alice")))
    assert "Service accounts that they made go on: Backup robot" in words
    assert f"Case {str(case.id)[:8]}, which they asked for, is cancelled." in words
    page = text_of(left(world, olivia))
    assert "Backup robot" in page


def _key() -> bytes:
    from holdfast.core.crypto.keys import SigningKey

    return SigningKey.generate().public.encoded


def test_preview_does_not_tell_a_subject_of_a_hidden_case(found: Any) -> None:
    """An owner about whom the leaver asked learns of it when its notice says, not by preview or report."""
    world = found(max_notice_delay_seconds=30 * 86_400)
    olivia, deposit = administrator(world.cast.olivia), world.deposit("olivia")
    at = int(time.time()) + 86_400
    hidden = world.opened(
        deposit, phone=world.directory.phone("alice"), subject=person(world, "olivia").pk.bytes, notice_at=at
    )
    words = text_of(olivia.look("person-leave", person(world, "alice")))
    assert str(hidden.id)[:8] not in words
    page = text_of(left(world, olivia))
    assert str(hidden.id)[:8] not in page
    assert world.state(hidden) == "cancelled"
    assert "cases" not in body_of(world)


# What it does.


def test_devices_sessions_codes_and_pre_keys_stop(world: World, olivia: Administrator) -> None:
    alice, bob = world.directory.phone("alice"), world.directory.phone("bob")
    alice.publish()
    assert bob.claim(alice).status_code == 200
    waiting = world.new_phone()
    browser = administrator(person(world, "alice"))
    assert browser.client.get("/me/").status_code == 200
    left(world, olivia)
    for phone in (alice, waiting):
        assert phone.send("GET", "/api/v1/devices").status_code == 401
    assert bob.claim(alice).status_code == 404
    assert browser.client.get("/me/").status_code == 302
    assert body_of(world)["sessions"] == 1
    with tenant_scope(world.tenant_id):
        assert not access.count_ways_in(alice.person.pk)
        assert keys.device(waiting.id).state == "revoked"
    assert set(Credential.unscoped.filter(person=alice.person).values_list("state", flat=True)) == {
        "suspended",
        "revoked",
    }


def write(sender: Phone, target: Phone) -> Any:
    letter = {"kind": "share", "message": b64u(bytes(64))}
    return sender.send("POST", f"{target.path}/messages", letter, idempotency_key=uuid.uuid4().hex)


def test_nobody_begins_to_write_to_them(world: World, olivia: Administrator) -> None:
    alice, bob = world.directory.phone("alice"), world.directory.phone("bob")
    assert write(bob, alice).status_code == 201
    left(world, olivia)
    assert write(bob, alice).status_code == 404


def test_nothing_new_comes_into_escrow_and_all_is_kept(world: World, olivia: Administrator) -> None:
    world.deposit()
    before, made = world.held(), world.build()
    left(world, olivia)
    assert world.upload(made).status_code == 401
    assert world.held() == before


def test_deposit_under_way_as_they_leave_is_refused(world: World, olivia: Administrator) -> None:
    """It was signed and let in a moment before: the lock that the act holds decides."""
    from escrow import services as escrow
    from holdfast.core.signed import cose
    from holdfast.core.signed.cose import Purpose
    from holdfast.core.signed.statements import DepositStatement
    from kernel.errors import Denied

    phone, made = world.directory.phone("alice"), world.build().to_record()
    import hashlib

    statement = DepositStatement(phone.header(), hashlib.sha256(made).digest())
    signed = cose.sign(statement.to_payload(), purpose=Purpose.DEPOSIT, key=phone.isk)
    with tenant_scope(world.tenant_id):
        prepared = escrow.prepare_deposit(record=made, statement=signed.encode(), actor=phone.actor())
    left(world, olivia)
    with tenant_scope(world.tenant_id), pytest.raises(Denied), transaction.atomic():
        escrow.accept_deposit(prepared=prepared, actor=phone.actor())
    assert not world.held()


def test_audit_entry_counts_and_the_person_is_told(world: World, olivia: Administrator) -> None:
    world.directory.phone("alice")
    page = text_of(left(world, olivia))
    assert body_of(world) == {"acts": 0, "devices": 1, "requests": 0, "sessions": 0, "ways_in": 0}
    assert Mail.unscoped.filter(kind="left", person=person(world, "alice")).exists()
    assert "Devices off for good" in page
    assert "To undo it" not in page


def test_without_its_entry_nobody_has_left(world: World, olivia: Administrator) -> None:
    alice = world.directory.phone("alice")
    page = olivia.look("person-leave", person(world, "alice"))
    code = olivia.code()
    with audit_away():
        answer = olivia.confirm(page, "person-leave", person(world, "alice"), code=code)
        assert "so nothing was done" in text_of(answer)
    assert person(world, "alice").state == PersonState.ACTIVE
    assert alice.send("GET", "/api/v1/devices").status_code == 200


def test_their_own_cases_are_cancelled(world: World, olivia: Administrator) -> None:
    deposit, phone = world.deposit(), world.new_phone()
    case = quorate(world, deposit, phone)
    left(world, olivia)
    assert (world.state(case), world.row(case).why) == ("cancelled", "requester-left")
    world.tick()
    assert world.state(case) == "cancelled"
    shown = world.directory.phone("carol").send("GET", case.path).json()
    assert "Whoever asked has left" in shown["ended"]["text"]


def test_requests_to_contacts_end_and_whoever_chose_them_is_told(world: World, olivia: Administrator) -> None:
    trusted = TrustedContacts.of(world.directory, "bob", ["alice", "carol", "dan"])
    assert trusted.storing(0).send().status_code == 204
    own = TrustedContacts.of(world.directory, "alice", ["bob", "carol", "dan"])
    assert own.storing(0).send().status_code == 204
    asking = own.ask(world.new_phone())
    own.give("bob", asking)
    left(world, olivia)
    assert ContactRequest.unscoped.get(pk=asking.id).state == "cancelled"
    assert not ContactAnswer.unscoped.filter(sealed__isnull=False).exists()
    mail.outbox.clear()
    world.work()
    assert "contact-left" in [event["event"] for event in events_of(fetched(world.directory.phone("bob")))]
    assert "contact-left" not in [event["event"] for event in events_of(fetched(world.directory.phone("carol")))]
    assert [one.to for one in mail.outbox if "trusted contacts has left" in one.subject] == [["bob@acme.test"]]


def test_acts_that_wait_are_withdrawn(world: World, olivia: Administrator) -> None:
    with tenant_scope(world.tenant_id):
        second = make_person("oscar", Role.OWNER)
        waiting = PendingAct.objects.create(
            act="person-shred",
            subject_id=world.cast.bob.pk,
            concerns_id=world.cast.bob.pk,
            proposer_id=second.pk,
            proposed_at=database_now(),
            expires_at=database_now() + engine.PENDING_LIFE,
        )
    world.cast.people["oscar"] = second
    left(world, olivia, "oscar")
    assert PendingAct.unscoped.get(pk=waiting.pk).state == "withdrawn"


# The archive of whoever left.


def collected_by_bob(world: World, case: OpenCase) -> Any:
    world.tick()
    answer = world.collect(case)
    assert answer.status_code == 200, answer.content
    return answer.json()


def test_officers_open_the_archive_of_whoever_left(found: Any, hsm: Hsm) -> None:
    world = found(undelivered_delay_seconds=1)
    olivia, deposit = administrator(world.cast.olivia), world.deposit()
    left(world, olivia)
    case = world.opened(deposit, phone=world.directory.phone("bob"))
    for name in ("carol", "dan"):
        assert world.approve(case, name, deposit).status_code == 201
    world.tick()
    time.sleep(2)
    document = collected_by_bob(world, case)
    opened = world.combine(case, deposit, document)
    assert opened.reveal() == world.archive_keys[deposit.header.deposit_id].reveal()
    # Nobody is left who could renew it: what was opened is sealed.
    with tenant_scope(world.tenant_id):
        collection.follow_rotation(case_id=case.id, actor=world.ceremony)
    assert world.state(case) == "sealed"


def test_case_about_whoever_left_takes_the_long_delay(found: Any, hsm: Hsm) -> None:
    world = found(delay_seconds=0, undelivered_delay_seconds=3600)
    olivia, deposit = administrator(world.cast.olivia), world.deposit()
    before = quorate(world, deposit, world.directory.phone("bob"))
    left(world, olivia)
    after = quorate(world, deposit, world.directory.phone("bob"))
    _settle(world)
    world.tick()
    for case in (before, after):
        row = world.row(case)
        assert row.state == "waiting"
        assert row.release_at is not None
        assert (row.release_at - database_now()).total_seconds() > 3000
    assert hsm.unwraps() == 0


def test_release_process_takes_the_long_delay_by_the_log_alone(found: Any, hsm: Hsm) -> None:
    """Whatever the rows say of when it is due."""
    world = found(delay_seconds=0, undelivered_delay_seconds=3600)
    olivia, deposit = administrator(world.cast.olivia), world.deposit()
    left(world, olivia)
    case = quorate(world, deposit, world.directory.phone("bob"))
    Case.unscoped.filter(id=case.id).update(release_at=database_now() - timedelta(seconds=1))
    world.tick()
    assert (world.state(case), hsm.unwraps()) == ("waiting", 0)


def _settle(world: World) -> None:
    from recovery import tasks

    tasks.settle_cases()


def test_device_of_whoever_left_still_forbids_and_does_nothing_else(
    world: World, olivia: Administrator, hsm: Hsm
) -> None:
    """ESCROW "Case": no one person's act ends a veto, and recording that somebody left is one."""
    deposit, alice = world.deposit(), world.directory.phone("alice")
    case = quorate(world, deposit, world.directory.phone("bob"))
    left(world, olivia)
    assert alice.send("GET", "/api/v1/devices").status_code == 401
    assert veto(case, alice).json()["state"] == "vetoed"
    assert by_the_log(world, case) == ("vetoed", 0)
    world.tick()
    assert (world.state(case), hsm.unwraps()) == ("vetoed", 0)


def test_their_device_is_not_let_go_on(world: World, olivia: Administrator) -> None:
    alice = world.directory.phone("alice")
    left(world, olivia)
    with tenant_scope(world.tenant_id):
        device = keys.device(alice.id)
    answer = olivia.client.post(f"/console/acts/device-resume/{device.id}/", {})
    assert answer.status_code == 409
    assert "Its owner has left" in text_of(answer)
    assert "device-resume" not in olivia.client.get(f"/console/devices/{alice.id}/").content.decode()


# Who cannot leave yet.


def test_officer_leaves_only_once_out_of_office(world: World, olivia: Administrator) -> None:
    world.deposit()
    for name in ("carol", "dan", "erin"):
        world.directory.phone(name)
    refused = olivia.look("person-leave", person(world, "carol"))
    assert refused.status_code == 409
    assert "is an officer of the escrow policy" in text_of(refused)
    world.stand("carol", Standing.REMOVED, by="dan")
    left(world, olivia, "carol")


def test_officer_without_whom_too_few_remain_stays(world: World, olivia: Administrator) -> None:
    world.deposit()
    for name in ("carol", "dan", "erin"):
        world.directory.phone(name)
    world.stand("carol", Standing.REMOVED, by="dan")
    refused = olivia.look("person-leave", person(world, "dan"))
    assert refused.status_code == 409
    assert "1 officers would remain, and 2 are needed" in text_of(refused)
    assert person(world, "dan").state == PersonState.ACTIVE


def test_officer_named_meanwhile_is_refused_at_the_confirmation(world: World, olivia: Administrator) -> None:
    """In the act's own transaction, under the officers' lock: not only when it was looked at."""
    from recovery.errors import OfficerInOffice
    from recovery.leaving import services as leaving

    with tenant_scope(world.tenant_id), pytest.raises(OfficerInOffice):
        leaving.leave(person=access.person(world.cast.carol.pk), actor=world.ceremony)
    assert person(world, "carol").state == PersonState.ACTIVE


def test_last_owner_and_oneself_stay(world: World, olivia: Administrator) -> None:
    assert olivia.look("person-leave", person(world, "olivia")).status_code == 409
    with tenant_scope(world.tenant_id):
        world.cast.people["oscar"] = make_person("oscar", Role.OWNER)
    oscar = administrator(person(world, "oscar"))
    services_answer = oscar.do("person-leave", person(world, "olivia"))
    assert services_answer.status_code == 302
    assert oscar.look("person-leave", person(world, "oscar")).status_code == 409


# Nobody comes back, and the address is free.


def test_whoever_left_never_comes_back_under_their_row(world: World, olivia: Administrator) -> None:
    left(world, olivia)
    for act in ("person-resume", "person-suspend", "person-resend", "person-role", "person-leave"):
        given = {"role": "member"} if act == "person-role" else {"how": "shown"} if act == "person-resend" else {}
        assert olivia.look(act, person(world, "alice"), **given).status_code == 409, act


def test_address_is_free_and_leads_to_the_new_person_alone(world: World, olivia: Administrator) -> None:
    old = person(world, "alice")
    give_password(old)
    left(world, olivia)
    client = olivia.client.__class__()
    typed = {"tenant": "acme", "email": "alice@acme.test", "password": PASSWORD}
    assert client.post("/console/sign-in/", typed).status_code != 302
    assert _found("alice@acme.test", world) is None
    answer = olivia.do("person-invite", email="Alice@acme.test", name="Alice the Second", role="member", how="shown")
    assert answer.status_code == 200, text_of(answer)
    new = _found("alice@acme.test", world)
    assert new is not None
    assert new.pk != old.pk
    # And once it is somebody's again, it is theirs alone.
    with tenant_scope(world.tenant_id), pytest.raises(NameTaken):
        services.create_person(email="alice@acme.test", name="Third", actor=world.ceremony)
    with tenant_scope(world.tenant_id), pytest.raises(NameTaken):
        administration.change_address(
            person=access.person(world.cast.bob.pk), email="alice@acme.test", actor=world.ceremony
        )


def _found(address: str, world: World) -> Person | None:
    with tenant_scope(world.tenant_id):
        return access.person_by_address(access.tenant(), address)
