# SPDX-License-Identifier: Apache-2.0
"""Rotation and revocation over a real server, and kill -9 of the client on the way, as often as a test has time for."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

import pytest

from holdfast.client.errors import NotPossible, Problem
from holdfast.client.escrow import archive
from holdfast.client.identity import contacts, device, key_log
from holdfast.client.identity.key_log import Anchor
from holdfast.client.messages import letters, messages, prekeys
from holdfast.client.profile import account as accounts
from holdfast.client.profile.account import Account
from holdfast.client.rotation import rotation
from holdfast.client.vault import pairing, vault
from holdfast.core.identity.entries import Reason
from holdfast.core.signed.enrolment import EnrolmentCode
from tests.cast.server import PROJECT, Installation, installation, wait_for
from tests.journeys.messenger import PASSPHRASE, caught_up
from tests.journeys.test_messages import CHEAP, MOST, code_of

pytestmark = [
    pytest.mark.skipif(shutil.which("strace") is None, reason="strace makes the kills"),
    pytest.mark.timeout(3600),
]
# What makes a step durable, and what leaves the process.
CALLS = ("fdatasync", "sendto")


class House:
    """Alice with a laptop and a phone, and bob; every profile is on disk and opened by one process at a time."""

    def __init__(self, server: Installation, carol: Account, home: Path) -> None:
        self.server, self.carol, self.home = server, carol, home
        server.manage("demo", "--members-only", HOLDFAST_ROLE="ceremony")
        self.alice = self.enrol("laptop", code_of(server, "alice"))
        self.bob = self.enrol("bob", code_of(server, "bob"))
        with self.opened("laptop") as laptop:
            vault.save(laptop)
            archive.new_generation(laptop)

    @contextmanager
    def opened(self, name: str) -> Iterator[Account]:
        with accounts.open_account(self.home / name, passphrase=PASSPHRASE) as account:
            account.connect()
            yield account

    def enrol(self, name: str, code: EnrolmentCode) -> bytes:
        account = accounts.create(
            self.home / name, tenant=code.tenant, user=code.person, passphrase=PASSPHRASE, cost=CHEAP
        )
        account.connect(self.server.url)
        done = device.enrol(account, code, name=name, is_development=True)
        if done.is_active:
            prekeys.publish(account)
        account.close()
        return code.person

    def second_device(self) -> None:
        """Alice's phone, by a code of carol's, approved by its words on the laptop."""
        code = EnrolmentCode.parse(device.issue_code(self.carol, UUID(bytes=self.alice)).text)
        self.enrol("phone", code)
        with self.opened("phone") as phone, self.opened("laptop") as laptop:
            words = device.device_words(device.fetch_statement(phone, phone.device.id))
            pairing.approve(laptop, UUID(bytes=phone.device.id), words=words)
            pairing.complete(phone)
            prekeys.publish(phone)

    def say(self, name: str, to: bytes, text: bytes) -> None:
        with self.opened(name) as account:
            assert messages.send(account, to, text).is_sent

    def hear(self, name: str) -> list[bytes]:
        with self.opened(name) as account:
            found = messages.receive(account)
            for one in found:
                one.done()
            assert messages.reports(account) == []
            return [one.body for one in found]

    def rotated(self, count: int, *prefix: str) -> bool:
        """Rotate in a process of its own; False when it was killed."""
        command = [*prefix, sys.executable, "-m", "tests.journeys.rotator", str(self.home / "laptop"), str(count)]
        done = subprocess.run(command, cwd=PROJECT, check=False, capture_output=True, text=True, timeout=120)
        if done.returncode not in (0, -signal.SIGKILL, 128 + signal.SIGKILL):
            raise AssertionError(f"the rotation ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done.returncode == 0


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[Installation, Account]]:
    """An installation of this module's own, and carol, who issues the codes of further devices."""
    with installation() as server, server.officer("carol") as carol:
        yield server, carol


@pytest.fixture
def house(running: tuple[Installation, Account], tmp_path: Path) -> House:
    return House(*running, tmp_path)


