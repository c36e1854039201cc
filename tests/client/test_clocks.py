# SPDX-License-Identifier: Apache-2.0
"""A clock that is wrong destroys nothing, and once it is right everything goes on by itself.

FAULTS W10c. Two clocks have to agree before anything is destroyed for its age: this machine's own, and that of a head
which the pinned log key has signed. The server judges dates here as the real one does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from holdfast.cli.commands import doctor
from holdfast.client.errors import ClientError, Problem
from holdfast.client.identity import device, key_log
from holdfast.client.maintenance import maintain
from holdfast.client.messages import inbox, messages, prekey_rows, prekeys
from holdfast.client.profile.account import Account
from holdfast.client.recovery import by_case
from holdfast.client.rotation import rotation, rotation_record
from holdfast.client.server.clock import Clock
from holdfast.client.sessions import sessions
from holdfast.client.standing import Outcome
from holdfast.client.vault import doors, share_requests, trusted, vault, vault_contents
from holdfast.core.base.encoding import unb64u
from holdfast.core.crypto.keys import SigningKey
from holdfast.core.identity.entries import Reason
from holdfast.core.log.checkpoint import Checkpoint, sign_note
from holdfast.core.messages.prekeys import BatchStatement, SignedPreKey
from holdfast.core.signed.cose import Sign1
from holdfast.core.signed.statements import DeviceStatement
from holdfast.core.vault.share_manifest import ShareRequest
from tests.cast.members import ALICE, BOB, CHEAP, MALLORY, PASSWORD, Members

DAY = 86_400
HOUR = 3600
# Of the field, and their relatives: within a correction and beyond it, in both directions, at the edges of every life
# that a row has, and a machine that has lost its time.
OFFSETS = {
    "10 minutes": 600,
    "2 hours": 2 * HOUR,
    "2 hours behind": -2 * HOUR,
    "23 hours": 23 * HOUR,
    "23 hours behind": -23 * HOUR,
    "2 days": 2 * DAY,
    "8 days": 8 * DAY,
    "8 days behind": -8 * DAY,
    "31 days": 31 * DAY,
    "40 days": 40 * DAY,
    "61 days": 61 * DAY,
    "68 days": 68 * DAY,
    "400 days": 400 * DAY,
    "100 years": 36_500 * DAY,
    "40 days behind": -40 * DAY,
    "10 years behind": -3_650 * DAY,
    "1970": -(10**12),
}
# What is destroyed for its age, by the rows' kinds.
KINDS = (
    *(prekey_rows.SIGNED, prekey_rows.ONE_TIME, prekey_rows.BATCH),
    *("session", "skipped", sessions.INITIAL, sessions.SEEN, "used", inbox.HAD, inbox.HEARD),
    *("former-device", "retired-key", rotation_record.KIND, "sent", "sent-body"),
)


@dataclass
class Friends:
    """Alice, whose clock goes wrong, with all that ages in her profile; and bob, who has written to her."""

    world: Members
    alice: Account
    bob: Account

    def set_clock(self, offset: int) -> Account:
        """Alice as a new process finds her, under a clock that is that many seconds ahead."""
        again = Account(self.alice.store)
        clock = Clock(lambda: self.world.now + offset)
        again.connect(transport=self.world.server.transport(), clock=clock)
        again.api._sleep = lambda _seconds: None
        self.alice = again
        return again

    def rows(self) -> set[tuple[str, bytes]]:
        store = self.alice.store
        return {(kind, key) for kind in KINDS for key in store.keys(kind)}


@pytest.fixture
def friends(world: Members) -> Friends:
    alice, bob = world.published(ALICE), world.published(BOB)
    vault.save(alice)
    # A session that bob's first message begins, with a key of a message that has not come yet.
    messages.send(bob, ALICE, b"first")
    messages.send(bob, ALICE, b"lost on its way")
    world.server.mailboxes[alice.device_text].pop()
    messages.send(bob, ALICE, b"third")
    assert [one.body for one in messages.receive(alice)] == [b"first", b"third"]
    messages.send(alice, BOB, b"hello bob")
    # Old keys, whose grace runs: of the device, the account, and the vault.
    rotation.rotate(alice, {rotation.DEVICE, rotation.VAULT}, reason=Reason.USER_REQUEST)
    for account in (alice, bob):
        for one in messages.receive(account):
            one.done()
    # The signed pre-key of now, which the server hands out while a clock says that its month is over.
    messages.send(bob, ALICE, b"under way")
    # And one that nobody has acknowledged: it is kept to be sent again.
    messages.send(alice, BOB, b"not read yet")
    world.server.judges_dates = True
    return Friends(world, alice, bob)


@pytest.mark.parametrize("name", OFFSETS)
def test_wrong_clock_destroys_nothing_and_all_goes_on_once_it_is_right(friends: Friends, name: str) -> None:
    world, before = friends.world, friends.rows()
    assert {kind for kind, _ in before} == set(KINDS) - {sessions.SEEN}
    wrong = friends.set_clock(OFFSETS[name])
    for _ in range(2):
        said = [one.said for one in maintain(wrong) if one.item == "clock"]
        assert len(said) == 1
        assert ("clock is" in said[0], "behind" in said[0]) == (True, OFFSETS[name] < 0), said
    assert before <= friends.rows()
    assert prekeys.load_signed(wrong, prekey_rows.all_signed(wrong.store)[-1].key_id) is not None
    # Set right: nobody does anything further, in either direction, and to newcomers.
    right = friends.set_clock(0)
    assert [one for one in maintain(right) if one.outcome is Outcome.FAILED or one.item == "clock"][1:] == []
    assert before <= friends.rows()
    carol = world.published(MALLORY)
    messages.send(carol, ALICE, b"from a newcomer")
    messages.send(friends.bob, ALICE, b"after it")
    received = {one.body for one in messages.receive(right)}
    assert {b"under way", b"from a newcomer", b"after it"} <= received
    assert messages.send(right, BOB, b"back").is_sent
    assert {b"not read yet", b"back"} <= {one.body for one in messages.receive(friends.bob)}
    assert messages.reports(right) == []
    world.now += 8 * DAY
    assert prekeys.publish(right).is_renewed


def test_age_destroys_by_a_confirmed_time(friends: Friends) -> None:
    """The clocks above destroy nothing because nothing confirms them, and not because nothing would be destroyed."""
    friends.set_clock(0)
    before = friends.rows()
    friends.world.now += 68 * DAY
    maintain(friends.alice)
    left = before & friends.rows()
    assert {kind for kind, _ in left} <= {prekey_rows.ONE_TIME, prekey_rows.BATCH}, "which the server still hands out"


@pytest.mark.parametrize("name", OFFSETS)
def test_offset_is_told_by_doctor_and_with_every_request_that_is_refused_for_it(friends: Friends, name: str) -> None:
    alice = friends.set_clock(OFFSETS[name])
    if abs(OFFSETS[name]) <= DAY:
        alice.api.get("devices")
    else:
        # Beyond a day it is not dated anew.
        with pytest.raises(Problem) as refused:
            alice.api.get("devices")
        assert alice.clock.in_words() in refused.value.way_out
    told = doctor._clock(alice, "")
    assert "This machine's clock is" in told
    assert ("behind" in told) == (OFFSETS[name] < 0)
    right = friends.set_clock(0)
    right.api.get("devices")
    assert doctor._clock(right, "") == "in step"
    assert "not compared" in doctor._clock(right, "The server cannot be reached.")


# What does not confirm


def head_of(friends: Friends, *, time: int | None, key: SigningKey | None = None, log: str = "keys") -> str:
    known = friends.world.server.keys_log
    verifier = known.verifier(log)
    if key is not None:
        verifier = type(verifier)(verifier.name, key.public)
    newest = known.proof(ALICE, 0, None)
    assert newest is not None
    read = Checkpoint.from_text(newest["checkpoint"].split("\n\n")[0] + "\n")
    text = Checkpoint(verifier.name, read.size, read.root, time).to_text()
    return sign_note(text, verifier=verifier, sign=(key or known.key).sign)


def shows(friends: Friends, note: str) -> None:
    friends.world.server.lies[".* users/[0-9a-f-]+/chain/proof"] = lambda answer: {**answer, "checkpoint": note}


def withheld(friends: Friends, _now: int) -> None:
    gone = {"title": "x", "code": "not-logged-yet", "detail": "x"}
    friends.world.server.instead[".* users/[0-9a-f-]+/chain/proof"] = lambda _body: (404, gone)


def replayed(friends: Friends, _now: int) -> None:
    shows(friends, head_of(friends, time=friends.world.now))


def without_time(friends: Friends, _now: int) -> None:
    shows(friends, head_of(friends, time=None))


def by_another_key(friends: Friends, now: int) -> None:
    shows(friends, head_of(friends, time=now, key=SigningKey.generate()))


def of_the_other_log(friends: Friends, now: int) -> None:
    shows(friends, head_of(friends, time=now, log="audit"))


def six_minutes_old(friends: Friends, now: int) -> None:
    shows(friends, head_of(friends, time=now - 301))


def six_minutes_ahead(friends: Friends, now: int) -> None:
    shows(friends, head_of(friends, time=now + 301))


def heard_of(friends: Friends, now: int) -> None:
    """A contact's word of a head: whoever is in league with the server could be told one."""
    replayed(friends, now)
    assert key_log.hear(friends.alice, head_of(friends, time=now))


