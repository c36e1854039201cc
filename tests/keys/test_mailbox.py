# SPDX-License-Identifier: Apache-2.0
"""The mailbox: to whom a message goes, once, until it is fetched; and who may write to whom (PROTOCOL section 4)."""

from __future__ import annotations

import json
import time
import uuid
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from audit.models import Entry
from holdfast.core.base.encoding import b64u, unb64u
from hsm import registry
from kernel import api
from kernel.models import ReplayableAnswer
from kernel.scope import tenant_scope
from keys import mailbox
from keys.models import ClaimBudget, Message, MessageContent, SignedPreKey
from tenants.tasks import sweep_plumbing
from tests.cast.phones import Account, Directory, Phone, issue, new_phone, post_enrolment
from tests.cast.tenants import make_service
from tests.keys.mail import acknowledge, document, events_of, fetched, letter, octets_of, post, send


@pytest.fixture
def alice(directory: Directory) -> Account:
    account = directory.account("alice")
    for _ in range(2):
        account.add_phone().publish(batches=[])
    return account


@pytest.fixture
def bob(directory: Directory) -> Phone:
    return directory.phone("bob")


def pending_of(account: Account) -> Phone:
    phone = new_phone(account.person)
    issue(phone)
    assert post_enrolment(phone).status_code == 201
    return phone


@pytest.mark.postgres
def test_send_reaches_every_active_device_once_and_ack_empties_the_mailbox(alice: Account, bob: Phone) -> None:
    answer = send(bob, alice, b"sealed", content=b64u(b"large"))
    assert answer.status_code == 201
    assert {row["device_id"] for row in answer.json()["messages"]} == {str(one.id) for one in alice.phones}
    for phone in alice.phones:
        (row,) = fetched(phone)
        assert (row["kind"], row["sender_user"], row["sender_device"]) == ("message", str(bob.person.pk), str(bob.id))
        assert (row["to_device"], unb64u(row["message"]), row["has_content"]) == (str(phone.id), b"sealed", True)
        content = phone.send("GET", f"/api/v1/messages/{row['message_id']}/content")
        assert unb64u(content.json()["content"]) == b"large"
        assert acknowledge(phone, [row]).json() == {"deleted": 1}
        assert acknowledge(phone, [row]).json() == {"deleted": 0}
        assert fetched(phone) == []
        assert phone.send("GET", f"/api/v1/messages/{row['message_id']}/content").status_code == 404
    assert (Message.unscoped.count(), MessageContent.unscoped.count()) == (0, 0)


def test_content_stays_until_the_last_message_that_names_it_is_acknowledged(alice: Account, bob: Phone) -> None:
    send(bob, alice, content=b64u(b"large"))
    acknowledge(alice.phones[0], fetched(alice.phones[0]))
    assert MessageContent.unscoped.count() == 1
    acknowledge(alice.phones[1], fetched(alice.phones[1]))
    assert MessageContent.unscoped.count() == 0


@pytest.mark.postgres
def test_send_to_oneself_reaches_every_other_device(alice: Account) -> None:
    phone, other = alice.phones
    assert post(phone, alice, document(alice)).json()["errors"][0]["field"] == "envelopes"
    assert post(phone, alice, document(alice, to=[other])).status_code == 201
    assert (len(fetched(phone)), len(fetched(other))) == (0, 1)


@pytest.mark.postgres
def test_send_on_a_stale_head_is_told_the_newer_one(alice: Account, bob: Phone) -> None:
    old = document(alice)
    alice.append(alice.phones[0], [alice.generation(alice.phones[0])])
    refused = post(bob, alice, old)
    assert (refused.status_code, refused.json()["code"]) == (409, "chain-stale")
    assert (refused.json()["head"], refused.json()["seq"]) == (b64u(alice.chain.head), alice.chain.seq)
    assert Message.unscoped.count() == 0
    assert post(bob, alice, document(alice)).status_code == 201


