# SPDX-License-Identifier: Apache-2.0
"""Enrolment and the reading of devices: what a code and a statement must say, and who may see whom."""

from __future__ import annotations

import json
import uuid
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from audit.models import Entry as AuditEntry
from holdfast.core.base.encoding import b64u, unb64u
from holdfast.core.crypto.keys import SigningKey
from holdfast.core.identity import chain_author
from holdfast.core.identity.chain import extend
from holdfast.core.identity.entries import Reason
from holdfast.core.signed import cose
from holdfast.core.signed.cose import Purpose, Sign1
from holdfast.core.signed.statements import DeviceStatement
from keys import devices
from keys.models import Device, Message
from tenants.models import Credential, EnrolmentCode, Person, RateWindow, Tenant
from tests.cast.phones import (
    Account,
    Directory,
    Phone,
    audit_away,
    enrol_document,
    enrolled,
    issue,
    new_phone,
    post_enrolment,
    successor,
)
from tests.keys.mail import acknowledge, fetched, send


@pytest.fixture
def phone(directory: Directory) -> Phone:
    """Alice's new phone, with a code issued for it."""
    made = new_phone(directory.world.alice)
    issue(made)
    return made


def resigned(phone: Phone, **changes: Any) -> str:
    """Return the phone's statement with fields changed, signed again by the phone."""
    statement = replace(DeviceStatement.open(phone.statement), **changes)
    return b64u(cose.sign(statement.to_payload(), purpose=Purpose.DEVICE, key=phone.isk).encode())


@pytest.mark.postgres
def test_enrol_makes_a_pending_device_that_can_be_listed_but_claims_nothing(directory: Directory, phone: Phone) -> None:
    bob = directory.phone("bob")
    bob.publish()
    answer = post_enrolment(phone)
    assert answer.status_code == 201
    document = answer.json()
    assert (document["device_id"], document["user_id"]) == (str(phone.id), str(phone.person.pk))
    assert document["state"] == "pending"
    assert [row["state"] for row in phone.send("GET", "/api/v1/devices").json()["devices"]] == ["pending"]
    assert phone.claim(bob).status_code == 403
    assert phone.send("PUT", "/api/v1/vault", {"statement": "AA", "blob": "AA"}, if_match='"0"').status_code == 403


def test_enrol_keeps_the_exact_statement_and_records_the_act(phone: Phone) -> None:
    post_enrolment(phone)
    row = Device.unscoped.get()
    assert bytes(row.statement) == phone.statement.encode()
    assert bytes(row.statement_hash) == phone.statement.payload_hash
    entry = AuditEntry.unscoped.get(tag="keys:device:enrol")
    assert entry.actor == f"device:{phone.id}"
    assert entry.body["statement"] == b64u(phone.statement.payload_hash)


@pytest.mark.postgres
def test_enrol_refuses_a_code_the_second_time(directory: Directory, phone: Phone) -> None:
    assert post_enrolment(phone).status_code == 201
    again = new_phone(phone.person, code=phone.code)
    refused = post_enrolment(again)
    assert (refused.status_code, refused.json()["code"]) == (401, "enrolment-refused")
    assert Device.unscoped.count() == 1


def test_enrol_refuses_a_code_that_is_somebody_elses(directory: Directory, phone: Phone) -> None:
    stranger = new_phone(directory.world.bob)
    refused = post_enrolment(stranger, code_secret=b64u(phone.code.secret.reveal()))
    assert refused.status_code == 401
    assert EnrolmentCode.unscoped.get().used_at is None


def test_enrol_refuses_a_statement_that_names_another_code_and_keeps_the_code(phone: Phone) -> None:
    refused = post_enrolment(phone, device_statement=resigned(phone, enrolment_hash=b"h" * 32))
    assert (refused.status_code, refused.json()["code"]) == (422, "device-mismatch")
    assert refused.json()["errors"][0]["field"] == "device_statement"
    assert EnrolmentCode.unscoped.get().used_at is None
    assert Credential.unscoped.count() == 0


def test_enrol_refuses_a_statement_of_a_user_who_is_not_its_person(directory: Directory, phone: Phone) -> None:
    refused = post_enrolment(phone, device_statement=resigned(phone, person=directory.world.bob.pk.bytes))
    assert (refused.status_code, refused.json()["code"]) == (422, "device-mismatch")


def test_enrol_refuses_a_statement_of_another_tenant(directory: Directory, phone: Phone) -> None:
    refused = post_enrolment(phone, tenant_id=str(directory.world.other.pk))
    assert (refused.status_code, refused.json()["code"]) == (422, "device-mismatch")


