# SPDX-License-Identifier: Apache-2.0
"""What a device holds and a database that was put back has lost: each kind of it is there again after `maintain`.

The server is real, its database is really put back, and officers accept that. Nobody does anything but `maintain`,
unless the report says what.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from escrow import access as escrow_access
from holdfast.client import maintenance
from holdfast.client.escrow import archive, escrow
from holdfast.client.identity import chains, device
from holdfast.client.messages import letters, messages, prekeys
from holdfast.client.officers import joining, section, section_doors, stated_keys
from holdfast.client.profile.account import Account
from holdfast.client.rotation import rotation
from holdfast.client.standing import Done, Outcome
from holdfast.client.vault import doors, pairing, share_requests, trusted, vault
from holdfast.core.base.secret import SecretBytes
from holdfast.core.crypto.phrase import Phrase
from holdfast.core.identity.entries import Reason
from holdfast.core.messages.prekeys import OneTimePreKey
from holdfast.core.vault.password_door import Argon2Cost
from kernel.scope import tenant_scope
from keys.models import VaultDoor
from tests.cast.callers import Callers
from tests.cast.put_back import copied_database
from tests.cast.world import World
from tests.recovery.release.test_restored import accept, ceremony

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgres]

CHEAP = Argon2Cost(memory_kib=19 * 1024, passes=2, lanes=1)
OLD, NEW = SecretBytes(b"the password of before"), SecretBytes(b"the password of after it")


@pytest.fixture(autouse=True)
def _release_directory(settings: Any, tmp_path: Path) -> None:
    settings.HOLDFAST_RELEASE_DIR = tmp_path / "release"


class Scene:
    """Alice with her laptop and bob with his, whom she has written to, as a backup has them."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.callers = Callers(world)
        for name in ("carol", "dan"):
            world.directory.phone(name)
        self.alice = self.callers.enrolled("alice")
        self.bob = self.callers.enrolled("bob")
        self.others: list[Account] = []
        self.kept: dict[str, Any] = {}
        self.alice_id = world.cast.alice.pk
        self.tablet = self.alice  # of alice's, which the account does not list yet, once there is one

    @cached_property
    def olivia(self) -> Account:
        return self.callers.enrolled("olivia")

    @cached_property
    def erin(self) -> Account:
        return self.callers.enrolled("erin")

    def claim(self) -> int:
        """Have bob's device claim a key of alice's."""
        answer = self.bob.api.post(f"devices/{self.alice.device_text}/claim", {}, key=uuid4().hex)
        leaf = answer.one("one_time_pre_key").octets("leaf")
        return OneTimePreKey.from_leaf(leaf, self.alice.suite).key_id

    def another(self) -> Account:
        made = self.callers.another(self.alice, "alice")
        self.others.append(made)
        return made

    def dump(self) -> Callable[[], None]:
        self.callers.work()
        self.world.tick()
        return copied_database()

    def accept(self) -> None:
        """Have two officers accept both logs as they are stored, and hold the ceremony."""
        accept(self.world, "carol", "dan")
        ceremony(self.world)
        self.world.tick()
        self.callers.work()

    def maintained(self) -> dict[Account, list[Done]]:
        """Have everybody's devices maintain themselves twice, as they would in a day; what the second time said."""
        for _ in range(2):
            self.open_again()
            found = {account: maintenance.maintain(account) for account in self.everybody()}
        return found

    def everybody(self) -> list[Account]:
        known = [self.__dict__[name] for name in ("olivia", "erin") if name in self.__dict__]
        return [self.alice, *self.others, self.bob, *known]

    def open_again(self) -> None:
        """Begin a new opening of each profile, as each run of a command is one."""
        for account in self.everybody():
            account._turns = None
            account.sign_as_device()


def said(report: list[Done], outcome: Outcome) -> list[str]:
    return [f"{one.item}: {one.said} {one.way_out}" for one in report if one.outcome is outcome]


@dataclass(frozen=True)
class Kind:
    """One kind of thing. since: done after the dump. is_there: asserts that it is there again. asks: what a person is
    asked to do, in words of the report."""

    name: str
    since: Callable[[Scene], None]
    is_there: Callable[[Scene], None]
    before: Callable[[Scene], object] = field(default=lambda scene: None)
    asks: str = ""


