# SPDX-License-Identifier: Apache-2.0
"""The pages of an organisation that waits for its officers after a restored backup, in a real browser."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

import pytest
from playwright.sync_api import Browser, ViewportSize

from audit import restored
from kernel.scope import tenant_scope
from tests.browser.test_me import context_of
from tests.cast.chromium import NARROW, WIDE, Watched, overflow, picture
from tests.cast.tenants import give_password, give_totp
from tests.cast.world import World

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
PICTURES = os.environ.get("HOLDFAST_PICTURES", "")


@pytest.mark.parametrize(
    ("size", "scheme"), [(WIDE, "light"), (WIDE, "dark"), (NARROW, "light")], ids=["wide", "dark", "narrow"]
)
def test_every_page_says_what_is_waited_for_and_a_form_that_it_was_not_taken(
    size: ViewportSize, scheme: Literal["light", "dark"], browser: Browser, world: World, live_server: Any
) -> None:
    olivia = world.cast.people["olivia"]
    give_password(olivia)
    give_totp(olivia)
    with tenant_scope(world.tenant_id):
        restored.mark(by="sequencer")
    context = context_of(browser, live_server.url, olivia, viewport=size, color_scheme=scheme)
    watched = Watched.of(context.new_page())
    for name, path in {"overview": "/console/", "act": "/console/acts/tenant-lock/", "me": "/me/factors/"}.items():
        assert watched.open(f"{live_server.url}{path}") == [], path
        said = watched.page.get_by_role("status").first.inner_text()
        assert "put back from a backup" in said
        assert "holdfast officer resolve accept-log" in said
        assert overflow(watched.page) <= 0, path
        if PICTURES:
            picture(watched.page, Path(PICTURES) / f"{name}-{size['width']}-{scheme}.png")
    # Past what the browser itself asks of a form that is not filled in.
    watched.page.locator("main form[method=post]").first.evaluate("form => form.submit()")
    watched.page.get_by_role("heading", name="Not taken").wait_for()
    assert overflow(watched.page) <= 0
    if PICTURES:
        picture(watched.page, Path(PICTURES) / f"not-taken-{size['width']}-{scheme}.png")
    context.close()
