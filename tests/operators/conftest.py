# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the operators' tests: two tenants with their people, an operator, and the admin mounted."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.test import Client

from tests.cast.operators import Desk, admin_mounted, make_operator
from tests.cast.tenants import Cast, build_world


@pytest.fixture
def _mounted() -> Iterator[None]:
    with admin_mounted():
        yield


@pytest.fixture
def world(db: None) -> Cast:
    return build_world()


@pytest.fixture
def petra(db: None, _mounted: None) -> Desk:
    return make_operator()


@pytest.fixture
def browser(petra: Desk) -> Client:
    return petra.browser()
