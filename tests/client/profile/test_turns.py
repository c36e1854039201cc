# SPDX-License-Identifier: Apache-2.0
"""A profile that was copied, put back or left alone, against a server that counts turns, and against one that lies."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from uuid import UUID

import httpx2
import pytest

from holdfast.client import maintenance
from holdfast.client.errors import Problem, Unreachable
from holdfast.client.profile import turns
from holdfast.client.profile.account import Account
from holdfast.client.profile.store import MemoryStore
from holdfast.client.server.clock import Clock
from holdfast.client.server.transport import Api, Credential
from holdfast.core.signed.requests import TURN
from holdfast.core.signed.turns import LATE_SECONDS, Answered, Kept, Turn, follow
from tests.cast.lying_server import NOW, URL, LyingServer, Tenant
from tests.cast.members import ALICE, Members


class Counting:
    """Stands before a server, and keeps the turns of whoever asks, as docs/formats/requests.md has it."""

    def __init__(self, server: LyingServer) -> None:
        self._inner = server.transport()
        self.kept: dict[str, Kept] = {}
        self.lie: Callable[[Answered], str] = lambda answered: answered.text
        self.is_lost = False
        self.is_away = False
        self.now = NOW

    def transport(self) -> httpx2.MockTransport:
        return httpx2.MockTransport(self._answer)

    def _answer(self, request: httpx2.Request) -> httpx2.Response:
        if self.is_away:
            raise httpx2.ConnectError("nobody there")
        answer = self._inner.handle_request(request)
        if "signature-input" not in request.headers:
            return answer
        said = Turn.parse(request.headers[TURN]) if TURN in request.headers else None
        device = request.headers["signature-input"].partition('keyid="')[2][:36]
        _, self.kept[device] = follow(self.kept.get(device, Kept()), said, self.now)
        if said is None:
            return answer
        if self.is_lost:
            raise httpx2.ReadTimeout("lost")
        kept = self.kept[device]
        answer.headers[TURN] = self.lie(Answered(said.mark, kept.breaks if kept.is_break else 0))
        return answer


@pytest.fixture(scope="module")
def founded() -> Tenant:
    return Tenant()


@pytest.fixture
def world(founded: Tenant) -> Members:
    return Members(LyingServer(founded))


@pytest.fixture
def counting(world: Members) -> Counting:
    return Counting(world.server)


@pytest.fixture
def store(world: Members) -> MemoryStore:
    """The profile of alice's laptop, as it lies on a disk."""
    account = world.published(ALICE)
    assert isinstance(account.store, MemoryStore)
    return account.store


def opened(store: MemoryStore, counting: Counting) -> Account:
    """Open a profile once more, and ask its server for something."""
    account = Account(store)
    account.connect(URL, transport=counting.transport(), clock=Clock(lambda: NOW))
    with suppress(Problem, Unreachable):
        account.api.get("devices")
    return account


def copied(store: MemoryStore) -> MemoryStore:
    """Return what copying the profile's file gives."""
    made = MemoryStore(tenant=store.tenant, user=store.user)
    for kind in store._rows:
        for key in store.keys(kind):
            value = store.get(kind, key)
            assert value is not None
            made.put(kind, key, value)
    return made


def test_one_profile_is_told_nothing(store: MemoryStore, counting: Counting) -> None:
    for _ in range(4):
        account = opened(store, counting)
        assert (account.is_copy_found, account.turn.breaks) == (False, 0)
    assert [one.item for one in maintenance.maintain(account) if one.outcome.name == "NEEDS_YOU"].count("profile") == 0


def test_copy_used_on_two_machines_is_told_to_both(store: MemoryStore, counting: Counting) -> None:
    opened(store, counting)
    theirs = copied(store)
    assert not opened(store, counting).is_copy_found
    second = opened(theirs, counting)
    assert second.is_copy_found
    first = opened(store, counting)
    assert first.is_copy_found
    for account in (first, second):
        said, way_out = turns.words_of(account.turn)
        assert "another machine" in said
        assert "devices revoke" in way_out
    assert "2 times" in turns.words_of(opened(theirs, counting).turn)[0]
    (told,) = [one for one in maintenance.maintain(first) if one.item == "profile"]
    assert "another machine" in told.said


def test_app_that_stays_open_is_told_of_a_copy_that_opened_after_it(store: MemoryStore, counting: Counting) -> None:
    app = opened(store, counting)
    theirs = opened(copied(store), counting)
    counting.now += LATE_SECONDS + 1
    for account in (app, theirs):
        account.api.get("devices")
        assert account.is_copy_found


def test_key_used_without_a_turn_is_told_to_the_profile(store: MemoryStore, counting: Counting) -> None:
    app = opened(store, counting)
    thief = Api(URL, credential=Credential(UUID(app.device_text), app.signing_key), transport=counting.transport())
    thief.clock = app.clock
    thief.get("devices")
    app.api.get("devices")
    assert app.is_copy_found
    assert not opened(store, counting).is_copy_found
    thief.get("devices")
    assert opened(store, counting).is_copy_found


def test_profile_that_was_put_back_is_told_once_and_goes_on(store: MemoryStore, counting: Counting) -> None:
    backup = copied(store)
    for _ in range(3):
        opened(store, counting)
    assert opened(backup, counting).is_copy_found
    again = [opened(backup, counting) for _ in range(3)]
    assert [one.is_copy_found for one in again] == [False] * 3
    assert again[-1].turn.breaks == 1


def test_lost_answers_and_openings_without_a_network_are_no_copies(store: MemoryStore, counting: Counting) -> None:
    opened(store, counting)
    for is_lost, is_away in [(True, False), (False, True), (True, False), (False, True)]:
        counting.is_lost, counting.is_away = is_lost, is_away
        for _ in range(2):
            opened(store, counting)
        counting.is_lost = counting.is_away = False
        for _ in range(2):
            assert not opened(store, counting).is_copy_found


def test_break_whose_answer_was_lost_is_told_by_the_next(store: MemoryStore, counting: Counting) -> None:
    opened(store, counting)
    theirs = copied(store)
    opened(store, counting)
    counting.is_lost = True
    opened(theirs, counting)
    counting.is_lost = False
    assert opened(theirs, counting).is_copy_found


@pytest.mark.parametrize(
    "field", ["", "nonsense", "AAAAAAAAAAA.7", "AAAAAAAAAAA", "AAAAAAAAAAA.x", "A" * 5000, f"{'A' * 11}.{'9' * 40}"]
)
def test_answer_that_is_about_nobodys_turn_changes_nothing(store: MemoryStore, counting: Counting, field: str) -> None:
    counting.lie = lambda _: field
    before = opened(store, counting)
    assert (before.is_copy_found, before.turn.mark) == (False, b"")
    counting.lie = lambda answered: answered.text
    assert not opened(store, counting).is_copy_found


def test_server_that_lies_of_a_copy_costs_a_look_and_nothing_else(store: MemoryStore, counting: Counting) -> None:
    counting.lie = lambda answered: Answered(answered.mark, 5).text
    account = opened(store, counting)
    assert account.is_copy_found
    assert account.turn.breaks == 1
    for _ in range(3):
        account.api.get("devices")
    assert account.turn.breaks == 1
    counting.lie = lambda answered: answered.text
    assert not opened(store, counting).is_copy_found


def test_server_that_knows_no_turns_is_served_as_before(store: MemoryStore, world: Members) -> None:
    for _ in range(2):
        account = Account(store)
        account.connect(URL, transport=world.server.transport(), clock=Clock(lambda: NOW))
        account.api.get("devices")
    assert account.turn.next
    assert account.turn.mark == b""
