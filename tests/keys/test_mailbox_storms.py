# SPDX-License-Identifier: Apache-2.0
"""Many senders at once, and a revocation among them: no message lost, none twice, none to a device that is gone.

FAULTS X3, X7 and D3, over HTTP and with a connection for each thread.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from django.db import connection, transaction

from holdfast.core.base.encoding import b64u
from holdfast.core.crypto.keys import SigningKey
from holdfast.core.identity import chain_author
from holdfast.core.identity.chain import extend
from holdfast.core.identity.entries import Reason
from kernel.scope import tenant_scope
from keys import mailbox
from keys.models import ClaimBudget, Message, MessageContent
from tests.cast.phones import Account, Directory, Phone, successor
from tests.keys.mail import acknowledge, counted_sizes, document, fetched, kept_sizes, letter, octets_of, post
from tests.keys.test_claim_storms import storm

SENDERS = 6
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgres]


@pytest.fixture
def cast() -> Iterator[Directory]:
    yield Directory()
    assert kept_sizes() == counted_sizes(), "whatever raced, the kept sizes are those of a count"


def reachable(account: Account) -> Phone:
    phone = account.add_phone()
    phone.publish(batches=[])
    return phone


@dataclass
class Sent:
    """What senders were told, by the octets of each message."""

    delivered: list[bytes] = field(default_factory=list)
    stale: list[bytes] = field(default_factory=list)


def replacing(account: Account, old: Phone, new: Phone) -> dict[str, Any]:
    """Entries that list `new` and revoke `old`, in one upload, with the rotation that a revocation brings."""
    by = account.author(account.phones[0])
    add = account.adding(new, by=account.phones[0])
    then = extend(account.chain, add)
    revoked = chain_author.revoke_device(
        then, by=by, device=old.id.bytes, reason=Reason.DEVICE_RETIRED, since=0, new_aik=SigningKey.generate()
    )
    entries = [add, *revoked]
    return {"entries": [b64u(one.encode()) for one in entries], "expected_head": b64u(account.chain.head)}


def revoking(account: Account, old: Phone) -> dict[str, Any]:
    entries = chain_author.revoke_device(
        account.chain,
        by=account.author(account.phones[0]),
        device=old.id.bytes,
        reason=Reason.DEVICE_LOST,
        since=0,
        new_aik=SigningKey.generate(),
    )
    return {"entries": [b64u(one.encode()) for one in entries], "expected_head": b64u(account.chain.head)}


def race(account: Account, senders: list[Phone], upload: dict[str, Any]) -> Sent:
    """Let everybody write under the head they know until they are told that it is stale; upload in between."""
    sent, enough = Sent(), threading.Event()
    kept = account.phones[0]

    def write(number: int) -> None:
        for turn in range(500):
            octets = f"{number}-{turn}".encode()
            answer = post(senders[number], account, document(account, octets))
            if answer.status_code == 409:
                assert answer.json()["code"] == "chain-stale", answer.content
                sent.stale.append(octets)
                return
            assert answer.status_code == 201, answer.content
            sent.delivered.append(octets)
            if len(sent.delivered) >= 3 * SENDERS:
                enough.set()

    def append() -> None:
        assert enough.wait(timeout=60)
        answer = kept.send("POST", f"{account.path}/chain", upload)
        assert answer.status_code == 201, answer.content

    storm(len(senders) + 1, lambda number: append() if number == len(senders) else write(number))
    assert len(sent.stale) == len(senders), "everybody was told in the end"
    return sent


def whole(phone: Phone) -> list[bytes]:
    """Fetch and acknowledge until nothing is left."""
    found: list[bytes] = []
    while rows := fetched(phone):
        # Beside them stands the notice of what a revoked device never fetched.
        found += octets_of([row for row in rows if row["kind"] == "message"])
        assert acknowledge(phone, rows).json()["deleted"] == len(rows)
    return found


def test_storm_of_senders_and_a_renewed_device_loses_no_message_and_doubles_none(cast: Directory) -> None:
    alice, senders = cast.account("alice"), [cast.phone("bob")]
    kept, old = reachable(alice), reachable(alice)
    senders += [cast.account("bob").add_phone() for _ in range(SENDERS - 1)]
    new = successor(old)
    registered = old.register_successor(new)
    assert registered.status_code == 201, registered.content
    sent = race(alice, senders, replacing(alice, old, new))
    assert Message.unscoped.filter(device_id=old.id).count() == 0
    for phone in (kept, new):
        assert sorted(whole(phone)) == sorted(sent.delivered)


def test_storm_of_senders_and_a_revocation_leaves_nothing_to_the_revoked_device(cast: Directory) -> None:
    alice, senders = cast.account("alice"), [cast.phone("bob")]
    kept, lost = reachable(alice), reachable(alice)
    senders += [cast.account("bob").add_phone() for _ in range(SENDERS - 1)]
    sent = race(alice, senders, revoking(alice, lost))
    assert Message.unscoped.exclude(device_id=kept.id).count() == 0
    assert sorted(whole(kept)) == sorted(sent.delivered)


def test_revocation_waits_for_a_message_that_is_being_delivered_and_takes_it_away(cast: Directory) -> None:
    alice, bob = cast.account("alice"), cast.phone("bob")
    kept, lost = reachable(alice), reachable(alice)
    upload, delivered, go_on = revoking(alice, lost), threading.Event(), threading.Event()
    answers: list[Any] = []

    def deliver() -> None:
        with tenant_scope(cast.world.acme.pk), transaction.atomic():
            mailbox.send(
                user_id=alice.person.pk,
                chain_head=alice.chain.head,
                envelopes=[mailbox.Envelope(phone.id, b"sealed") for phone in (kept, lost)],
                content=None,
                actor=bob.actor(),
            )
            delivered.set()
            go_on.wait(timeout=60)

    def append() -> None:
        # Signed when the message stands, uncommitted; on SQLite a second writer could not even spend its nonce.
        assert delivered.wait(timeout=60)
        if connection.vendor == "postgresql":
            threading.Timer(1, go_on.set).start()
        else:
            go_on.set()
        answers.append(kept.send("POST", f"{alice.path}/chain", upload))
        go_on.set()

    storm(2, lambda number: deliver() if number == 0 else append())
    assert answers[0].status_code == 201, answers[0].content
    left = Message.unscoped.filter(kind="message")
    assert [row.device_id for row in left] == [kept.id]


def test_storm_of_letters_and_a_revocation_leaves_nothing_to_the_revoked_device(cast: Directory) -> None:
    alice, bob = cast.account("alice"), cast.phone("bob")
    kept, lost = reachable(alice), reachable(alice)
    upload, codes, enough = revoking(alice, lost), [], threading.Event()

    def act(number: int) -> None:
        if number == SENDERS:
            assert enough.wait(timeout=60)
            assert kept.send("POST", f"{alice.path}/chain", upload).status_code == 201
            return
        for _ in range(500):
            codes.append(letter(bob, lost, kind="share").status_code)
            if len(codes) >= 2 * SENDERS:
                enough.set()
            if codes[-1] == 404:
                return

    storm(SENDERS + 1, act)
    # 409: before the revocation came, one person's letters filled what they may of the mailbox.
    assert {201, 404} <= set(codes) <= {201, 404, 409}
    assert Message.unscoped.count() == 0


def test_storm_of_one_message_repeated_delivers_it_once(cast: Directory) -> None:
    alice, bob = cast.account("alice"), cast.phone("bob")
    phones = [reachable(alice), reachable(alice)]
    body, key, answers = document(alice, b"once") | {"content": b64u(b"large")}, uuid.uuid4().hex, []

    def act(number: int) -> None:
        for _ in range(20):
            answer = post(bob, alice, body, key=key)
            if answer.status_code == 201:
                answers.append(answer.content)
                return
            # Another thread is answering this very request: the retry gets what that one got.
            assert (answer.status_code, answer.json()["code"]) == (409, "conflict"), answer.content

    storm(8, act)
    assert (len(answers), len(set(answers))) == (8, 1)
    assert (Message.unscoped.count(), MessageContent.unscoped.count()) == (2, 1)
    assert [octets_of(fetched(phone)) for phone in phones] == [[b"once"], [b"once"]]
    assert ClaimBudget.unscoped.get(side="sender").taken == 2


def test_storm_of_acknowledgements_and_a_renewal_counts_each_message_once(cast: Directory) -> None:
    alice, bob = cast.account("alice"), cast.phone("bob")
    reachable(alice)
    old = reachable(alice)
    new = successor(old)
    old.register_successor(new)
    for number in range(40):
        assert post(bob, alice, document(alice, bytes([number])) | {"content": b64u(b"large")}).status_code == 201
    rows, upload, deleted = fetched(old), replacing(alice, old, new), []

    def act(number: int) -> None:
        if number == 4:
            assert alice.phones[0].send("POST", f"{alice.path}/chain", upload).status_code == 201
            return
        for start in range(0, 40, 5):
            # Each batch by two threads at once, in opposite orders, while the revocation moves what is left.
            batch = rows[start : start + 5]
            answer = acknowledge(old, batch if number % 2 else batch[::-1])
            if answer.status_code == 401:
                return  # revoked meanwhile
            assert answer.status_code == 200, answer.content
            deleted.append(answer.json()["deleted"])

    storm(5, act)
    assert sum(deleted) + len(whole(new)) == 40
    whole(alice.phones[0])
    assert MessageContent.unscoped.count() == 0
