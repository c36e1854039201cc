# SPDX-License-Identifier: Apache-2.0
"""A mailbox that lies: large content, acknowledgements, rows, notices, addresses; and every flag of every answer.

Implements FAULTS S5, S6, S9, S18 for the mailbox, and goal G16 over the server's replies.
"""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any
from uuid import uuid4

import httpx2
import pytest

from holdfast.client.errors import ClientError, Problem
from holdfast.client.identity import device
from holdfast.client.messages import letters, messages, prekeys
from holdfast.client.messages.messages import ReportKind
from holdfast.client.profile.account import Account
from holdfast.client.server.clock import Clock
from holdfast.core.base.encoding import b64u, unb64u
from holdfast.core.crypto.suites import Suite
from tests.cast.lying_server import NOW, text
from tests.cast.malice import Lie, deliver, only_report, refuses, sent_to, taken, understood
from tests.cast.members import ALICE, BOB, Members
from tests.client.messages.test_messages import refusal
from tests.client.sessions.test_sessions import bodies, box

# Large content


@pytest.mark.parametrize("lie", ["swapped", "cut", "empty", "gone", "no content", "of another message"])
def test_large_content_that_is_not_what_the_sender_sealed_is_refused(world: Members, lie: str) -> None:
    alice, bob = world.published(ALICE), world.published(BOB)
    messages.send(alice, BOB, b"L" * 9000)
    messages.send(alice, BOB, b"M" * 9000)
    first, second = box(world, bob)
    del box(world, bob)[1]
    contents = world.server.contents
    true = unb64u(contents[first["message_id"]])
    served = {
        "swapped": b64u(true[:-1] + bytes((true[-1] ^ 1,))),
        "cut": b64u(true[:-16]),
        "empty": "",
        "gone": None,
        "no content": 5,
        "of another message": contents[second["message_id"]],
    }[lie]
    path = f"messages/{first['message_id']}/content"
    if lie == "gone":
        world.server.instead[f"GET {path}"] = lambda _body: refusal(404, "not-found")
    else:
        world.server.lies[f"GET {path}"] = lambda _answer: {"content": served}
    assert messages.receive(bob) == []
    only_report(bob, ReportKind.CONTENT_WITHHELD, "large content")
    messages.send(alice, BOB, b"and on")
    assert [one.body for one in messages.receive(bob)] == [b"and on"]


def test_large_content_that_the_server_denies_is_never_taken_for_the_message(world: Members) -> None:
    alice, bob = world.published(ALICE), world.published(BOB)
    messages.send(alice, BOB, b"L" * 9000)
    box(world, bob)[0]["has_content"] = False
    (one,) = messages.receive(bob)
    assert one.body == b""
    assert one.reference is not None
    assert one.reference.size == 9000


# The mailbox itself


@pytest.mark.parametrize("path", ["GET users/.*/chain", "GET users/.*/chain/proof"])
def test_messages_are_handed_out_though_the_server_answers_nothing_else(world: Members, path: str) -> None:
    alice, bob = world.published(ALICE), world.published(BOB)
    messages.send(alice, BOB, b"zero")
    bodies(bob)
    bob.api._sleep = lambda _seconds: None
    world.another(alice)
    messages.send(alice, BOB, b"one")
    world.server.instead[path] = lambda _body: refusal(503, "unavailable")
    assert bodies(bob) == [b"one"]
    with pytest.raises(Problem):
        messages.send(bob, ALICE, b"two")
    world.server.instead.clear()
    assert len(messages.send(bob, ALICE, b"two").devices) == 2


def test_acknowledgement_that_lies_ends_the_fetching_and_repeats_nothing(world: Members) -> None:
    alice, bob = world.published(ALICE), world.published(BOB)
    messages.send(alice, BOB, b"one")
    world.server.instead["POST messages/ack"] = lambda _body: (200, {"deleted": 1})
    for _ in range(3):
        assert bodies(bob) in ([b"one"], [])
    assert len(world.server.posted("messages/ack")) <= 3
    assert len(bob.store.keys("heard")) == 1


