# SPDX-License-Identifier: Apache-2.0
"""`python -m tests.browser.screenshots URL SIGN_IN_FILE OUT`: pictures of every console page of a running server.

SIGN_IN_FILE is what the development ceremony writes. Each page is found by its links, as a person finds it.
"""

from __future__ import annotations

import base64
import sys
from pathlib import Path
from typing import Literal

from playwright.sync_api import Browser, Page, ViewportSize

from tests.cast.chromium import NARROW, WIDE, Watched, chromium, overflow, picture, sign_in, totp

FORMS: dict[str, tuple[ViewportSize, Literal["light", "dark"]]] = {
    "light": (WIDE, "light"),
    "dark": (WIDE, "dark"),
    "narrow": (NARROW, "light"),
    "narrow-dark": (NARROW, "dark"),
}
# Where a page links to one of many, the first is taken: (name, page that lists them, how the link begins).
LISTED = (
    ("case", "/console/cases/?group=all", "/console/cases/"),
    ("person", "/console/people/?q=alice", "/console/people/"),
    ("entry", "/console/audit/?tag=recovery:case:", "/console/audit/"),
)
OWN = ("", "devices", "recovery", "keys", "notices", "sessions", "factors", "factors/authenticator", "data")
PLAIN = {
    "overview": "/console/",
    "cases": "/console/cases/?group=all",
    "cases-empty": "/console/cases/?group=operator",
    "people": "/console/people/",
    "people-empty": "/console/people/?q=nobody-of-this-name",
    "people-beyond": "/console/people/?page=999",
    "devices": "/console/people/devices/",
    "doors": "/console/people/doors/",
    "escrow": "/console/escrow/",
    "answers": "/console/escrow/answers/?answer=none",
    "policy": "/console/escrow/policy/",
    "propose": "/console/escrow/policy/propose/?m=2&delay_seconds=2d",
    "ceremonies": "/console/ceremonies/",
    "audit": "/console/audit/",
    "audit-exports": "/console/audit/exports/",
    "audit-wrong": "/console/audit/?since=yesterday&by=me",
    **{f"me-{name.replace('/', '-') or 'home'}": f"/me/{name}/".replace("//", "/") for name in OWN},
    "not-found": "/console/cases/00000000-0000-0000-0000-000000000000/",
}


def account(file: Path, name: str) -> tuple[str, str, bytes]:
    """Return address, password and authenticator key of one of the development tenant's people."""
    rows = [line.split("\t") for line in file.read_text().splitlines()]
    email, _, password, secret = next(row for row in rows if row[0].startswith(f"{name}@"))
    return email, password, base64.b32decode(secret)


def first_link(page: Page, start: str) -> str:
    """Return the first address on the page that names one thing below `start`."""
    hrefs = page.eval_on_selector_all("main a[href]", "links => links.map(link => link.getAttribute('href'))")
    return next(str(href) for href in hrefs if href.startswith(start) and len(href) > len(start) and "?" not in href)


def addresses(page: Page, url: str) -> dict[str, str]:
    """Walk the console once and return every page to be pictured, by name."""
    found = dict(PLAIN)
    for name, listing, start in LISTED:
        page.goto(url + listing)
        found[name] = first_link(page, start)
    page.goto(url + found["person"])
    found["device"] = first_link(page, "/console/devices/")
    return found


def shoot(browser: Browser, url: str, file: Path, name: str, out: Path) -> int:
    """Sign one person in and picture every page in every form. Returns how many pages had something wrong."""
    email, password, secret = account(file, name)
    first = browser.new_context(viewport=WIDE)
    sign_in(first.new_page(), url, email=email, password=password, code=totp(secret))
    state, wrong = first.storage_state(), 0
    pages = addresses(first.new_page(), url)
    for form, (size, scheme) in FORMS.items():
        context = browser.new_context(viewport=size, color_scheme=scheme, storage_state=state)
        watched = Watched.of(context.new_page())
        for page_name, address in pages.items():
            complaints = [one for one in watched.open(url + address) if not (page_name == "not-found" and "404" in one)]
            if (wide := overflow(watched.page)) > 0:
                complaints.append(f"wider than the window by {wide} px")
            picture(watched.page, out / form / f"{page_name}.png")
            wrong += bool(complaints)
            for one in complaints:
                print(f"{form} {page_name}: {one}")  # noqa: T201
        context.close()
    first.close()
    return wrong


def main() -> int:
    """Picture the console as an officer sees it."""
    url, file, out = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    with chromium() as browser:
        return min(1, shoot(browser, url, file, sys.argv[4] if len(sys.argv) > 4 else "erin", out))


if __name__ == "__main__":
    sys.exit(main())
