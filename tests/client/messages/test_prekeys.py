# SPDX-License-Identifier: Apache-2.0
"""This device's pre-keys: renewed and refilled in time, held against what the server says, destroyed when over.

Implements PROTOCOL section 2 (pre-keys) and FAULTS X1, X2, D10 and D11 on the client.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from holdfast.client.errors import AnswerRefused, ClientError, NotYet, Problem, ProfileError, Unreachable
from holdfast.client.identity import chains, device, key_log
from holdfast.client.messages import messages, prekey_rows, prekeys
from holdfast.client.messages.prekey_rows import BatchRow, Ledger, OneTimeRow, SignedRow
from holdfast.client.profile.account import Account
from holdfast.client.rotation import rotation
from holdfast.client.server.clock import Clock
from holdfast.core.base.encoding import unb64u
from holdfast.core.identity.entries import Reason
from holdfast.core.messages.bundle import one_time_statement
from holdfast.core.messages.prekeys import OneTimePreKey, SignedPreKey
from holdfast.core.signed.cose import Sign1
from tests.cast.lying_server import NOW, text
from tests.cast.members import ALICE, BOB, Members
from tests.client import cuts
from tests.client.cuts import Moments, Scene

DAY = 86_400


def at(world: Members, account: Account, day: float) -> Account:
    """Move an account's clock, and the log's, to a day after the first."""
    world.now = NOW + int(day * DAY)
    account.connect(transport=world.server.transport(), clock=Clock(lambda: NOW + int(day * DAY)))
    assert key_log.confirm_time(account)
    return account


def one_time_ids(account: Account) -> list[int]:
    return [row.key_id for row in prekey_rows.all_one_time(account.store)]


def claim(world: Members, account: Account) -> int:
    """Let the server hand out a one-time key of an account's; returns its id."""
    row = world.server.batches[account.device_text].pop(0)
    return OneTimePreKey.from_leaf(unb64u(row["leaf"]), account.suite).key_id


def test_first_publishing_makes_one_signed_and_a_hundred_one_time_keys(world: Members) -> None:
    alice = world.enrolled(ALICE)
    done = prekeys.publish(alice)
    assert (done.is_renewed, done.stored, done.count, done.warnings) == (True, 100, 100, ())
    again = prekeys.publish(alice)
    assert (again.is_renewed, again.stored, again.count, again.destroyed, again.warnings) == (False, 0, 100, 0, ())


def test_batch_whose_answer_was_lost_is_sent_again_without_a_key_and_stored_once(world: Members) -> None:
    """The server knows a batch by its signed id, and keeps no answer for it: an upload costs it one statement."""
    alice = world.enrolled(ALICE)
    path = f"devices/{alice.device_text}/pre-keys"
    world.server.lost.add(f"POST {path}")
    with pytest.raises(Unreachable):
        prekeys.publish(alice)
    world.server.lost.clear()
    prekeys.publish(alice)
    assert len(world.server.posted(path)) > 1
    assert len(world.server.batches[alice.device_text]) == 100
    assert world.server.keys_of(path) == {""}


def test_signed_pre_key_of_a_clock_that_was_ahead_is_replaced_at_once(world: Members) -> None:
    """FAULTS W10a: nobody takes a pre-key of the future, so nobody could begin a session for as long as it was off."""
    alice = at(world, world.enrolled(ALICE), 1 / 12)
    prekeys.publish(alice)
    assert prekeys.publish(at(world, alice, 0)).is_renewed
    assert not prekeys.publish(alice).is_renewed


def test_pending_device_publishes_nothing(world: Members) -> None:
    world.enrolled(ALICE)
    second = world.enrolled(ALICE)
    with pytest.raises(ProfileError, match="not part of your account"):
        prekeys.publish(second)
    assert second.device_text not in world.server.bundles


def test_responder_gets_the_private_halves_of_what_the_server_hands_out(world: Members) -> None:
    alice = world.published(ALICE)
    handed = world.server.batches[alice.device_text][0]
    public = OneTimePreKey.from_leaf(unb64u(handed["leaf"]), alice.suite)
    own = prekeys.one_time(alice, public.key_id)
    assert own is not None
    assert own.dh.public == public.dh
    assert own.kem is not None
    assert own.kem.public == public.kem
    assert own.statement == one_time_statement(Sign1.parse(unb64u(handed["batch"])).payload, unb64u(handed["leaf"]))
    payload = Sign1.parse(unb64u(world.server.bundles[alice.device_text]["signed_pre_key"])).payload
    signed = prekeys.load_signed(alice, SignedPreKey.from_payload(payload).key_id)
    assert signed is not None
    assert (signed.statement, signed.dh.public) == (payload, SignedPreKey.from_payload(payload).dh)


