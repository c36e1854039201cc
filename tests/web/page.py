# SPDX-License-Identifier: Apache-2.0
"""Pages that load a file of web/sdk/tests/page, and do what it can: a site of static files, and calls by name."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

from playwright.sync_api import BrowserContext, Error, Page

from tests.web.node import NODE, run

_PAGE: Final = (
    '<!doctype html><meta charset="utf-8"><title>{name}</title><script type="module" src="/{name}.js"></script>'
)


class _Files(SimpleHTTPRequestHandler):
    extensions_map = {**SimpleHTTPRequestHandler.extensions_map, ".js": "text/javascript"}  # noqa: RUF012

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def site(entry: str, directory: Path) -> Iterator[str]:
    """Serve a page that loads one file of web/sdk/tests/page; gives its address."""
    name = Path(entry).stem
    run(str(NODE), "scripts/for_page.mjs", entry, str(directory))
    (directory / "index.html").write_text(_PAGE.format(name=name))
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Files, directory=str(directory))) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class Refused(Exception):
    """What an act of a page ended with. name: the class of the error there."""

    def __init__(self, name: str, message: str, way_out: str) -> None:
        super().__init__(f"{name}: {message}")
        self.name, self.message, self.way_out = name, message, way_out

    @property
    def said(self) -> str:
        """All that a person reads."""
        return f"{self.message} {self.way_out}"


def _value(outcome: dict[str, Any]) -> Any:
    if "error" in outcome:
        raise Refused(outcome["error"], outcome["message"], outcome["wayOut"])
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
        page.wait_for_function("'act' in globalThis")
        return cls(page)

    def act(self, name: str, *given: Any) -> Any:
        """Do something and return what came of it. Raises Refused."""
        return _value(self.page.evaluate("given => act(...given)", [name, *given]))

    def begin(self, name: str, *given: Any) -> None:
        """Begin something that may never end."""
        self.page.evaluate("given => void act(...given)", [name, *given])

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

    def kill(self) -> None:
        """End the tab's process, without a word to the page."""
        with self.page.expect_event("crash"), suppress(Error):
            self.page.goto("chrome://crash", timeout=5_000)
        self.page.close()