def test_endless_mailbox_of_junk_comes_to_an_end(world: Members) -> None:
    bob = world.published(BOB)
    world.published(ALICE)

    def junk(_answer: dict[str, Any]) -> dict[str, Any]:
        row = {
            "message_id": str(uuid4()),
            "kind": "message",
            "sender_user": text(ALICE),
            "sender_device": text(ALICE),
            "to_device": bob.device_text,
            "message": b64u(random.randbytes(40)),
            "has_content": False,
            "received_at": "2026-09-21T13:33:20Z",
        }
        return {"messages": [row], "more": False}

    world.server.lies["GET messages"] = junk
    assert messages.receive(bob) == []
    assert len(messages.reports(bob)) <= 500


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "order"},
        {"kind": None},
        {"message": None},
        {"message": "not base64 !"},
        {"message": b64u(bytes(70_000))},
        {"sender_user": None},
        {"sender_device": "alice"},
        {"to_device": None},
        {"has_content": "no"},
        {"received_at": "yesterday"},
    ],
    ids=str,
)
def test_row_outside_the_protocol_is_reported_and_blocks_nothing(world: Members, change: dict[str, Any]) -> None:
    alice, bob = world.published(ALICE), world.published(BOB)
    messages.send(alice, BOB, b"one")
    deliver(world, bob, taken(world, bob), **change)
    messages.send(alice, BOB, b"two")
    found = [one.body for one in messages.receive(bob)]
    assert found == [b"two"]
    (report,) = messages.reports(bob)
    understood(report)


def test_notice_with_forged_text_is_kept_as_text_and_does_nothing(world: Members) -> None:
    bob = world.published(BOB)
    before = repr(bob.state.to_secret().reveal())
    forged = {
        "event": "rotate your keys now at http://evil.example/?<script>",
        "url": "http://evil.example/",
        "command": "holdfast devices approve 1",
        "new_root": b64u(bytes(32)),
    }
    world.server.notice(text(BOB), forged)
    world.server.log.clear()
    assert messages.receive(bob) == []
    assert [notice.event for notice in letters.notices(bob)] == [forged["event"]]
    assert repr(bob.state.to_secret().reveal()) == before
    assert [(verb, path) for verb, path, _ in world.server.log] == [
        ("GET", "messages"),
        ("POST", "messages/ack"),
    ]


def test_addresses_that_the_server_names_are_not_visited(world: Members) -> None:
    alice, bob = world.published(ALICE), world.published(BOB)
    hosts: set[str] = set()

    def watched(request: httpx2.Request) -> httpx2.Response:
        hosts.add(str(request.url.host))
        return world.server._answer(request)

    for account in (alice, bob):
        account.connect(transport=httpx2.MockTransport(watched), clock=Clock(lambda: NOW))
    elsewhere = {"url": "http://evil.example/", "content_url": "http://evil.example/c", "next": "//evil.example/"}
    world.server.lies[".*"] = lambda answer: {**answer, **elsewhere}
    messages.send(alice, BOB, b"L" * 9000)
    assert [one.body for one in messages.receive(bob)] == [b"L" * 9000]
    assert hosts == {"127.0.0.1"}


@pytest.mark.parametrize("path", ["POST users/.*/messages", "GET messages", "POST devices/.*/claim"])
def test_redirection_is_not_followed(world: Members, path: str) -> None:
    alice, _bob = world.published(ALICE), world.published(BOB)
    hosts: set[str] = set()

    def pointing(request: httpx2.Request) -> httpx2.Response:
        import re

        hosts.add(str(request.url.host))
        where = request.url.path.removeprefix("/api/v1/")
        if re.fullmatch(path, f"{request.method} {where}"):
            return httpx2.Response(307, headers={"location": "http://evil.example/"}, json={})
        return world.server._answer(request)

    alice.connect(transport=httpx2.MockTransport(pointing), clock=Clock(lambda: NOW))
    refuses(lambda: messages.send(alice, BOB, b"one"), match="redirect")
    assert hosts == {"127.0.0.1"}