def test_used_one_time_key_is_gone_and_comes_back_with_an_undone_transaction(world: Members) -> None:
    alice = world.published(ALICE)
    first, second = one_time_ids(alice)[:2]
    prekeys.use_up(alice, first)
    assert prekeys.one_time(alice, first) is None
    with contextlib.suppress(ZeroDivisionError), alice.store.transaction():
        prekeys.use_up(alice, second)
        assert prekeys.one_time(alice, second) is None
        raise ZeroDivisionError
    assert prekeys.one_time(alice, second) is not None
    assert prekeys.one_time(alice, 9_999) is None


@pytest.mark.parametrize(("left", "stored"), [(25, 0), (24, 100)])
def test_pool_is_refilled_below_25(world: Members, left: int, stored: int) -> None:
    alice = world.published(ALICE)
    for _ in range(100 - left):
        claim(world, alice)
    done = prekeys.publish(alice)
    assert (done.stored, done.count, done.warnings) == (stored, left + stored, ())
    assert len(set(one_time_ids(alice))) == 100 + stored


@pytest.mark.parametrize(("days", "is_renewed"), [(6.9, False), (7, True)])
def test_signed_pre_key_is_renewed_when_it_is_a_week_old(world: Members, days: float, is_renewed: bool) -> None:
    alice = world.published(ALICE)
    assert prekeys.publish(at(world, alice, days)).is_renewed is is_renewed


def test_published_signed_pre_key_never_lives_beyond_30_days(world: Members) -> None:
    alice = world.published(ALICE)
    payload = Sign1.parse(unb64u(world.server.bundles[alice.device_text]["signed_pre_key"])).payload
    header = SignedPreKey.from_payload(payload).header
    assert header.expires_at - header.issued_at == 30 * DAY


def test_replaced_signed_pre_key_is_kept_for_30_days_and_then_destroyed(world: Members) -> None:
    alice = world.published(ALICE)
    (row,) = prekey_rows.all_signed(alice.store)
    prekeys.publish(at(world, alice, 7))
    for day in (14, 21, 28, 35, 36.9):
        prekeys.publish(at(world, alice, day))
        assert prekeys.load_signed(alice, row.key_id) is not None
    at(world, alice, 37)
    assert prekeys.load_signed(alice, row.key_id) is None
    assert prekeys.publish(alice).destroyed == 1
    assert SignedRow.load(alice.store, row.key_id) is None


def test_device_that_was_away_for_months_opens_what_was_begun_in_time_and_nothing_later(world: Members) -> None:
    alice = world.published(ALICE)
    (row,) = prekey_rows.all_signed(alice.store)
    assert prekeys.load_signed(at(world, alice, 59.9), row.key_id) is not None
    assert prekeys.load_signed(at(world, alice, 60), row.key_id) is None
    assert SignedRow.load(alice.store, row.key_id) is not None, "it is destroyed once another is published"
    assert prekeys.publish(alice).destroyed == 1
    assert SignedRow.load(alice.store, row.key_id) is None


def test_claimed_key_whose_message_never_came_goes_with_the_signed_key_of_its_bundle(world: Members) -> None:
    alice = world.published(ALICE)
    key_id = claim(world, alice)
    prekeys.publish(at(world, alice, 1))
    row = OneTimeRow.load(alice.store, key_id)
    assert row is not None
    assert row.gone_at == NOW + DAY
    for day in (7, 14, 21, 28, 35, 36.9):
        assert prekeys.publish(at(world, alice, day)).destroyed == 0
    assert prekeys.one_time(alice, key_id) is not None
    done = prekeys.publish(at(world, alice, 37))
    assert done.destroyed == 2, "the signed key and the one-time key that was handed out with it"
    assert OneTimeRow.load(alice.store, key_id) is None
    assert len(one_time_ids(alice)) == 99, "what the server still hands out is kept however old it is"


def test_drained_pool_is_refilled_again_and_again_without_filling_the_disk(
    world: Members, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prekeys, "MOST_GONE", 250)
    alice = world.published(ALICE)
    for drained in range(1, 5):
        world.server.batches.clear()
        world.now += 60
        assert prekeys.publish(alice).stored == 100
        assert len(one_time_ids(alice)) == min(100 * drained, 250) + 100
    assert min(one_time_ids(alice)) == 152, "the oldest gave way, and the signed pre-key has the first id"
    assert len(alice.store.keys(prekey_rows.BATCH)) == 4


