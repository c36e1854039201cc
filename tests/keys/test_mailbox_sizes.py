# SPDX-License-Identifier: Apache-2.0
"""The kept sizes of mailboxes: what a count of the messages would say, whatever comes, goes and moves (FAULTS X7)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from django.utils import timezone

from holdfast.core.base.encoding import b64u
from kernel.scope import tenant_scope
from keys import mailbox, mailbox_sizes, tenant_end
from keys.models import MailboxSize, Message, MessageSort
from tests.cast.phones import Account, Directory, Phone, successor
from tests.keys.mail import acknowledge, counted_sizes, document, fetched, kept_sizes, letter, post, send
from tests.keys.test_claim_storms import storm
from tests.keys.test_mailbox_storms import replacing

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgres]


@pytest.fixture
def alice(directory: Directory) -> Account:
    account = directory.account("alice")
    for _ in range(2):
        account.add_phone().publish(batches=[])
    return account


@pytest.fixture
def bob(directory: Directory) -> Phone:
    return directory.phone("bob")


def fill(alice: Account, bob: Phone, directory: Directory) -> None:
    """Everything that can wait: messages with and without content, letters, one's own, and a notice."""
    carol, (first, second) = directory.phone("carol"), alice.phones
    send(bob, alice, b"m" * 10)
    send(carol, alice, b"m" * 20, content=b64u(b"c" * 1000))
    letter(bob, first, kind="share", octets=b"l" * 30)
    letter(second, first, octets=b"o" * 40)
    assert post(second, alice, document(alice, b"p" * 50, to=[first])).status_code == 201
    with tenant_scope(alice.person.tenant_id):
        mailbox.notify(device_ids=[first.id], event={"event": "door-read", "kind": "password"})


def some_acknowledged(alice: Account) -> None:
    phone = alice.phones[0]
    acknowledge(phone, fetched(phone)[1:4])


def all_acknowledged(alice: Account) -> None:
    for phone in alice.phones:
        acknowledge(phone, fetched(phone))


def moved_to_a_successor(alice: Account) -> None:
    old = alice.phones[0]
    new = successor(old)
    assert old.register_successor(new).status_code == 201
    assert alice.phones[1].send("POST", f"{alice.path}/chain", replacing(alice, old, new)).status_code == 201
    assert MailboxSize.unscoped.filter(device_id=new.id, sender=mailbox_sizes.ALL).count() == 3


def revoked(alice: Account) -> None:
    assert alice.revoke(alice.phones[0]).status_code == 201


def swept(alice: Account) -> None:
    some = Message.unscoped.filter(device_id=alice.phones[0].id)
    number = some.update(received_at=timezone.now() - mailbox.LIFE - timedelta(days=1))
    assert mailbox.sweep_expired() == number == 6


def destroyed(alice: Account) -> None:
    with tenant_scope(alice.person.tenant_id):
        mailbox.destroy_waiting(alice.person.pk)


def ended(alice: Account) -> None:
    with tenant_scope(alice.person.tenant_id):
        tenant_end.destroy_tenant_keys(actor=alice.phones[0].actor())
    assert kept_sizes() == {}


GOING: list[Callable[[Account], None]] = [
    some_acknowledged,
    all_acknowledged,
    moved_to_a_successor,
    revoked,
    swept,
    destroyed,
    ended,
]


@pytest.mark.parametrize("go", GOING)
def test_kept_sizes_are_those_of_a_count(
    alice: Account, bob: Phone, directory: Directory, go: Callable[[Account], None]
) -> None:
    fill(alice, bob, directory)
    assert kept_sizes() == counted_sizes()
    assert len(kept_sizes()) == 10
    go(alice)
    assert kept_sizes() == counted_sizes()


Wrong = Callable[[Account], None]


def too_much(alice: Account) -> None:
    MailboxSize.unscoped.update(messages=10_000, octets=10**9)


def too_little(alice: Account) -> None:
    MailboxSize.unscoped.update(messages=1, octets=-1)


def nothing(alice: Account) -> None:
    MailboxSize.unscoped.all().delete()


def of_nothing(alice: Account) -> None:
    Message.unscoped.exclude(kind="notice").delete()


@pytest.mark.parametrize("wrong", [too_much, too_little, nothing, of_nothing])
def test_wrong_sizes_are_found_and_counted_again(
    alice: Account, bob: Phone, directory: Directory, wrong: Wrong
) -> None:
    fill(alice, bob, directory)
    assert mailbox_sizes.mend() == 0
    wrong(alice)
    assert kept_sizes() != counted_sizes()
    assert mailbox_sizes.mend() > 0
    assert kept_sizes() == counted_sizes()
    assert mailbox_sizes.mend() == 0


def test_size_that_is_too_large_refuses_nobody(alice: Account, bob: Phone, directory: Directory) -> None:
    fill(alice, bob, directory)
    too_much(alice)
    assert send(bob, alice).status_code == 201
    first = {place: size for place, size in kept_sizes().items() if place[1] == MessageSort.MESSAGE}
    assert first == {place: size for place, size in counted_sizes().items() if place[1] == MessageSort.MESSAGE}


@pytest.mark.parametrize("room", [{"messages": 7}, {"messages_of_one": 7}, {"octets": 70}, {"octets_of_one": 70}])
def test_storm_of_messages_fills_a_mailbox_to_its_limit_and_never_past_it(
    alice: Account, bob: Phone, directory: Directory, monkeypatch: pytest.MonkeyPatch, room: dict[str, int]
) -> None:
    monkeypatch.setattr(mailbox, "MESSAGES", replace(mailbox.MESSAGES, **room))
    senders = [bob, *(directory.account("bob").add_phone() for _ in range(3))]
    codes: list[int] = []

    def write(number: int) -> None:
        codes.extend(post(senders[number], alice, document(alice, b"m" * 10)).status_code for _ in range(4))

    storm(len(senders), write)
    assert (codes.count(201), codes.count(409)) == (7, 9)
    assert kept_sizes() == counted_sizes()
    assert {size for place, size in kept_sizes().items()} == {(7, 70)}
