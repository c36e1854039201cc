# SPDX-License-Identifier: Apache-2.0
"""A doubt that passes loses nothing: messages, large content, copies, recovery shares and the letters of own devices.

Implements FAULTS S16 and S18 at the receiver: what is wrong by itself is refused, what is in doubt waits and is told of
once. Each doubt is a lie or a fault of the server for a while; all that can wait for a device waits under each of them.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from holdfast.client.errors import ClientError, Problem
from holdfast.client.identity import chains, device, key_log
from holdfast.client.messages import inbox, letters, messages, prekeys, reports, sent
from holdfast.client.messages.letters import LetterKind
from holdfast.client.messages.messages import ReportKind
from holdfast.client.profile.account import Account
from holdfast.client.vault import pairing, trusted, vault
from holdfast.core.base.encoding import b64u
from holdfast.core.crypto.keys import SigningKey
from holdfast.core.vault.blob import new_vault_key
from tests.cast.lying_server import LyingServer, text
from tests.cast.malice import deliver, understood
from tests.cast.members import ALICE, BOB, MALLORY, Members
from tests.client.messages.test_messages import refusal
from tests.client.sessions.test_sessions import box, first_message, revoke

CAROL = b"carol-----------"
LOGGED_WITHIN = 700  # seconds after which an entry that the log has not got is overdue
CHAIN, PROOF = "GET users/.*/chain", "GET users/.*/chain/proof"


def instead(path: str, status: int, code: str) -> Callable[[LyingServer], None]:
    return lambda server: server.instead.update({path: lambda _body: refusal(status, code)})


def lie(path: str, **changes: Any) -> Callable[[LyingServer], None]:
    return lambda server: server.lies.update({path: lambda answer: {**answer, **changes}})


def lost(path: str) -> Callable[[LyingServer], None]:
    return lambda server: server.lost.add(path)


def chain_of(user: bytes, change: Callable[[list[bytes]], list[bytes]]) -> Callable[[LyingServer], None]:
    def apply(server: LyingServer) -> None:
        server.chains[text(user)] = change(server.chains[text(user)])

    return apply


def another_persons_chain(server: LyingServer) -> None:
    server.chains[text(ALICE)] = server.chains[text(CAROL)]


def forked_log(server: LyingServer) -> None:
    server.keys_log.leaves[0] = server.keys_log.leaves[1]


def log_rolled_back(server: LyingServer) -> None:
    del server.keys_log.leaves[3:]


def log_of_another_key(server: LyingServer) -> None:
    server.keys_log.key = SigningKey.generate()


# Each holds for everybody's chains, so for the receiver's own as well, or for the sender's alone.
DOUBTS: dict[str, Callable[[LyingServer], None]] = {
    "log behind": instead(PROOF, 404, "not-logged-yet"),
    "log unreachable": lost(PROOF),
    "log unavailable": instead(PROOF, 503, "unavailable"),
    "log refused": instead(PROOF, 403, "denied"),
    "log not in the format": lie(PROOF, leaf_index="none"),
    "log of nothing": lie(PROOF, proof=[]),
    "log without a head": lie(PROOF, checkpoint="no head"),
    "log forked": forked_log,
    "log rolled back": log_rolled_back,
    "log of another key": log_of_another_key,
    "chain unreachable": lost(CHAIN),
    "chain unavailable": instead(CHAIN, 503, "unavailable"),
    "chain busy": instead(CHAIN, 429, "rate-limited"),
    "chain not signed in": instead(CHAIN, 401, "unauthenticated"),
    "chain denied": instead(CHAIN, 403, "denied"),
    "chain gone": instead(CHAIN, 404, "not-found"),
    "chain malformed": instead(CHAIN, 400, "malformed"),
    "chain not in the format": lie(CHAIN, entries="none"),
    "chain without its end": lie(CHAIN, more=True, entries=[]),
    "chain of another length": lie(CHAIN, seq=77),
    "chain of another head": lie(CHAIN, head=b64u(bytes(32))),
    "chain of junk": lie(CHAIN, entries=[b64u(b"\xa0")]),
    "sender's chain behind": chain_of(ALICE, lambda entries: entries[:-1]),
    "sender's chain at its beginning": chain_of(ALICE, lambda entries: entries[:1]),
    "sender's chain another person's": another_persons_chain,
    "sender's chain with an entry twice": chain_of(ALICE, lambda entries: [*entries, entries[-1]]),
    "own chain behind": chain_of(BOB, lambda entries: entries[:-1]),
    "own chain gone": chain_of(BOB, lambda _entries: []),
}


@contextlib.contextmanager
def in_doubt(server: LyingServer, doubt: Callable[[LyingServer], None]) -> Any:
    """Have the server answer so for a while, and honestly afterwards."""
    honest_chains = {user: list(entries) for user, entries in server.chains.items()}
    honest_log = replace(server.keys_log, leaves=list(server.keys_log.leaves))
    doubt(server)
    yield
    server.chains, server.keys_log = honest_chains, honest_log
    server.is_read_only = False  # whoever only showed another log has its own to hold heads to
    server.instead.clear()
    server.lies.clear()
    server.lost.clear()


def paired(world: Members, first: Account) -> Account:
    second = world.profile(first.user)
    device.enrol(second, world.server.code(first.user), name="phone")
    pairing.accept(first, pairing.request(second).text())
    pairing.complete(second)
    chains.refresh(second)
    prekeys.publish(second)
    return second


def all_that_waits(world: Members) -> Account:
    """Return bob, for whom waits all that can: none of it opened yet."""
    alice, bob, carol = (world.published(one) for one in (ALICE, BOB, CAROL))
    vault.save(bob)
    second = paired(world, bob)
    messages.send(alice, BOB, b"first")
    messages.send(alice, BOB, b"L" * 9000)
    messages.send(world.another(alice), BOB, b"from a second device")
    messages.send(second, carol.user, b"copied")
    trusted.choose(alice, [BOB, CAROL], k=2)
    vault.begin_epoch(second, key=new_vault_key(), epoch=2)
    pairing.sync(second)
    bob.api._sleep = lambda _seconds: None
    return bob


def look(bob: Account) -> list[reports.Report]:
    """Do all that a device does with what comes, each part by itself; returns what was told, and puts it away."""
    for part in (messages.receive, pairing.catch_up, trusted.take_shares):
        with contextlib.suppress(ClientError):
            part(bob)
    told = messages.reports(bob)
    for report in told:
        understood(report)
        report.done()
    return told


def confirm(world: Members, account: Account) -> None:
    """Have the log sign a head of this moment, by which the account knows the time."""
    world.server.keys_log.now = world.now
    assert key_log.confirm_time(account)


@pytest.mark.parametrize("doubt", DOUBTS)
def test_what_comes_while_something_is_in_doubt_is_there_when_it_has_passed(world: Members, doubt: str) -> None:
    bob = all_that_waits(world)
    world.now += LOGGED_WITHIN
    told = []
    with in_doubt(world.server, DOUBTS[doubt]):
        for _ in range(3):
            told += look(bob)
            world.now += 600
    told += look(bob)
    bodies = sorted(one.body for one in messages.waiting(bob))
    assert bodies == [b"L" * 9000, b"copied", b"first", b"from a second device"]
    assert [one.owner for one in trusted.list_held_shares(bob)] == [ALICE]
    assert bob.state.vault.epoch == 2
    # Told once, each reason; and never that something was lost.
    held = [(one.user, one.text) for one in told if one.kind is ReportKind.IN_DOUBT]
    assert len(set(held)) == len(held)
    assert not {ReportKind.UNDECRYPTABLE, ReportKind.CONTENT_WITHHELD} & {one.kind for one in told}
    assert not [key for rows in ("held", reports.TOLD, "left") for key in bob.store.keys(rows)]
    assert not letters.waiting(bob, LetterKind.SYNC)
    assert not letters.waiting(bob, LetterKind.SHARE)


@pytest.mark.parametrize("doubt", ["log behind", "chain gone", "sender's chain behind"])
def test_doubt_about_one_person_holds_nobody_elses_messages(world: Members, doubt: str) -> None:
    alice, bob, mallory = (world.published(one) for one in (ALICE, BOB, MALLORY))
    messages.send(mallory, BOB, b"zero")
    messages.receive(bob)
    messages.send(alice, BOB, b"in doubt")
    messages.send(mallory, BOB, b"and on")
    world.now += LOGGED_WITHIN
    apply = DOUBTS[doubt] if doubt.startswith("sender") else instead(f"GET users/{text(ALICE)}/chain", 404, "not-found")
    with in_doubt(world.server, apply):
        assert [one.body for one in messages.receive(bob)] == [b"zero", b"and on"]
        assert box(world, bob) == []
    assert b"in doubt" in [one.body for one in messages.receive(bob)]


def test_report_of_a_doubt_goes_when_it_has_passed(world: Members) -> None:
    alice, bob, _carol = (world.published(one) for one in (ALICE, BOB, CAROL))
    messages.send(alice, BOB, b"one")
    trusted.choose(alice, [BOB, CAROL], k=2)
    with in_doubt(world.server, instead(CHAIN, 404, "not-found")):
        messages.receive(bob)
        trusted.take_shares(bob)
        assert [one.kind for one in messages.reports(bob)] == [ReportKind.IN_DOUBT] * 2
    messages.receive(bob)
    assert len(messages.reports(bob)) == 1, "the share is in doubt still"
    trusted.take_shares(bob)
    assert messages.reports(bob) == []


def test_doubt_that_never_passes_ends_with_the_keys_that_the_message_needs(world: Members) -> None:
    alice, bob = world.published(ALICE), world.published(BOB)
    messages.send(alice, BOB, b"too late")
    with in_doubt(world.server, instead(CHAIN, 404, "not-found")):
        assert [one.kind for one in look(bob)] == [ReportKind.IN_DOUBT]
        world.now += prekeys.KEEP_SECONDS
        confirm(world, bob)
        assert [one.kind for one in look(bob)] == [ReportKind.UNDECRYPTABLE]
        assert look(bob) == []
    assert bob.store.keys("held") == []


def test_message_of_a_device_revoked_meanwhile_is_refused_when_the_doubt_has_passed(world: Members) -> None:
    alice, bob = world.published(ALICE), world.published(BOB)
    tablet = world.another(alice)
    messages.send(tablet, BOB, b"from who stole the tablet?")
    with in_doubt(world.server, instead(CHAIN, 404, "not-found")):
        look(bob)
    revoke(alice, tablet.device.id)
    assert [one.kind for one in look(bob)] == [ReportKind.UNDECRYPTABLE]
    assert messages.waiting(bob) == []


def test_bytes_that_are_wrong_by_themselves_are_refused_in_the_midst_of_a_doubt(world: Members) -> None:
    alice, bob, mallory = (world.published(one) for one in (ALICE, BOB, MALLORY))
    world.server.deliver(bob.device_text, kind="message", message=b64u(b"junk"), sender=alice.device_text)
    stolen = first_message(mallory, bob)
    world.server.deliver(bob.device_text, kind="message", message=b64u(stolen), sender=alice.device_text)
    with in_doubt(world.server, instead(CHAIN, 404, "not-found")):
        assert {one.kind for one in look(bob)} == {ReportKind.UNDECRYPTABLE}
    assert look(bob) == []


def test_people_in_doubt_for_ever_keep_nobody_from_being_asked_about(
    world: Members, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox, "_MOST_DOUBTED", 3)
    alice, bob = world.published(ALICE), world.published(BOB)
    strangers = [world.published(b"stranger %d------" % number) for number in range(5)]
    messages.send(alice, BOB, b"known")
    messages.receive(bob)
    for one in [*strangers, world.another(alice)]:
        messages.send(one, BOB, b"held")
    with in_doubt(world.server, instead(CHAIN, 404, "not-found")):
        messages.receive(bob)
    others = "|".join(text(one.user) for one in strangers[1:])
    with in_doubt(world.server, instead(f"GET users/({others})/chain", 404, "not-found")):
        asked = len(world.server.log)
        # Whom bob knows is asked about first; the stranger of whom there is no doubt in one of the next.
        assert [one.sender for one in messages.receive(bob)][:2] == [ALICE, ALICE]
        paths = [path for _, path, _ in world.server.log[asked:] if re.fullmatch(f"users/({others})/chain", path)]
        assert len(paths) <= 3
        for _ in range(60):
            if len(messages.receive(bob)) == 3:
                break
        assert {one.sender for one in messages.waiting(bob)} == {ALICE, strangers[0].user}


# Large content


@pytest.mark.parametrize("how", ["gone", "not in the format", "empty", "too long"])
def test_large_content_that_does_not_come_now_comes_later(world: Members, how: str) -> None:
    alice, bob = world.published(ALICE), world.published(BOB)
    messages.send(alice, BOB, b"L" * 9000)
    path = "GET messages/.*/content"
    doubt = {
        "gone": instead(path, 404, "not-found"),
        "not in the format": lie(path, content=7),
        "empty": lie(path, content=""),
        "too long": lie(path, content=b64u(bytes(1_100_000))),
    }[how]
    with in_doubt(world.server, doubt):
        assert [one.kind for one in look(bob)] == [ReportKind.CONTENT_WITHHELD]
        messages.send(alice, BOB, b"and on")
        assert look(bob) == []
        assert [one.body for one in messages.waiting(bob)] == [b"and on"]
    assert look(bob) == []
    assert sorted(one.body for one in messages.waiting(bob)) == [b"L" * 9000, b"and on"]
    assert box(world, bob) == []
    assert bob.store.keys("left") == []


def test_large_content_that_never_comes_takes_no_more_than_its_room(
    world: Members, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox, "_MOST_LEFT", 2)
    alice, bob = world.published(ALICE), world.published(BOB)
    for _ in range(4):
        messages.send(alice, BOB, b"L" * 9000)
    with in_doubt(world.server, instead("GET messages/.*/content", 404, "not-found")):
        assert [one.kind for one in look(bob)] == [ReportKind.CONTENT_WITHHELD] * 4
        assert len(box(world, bob)) == 2


def test_what_a_newer_program_would_know_stays_for_it(world: Members, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox, "_MOST_LEFT", 2)
    alice, bob = world.published(ALICE), world.published(BOB)
    for _ in range(3):
        world.server.deliver(bob.device_text, kind="newer", message=b64u(b"?"), sender=alice.device_text)
    messages.send(alice, BOB, b"and on")
    assert {one.kind for one in look(bob)} == {ReportKind.UNDECRYPTABLE}
    assert look(bob) == [], "told once"
    assert [one.body for one in messages.waiting(bob)] == [b"and on"]
    assert [row["kind"] for row in box(world, bob)] == ["newer"] * 2


# Letters


def test_share_of_a_key_that_the_chain_does_not_show_waits_for_it(world: Members) -> None:
    alice, bob, _carol = (world.published(one) for one in (ALICE, BOB, CAROL))
    behind = list(world.server.chains[text(ALICE)])
    revoke(alice, world.another(alice).device.id)
    trusted.choose(alice, [BOB, CAROL], k=2)
    with in_doubt(world.server, chain_of(ALICE, lambda _entries: behind)):
        assert [one.kind for one in look(bob)] == [ReportKind.IN_DOUBT]
        assert trusted.list_held_shares(bob) == []
    assert look(bob) == []
    assert [one.is_current for one in trusted.list_held_shares(bob)] == [True]


def test_share_signed_by_a_key_of_before_is_destroyed_at_once(world: Members) -> None:
    alice, bob, _carol = (world.published(one) for one in (ALICE, BOB, CAROL))
    trusted.choose(alice, [BOB, CAROL], k=2)
    (row,) = [one for one in box(world, bob) if one["kind"] == "share"]
    revoke(alice, world.another(alice).device.id)
    trusted.choose(alice, [BOB, CAROL], k=2)
    look(bob)
    deliver(world, bob, row)
    assert look(bob) == []
    assert not letters.waiting(bob, LetterKind.SHARE)


def test_answer_to_a_pairing_waits_for_the_chain_that_it_rests_on(world: Members) -> None:
    first = world.published(ALICE)
    vault.save(first)
    second = world.profile(ALICE)
    device.enrol(second, world.server.code(ALICE), name="phone")
    pairing.accept(first, pairing.request(second).text())
    letters.fetch(second)
    # The server shows the device as added and hides what came after, on which a second letter rests.
    shown = list(world.server.chains[text(ALICE)])
    world.another(first, "watch")
    pairing.sync(first)
    letters.put_away(second, letters.waiting(second, LetterKind.SYNC))
    with (
        in_doubt(world.server, chain_of(ALICE, lambda _entries: shown)),
        pytest.raises(ClientError, match="does not show"),
    ):
        pairing.complete(second)
    pairing.complete(second)
    assert second.state.vault.epoch == first.state.vault.epoch


# What is on its way

SEND, CLAIM, CHECK = "POST users/.*/messages", "POST (users|devices)/.*/claim", "POST devices/.*/check"
REFUSALS: dict[str, Callable[[LyingServer], None]] = {
    f"{path} {status} {code}": instead(path, status, code)
    for path in (SEND, CLAIM, CHAIN, PROOF, "GET messages")
    for status, code in ((400, "malformed-request"), (401, "unauthenticated"), (404, "not-found"), (422, "untrusted"))
    # The message's own bytes are wrong then, which is for good.
    if (path, status) != (SEND, 400)
} | {
    "taken for another": instead(SEND, 422, "idempotency-key-reused"),
    "no room": instead(SEND, 409, "mailbox-full"),
    "too many": instead(SEND, 429, "message-limit"),
    "denied": instead(SEND, 403, "denied"),
    "other devices": lambda server: server.instead.update(
        {SEND: lambda _body: refusal(422, "envelopes-mismatch", errors=[{"field": "envelopes", "detail": "Others."}])}
    ),
    "stale": instead(SEND, 409, "chain-stale"),
    "not in the format": lambda server: server.instead.update({SEND: lambda _body: (413, {"html": "too large"})}),
}


@pytest.mark.parametrize("refused", REFUSALS)
def test_what_a_passing_refusal_keeps_back_is_sent_when_it_has_passed(world: Members, refused: str) -> None:
    alice, bob = world.published(ALICE), world.published(BOB)
    messages.send(alice, BOB, b"zero")
    alice.api._sleep = lambda _seconds: None
    world.server.instead[SEND] = lambda _body: refusal(503, "unavailable")
    assert not messages.send(alice, BOB, b"one").is_sent
    world.server.instead.clear()
    for _ in range(2):
        # Late enough for the recipient's chain to be fetched, and with a device of theirs that has no session yet.
        world.now += LOGGED_WITHIN
        with in_doubt(world.server, REFUSALS[refused]):
            messages.flush(alice)
    world.another(bob)
    with in_doubt(world.server, REFUSALS[refused]):
        messages.flush(alice)
    flushed = messages.flush(alice)
    assert (flushed.waiting, flushed.refused) == ([], {})
    look(bob)
    assert [one.body for one in messages.waiting(bob)] == [b"zero", b"one"]


def test_message_for_an_account_that_stays_away_is_given_up_after_a_month(world: Members) -> None:
    alice, _bob = world.published(ALICE), world.published(BOB)
    messages.send(alice, BOB, b"zero")
    world.server.instead[SEND] = lambda _body: refusal(404, "not-found")
    with pytest.raises(Problem):
        messages.send(alice, BOB, b"one")
    assert messages.flush(alice).waiting
    world.now += 30 * 86_400
    assert messages.flush(alice).waiting, "nothing is given up by a clock that nothing confirms"
    confirm(world, alice)
    assert not messages.flush(alice).waiting
    (report,) = messages.reports(alice)
    assert report.kind is ReportKind.NOT_SENT
    assert any(b"one" in one for one in report.evidence)


@pytest.mark.parametrize("doubt", [one for one in DOUBTS if not one.startswith("own")])
def test_acknowledgement_that_is_owed_in_a_doubt_is_sent_when_it_has_passed(world: Members, doubt: str) -> None:
    alice, bob, _carol = (world.published(one) for one in (ALICE, BOB, CAROL))
    messages.send(alice, BOB, b"one")
    look(bob)
    bob.api._sleep = lambda _seconds: None
    for one in messages.waiting(bob):
        one.done()
    world.another(alice)
    with in_doubt(world.server, DOUBTS[doubt]):
        for _ in range(2):
            world.now += LOGGED_WITHIN
            look(bob)
    look(bob)
    look(alice)
    assert not list(sent.users(alice.store))


@pytest.mark.parametrize("fault", [403, 404, 503])
def test_acknowledgement_waits_until_the_device_has_published(world: Members, fault: int) -> None:
    alice, bob = world.published(ALICE), world.published(BOB)
    messages.send(alice, BOB, b"one")
    look(bob)
    bob.api._sleep = lambda _seconds: None
    for key in bob.store.keys(prekeys._PUBLISHED):
        bob.store.delete(prekeys._PUBLISHED, key)
    for one in messages.waiting(bob):
        one.done()
    with in_doubt(world.server, instead(CHECK, fault, "no")):
        look(bob)
        assert not [row for row in box(world, alice) if row["kind"] == "message"]
    look(bob)
    assert [row for row in box(world, alice) if row["kind"] == "message"]
