# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the TypeScript SDK's tests: its packages, and for those in Chromium a page with it and a real server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.http import HttpRequest, HttpResponseBase
from playwright.sync_api import Browser

from config.web_origins import WebOriginsMiddleware
from tests.cast import node
from tests.cast.founded import found, hsm, hsm_home, world  # noqa: F401
from tests.cast.world import World
from tests.web.pages import House, Pages, Site, site


@pytest.fixture(scope="session", autouse=True)
def _packages() -> None:
    """Have the npm packages of web/sdk there."""
    node.ready()


@pytest.fixture(scope="session")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The app's own server, with every module of the SDK."""
    with site(tmp_path_factory.mktemp("modules")) as made:
        yield made


@pytest.fixture
def house(
    world: World,  # noqa: F811
    app: Site,
    live_server: Any,
    settings: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[House]:
    """Acme on the real server, which pages of the app may call; needs `pytest.mark.django_db(transaction=True)`."""
    settings.HOLDFAST_PUBLIC_URL = app.api = live_server.url
    settings.HOLDFAST_WEB_ORIGINS = [app.url]
    made = House(world, live_server.url)
    honest = WebOriginsMiddleware.__call__

    def sequencing(self: WebOriginsMiddleware, request: HttpRequest) -> HttpResponseBase:
        answer = honest(self, request)
        if request.method in ("POST", "PUT", "DELETE"):
            made.sequence()
        return answer

    monkeypatch.setattr(WebOriginsMiddleware, "__call__", sequencing)
    made.sequence()
    yield made
    made.close()


@pytest.fixture
def pages(browser: Browser, app: Site, house: House) -> Iterator[Pages]:
    """Browsers that nobody has used before, one for each device."""
    made = Pages(browser, app, house.url)
    yield made
    made.close()
