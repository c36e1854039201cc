# SPDX-License-Identifier: Apache-2.0
"""Recovery by the user: every door ends in the same account under new keys, and nothing of the old ones counts."""

from __future__ import annotations

from uuid import UUID

import pytest

from holdfast.client.errors import NotPossible, NotYet, RaceLost, WrongInput
from holdfast.client.escrow import archive
from holdfast.client.identity import contacts, device
from holdfast.client.messages import letters as mail
from holdfast.client.profile.account import Account
from holdfast.client.recovery import by_door
from holdfast.client.rotation import rotation
from holdfast.client.vault import doors, export, pairing, share_requests, trusted, vault
from holdfast.core.base.secret import SecretBytes
from holdfast.core.crypto.phrase import Phrase
from holdfast.core.identity.chain import ChainState
from holdfast.core.identity.entries import Reason
from tests.cast.lying_server import text
from tests.cast.members import ALICE, BOB, CHEAP, MALLORY, PASSWORD, Members

CAROL = b"carol-----------"
FILE_PASSWORD = SecretBytes(b"the password of a file")


def new_device(world: Members, user: bytes = ALICE, name: str = "tablet") -> Account:
    account = world.profile(user)
    device.enrol(account, world.server.code(user), name=name)
    return account


def phrase_of(account: Account) -> Phrase:
    phrase = doors.new_phrase(account)
    words = phrase.words()
    doors.confirm_phrase(account, phrase, {at: words[at - 1] for at in doors.questions()})
    return phrase


def owner_of_everything(world: Members) -> Account:
    """Return alice's laptop, with an archive key, a contact and every door but the contacts'."""
    account = world.enrolled(ALICE)
    world.enrolled(BOB)
    contacts.refresh(account, BOB)
    archive.new_generation(account)
    doors.set_password(account, PASSWORD, cost=CHEAP)
    return account


def require_recovered(tablet: Account, laptop: Account, before: ChainState) -> None:
    """Hold a finished recovery to what PROTOCOL section 6 asks of every one."""
    after = vault.chain_of(tablet)
    assert set(after.devices) == {tablet.device.id}
    assert laptop.device.id in after.revoked
    assert after.aik == tablet.identity_key.public
    assert after.aik != before.aik
    assert len(after.generations) > len(before.generations)
    assert tablet.state.vault.key != laptop.state.vault.key
    assert tablet.state.vault.epoch > laptop.state.vault.epoch
    assert {one.number for one in laptop.state.generations} < {one.number for one in tablet.state.generations}
    assert vault.save_if_changed(tablet) is None


def test_password_brings_the_account_to_a_new_device_and_rotates_everything(world: Members) -> None:
    laptop = owner_of_everything(world)
    before = laptop.chain
    tablet = new_device(world)
    opened = by_door.by_password(tablet, PASSWORD)
    assert [(one.device.bytes, one.name) for one in opened.devices] == [(laptop.device.id, "laptop")]
    assert not tablet.device.is_active
    done = by_door.finish(tablet, lost=[UUID(bytes=laptop.device.id)])
    assert tablet.device_text in world.server.bundles, "nobody could write to it otherwise"
    require_recovered(tablet, laptop, before)
    assert {one.kind for one in done.needs} == {"password", "phrase"}
    assert done.missing == []
    assert tablet.state.contacts[BOB].entries == laptop.state.contacts[BOB].entries
    with pytest.raises(NotPossible, match="closed"):
        by_door.by_password(new_device(world, name="another"), PASSWORD)


def test_phrase_brings_the_account_to_a_new_device_and_rotates_everything(world: Members) -> None:
    laptop = owner_of_everything(world)
    phrase = phrase_of(laptop)
    before = laptop.chain
    tablet = new_device(world)
    by_door.by_phrase(tablet, Phrase.parse(phrase.text()))
    by_door.finish(tablet, lost=[UUID(bytes=laptop.device.id)])
    require_recovered(tablet, laptop, before)
    # The old phrase is at hand, so the new one signs at once.
    fresh = doors.new_phrase(tablet)
    words = fresh.words()
    door = doors.confirm_phrase(tablet, fresh, {at: words[at - 1] for at in doors.questions()}, old=phrase)
    assert (door.is_open, door.needs) == (True, "")


