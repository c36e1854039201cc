# SPDX-License-Identifier: Apache-2.0
"""Recovery by trusted contacts on the server: who may ask, who is told, what the delay holds back, what a veto ends.

PROTOCOL section 6; FAULTS R3, R5, R6, R7, R9, R14. Shares are real ones, sealed at rest by a real token.
"""

from __future__ import annotations

import threading
import uuid
from dataclasses import replace
from datetime import timedelta
from importlib import import_module
from typing import Any

import pytest
from django.db import DatabaseError, connection, transaction
from django.utils import timezone

from audit.models import Entry
from holdfast.core.base.encoding import b64u, unb64u
from holdfast.core.crypto.keys import SigningKey
from holdfast.core.signed.cose import Purpose, sign
from kernel import queue
from kernel.clock import database_now
from keys.records import create_tenant_master_key
from recovery import tasks
from recovery.contacts import services as contacts
from recovery.contacts.services import MAX_OPEN
from recovery.models import ContactAnswer, ContactRequest
from tests.cast.contacts import LIFE, PATH, Asking, TrustedContacts
from tests.cast.phones import Directory, Phone, issue, new_phone, post_enrolment
from tests.cast.unread import unread
from tests.keys.mail import events_of, fetched
from tests.keys.test_claim_storms import storm


@pytest.fixture
def directory(hsm: Any, db: None) -> Directory:
    made = Directory()
    for tenant in (made.world.acme, made.world.other):
        create_tenant_master_key(tenant.pk)
    return made


@pytest.fixture
def trusted(directory: Directory) -> TrustedContacts:
    made = TrustedContacts.of(directory, "alice", ["bob", "carol", "dan"])
    assert made.storing(0).send().status_code == 204
    return made


@pytest.fixture
def pending(trusted: TrustedContacts) -> Phone:
    return enrolled(trusted.directory, "alice")


@pytest.fixture
def delay(settings: Any) -> None:
    settings.HOLDFAST_CONTACTS_DELAY_SECONDS = 86_400


def enrolled(directory: Directory, name: str) -> Phone:
    phone = new_phone(directory.world.people[name])
    issue(phone)
    assert post_enrolment(phone).status_code == 201
    return phone


class Owner:
    """Whoever owns the database: they can take a trigger off, also in the middle of a transaction."""

    connection = connection

    @staticmethod
    def execute(sql: str) -> None:
        with connection.cursor() as cursor:
            cursor.execute(sql)


def earlier(asking: Asking, **times: Any) -> None:
    """Let time pass for a request: its own times move back, under the trigger that keeps them."""
    frozen = import_module("recovery.migrations.0004_contact_requests_end")
    frozen.thaw(None, Owner)
    ContactRequest.unscoped.filter(pk=asking.id).update(**times)
    frozen.freeze(None, Owner)


# The manifest.


@pytest.mark.postgres
def test_manifest_comes_back_to_every_live_device_of_its_owner(trusted: TrustedContacts, pending: Phone) -> None:
    alice = trusted.directory.phone("alice")
    stored = trusted.storing(1).document["manifest"]
    for phone in (alice, pending):
        answer = phone.send("GET", PATH)
        assert (answer.json()["version"], answer.headers["etag"]) == (1, '"1"')
    assert trusted.storing(1).send().status_code == 204
    assert alice.send("GET", PATH).json() == {"manifest": stored, "version": 2}
    assert trusted.directory.phone("bob").send("GET", PATH).status_code == 404


@pytest.mark.postgres
def test_manifest_is_not_written_over_a_version_that_was_not_read(trusted: TrustedContacts) -> None:
    other = TrustedContacts.of(trusted.directory, "alice", ["bob", "erin"])
    refused = other.storing(0).send()
    assert (refused.status_code, refused.json()["code"], refused.json()["version"]) == (409, "contacts-stale", 1)
    assert trusted.storing(0).send().status_code == 204, "the same again changes nothing"
    act = other.storing(1)
    assert [act.send().status_code, act.send().status_code] == [204, 204], "its answer was lost"
    assert Entry.unscoped.filter(tag="recovery:contacts:store").count() == 2