def _password(account: Account, password: SecretBytes) -> None:
    doors.set_password(account, password, cost=CHEAP)


def _opens(scene: Scene, password: SecretBytes) -> None:
    """A device that has nothing yet opens the vault by the password door."""
    tablet = scene.callers.profile("alice")
    device.enrol(tablet, scene.callers.code("alice"), name="tablet", is_development=True)
    opened = doors.open_with_password(tablet, password=password)
    assert opened.epoch == scene.alice.state.vault.epoch


def _save_vault(scene: Scene) -> None:
    vault.save(scene.alice)


def _note_in_vault(scene: Scene) -> None:
    messages.send(scene.alice, scene.bob.user, b"hello")  # bob is a contact from now on
    vault.save(scene.alice)
    scene.kept["epoch"] = scene.alice.state.vault.epoch


def _contact_in_vault(scene: Scene) -> None:
    found = vault.find(scene.alice)
    contents = vault._open_contents(found, scene.alice.state.vault.key)
    assert scene.bob.user in {contact.user for contact in contents.contacts}


def _send(scene: Scene) -> None:
    messages.send(scene.alice, scene.bob.user, b"under way")


def _arrived(scene: Scene) -> None:
    assert [one.body for one in messages.receive(scene.bob) if one.body == b"under way"] == [b"under way"]


def _read_before(scene: Scene) -> None:
    messages.send(scene.alice, scene.bob.user, b"read before")


def _read(scene: Scene) -> None:
    for one in messages.receive(scene.bob):
        one.done()
    messages.confirm(scene.bob)


def _not_twice(scene: Scene) -> None:
    assert messages.receive(scene.bob) == []


def _consented(scene: Scene) -> None:
    escrow.prepare(scene.alice)
    archive.current_generation(scene.alice)
    escrow.consent(scene.alice)


def _deposit(scene: Scene) -> None:
    if not escrow.has_consented(scene.alice):
        _consented(scene)
    assert escrow.deposit_missing(scene.alice)


def _deposited(scene: Scene) -> None:
    kept = scene.alice.state.generations[-1]
    assert kept.deposit_id
    assert escrow.status(scene.alice).missing_on_server == []
    assert escrow.status(scene.alice).consent == "given"


def _removed(scene: Scene) -> None:
    doors.remove(scene.alice, doors.PASSWORD)


def _stays_removed(scene: Scene) -> None:
    assert not VaultDoor.unscoped.filter(user_id=scene.alice_id, kind="password").exists()


def _password_of_the_other_device(scene: Scene) -> None:
    """The device on which it was set is gone for good, after the other one has heard of it."""
    other = scene.others.pop()
    _password(other, NEW)
    vault.load(scene.alice)


def _paired(scene: Scene) -> None:
    vault.save(scene.alice)
    scene.another()
    pairing.sync(scene.alice)
    maintenance.maintain(scene.others[0])
    assert scene.others[0].state.vault.epoch == scene.alice.state.vault.epoch


def _set_again(scene: Scene) -> None:
    _password(scene.alice, NEW)
    assert "backup password" not in repr(maintenance.maintain(scene.alice))
    _opens(scene, NEW)


def _vault_key(scene: Scene) -> None:
    rotation.rotate(scene.alice, {rotation.VAULT}, reason=Reason.SECURITY_EVENT)


def _same_vault_key(scene: Scene) -> None:
    first, second = scene.alice.state.vault, scene.others[0].state.vault
    assert (first.epoch, first.key) == (second.epoch, second.key)
    assert vault.load(scene.alice) is not None
    assert vault.load(scene.others[0]) is not None


def _chosen(scene: Scene) -> None:
    """The letters with the shares are under way."""
    trusted.choose(scene.alice, [scene.bob.user, scene.olivia.user], k=2)


def _contacts_open(scene: Scene) -> None:
    """A device that has nothing yet asks, and both contacts give."""
    tablet = scene.callers.profile("alice")
    device.enrol(tablet, scene.callers.code("alice"), name="tablet", is_development=True)
    asked = share_requests.open_request(tablet)
    for contact in (scene.bob, scene.olivia):
        share_requests.give(contact, asked.request_id, code=asked.code)
    assert share_requests.request_status(tablet).answered == 2