def test_phrase_alone_takes_the_account_over_when_the_vault_is_lost(world: Members) -> None:
    laptop = owner_of_everything(world)
    phrase = phrase_of(laptop)
    before = laptop.chain
    del world.server.vaults[text(ALICE)]
    tablet = new_device(world)
    with pytest.raises(vault.NoVault):
        by_door.by_phrase(tablet, phrase)
    opened = by_door.by_phrase(tablet, phrase, without_vault=True)
    assert (opened.vault, opened.missing) == (None, [1])
    done = by_door.finish(tablet, lost=[UUID(bytes=laptop.device.id)])
    after = vault.chain_of(tablet)
    assert set(after.devices) == {tablet.device.id}
    assert after.aik == tablet.identity_key.public != before.aik
    assert done.missing == [1]
    assert vault.find(tablet).signer == after.aik


def test_wrong_phrase_takes_nothing_over(world: Members) -> None:
    laptop = owner_of_everything(world)
    phrase_of(laptop)
    head = laptop.chain.head
    tablet = new_device(world)
    for is_lost in (False, True):
        with pytest.raises(doors.WrongPhrase):
            by_door.by_phrase(tablet, Phrase.generate(), without_vault=is_lost)
    assert vault.chain_of(tablet).head == head


def test_other_device_brings_the_account_to_a_new_one_and_the_lost_one_is_revoked(world: Members) -> None:
    laptop = owner_of_everything(world)
    phone = new_device(world, name="phone")
    pairing.accept(laptop, pairing.request(phone).text())
    pairing.complete(phone)
    before = vault.chain_of(laptop)
    tablet = new_device(world)
    pairing.accept(phone, pairing.request(tablet).text())
    opened = by_door.by_device(tablet)
    assert {one.name for one in opened.devices} == {"laptop", "phone"}
    by_door.finish(tablet, lost=[UUID(bytes=laptop.device.id)])
    after = vault.chain_of(tablet)
    assert set(after.devices) == {phone.device.id, tablet.device.id}
    assert after.aik != before.aik
    mail.fetch(phone)
    assert pairing.catch_up(phone)
    assert phone.identity_key.public == after.aik
    mail.fetch(laptop)
    assert not pairing.catch_up(laptop)
    assert laptop.state.vault.epoch < tablet.state.vault.epoch


def befriended(world: Members, owner: Account, k: int = 2) -> dict[bytes, Account]:
    """Return bob, carol and mallory, each with a share of the owner's."""
    people = {one: world.enrolled(one) for one in (BOB, CAROL, MALLORY)}
    trusted.choose(owner, list(people), k=k)
    for account in people.values():
        mail.fetch(account)
        assert [one.is_current for one in trusted.take_shares(account)] == [True]
    return people


def test_contacts_bring_the_account_to_a_new_device_and_hold_new_shares_after(world: Members) -> None:
    laptop = world.enrolled(ALICE)
    archive.new_generation(laptop)
    people = befriended(world, laptop)
    before = laptop.chain
    tablet = new_device(world)
    asked = share_requests.open_request(tablet)
    share_requests.give(people[BOB], asked.request_id, code=asked.code)
    with pytest.raises(NotYet, match="1 of 2"):
        by_door.by_contacts(tablet)
    share_requests.give(people[MALLORY], asked.request_id, code=asked.code)
    opened = by_door.by_contacts(tablet)
    assert (opened.kind, opened.blamed) == ("contacts", [])
    by_door.finish(tablet, lost=[UUID(bytes=laptop.device.id)])
    require_recovered(tablet, laptop, before)
    for account in people.values():
        mail.fetch(account)
        held = trusted.take_shares(account)
        assert [one.is_current for one in held] == [True]
    assert trusted.find_chosen_set(tablet) is not None
    assert vault.chain_of(tablet).manifest_hash != before.manifest_hash


def test_export_file_brings_the_account_to_a_new_device_and_the_newest_vault_with_it(world: Members) -> None:
    laptop = owner_of_everything(world)
    data = export.write(laptop, password=FILE_PASSWORD, cost=CHEAP)
    archive.new_generation(laptop)
    vault.save(laptop)
    before = laptop.chain
    tablet = new_device(world)
    opened = by_door.by_export(tablet, data, password=FILE_PASSWORD)
    assert opened.missing == []
    by_door.finish(tablet, lost=[UUID(bytes=laptop.device.id)])
    require_recovered(tablet, laptop, before)


def test_export_file_brings_the_account_back_when_the_vault_is_lost(world: Members) -> None:
    laptop = owner_of_everything(world)
    data = export.write(laptop, password=FILE_PASSWORD, cost=CHEAP)
    archive.new_generation(laptop)
    before = laptop.chain
    del world.server.vaults[text(ALICE)]
    tablet = new_device(world)
    opened = by_door.by_export(tablet, data, password=FILE_PASSWORD)
    assert opened.missing == [2]
    by_door.finish(tablet, lost=[UUID(bytes=laptop.device.id)])
    after = vault.chain_of(tablet)
    assert after.aik == tablet.identity_key.public != before.aik
    assert [one.number for one in tablet.state.generations] == [1, 3]


