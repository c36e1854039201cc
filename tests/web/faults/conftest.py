# SPDX-License-Identifier: Apache-2.0
"""A person's browser, and a page in it that does with a profile what it is told."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext

from tests.web.faults.acting import put_acts
from tests.web.pages import Site


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A person's browser: what it keeps ends with the test."""
    opened = browser.new_context()
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def acts(app: Site, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of a page that does acts with a profile, without a server."""
    return put_acts(app, tmp_path_factory.mktemp("acts"))
