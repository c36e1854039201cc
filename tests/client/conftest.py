# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the client's tests: people of one tenant, each with a profile in memory, and a server that may lie."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cast.lying_server import LyingServer, Tenant, again, founded
from tests.cast.members import Members

__all__ = ["founded"]


@pytest.fixture
def world(worlds: Iterator[Members]) -> Members:
    return next(worlds)


@pytest.fixture
def worlds(founded: Tenant) -> Iterator[Members]:
    """As many fresh worlds as a test wants, all of one tenant."""

    def fresh() -> Iterator[Members]:
        while True:
            yield Members(LyingServer(again(founded)))

    return fresh()
