# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the tenants tests."""

from __future__ import annotations

import pytest

from tests.cast.tenants import Cast, build_world


@pytest.fixture
def world(db: None) -> Cast:
    return build_world()
