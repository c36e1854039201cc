# SPDX-License-Identifier: Apache-2.0
"""Pages in Chromium that hold the SDK, at an origin of their own, and the real server that they call across origins.

def test_something(house, pages):
    tab = pages.device("alice")                       # a fresh profile: as another browser on another machine
    house.enrol(tab, "alice")                         # … or by hand, with house.code("alice")
    sent = tab.call("const chains = await module('client/identity/chains'); …; return 1", to=house.id_of("bob"))
    bob = house.callers.enrolled("bob")               # a Python device, on the same server
"""

from __future__ import annotations

import mimetypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

from playwright.sync_api import Browser, BrowserContext, Page

from holdfast.client.profile import account as accounts
from holdfast.client.profile.account import Account
from holdfast.client.profile.state import State
from holdfast.client.profile.store import MemoryStore
from tests.cast.callers import Callers
from tests.cast.chromium import WATCH
from tests.cast.node import NODE, PROJECT, run
from tests.cast.world import World

BUILT: Final = PROJECT / "web" / "dist"
CALL_SECONDS: Final = 60
# What every page of the tests is: the SDK as one name, each of its modules by its own, and bytes as hex and back.
_PAGE: Final = """<!doctype html><html lang="en"><meta charset="utf-8"><title>A page</title>
<script type="module" src="/page.js"></script></html>"""
_SCRIPT: Final = """
import * as holdfast from "/sdk/index.js";
import { hex, unhex, utf8 } from "/sdk/core/base/bytes.js";
const loaded = name => import(`/sdk/${name}.js`);
const told = async work => {
  try {
    return { value: (await work()) ?? null };
  } catch (error) {
    const { name, message, wayOut = "", code = "", stack = "" } = error;
    return { error: name, message, wayOut, code, stack };
  }
};
Object.assign(globalThis, { holdfast, loaded, hex, unhex, utf8, told, kept: {} });
"""
_OF_DIST: Final = 'import * as holdfast from "/dist/holdfast.js"; Object.assign(globalThis, { holdfast });'
_THERE: Final = "async () => { while (!globalThis.holdfast) await new Promise(go => setTimeout(go, 20)); }"
# What a careful app says of its own pages; Argon2 is WebAssembly.
_POLICY: Final = "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; connect-src 'self' {api}; worker-src 'self'"


class Refused(Exception):
    """What the SDK said no with: the name of its class, its sentence and its way out."""

    def __init__(self, outcome: dict[str, str]) -> None:
        super().__init__(f"{outcome['error']}: {outcome['message']}")
        self.name = outcome["error"]
        self.message = outcome["message"]
        self.way_out = outcome["wayOut"]
        self.code = outcome["code"]
        self.stack = outcome["stack"]


class Site:
    """The app's own server: a page, the SDK's modules, and web/dist as it is committed."""

    def __init__(self, modules: Path) -> None:
        self.api = ""
        self._files: dict[str, tuple[str, bytes]] = {
            "/": ("text/html", _PAGE.encode()),
            "/page.js": ("text/javascript", _SCRIPT.encode()),
            "/dist/": ("text/html", _PAGE.replace("/page.js", "/dist.js").encode()),
            "/dist.js": ("text/javascript", _OF_DIST.encode()),
        }
        for prefix, directory in (("/sdk", modules), ("/dist", BUILT)):
            for path in directory.rglob("*.*"):
                kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
                self._files[f"{prefix}/{path.relative_to(directory)}"] = (kind, path.read_bytes())
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_port}"

    def put(self, path: str, kind: str, content: bytes) -> None:
        """Serve one more file, or another in the place of one."""
        self._files[path] = (kind, content)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        site = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                kind, content = site._files.get(self.path.partition("?")[0], ("", b""))
                self.send_response(200 if kind else 404)
                self.send_header("content-type", kind or "text/plain")
                self.send_header("content-length", str(len(content)))
                self.send_header("content-security-policy", _POLICY.format(api=site.api))
                self.send_header("cache-control", "no-store")
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: Any) -> None:
                pass

        return Handler

    def serve(self) -> None:
        """Listen in a thread."""
        threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        """Stop listening."""
        self._http.shutdown()
        self._http.server_close()