def test_enrol_refuses_a_forged_signature(phone: Phone) -> None:
    forged = cose.sign(phone.statement.payload, purpose=Purpose.DEVICE, key=SigningKey.generate())
    refused = post_enrolment(phone, device_statement=b64u(forged.encode()))
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid-signature")


def test_enrol_refuses_a_signature_made_for_another_purpose(phone: Phone) -> None:
    swapped = cose.sign(phone.statement.payload, purpose=Purpose.PREKEY, key=phone.isk)
    assert post_enrolment(phone, device_statement=b64u(swapped.encode())).json()["code"] == "invalid-signature"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("device_statement", "AA=="),
        ("device_statement", "A A"),
        ("device_statement", "AB"),
        ("device_statement", "é"),
        ("device_statement", 5),
        ("device_statement", None),
        ("code_secret", "AAAA"),
        ("tenant_id", "acme"),
        ("state", "active"),
    ],
)
def test_enrol_names_the_field_that_is_malformed(phone: Phone, field: str, value: object) -> None:
    refused = post_enrolment(phone, **{field: value})
    assert refused.status_code == 400
    assert [error["field"] for error in refused.json()["errors"]] == [field]


@pytest.mark.parametrize("cut", [0, 1, 40, -1])
def test_enrol_refuses_bytes_that_are_no_statement(phone: Phone, cut: int) -> None:
    refused = post_enrolment(phone, device_statement=b64u(phone.statement.encode()[:cut]))
    assert (refused.status_code, refused.json()["code"]) == (422, "malformed")


@pytest.mark.postgres
def test_enrol_refuses_a_device_id_that_is_in_use(directory: Directory, phone: Phone) -> None:
    post_enrolment(phone)
    again = new_phone(phone.person)
    header = DeviceStatement.open(phone.statement).header
    issue(again)
    refused = post_enrolment(again, device_statement=resigned(again, header=header))
    assert refused.status_code == 409
    assert Device.unscoped.count() == 1


@pytest.mark.postgres
def test_enrol_does_not_happen_when_the_audit_log_is_away(phone: Phone) -> None:
    with audit_away():
        assert post_enrolment(phone).status_code == 503
    assert (Device.unscoped.count(), Credential.unscoped.count()) == (0, 0)
    assert post_enrolment(phone).status_code == 201


@pytest.mark.postgres
def test_read_of_a_device_shows_its_statement_to_the_tenant_and_is_not_found_for_mallory(directory: Directory) -> None:
    alice, bob, mallory = (directory.phone(name) for name in ("alice", "bob", "mallory"))
    shown = bob.send("GET", alice.path).json()
    assert Sign1.parse(unb64u(shown["device_statement"])) == alice.statement
    assert (shown["user_id"], shown["state"], shown["suite"]) == (str(alice.person.pk), "active", 1)
    foreign = mallory.send("GET", alice.path)
    unknown = mallory.send("GET", f"/api/v1/devices/{uuid.uuid4()}")
    assert foreign.status_code == unknown.status_code == 404
    assert foreign.content == unknown.content


def test_list_of_devices_shows_ones_own_only(directory: Directory) -> None:
    alice, bob = directory.phone("alice"), directory.phone("bob")
    second = directory.account("alice").add_phone()
    shown = {row["device_id"] for row in alice.send("GET", "/api/v1/devices").json()["devices"]}
    assert shown == {str(alice.id), str(second.id)}
    assert str(bob.id) not in shown


def test_enrolment_document_of_the_tests_is_the_one_that_is_accepted(phone: Phone) -> None:
    assert set(enrol_document(phone)) == {"tenant_id", "code_secret", "device_statement"}
    assert post_enrolment(phone).status_code == 201


@pytest.mark.postgres
def test_refused_enrolments_cost_the_same_whoever_and_whatever_is_named(directory: Directory) -> None:
    """Known and unknown tenants and persons: the same statements and the same answer (FAULTS I9a)."""
    world = directory.world
    asleep, nobody, nowhere = new_phone(world.mallory), new_phone(world.bob), new_phone(world.bob)
    Person.unscoped.filter(pk=world.dan.pk).update(state="suspended")
    suspended, with_code, without = new_phone(world.dan), new_phone(world.alice), new_phone(world.carol)
    issue(new_phone(world.alice))
    Tenant.objects.filter(pk=world.other.pk).update(state="suspended")
    forged = [
        rewritten(nobody, person=uuid.uuid4()),
        rewritten(nowhere, tenant=uuid.uuid4()),
        *(enrol_document(phone) for phone in (asleep, suspended, with_code, without)),
    ]
    seen = set()
    for document in forged:
        with CaptureQueriesContext(connection) as queries:
            answer = Client().post("/api/v1/devices", document, content_type="application/json")
        statements = tuple(query["sql"].split()[0] for query in queries)
        body = {name: value for name, value in answer.json().items() if name != "server_time"}
        seen.add((answer.status_code, json.dumps(body), statements))
    assert len(seen) == 1, seen
    assert {status for status, _, _ in seen} == {401}


