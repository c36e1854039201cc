# SPDX-License-Identifier: Apache-2.0
"""Tabs and service workers that do what web/sdk/tests/page/storage.ts can with a profile."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from playwright.sync_api import BrowserContext, Error, Page

from tests.cast.node import NODE, run
from tests.web.pages import Refused, Site

_PAGE: Final = """<!doctype html>
<meta charset="utf-8">
<title>A page that does acts</title>
<script type="module" src="/acts/storage.js"></script>
"""


def put_acts(site: Site, directory: Path) -> str:
    """Have a site serve a page that does acts; gives its address."""
    run(str(NODE), "scripts/for_page.mjs", "tests/page/storage.ts", str(directory))
    for file in directory.iterdir():
        site.put(f"/acts/{file.name}", "text/javascript", file.read_bytes())
    site.put("/acts/", "text/html", _PAGE.encode())
    return f"{site.url}/acts/"


def kill(page: Page) -> None:
    """End a tab's process, without a word to the page."""
    with page.expect_event("crash"), suppress(Error):
        page.goto("chrome://crash", timeout=5_000)
    page.close()


def _value(outcome: dict[str, Any]) -> Any:
    if "error" in outcome:
        raise Refused(outcome)
    return outcome["value"]


@dataclass(frozen=True)
class Acting:
    """A page, or the service worker behind it, that does acts when it is told their name."""

    page: Page

    @classmethod
    def open(cls, context: BrowserContext, address: str) -> Acting:
        """Open another tab at a site."""
        page = context.new_page()
        page.goto(address)
        page.evaluate("async () => { while (!('act' in globalThis)) await new Promise(go => setTimeout(go, 20)) }")
        return cls(page)

    def act(self, name: str, *given: Any) -> Any:
        """Do something and return what came of it. Raises Refused."""
        return _value(self.page.evaluate("given => act(...given)", [name, *given]))

    def register_worker(self, script: str) -> None:
        """Have a service worker of this site run a script."""
        self.page.evaluate(
            """async script => {
                await navigator.serviceWorker.register(script, {type: "module"});
                await navigator.serviceWorker.ready;
            }""",
            script,
        )

    def by_worker(self, name: str, *given: Any) -> Any:
        """Have the service worker do something. Raises Refused."""
        asking = """async given => {
            const {active} = await navigator.serviceWorker.ready, {port1, port2} = new MessageChannel();
            const answer = new Promise(resolve => port1.onmessage = event => resolve(event.data));
            active.postMessage(given, [port2]);
            return answer;
        }"""
        return _value(self.page.evaluate(asking, [name, *given]))
