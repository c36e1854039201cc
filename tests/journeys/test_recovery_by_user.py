# SPDX-License-Identifier: Apache-2.0
"""Recovery by the user against a running server: each door from the loss of a device to an account under new keys."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from uuid import UUID

import pytest

from holdfast.client.errors import NotPossible, NotYet, Problem
from holdfast.client.escrow import archive
from holdfast.client.identity import contacts, device
from holdfast.client.messages import letters, messages, prekeys
from holdfast.client.profile.account import Account
from holdfast.client.profile.state import State
from holdfast.client.profile.store import MemoryStore
from holdfast.client.recovery import by_door
from holdfast.client.vault import doors, export, pairing, share_requests, trusted, vault
from holdfast.core.base.secret import SecretBytes
from holdfast.core.crypto.phrase import Phrase
from holdfast.core.identity.chain import ChainState
from holdfast.core.signed.enrolment import EnrolmentCode
from holdfast.core.vault.blob import new_vault_key
from holdfast.core.vault.password_door import Argon2Cost
from tests.cast.server import PROJECT, Installation, installation
from tests.journeys.messenger import caught_up

DELAY_SECONDS = 5
CHEAP = Argon2Cost(memory_kib=19 * 1024, passes=2, lanes=1)
PASSWORD = SecretBytes(b"the password of a vault")
FILE_PASSWORD = SecretBytes(b"the password of a file")


@dataclass
class House:
    """One installation, everybody's devices in it, and carol's, which issues a code for every further one."""

    server: Installation
    open: list[Account] = field(default_factory=list)
    officers: ExitStack = field(default_factory=ExitStack)
    carol: Account = field(init=False)

    def enrolled(self, code: EnrolmentCode, name: str) -> Account:
        account = Account(MemoryStore(tenant=code.tenant, user=code.person), State())
        self.open.append(account)
        account.connect(self.server.url)
        device.enrol(account, code, name=name, is_development=True)
        return account

    def first(self, name: str) -> Account:
        """Return a person's first device, which can be written to and has an archive key."""
        path = self.server.demo / "codes" / f"{name}.code"
        code = EnrolmentCode.parse(path.read_text())
        path.rename(path.with_suffix(".used"))
        account = self.enrolled(code, f"{name}'s laptop")
        prekeys.publish(account)
        archive.new_generation(account)
        return account

    def officer(self, name: str) -> Account:
        """Return the device with which a founder became an officer, and which can be written to."""
        account = self.officers.enter_context(self.server.officer(name))
        prekeys.publish(account)
        return account

    def fresh(self) -> tuple[Account, Account]:
        """Return first devices of a new alice and a new bob, who have written to each other."""
        command = [sys.executable, str(PROJECT / "manage.py"), "demo", "--members-only"]
        environment = {**self.server.environment, "HOLDFAST_ROLE": "ceremony"}
        subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, check=True, timeout=120)
        alice, bob = self.first("alice"), self.first("bob")
        befriended(alice, bob)
        return alice, bob

    def another(self, account: Account, name: str) -> Account:
        """Return a further, pending device of the same person."""
        code = EnrolmentCode.parse(device.issue_code(self.carol, UUID(bytes=account.user)).text)
        made = self.enrolled(code, name)
        assert not made.device.is_active
        return made


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    with installation(HOLDFAST_CONTACTS_DELAY_SECONDS=str(DELAY_SECONDS)) as server:
        made = House(server)
        with made.officers:
            made.carol = made.officer("carol")
            yield made
            for account in made.open:
                account.close()


def befriended(alice: Account, bob: Account) -> None:
    """Have two people write to each other, so that both hold sessions and pins."""
    messages.send(bob, alice.user, b"before")
    assert [one.body for one in messages.receive(alice)] == [b"before"]
    messages.send(alice, bob.user, b"and back")
    assert [one.body for one in messages.receive(bob)] == [b"and back"]


