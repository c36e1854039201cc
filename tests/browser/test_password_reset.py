# SPDX-License-Identifier: Apache-2.0
"""A forgotten password in a real browser: from the sign-in through the mail to the sign-in, without script."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core import mail
from playwright.sync_api import Browser

from kernel import queue
from tests.browser.screenshots import FORMS
from tests.cast.chromium import NARROW, Watched, overflow, picture, totp
from tests.cast.founded import Hsm
from tests.cast.tenants import Cast, build_world, forget_codes, give_password, give_totp, sealing

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
NEW = "another phrase that nobody guessed"


@pytest.fixture
def world(hsm: Hsm, transactional_db: None) -> Cast:
    made = sealing(build_world())
    give_password(made.carol)
    return made


def mailed() -> str:
    while queue.run_due(queue.MAIL):
        pass
    found = [re.search(r"http\S+/console/password-reset/\S+", str(one.body)) for one in mail.outbox]
    return [one[0] for one in found if one][-1].removeprefix(settings.HOLDFAST_PUBLIC_URL)


@pytest.mark.parametrize("form", FORMS)
def test_password_is_set_anew_and_signs_in(
    form: str, browser: Browser, world: Cast, live_server: Any, tmp_path: Path
) -> None:
    size, scheme = FORMS[form]
    key = give_totp(world.carol).reveal()
    context = browser.new_context(viewport=size, color_scheme=scheme)
    watched = Watched.of(context.new_page())
    page, seen = watched.page, []

    def look(name: str) -> None:
        seen.append(name)
        assert overflow(page) <= 0, name
        assert page.locator("h1").count() == 1, name
        picture(page, tmp_path / f"{name}.png")

    assert watched.open(f"{live_server.url}/console/sign-in/") == []
    page.get_by_role("link", name="Forgot your password?").click()
    look("ask")
    page.get_by_label("Organisation").fill("acme")
    page.get_by_label("E-mail address").fill("carol@acme.test")
    page.get_by_role("button", name="Send the link").click()
    assert page.get_by_role("heading", level=1).inner_text() == "Look into your mail"
    look("asked")
    address = live_server.url + mailed()
    assert watched.open(address) == []
    look("link")
    page.get_by_label("New password", exact=True).fill(NEW)
    page.get_by_label("The same again").fill(NEW + "!")
    page.get_by_label("Code").fill(totp(key, time.time()))
    page.get_by_role("button", name="Set the password").click()
    assert "differ" in page.get_by_role("alert").inner_text()
    look("differ")
    page.get_by_label("New password", exact=True).fill(NEW)
    page.get_by_label("The same again").fill(NEW)
    page.get_by_label("Code").fill(totp(key, time.time()))
    page.get_by_role("button", name="Set the password").click()
    assert page.get_by_role("heading", level=1).inner_text() == "Your new password is set"
    look("done")
    page.goto(address)
    assert page.get_by_role("heading", level=1).inner_text() == "This link does not open anything"
    look("refused")
    forget_codes(world.carol)
    page.get_by_role("link", name="sign in").click()
    page.get_by_label("Organisation").fill("acme")
    page.get_by_label("E-mail address").fill("carol@acme.test")
    page.get_by_label("Password").fill(NEW)
    page.get_by_role("button", name="Continue").click()
    page.locator("input[name=code]").fill(totp(key, time.time()))
    page.locator("form:has(input[name=code]) button[type=submit]").click()
    assert page.get_by_role("heading", level=1).inner_text() == "Overview"
    assert len(set(seen)) == 6
    context.close()


def test_pages_work_without_script(browser: Browser, world: Cast, live_server: Any) -> None:
    key = give_totp(world.carol).reveal()
    context = browser.new_context(viewport=NARROW, java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{live_server.url}/console/password-reset/")
    page.get_by_label("Organisation").fill("acme")
    page.get_by_label("E-mail address").fill("carol@acme.test")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Look into your mail").wait_for()
    page.goto(live_server.url + mailed())
    page.keyboard.type(NEW)  # the first field has the focus
    page.keyboard.press("Tab")
    page.keyboard.type(NEW)
    page.keyboard.press("Tab")
    page.keyboard.type(totp(key, time.time()))
    page.keyboard.press("Enter")
    assert page.get_by_role("heading", level=1).inner_text() == "Your new password is set"
    context.close()
