# SPDX-License-Identifier: Apache-2.0
"""An officer's keys: in the section, used, lost with a device, and brought back to another.

After a joining and an approval, no server process and no file of the server holds a seed of the officer's.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from holdfast.client.officers import section
from holdfast.core.base.encoding import b64u
from tests.cast.server import Installation
from tests.faults.memory import find
from tests.journeys.demo import WAIT_SECONDS, Person, Walk

ROLES = ("web", "worker", "sequencer", "release")


class Officers(Walk):
    """A walk in which erin is the officer looked at, and carol lets people in."""

    def join(self, who: Person) -> Path:
        """Have erin, who joined in the founding, join again: nothing changes. Return where the phrase is."""
        kept = who.profile / "door.passphrase", who.profile / "door.phrase"
        files = ("--passphrase-to", str(kept[0]), "--phrase-to", str(kept[1]))
        first, again = (self.holdfast(who, "officer", "init", *files) for _ in range(2))
        assert (again["signing_key"], again["doors"]) == (first["signing_key"], first["doors"])
        assert [door["open"] for door in first["doors"]] == [True, True]
        assert all(path.stat().st_mode & 0o777 == 0o600 for path in kept)
        return kept[1]

    def ask(self, name: str) -> Person:
        """Open a case about alice from a new device of hers."""
        tablet = self.person(name)
        self.enrol(tablet, self.issue_code("carol", self.alice), name)
        opened = self.holdfast(tablet, "recover", "escrow", "open", "--reason", "Laptop lost.")
        self.case, self.case_words = opened["case_id"], opened["recipient_words"]
        return tablet

    def seeds(self, who: Person) -> dict[str, bytes]:
        with self.library(who) as account:
            contents = section.load(account)
        assert contents is not None
        (pair,) = contents.pairs
        return {"signing": pair.signing_seed.reveal(), "sealing": pair.sealing_seed.reveal()}

    def lose_device_of_erin(self, phrase: Path) -> Person:
        """Bring erin's account and keys to a new device, by the words on paper."""
        new, code = self.person("erin-new"), self.here / "erin-new.code"
        person = self.holdfast(self.officers["erin"], "doctor")["user_id"]
        issued = self.holdfast(self.officers["carol"], "officer", "code", person, "--out", str(code))
        self.holdfast(self.officers["dan"], *issued["confirm"].split()[1:])
        assert self.enrol(new, code, "new")["state"] == "pending"
        by_phrase = ("--phrase-file", str(phrase))
        self.holdfast(new, "officer", "restore", *by_phrase, expect=6)
        self.holdfast(new, "recover", "phrase", *by_phrase, "--none-lost")
        assert not self.holdfast(new, "doctor")["officer"]
        self.holdfast(new, "officer", "restore", *by_phrase)
        assert self.holdfast(new, "doctor")["officer"]
        return new


def on_disk(directory: Path, needles: dict[str, bytes]) -> list[str]:
    """Name the files that hold one of these, as it is or as text."""
    forms = [form for one in needles.values() for form in (one, one.hex().encode(), b64u(one).encode())]
    files = (path for path in directory.rglob("*") if path.is_file() and not path.is_symlink())
    return [path.name for path in files if any(form in path.read_bytes() for form in forms)]


@pytest.mark.timeout(600)
def test_officer_joins_approves_loses_the_device_and_approves_again(
    server: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in server.environment.items():
        if name.startswith(("HOLDFAST_", "DJANGO_")):
            monkeypatch.setenv(name, value)
    walk = Officers(server.url, server.demo)
    walk.officers = {name: walk.resident(name) for name in ("carol", "dan", "erin")}
    for name in ("carol", "dan"):
        walk.enrol_resident(walk.officers[name])
    erin = walk.officers["erin"]
    phrase = walk.join(erin)
    needles = walk.seeds(erin)

    walk.laptop = walk.person("alice-laptop")
    walk.new_members()
    walk.alice = walk.enrol(walk.laptop, walk.code_of("alice"), "laptop")["user_id"]
    walk.deposit_and_encrypt()
    walk.ask("alice-tablet")
    walk.approve("erin")
    assert {role: find(server.pid_of(role), needles) for role in ROLES} == {
        role: {"signing": 0, "sealing": 0} for role in ROLES
    }
    assert on_disk(server.directory, needles) == []
    # The positive control: what does lie there in the clear is found.
    assert phrase.name in on_disk(server.directory, {"paper": phrase.read_bytes().strip()})

    walk.officers["erin"] = walk.lose_device_of_erin(phrase)
    assert walk.seeds(walk.officers["erin"]) == needles
    tablet = walk.ask("alice-other-tablet")
    for name in ("erin", "dan"):
        walk.approve(name)
    walk.holdfast(tablet, "recover", "escrow", "collect", "--wait", WAIT_SECONDS)
    back = walk.here / "letter-again.txt"
    walk.holdfast(tablet, "archive", "decrypt", str(walk.sealed), "--out", str(back))
    assert back.read_bytes() == walk.letter.read_bytes()
