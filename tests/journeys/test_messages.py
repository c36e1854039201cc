# SPDX-License-Identifier: Apache-2.0
"""Messages between real profiles over a real server, and kill -9 of the client between every two of its steps."""

from __future__ import annotations

import json
import secrets
import shutil
import signal
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from holdfast.client.identity import device
from holdfast.client.messages import messages, prekeys
from holdfast.client.messages.messages import ReportKind
from holdfast.client.profile import account as accounts
from holdfast.client.profile.store import PROFILE_FILE
from holdfast.core.signed.enrolment import EnrolmentCode
from holdfast.core.vault.password_door import Argon2Cost
from tests.cast.server import PROJECT, Installation
from tests.journeys import messenger
from tests.journeys.messenger import PASSPHRASE

pytestmark = [
    pytest.mark.skipif(shutil.which("strace") is None, reason="strace makes the kills"),
    pytest.mark.timeout(3600),
]
CHEAP = Argon2Cost(memory_kib=19 * 1024, passes=2, lanes=1)
# What leaves the process or its memory: the database's pages, the point at which they are durable, the network.
CALLS = ("pwrite64", "fdatasync", "sendto", "recvfrom")
MOST = 400


@dataclass
class Person:
    """A profile on disk. It is opened by one process at a time: this one, or the one that is to be killed."""

    home: Path
    user: bytes
    expected: dict[str, str] = field(default_factory=dict)

    def run(self, act: str, *prefix: str) -> int:
        command = [*prefix, sys.executable, "-m", "tests.journeys.messenger", act, str(self.home)]
        done = subprocess.run(command, cwd=PROJECT, check=False, capture_output=True, text=True, timeout=120)
        if done.returncode not in (0, -signal.SIGKILL, 128 + signal.SIGKILL):
            raise AssertionError(f"{act} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done.returncode

    def killed(self, act: str, call: str, number: int) -> bool:
        """Run an act, killed as it enters its n-th call of this name; False when it ended well with fewer."""
        inject = f"inject={call}:signal=KILL:when={number}"
        return self.run(act, "strace", "-f", "-o", "/dev/null", "-e", f"trace={call}", "-e", inject) != 0

    def note(self, to: Person, body: bytes) -> None:
        """Put a message on the app's list."""
        identifier = secrets.token_hex(16)
        to.expected[identifier] = body.hex()
        messenger.append(self.home / "to-send", json.dumps({"id": identifier, "to": to.user.hex(), "body": body.hex()}))


def code_of(server: Installation, name: str) -> EnrolmentCode:
    path = server.demo / "codes" / f"{name}.code"
    code = EnrolmentCode.parse(path.read_text())
    path.rename(path.with_suffix(f".{secrets.token_hex(4)}.used"))
    return code


@pytest.fixture
def people(server: Installation, tmp_path: Path) -> tuple[Person, Person]:
    """A new alice and a new bob, each enrolled with pre-keys published."""
    server.manage("demo", "--members-only", HOLDFAST_ROLE="ceremony")
    return enrolled(server, tmp_path, "alice"), enrolled(server, tmp_path, "bob")


def enrolled(server: Installation, tmp_path: Path, name: str) -> Person:
    code = code_of(server, name)
    account = accounts.create(tmp_path / name, tenant=code.tenant, user=code.person, passphrase=PASSPHRASE, cost=CHEAP)
    account.connect(server.url)
    device.enrol(account, code, name=f"{name}'s laptop", is_development=True)
    prekeys.publish(account)
    account.close()
    return Person(tmp_path / name, code.person)


def test_people_write_to_each_other_over_a_real_server(people: tuple[Person, Person]) -> None:
    alice, bob = people
    sizes = (0, 1, 4096, 4097, 1_000_000)
    for size in sizes:
        alice.note(bob, secrets.token_bytes(size))
    assert alice.run("send") == 0
    assert bob.run("receive") == 0
    bob.note(alice, b"thank you")
    assert bob.run("send") == 0
    assert alice.run("receive") == 0
    for person in (alice, bob):
        assert got(person) == person.expected
        assert not (person.home / "reports").exists()


def test_every_message_is_there_after_a_profile_was_put_back_from_an_older_copy(
    people: tuple[Person, Person], tmp_path: Path
) -> None:
    alice, bob = people

    def exchange(word: str) -> None:
        alice.note(bob, f"{word} of alice".encode())
        bob.note(alice, f"{word} of bob".encode() * 1000)
        assert alice.run("send") == bob.run("send") == 0

    def look(times: int = 1) -> None:
        for _ in range(times):
            assert bob.run("receive") == alice.run("receive") == 0

    exchange("first")
    look()
    shutil.copy(bob.home / PROFILE_FILE, tmp_path / "copy")
    for number in range(2):
        exchange(f"after the copy, {number}")
        look()
    exchange("on its way")
    # The machine is restored: the profile is as it was, and the app's own list of what it has got and sent is newer.
    for left in bob.home.glob(f"{PROFILE_FILE}*"):
        left.unlink()
    shutil.copy(tmp_path / "copy", bob.home / PROFILE_FILE)
    exchange("afterwards")
    look(times=4)
    for person in (alice, bob):
        assert got(person) == person.expected
        with accounts.open_account(person.home, passphrase=PASSPHRASE) as account:
            assert messages.unconfirmed(account) == []
            assert {report.kind for report in messages.reports(account)} == {ReportKind.UNDECRYPTABLE}


def got(person: Person) -> dict[str, str]:
    """What the app has, each exactly once."""
    found = messenger.lines(person.home / "got")
    assert max(Counter(line["id"] for line in found).values(), default=0) <= 1
    return {line["id"]: line["body"] for line in found}


def storm(alice: Person, bob: Person, *, step: int, anew_every: int) -> Counter[str]:
    """Kill sender and receiver at every step-th call of each kind, until each has run to its end; count the kills."""
    kills: Counter[str] = Counter()
    with ThreadPoolExecutor(2) as both:
        for call in CALLS:
            going = {"send", "receive"}
            for number in range(1, MOST, step):
                if not going:
                    break
                if number // step % anew_every == 0:
                    begin_anew(alice, bob)
                alice.note(bob, b"%s %d" % (call.encode(), number))
                # The message before this one is what the receiver is at while this one is being sent.
                ends = {
                    act: both.submit(person.killed, act, call, number)
                    for act, person in (("send", alice), ("receive", bob))
                    if act in going
                }
                for act, end in ends.items():
                    if end.result():
                        kills[f"{act} {call}"] += 1
                    else:
                        going.discard(act)
    return kills


def begin_anew(alice: Person, bob: Person) -> None:
    """Have alice begin another session, so that handshakes are among what is killed; and read what answered others."""
    with accounts.open_account(alice.home, passphrase=PASSPHRASE) as account:
        account.connect()
        messages.receive(account)
        messages.greet(account, [bob.user])


def settle(alice: Person, bob: Person) -> None:
    """Run both to their end, and see that all that was written is there once and nothing did not open."""
    assert alice.run("send") == 0
    assert bob.run("receive") == 0
    assert got(bob) == bob.expected
    assert not (bob.home / "reports").exists()
    assert not (alice.home / "reports").exists()
    with accounts.open_account(alice.home, passphrase=PASSPHRASE) as account:
        assert account.store.keys("outbox") == []
    bob.note(alice, b"all of it")
    assert bob.run("send") == 0
    assert alice.run("receive") == 0
    assert got(alice) == alice.expected


def test_killed_sender_and_receiver_lose_and_repeat_nothing(people: tuple[Person, Person]) -> None:
    alice, bob = people
    kills = storm(alice, bob, step=7, anew_every=2)
    settle(alice, bob)
    assert {key.split()[0] for key in kills} == {"send", "receive"}
    assert kills.total() >= 12


@pytest.mark.soak("messages")
def test_kill_at_every_single_call_loses_and_repeats_nothing(people: tuple[Person, Person]) -> None:
    alice, bob = people
    kills = storm(alice, bob, step=1, anew_every=3)
    settle(alice, bob)
    assert kills.keys() == {f"{act} {call}" for act in ("send", "receive") for call in CALLS}
