# SPDX-License-Identifier: Apache-2.0
"""Officers outside cases, by the command, against an installation of their own: no other walk needs its officers."""

from __future__ import annotations

import pytest

from tests.cast.server import installation
from tests.journeys.demo import Walk


@pytest.mark.timeout(600)
def test_officers_stand_and_resolve_by_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    with installation() as running:
        for name, value in running.environment.items():
            monkeypatch.setenv(name, value)
        walk = Walk(running.url, running.demo)
        carol, dan, erin = officers = [walk.resident(name) for name in ("carol", "dan", "erin")]
        for who in officers:
            walk.enrol_resident(who)

        # A code for another officer takes two, and neither is that officer.
        code, dans = walk.here / "dan-again.code", walk.holdfast(dan, "doctor")["user_id"]
        issued = walk.holdfast(carol, "officer", "code", dans, "--out", str(code))
        confirm = issued["confirm"].split()[1:]
        again = walk.person("dan-again")
        enrol = ("enrol", "--server", walk.server, "--code-file", str(code), "--name", "new", "--development")
        assert walk.holdfast(again, *enrol, expect=4)["error"]["code"] == "enrolment-refused"
        assert walk.holdfast(carol, *confirm, expect=4)["error"]["code"] == "confirmation-refused"
        walk.holdfast(erin, *confirm)
        assert walk.holdfast(again, *enrol)["state"] == "pending"
        told = {one["event"] for one in walk.holdfast(dan, "receive")["notices"]}
        assert told == {"code-issued", "device-enrolled"}

        away = walk.holdfast(dan, "officer", "away", "--yes", "--reason", "On leave.")
        assert away["standing"] == "away"
        # Two are left, and two are needed.
        assert walk.holdfast(carol, "officer", "away", "--yes", expect=4)["error"]["code"] == "officer-needed"
        walk.holdfast(dan, "officer", "back", "--yes")

        asked = walk.holdfast(carol, "officer", "suspend", "3", "--reason", "Lost laptop.", expect=8)
        assert "Nobody answered" in asked["error"]["message"]
        walk.holdfast(carol, "officer", "suspend", "3", "--reason", "Lost laptop.", "--yes")
        assert walk.holdfast(erin, "officer", "back", "--yes", expect=4)["error"]["code"] == "officer-moved"
        proposed = walk.holdfast(carol, "officer", "resolve", "return-officer", "3", "--yes")
        (listed,) = walk.holdfast(dan, "officer", "resolutions")["resolutions"]
        assert (listed["hash"], listed["signed_by"], listed["needed"]) == (proposed["hash"], [1], 2)
        walk.holdfast(erin, "officer", "sign", proposed["hash"][:8], "--yes", expect=6)
        assert walk.holdfast(dan, "officer", "sign", proposed["hash"][:8], "--yes")["state"] == "passed"

        # What was suspended proposes again: the log as it is, and one leaf of it.
        accepted = walk.holdfast(erin, "officer", "resolve", "accept-log", "--yes")
        assert walk.holdfast(carol, "officer", "sign", accepted["hash"][:8], "--yes")["state"] == "passed"
        leaf = walk.holdfast(erin, "officer", "resolve", "acknowledge-leaf", "3", "--yes")
        assert (leaf["act"], leaf["number"], leaf["state"]) == ("acknowledge-leaf", 3, "open")
        walk.holdfast(carol, "officer", "resolve", "withdraw-version", "2", "--yes", expect=6)

        walk.holdfast(carol, "officer", "remove", "3", "--reason", "Left.", "--yes")
        assert walk.holdfast(erin, "officer", "back", "--yes", expect=4)["error"]["code"] == "officer-moved"