def test_manifest_is_refused_unless_the_owner_signed_it_for_people_of_their_tenant(
    directory: Directory, trusted: TrustedContacts
) -> None:
    alice, act = directory.phone("alice"), trusted.storing(1)
    stranger = sign(trusted.prepared.manifest.to_payload(), purpose=Purpose.SHARE_MANIFEST, key=SigningKey.generate())
    assert act.with_field("manifest", b64u(stranger.encode())).send().json()["code"] == "invalid-signature"
    refusals = []
    for contact in (directory.phone("mallory").person.pk.bytes, uuid.uuid4().bytes):
        rows = ((contact, b"c" * 32), *trusted.prepared.manifest.rows[1:])
        signed = sign(
            replace(trusted.prepared.manifest, rows=rows).to_payload(),
            purpose=Purpose.SHARE_MANIFEST,
            key=directory.account("alice").aik,
        )
        refusals.append(act.with_field("manifest", b64u(signed.encode())).send())
    assert [refused.json()["code"] for refused in refusals] == ["contacts-refused"] * 2
    assert refusals[0].content == refusals[1].content
    theirs = replace(trusted.prepared.manifest, header=directory.phone("bob").header())
    signed = sign(unread(theirs), purpose=Purpose.SHARE_MANIFEST, key=directory.account("alice").aik)
    assert act.with_field("manifest", b64u(signed.encode())).send().status_code == 422
    assert alice.send("GET", PATH).json()["version"] == 1


# The whole way.


@pytest.mark.postgres
def test_pending_device_gets_back_what_k_contacts_give(trusted: TrustedContacts, pending: Phone) -> None:
    asking = trusted.ask(pending)
    assert asking.read().json()["shares"] == []
    trusted.give("bob", asking)
    first = asking.read().json()
    assert (first["state"], first["answered"], len(first["shares"])) == ("open", 1, 1)
    trusted.give("carol", asking)
    second = asking.read().json()
    assert (second["state"], second["answered"], len(second["shares"])) == ("complete", 2, 2)
    assert len(trusted.opened(asking, second).reveal()) == 32
    assert asking.read().json() == second, "what was lost on the way comes again"
    tags = [entry.tag.rpartition(":")[2] for entry in Entry.unscoped.filter(tag__startswith="recovery:contact-request")]
    assert sorted(tags) == ["answer", "answer", "collect", "collect", "complete", "open"]


@pytest.mark.postgres
def test_shares_are_sealed_at_rest_and_given_only_to_the_device_that_asked(
    trusted: TrustedContacts, pending: Phone
) -> None:
    asking = trusted.ask(pending)
    sealed = trusted.sealed("bob", asking)
    act = trusted.giving("bob", asking).with_field("sealed", b64u(sealed))
    assert "shares" not in act.send().json()
    row = ContactAnswer.unscoped.get(sealed__isnull=False)
    assert sealed not in bytes(row.sealed)
    for name in ("alice", "bob", "carol"):
        shown = asking.read(trusted.directory.phone(name)).json()
        assert shown["answered"] == 1
        assert "shares" not in shown
    assert [unb64u(share["sealed"]) for share in asking.read().json()["shares"]] == [sealed]


@pytest.mark.postgres
def test_wrong_share_is_replaced_and_a_complete_request_still_takes_one(
    trusted: TrustedContacts, pending: Phone
) -> None:
    asking = trusted.ask(pending)
    wrong = trusted.giving("bob", asking).with_field("sealed", b64u(b"not a share"))
    assert wrong.send().status_code == 201
    trusted.give("carol", asking)
    assert asking.read().json()["state"] == "complete"
    trusted.give("bob", asking)
    document = asking.read().json()
    assert document["answered"] == 2
    assert len(trusted.opened(asking, document).reveal()) == 32


# Who is told.


