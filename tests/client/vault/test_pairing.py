# SPDX-License-Identifier: Apache-2.0
"""The device door: QR code, eight digits, eight words, and a server that stands between the two devices."""

from __future__ import annotations

import dataclasses
from typing import Any
from uuid import UUID

import pytest

from holdfast.client.errors import NotPossible, NotYet, TrustRefused, WrongInput, WrongWords
from holdfast.client.escrow import archive
from holdfast.client.identity import device, evidence, key_log
from holdfast.client.identity.peers import HiddenChain
from holdfast.client.messages import letters, messages
from holdfast.client.messages.letters import LetterKind
from holdfast.client.profile.account import Account
from holdfast.client.rotation import rotation
from holdfast.client.vault import pairing, vault
from holdfast.core.base.encoding import b64u, encode
from holdfast.core.identity.entries import Reason
from holdfast.core.signed.cose import Sign1
from holdfast.core.signed.payloads import Header
from holdfast.core.signed.statements import SyncKind
from holdfast.core.vault.blob import new_vault_key
from holdfast.core.vault.pairing import PairingRequest
from holdfast.core.vault.sync_letter import DeviceSync, seal_sync
from tests.cast.lying_log import KeysLog
from tests.cast.lying_server import text
from tests.cast.malice import understood
from tests.cast.members import ALICE, MALLORY, Members


def new_device(world: Members, user: bytes = ALICE, name: str = "phone") -> Account:
    account = world.profile(user)
    device.enrol(account, world.server.code(user), name=name)
    return account


def holder(world: Members) -> Account:
    account = world.enrolled(ALICE)
    archive.new_generation(account)
    vault.save(account)
    return account


def paired(world: Members, first: Account, name: str = "phone") -> Account:
    second = new_device(world, first.user, name)
    pairing.accept(first, pairing.request(second).text())
    pairing.complete(second)
    return second


def waiting_sync(world: Members, account: Account) -> list[dict[str, Any]]:
    return [one for one in world.server.mailboxes[account.device_text] if one["kind"] == "sync"]


# The three ways in


def test_qr_code_brings_the_whole_account_over(world: Members) -> None:
    first, second = holder(world), new_device(world)
    with pytest.raises(NotYet):
        pairing.complete(second)
    assert pairing.accept(first, pairing.request(second).text()).bytes == second.device.id
    joined = pairing.complete(second)
    assert (joined.by.bytes, joined.is_authenticated) == (first.device.id, True)
    assert second.device.is_active
    assert second.identity_key.public == first.identity_key.public
    assert second.state.vault == first.state.vault
    assert [one.key for one in second.state.generations] == [one.key for one in first.state.generations]
    assert archive.new_generation(second).number == 2


def test_qr_code_stays_the_same_until_it_was_answered(world: Members) -> None:
    first, second = holder(world), new_device(world)
    text_shown = pairing.request(second).text()
    assert pairing.request(second).text() == text_shown
    pairing.accept(first, f"  {text_shown}\n")
    pairing.complete(second)
    with pytest.raises(NotPossible, match="already"):
        pairing.request(second)


def test_eight_words_bring_the_account_over_without_a_password(world: Members) -> None:
    first, second = holder(world), new_device(world)
    words = next(one.words for one in device.list_devices(first) if not one.is_in_chain)
    pairing.approve(first, UUID(bytes=second.device.id), words=words)
    joined = pairing.complete(second)
    assert not joined.is_authenticated
    assert joined.words == first.chain.aik.fingerprint("aik")
    assert second.state.vault == first.state.vault


def test_eight_digits_bring_the_account_over(world: Members) -> None:
    first, second = holder(world), new_device(world)
    offer = pairing.offer_code(second)
    answer = pairing.answer_code(first)
    digits = offer.wait(0)
    assert len(digits) == 8
    assert answer.confirm(f"{digits[:4]} {digits[4:]}").bytes == second.device.id
    joined = pairing.complete(second)
    assert not joined.is_authenticated
    assert second.state.vault == first.state.vault


def test_digits_wait_for_the_other_side(world: Members) -> None:
    first, second = holder(world), new_device(world)
    with pytest.raises(NotYet):
        pairing.answer_code(first)
    offer = pairing.offer_code(second)
    with pytest.raises(NotYet):
        offer.wait(0)
    answer = pairing.answer_code(first)
    with pytest.raises(NotYet):
        answer.confirm("00000000")
    assert second.device.id not in vault.chain_of(first).devices


def test_wrong_digits_end_the_pairing(world: Members) -> None:
    first, second = holder(world), new_device(world)
    offer = pairing.offer_code(second)
    answer = pairing.answer_code(first)
    digits = offer.wait(0)
    wrong = f"{(int(digits) + 1) % 10**8:08}"
    with pytest.raises(WrongWords, match="Nothing was added"):
        answer.confirm(wrong)
    assert second.device.id not in vault.chain_of(first).devices
    with pytest.raises(NotPossible, match="over"):
        answer.confirm(digits)
    assert second.device.id not in vault.chain_of(first).devices