@pytest.mark.parametrize("to", ["none of one", "twice", "a stranger's", "a pending one"])
def test_send_for_other_devices_than_the_active_ones_is_refused(
    alice: Account, bob: Phone, directory: Directory, to: str
) -> None:
    first, second = alice.phones
    wrong = {
        "none of one": [first],
        "twice": [first, second, second],
        "a stranger's": [first, second, directory.phone("mallory")],
        "a pending one": [first, second, pending_of(alice)],
    }[to]
    refused = post(bob, alice, document(alice, to=wrong))
    assert (refused.status_code, refused.json()["code"]) == (422, "envelopes-mismatch")
    assert refused.json()["errors"][0]["field"] == "envelopes"
    assert Message.unscoped.count() == 0


@pytest.mark.postgres
def test_device_whose_pre_key_expired_may_be_left_out_and_may_be_written_to(alice: Account, bob: Phone) -> None:
    first, second = alice.phones
    published = SignedPreKey.unscoped.filter(device_id=second.id, is_current=True)
    for expires_at in (1, int(time.time()) + 200):
        assert published.update(expires_at=expires_at) == 1
        assert post(bob, alice, document(alice, to=[first])).status_code == 201
        assert post(bob, alice, document(alice)).status_code == 201
    for expires_at in (0, int(time.time()) + 400):
        published.update(expires_at=expires_at)
        refused = post(bob, alice, document(alice, to=[first]))
        assert (refused.status_code, refused.json()["code"]) == (422, "envelopes-mismatch")


@pytest.mark.postgres
def test_send_repeated_under_its_key_delivers_once_and_is_answered_as_before(alice: Account, bob: Phone) -> None:
    body = document(alice)
    first, again = (post(bob, alice, body, key="k") for _ in range(2))
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.content == again.content
    assert Message.unscoped.count() == 2
    # The answer stands also when the chain has moved on meanwhile: the message was delivered.
    alice.append(alice.phones[0], [alice.generation(alice.phones[0])])
    assert post(bob, alice, body, key="k").content == first.content
    other = post(bob, alice, document(alice), key="k")
    assert (other.status_code, other.json()["code"]) == (422, "idempotency-key-reused")


@pytest.mark.postgres
def test_send_repeated_is_answered_as_before_also_when_it_would_be_refused_now(alice: Account, bob: Phone) -> None:
    body, key = document(alice), uuid.uuid4().hex
    first = post(bob, alice, body, key=key)
    assert alice.append(alice.phones[0], [alice.generation(alice.phones[0])]).status_code == 201
    again = post(bob, alice, body, key=key)
    assert (again.status_code, again.content) == (201, first.content)
    assert again.headers["idempotent-replay"] == "true"
    refused = post(bob, alice, body)
    assert (refused.status_code, refused.json()["code"]) == (409, "chain-stale")
    other = post(bob, alice, document(alice), key=key)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency-key-reused")


@pytest.mark.postgres
def test_send_passes_over_a_device_that_has_published_no_pre_key_yet(alice: Account, bob: Phone) -> None:
    """Nobody can encrypt for it, so it must not keep everybody from writing to the others."""
    fresh = alice.add_phone()
    assert post(bob, alice, document(alice)).json()["code"] == "envelopes-mismatch"
    assert post(bob, alice, document(alice, to=alice.phones[:2])).status_code == 201
    fresh.publish(batches=[])
    assert post(bob, alice, document(alice)).status_code == 201
    assert [len(fetched(phone)) for phone in alice.phones] == [2, 2, 1]


def test_send_without_an_idempotency_key_is_refused(alice: Account, bob: Phone) -> None:
    refused = bob.send("POST", f"{alice.path}/messages", document(alice))
    assert (refused.status_code, refused.json()["code"]) == (400, "idempotency-key-missing")
    refused = bob.send("POST", f"{alice.phones[0].path}/messages", {"kind": "share", "message": "AA"})
    assert (refused.status_code, refused.json()["code"]) == (400, "idempotency-key-missing")