def _became_officer(scene: Scene) -> None:
    phrase = Phrase.generate()
    words = phrase.words()
    joining.begin(scene.erin)
    joining.set_passphrase(scene.erin, OLD, cost=CHEAP)
    joining.set_phrase(scene.erin, phrase, {at: words[at - 1] for at in (1, 2, 3, 4)})
    joining.finish(scene.erin)
    scene.kept["phrase"] = phrase


def _doors_set_again(scene: Scene) -> None:
    """With that the account states its keys again, by itself."""
    section_doors.set_passphrase(scene.erin, NEW, cost=CHEAP)
    section_doors.set_phrase(scene.erin, scene.kept["phrase"])
    maintenance.maintain(scene.erin)
    _pairs_there(scene)


def _pairs_there(scene: Scene) -> None:
    contents = section.load(scene.erin)
    assert contents is not None
    kept = scene.erin.state.officers_section
    assert kept is not None
    assert [section.public_halves(pair) for pair in contents.pairs] == kept.keys
    stated = stated_keys.newest_own(scene.erin)
    assert stated is not None
    assert stated.keys == kept.keys[-1]


def _another_passphrase(scene: Scene) -> None:
    section_doors.set_passphrase(scene.erin, NEW, cost=CHEAP)


def _passphrase_set_again(scene: Scene) -> None:
    section_doors.set_passphrase(scene.erin, NEW, cost=CHEAP)
    assert "set-door" not in repr(maintenance.maintain(scene.erin))


def _claimed(scene: Scene) -> None:
    """Bob begins a session with alice's device, and somebody else after him."""
    scene.kept["claimed"] = {scene.claim() for _ in range(3)}


def _never_again(scene: Scene) -> None:
    assert scene.kept["claimed"].isdisjoint(scene.claim() for _ in range(3))
    held = prekeys.fetch_held(scene.alice)
    assert held.count >= prekeys.REFILL_BELOW
    assert all(prekeys.one_time(scene.alice, one) is not None for one in held.key_ids)


def _signed_pre_key(scene: Scene) -> None:
    prekeys._make_signed(scene.alice)
    prekeys.publish(scene.alice)


def _newest_signed(scene: Scene) -> None:
    current = prekeys._current(scene.alice)
    assert current is not None
    assert prekeys.fetch_held(scene.alice).signed_hash == prekeys._hash_of(current)


def _asked(scene: Scene) -> None:
    scene.tablet = scene.callers.profile("alice")
    device.enrol(scene.tablet, scene.callers.code("alice"), name="tablet", is_development=True)


def _shares_asked(scene: Scene) -> None:
    scene.kept["asked"] = share_requests.open_request(scene.tablet).request_id


def _asked_anew(scene: Scene) -> None:
    assert share_requests.open_request(scene.tablet).state == "open"


def _choose_before(scene: Scene) -> None:
    _chosen(scene)
    for contact in (scene.bob, scene.olivia):
        maintenance.maintain(contact)
    _asked(scene)


def _enrolled_since(scene: Scene) -> None:
    scene.tablet = scene.callers.profile("alice")
    device.enrol(scene.tablet, scene.kept["code"], name="tablet", is_development=True)


def _code_before(scene: Scene) -> None:
    scene.kept["code"] = scene.callers.code("alice")


def _enrols_again(scene: Scene) -> None:
    """By the same code, which the backup has as unused."""
    done = device.enrol(scene.tablet, scene.kept["code"], name="tablet", is_development=True)
    device.approve(scene.alice, done.device, words=done.words)
    assert chains.refresh(scene.tablet) is not None
    assert scene.tablet.device.is_active


def _no(scene: Scene) -> None:
    escrow.consent(scene.alice, agreed=False)


def _still_no(scene: Scene) -> None:
    with tenant_scope(scene.world.tenant_id):
        newest = escrow_access.newest_consent(scene.alice_id)
    assert newest is not None
    assert not newest.agreed


def _notice(scene: Scene) -> None:
    letters.fetch(scene.alice)
    letters.put_away(scene.alice, letters.notices(scene.alice))


def _no_notice(scene: Scene) -> None:
    assert letters.notices(scene.alice) == []