def test_rotation_of_everything_keeps_history_and_conversations(house: House, tmp_path: Path) -> None:
    (tmp_path / "letter").write_bytes(b"dear bob")
    with house.opened("laptop") as laptop:
        archive.encrypt_file(laptop, tmp_path / "letter", tmp_path / "sealed")
        old = laptop.device.id
    house.say("laptop", house.bob, b"hello bob")
    assert house.hear("bob") == [b"hello bob"]
    house.say("bob", house.alice, b"hello alice")
    assert house.hear("laptop") == [b"hello alice"]
    house.say("bob", house.alice, b"on its way")
    assert house.rotated(1)
    with house.opened("laptop") as laptop:
        assert laptop.device.id != old
        assert laptop.chain.revoked == {old}
        assert [one.generation for one in laptop.chain.generations] == [1, 2]
        assert [one.is_done for one in rotation.list_rotations(laptop)] == [True]
        archive.decrypt_file(laptop, tmp_path / "sealed", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == b"dear bob"
    assert house.hear("laptop") == [b"on its way"]
    assert house.hear("bob") == []  # the greeting is no message
    for name, to, text in (("bob", house.alice, b"are you there"), ("laptop", house.bob, b"I am")):
        house.say(name, to, text)
    assert house.hear("laptop") == [b"are you there"]
    assert house.hear("bob") == [b"I am"]


def test_revoked_device_is_out_and_the_remaining_one_has_everything(house: House) -> None:
    house.second_device()
    house.say("bob", house.alice, b"to both")
    assert house.hear("laptop") == house.hear("phone") == [b"to both"]
    with house.opened("phone") as phone:
        lost, knew = UUID(bytes=phone.device.id), phone.state.vault.key
    with house.opened("laptop") as laptop:
        done = rotation.rotate(laptop, rotation.EVERYTHING, reason=Reason.DEVICE_LOST, revoke=[lost])
        assert done.is_done
        assert laptop.chain.devices.keys() == {laptop.device.id}
        assert laptop.state.vault.key != knew
    house.say("bob", house.alice, b"to one")
    assert house.hear("laptop") == [b"to one"]
    with house.opened("phone") as phone:
        for act in (lambda: messages.receive(phone), lambda: vault.load(phone), lambda: letters.fetch(phone)):
            with pytest.raises(Problem) as refused:
                act()
            assert refused.value.status == 401
    with house.opened("bob") as bob:
        state = contacts.refresh(bob, house.alice)
        assert lost.bytes in state.revoked


def test_two_devices_rotate_one_after_the_other_and_follow_each_other(house: House) -> None:
    house.second_device()
    for name, other in (("laptop", "phone"), ("phone", "laptop"), ("laptop", "phone")):
        with house.opened(name) as one:
            rotation.rotate(one, rotation.EVERYTHING, reason=Reason.SCHEDULE)
            seed, key = one.identity_key.public, one.state.vault.key
        with house.opened(other) as two:
            letters.fetch(two)
            assert caught_up(two)
            assert two.identity_key.public == seed
            assert two.state.vault.key == key
            assert {found.type for found in key_log.foreign_entries(two)} == {"RotateKey", "ArchiveGeneration"}
            key_log.put_away_seen(two, *key_log.foreign_entries(two))
    with house.opened("laptop") as laptop:
        with pytest.raises(NotPossible, match="itself"):
            rotation.rotate(
                laptop, rotation.EVERYTHING, reason=Reason.DEVICE_LOST, revoke=[UUID(bytes=laptop.device.id)]
            )
        assert len(laptop.chain.former_aiks) == 3


def test_heads_are_anchored_in_the_running_log(house: House) -> None:
    with house.opened("bob") as bob:
        for _ in range(200):
            state = contacts.refresh(bob, house.alice)
            if key_log.standing(bob, state) is Anchor.ANCHORED:
                break
        else:
            raise AssertionError("the log did not take the entry in time")
        text = key_log.own_checkpoint(bob)
    with house.opened("laptop") as laptop:
        archive.new_generation(laptop)
        wait_for(lambda: key_log.anchor(laptop, laptop.chain) is Anchor.ANCHORED)
        assert key_log.compare_gossip(laptop, text)


def storm(house: House, *, step: int) -> int:
    """Kill a rotation as it enters its n-th call of a kind, resume it, and begin the next; return the kills."""
    kills = count = 0
    for call in CALLS:
        for number in range(1, MOST, step):
            count += 1
            text = b"%s %d" % (call.encode(), number)
            house.say("bob", house.alice, text)
            inject = f"inject={call}:signal=KILL:when={number}"
            whole = house.rotated(count, "strace", "-f", "-o", "/dev/null", "-e", f"trace={call}", "-e", inject)
            kills += not whole
            assert house.rotated(count)
            assert house.hear("laptop") == [text]
            with house.opened("laptop") as laptop:
                state = laptop.chain
                assert len(state.former_aiks) == count
                assert state.aik == laptop.identity_key.public
                assert laptop.device.id in state.devices
                held = {one.number: one.commitment for one in laptop.state.generations}
                assert held == {one.generation: one.commitment for one in state.generations}
                assert all(one.is_done for one in rotation.list_rotations(laptop))
            if whole:
                break
    return kills


def settle(house: House) -> None:
    with house.opened("phone") as phone, house.opened("laptop") as laptop:
        letters.fetch(phone)
        caught_up(phone)
        assert phone.identity_key.public == laptop.identity_key.public
        assert phone.state.vault.key == laptop.state.vault.key
        assert phone.chain.devices.keys() == {phone.device.id, laptop.device.id}
    house.say("laptop", house.bob, b"all of it")
    assert house.hear("bob")[-1:] == [b"all of it"]


def test_killed_rotation_is_finished_with_the_keys_it_began_with(house: House) -> None:
    house.second_device()
    assert storm(house, step=9) >= 6
    settle(house)


@pytest.mark.soak("rotation")
def test_rotation_killed_at_every_durable_call_and_every_request_is_finished(house: House) -> None:
    house.second_device()
    assert storm(house, step=1) >= 30
    settle(house)
