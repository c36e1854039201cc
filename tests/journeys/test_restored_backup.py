# SPDX-License-Identifier: Apache-2.0
"""A backup is put back under people who have gone on, and everybody writes to everybody again.

ESCROW "What it believes of the log". With real processes, on SQLite and on PostgreSQL. The backup is made while
everybody works. Then a device is lost and another comes by a door, keys are replaced, one is deposited, somebody is
new, and messages are under way. The database alone is put back, which sequencer and release process notice; and
everything is together, which only a client's newer head can tell. People are devices in memory over the network,
officers have their profiles on the disk, and the ceremony is the operator's command.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

import pytest

from holdfast.client import standing
from holdfast.client.escrow import archive, disclosures, escrow
from holdfast.client.identity import contacts, key_log
from holdfast.client.identity.key_log import Anchor
from holdfast.client.maintenance import Done, Outcome, maintain
from holdfast.client.messages import messages
from holdfast.client.officers import acts, officer
from holdfast.client.profile.account import Account
from holdfast.client.recovery import by_case, by_door
from holdfast.client.rotation import rotation
from holdfast.client.vault import doors, vault
from holdfast.core.identity.entries import Reason
from tests.cast.backups import REMEMBERING, Backup, kept_installation
from tests.cast.members import heard
from tests.cast.server import Installation, wait_for
from tests.journeys.test_recovery_by_user import CHEAP, PASSWORD, House
from tests.soak import rounds

pytestmark = [pytest.mark.postgres, pytest.mark.rounds("restore"), pytest.mark.timeout(900)]
EVERYTHING = ("identity", "device", "vault", "archive")
RELEASE_SECONDS = 120
# For which a sender leaves a server alone that has refused something once or twice.
PAUSE_SECONDS = 150
# A second one is due where a device waits for what another gives back, and a third finds nothing.
MOST_ROUNDS = 4
# How many messages each sends while the backup is made, at the least.
FEW = rounds(3, 200)


@dataclass
class Scene:
    """Acme's people through one restoring after another, each on the device that they have at the moment."""

    house: House
    here: Path
    people: dict[str, Account]
    erin: Account
    codes: list[str]
    read: dict[str, list[bytes]] = field(default_factory=dict)
    sent: dict[str, list[bytes]] = field(default_factory=dict)
    clara_has: int = 0

    @property
    def server(self) -> Installation:
        return self.house.server

    def of(self, *names: str) -> list[Account]:
        return [self.people[name] for name in names or self.people]

    # Writing and reading

    def say(self, name: str, to: str, text: str) -> None:
        """Send a message; whatever comes of it now, it is to be read once in the end."""
        content = f"{text}, from {name} to {to}".encode()
        self.sent.setdefault(to, []).append(content)
        messages.send(self.people[name], self.people[to].user, content)

    def hear(self, *names: str) -> None:
        """Receive, and be done with it."""
        for name in names or self.people:
            for one in messages.receive(self.people[name]):
                self.read.setdefault(name, []).append(one.body)
                one.done()

    def all_say(self, what: str) -> None:
        """Have everybody write to the next two, who so hear from both sides."""
        names = list(self.people)
        for at, name in enumerate(names):
            for step in (1, 2):
                self.say(name, names[(at + step) % len(names)], what)

    def require_read_once(self) -> None:
        """Hold what everybody has read to what was sent to them: nothing lost in the end, and nothing ever twice.

        To a device that is not back yet nothing goes; its sender waits for a while, and tries again.
        """

        def is_whole() -> bool:
            for one in self.of():
                messages.care(one)
            self.hear()
            return not any(lacking(name) for name in self.people)

        def lacking(name: str) -> Counter[bytes]:
            return Counter(self.sent.get(name, [])) - Counter(self.read.get(name, []))

        with suppress(AssertionError):
            wait_for(is_whole, PAUSE_SECONDS)
        for name in self.people:
            assert lacking(name) == Counter(), name
            assert Counter(self.read.get(name, [])) - Counter(self.sent.get(name, [])) == Counter(), name

    # The work of a day

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Have everybody work at once, each on their own, until the block has ended and each has sent a few."""
        is_over, failed = threading.Event(), list[BaseException]()

        def work(name: str) -> None:
            others = [other for other in self.people if other != name]
            try:
                number = 0
                while number < FEW or not is_over.is_set():
                    self.say(name, others[number % len(others)], f"at work {len(self.sent)} {number}")
                    self.hear(name)
                    if number % 4 == 1:
                        archive.new_generation(self.people[name])
                        vault.save(self.people[name])
                    number += 1
            except BaseException as error:
                failed.append(error)

        threads = [threading.Thread(target=work, args=(name,)) for name in self.people]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            is_over.set()
            for thread in threads:
                thread.join()
        assert failed == []

    def go_on(self) -> None:
        """What happens after the backup, and is lost with the database."""
        laptop = self.people["alice"]
        tablet = self.people["alice"] = self.house.another(laptop, "tablet")
        by_door.by_password(tablet, PASSWORD)
        by_door.finish(tablet, lost=[UUID(bytes=laptop.device.id)])
        doors.set_password(tablet, PASSWORD, cost=CHEAP)
        bob, clara = self.of("bob", "clara")
        rotation.rotate(bob, EVERYTHING, reason=Reason.USER_REQUEST)
        rotation.rotate(clara, ("identity", "archive"), reason=Reason.USER_REQUEST)
        self.clara_has = clara.chain.generations[-1].generation
        (self.here / "letter.holdfast").unlink(missing_ok=True)
        (self.here / "letter").write_bytes(b"dear bob\n" * 9000)
        archive.encrypt_file(clara, self.here / "letter", self.here / "letter.holdfast")
        escrow.consent(clara)
        escrow.deposit_missing(clara)
        assert escrow.due(clara) == []
        if self.codes:
            name = self.codes.pop()
            self.people["dora"] = self.house.first(name)

    def anchored(self) -> None:
        """Wait until the log of keys has everybody's chain."""
        for one in self.of():
            wait_for(lambda one=one: key_log.anchor(one, one.chain) is Anchor.ANCHORED)  # type: ignore[misc]

    # Restoring

    def is_read_only(self) -> bool:
        return self.people["carol"].api.get("audit/head", query={"log": "keys"}).flag("read_only")

    def put_back(self, backup: Backup, *directories: str) -> None:
        self.server.stop()
        backup.put_back(*directories)
        self.server.start()

    def accept(self) -> None:
        """Have two officers accept the logs as they are, and hold the ceremony."""
        carol, dan = self.of("carol", "dan")
        decision = acts.propose_acceptance(carol)
        acts.sign_decision(carol, decision)
        done = acts.sign_decision(dan, acts.find_resolution(dan, decision.hash.hex()[:8]))
        assert done.state == "passed"
        self.server.stop()
        held = self.server.manage("ceremony", "accept-restored", "acme", "--yes", check=False, HOLDFAST_ROLE="ceremony")
        assert "let the organisation change and sign again" in held.stdout, held.stderr
        self.server.start()

    def heal(self) -> None:
        """Have everybody maintain until nothing is left to do: it fails nowhere, and says until seen what happened."""
        for _ in range(MOST_ROUNDS):
            reports = {name: maintain(one) for name, one in self.people.items()}
            wrong = {name: failed(report) for name, report in reports.items() if failed(report)}
            if not wrong and not any(is_done(report) for report in reports.values()):
                break
        assert wrong == {}
        for name, one in self.people.items():
            assert len(told(reports[name])) == 1, name
            standing.note_shown(one, [kept.kept for kept in reports[name] if kept.kept])
            standing.put_away_seen(one)
            assert told(maintain(one)) == [], name

    def release(self) -> None:
        """Have an officer read what Clara deposited after the backup, by a case that two others approve."""
        reader, clara = self.erin, self.people["clara"]
        assert failed(maintain(reader)) == []
        ends = reader.api.clock.now() + 9 * 86_400
        opened = by_case.open_case(reader, reason="Handover.", purpose="leaver", subject=clara.user, ends_at=ends)
        for account in self.of("carol", "dan"):
            view = officer.see(account, opened.case_id)
            words = heard(account, opened.words)
            officer.approve(account, view, heard=words, identity_check="I know the voice.")
        done = by_case.collect(reader, wait_seconds=RELEASE_SECONDS)
        assert (self.clara_has in done.generations, done.blamed) == (True, [])
        assert done.disclosure is not None
        case, back = opened.case_id.bytes, self.here / "letter-again"
        back.unlink(missing_ok=True)
        disclosures.decrypt_file(reader, case, self.here / "letter.holdfast", back)
        assert back.read_bytes() == (self.here / "letter").read_bytes()
        disclosures.end(reader, case)

    def require_everything_there(self, before: dict[str, bytes]) -> None:
        """Hold the server to what each device has: its chain, its vault, its door, its deposit."""
        for name, one in self.people.items():
            assert one.chain.head == before[name], name
            if one.state.vault.version:
                assert vault.find(one).header.epoch == one.state.vault.epoch, name
        for one in self.of("carol", "dan"):
            for name in ("alice", "bob", "clara"):
                assert contacts.refresh(one, self.people[name].user).head == before[name], name
        assert [door.kind for door in doors.status(self.people["alice"]) if door.is_open] == [doors.PASSWORD]
        assert self.clara_has not in {one.number for one in escrow.due(self.people["clara"])}