@pytest.mark.postgres
def test_request_is_told_to_the_owners_devices_their_contacts_and_by_mail(
    trusted: TrustedContacts, pending: Phone, mailoutbox: list[Any]
) -> None:
    second = trusted.directory.account("alice").add_phone()
    asking = trusted.ask(pending)
    told = {
        "event": "contacts-request",
        "request_id": str(asking.id),
        "owner": str(pending.person.pk),
        "device_id": str(pending.id),
    }
    phones = [trusted.directory.phone(name) for name in ("alice", "bob", "carol", "dan")]
    assert [events_of(fetched(phone)) for phone in (*phones, second)] == [[told]] * 5
    assert fetched(trusted.directory.phone("erin")) == fetched(pending) == []
    queue.run_due(queue.MAIL)
    (mail,) = mailoutbox
    assert (mail.to, str(asking.id) in mail.body) == ([pending.person.email], True)
    assert mail.subject == "Your trusted contacts are asked for your vault"


@pytest.mark.postgres
def test_collection_and_veto_are_told_as_well(trusted: TrustedContacts, pending: Phone, mailoutbox: list[Any]) -> None:
    asking = trusted.ask(pending)
    for name in ("bob", "carol"):
        trusted.give(name, asking)
    asking.read()
    alice = trusted.directory.phone("alice")
    assert [event["event"] for event in events_of(fetched(alice))] == ["contacts-request", "contacts-collected"]
    again = trusted.ask(pending)
    again.end(alice, "veto")
    ended = events_of(fetched(trusted.directory.phone("bob")))[-1]
    assert (ended["event"], ended["state"], ended["request_id"]) == ("contacts-request-ended", "vetoed", str(again.id))
    queue.run_due(queue.MAIL)
    assert "Your trusted contacts gave their shares" in {mail.subject for mail in mailoutbox}


# Time.


@pytest.mark.postgres
@pytest.mark.usefixtures("delay")
def test_shares_wait_for_the_delay_and_contacts_do_not(trusted: TrustedContacts, pending: Phone) -> None:
    asking = trusted.ask(pending)
    for name in ("bob", "carol"):
        trusted.give(name, asking)
    held = asking.read().json()
    assert (held["state"], held["answered"]) == ("open", 2)
    assert "shares" not in held
    assert not Entry.unscoped.filter(tag="recovery:contact-request:collect").exists()
    earlier(asking, not_before=database_now() - timedelta(seconds=1))
    assert len(asking.read().json()["shares"]) == 2