def rewritten(phone: Phone, *, person: uuid.UUID | None = None, tenant: uuid.UUID | None = None) -> dict[str, Any]:
    """The enrolment of a device whose statement names another person or tenant, signed as it must be."""
    whose = Person(id=person or phone.person.pk, tenant_id=tenant or phone.person.tenant_id)
    return enrol_document(new_phone(whose))


# Successors.


def post_successor(phone: Phone, new: Phone) -> Any:
    return phone.register_successor(new)


def succeed(account: Account, old: Phone, new: Phone, *, listed: bool = True) -> Any:
    """Revoke a device in the chain, and list another in the same upload."""
    first = account.phones[0]
    entries = [account.adding(new, by=first)] if listed else []
    revoked = chain_author.revoke_device(
        extend(account.chain, *entries),
        by=account.author(first),
        device=old.id.bytes,
        reason=Reason.DEVICE_RETIRED,
        since=0,
        new_aik=(aik := SigningKey.generate()),
    )
    answer = account.append(first, [*entries, *revoked])
    account.aik = aik
    return answer


@pytest.fixture
def pair(directory: Directory) -> tuple[Account, Phone, Phone]:
    """Alice with two devices that can be written to, and one message in each mailbox."""
    account = directory.account("alice")
    kept, old = account.add_phone(), account.add_phone()
    for phone in (kept, old):
        phone.publish(batches=[])
    assert send(directory.phone("bob"), account, b"waits", content=b64u(b"large")).status_code == 201
    return account, kept, old


@pytest.mark.postgres
def test_successor_is_pending_until_the_chain_lists_it_and_inherits_the_mailbox(
    pair: tuple[Account, Phone, Phone],
) -> None:
    account, _, old = pair
    new = successor(old)
    answer = post_successor(old, new)
    assert (answer.status_code, answer.json()["state"], answer.json()["device_id"]) == (201, "pending", str(new.id))
    assert fetched(new) == []
    assert succeed(account, old, new).status_code == 201
    (row,) = fetched(new)
    assert (row["to_device"], unb64u(row["message"]), row["has_content"]) == (str(old.id), b"waits", True)
    content = new.send("GET", f"/api/v1/messages/{row['message_id']}/content")
    assert unb64u(content.json()["content"]) == b"large"
    assert acknowledge(new, [row]).json() == {"deleted": 1}
    assert old.send("GET", "/api/v1/messages").status_code == 401


@pytest.mark.postgres
def test_successor_registered_by_a_thief_goes_with_the_stolen_device(pair: tuple[Account, Phone, Phone]) -> None:
    account, kept, stolen = pair
    theirs = successor(stolen)
    assert post_successor(stolen, theirs).status_code == 201
    assert succeed(account, stolen, theirs, listed=False).status_code == 201
    assert theirs.send("GET", "/api/v1/messages").status_code == 401
    assert {row.device_id for row in Message.unscoped.filter(kind="message")} == {kept.id}
    refused = account.append(kept, [account.adding(theirs, by=kept)])
    assert refused.json()["code"] == "chain-refused"


@pytest.mark.postgres
def test_successor_sent_again_is_answered_as_before_and_another_takes_its_place(
    pair: tuple[Account, Phone, Phone],
) -> None:
    _, _, old = pair
    first, second = successor(old), successor(old)
    answers = [post_successor(old, new) for new in (first, first, second)]
    assert [answer.status_code for answer in answers] == [201, 201, 201]
    assert answers[0].json()["device_id"] == answers[1].json()["device_id"] == str(first.id)
    states = {row.id: row.state for row in Device.unscoped.filter(successor_of=old.id)}
    assert states == {first.id: "revoked", second.id: "pending"}
    assert first.send("GET", "/api/v1/devices").status_code == 401
    assert [entry.subject for entry in AuditEntry.unscoped.filter(tag="keys:device:succeed").order_by("seq")] == [
        str(first.id),
        str(second.id),
    ]