def without_a_pinned_key(friends: Friends, _now: int) -> None:
    friends.alice.state.trust.log_keys = []
    friends.alice.state.trust.roles = None


LIES = (
    *(withheld, replayed, without_time, by_another_key, of_the_other_log),
    *(six_minutes_old, six_minutes_ahead, heard_of, without_a_pinned_key),
)


@pytest.mark.parametrize("lie", LIES, ids=lambda lie: lie.__name__)
def test_web_process_that_invents_a_time_has_nothing_destroyed(
    friends: Friends, lie: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """This machine's clock is 68 days ahead, and the web process plays along, whatever it is asked."""
    monkeypatch.setattr(key_log, "_FRESH_HEAD_SECONDS", 0)
    alice, before = friends.set_clock(68 * DAY), friends.rows()
    friends.world.server.judges_dates = False
    friends.world.server.keys_log.clock = lambda: NOT_SHOWN
    lie(friends, friends.world.now + 68 * DAY)
    maintain(alice)
    assert before <= friends.rows()


NOT_SHOWN = 1_600_000_000  # a time of long before: what the log says where a lie does not speak for it


@pytest.mark.parametrize("days", [-1, 1, 60])
def test_servers_word_on_the_time_destroys_nothing_under_a_right_clock(friends: Friends, days: int) -> None:
    """A 401 moves the dates of requests, by a day at most; the rest of the house goes by two clocks that agree."""
    alice = friends.set_clock(0)
    friends.world.now += 29 * DAY + 12 * HOUR
    before = friends.rows()
    alice.api.clock.correct(friends.world.now + days * DAY)
    friends.world.server.judges_dates = False
    maintain(alice)
    assert before <= friends.rows()


# What lies in the future is made anew


def test_signed_pre_key_and_batch_of_the_future_are_made_anew(world: Members) -> None:
    alice = world.enrolled(ALICE)
    path = f"POST devices/{alice.device_text}/pre-keys"
    world.server.instead[path] = lambda _body: (503, {"title": "x", "code": "unavailable"})
    alice.connect(transport=world.server.transport(), clock=Clock(lambda: world.now + 8 * DAY))
    alice.api._sleep = lambda _seconds: None
    with pytest.raises(Problem):
        prekeys.publish(alice)
    world.server.instead.clear()
    world.server.judges_dates = True
    alice.connect(transport=world.server.transport(), clock=Clock(lambda: world.now))
    assert [one.said for one in maintain(alice) if one.outcome is Outcome.FAILED] == []
    assert prekeys.publish(alice).warnings == ()
    signed = Sign1.parse(unb64u(world.server.bundles[alice.device_text]["signed_pre_key"]))
    batch = Sign1.parse(unb64u(world.server.batches[alice.device_text][0]["batch"]))
    dates = (
        SignedPreKey.from_payload(signed.payload).header.issued_at,
        BatchStatement.from_payload(batch.payload).header.issued_at,
    )
    assert max(dates) <= world.now


def test_device_of_the_future_enrols_by_the_same_code(world: Members) -> None:
    code = world.server.code(ALICE)
    alice = world.profile(ALICE)
    world.server.judges_dates = True
    alice.connect(transport=world.server.transport(), clock=Clock(lambda: world.now + 8 * DAY))
    with pytest.raises(Problem):
        device.enrol(alice, code, name="laptop")
    alice.connect(transport=world.server.transport(), clock=Clock(lambda: world.now))
    assert device.enrol(alice, code, name="laptop").is_active


def test_rotation_begun_in_the_future_is_finished(friends: Friends) -> None:
    world, alice = friends.world, friends.set_clock(8 * DAY)
    world.server.judges_dates = False
    world.server.instead[".* devices/[0-9a-f-]+/successor"] = lambda _body: (422, {"title": "x", "code": "expired"})
    with pytest.raises(Problem):
        rotation.rotate(alice, {rotation.DEVICE}, reason=Reason.USER_REQUEST)
    world.server.instead.clear()
    world.server.judges_dates = True
    right = friends.set_clock(0)
    (done,) = rotation.resume(right)
    assert done.is_done
    statement = DeviceStatement.from_payload(Sign1.parse(right.device.statement).payload)
    assert statement.header.issued_at <= world.now
    assert right.chain.time <= world.now
    assert right.device.id in right.chain.devices


def test_set_of_shares_of_the_future_is_made_anew(friends: Friends) -> None:
    world = friends.world
    world.published(MALLORY)
    alice = friends.set_clock(8 * DAY)
    world.server.judges_dates = False
    world.server.instead["PUT recovery/contacts"] = lambda _body: (503, {"title": "x", "code": "unavailable"})
    with pytest.raises(Problem):
        trusted.choose(alice, [BOB, MALLORY], k=2)
    world.server.instead.clear()
    right = friends.set_clock(0)
    assert trusted.resume(right)
    chosen = trusted.find_chosen_set(right)
    assert chosen is not None
    assert chosen.made_at <= world.now


def test_contacts_keep_the_set_of_today_beside_one_of_the_future(friends: Friends) -> None:
    """They take each letter before the chain names its set, as people's timers do."""
    world, contacts = friends.world, (friends.bob, friends.world.published(MALLORY))

    def taken(answer: dict[str, Any]) -> dict[str, Any]:
        for contact in contacts:
            messages.receive(contact)
            trusted.take_shares(contact)
        return answer

    world.server.lies["PUT recovery/contacts"] = taken
    world.server.judges_dates = False
    for days in (8, 0):
        trusted.choose(friends.set_clock(days * DAY), [BOB, MALLORY], k=2)
        for contact in contacts:
            held = trusted.take_shares(contact)
            assert [one.is_current for one in held].count(True) == 1, "the set that the chain names"


def test_request_to_contacts_of_the_future_is_made_anew(friends: Friends) -> None:
    world = friends.world
    world.server.judges_dates = False
    world.published(MALLORY)
    trusted.choose(friends.set_clock(0), [BOB, MALLORY], k=2)
    tablet = world.enrolled(ALICE)
    tablet.connect(transport=world.server.transport(), clock=Clock(lambda: world.now + 2 * DAY))
    tablet.api._sleep = lambda _seconds: None
    world.server.instead["POST recovery/contacts/requests"] = lambda _body: (422, {"title": "x", "code": "expired"})
    with pytest.raises(Problem):
        share_requests.open_request(tablet)
    world.server.instead.clear()
    tablet.connect(transport=world.server.transport(), clock=Clock(lambda: world.now))
    share_requests.open_request(tablet)
    sent = [body["request"] for body in world.server.posted("recovery/contacts/requests")]
    dates = [ShareRequest.from_payload(unb64u(request)).header.issued_at for request in sent]
    assert [date <= world.now for date in dates] == [False, True]


# What a clock that was ahead has dated keeps nothing for ever


def test_what_was_dated_ahead_has_its_life_from_the_day_on_which_the_clock_is_right(friends: Friends) -> None:
    """Both clocks agreed, and both were wrong: a machine on which all of it runs."""
    world = friends.world
    world.server.judges_dates = False
    ahead = friends.set_clock(0)
    world.now += 400 * DAY
    maintain(ahead)
    carol = world.published(MALLORY)
    messages.send(carol, ALICE, b"one")
    messages.send(carol, ALICE, b"lost on its way")
    world.server.mailboxes[ahead.device_text].pop()
    messages.send(carol, ALICE, b"three")
    for one in messages.receive(ahead):
        one.done()
    rotation.rotate(ahead, {rotation.VAULT}, reason=Reason.USER_REQUEST)
    made = friends.rows()
    world.now -= 400 * DAY
    right = friends.set_clock(0)
    maintain(right)
    assert made <= friends.rows()
    assert prekeys.publish(right).warnings == ()
    world.now += 68 * DAY
    maintain(right)
    left = {kind for kind, _ in made & friends.rows()}
    assert left <= {prekey_rows.ONE_TIME, prekey_rows.BATCH}


def test_chain_in_the_future_is_rotated_once_a_month_and_not_at_every_call(friends: Friends) -> None:
    world = friends.world
    world.server.judges_dates = False
    world.now += 400 * DAY
    rotation.rotate(friends.set_clock(0), {rotation.IDENTITY}, reason=Reason.USER_REQUEST)
    world.now -= 400 * DAY
    right = friends.set_clock(0)
    # By this device's own word, which is of today: that of the rotation before, and then of each.
    for days, is_due in ((0, False), (29, False), (2, True), (0, False), (29, False), (2, True)):
        world.now += days * DAY
        assert (rotation.due(right) is not None) is is_due, days
        maintain(right)


def test_removed_door_stays_removed_though_it_was_set_in_the_future(friends: Friends) -> None:
    """Devices keep the later of two rows: what is done now must not give way to what a clock dated ahead."""
    world, alice = friends.world, friends.set_clock(0)
    world.server.judges_dates = False
    world.now += 8 * DAY
    doors.set_password(alice, PASSWORD, cost=CHEAP)
    row = alice.store.get(vault_contents.DOOR, b"password")
    assert row is not None
    world.now -= 8 * DAY
    doors.remove(alice, doors.PASSWORD)
    removed = alice.store.get(vault_contents.DOOR, b"password")
    assert removed is not None
    assert vault_contents.written_at(removed) > vault_contents.written_at(row)


# Cases and disclosures


@pytest.mark.parametrize("by", ["collect", "cancel", "open"])
def test_keys_of_a_case_are_not_destroyed_by_a_clock_that_says_it_is_over(
    by: str, world: Members, tmp_path: Path
) -> None:
    bob, ask, opened = world.disclosing(tmp_path)
    bob.connect(transport=world.server.transport(), clock=Clock(lambda: world.now + 700 * DAY))
    acts: dict[str, Callable[[], object]] = {
        "collect": partial(by_case.collect, bob),
        "open": ask,
        "cancel": partial(by_case.cancel, bob, reason="x"),
    }
    world.server.instead["POST cases/[0-9a-f-]+/cancel"] = lambda _body: (409, {"title": "x", "code": "conflict"})
    bob.api._sleep = lambda _seconds: None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(key_log, "_FRESH_HEAD_SECONDS", 0)
        with pytest.raises(ClientError):
            acts[by]()
    assert bob.state.case is not None
    bob.connect(transport=world.server.transport(), clock=Clock(lambda: world.now))
    done = by_case.collect(bob)
    assert done.disclosure is not None
    # Neither are those that it disclosed.
    bob.connect(transport=world.server.transport(), clock=Clock(lambda: world.now + 700 * DAY))
    maintain_at_once(bob)
    assert bob.store.keys("disclosed-keys") == [opened.case_id.bytes]


def maintain_at_once(account: Account) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(key_log, "_FRESH_HEAD_SECONDS", 0)
        maintain(account)