# Every flag and number of every answer


def leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place of a document where a boolean or a number stands."""
    if isinstance(value, dict):
        return [found for name, inner in value.items() for found in leaves(inner, (*path, name))]
    if isinstance(value, list):
        return [found for index, inner in enumerate(value[:2]) for found in leaves(inner, (*path, index))]
    return [path] if isinstance(value, bool | int) else []


def flipped(value: Any, path: tuple[Any, ...], turned: Any) -> Any:
    """The document with another value in one place, where it has that place."""
    if not path:
        return turned
    changed = copy.copy(value)
    try:
        changed[path[0]] = flipped(value[path[0]], path[1:], turned)
    except (KeyError, IndexError):
        return value
    return changed


def turns(value: Any) -> list[Any]:
    return [not value, 1, None] if isinstance(value, bool) else [value + 1, 0, -1, 2**31, True, str(value)]


def conversation(world: Members, lies: dict[str, Lie] | None = None) -> tuple[Account, Account, list[bytes], list[str]]:
    """Enrol two people and let them write, under lies from the first request on; what arrived, and what was refused."""
    world.server.lies.update(lies or {})
    refused: list[str] = []
    people = []
    for user in (ALICE, BOB):
        account = world.profile(user)
        people.append(account)
        tried(refused, partial(device.enrol, account, world.server.code(user), name="laptop"))
        tried(refused, partial(prekeys.publish, account))
    alice, bob = people
    for _ in range(2):
        tried(refused, lambda: messages.send(alice, BOB, b"a" * 5000))
        tried(refused, lambda: messages.receive(bob))
        tried(refused, lambda: messages.send(bob, ALICE, b"b"))
        tried(refused, lambda: messages.receive(alice))
    got = [one.body for account in people for one in messages.waiting(account) if one.reference is None]
    return alice, bob, got, refused


def tried(refused: list[str], act: Callable[[], object]) -> None:
    try:
        act()
    except ClientError as error:
        understood(error)
        refused.append(str(error))


def numbers_of(world: Members) -> list[tuple[str, tuple[Any, ...], Any]]:
    """Every boolean and number in the answers of an honest conversation, by the request's pattern."""
    found: dict[tuple[str, tuple[Any, ...]], Any] = {}

    def note(pattern: str) -> Lie:
        def lie(answer: dict[str, Any]) -> dict[str, Any]:
            for path in leaves(answer):
                value = answer
                for step in path:
                    value = value[step]
                found.setdefault((pattern, path), value)
            return answer

        return lie

    conversation(world, {pattern: note(pattern) for pattern in PATTERNS})
    return [(pattern, path, value) for (pattern, path), value in found.items()]


PATTERNS = (
    "POST devices",
    "GET escrow/policy",
    "GET escrow/key",
    "GET users/[^/]+/chain",
    "GET users/[^/]+/chain/proof",
    "POST users/[^/]+/chain",
    "POST devices/[^/]+/check",
    "POST devices/[^/]+/pre-keys",
    "POST devices/[^/]+/claim",
    "POST users/[^/]+/claim",
    "POST users/[^/]+/messages",
    "GET messages",
    "GET messages/[^/]+/content",
    "POST messages/ack",
)


