# SPDX-License-Identifier: Apache-2.0
"""The pages about oneself in a real browser: clean, within the window, by keyboard alone, and without script."""

from __future__ import annotations

import base64
import os
import time
from pathlib import Path
from typing import Any, Literal

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, ViewportSize

from holdfast.core.base.secret import SecretBytes
from tenants import sign_in
from tenants.models import ConsoleSession, Person, RecoveryCode
from tests.browser.screenshots import OWN
from tests.browser.test_console import PAYLOADS, hostile_world
from tests.cast.browsers import another_browser
from tests.cast.chromium import NARROW, WIDE, Watched, overflow, picture
from tests.cast.contacts import TrustedContacts
from tests.cast.tenants import PASSWORD, give_password, give_totp
from tests.cast.world import World

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

# Where pictures are kept for people to look at, if anywhere.
PICTURES = os.environ.get("HOLDFAST_PICTURES", "")


def context_of(browser: Browser, url: str, person: Person, **options: Any) -> BrowserContext:
    session = another_browser(person).cookies["sessionid"].value
    context = browser.new_context(viewport=options.pop("viewport", WIDE), **options)
    context.add_cookies([{"name": "sessionid", "value": session, "url": url}])
    return context


def lived_in(world: World) -> SecretBytes:
    """Give alice all that these pages show; return the key of her authenticator."""
    account, phone = world.directory.account("alice"), world.directory.phone("alice")
    phone.publish()
    phone.send("PUT", "/api/v1/vault", account.vault(phone, 1), If_Match='"0"')
    phone.send("PUT", "/api/v1/vault/doors/password", {"blob": "oQFBMQ"}, If_Match='"0"')
    for name in ("bob", "carol", "dan"):
        world.directory.phone(name)
    contacts = TrustedContacts.of(world.directory, "alice", ["bob", "carol", "dan"])
    contacts.storing(0).send()
    world.approved("carol")
    world.directory.phone("carol").send("GET", f"/api/v1/escrow/deposits/{world.held()[0]}")
    contacts.ask(phone)
    world.sequence()
    give_password(world.cast.alice)
    world.cast.people["alice"] = Person.unscoped.get(pk=world.cast.alice.pk)
    key = give_totp(world.cast.alice)
    another_browser(world.cast.alice)
    return key


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
def test_every_page_opens_clean_and_fits_the_window(
    size: ViewportSize, scheme: Literal["light", "dark"], browser: Browser, world: World, live_server: Any
) -> None:
    lived_in(world)
    give_totp(world.cast.bob)
    for person, name in ((world.cast.alice, "full"), (world.cast.bob, "empty")):
        context = context_of(browser, live_server.url, person, viewport=size, color_scheme=scheme)
        watched = Watched.of(context.new_page())
        for path in OWN:
            assert watched.open(f"{live_server.url}/me/{path}/".replace("/me//", "/me/")) == [], path
            assert overflow(watched.page) <= 0, path
            assert watched.page.locator("h1").count() == 1, path
            unnamed = "main :is(input, select):not([type=hidden]):not(:is([id]))"
            assert watched.page.locator(unnamed).count() == 0, path
            if PICTURES:
                form = f"{name}-{size['width']}-{scheme}"
                picture(watched.page, Path(PICTURES) / f"{path.replace('/', '-') or 'home'}-{form}.png")
        context.close()


def reach(page: Page, words: str) -> None:
    """Press Tab until what bears these words has the focus."""
    for _ in range(60):
        page.keyboard.press("Tab")
        focused = page.evaluate("(document.activeElement.innerText || document.activeElement.id || '').trim()")
        if focused == words:
            return
    pytest.fail(f"the keyboard reaches no {words}")


def test_codes_and_sessions_by_keyboard_alone(browser: Browser, world: World, live_server: Any) -> None:
    key = give_totp(world.cast.alice)
    another_browser(world.cast.alice)
    context = context_of(browser, live_server.url, world.cast.alice)
    page = context.new_page()
    page.goto(f"{live_server.url}/me/")
    reach(page, "Sessions")
    page.keyboard.press("Enter")
    page.wait_for_url("**/me/sessions/")
    reach(page, "End all others")
    page.keyboard.press("Enter")
    page.get_by_role("status").wait_for()
    assert ConsoleSession.objects.filter(person_id=world.cast.alice.pk).count() == 1
    reach(page, "Second factors")
    page.keyboard.press("Enter")
    page.wait_for_url("**/me/factors/")
    reach(page, "code")
    page.keyboard.type(sign_in.totp_code(key, at=time.time()))
    page.keyboard.press("Enter")
    page.wait_for_url("**/me/factors/codes/")
    codes = page.locator(".codes li")
    assert codes.count() == 10
    reach(page, "new_code")
    page.keyboard.type(codes.nth(4).inner_text())
    page.keyboard.press("Enter")
    page.get_by_role("status").wait_for()
    assert RecoveryCode.unscoped.filter(person=world.cast.alice, used_at=None, is_waiting=False).count() == 10
    context.close()


def test_authenticator_and_data_without_script(browser: Browser, world: World, live_server: Any) -> None:
    key = lived_in(world)
    context = context_of(browser, live_server.url, world.cast.alice, java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{live_server.url}/me/factors/")
    page.get_by_role("link", name="Change it").click()
    assert (page.locator("img.qr").get_attribute("src") or "").startswith("data:image/svg+xml")
    shown = page.locator("main .mono.small").inner_text().replace(" ", "")
    new = SecretBytes(base64.b32decode(shown))
    page.locator("#new_code").fill(sign_in.totp_code(new, at=time.time()))
    page.locator("#code").fill(sign_in.totp_code(key, at=time.time()))
    page.locator("#password").fill(PASSWORD)
    page.get_by_role("button", name="Change it").click()
    assert page.url.endswith("/me/factors/")
    assert "Your new authenticator counts from now on" in page.get_by_role("status").inner_text()
    page.goto(f"{live_server.url}/me/data/")
    with page.expect_download() as taken:
        page.get_by_role("button", name="Take the file").click()
    assert taken.value.suggested_filename == "holdfast-my-data.json"
    assert '"alice@acme.test"' in Path(taken.value.path()).read_text()
    context.close()


def test_hostile_text_is_inert_on_ones_own_pages(
    browser: Browser, world: World, live_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    hostile_world(world, monkeypatch, PAYLOADS[0])
    give_totp(world.cast.alice)
    context = context_of(browser, live_server.url, world.cast.alice)
    watched = Watched.of(context.new_page())
    for path in OWN:
        assert watched.open(f"{live_server.url}/me/{path}/".replace("/me//", "/me/")) == [], path
        assert watched.page.title() != "run", path
        assert watched.page.locator("main script").count() == 0
    context.close()