def require_recovered(tablet: Account, laptop: Account, bob: Account, before: ChainState) -> None:
    """Hold a finished recovery to what PROTOCOL section 6 asks of every one, as the server and a peer see it."""
    after = vault.chain_of(tablet)
    assert laptop.device.id in after.revoked
    assert tablet.device.id in after.devices
    assert after.aik == tablet.identity_key.public != before.aik
    assert len(after.generations) > len(before.generations)
    assert tablet.state.vault.epoch > before_epoch(laptop)
    with pytest.raises(Problem):
        laptop.api.get("vault")
    prekeys.publish(tablet)
    # Bob is asked nothing: the old key vouched for the new one.
    assert contacts.refresh(bob, tablet.user).aik == after.aik
    sent = messages.send(bob, tablet.user, b"after")
    assert laptop.device_text not in {str(one) for one in sent.devices}
    # No device of theirs ever said that it was done with the first: it comes again, to those that remain.
    assert sorted(one.body for one in messages.receive(tablet) if one.body) == [b"after", b"before"]


def before_epoch(account: Account) -> int:
    return account.state.vault.epoch


def lost(account: Account) -> list[UUID]:
    return [UUID(bytes=account.device.id)]


@pytest.mark.timeout(300)
def test_password_recovers_the_account_after_a_lost_laptop(house: House) -> None:
    alice, bob = house.fresh()
    doors.set_password(alice, PASSWORD, cost=CHEAP)
    before = vault.chain_of(alice)
    tablet = house.another(alice, "tablet")
    with pytest.raises(doors.WrongPassword):
        by_door.by_password(tablet, SecretBytes(b"another password"))
    opened = by_door.by_password(tablet, PASSWORD)
    assert [one.name for one in opened.devices] == ["alice's laptop"]
    letters.fetch(alice)
    heard = [one for one in letters.notices(alice) if one.event == "door-read"]
    assert {one.said["device_id"] for one in heard} == {tablet.device_text}
    done = by_door.finish(tablet, lost=lost(alice))
    require_recovered(tablet, alice, bob, before)
    assert {one.kind for one in done.needs} == {doors.PASSWORD, doors.PHRASE}
    assert [one.key for one in alice.state.generations] == [one.key for one in tablet.state.generations][:1]
    with pytest.raises(NotPossible, match="closed"):
        by_door.by_password(house.another(alice, "watch"), PASSWORD)


@pytest.mark.timeout(300)
def test_phrase_recovers_the_account_with_the_vault_and_without(house: House) -> None:
    for is_lost in (False, True):
        alice, bob = house.fresh()
        phrase = doors.new_phrase(alice)
        words = phrase.words()
        doors.confirm_phrase(alice, phrase, {at: words[at - 1] for at in doors.questions()})
        before = vault.chain_of(alice)
        tablet = house.another(alice, "tablet")
        typed = Phrase.parse(SecretBytes(" ".join(words).upper().encode()))
        opened = by_door.by_phrase(tablet, typed, without_vault=is_lost)
        assert opened.missing == ([1] if is_lost else [])
        by_door.finish(tablet, lost=lost(alice))
        require_recovered(tablet, alice, bob, before)
        fresh = doors.new_phrase(tablet)
        new_words = fresh.words()
        door = doors.confirm_phrase(tablet, fresh, {at: new_words[at - 1] for at in doors.questions()}, old=phrase)
        assert (door.is_open, door.needs) == (True, "")


@pytest.mark.timeout(300)
def test_another_device_brings_new_ones_in_and_the_lost_one_is_put_out(house: House) -> None:
    alice, bob = house.fresh()
    vault.save(alice)
    phone = house.another(alice, "phone")
    pairing.accept(alice, pairing.request(phone).text())
    assert pairing.complete(phone).is_authenticated
    watch = house.another(alice, "watch")
    offer = pairing.offer_code(watch)
    answer = pairing.answer_code(phone)
    answer.confirm(offer.wait(5), wait_seconds=5)
    pairing.complete(watch)
    before = vault.chain_of(phone)
    tablet = house.another(alice, "tablet")
    words = next(one.words for one in device.list_devices(phone) if one.device.bytes == tablet.device.id)
    pairing.approve(phone, UUID(bytes=tablet.device.id), words=words)
    opened = by_door.by_device(tablet)
    assert {one.name for one in opened.devices} == {"alice's laptop", "phone", "watch"}
    by_door.finish(tablet, lost=lost(alice))
    require_recovered(tablet, alice, bob, before)
    for one in (phone, watch):
        letters.fetch(one)
        assert caught_up(one)
        assert one.identity_key.public == tablet.identity_key.public
        assert one.state.vault.key == tablet.state.vault.key