def test_statement_of_a_batch_goes_with_its_last_key(world: Members) -> None:
    alice = world.published(ALICE)
    (batch_id,) = alice.store.keys(prekey_rows.BATCH)
    for key_id in one_time_ids(alice):
        claim(world, alice)
        prekeys.use_up(alice, key_id)
    assert prekeys.publish(alice).stored == 100
    assert BatchRow.load(alice.store, batch_id) is None
    assert len(alice.store.keys(prekey_rows.BATCH)) == 1


# What the server says that it holds


def test_answer_whose_digest_is_not_of_the_keys_it_names_is_refused(world: Members) -> None:
    alice = world.published(ALICE)

    def hide_one(answer: dict[str, Any]) -> dict[str, Any]:
        answer["batches"][0]["key_ids"].pop()
        return answer

    world.server.lies[f"POST devices/{alice.device_text}/check"] = hide_one
    with pytest.raises(AnswerRefused, match="digest"):
        prekeys.publish(alice)
    assert all(row.gone_at == 0 for row in prekey_rows.all_one_time(alice.store))


def test_voided_keys_are_replaced_and_the_person_is_told_once(world: Members) -> None:
    alice = world.published(ALICE)
    world.server.batches.clear()
    world.server.epoch += 1
    done = prekeys.publish(alice)
    assert (done.stored, done.count) == (100, 100)
    assert (done.is_voided, done.warnings) == (True, ())
    assert not prekeys.publish(alice).is_voided
    assert len(one_time_ids(alice)) == 200, "what was handed out before may still be used"


def test_key_that_is_handed_out_again_after_its_use_is_told_and_fresh_ones_are_made(world: Members) -> None:
    alice = world.published(ALICE)
    first = world.server.batches[alice.device_text][0]
    prekeys.use_up(alice, claim(world, alice))
    prekeys.publish(alice)
    world.server.batches[alice.device_text].insert(0, first)
    done = prekeys.publish(alice)
    assert done.stored == 100
    assert "1 one-time pre-keys" in done.warnings[0]
    again = prekeys.publish(alice)
    assert (again.stored, again.warnings) == (0, ()), "told once, not at every call"


def test_lost_keys_count_as_handed_out_and_are_refilled(world: Members) -> None:
    alice = world.published(ALICE)
    world.server.batches[alice.device_text].clear()
    assert prekeys.publish(alice).stored == 100
    assert len(one_time_ids(alice)) == 200


def test_other_signed_pre_key_than_the_newest_is_told(world: Members) -> None:
    alice, bob = world.published(ALICE), world.published(BOB)
    path = f"PUT devices/{alice.device_text}/bundle"
    world.server.instead[path] = lambda _body: (204, {})
    world.server.bundles[alice.device_text] = world.server.bundles[bob.device_text]
    assert "another signed pre-key" in prekeys.publish(alice).warnings[0]


def test_signed_pre_key_is_sent_only_when_the_server_has_another_one(world: Members) -> None:
    alice = world.published(ALICE)
    sent: list[Any] = []
    honest = world.server.put_bundle

    def put(body: Any) -> Any:
        sent.append(body)
        return honest("", body, {}, alice.device_text)

    world.server.instead[f"PUT devices/{alice.device_text}/bundle"] = put
    prekeys.publish(alice)
    assert sent == []
    del world.server.bundles[alice.device_text]
    prekeys.publish(alice)
    assert len(sent) == 1


def test_publish_that_another_process_overtook_reads_anew_and_goes_on(world: Members) -> None:
    alice = world.enrolled(ALICE)
    honest, answers = world.server.put_bundle, iter(["stale", "stale"])

    def put(body: Any) -> Any:
        if next(answers, ""):
            return 409, {"title": "Stale", "code": "pre-key-stale", "detail": "Stale."}
        return honest("", body, {}, alice.device_text)

    world.server.instead[f"PUT devices/{alice.device_text}/bundle"] = put
    assert prekeys.publish(alice).warnings == ()
    (kept,) = prekey_rows.all_signed(alice.store)
    assert unb64u(world.server.bundles[alice.device_text]["signed_pre_key"]) == kept.statement


def test_restored_profile_replaces_the_signed_pre_key_that_it_never_made(world: Members) -> None:
    """Nobody could begin a session with it; but never twice within an hour, whatever the server says."""
    alice, bob = world.published(ALICE), world.published(BOB)
    foreign = world.server.bundles[bob.device_text]
    world.server.bundles[alice.device_text] = foreign
    later = at(world, alice, prekeys.REPLACE_FOREIGN_AFTER_SECONDS)
    assert prekeys.publish(later).is_renewed
    newest = next(row for row in prekey_rows.all_signed(later.store) if not row.replaced_at)
    assert unb64u(world.server.bundles[alice.device_text]["signed_pre_key"]) == newest.statement
    world.server.bundles[alice.device_text] = foreign
    assert not prekeys.publish(later).is_renewed