@pytest.mark.parametrize("message", ["AA=", "A", 5, None, b64u(b"x" * (64 * 1024 + 1))])
def test_send_names_the_envelope_that_is_malformed(alice: Account, bob: Phone, message: object) -> None:
    body = document(alice)
    body["envelopes"][1]["message"] = message
    answer = post(bob, alice, body)
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, "envelopes[1].message")


@pytest.mark.postgres
def test_messages_come_oldest_first_and_make_room_for_what_follows(alice: Account, bob: Phone) -> None:
    phone = alice.phones[0]
    for number in range(5):
        send(bob, alice, bytes([number]))
    first = fetched(phone, 3)
    assert octets_of(first) == [b"\0", b"\1", b"\2"]
    acknowledge(phone, first)
    assert octets_of(fetched(phone, 3)) == [b"\3", b"\4"]
    for limit, more in ((1, True), (2, False), (3, False)):
        assert phone.send("GET", f"/api/v1/messages?limit={limit}").json()["more"] is more


def test_page_ends_before_it_is_larger_than_a_client_takes(alice: Account, bob: Phone) -> None:
    for _ in range(20):
        assert send(bob, alice, b"x" * 64 * 1024).status_code == 201
    answer = alice.phones[0].send("GET", "/api/v1/messages?limit=100")
    assert (len(answer.json()["messages"]), answer.json()["more"]) == (16, True)
    assert len(answer.content) < 2 * 1024 * 1024


def test_message_of_another_device_is_neither_shown_nor_deleted(alice: Account, bob: Phone) -> None:
    send(bob, alice, content=b64u(b"large"))
    mine, other = alice.phones
    (row,) = fetched(other)
    assert mine.send("GET", f"/api/v1/messages/{row['message_id']}/content").status_code == 404
    assert acknowledge(mine, [row]).json() == {"deleted": 0}
    assert acknowledge(bob, [row]).json() == {"deleted": 0}
    assert len(fetched(other)) == 1


@pytest.mark.postgres
def test_message_is_not_found_for_mallory(alice: Account, bob: Phone, directory: Directory) -> None:
    mallory = directory.phone("mallory")
    send(bob, alice, content=b64u(b"large"))
    (row,) = fetched(alice.phones[0])
    foreign = mallory.send("GET", f"/api/v1/messages/{row['message_id']}/content")
    unknown = mallory.send("GET", f"/api/v1/messages/{uuid.uuid4()}/content")
    assert (foreign.status_code, foreign.content) == (404, unknown.content)
    assert acknowledge(mallory, [row]).json() == {"deleted": 0}
    assert post(mallory, alice, document(alice)).status_code == 404
    assert letter(mallory, alice.phones[0], kind="share").status_code == 404
    assert len(fetched(alice.phones[0])) == 1


def test_send_to_a_user_without_a_chain_is_not_found(alice: Account, bob: Phone, directory: Directory) -> None:
    nobody = Account(directory.world.people["dan"], state=alice.state, phones=alice.phones)
    assert post(bob, nobody, document(nobody)).status_code == 404


# Who may write to whom.


@pytest.mark.postgres
def test_letter_of_a_pending_device_reaches_its_own_users_devices_only(alice: Account, bob: Phone) -> None:
    new, old = pending_of(alice), alice.phones[0]
    assert letter(new, old, kind="pairing", octets=b"hello").status_code == 201
    assert letter(old, new, octets=b"key").status_code == 201
    assert octets_of(fetched(old)) == [b"hello"]
    assert octets_of(fetched(new)) == [b"key"]
    assert letter(new, bob, kind="share").status_code == 404
    assert letter(bob, new, kind="share").status_code == 404
    assert letter(new, bob).content == letter(new, Phone(**{**vars(bob), "id": uuid.uuid4()})).content
    assert post(new, alice, document(alice)).json()["code"] == "denied"


