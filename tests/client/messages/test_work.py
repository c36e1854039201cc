# SPDX-License-Identifier: Apache-2.0
"""What a server or a crowd makes a device look through grows with how many they are, not with the square of it.

Counted in rows read, so that a busy machine changes nothing.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from uuid import uuid4

import pytest

from holdfast.client.messages import messages, reports, settling
from holdfast.client.messages.quotas import Quota
from holdfast.client.messages.reports import ReportKind
from holdfast.client.profile.account import Account
from holdfast.core.base.secret import SecretBytes
from tests.cast.members import ALICE, BOB, Members
from tests.client.messages.test_acknowledgements import junk, met, talk
from tests.client.sessions.test_sessions import box


def made_up_senders(world: Members, number: int) -> Account:
    alice, bob = met(world)
    for _ in range(number):
        junk(world, bob, alice)
        box(world, bob)[-1] |= {"sender_user": str(uuid4()), "sender_device": str(uuid4())}
    return bob


def devices_of_dead_sessions(world: Members, number: int) -> Account:
    alice, bob = met(world)
    others = [world.another(alice, f"device {count}") for count in range(number - 1)]
    messages.send(bob, ALICE, b"to all")
    talk(alice, *others, bob)
    for one in (alice, *others):
        junk(world, bob, one)
    return bob


def people_who_confirm_nothing(world: Members, number: int) -> Account:
    bob = world.published(BOB)
    for count in range(number):
        messages.send(bob, world.published(b"silent %d--------" % count).user, b"hello")
    return bob


# Who they are, the kind of row that each of them has, and what is counted: rows opened, or keys gone through.
WORK: dict[str, tuple[Callable[[Members, int], Account], str, str]] = {
    "senders that the server made up": (made_up_senders, "report-undecryptable", "rows"),
    "devices with which sessions are begun anew": (devices_of_dead_sessions, "renewal", "rows"),
    "people to whom something was sent": (people_who_confirm_nothing, "sent", "keys"),
}


def look(account: Account) -> None:
    messages.receive(account)
    settling.settle(account)


def read_by(monkeypatch: pytest.MonkeyPatch, account: Account, act: Callable[[Account], None]) -> Counter[str]:
    """Count the rows of each kind that are opened meanwhile ("rows …"), and the keys that are gone through."""
    read: Counter[str] = Counter()
    store = account.store
    get, keys = store.get, store.keys

    def counted_get(of: str, key: bytes) -> SecretBytes | None:
        read[f"rows {of}"] += 1
        return get(of, key)

    def counted_keys(of: str) -> list[bytes]:
        found = keys(of)
        read[f"keys {of}"] += len(found)
        return found

    with monkeypatch.context() as counting:
        counting.setattr(store, "get", counted_get)
        counting.setattr(store, "keys", counted_keys)
        act(account)
    return read


@pytest.mark.parametrize("what", WORK)
def test_looking_after_many_costs_in_proportion(
    worlds: Iterator[Members], monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    prepare, kind, counted = WORK[what]
    few, many = (read_by(monkeypatch, prepare(next(worlds), number), look)[f"{counted} {kind}"] for number in (2, 6))
    assert 0 < many <= 3 * few


def test_what_was_told_of_many_has_an_end_and_a_contact_is_told_once(
    world: Members, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reports, "_TOLD_QUOTA", Quota(of_one=8, of_all=10))
    _, bob = met(world)

    def tell(about: bytes) -> None:
        reports.add_once(bob, about, ReportKind.IN_DOUBT, "The log is behind.", way_out="", user=about)

    tell(ALICE)
    for one in reports.list_reports(bob):
        one.done()
    for number in range(50):
        tell(hashlib.sha256(b"%d" % number).digest()[:16])
    assert len(bob.store.keys(reports.TOLD)) == 10
    tell(ALICE)
    assert ALICE not in {one.user for one in reports.list_reports(bob)}
    reports.forget_told(bob, ALICE)
    tell(ALICE)
    assert ALICE in {one.user for one in reports.list_reports(bob)}
