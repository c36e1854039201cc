# SPDX-License-Identifier: Apache-2.0
"""Chromium at the console: signing in, what a page does wrong, and pictures of it."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, ViewportSize, sync_playwright

EXECUTABLE = "/usr/bin/chromium"
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
WIDE: ViewportSize = {"width": 1280, "height": 900}
NARROW: ViewportSize = {"width": 390, "height": 844}
# What the page itself reports: a blocked script or style raises this event, whatever the console prints.
WATCH = """
window.violations = [];
document.addEventListener('securitypolicyviolation', event => window.violations.push(event.violatedDirective));
"""


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start the browser, for as long as the block lasts."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=EXECUTABLE, args=ARGUMENTS)
        yield browser
        browser.close()


def totp(secret: bytes, at: float | None = None) -> str:
    """Return the six digits of RFC 6238 for a moment."""
    counter = int((time.time() if at is None else at) // 30).to_bytes(8, "big")
    digest = hmac.new(secret, counter, hashlib.sha1).digest()
    start = digest[-1] & 15
    return f"{(int.from_bytes(digest[start : start + 4], 'big') & 0x7FFFFFFF) % 10**6:06d}"


def sign_in(page: Page, url: str, *, email: str, password: str, code: str, tenant: str = "acme") -> None:
    """Sign in as a person does: password, then the code of their authenticator."""
    page.goto(f"{url}/console/sign-in/")
    page.get_by_label("Organisation").fill(tenant)
    page.get_by_label("E-mail address").fill(email)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Continue").click()
    page.locator("input[name=code]").fill(code)
    page.locator("form:has(input[name=code]) button[type=submit]").click()
    page.wait_for_url(f"{url}/console/")


@dataclass
class Watched:
    """A page whose complaints are collected: console errors, script errors, blocked resources, dialogs."""

    page: Page
    complaints: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, page: Page) -> Watched:
        """Begin to watch; call it before the first page is opened."""
        watched = cls(page)
        page.add_init_script(WATCH)
        page.on("console", watched._message)
        page.on("pageerror", lambda error: watched.complaints.append(f"script: {error}"))
        page.on("requestfailed", watched._failure)
        page.on("dialog", watched._dialog)
        return watched

    def _failure(self, request: Any) -> None:
        # What a page still fetches when it is left, and a download, are called aborted.
        if request.failure != "net::ERR_ABORTED":
            self.complaints.append(f"failed: {request.url} ({request.failure})")

    def _message(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(f"{message.type}: {message.text}")

    def _dialog(self, dialog: Any) -> None:
        self.complaints.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def open(self, address: str) -> list[str]:
        """Open a page and return everything that was wrong with it."""
        self.complaints.clear()
        answer = self.page.goto(address, wait_until="load")
        if answer is None or answer.status != 200:
            self.complaints.append(f"status: {answer.status if answer else 'none'}")
        self.complaints += [f"policy: {one}" for one in self.page.evaluate("window.violations")]
        return list(self.complaints)


def overflow(page: Page) -> int:
    """Return by how many pixels the page is wider than the window, once it is there: a click may have begun another."""
    page.wait_for_load_state()
    page.wait_for_function("document.documentElement !== null")
    return int(page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))


def picture(page: Page, path: Path, *, whole: bool = True) -> None:
    """Save what the page looks like."""
    path.parent.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=str(path), full_page=whole)