def test_recovery_rotates_also_when_no_device_was_lost(world: Members) -> None:
    laptop = owner_of_everything(world)
    before = laptop.chain
    tablet = new_device(world)
    by_door.by_password(tablet, PASSWORD)
    by_door.finish(tablet)
    after = vault.chain_of(tablet)
    assert set(after.devices) == {laptop.device.id, tablet.device.id}
    assert after.aik != before.aik
    assert tablet.state.vault.epoch == laptop.state.vault.epoch + 1
    mail.fetch(laptop)
    assert pairing.catch_up(laptop)
    assert laptop.identity_key.public == after.aik


def test_finish_goes_on_after_a_lost_answer(world: Members) -> None:
    laptop = owner_of_everything(world)
    before = laptop.chain
    tablet = new_device(world)
    by_door.by_password(tablet, PASSWORD)
    world.server.instead["PUT vault"] = lambda _body: (503, {"title": "x", "code": "hsm-unavailable", "detail": "x"})
    with pytest.raises(Exception, match="x"):
        by_door.finish(tablet, lost=[UUID(bytes=laptop.device.id)])
    world.server.instead.clear()
    assert by_door.is_unfinished(tablet)
    by_door.finish(tablet, lost=[UUID(bytes=laptop.device.id)])
    require_recovered(tablet, laptop, before)
    assert not by_door.is_unfinished(tablet)


def test_finish_refuses_a_device_that_is_not_the_accounts(world: Members) -> None:
    owner_of_everything(world)
    bob = world.enrolled(BOB)
    tablet = new_device(world)
    with pytest.raises(NotPossible, match="No door was opened"):
        by_door.finish(tablet)
    by_door.by_password(tablet, PASSWORD)
    for wrong in (bob.device.id, tablet.device.id):
        with pytest.raises(WrongInput, match="not a device to revoke"):
            by_door.finish(tablet, lost=[UUID(bytes=wrong)])


def test_device_that_holds_the_account_does_not_recover_it(world: Members) -> None:
    laptop = owner_of_everything(world)
    with pytest.raises(NotPossible, match="holds your account already"):
        by_door.by_password(laptop, PASSWORD)


def test_export_file_under_another_vault_key_is_used_only_on_request(world: Members) -> None:
    laptop = owner_of_everything(world)
    data = export.write(laptop, password=FILE_PASSWORD, cost=CHEAP)
    vault.begin_epoch(laptop, key=SecretBytes(bytes(range(32))), epoch=2)
    tablet = new_device(world)
    with pytest.raises(NotPossible, match="another key"):
        by_door.by_export(tablet, data, password=FILE_PASSWORD)
    assert not len(tablet.state.identity_seed)
    by_door.by_export(tablet, data, password=FILE_PASSWORD, without_vault=True)
    by_door.finish(tablet, lost=[UUID(bytes=laptop.device.id)])
    assert vault.find(tablet).header.epoch == tablet.state.vault.epoch > 2


def test_revoked_device_finishes_nothing(world: Members) -> None:
    laptop = owner_of_everything(world)
    tablet = new_device(world)
    by_door.by_password(tablet, PASSWORD)
    by_door.finish(tablet, lost=[UUID(bytes=laptop.device.id)])
    vault.chain_of(laptop)
    assert not by_door.is_unfinished(laptop)
    with pytest.raises(NotPossible, match="No door was opened"):
        by_door.finish(laptop)


def test_recovery_stopped_before_it_was_noted_is_finished_all_the_same(world: Members) -> None:
    laptop = owner_of_everything(world)
    before = laptop.chain
    tablet = new_device(world)
    by_door.by_password(tablet, PASSWORD)
    tablet.store.delete(*by_door._ROW)
    assert by_door.is_unfinished(tablet)
    by_door.finish(tablet, lost=[UUID(bytes=laptop.device.id)])
    require_recovered(tablet, laptop, before)


def test_door_is_opened_again_when_the_account_changed_before_the_end(world: Members) -> None:
    laptop = owner_of_everything(world)
    before = laptop.chain
    tablet = new_device(world)
    by_door.by_password(tablet, PASSWORD)
    rotation.rotate(laptop, {"identity"}, reason=Reason.SCHEDULE)
    with pytest.raises(RaceLost, match="changed since") as refused:
        by_door.finish(tablet)
    assert "Open the door again" in refused.value.way_out
    by_door.by_password(tablet, PASSWORD)
    by_door.finish(tablet, lost=[UUID(bytes=laptop.device.id)])
    require_recovered(tablet, laptop, before)