def test_letter_between_users_reaches_an_active_device(alice: Account, bob: Phone) -> None:
    assert letter(alice.phones[0], bob, kind="share", content=b64u(b"large")).status_code == 201
    (row,) = fetched(bob)
    assert (row["kind"], row["sender_user"], row["has_content"]) == ("share", str(alice.person.pk), True)


def test_message_for_one_device_is_between_active_devices_alone(
    alice: Account, bob: Phone, directory: Directory
) -> None:
    """An acknowledgement, or what that device did not read: a pending device has no session, an auditor none either."""
    first, second = alice.phones
    new, otto = pending_of(alice), directory.phone("otto")
    for sender in (bob, second):
        assert letter(sender, first, kind="message", octets=b"m", content=b64u(b"large")).status_code == 201
    assert [(row["kind"], row["sender_device"]) for row in fetched(first)] == [
        ("message", str(bob.id)),
        ("message", str(second.id)),
    ]
    for sender, to in ((new, first), (new, bob), (first, new), (bob, new), (otto, first), (otto, otto)):
        assert letter(sender, to, kind="message").status_code == 404
    assert fetched(second) == []


def test_message_for_one_device_has_the_room_and_the_budget_of_messages(
    alice: Account, bob: Phone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mailbox, "MESSAGES", replace(mailbox.MESSAGES, messages_of_one=2))
    codes = [letter(bob, alice.phones[0], kind="message").status_code for _ in range(3)]
    assert codes == [201, 201, 409]
    assert letter(bob, alice.phones[0], kind="share").status_code == 201


@pytest.mark.parametrize("kind", ["notice", "", 5])
def test_letter_of_another_kind_is_refused(alice: Account, bob: Phone, kind: Any) -> None:
    refused = letter(bob, alice.phones[0], kind=kind)
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (400, "kind")


def test_auditor_writes_to_their_own_devices_only(alice: Account, directory: Directory) -> None:
    otto = directory.phone("otto")
    second = directory.account("otto").add_phone()
    assert letter(otto, second).status_code == 201
    assert letter(otto, alice.phones[0], kind="share").status_code == 404
    assert post(otto, alice, document(alice)).json()["code"] == "denied"


def test_service_account_has_no_mailbox(alice: Account) -> None:
    from django.test import Client

    siem = make_service(alice.person.tenant)
    assert siem.send(Client(), "GET", "/api/v1/messages").json()["code"] == "denied"


# Revocation.


@pytest.mark.postgres
def test_revocation_deletes_what_waits_for_the_device_and_stops_what_follows(alice: Account, bob: Phone) -> None:
    kept, lost = alice.phones
    before = document(alice)
    send(bob, alice, content=b64u(b"large"))
    letter(kept, lost)
    letter(kept, lost, kind="message")
    assert alice.revoke(lost, by=kept).status_code == 201
    assert {row.device_id for row in Message.unscoped.all()} == {kept.id}
    # Of a letter nobody is told: what it was for is done anew.
    told = [event for event in events_of(fetched(kept)) if event["event"] == "messages-dropped"]
    assert sorted(told, key=lambda event: event["by"]) == [
        {"event": "messages-dropped", "device_id": str(lost.id), "by": str(sender), "messages": "1"}
        for sender in sorted((bob.person.pk, alice.person.pk), key=str)
    ]
    refused = post(bob, alice, before)
    assert (refused.status_code, refused.json()["code"]) == (409, "chain-stale")
    assert letter(bob, lost, kind="share").status_code == 404
    assert letter(kept, lost).status_code == 404
    assert post(bob, alice, document(alice)).status_code == 201
    acknowledge(kept, fetched(kept))
    assert MessageContent.unscoped.count() == 0


# Bounds.