# Interruptions and restored profiles


def test_keys_are_kept_before_the_server_has_them(world: Members) -> None:
    alice = world.enrolled(ALICE)

    put = f"PUT devices/{alice.device_text}/bundle"
    world.server.instead[put] = lambda _body: (500, {"title": "Broken", "code": "internal", "detail": "Broken."})
    with pytest.raises(Problem):
        prekeys.publish(alice)
    del world.server.instead[put]
    (kept,) = prekey_rows.all_signed(alice.store)
    prekeys.publish(at(world, alice, 0))
    assert unb64u(world.server.bundles[alice.device_text]["signed_pre_key"]) == kept.statement


def test_care_cut_off_at_any_moment_leaves_nothing_published_without_its_private_half(
    worlds: Iterator[Members],
) -> None:
    def scenes() -> Iterator[Scene]:
        for world in worlds:
            alice = world.published(ALICE)
            for _ in range(90):
                claim(world, alice)
            world.now += 8 * DAY
            yield Scene(world, alice, ())

    def act(account: Account) -> None:
        prekeys.publish(account)

    def check(scene: Scene) -> None:
        alice = cuts.reopened(scene.world, scene.account, Moments())
        rows = scene.world.server.batches[alice.device_text]
        held = [OneTimePreKey.from_leaf(unb64u(row["leaf"]), alice.suite) for row in rows]
        assert len({one.key_id for one in held}) == len(held) == 110
        for one in held:
            own = prekeys.one_time(alice, one.key_id)
            assert own is not None
            assert own.dh.public == one.dh
        payload = Sign1.parse(unb64u(scene.world.server.bundles[alice.device_text]["signed_pre_key"])).payload
        signed = SignedPreKey.from_payload(payload)
        assert signed.header.issued_at == scene.world.now
        assert prekeys.load_signed(alice, signed.key_id) is not None
        assert len(alice.store.keys(prekey_rows.SIGNED)) == 2
        assert len(one_time_ids(alice)) == 200
        assert prekeys.publish(alice).warnings == ()

    assert cuts.sweep(scenes(), act, check) >= 15


