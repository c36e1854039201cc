# SPDX-License-Identifier: Apache-2.0
"""The TypeScript SDK against a lying server: the cases of `tests.client.test_malicious_server`, as they stand there."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cast.lying_server import Tenant, founded
from tests.client import test_malicious_server
from tests.web.lies import LiedTo, Setting, cases, setting

__all__ = ["founded"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setting]:
    with setting(tmp_path_factory.mktemp("rooms")) as made:
        yield made


@pytest.fixture
def world(place: Setting, founded: Tenant) -> Iterator[LiedTo]:
    yield place.world(founded)
    place.end_of_a_test()


globals().update(cases(test_malicious_server))