@pytest.mark.postgres
def test_successor_takes_the_place_only_of_the_one_that_was_seen(pair: tuple[Account, Phone, Phone]) -> None:
    _, _, old = pair
    first, second = successor(old), successor(old)
    assert old.register_successor(first, if_match='""').status_code == 201
    for stale in ('""', f'"{b64u(bytes(32))}"'):
        refused = old.register_successor(second, if_match=stale)
        assert (refused.status_code, refused.json()["code"]) == (409, "successor-stale")
    assert old.register_successor(first, if_match='""').status_code == 201, "the same again, after a lost answer"
    rows = {row["device_id"]: row for row in old.send("GET", "/api/v1/devices").json()["devices"]}
    assert (rows[str(first.id)]["successor_of"], rows[str(old.id)]["successor_of"]) == (str(old.id), None)
    seen = Sign1.parse(unb64u(rows[str(first.id)]["device_statement"])).payload_hash
    assert old.register_successor(second, if_match=f'"{b64u(seen)}"').status_code == 201
    document = {"device_statement": b64u(second.statement.encode())}
    assert old.send("POST", "successor", document).json()["code"] == "if-match-missing"


def test_successor_is_refused_unless_it_is_the_owners_and_names_no_code(
    pair: tuple[Account, Phone, Phone], directory: Directory
) -> None:
    _, _, old = pair
    with_code, theirs = new_phone(old.person), successor(directory.phone("bob"))
    for wrong in (with_code, theirs):
        refused = post_successor(old, wrong)
        assert (refused.status_code, refused.json()["code"]) == (422, "device-mismatch")
        assert refused.json()["errors"][0]["field"] == "device_statement"
    known = post_successor(old, old)
    assert known.json()["code"] == "device-mismatch"


def test_successor_is_registered_by_the_device_itself_while_it_is_active(
    pair: tuple[Account, Phone, Phone], directory: Directory
) -> None:
    _, kept, old = pair
    pending = successor(old)
    assert post_successor(old, pending).status_code == 201
    document = {"device_statement": b64u(successor(old).statement.encode())}
    tag = old.waiting_tag
    assert kept.send("POST", f"{old.path}/successor", document, if_match=tag).status_code == 404
    assert directory.phone("mallory").send("POST", f"{old.path}/successor", document, if_match=tag).status_code == 404
    assert pending.send("POST", f"{pending.path}/successor", document, if_match='""').status_code == 403
    assert Device.unscoped.filter(successor_of__isnull=False).count() == 1


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"' + b'\\"' * 30_000])
def test_enrolment_is_counted_before_its_body_is_read(directory: Directory, body: bytes) -> None:
    """Whoever sends what is no enrolment at all is held to the same number of tries."""
    for _ in range(2):
        assert Client().post("/api/v1/devices", body, content_type="application/json").status_code == 400
    (window,) = RateWindow.objects.all()
    assert (window.key, window.count) == ("enrolment:127.0.0.1", 2)


# Devices that wait for the chain: a bounded number, for a bounded time.


@pytest.mark.postgres
def test_eleventh_device_that_waits_ends_the_one_that_has_waited_longest(
    directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    active = directory.phone("alice")
    kept = successor(active)
    assert active.register_successor(kept).status_code == 201
    monkeypatch.setattr(devices, "MAX_WAITING", 2)
    first, second, third = (enrolled(directory.world.alice) for _ in range(3))
    states = {row.id: str(row.state) for row in Device.unscoped.all()}
    assert [states[one.id] for one in (first, second, third)] == ["revoked", "pending", "pending"]
    assert (states[active.id], states[kept.id]) == ("active", "pending")
    assert first.send("GET", "/api/v1/devices").status_code == 401
    assert second.send("GET", "/api/v1/devices").status_code == 200
    entry = AuditEntry.unscoped.get(tag="keys:device:revoke")
    assert (entry.subject, entry.actor) == (str(first.id), f"device:{third.id}")


@pytest.mark.postgres
def test_device_that_has_waited_for_a_month_is_ended_by_the_sweep(directory: Directory) -> None:
    active = directory.phone("alice")
    kept = successor(active)
    assert active.register_successor(kept).status_code == 201
    old, fresh = enrolled(directory.world.alice), enrolled(directory.world.alice)
    others = Device.unscoped.exclude(id=fresh.id)
    others.update(created_at=timezone.now() - devices.WAITING_LIFE - timedelta(minutes=1))
    assert (devices.sweep_waiting(), devices.sweep_waiting()) == (1, 0)
    states = {row.id: str(row.state) for row in Device.unscoped.all()}
    assert states == {active.id: "active", kept.id: "pending", old.id: "revoked", fresh.id: "pending"}
    assert AuditEntry.unscoped.get(tag="keys:device:revoke").actor == "system:worker"
    assert old.send("GET", "/api/v1/devices").status_code == 401