@pytest.mark.postgres
def test_full_mailbox_is_told_and_room_is_made_by_fetching(
    alice: Account, bob: Phone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mailbox, "MESSAGES", replace(mailbox.MESSAGES, messages=2))
    first, second = alice.phones
    assert [send(bob, alice).status_code for _ in range(3)] == [201, 201, 409]
    acknowledge(first, fetched(first))
    refused = send(bob, alice)
    problem = refused.json()
    assert (problem["code"], problem["device_id"], problem["full"]) == (
        "mailbox-full",
        str(second.id),
        "of-all-senders",
    )
    assert len(fetched(first)) == 0, "a message that one device cannot take is delivered to none"
    acknowledge(second, fetched(second)[:1])
    assert send(bob, alice).status_code == 201


def test_mailbox_is_full_by_octets_of_messages_and_contents(
    alice: Account, bob: Phone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mailbox, "MESSAGES", replace(mailbox.MESSAGES, octets=1_000))
    assert send(bob, alice, b"x" * 100, content=b64u(b"y" * 801)).status_code == 201
    assert send(bob, alice, b"x" * 100).json()["code"] == "mailbox-full"
    assert send(bob, alice, b"x" * 99).status_code == 201


def test_full_mailbox_takes_a_notice(alice: Account, bob: Phone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mailbox, "MESSAGES", replace(mailbox.MESSAGES, messages=1))
    phone = alice.phones[0]
    send(bob, alice)
    with tenant_scope(alice.person.tenant_id):
        mailbox.notify(device_ids=[phone.id], event={"event": "door-read", "kind": "password"})
    _, notice = fetched(phone)
    assert unb64u(notice["message"]) == b'{"event":"door-read","kind":"password"}'
    assert (notice["kind"], notice["sender_user"], notice["sender_device"]) == ("notice", None, None)
    acknowledge(phone, fetched(phone))
    assert send(bob, alice).json()["device_id"] == str(alice.phones[1].id), "a notice counts for nothing"


@pytest.mark.postgres
def test_one_sender_fills_a_quarter_and_the_others_get_through(
    alice: Account, bob: Phone, directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mailbox, "MESSAGES", replace(mailbox.MESSAGES, messages=8, messages_of_one=2))
    assert [send(bob, alice).status_code for _ in range(3)] == [201, 201, 409]
    problem = send(bob, alice).json()
    assert (problem["code"], problem["full"]) == ("mailbox-full", "of-one-sender")
    assert Message.unscoped.count() == 4, "a refused message leaves nothing"
    assert send(directory.phone("carol"), alice).status_code == 201
    assert letter(bob, alice.phones[0], kind="share").status_code == 201, "letters have room of their own"


@pytest.mark.postgres
def test_one_sender_fills_a_quarter_of_the_octets(
    alice: Account, bob: Phone, directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mailbox, "MESSAGES", replace(mailbox.MESSAGES, octets_of_one=1_000))
    assert send(bob, alice, b"x" * 100, content=b64u(b"y" * 801)).status_code == 201
    assert send(bob, alice, b"x" * 100).json()["full"] == "of-one-sender"
    assert send(directory.phone("carol"), alice, b"x" * 100).status_code == 201


@pytest.mark.postgres
def test_five_hundred_junk_letters_keep_out_no_notice_no_share_and_no_own_device(
    alice: Account, bob: Phone, directory: Directory
) -> None:
    first, second = alice.phones
    answers = [letter(bob, first, kind="share").status_code for _ in range(60)]
    assert answers == [201] * mailbox.LETTERS.messages_of_one + [409] * 10
    assert letter(directory.phone("carol"), first, kind="share", octets=b"a share").status_code == 201
    assert letter(second, first, octets=b"of my own").status_code == 201
    with tenant_scope(alice.person.tenant_id):
        mailbox.notify(device_ids=[first.id], event={"event": "contacts-opened", "request_id": "1"})
    waiting = list(Message.unscoped.filter(device_id=first.id).order_by("seq").values_list("kind", flat=True))
    assert waiting == ["share"] * 51 + ["sync", "notice"]