def refuse_below(world: Members, account: Account, first: int) -> None:
    """Have the server know pre-keys of this device up to an id: this profile was restored from an older backup."""
    honest = world.server.put_batch

    def put_batch(body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        from holdfast.core.base.encoding import decode

        leaves = decode(unb64u(body["leaves"]), max_size=2**20)
        assert isinstance(leaves, list)
        assert isinstance(leaves[0], bytes)
        if OneTimePreKey.from_leaf(leaves[0], account.suite).key_id < first:
            return 409, {"title": "Reused", "code": "pre-key-id-reused", "detail": "Reused."}
        answered: tuple[int, dict[str, Any]] = honest("", body, {}, account.device_text)
        return answered

    world.server.instead[f"POST devices/{account.device_text}/pre-keys"] = put_batch


def test_restored_profile_finds_ids_that_were_never_used(world: Members) -> None:
    alice = world.enrolled(ALICE)
    refuse_below(world, alice, 20_000)
    done = prekeys.publish(alice)
    assert (done.stored, done.count) == (100, 100)
    assert min(one_time_ids(alice)) >= 20_000
    assert len(one_time_ids(alice)) == 100, "private halves of the refused batches are destroyed"
    assert Ledger.load(alice.store).next_id > 20_000
    assert prekeys.publish(alice).stored == 0


def test_server_that_refuses_every_id_is_given_up_on(world: Members) -> None:
    alice = world.enrolled(ALICE)
    refuse_below(world, alice, 2**32)
    with pytest.raises(ProfileError, match="two machines"):
        prekeys.publish(alice)
    assert one_time_ids(alice) == []


def test_new_device_keys_get_pre_keys_of_their_own_and_the_old_ones_run_out(world: Members) -> None:
    alice = world.enrolled(ALICE)
    path = f"POST devices/{alice.device_text}/pre-keys"
    world.server.lost.add(path)
    alice.api._sleep = lambda _seconds: None
    with pytest.raises(Unreachable):
        prekeys.publish(alice)
    old_ids, old_device = one_time_ids(alice), alice.device_text
    rotation.rotate(alice, {rotation.DEVICE}, reason=Reason.SCHEDULE)
    assert alice.device_text != old_device
    prekeys.publish(alice)
    assert one_time_ids(alice)[:100] == old_ids, "messages that wait on the server were begun with these"
    assert len(world.server.batches[alice.device_text]) == 100
    assert min(one_time_ids(alice)[100:]) > max(old_ids)
    current = [row for row in prekey_rows.all_signed(alice.store) if not row.replaced_at]
    assert len(current) == 1
    assert SignedPreKey.from_payload(Sign1.parse(current[0].statement).payload).header.device == alice.device.id


# A device that nobody could answer


def joined(world: Members, first: Account) -> Account:
    """Return a further device of a person that is in the account and has published nothing."""
    account = world.profile(first.user)
    done = device.enrol(account, world.server.code(first.user), name="phone")
    device.approve(first, done.device, words=done.words)
    chains.refresh(account)
    return account


@pytest.mark.parametrize("way", ["send", "send_reference", "greet", "announce", "copy of an own device"])
def test_device_sends_nothing_before_it_has_published(world: Members, way: str) -> None:
    alice, bob = world.published(ALICE), world.published(BOB)
    tablet = joined(world, alice)
    assert tablet.device_text not in world.server.bundles

    def seen_published(_body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        assert tablet.device_text in world.server.bundles
        return 503, {"title": "Later", "code": "unavailable", "detail": "Later."}

    tablet.api._sleep = lambda _seconds: None
    world.server.instead["POST users/.*/messages"] = seen_published
    reference, _ciphertext = messages.seal_large(b"large")
    ways: dict[str, Callable[[], object]] = {
        "send": lambda: messages.send(tablet, BOB, b"one"),
        "send_reference": lambda: messages.send_reference(tablet, BOB, reference),
        "greet": lambda: messages.greet(tablet, [BOB]),
        "announce": lambda: messages.announce(tablet, [BOB]),
        "copy of an own device": lambda: messages.send(tablet, ALICE, b"to myself"),
    }
    ways[way]()
    assert world.server.posted("users/.*/messages"), "the check above was made"
    world.server.instead.clear()
    messages.flush(tablet)
    assert messages.send(bob, ALICE, b"an answer").is_sent
    assert [one.body for one in messages.receive(tablet) if one.sender == BOB] == [b"an answer"]


@pytest.mark.parametrize("fault", ["unreachable", "unavailable", "denied", "not in the format"])
def test_message_waits_while_the_pre_keys_cannot_be_published(world: Members, fault: str) -> None:
    alice, bob = world.published(ALICE), world.published(BOB)
    tablet = joined(world, alice)
    tablet.api._sleep = lambda _seconds: None
    path = f"POST devices/{tablet.device_text}/check"
    if fault == "unreachable":
        world.server.lost.add(path)
    else:
        status = {"unavailable": 503, "denied": 403, "not in the format": 200}[fault]
        world.server.instead[path] = lambda _body: (status, {"title": "No", "code": "no", "detail": "No."})
    with contextlib.suppress(ClientError):
        messages.send(tablet, BOB, b"one")
    assert world.server.posted(f"users/{text(BOB)}/messages") == []
    world.server.lost.clear()
    world.server.instead.clear()
    assert messages.flush(tablet).waiting == []
    assert [one.body for one in messages.receive(bob)] == [b"one"]


def test_answer_to_a_device_without_pre_keys_waits_and_accuses_nobody(world: Members) -> None:
    alice, bob = world.published(ALICE), world.published(BOB)
    messages.send(alice, BOB, b"one")
    messages.receive(bob)
    # An older program wrote before it had published, or the server lost the keys.
    del world.server.bundles[alice.device_text]
    with pytest.raises(NotYet, match="no device that can be written to yet") as refused:
        messages.send(bob, ALICE, b"answer")
    assert "holdfast maintain" in refused.value.way_out
    assert messages.reports(bob) == []
    assert len(messages.flush(bob).waiting) == 1
    prekeys.publish(alice)
    assert len(messages.flush(bob).sent) == 1
    assert [one.body for one in messages.receive(alice)] == [b"answer"]


def test_answer_goes_to_the_devices_that_have_pre_keys_and_names_the_other(world: Members) -> None:
    alice, bob = world.published(ALICE), world.published(BOB)
    tablet = world.another(alice)
    for one in (alice, tablet):
        messages.send(one, BOB, b"one")
    messages.receive(bob)
    del world.server.bundles[tablet.device_text]
    sent = messages.send(bob, ALICE, b"answer")
    assert (sent.is_sent, [one.bytes for one in sent.devices]) == (True, [alice.device.id])
    assert [one.bytes for one in sent.without_keys] == [tablet.device.id]
    assert [one.body for one in messages.receive(alice)][-1] == b"answer"
