# SPDX-License-Identifier: Apache-2.0
"""Junk in the mailbox takes nobody's place: not a notice's, not a share's, not another person's letter or report.

Implements FAULTS R3 for letters, notices, reports and messages held back: quotas by kind and by sender.
"""

from __future__ import annotations

import copy
import secrets
from collections.abc import Callable, Iterator
from uuid import UUID, uuid4

import pytest

from holdfast.client.errors import PeerChanged
from holdfast.client.messages import inbox, letters, messages, quotas, reports
from holdfast.client.messages.inbox_rows import Envelope
from holdfast.client.messages.letters import LetterKind
from holdfast.client.messages.quotas import Quota
from holdfast.client.messages.reports import ReportKind
from holdfast.client.profile.account import Account
from holdfast.client.profile.store import MemoryStore
from holdfast.client.sessions.sessions import Address
from holdfast.client.vault import pairing, share_requests, trusted, vault
from holdfast.core.base.encoding import b64u
from holdfast.core.base.rows import seal_row
from holdfast.core.base.secret import SecretBytes
from tests.cast.lying_mailbox import RECEIVED_AT
from tests.cast.members import ALICE, BOB, MALLORY, Members
from tests.client.vault.test_trusted import CAROL, DAN, new_device, took

PEOPLE = [BOB, CAROL, DAN]
FLOODS = [500, 5000]
VETO = {"event": "contacts-request", "request_id": str(uuid4()), "owner": str(UUID(bytes=ALICE))}


def row(kind: str, message: bytes, user: bytes, device: bytes) -> dict[str, object]:
    is_notice = kind == LetterKind.NOTICE
    return {
        "message_id": str(uuid4()),
        "kind": kind,
        "sender_user": None if is_notice else str(UUID(bytes=user)),
        "sender_device": None if is_notice else str(UUID(bytes=device)),
        "to_device": str(UUID(bytes=device)),
        "message": b64u(message),
        "has_content": False,
        "received_at": RECEIVED_AT,
    }


def _one() -> Iterator[bytes]:
    while True:
        yield MALLORY


def _many() -> Iterator[bytes]:
    while True:
        yield secrets.token_bytes(16)


SENDERS: dict[str, Callable[[], Iterator[bytes]]] = {"one sender": _one, "many senders": _many}


def junk(kind: str, count: int, senders: Iterator[bytes]) -> list[dict[str, object]]:
    """Letters of a kind that nobody can open; of notices, those that a member can cause about themselves."""
    found = []
    for _ in range(count):
        user = next(senders)
        said = b'{"event":"contacts-request","owner":"%s"}' % str(UUID(bytes=user)).encode()
        message = said if kind == LetterKind.NOTICE else secrets.token_bytes(40)
        found.append(row(kind, message, user, user[::-1]))
    return found


def flood(world: Members, account: Account, kind: str, count: int, senders: str) -> None:
    box = world.server.mailboxes.setdefault(account.device_text, [])
    mine = list(box)
    box[:] = [*junk(kind, count, SENDERS[senders]()), *mine, *junk(kind, count, SENDERS[senders]())]


def fetch(account: Account) -> None:
    while letters.fetch(account):
        pass


def collect(account: Account) -> None:
    inbox.collect(account)


WAYS: dict[str, Callable[[Account], None]] = {"fetched": fetch, "collected": collect}


def kept(account: Account) -> int:
    return sum(len(letters.waiting(account, kind)) for kind in LetterKind)


@pytest.mark.parametrize("senders", SENDERS)
@pytest.mark.parametrize("count", FLOODS)
@pytest.mark.parametrize("kind", list(LetterKind))
def test_veto_notice_is_there_after_any_flood_of_junk(
    world: Members, kind: LetterKind, count: int, senders: str
) -> None:
    alice = world.enrolled(ALICE)
    world.server.notice(str(UUID(bytes=ALICE)), VETO)
    flood(world, alice, kind, count, senders)
    fetch(alice)
    assert VETO in [notice.said for notice in letters.notices(alice)]
    assert kept(alice) <= 1001