@pytest.mark.postgres
def test_own_devices_get_through_when_letters_of_others_fill_their_room(
    alice: Account, bob: Phone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mailbox, "LETTERS", replace(mailbox.LETTERS, messages=1))
    monkeypatch.setattr(mailbox, "MESSAGES", replace(mailbox.MESSAGES, messages=1))
    monkeypatch.setattr(mailbox, "OWN", replace(mailbox.OWN, messages=2, messages_of_one=1))
    first, second = alice.phones
    assert [letter(bob, first, kind="share").status_code for _ in range(2)] == [201, 409]
    assert [letter(second, first).status_code for _ in range(2)] == [201, 409], "one device is bounded as well"
    assert letter(pending_of(alice), first, kind="pairing").status_code == 201


@pytest.mark.postgres
def test_same_notice_is_told_once_an_hour_and_the_newest_of_an_event_stay(
    alice: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mailbox, "MAX_NOTICES", 3)
    phone = alice.phones[0]

    def tell(**ids: str) -> None:
        with tenant_scope(alice.person.tenant_id):
            mailbox.notify(device_ids=[phone.id], event={"event": "door-read", **ids})

    def told() -> list[str]:
        return [json.loads(unb64u(row["message"])).get("n", "other") for row in fetched(phone)]

    for number in ("1", "1", "2"):
        tell(n=number)
    assert told() == ["1", "2"]
    Message.unscoped.update(received_at=timezone.now() - timedelta(hours=1, seconds=1))
    for number in ("1", "3", "4"):
        tell(n=number)
    assert told() == ["1", "3", "4"], "the newest always come in, and the oldest make room"
    with tenant_scope(alice.person.tenant_id):
        mailbox.notify(device_ids=[phone.id], event={"event": "contacts-opened"})
    assert told() == ["1", "3", "4", "other"], "each event has room of its own"


@pytest.mark.postgres
def test_limit_of_a_sender_undoes_the_message_that_passes_it(alice: Account, bob: Phone, settings: Any) -> None:
    settings.HOLDFAST_MESSAGES_PER_SENDER = 5
    assert [send(bob, alice).status_code for _ in range(3)] == [201, 201, 429]
    refused = letter(bob, alice.phones[0], kind="share")
    assert refused.status_code == 201, "one delivery was left"
    refused = letter(bob, alice.phones[0], kind="share")
    assert (refused.status_code, refused.json()["code"]) == (429, "message-limit")
    assert 1 <= int(refused.headers["retry-after"]) <= 3600
    assert Message.unscoped.count() == 5
    assert ClaimBudget.unscoped.get(side="sender").taken == 5
    assert letter(alice.phones[0], alice.phones[1]).status_code == 201, "somebody else's budget is their own"


@pytest.mark.postgres
def test_sweep_deletes_what_nobody_fetched_in_thirty_days(alice: Account, bob: Phone) -> None:
    send(bob, alice, b"old", content=b64u(b"large"))
    old = timezone.now() - mailbox.LIFE - timedelta(seconds=1)
    Message.unscoped.update(received_at=old)
    MessageContent.unscoped.update(created_at=old)
    send(bob, alice, b"new", content=b64u(b"large"))
    assert mailbox.sweep_expired() == 2
    assert octets_of(fetched(alice.phones[0])) == [b"new"]
    assert MessageContent.unscoped.count() == 1
    assert mailbox.sweep_expired() == 0


def test_sweep_deletes_a_content_that_no_message_names(alice: Account, bob: Phone) -> None:
    send(bob, alice, content=b64u(b"large"))
    Message.unscoped.all().delete()
    mailbox.sweep_expired()
    assert MessageContent.unscoped.count() == 1, "nothing is looked for before its time"
    MessageContent.unscoped.update(created_at=timezone.now() - mailbox.LIFE - timedelta(seconds=1))
    mailbox.sweep_expired()
    assert MessageContent.unscoped.count() == 0