def test_qr_code_after_digits_is_a_new_one(world: Members) -> None:
    holder(world)
    second = new_device(world)
    pairing.offer_code(second)
    spent = pairing._kept_request(second)
    assert spent is not None
    assert pairing.request(second).nonce != spent.nonce


# After a change of the vault key


def test_changed_vault_key_goes_to_the_devices_that_are_left_and_no_other(world: Members) -> None:
    first = holder(world)
    second, third = paired(world, first), paired(world, first, "watch")
    rotation.rotate(first, {"vault"}, reason=Reason.DEVICE_LOST, revoke=[UUID(bytes=third.device.id)])
    for account in (second, third):
        letters.fetch(account)
    assert pairing.catch_up(second)
    assert second.state.vault.key == first.state.vault.key
    assert not pairing.catch_up(third)
    assert third.state.vault.epoch == 1


def test_replayed_sync_letter_changes_nothing(world: Members) -> None:
    first = holder(world)
    second = paired(world, first)
    vault.begin_epoch(first, key=new_vault_key(), epoch=2)
    pairing.sync(first)
    old = waiting_sync(world, second)
    letters.fetch(second)
    assert pairing.catch_up(second)
    vault.begin_epoch(first, key=new_vault_key(), epoch=3)
    pairing.sync(first)
    letters.fetch(second)
    assert pairing.catch_up(second)
    world.server.mailboxes[second.device_text] += old
    letters.fetch(second)
    assert not pairing.catch_up(second)
    assert second.state.vault == first.state.vault


def test_device_that_slept_through_two_changes_takes_the_last(world: Members) -> None:
    first = holder(world)
    second = paired(world, first)
    for epoch in (2, 3):
        vault.begin_epoch(first, key=new_vault_key(), epoch=epoch)
        pairing.sync(first)
    letters.fetch(second)
    assert pairing.catch_up(second)
    assert second.state.vault == first.state.vault


def test_letter_about_a_key_that_was_changed_again_is_let_be(world: Members) -> None:
    first = holder(world)
    second = paired(world, first)
    vault.begin_epoch(first, key=new_vault_key(), epoch=2)
    pairing.sync(first)
    vault.begin_epoch(first, key=new_vault_key(), epoch=3)
    letters.fetch(second)
    assert not pairing.catch_up(second)
    pairing.sync(first)
    letters.fetch(second)
    assert pairing.catch_up(second)


def test_letter_that_was_written_for_another_device_does_not_open(world: Members) -> None:
    first = holder(world)
    second, third = paired(world, first), paired(world, first, "watch")
    vault.begin_epoch(first, key=new_vault_key(), epoch=2)
    pairing.sync(first)
    world.server.mailboxes[third.device_text] = waiting_sync(world, second)
    letters.fetch(third)
    assert not pairing.catch_up(third)
    assert third.state.vault.epoch == 1


# A server in between


def test_device_that_the_server_puts_in_the_new_ones_place_is_not_added(world: Members) -> None:
    first, second, rogue = holder(world), new_device(world), new_device(world, name="phone")
    shown = pairing.request(second).text()
    statement = b64u(rogue.device.statement)
    world.server.lies[f"GET devices/{second.device_text}"] = lambda answer: {**answer, "device_statement": statement}
    with pytest.raises(TrustRefused):
        pairing.accept(first, shown)
    world.server.lies.clear()
    del world.server.devices[second.device_text]
    with pytest.raises(TrustRefused, match="Nothing was added"):
        pairing.accept(first, shown)
    assert vault.chain_of(first).devices.keys() == {first.device.id}


def test_code_of_another_person_is_not_accepted(world: Members) -> None:
    first = holder(world)
    world.enrolled(MALLORY)
    with pytest.raises(WrongInput, match="another person"):
        pairing.accept(first, pairing.request(new_device(world, MALLORY)).text())
    for junk in ("", "HFP1.", "HFP1.AAAA", "https://example.org/"):
        with pytest.raises(WrongInput, match="not a pairing code"):
            pairing.accept(first, junk)


def test_digits_differ_when_somebody_stands_between(world: Members) -> None:
    first, second, rogue = holder(world), new_device(world), new_device(world, name="rogue")
    offer = pairing.offer_code(second)
    # The server hands on the rogue device's commitment in place of the new one's, and answers the new one itself.
    world.server.mailboxes[first.device_text].clear()
    rogue_offer = pairing.offer_code(rogue)
    answer = pairing.answer_code(first)
    to_rogue = world.server.mailboxes[rogue.device_text][-1]
    world.server.mailboxes.setdefault(second.device_text, []).append({**to_rogue, "message_id": str(UUID(int=7))})
    shown = offer.wait(0)
    rogue_offer.wait(0)
    with pytest.raises(WrongWords):
        answer.confirm(shown)
    assert vault.chain_of(first).devices.keys() == {first.device.id}


def test_reveal_other_than_what_was_committed_to_is_refused(world: Members) -> None:
    first, second = holder(world), new_device(world)
    offer = pairing.offer_code(second)
    answer = pairing.answer_code(first)
    digits = offer.wait(0)
    other = PairingRequest.new(second.device_statement)
    reveal = next(
        one for one in world.server.mailboxes[first.device_text] if one["sender_device"] == second.device_text
    )
    reveal["message"] = b64u(encode({1: 1, 2: 3, 3: other.to_bytes()}))
    with pytest.raises(TrustRefused, match="committed"):
        answer.confirm(digits)
    assert second.device.id not in vault.chain_of(first).devices