@pytest.mark.parametrize("senders", SENDERS)
@pytest.mark.parametrize("count", FLOODS)
@pytest.mark.parametrize("kind", list(LetterKind))
def test_share_of_a_contact_is_there_after_any_flood_of_junk_and_acts(
    world: Members, kind: LetterKind, count: int, senders: str
) -> None:
    alice = world.enrolled(ALICE)
    vault.save(alice)
    people = {one: world.enrolled(one) for one in PEOPLE}
    trusted.choose(alice, PEOPLE, k=2)
    flood(world, people[BOB], kind, count, senders)
    fetch(people[BOB])
    assert [share.owner for share in trusted.take_shares(people[BOB])] == [ALICE]
    took(people[CAROL])
    asked = share_requests.open_request(new_device(world))
    share_requests.give(people[BOB], asked.request_id, code=asked.code)


@pytest.mark.parametrize("way", WAYS)
def test_both_are_there_when_junk_of_every_kind_comes_between_messages(world: Members, way: str) -> None:
    alice, bob = world.published(ALICE), world.published(BOB)
    trusted.choose(alice, [BOB, world.enrolled(CAROL).user], k=2)
    messages.send(alice, BOB, b"hello")
    world.server.notice(str(UUID(bytes=BOB)), VETO)
    for kind in LetterKind:
        flood(world, bob, kind, 300, "many senders")
    # More than a full mailbox in one go is what `fetch` leaves for the next time.
    WAYS[way](bob)
    if way == "collected":
        assert [one.body for one in messages.waiting(bob)] == [b"hello"]
    assert VETO in [notice.said for notice in letters.notices(bob)]
    assert [share.owner for share in trusted.take_shares(bob)] == [ALICE]


@pytest.mark.parametrize("senders", SENDERS)
def test_letter_of_an_own_device_is_there_after_junk_of_its_kind(world: Members, senders: str) -> None:
    first = world.enrolled(ALICE)
    vault.save(first)
    second = new_device(world)
    asked = pairing.request(second)
    pairing.accept(first, asked.text())
    flood(world, second, LetterKind.SYNC, 5000, senders)
    fetch(second)
    assert len(letters.waiting(second, LetterKind.SYNC)) <= 101
    pairing.complete(second)
    assert second.state.vault.key == first.state.vault.key


def test_pairing_letter_of_a_device_that_no_chain_lists_yet_is_there_after_junk(world: Members) -> None:
    first = world.enrolled(ALICE)
    vault.save(first)
    second = new_device(world)
    offer = pairing.offer_code(second)
    flood(world, first, LetterKind.PAIRING, 5000, "many senders")
    fetch(first)
    answer = pairing.answer_code(first)
    digits = offer.wait(0)
    answer.confirm(digits)
    assert second.device.id in vault.chain_of(first).devices


def test_many_well_formed_shares_of_one_person_take_only_that_persons_place(world: Members) -> None:
    mallory, alice, bob = world.enrolled(MALLORY), world.enrolled(ALICE), world.enrolled(BOB)
    carol = world.enrolled(CAROL)
    trusted.choose(alice, [BOB, carol.user], k=2)
    (true,) = world.server.mailboxes[bob.device_text]
    trusted.choose(mallory, [BOB, carol.user], k=2)
    forged = next(one for one in world.server.mailboxes[bob.device_text] if one is not true)
    copies = [{**forged, "message_id": str(uuid4())} for _ in range(1000)]
    world.server.mailboxes[bob.device_text] = [*copies[:500], true, *copies[500:]]
    fetch(bob)
    assert len(letters.waiting(bob, LetterKind.SHARE)) == 17
    assert {share.owner for share in trusted.take_shares(bob)} == {ALICE, MALLORY}


def test_owner_who_never_names_a_set_fills_four_places(world: Members, monkeypatch: pytest.MonkeyPatch) -> None:
    mallory, bob, carol = world.enrolled(MALLORY), world.enrolled(BOB), world.enrolled(CAROL)
    monkeypatch.setattr(trusted, "_put_manifest", lambda *_rest: (_ for _ in ()).throw(KeyboardInterrupt))
    for _ in range(10):
        with pytest.raises(KeyboardInterrupt):
            trusted.choose(mallory, [BOB, carol.user], k=2)
        mallory.store.delete(*trusted._UNDER_WAY)
    assert len(took(bob)) <= 4


# The rule


def store_of(*senders: bytes) -> MemoryStore:
    store = MemoryStore(tenant=b"t" * 16, user=ALICE)
    for number, sender in enumerate(senders):
        store.put("row", sender * 16 + number.to_bytes(2, "big"), SecretBytes(b"x"))
    return store


