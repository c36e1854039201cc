# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the tenants tests."""

from __future__ import annotations

import pytest

from tests.cast.hsm import hsm_template
from tests.cast.tenants import Cast, build_world
from tests.cast.tokens import root_token

__all__ = ["hsm_template", "root_token", "world"]


@pytest.fixture
def world(db: None) -> Cast:
    return build_world()
