# SPDX-License-Identifier: Apache-2.0
"""One call does all that is due, says what it did and what needs the person, and the next one does nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from holdfast.client import maintenance, standing
from holdfast.client.errors import Problem, Unreachable
from holdfast.client.escrow import archive, escrow
from holdfast.client.identity import contacts, device, key_log
from holdfast.client.maintenance import Done, Outcome, maintain
from holdfast.client.messages import bundles, letters, messages, prekey_rows, prekeys
from holdfast.client.profile.account import Account
from holdfast.client.recovery import by_case
from holdfast.client.rotation import rotation
from holdfast.client.sessions import sessions
from holdfast.client.vault import doors, pairing, trusted, vault
from holdfast.core.identity.entries import Reason
from holdfast.core.identity.policy import DepositRule
from tests.cast.lying_server import LyingServer, Tenant, refused, text
from tests.cast.members import ALICE, BOB, CHEAP, MALLORY, PASSWORD, Members
from tests.client import cuts
from tests.client.cuts import Moments, Scene
from tests.soak import rounds

DAY = 86_400
DID = (Outcome.DONE, Outcome.FAILED)


def of(report: list[Done], item: str) -> list[Done]:
    return [one for one in report if one.item == item]


def did(report: list[Done]) -> list[Done]:
    """What a call changed or failed at; what stands open is told at every call."""
    return [one for one in report if one.outcome in DID]


def needs(report: list[Done], part: str) -> list[Done]:
    return [one for one in report if one.outcome is Outcome.NEEDS_YOU and part in one.said]


@pytest.fixture
def alice(world: Members) -> Account:
    account = world.published(ALICE)
    vault.save(account)
    doors.set_password(account, PASSWORD, cost=CHEAP)
    vault.save_if_changed(account)
    return account


@pytest.mark.parametrize("answer", ["log-restored", "", "nothing-restored"])
def test_device_that_a_restored_server_lost_comes_back_and_says_once_what_it_waits_for(
    answer: str, world: Members, alice: Account
) -> None:
    maintain(alice)

    def asked_back(_body: Any) -> tuple[int, dict[str, Any]]:
        if answer:
            return refused(503 if answer == "log-restored" else 409, answer)
        world.server.instead.clear()
        return 201, {"device_id": alice.device_text, "user_id": text(ALICE), "state": "active"}

    world.server.instead = {"POST devices/restored": asked_back, ".*": lambda _body: refused(401, "unauthenticated")}
    report = maintain(alice)
    failed = [one.item for one in report if one.outcome is Outcome.FAILED]
    assert bool(failed) is (answer == "nothing-restored")
    assert [one.outcome for one in of(report, "server")] == [Outcome.NEEDS_YOU] * (answer == "log-restored")


def test_call_after_a_call_does_nothing_and_says_so(world: Members, alice: Account) -> None:
    world.now += 8 * DAY
    first = maintain(alice)
    assert [one.item for one in did(first)] == ["pre-keys"]
    before = len(world.server.log)
    again = maintain(alice)
    assert did(again) == []
    assert of(again, "pre-keys") == [Done("pre-keys", Outcome.NOTHING, "Nothing was due.")]
    changed = [(method, path) for method, path, _ in world.server.log[before:] if method != "GET"]
    assert [path.rpartition("/")[2] for _, path in changed] == ["check"], "a question: the server has all of it"


def test_every_part_is_named_in_the_report(alice: Account) -> None:
    assert {item.name for item in maintenance._ITEMS} <= {one.item for one in maintain(alice)}


def test_part_that_fails_is_told_with_its_way_out_and_stops_no_other(world: Members, alice: Account) -> None:
    world.server.lies["GET escrow/policy"] = lambda answer: {**answer, "root_key": "AAAA"}
    world.now += 8 * DAY
    report = maintain(alice)
    (failed,) = of(report, "organisation")
    assert failed.outcome is Outcome.FAILED
    assert "officers" in failed.way_out
    assert of(report, "pre-keys")[0].outcome is Outcome.DONE
    assert [one.item for one in did(report)] == ["organisation", "pre-keys"]


LIMIT = {"title": "Full", "code": "limit-reached", "detail": "There are as many as there may be. End some."}


@pytest.mark.parametrize("status", [409, 429])
def test_limit_that_one_part_meets_keeps_no_other_from_its_work(world: Members, alice: Account, status: int) -> None:
    bob = world.published(BOB)
    world.published(MALLORY)
    alice.api._sleep = lambda _seconds: None
    path = rf"POST devices/({alice.device_text}/check|{bob.device_text}/messages)"
    world.server.instead[path] = lambda _body: (status, LIMIT)
    with pytest.raises(Problem):
        trusted.choose(alice, [BOB, MALLORY], k=2)
    report = maintain(alice)
    failed = {one.item: one for one in report if one.outcome is Outcome.FAILED}
    assert set(failed) == {"pre-keys", "trusted contacts"}
    assert all(one.said == LIMIT["detail"] for one in failed.values())
    assert of(report, "backup")[0].outcome is Outcome.DONE
    assert {one.item for one in report} >= {item.name for item in maintenance._ITEMS}


def test_refused_statement_of_the_core_is_told_too(world: Members, alice: Account) -> None:
    world.server.lies[f"POST devices/{alice.device_text}/check"] = lambda answer: {**answer, "count": 7}
    (failed,) = of(maintain(alice), "pre-keys")
    assert (failed.outcome, "digest" in failed.said) == (Outcome.FAILED, True)


def test_server_away_is_met_once_and_what_needs_none_is_still_done(world: Members, alice: Account) -> None:
    world.now += 8 * DAY
    prekeys.publish(alice)
    world.now += 31 * DAY
    assert key_log.confirm_time(alice)
    world.server.lost.add(".*")
    alice.api._sleep = lambda _seconds: None
    report = maintain(alice)
    assert [one.outcome for one in report].count(Outcome.FAILED) == 1
    assert report[0].item == "mailbox"
    (old,) = of(report, "old keys")
    assert (old.outcome, "1 pre-keys" in old.said) == (Outcome.DONE, True)
    assert of(report, "pre-keys") == []


@pytest.mark.rounds("cuts")
def test_maintenance_cut_off_at_any_moment_is_finished_by_the_next(worlds: Iterator[Members]) -> None:
    def scenes() -> Iterator[Scene]:
        for world in worlds:
            alice, bob = world.published(ALICE), world.published(BOB)
            vault.save(alice)
            archive.new_generation(alice)
            messages.send(alice, BOB, b"first")
            leave_waiting(world, alice, b"second")
            world.now += 31 * DAY
            world.server.now = world.now
            yield Scene(world, alice, (bob,))

    def act(account: Account) -> None:
        assert not [one for one in maintain(account) if one.outcome is Outcome.FAILED]

    def check(scene: Scene) -> None:
        alice = cuts.reopened(scene.world, scene.account, Moments())
        assert did(maintain(alice)) == []
        assert alice.identity_key.public == alice.chain.aik
        assert [one.number for one in alice.state.generations] == [1, 2]
        assert {one.body for one in messages.receive(scene.others[0])} == {b"first", b"second"}
        assert vault.load(alice) is not None

    # Every part is swept by its own tests; here it is their order that must not matter.
    assert cuts.sweep(scenes(), act, check, step=rounds(7, 1)) >= 150


# Messages


def leave_waiting(world: Members, account: Account, body: bytes) -> None:
    """Send a message to bob while the server is busy: it waits in the outbox."""
    world.server.instead[".* users/[0-9a-f-]+/messages"] = lambda _body: (503, {"title": "x", "code": "unavailable"})
    account.api._sleep = lambda _seconds: None
    assert not messages.send(account, BOB, body).is_sent
    world.server.instead.clear()


def test_message_that_waited_is_sent(world: Members, alice: Account) -> None:
    bob = world.published(BOB)
    messages.send(alice, BOB, b"first")
    leave_waiting(world, alice, b"second")
    world.server.instead[".* users/[0-9a-f-]+/messages"] = lambda _body: (503, {"title": "x", "code": "unavailable"})
    (waits,) = of(maintain(alice), "outbox")
    assert (waits.outcome, "1 messages" in waits.said) == (Outcome.NEEDS_YOU, True)
    world.server.instead.clear()
    (sent,) = of(maintain(alice), "outbox")
    assert sent.outcome is Outcome.DONE
    assert [one.body for one in messages.receive(bob)] == [b"first", b"second"]
    assert of(maintain(alice), "outbox")[0].outcome is Outcome.NOTHING


def test_server_that_waits_for_its_officers_is_one_line_and_everything_goes_out_later(
    world: Members, alice: Account
) -> None:
    bob = world.published(BOB)
    messages.send(alice, BOB, b"first")
    world.server.is_read_only = True
    asked = len(world.server.log)
    sent = [messages.send(alice, BOB, body) for body in (b"second", b"third")]
    assert not any(one.is_sent for one in sent)
    world.now += 8 * DAY
    report = maintain(alice)
    (said,) = of(report, "server")
    assert (said.outcome, "officer resolve accept-log" in said.way_out) == (Outcome.NEEDS_YOU, True)
    assert not [one for one in report if one.outcome is Outcome.FAILED]
    assert [one for one in report if one.said.startswith("Waits until officers")]
    tried = [path for method, path, _ in world.server.log[asked:] if method == "POST" and path.endswith("/messages")]
    assert len(tried) == 3, "one for each that is sent, and one for all that wait"
    world.server.is_read_only = False
    maintain(alice)
    assert {one.body for one in messages.receive(bob)} == {b"first", b"second", b"third"}


def test_backup_that_was_put_back_is_one_failure_until_it_is_accepted_and_then_said_until_it_was_read(
    world: Members, alice: Account
) -> None:
    bob = world.published(BOB)
    contacts.refresh(alice, BOB)
    backup = world.server.backup()
    for _ in range(2):
        archive.new_generation(bob)
        contacts.refresh(alice, BOB)
    world.now += 3600
    world.server.put_back(backup)
    (failed,) = [one for one in maintain(alice) if one.outcome is Outcome.FAILED]
    assert failed.item == "server"
    assert "accept-log" in failed.way_out
    assert world.server.shown_heads
    world.server.accept(world.now)
    for _ in range(2):
        (told,) = needs(maintain(alice), "put back from a backup")
        standing.note_shown(alice, [told.kept])
    assert standing.put_away_seen(alice) == 1
    assert not needs(maintain(alice), "put back from a backup")


def test_sessions_end_when_nothing_can_arrive_in_them_any_more(world: Members, alice: Account) -> None:
    bob = world.published(BOB)
    messages.send(alice, BOB, b"hello")
    for one in messages.receive(bob):
        one.done()
    peer = sessions.Address(ALICE, alice.device.id)
    world.now += 66 * DAY
    maintain(bob)
    assert sessions.places(bob.store, peer)
    assert not bob.store.keys(sessions.INITIAL), "the initial part could come again for 60 days"
    world.now += DAY
    maintain(bob)
    assert not sessions.places(bob.store, peer)
    assert bob.store.keys("session") == []


# The account and its devices


def test_pending_device_is_named_on_the_others_and_told_so_itself(world: Members, alice: Account) -> None:
    phone = world.profile(ALICE)
    done = device.enrol(phone, world.server.code(ALICE), name="phone")
    (asked,) = needs(maintain(alice), "asks to become part")
    assert f"holdfast devices approve {done.device}" in asked.way_out
    own = maintain(phone)
    assert [one.item for one in own if one.outcome is Outcome.NEEDS_YOU] == ["this device"]
    assert did(own) == []
    device.approve(alice, done.device, words=done.words)
    assert needs(maintain(alice), "asks to become part") == []


def test_entry_of_another_device_is_told_until_the_person_has_seen_it(world: Members, alice: Account) -> None:
    phone = world.another(alice)
    pairing.sync(alice)
    maintain(phone)
    archive.new_generation(phone)
    for _ in range(2):
        report = maintain(alice)
        assert len(needs(report, "was not made on this device")) == 1
    assert standing.put_away_seen(alice) == 0, "nobody has been shown anything"
    standing.note_shown(alice, [one.kept for one in report if one.kept])
    archive.new_generation(phone)
    maintain(alice)
    assert standing.put_away_seen(alice) >= 1
    (since,) = needs(maintain(alice), "was not made on this device")
    standing.note_shown(alice, [since.kept])
    assert standing.put_away_seen(alice) == 1
    assert needs(maintain(alice), "was not made on this device") == []


def test_keys_that_another_device_changed_are_taken_over(world: Members, alice: Account) -> None:
    phone = world.another(alice)
    pairing.sync(alice)
    maintain(phone)
    assert phone.identity_key.public == alice.identity_key.public
    rotation.rotate(alice, {rotation.IDENTITY, rotation.VAULT}, reason=Reason.USER_REQUEST)
    report = maintain(phone)
    assert of(report, "mailbox")[-1].outcome is Outcome.DONE
    assert phone.identity_key.public == alice.identity_key.public
    assert phone.state.vault.key == alice.state.vault.key


def test_identity_key_is_replaced_after_a_month(world: Members, alice: Account) -> None:
    before = alice.chain.aik
    world.now += 29 * DAY
    maintain(alice)
    assert alice.chain.aik == before
    world.now += 2 * DAY
    (turned,) = of(maintain(alice), "rotation")
    assert turned.outcome is Outcome.DONE
    assert alice.chain.aik != before
    assert of(maintain(alice), "rotation")[0].outcome is Outcome.NOTHING


def test_rotation_that_was_interrupted_is_finished(world: Members, alice: Account) -> None:
    before = alice.chain.aik
    path = f"POST users/{alice.user_text}/chain"
    world.server.lost.add(path)
    alice.api._sleep = lambda _seconds: None
    with pytest.raises(Unreachable):
        rotation.rotate(alice, {rotation.IDENTITY}, reason=Reason.USER_REQUEST)
    world.server.lost.clear()
    assert of(maintain(alice), "rotation")[0].outcome is Outcome.DONE
    assert alice.chain.aik != before
    assert alice.identity_key.public == alice.chain.aik


# Archive, escrow and backup


def test_new_month_gets_its_archive_key_deposited_and_saved(world: Members, tmp_path: Path) -> None:
    alice = world.depositor(tmp_path)
    prekeys.publish(alice)
    vault.save(alice)
    assert did(maintain(alice)) == []
    world.now += 31 * DAY
    report = maintain(alice)
    assert of(report, "archive")[0].said.endswith("generation 2.")
    assert of(report, "escrow")[0].said == "Deposited 1 archive keys, as you agreed."
    assert of(report, "backup")[0].outcome is Outcome.DONE
    assert len(world.server.deposits) == 2
    assert did(maintain(alice)) == []


def test_archive_key_that_another_device_made_is_taken_over(world: Members, alice: Account) -> None:
    phone = world.another(alice)
    pairing.sync(alice)
    maintain(phone)
    archive.new_generation(alice)
    (failed,) = of(maintain(phone), "archive")
    assert failed.outcome is Outcome.FAILED, "it is announced, and not in the vault yet"
    maintain(alice)
    assert of(maintain(phone), "archive")[0].outcome is Outcome.DONE
    assert [one.key for one in phone.state.generations] == [one.key for one in alice.state.generations]
    assert did(maintain(phone)) == []


def test_archive_key_is_never_deposited_without_the_persons_yes(world: Members, alice: Account) -> None:
    archive.new_generation(alice)
    report = maintain(alice)
    assert of(report, "escrow") == [Done("escrow", Outcome.NOTHING, "Nothing was due.")]
    assert world.server.deposits == {}


def test_policy_that_wants_deposits_first_asks_for_the_persons_yes() -> None:
    world = Members(LyingServer(Tenant(rule=DepositRule.ALL)))
    alice = world.published(ALICE)
    archive.new_generation(alice)
    (asked,) = of(maintain(alice), "escrow")
    assert asked.outcome is Outcome.NEEDS_YOU
    assert "holdfast escrow" in asked.way_out
    assert world.server.deposits == {}
    escrow.consent(alice)
    assert of(maintain(alice), "escrow")[0].outcome is Outcome.DONE


def test_keyring_is_saved_when_it_holds_something_new(world: Members, alice: Account) -> None:
    world.published(BOB)
    assert of(maintain(alice), "backup")[0].outcome is Outcome.NOTHING
    bundles.claim(alice, BOB)
    assert of(maintain(alice), "backup")[0].outcome is Outcome.DONE
    assert of(maintain(alice), "backup")[0].outcome is Outcome.NOTHING


def test_account_on_one_device_without_a_backup_is_warned_of(world: Members, alice: Account) -> None:
    assert needs(maintain(alice), "no way back") == []
    assert needs(maintain(world.published(BOB)), "no way back")


def test_door_that_a_new_vault_key_closed_is_named(alice: Account) -> None:
    rotation.rotate(alice, {rotation.VAULT}, reason=Reason.USER_REQUEST)
    (closed,) = needs(maintain(alice), "no longer opens")
    assert closed.way_out == "holdfast backup password"


# What others did


def test_case_about_the_person_is_told(world: Members, tmp_path: Path) -> None:
    alice = world.depositor(tmp_path)
    prekeys.publish(alice)
    assert needs(maintain(alice), "Officers are asked") == []
    tablet = world.enrolled(ALICE)
    opened = by_case.open_case(tablet, reason="lost both", purpose="recovery", subject=ALICE)
    (told,) = needs(maintain(alice), "Officers are asked")
    assert str(opened.case_id) in told.said


def test_door_that_a_new_device_read_is_told_until_it_was_seen(world: Members, alice: Account) -> None:
    phone = world.enrolled(ALICE)
    doors.open_with_password(phone, password=PASSWORD)
    for _ in range(2):
        (told,) = needs(maintain(alice), "has fetched the password door")
        assert phone.device_text in told.said
        assert f"holdfast devices revoke {phone.device_text}" in told.way_out
    standing.note_shown(alice, [told.kept])
    assert standing.put_away_seen(alice) == 1
    assert needs(maintain(alice), "has fetched") == []


@pytest.mark.parametrize(
    "said",
    [
        {"event": "door-read", "device_id": "\x1b[2J\x1b[1;1HAll is well.", "kind": ["password"]},
        {"event": "Your account is in danger: call +1 555 0100"},
        {"event": "{said}", "device_id": "{event}"},
    ],
)
def test_words_that_a_server_puts_into_a_notice_are_not_shown(world: Members, alice: Account, said: Any) -> None:
    world.server.notice(alice.user_text, said)
    (told,) = [one for one in maintain(alice) if one.item == "notices"]
    assert told.outcome is Outcome.NEEDS_YOU
    assert "(unnamed)" in told.said
    assert not [part for part in ("All is well", "danger", "\x1b", "{") if part in told.said + told.way_out]


def test_notice_that_nobody_read_goes_after_a_month(world: Members, alice: Account) -> None:
    phone = world.enrolled(ALICE)
    doors.open_with_password(phone, password=PASSWORD)
    maintain(alice)
    assert letters.notices(alice)
    world.now += 31 * DAY
    maintain(alice)
    assert letters.notices(alice) == []


def test_keys_the_server_voided_are_made_anew_and_told(world: Members, alice: Account) -> None:
    world.server.batches.clear()
    world.server.epoch += 1
    report = of(maintain(alice), "pre-keys")
    assert [one.outcome for one in report] == [Outcome.DONE, Outcome.NEEDS_YOU]
    assert len(list(prekey_rows.all_one_time(alice.store))) == 200


def test_account_that_is_not_enrolled_says_to_enrol(world: Members) -> None:
    with pytest.raises(Exception, match="not enrolled"):
        maintain(world.profile(ALICE))