@pytest.mark.usefixtures("delay")
def test_delay_is_measured_by_the_databases_clock(
    trusted: TrustedContacts, pending: Phone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FAULTS R6: a process whose clock runs ahead hands out nothing."""
    asking = trusted.ask(pending)
    trusted.give("bob", asking)
    real = timezone.now
    monkeypatch.setattr("django.utils.timezone.now", lambda: real() + timedelta(days=2))
    row = ContactRequest.unscoped.get(pk=asking.id)
    assert row.not_before < timezone.now()
    with trusted.directory.acme():
        assert contacts.open_shares(row) is None


@pytest.mark.usefixtures("delay")
def test_request_that_ends_before_the_delay_is_refused(trusted: TrustedContacts, pending: Phone) -> None:
    request, _ = trusted.made(pending, lasts=3600)
    refused = pending.send("POST", f"{PATH}/requests", {"request": b64u(request.to_payload())})
    assert (refused.status_code, refused.json()["code"]) == (422, "contacts-refused")


@pytest.mark.postgres
def test_expired_request_is_ended_by_the_worker_and_its_shares_are_destroyed(
    trusted: TrustedContacts, pending: Phone
) -> None:
    asking, alice = trusted.ask(pending), trusted.directory.phone("alice")
    complete = trusted.ask(alice)
    for name in ("bob", "carol"):
        trusted.give(name, asking)
        trusted.give(name, complete)
    assert complete.read().json()["state"] == "complete"
    tasks.expire_contact_requests()
    assert ContactAnswer.unscoped.filter(sealed__isnull=False).count() == 4
    for one in (asking, complete):
        earlier(one, expires_at=database_now() - timedelta(seconds=1))
    assert "shares" not in asking.read().json(), "also before the worker comes by"
    assert trusted.giving("dan", asking).send().json()["code"] == "contact-request-moved"
    tasks.expire_contact_requests()
    states = {one.id: ContactRequest.unscoped.get(pk=one.id).state for one in (asking, complete)}
    assert states == {asking.id: "expired", complete.id: "complete"}
    assert ContactAnswer.unscoped.filter(sealed__isnull=False).count() == 0
    assert asking.end(alice, "veto").json()["code"] == "contact-request-moved"
    tasks.expire_contact_requests()
    assert Entry.unscoped.filter(tag="recovery:contact-request:expire").count() == 1


# Ends.


@pytest.mark.postgres
@pytest.mark.parametrize("how", ["veto", "cancel"])
def test_ended_request_gives_nothing_and_takes_nothing(trusted: TrustedContacts, pending: Phone, how: str) -> None:
    asking, alice = trusted.ask(pending), trusted.directory.phone("alice")
    for name in ("bob", "carol"):
        trusted.give(name, asking)
    by = alice if how == "veto" else pending
    ended = asking.end(by, how)
    state = {"veto": "vetoed", "cancel": "cancelled"}[how]
    assert (ended.status_code, ended.json()["state"]) == (200, state)
    assert asking.end(by, how).status_code == 200, "its answer was lost"
    assert "shares" not in asking.read().json()
    assert ContactAnswer.unscoped.filter(sealed__isnull=False).count() == 0
    refused = trusted.giving("dan", asking).send()
    assert (refused.status_code, refused.json()["state"]) == (409, state)
    assert Entry.unscoped.filter(tag=f"recovery:contact-request:{how}").count() == 1


@pytest.mark.postgres
def test_ended_request_is_brought_back_by_no_code_at_all(trusted: TrustedContacts, pending: Phone) -> None:
    asking = trusted.ask(pending)
    asking.end(trusted.directory.phone("alice"), "veto")
    rows = ContactRequest.unscoped.filter(pk=asking.id)
    sooner = database_now() - timedelta(days=1)
    for change in ({"state": "open"}, {"not_before": sooner}, {"k": 1}, {"device_id": uuid.uuid4()}):
        with pytest.raises(DatabaseError, match="does not change so"), transaction.atomic():
            rows.update(**change)


@pytest.mark.postgres
def test_veto_between_the_opening_of_shares_and_their_handing_over_wins(
    trusted: TrustedContacts, pending: Phone
) -> None:
    asking = trusted.ask(pending)
    for name in ("bob", "carol"):
        trusted.give(name, asking)
    with trusted.directory.acme():
        opened = contacts.open_shares(ContactRequest.unscoped.get(pk=asking.id))
        assert opened is not None
        assert len(opened) == 2
        assert asking.end(trusted.directory.phone("alice"), "veto").status_code == 200
    with trusted.directory.acme():
        collected = contacts.collect(request_id=asking.id, opened=opened, actor=pending.actor("pending"))
    assert (collected.row.state, collected.shares) == ("vetoed", None)


@pytest.mark.postgres
def test_complete_request_is_past_a_veto(trusted: TrustedContacts, pending: Phone) -> None:
    asking = trusted.ask(pending)
    for name in ("bob", "carol"):
        trusted.give(name, asking)
    asking.read()
    refused = asking.end(trusted.directory.phone("alice"), "veto")
    assert (refused.status_code, refused.json()["code"]) == (409, "contact-request-moved")


# Who may.


@pytest.mark.postgres
def test_request_is_the_asking_devices_own(trusted: TrustedContacts, pending: Phone) -> None:
    alice, bob = trusted.directory.phone("alice"), trusted.directory.phone("bob")
    path = f"{PATH}/requests"
    request, _ = trusted.made(pending)
    for phone in (alice, bob):
        refused = phone.send("POST", path, {"request": b64u(request.to_payload())})
        assert (refused.status_code, refused.json()["code"]) == (422, "contacts-refused")
    other = replace(request, device_hash=b"d" * 32)
    refused = pending.send("POST", path, {"request": b64u(other.to_payload())})
    assert refused.json()["errors"][0]["field"] == "request"
    old = TrustedContacts.of(trusted.directory, "alice", ["bob", "erin"])
    request, _ = old.made(pending)
    assert pending.send("POST", path, {"request": b64u(request.to_payload())}).json()["code"] == "contacts-refused"
    assert ContactRequest.unscoped.count() == 0


@pytest.mark.postgres
def test_request_is_seen_ended_and_answered_by_those_concerned_only(trusted: TrustedContacts, pending: Phone) -> None:
    asking, cast = trusted.ask(pending), trusted.directory
    other = enrolled(cast, "alice")
    theirs = enrolled(cast, "bob")
    for phone in (cast.phone("erin"), cast.phone("mallory"), other, theirs):
        assert asking.read(phone).status_code == 404
        shown = phone.send("GET", f"{PATH}/requests?role=contact").json()
        assert shown == {"requests": [], "more": False}
    assert other.send("GET", f"{PATH}/requests").json() == {"requests": [], "more": False}
    assert [row["request_id"] for row in pending.send("GET", f"{PATH}/requests").json()["requests"]] == [str(asking.id)]
    listed = cast.phone("bob").send("GET", f"{PATH}/requests?role=contact").json()["requests"]
    assert [(row["request_id"], row["owner"]) for row in listed] == [(str(asking.id), str(pending.person.pk))]
    # A pending device vetoes nothing, and a device that did not ask withdraws nothing.
    assert asking.end(pending, "veto").status_code == 403
    assert asking.end(other, "cancel").status_code == 404
    for name in ("bob", "erin", "mallory"):
        assert asking.end(cast.phone(name), "veto").status_code == 404
    assert asking.end(cast.phone("alice"), "cancel").status_code == 404
    share = trusted.giving("bob", asking).document
    for phone, status in ((cast.phone("erin"), 404), (cast.phone("mallory"), 404), (theirs, 403)):
        assert phone.send("POST", f"{PATH}/requests/{asking.id}/shares", share).status_code == status
    assert ContactRequest.unscoped.get().state == "open"


@pytest.mark.postgres
def test_second_request_of_a_device_takes_the_place_of_its_first(trusted: TrustedContacts, pending: Phone) -> None:
    first = trusted.ask(pending)
    trusted.give("bob", first)
    second = trusted.ask(pending)
    assert [one.read().json()["state"] for one in (first, second)] == ["cancelled", "open"]
    assert ContactAnswer.unscoped.filter(sealed__isnull=False).count() == 0


@pytest.mark.postgres
def test_request_sent_again_is_answered_as_before(trusted: TrustedContacts, pending: Phone) -> None:
    act = trusted.asking(pending)
    first, again = act.send(), act.send()
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.content == again.content
    assert ContactRequest.unscoped.count() == 1
    assert len(fetched(trusted.directory.phone("alice"))) == 1


def test_requests_in_one_name_are_few(trusted: TrustedContacts) -> None:
    phones = [enrolled(trusted.directory, "alice") for _ in range(MAX_OPEN + 1)]
    codes = [trusted.asking(phone).send().status_code for phone in phones]
    assert codes == [201] * MAX_OPEN + [409]
    codes = [trusted.asking(phones[0]).send().status_code for _ in range(5)]
    assert codes == [201] * 4 + [429], "ten a day, whoever asks"


# Races.


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_storm_of_collection_and_veto_gives_all_or_nothing(hsm: Any, transactional_db: None) -> None:
    directory = Directory()
    create_tenant_master_key(directory.world.acme.pk)
    trusted = TrustedContacts.of(directory, "alice", ["bob", "carol"])
    assert trusted.storing(0).send().status_code == 204
    alice, outcomes = directory.phone("alice"), set()
    for turn in range(6):
        asking = trusted.ask(enrolled(directory, "alice"))
        for name in ("bob", "carol"):
            trusted.give(name, asking)
        answers: dict[int, Any] = {}
        lock = threading.Lock()

        def act(number: int, asking: Asking = asking, answers: dict[int, Any] = answers, lock: Any = lock) -> None:
            answer = asking.end(alice, "veto") if number == 0 else asking.read()
            with lock:
                answers[number] = answer

        storm(4, act)
        state = ContactRequest.unscoped.get(pk=asking.id).state
        given = [answers[number].json().get("shares") for number in (1, 2, 3)]
        if state == "vetoed":
            assert answers[0].status_code == 200
            assert not any(given), f"turn {turn}: a vetoed request gave shares"
        else:
            assert (state, answers[0].status_code) == ("complete", 409)
            assert any(given)
        outcomes.add(state)
    assert outcomes <= {"vetoed", "complete"}
    assert LIFE == 72 * 3600
