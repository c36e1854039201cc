# SPDX-License-Identifier: Apache-2.0
"""The walk of `make demo`, against an installation that a newcomer started: whole, and its beginning once more."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from tests.cast.server import Installation, installation, wait_for
from tests.journeys.demo import Walk


@pytest.fixture(scope="module")
def running() -> Iterator[Installation]:
    with installation() as made:
        yield made


class Struck(Walk):
    """The same walk, on whose way processes are killed: each comes back, and the case is released."""

    running: Installation

    def collect(self) -> None:
        """Kill what the release needs while its delay runs, then go on as if nothing had been."""
        for role in ("release", "sequencer", "web"):
            os.kill(self.running.pid_of(role), signal.SIGKILL)
        # The proxy says at once that nobody is behind it.
        wait_for(lambda: not self.running.is_ready())
        wait_for(self.running.is_ready)
        super().collect()


class Again(Walk):
    """As much of another walk as could meet what an earlier one left: the same residents, new members, the same log."""

    def run(self, *, bob_leaves: bool = True) -> None:
        """Walk until the new members have written to each other and put a key in escrow; then audit."""
        self.prepare()
        self.enrol_devices()
        self.claim_bundles()
        self.write_and_answer()
        self.deposit_and_encrypt()
        self.audit()


@pytest.mark.timeout(600)
def test_walk_recovers_the_file_and_every_refusal_holds_though_processes_are_killed(
    running: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in running.environment.items():
        monkeypatch.setenv(name, value)
    walk = Struck(running.url, running.demo)
    walk.running = running
    walk.run()
    assert len(walk.steps) == 41
    assert "found: let acme begin its work" in walk.steps[1].notes
    assert walk.steps[2].notes == [f"{name}: passphrase and phrase" for name in ("carol", "dan", "erin")]
    assert all(step.seconds < 120 for step in walk.steps)


@pytest.mark.timeout(600)
def test_walk_begins_again_beside_what_an_earlier_one_left(
    running: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in running.environment.items():
        monkeypatch.setenv(name, value)
    walk = Again(running.url, running.demo)
    walk.run()
    assert len(walk.steps) == 16
