# SPDX-License-Identifier: Apache-2.0
"""Chromium, and pages in it that hold profiles."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext

from tests.browser.chromium import chromium
from tests.web.page import site


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with pytest.MonkeyPatch.context() as patch, chromium() as started:
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")
        yield started


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A person's browser: what it keeps ends with the test."""
    opened = browser.new_context()
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def storage_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with site("tests/page/storage.ts", tmp_path_factory.mktemp("storage")) as address:
        yield address
