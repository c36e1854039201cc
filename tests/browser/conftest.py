# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the browser tests: Chromium once for all, and a server of this process over the recovery tests' world."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from tests.browser.chromium import chromium
from tests.cast.founded import found, hsm, hsm_home, world  # noqa: F401


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    # Playwright keeps an event loop in this thread, and Django would refuse the database to it; nothing of ours
    # runs in that loop.
    with pytest.MonkeyPatch.context() as patch, chromium() as started:
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")
        yield started