@pytest.mark.timeout(300)
def test_two_devices_that_write_the_vault_at_once_lose_nothing(house: House) -> None:
    alice, bob = house.fresh()
    vault.save(alice)
    phone = house.another(alice, "phone")
    pairing.accept(alice, pairing.request(phone).text())
    pairing.complete(phone)
    archive.new_generation(alice)
    vault.save(alice)
    contacts.refresh(phone, house.open[0].user)
    vault.save(phone)
    vault.load(alice)
    assert {bob.user, house.open[0].user} <= alice.state.contacts.keys()
    assert [one.number for one in phone.state.generations] == [1, 2]
    doors.set_password(alice, PASSWORD, cost=CHEAP)
    vault.begin_epoch(phone, key=new_vault_key(), epoch=2)
    pairing.sync(phone)
    letters.fetch(alice)
    assert caught_up(alice)
    assert doors.list_closed(alice) == [doors.PASSWORD]
    assert vault.save(alice) == phone.state.vault.version + 1


@pytest.mark.timeout(300)
def test_export_file_recovers_the_account(house: House) -> None:
    alice, bob = house.fresh()
    data = export.write(alice, password=FILE_PASSWORD, cost=CHEAP)
    archive.new_generation(alice)
    vault.save(alice)
    before = vault.chain_of(alice)
    tablet = house.another(alice, "tablet")
    opened = by_door.by_export(tablet, data, password=FILE_PASSWORD)
    assert opened.missing == []
    by_door.finish(tablet, lost=lost(alice))
    require_recovered(tablet, alice, bob, before)


@pytest.mark.timeout(300)
def test_contacts_recover_the_account_after_the_delay_unless_a_live_device_objects(house: House) -> None:
    alice, bob = house.fresh()
    friends = [bob, house.officer("dan"), house.officer("erin")]
    trusted.choose(alice, [one.user for one in friends], k=2)
    for one in friends:
        letters.fetch(one)
        assert [share.is_current for share in trusted.take_shares(one)] == [True]
    before = vault.chain_of(alice)
    tablet = house.another(alice, "tablet")
    _objected(alice, friends, tablet)
    asked = share_requests.open_request(tablet)
    for one in friends[:2]:
        assert asked.request_id in [row.request_id for row in share_requests.list_requests(one) if row.state == "open"]
        share_requests.give(one, asked.request_id, code=asked.code)
    with pytest.raises(NotYet):
        by_door.by_contacts(tablet)
    opened = by_door.by_contacts(tablet, wait_seconds=4 * DELAY_SECONDS)
    assert opened.blamed == []
    by_door.finish(tablet, lost=lost(alice))
    require_recovered(tablet, alice, bob, before)
    for one in friends:
        letters.fetch(one)
        assert [share.is_current for share in trusted.take_shares(one)] == [True]
    assert [one.kind for one in doors.status(tablet) if one.is_open] == [doors.CONTACTS]


def _objected(alice: Account, friends: list[Account], tablet: Account) -> None:
    """Ask, have every contact answer, and have the live device object: the shares are handed out to nobody."""
    asked = share_requests.open_request(tablet)
    for one in friends:
        share_requests.give(one, asked.request_id, code=asked.code)
    letters.fetch(alice)
    assert any(one.event.startswith("contacts") for one in letters.notices(alice))
    (pending,) = [one for one in share_requests.requests(alice) if one.state == "open"]
    share_requests.veto(alice, pending.request_id)
    time.sleep(DELAY_SECONDS + 1)
    with pytest.raises(NotPossible, match="vetoed"):
        by_door.by_contacts(tablet)
    assert not len(tablet.state.identity_seed)