def left(store: MemoryStore, quota: Quota, known: bytes = b"") -> str:
    quotas.trim(store, "row", quota, is_known=lambda sender: sender[:1] in known)
    return "".join(f"{chr(key[0])}{key[-1]}" for key in store.keys("row"))


@pytest.mark.parametrize(
    ("senders", "quota", "known", "expected"),
    [
        ("aab", Quota(2, 9), "", "a0a1b2"),
        ("aaaab", Quota(2, 9), "", "a2a3b4"),
        ("baaa", Quota(9, 3), "", "b0a2a3"),
        ("abcd", Quota(9, 2), "", "a0b1"),
        ("abcd", Quota(9, 2), "d", "a0d3"),
        ("aaabc", Quota(9, 2), "a", "a1a2"),
        ("", Quota(1, 1), "", ""),
    ],
)
def test_trim_takes_from_who_has_most_and_from_strangers_first(
    senders: str, quota: Quota, known: str, expected: str
) -> None:
    store = store_of(*(one.encode() for one in senders))
    assert left(store, quota, known.encode()) == expected


# The relatives: reports, and messages held back


def test_report_of_one_kind_or_person_is_evicted_by_no_other(world: Members) -> None:
    alice = world.enrolled(ALICE)
    with alice.store.transaction():
        reports.add(alice, ReportKind.SPLIT_VIEW, "two heads", way_out="")
        reports.add(alice, ReportKind.UNDECRYPTABLE, "bob's", way_out="", user=BOB)
        for number in range(2000):
            user = MALLORY if number % 2 else secrets.token_bytes(16)
            reports.add(alice, ReportKind.UNDECRYPTABLE, f"junk {number}", way_out="", user=user)
    found = reports.list_reports(alice)
    assert {"two heads", "bob's"} <= {report.text for report in found}
    assert len(found) <= 501
    for report in found:
        report.done()
    assert reports.list_reports(alice) == []


def test_letters_kept_by_an_earlier_version_are_still_read_and_put_away(world: Members) -> None:
    alice = world.enrolled(ALICE)
    said = b'{"event":"door-read"}'
    for kind, message in ((LetterKind.SYNC, b"old"), (LetterKind.NOTICE, said)):
        old = letters.Letter(uuid4().bytes, kind, b"", b"", message, 1)
        alice.store.put(letters.LETTER, old.id, seal_row(old))
    assert [letter.message for letter in letters.waiting(alice, LetterKind.SYNC)] == [b"old"]
    assert [notice.event for notice in letters.notices(alice)] == ["door-read"]
    letters.put_away(alice, [*letters.waiting(alice, LetterKind.SYNC), *letters.notices(alice)])
    assert alice.store.keys(letters.LETTER) == []


def test_messages_held_back_for_one_person_take_no_other_persons_place(
    world: Members, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox, "_HELD_QUOTA", Quota(of_one=5, of_all=8))
    alice = world.enrolled(ALICE)
    error = PeerChanged("began again")
    for number, user in enumerate([BOB, *[MALLORY] * 20, CAROL]):
        envelope = Envelope(Address(user, user[::-1]), alice.device.id, b"message %d" % number, 1)
        inbox._hold(alice, envelope, error)
        inbox._hold(alice, envelope, error)
    held = [Envelope.from_secret(alice.store.get("held", key)) for key in alice.store.keys("held")]  # type: ignore[arg-type]
    assert [one.sender.user for one in held] == [BOB, *[MALLORY] * 5, CAROL]
    inbox._mark(alice, held[0])
    assert len(alice.store.keys("held")) == 6


def test_letter_that_was_put_away_comes_no_second_time(world: Members) -> None:
    """A lost acknowledgement brings it again, and a server that was put back from a backup."""
    alice = world.enrolled(ALICE)
    world.server.notice(alice.user_text, VETO)
    before = copy.deepcopy(world.server.mailboxes)
    assert letters.fetch(alice) == 1
    letters.put_away(alice, letters.notices(alice))
    world.server.mailboxes = before
    assert letters.fetch(alice) == 1
    assert letters.notices(alice) == []
    assert world.server.mailboxes[alice.device_text] == []