def test_sweep_forgets_answers_and_finished_jobs_of_more_than_a_month_ago(alice: Account, bob: Phone) -> None:
    body = document(alice)
    post(bob, alice, body, key="k")
    sweep_plumbing()
    assert post(bob, alice, body, key="k").headers["idempotent-replay"] == "true"
    ReplayableAnswer.unscoped.update(created_at=timezone.now() - timedelta(days=31))
    sweep_plumbing()
    assert ReplayableAnswer.unscoped.count() == 0


@pytest.mark.postgres
def test_stored_answers_of_one_actor_are_bounded(alice: Account, bob: Phone, monkeypatch: pytest.MonkeyPatch) -> None:
    other, body = alice.phones[0], document(alice)
    letter(other, alice.phones[1], kind="sync")
    monkeypatch.setattr(api, "TRIM_ONE_IN", 1)
    monkeypatch.setattr(api, "MOST_ANSWERS", 3)
    for number in range(5):
        assert post(bob, alice, body, key=f"k{number}").status_code == 201
    assert ReplayableAnswer.unscoped.filter(actor_id=other.id).exists()
    kept = ReplayableAnswer.unscoped.filter(actor_id=bob.id).order_by("created_at").values_list("key", flat=True)
    assert list(kept) == ["k2", "k3", "k4"]
    assert "idempotent-replay" in post(bob, alice, body, key="k2").headers
    assert "idempotent-replay" not in post(bob, alice, body, key="k0").headers


# What it costs, and what it does not do.


def queries(act: Any) -> list[str]:
    with CaptureQueriesContext(
        connection,
    ) as captured:
        answer = act()
    assert answer.status_code in (200, 201), answer.content
    # SQLite takes the tokens of a request one by one, where PostgreSQL takes them with the nonce.
    left_out = ("BEGIN", "COMMIT", "SAVEPOINT", "RELEASE", "INSERT INTO tenants_tokenbucket")
    return [one["sql"] for one in captured if not one["sql"].startswith(left_out)]


@pytest.mark.postgres
def test_requests_ask_the_database_a_fixed_number_of_times(alice: Account, bob: Phone) -> None:
    alice.add_phone().publish(batches=[])
    phone = alice.phones[0]
    # SQLite's WITH holds no INSERT: devices, sizes, budget and messages are statements of their own.
    is_together = connection.vendor == "postgresql"
    # Credential and nonce, head, content, devices and sizes and budget and messages, answer. So one without a content
    # is seven, with BEGIN and COMMIT.
    assert len(queries(lambda: send(bob, alice, content=b64u(b"large")))) == (6 if is_together else 9)
    # Credential and nonce, head, device, sizes and budget and message, stored answer.
    assert len(queries(lambda: letter(bob, phone, kind="share"))) == (6 if is_together else 8)
    rows = fetched(phone)
    assert len(queries(lambda: phone.send("GET", "/api/v1/messages"))) == 3
    path = f"/api/v1/messages/{rows[0]['message_id']}/content"
    assert len(queries(lambda: phone.send("GET", path))) == 3
    # Credential and nonce, what is there, its deletion, its sizes, those of nothing, its contents.
    assert len(queries(lambda: acknowledge(phone, rows))) == 7


def test_mailbox_asks_no_hsm_and_writes_no_entry(alice: Account, bob: Phone) -> None:
    entries = Entry.unscoped.count()

    def away() -> Any:
        raise AssertionError("the HSM was asked")

    registry.install(away)
    try:
        send(bob, alice, content=b64u(b"large"))
        letter(bob, alice.phones[0], kind="share")
        for phone in alice.phones:
            acknowledge(phone, fetched(phone))
    finally:
        registry.install(dict)
    assert (Entry.unscoped.count(), Message.unscoped.count()) == (entries, 0)
