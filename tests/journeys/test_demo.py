# SPDX-License-Identifier: Apache-2.0
"""The walk of `make demo`, against an installation started as a newcomer starts it; twice, since it is repeatable."""

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


@pytest.mark.timeout(600)
@pytest.mark.parametrize("time_around", ["first", "second"])
def test_walk_recovers_the_file_and_every_refusal_holds(
    running: Installation, monkeypatch: pytest.MonkeyPatch, time_around: str
) -> None:
    for name, value in running.environment.items():
        monkeypatch.setenv(name, value)
    walk = Walk(running.url, running.demo) if time_around == "first" else Struck(running.url, running.demo)
    if isinstance(walk, Struck):
        walk.running = running
    # The leaver's part brings nothing that another walk could meet again: once is enough.
    walk.run(bob_leaves=time_around == "first")
    assert len(walk.steps) == {"first": 41, "second": 35}[time_around]
    assert "found: let acme begin its work" in walk.steps[1].notes
    assert walk.steps[2].notes == [f"{name}: passphrase and phrase" for name in ("carol", "dan", "erin")]
    assert all(step.seconds < 120 for step in walk.steps)