def failed(report: list[Done]) -> list[str]:
    return [f"{one.item}: {one.said}" for one in report if one.outcome is Outcome.FAILED]


def told(report: list[Done]) -> list[str]:
    return [one.said for one in report if "officers accepted" in one.said]


def is_done(report: list[Done]) -> bool:
    return any(one.outcome is Outcome.DONE for one in report)


@pytest.fixture
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with kept_installation("journey_of_a_backup") as server:
        house = House(server)
        with house.officers:
            house.carol = house.officer("carol")
            people = {"alice": house.first("alice"), "bob": house.first("bob")}
            server.manage("demo", "--members-only", HOLDFAST_ROLE="ceremony")
            people |= {"clara": house.first("alice"), "carol": house.carol, "dan": house.officer("dan")}
            made = Scene(house, tmp_path_factory.mktemp("letters"), people, house.officer("erin"), ["bob"])
            doors.set_password(people["alice"], PASSWORD, cost=CHEAP)
            # It looks every 20 seconds, and what is put back has to be a past of something that it saw.
            wait_for(lambda: any((server.state_dir / "release").glob("*/heads")))
            yield made
            for account in house.open:
                account.close()


def whole(scene: Scene, backup: Backup, *directories: str, notices: Callable[[], None]) -> None:
    """One restoring, from a backup under load to the day after."""
    for one in scene.of():
        maintain(one)
    with scene.at_work():
        backup.take()
    scene.hear()
    scene.go_on()
    scene.all_say("read before the end")
    scene.hear()
    for one in scene.of():
        assert failed(maintain(one)) == []
    scene.anchored()
    before = {name: one.chain.head for name, one in scene.people.items()}
    scene.all_say("under way at the end")

    scene.put_back(backup, *directories)
    notices()
    wait_for(scene.is_read_only)
    for name, one in scene.people.items():
        report = maintain(one)
        assert [one.item for one in report].count("server") == 1, (name, report)
        assert [one.item for one in report if one.outcome is Outcome.FAILED] in ([], ["server"]), (name, report)

    scene.accept()
    assert not scene.is_read_only()
    scene.heal()
    scene.hear()
    scene.require_read_once()
    scene.require_everything_there(before)
    scene.all_say("the day after")
    scene.hear()
    scene.require_read_once()
    scene.release()


def test_database_alone_is_put_back_and_everybody_goes_on(scene: Scene, tmp_path: Path) -> None:
    whole(scene, Backup(scene.server, tmp_path / "backup"), notices=lambda: None)


# What was signed within five minutes of another backup's acceptance is excused by it: hence a scene of its own.
@pytest.mark.soak("restore")
def test_everything_is_put_back_together_and_a_clients_newer_head_tells(scene: Scene, tmp_path: Path) -> None:
    def notices() -> None:
        assert not scene.is_read_only(), "nothing on the server can tell"
        maintain(scene.people["bob"])

    whole(scene, Backup(scene.server, tmp_path / "backup"), *REMEMBERING, notices=notices)
