# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the TypeScript SDK's tests."""

from __future__ import annotations

import pytest

from tests.web import node


@pytest.fixture(scope="session", autouse=True)
def _packages() -> None:
    """Have the npm packages of web/sdk there."""
    node.ready()
