# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the key directory's tests."""

from __future__ import annotations

import pytest

from tests.cast.hsm import hsm_template  # noqa: F401
from tests.cast.phones import Directory
from tests.cast.tokens import root_token  # noqa: F401


@pytest.fixture
def directory(db: None) -> Directory:
    """Two tenants with everybody of the cast, and nobody's device yet."""
    return Directory()