@contextmanager
def site(directory: Path) -> Iterator[Site]:
    """Build the modules and serve them."""
    run(str(NODE), "scripts/modules.mjs", str(directory))
    made = Site(directory)
    made.serve()
    try:
        yield made
    finally:
        made.close()


class Tab:
    """One page with the SDK. Functions written in JavaScript run in it."""

    def __init__(self, page: Page, api: str) -> None:
        self.page = page
        self.api = api
        self.complaints: list[str] = []
        page.set_default_timeout(CALL_SECONDS * 1000)
        page.add_init_script(WATCH)
        page.on("pageerror", lambda error: self.complaints.append(f"script: {error}"))

    def open(self, url: str) -> Tab:
        """Load the page, or load it again."""
        self.page.goto(url)
        # Not `wait_for_function`: it evaluates text in the page, which the page's policy refuses.
        self.page.evaluate(_THERE)
        return self

    def call(self, body: str, **given: Any) -> Any:
        """Run the body of an async function, which has `given` by name; return what it returns, as JSON has it.

        Octets arrive as a Uint8Array, and have to leave as `hex`. There as well: `holdfast` (the package),
        `loaded(name)` (a module, such as client/vault/vault), `api` (the server's address), `unhex`, and `kept`, an
        object that stays until the page is loaded again. Raises Refused for what it throws.
        """
        names = ", ".join(["api", *given])
        function = f"({{ {names} }}) => told(async () => {{ {body} }})"
        outcome = self.page.evaluate(function, {"api": self.api, **given})
        if "error" in outcome:
            raise Refused(outcome)
        return outcome["value"]

    def close(self) -> None:
        """Close the page as a person closes a tab."""
        self.page.close()


class Pages:
    """Browsers of people, each with storage of its own."""

    def __init__(self, browser: Browser, site: Site, api: str) -> None:
        self._browser = browser
        self.site = site
        self._api = api
        self._contexts: list[BrowserContext] = []

    def device(self, **options: Any) -> Tab:
        """Open the page in a browser that nobody has used before."""
        context = self._browser.new_context(**options)
        self._contexts.append(context)
        return self.tab(context)

    def tab(self, beside: Tab | BrowserContext, path: str = "/") -> Tab:
        """Open the page once more, in the browser of another one."""
        context = beside.page.context if isinstance(beside, Tab) else beside
        return Tab(context.new_page(), self._api).open(f"{self.site.url}{path}")

    def close(self) -> None:
        """Close every browser."""
        for context in self._contexts:
            context.close()


class House(Callers):
    """Acme on the real server: who calls it from pages, and who from Python (`enrolled`), over HTTP."""

    def __init__(self, world: World, url: str) -> None:
        super().__init__(world)
        self.url = url
        self._accounts: list[Account] = []
        self._one_at_a_time = threading.Lock()

    def sequence(self) -> None:
        """As a sequencer does that is always quick enough, one at a time."""
        with self._one_at_a_time:
            super().sequence()

    def profile(self, name: str) -> Account:
        store = MemoryStore(tenant=self.world.tenant_id.bytes, user=self.world.cast.people[name].pk.bytes)
        account = accounts.Account(store, State())
        account.connect(self.url)
        self._accounts.append(account)
        return account

    def close(self) -> None:
        """Close every account in Python."""
        for account in self._accounts:
            account.close()

    def id_of(self, name: str) -> str:
        """Return a person's id as text."""
        return str(self.world.cast.people[name].pk)

    def enrol(self, tab: Tab, name: str, **options: Any) -> bool:
        """Enrol a page as a device of somebody by a fresh code: `kept.account` is theirs. Tells whether it is active.

        Begins their account when it is their first device, and publishes pre-keys then. options: of `device.enrol`.
        """
        return bool(
            tab.call(
                """
                const { parseCode } = await loaded("core/signed/enrolment");
                const { create } = await loaded("client/profile/account");
                const parsed = parseCode(code);
                const account = await create("holdfast", { tenant: parsed.tenant, user: parsed.person });
                await account.connect(api, {});
                const device = await loaded("client/identity/device");
                const { isActive } = await device.enrol(account, parsed, { isDevelopment: true, ...options });
                if (isActive) await (await loaded("client/messages/prekeys")).publish(account);
                kept.account = account;
                return isActive;
                """,
                code=self.code(name).text(),
                options={"name": "a browser", **options},
            )
        )