def _answered_once(scene: Scene) -> None:
    _send(scene)
    _read(scene)
    messages.receive(scene.alice)


def _nothing_waits(scene: Scene) -> None:
    assert [one for one in messages.unconfirmed(scene.alice) if one.user.bytes == scene.bob.user] == []
    assert messages.receive(scene.bob) == []


FIRST_VAULT = Kind("the first vault", _note_in_vault, _contact_in_vault)
VAULT = Kind("a newer vault", _note_in_vault, _contact_in_vault, before=_save_vault)
FIRST_PASSWORD = Kind("a first password", lambda scene: _password(scene.alice, NEW), lambda scene: _opens(scene, NEW))
PASSWORD = replace(FIRST_PASSWORD, name="another password", before=lambda scene: _password(scene.alice, OLD))
NO_PASSWORD = Kind("no password", _removed, _stays_removed, before=lambda scene: _password(scene.alice, OLD))
PASSWORD_ELSEWHERE = Kind(
    "a password set elsewhere",
    _password_of_the_other_device,
    _set_again,
    before=_paired,
    asks="Set it again: holdfast backup password",
)
VAULT_KEY = Kind("the vault's key", _vault_key, _same_vault_key, before=_paired)
CONTACTS = Kind("trusted contacts", _chosen, _contacts_open, before=lambda scene: scene.olivia)
OFFICER = Kind(
    "officer's keys",
    _became_officer,
    _doors_set_again,
    before=lambda scene: scene.erin,
    asks="Set one: holdfast officer set-door passphrase",
)
PASSPHRASE = Kind(
    "a passphrase of officer's keys",
    _another_passphrase,
    _passphrase_set_again,
    before=_became_officer,
    asks="Set it again: holdfast officer set-door passphrase",
)
ONE_TIME = Kind("one-time keys handed out", _claimed, _never_again)
SIGNED = Kind("a signed pre-key", _signed_pre_key, _newest_signed)
REQUEST = Kind("a request for shares", _shares_asked, _asked_anew, before=_choose_before)
WAITING_DEVICE = Kind("a device that waits", _enrolled_since, _enrols_again, before=_code_before)
NO = Kind("a consent taken back", _no, _still_no, before=_consented)
NOTICE = Kind("a notice put away", _notice, _no_notice, before=_code_before)
UNDER_WAY = Kind("a message under way", _send, _arrived)
CONFIRMED = Kind("a message that was confirmed", _answered_once, _nothing_waits)
READ = Kind("a message that was read", _read, _not_twice, before=_read_before)
FIRST_DEPOSIT = Kind("the first deposit", _deposit, _deposited)
DEPOSIT = Kind("a deposit", _deposit, _deposited, before=_consented)

# By what one backup can lack at once: to put one back takes seconds.
SCENES = {
    "keyring and consent": (VAULT, PASSWORD, NO, READ, ONE_TIME, NOTICE),
    "keyring and messages": (FIRST_VAULT, UNDER_WAY, SIGNED, DEPOSIT),
    "first of all": (FIRST_PASSWORD, CONTACTS, OFFICER, FIRST_DEPOSIT),
    "two devices": (VAULT_KEY, CONFIRMED, WAITING_DEVICE),
    "two devices, of which one is lost": (PASSWORD_ELSEWHERE,),
    "what was asked and removed": (REQUEST, NO_PASSWORD, PASSPHRASE),
}


@pytest.mark.parametrize("kinds", SCENES.values(), ids=SCENES)
def test_it_is_there_again(kinds: Sequence[Kind], world: World) -> None:
    scene = Scene(world)
    for kind in kinds:
        kind.before(scene)
    restore = scene.dump()
    scene.open_again()
    for kind in kinds:
        kind.since(scene)
    scene.callers.work()
    world.tick()
    restore()
    scene.accept()
    reports = scene.maintained()
    lines = [line for report in reports.values() for line in said(report, Outcome.NEEDS_YOU)]
    assert [said(report, Outcome.FAILED) for report in reports.values()] == [[]] * len(reports)
    assert not [line for line in lines if "not the newest one" in line]
    for kind in kinds:
        assert not kind.asks or any(kind.asks in line for line in lines), kind.name
        kind.is_there(scene)
