# SPDX-License-Identifier: Apache-2.0
"""The walk of `make demo`, against an installation started as a newcomer starts it; twice, since it is repeatable."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cast.server import Installation, installation
from tests.journeys.demo import Walk


@pytest.fixture(scope="module")
def running() -> Iterator[Installation]:
    with installation() as made:
        yield made


@pytest.mark.timeout(600)
@pytest.mark.parametrize("time_around", ["first", "second"])
def test_walk_recovers_the_file_and_every_refusal_holds(
    running: Installation, monkeypatch: pytest.MonkeyPatch, time_around: str
) -> None:
    for name, value in running.environment.items():
        monkeypatch.setenv(name, value)
    walk = Walk(running.url, running.demo)
    walk.run()
    assert len(walk.steps) == 33, time_around
    assert all(step.seconds < 120 for step in walk.steps)