def test_letter_from_a_stranger_does_not_bring_a_device_in(world: Members) -> None:
    first, second = holder(world), new_device(world)
    mallory = world.enrolled(MALLORY)
    vault.save(mallory)
    pairing.accept(first, pairing.request(second).text())
    world.server.mailboxes[second.device_text].clear()
    pairing._send(mallory, Sign1.parse(second.device.statement), pairing.request(second))
    with pytest.raises(TrustRefused, match="another person"):
        pairing.complete(second)
    assert not len(second.state.identity_seed)
    with pytest.raises(NotYet):
        pairing.complete(second)


def send_made_up(writer: Account, first: Account, header: Header) -> None:
    """Have a device write a letter that rests on a made-up chain; the first device does not follow it."""
    own = Sign1.parse(first.device.statement)
    letter = seal_sync(
        DeviceSync(new_vault_key(), 2, 1, "", own.payload_hash[:16]),
        header=header,
        kind=SyncKind.DEVICE_TO_DEVICE,
        key=writer.signing_key,
        to=first.device_statement.sealing_key,
        request_hash=own.payload_hash,
        head=bytes(32),
    )
    letters.send(writer, first.device.id, LetterKind.SYNC, letter)
    letters.fetch(first)
    assert not pairing.catch_up(first)


@pytest.mark.parametrize("name", ["their own", "the person's"])
def test_letter_of_a_stranger_that_rests_on_a_made_up_chain_is_destroyed_and_never_held(
    world: Members, name: str
) -> None:
    """Anybody in the tenant may write a letter, and would otherwise have the person go to their officers."""
    first = holder(world)
    mallory = world.enrolled(MALLORY)
    send_made_up(mallory, first, mallory.header() if name == "their own" else first.header())
    assert messages.reports(first) == []
    assert letters.waiting(first, LetterKind.SYNC) == []


def test_report_of_a_letter_that_is_held_names_the_device_that_it_is_of(world: Members) -> None:
    first = holder(world)
    second = paired(world, first)
    pairing.sync(second)
    send_made_up(second, first, second.header())
    (report,) = messages.reports(first)
    understood(report)
    assert second.device_text in report.text
    assert len(letters.waiting(first, LetterKind.SYNC)) == 1


def test_letter_of_a_pending_device_of_the_same_person_is_refused(world: Members) -> None:
    first, second, thief = holder(world), new_device(world), new_device(world, name="thief")
    pairing.accept(first, pairing.request(second).text())
    world.server.mailboxes[second.device_text].clear()
    thief.state.vault = first.state.vault
    pairing._send(thief, Sign1.parse(second.device.statement), pairing.request(second))
    with pytest.raises(TrustRefused, match="not yours"):
        pairing.complete(second)


def test_answer_to_an_earlier_request_is_not_an_answer_to_this_one(world: Members) -> None:
    first, second = holder(world), new_device(world)
    earlier = pairing.request(second)
    second.store.delete(*pairing._REQUEST)
    pairing.request(second)
    pairing.accept(first, earlier.text())
    with pytest.raises(TrustRefused, match="does not open"):
        pairing.complete(second)
    assert not len(second.state.identity_seed)


def test_older_vault_than_the_other_device_told_of_is_refused(world: Members) -> None:
    first, second = holder(world), new_device(world)
    old = dict(world.server.vaults[text(ALICE)])
    archive.new_generation(first)
    pairing.accept(first, pairing.request(second).text())
    world.server.lies["GET vault"] = lambda _answer: old
    with pytest.raises(TrustRefused, match="an older vault than your other device told of"):
        pairing.complete(second)


def test_letter_about_another_chain_is_refused(world: Members) -> None:
    first, second = holder(world), new_device(world)
    pairing.accept(first, pairing.request(second).text())
    letters.fetch(second)
    (letter,) = letters.waiting(second, LetterKind.SYNC)
    shown = vault.chain_of(second)
    other = dataclasses.replace(shown, hashes=(*shown.hashes[:-1], bytes(32)))
    with pytest.raises(HiddenChain, match="account chain that the server does not show"):
        pairing._read(second, other, letter, pairing.request(second))


def test_new_device_that_is_shown_another_key_log_than_the_old_one_refuses(world: Members) -> None:
    first = holder(world)
    honest = world.server.keys_log
    split = KeysLog(honest.tenant, honest.now, honest.key, [honest.leaves[0], *honest.leaves])
    world.server.keys_log = split
    second = new_device(world)
    shown = pairing.request(second).text()
    world.server.keys_log = honest
    known = len(honest.leaves)
    pairing.accept(first, shown)
    split.leaves += honest.leaves[known:]
    world.server.keys_log = split
    with pytest.raises(key_log.SplitView):
        pairing.complete(second)
    assert not len(second.state.identity_seed)
    assert evidence.list_evidence(second)
