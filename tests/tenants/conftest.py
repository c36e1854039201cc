# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the tenants tests."""

from __future__ import annotations

import pytest

from tests.tenants.support import World, build_world


@pytest.fixture
def world(db: None) -> World:
    return build_world()