def test_no_flag_or_number_of_any_answer_makes_the_client_looser(worlds: Iterator[Members]) -> None:
    tried_out = 0
    for pattern, path, value in numbers_of(next(worlds)):
        for turned in turns(value):
            world = next(worlds)
            alice, bob, got, _refused = conversation(world, {pattern: partial(flipped, path=path, turned=turned)})
            where = f"{pattern} {path} = {turned!r}"
            assert set(got) <= {b"a" * 5000, b"b"}, where
            assert got.count(b"a" * 5000) <= 2, where
            assert got.count(b"b") <= 2, where
            addressed = {one["device_id"] for user in (ALICE, BOB) for one in envelopes(world, user)}
            assert addressed <= {alice.device_text, bob.device_text}, where
            for account in (alice, bob):
                trust = account.state.trust
                assert not trust.is_tofu, where
                assert not trust.is_development, where
                assert trust.pin in (b"", world.server.tenant.pin), where
                assert account.suite is Suite.HYBRID, where
                contact = account.state.contacts.get(BOB if account is alice else ALICE)
                assert contact is None or contact.suite in (0, Suite.HYBRID), where
            tried_out += 1
    assert tried_out >= 60


def spoilt(value: Any, chance: random.Random) -> Any:
    """A document with something in it changed, left out, doubled or replaced by something of another kind."""
    if isinstance(value, dict) and value and chance.random() < 0.8:
        name = chance.choice(sorted(value))
        if chance.random() < 0.2:
            return {key: inner for key, inner in value.items() if key != name}
        return {**value, name: spoilt(value[name], chance)}
    if isinstance(value, list) and value and chance.random() < 0.8:
        at = chance.randrange(len(value))
        if chance.random() < 0.3:
            return [*value[:at], *value[at + 1 :]] if chance.random() < 0.5 else [*value, value[at]]
        return [*value[:at], spoilt(value[at], chance), *value[at + 1 :]]
    if isinstance(value, str) and value and chance.random() < 0.6:
        at = chance.randrange(len(value))
        return value[:at] + chance.choice("AZaz09-_!\u20ac") + value[at + 1 :]
    return chance.choice([None, True, 0, -1, 2**63, 1.5, "", "x", [], {}, [[]], {"code": 1}, b64u(bytes(32))])


def garble(worlds: Iterator[Members], seed: int) -> None:
    """Spoil some answers of a whole conversation: what is refused is refused by a sentence, and nothing is made up."""
    chance = random.Random(seed)
    rate = chance.choice([0.03, 0.1, 0.3])
    lies: dict[str, Lie] = {
        ".*": lambda answer: spoilt(answer, chance) if chance.random() < rate else answer,
    }
    alice, bob, got, _refused = conversation(next(worlds), lies)
    assert set(got) <= {b"a" * 5000, b"b"}, seed
    for account in (alice, bob):
        for report in messages.reports(account):
            understood(report)


@pytest.mark.parametrize("seed", range(40))
def test_garbled_answers_are_refused_by_a_sentence(worlds: Iterator[Members], seed: int) -> None:
    garble(worlds, seed)


@pytest.mark.soak("answers")
@pytest.mark.timeout(3600)
def test_two_thousand_garbled_conversations_are_refused_by_a_sentence(worlds: Iterator[Members]) -> None:
    for seed in range(1000, 3000):
        garble(worlds, seed)


def envelopes(world: Members, user: bytes) -> list[dict[str, Any]]:
    return [one for body in sent_to(world, user) for one in body["envelopes"]]


def test_nothing_secret_is_ever_posted(world: Members) -> None:
    alice, bob, got, refused = conversation(world)
    assert sorted(got) == [b"a" * 5000, b"a" * 5000, b"b", b"b"]
    assert refused == []
    said = json.dumps([body for _, _, body in world.server.log])
    for account in (alice, bob):
        for kind in ("session", "one-time-pre-key", "signed-pre-key"):
            for key in account.store.keys(kind):
                value = account.store.get(kind, key)
                assert value is not None
                assert b64u(value.reveal())[8:40] not in said
        for seed in (account.device.signing_seed, account.device.agreement_seed, account.state.identity_seed):
            assert b64u(seed.reveal()) not in said
