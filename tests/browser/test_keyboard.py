# SPDX-License-Identifier: Apache-2.0
"""An act of administration of each kind by the keyboard alone and without script, from the overview to its end."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Browser, JSHandle, Page

from kernel.scope import tenant_scope
from tenants.access import credential_state
from tenants.models import Import, PendingAct, Person, Tenant
from tenants.roles import Role
from tenants.states import CredentialState, ImportState, PersonState, TenantState
from tests.browser.test_me import context_of
from tests.cast.administrators import Administrator, administrator, settle
from tests.cast.chromium import NARROW, WIDE
from tests.cast.tenants import make_person
from tests.cast.world import World

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

MOST_TABS = 80  # of the longest page here, with everything above its list
# What the focused thing is called, and what is wrong with how it shows that it is focused.
NAME = """() => {
  const at = document.activeElement;
  const label = at.labels && at.labels.length ? at.labels[0].innerText : at.getAttribute('aria-label');
  return (label || at.innerText || '').trim();
}"""
UNSEEN = """() => {
  const at = document.activeElement, box = at.getBoundingClientRect(), style = getComputedStyle(at);
  if (style.outlineStyle === 'none' || parseFloat(style.outlineWidth) < 2) return 'no outline';
  if (box.width < 1 || box.height < 1) return 'no size';
  if (box.bottom < 0 || box.top > innerHeight || box.right < 0 || box.left > innerWidth) return 'outside the window';
  return '';
}"""
FOLLOWS = "before => Boolean(before.compareDocumentPosition(document.activeElement) & Node.DOCUMENT_POSITION_FOLLOWING)"


class Keyboard:
    """A person without a mouse. Every Tab has to move the focus on, downwards in the page, to where it can be seen."""

    def __init__(self, page: Page, who: Administrator) -> None:
        self.page, self.who, self.before = page, who, None
        self.page.on("framenavigated", lambda _: self._forget())

    before: JSHandle | None

    def _forget(self) -> None:
        self.before = None

    def tab(self) -> str:
        """Go on by one, and say what has the focus then."""
        self.page.keyboard.press("Tab")
        name = str(self.page.evaluate(NAME))
        assert self.page.evaluate(UNSEEN) == "", f"{name} at {self.page.url}"
        if self.before is not None:
            assert self.page.evaluate(FOLLOWS, self.before), f"{name} stands before what had the focus"
        self.before = self.page.evaluate_handle("document.activeElement")
        return name

    def reach(self, words: str) -> None:
        """Go on to what is called this; a label may say more in brackets."""
        passed = []
        for _ in range(MOST_TABS):
            passed.append(self.tab())
            if passed[-1] == words or passed[-1].startswith(f"{words} ("):
                return
        pytest.fail(f"the keyboard reaches no {words} on {self.page.url}, only {passed}")

    def press(self, words: str, heading: str) -> None:
        """Follow a link or push a button, and wait for the page with this heading."""
        self.reach(words)
        self.page.keyboard.press("Enter")
        self.page.get_by_role("heading", level=1, name=heading).wait_for()

    def skip(self) -> None:
        """Leave out the navigation by the first link of the page."""
        assert self.tab() == "Skip to the content"
        self.page.keyboard.press("Enter")
        self.page.wait_for_url("**#content")
        self._forget()
        self.tab()
        assert self.page.locator("main :focus").count() == 1

    def type(self, label: str, text: str) -> None:
        self.reach(label)
        self.page.keyboard.type(text)

    def confirm(self) -> None:
        """Give the code for what is shown, from the field for it."""
        assert self.page.get_by_role("heading", name="What this will do").is_visible()
        self.type("The code that your authenticator shows now", self.who.code())
        self.page.keyboard.press("Enter")
        self.page.get_by_role("status").first.wait_for()


def at_console(browser: Browser, url: str, who: Administrator, *, narrow: bool = False) -> Keyboard:
    context = context_of(browser, url, who.person, viewport=NARROW if narrow else WIDE, java_script_enabled=False)
    keyboard = Keyboard(context.new_page(), who)
    keyboard.page.goto(f"{url}/console/")
    return keyboard


def test_an_act_of_each_kind(browser: Browser, world: World, live_server: Any) -> None:
    with tenant_scope(world.tenant_id):
        second = make_person("oscar", Role.OWNER)
    settle(world.cast.olivia, second)
    device = world.directory.phone("alice").id
    olivia = at_console(browser, live_server.url, administrator(world.cast.olivia))

    # Somebody who is not here yet, with a link that is shown once.
    olivia.press("People", "People")
    olivia.skip()
    olivia.page.reload()
    olivia.press("Invite a person", "Invite a person")
    olivia.type("E-mail address", "ivy@acme.test")
    olivia.type("Name", "Ivy Lee")
    olivia.reach("By mail, to their address")
    olivia.page.keyboard.press("ArrowDown")
    olivia.press("Look at it", "Invite Ivy Lee")
    olivia.confirm()
    assert "/console/invitation/" in olivia.page.locator(".once").inner_text()
    olivia.press("I have it", "Ivy Lee")
    assert Person.unscoped.get(email="ivy@acme.test").state == PersonState.INVITED

    # A person, found by a part of their name, and a device of another one's.
    olivia.press("People", "People")
    olivia.type("Name or address", "bob")
    olivia.page.keyboard.press("Enter")
    olivia.page.wait_for_url("**q=bob**")
    olivia.press("Bob", "Bob")
    olivia.press("Suspend", "Suspend Bob")
    olivia.confirm()
    assert Person.unscoped.get(pk=world.cast.bob.pk).state == PersonState.SUSPENDED
    olivia.press("People", "People")
    olivia.press("Alice", "Alice")
    olivia.press("phone", "phone")
    olivia.press("Suspend the device", "Suspend phone")
    olivia.confirm()
    with tenant_scope(world.tenant_id):
        assert credential_state(device) == CredentialState.SUSPENDED

    # Many people, by a list that is pasted.
    olivia.press("People", "People")
    olivia.press("Invite by a file", "Invite people by a file")
    olivia.reach("Or its text")
    olivia.page.keyboard.insert_text("Jack,jack@acme.test,auditor\nnobody\n")
    olivia.press("Read it", "What this file would do")
    olivia.press("Invite these people", "Invite")
    olivia.confirm()
    assert Import.unscoped.get().state == ImportState.RUNNING

    # The organisation, which one owner locks and two unlock, the second at a narrow window.
    olivia.press("Organisation", "Acme")
    olivia.press("Lock the organisation", "Lock Acme")
    olivia.confirm()
    assert Tenant.objects.get(pk=world.tenant_id).state == TenantState.LOCKED
    olivia.press("Unlock the organisation", "Unlock Acme")
    olivia.confirm()
    assert PendingAct.unscoped.get().state == "proposed"
    oscar = at_console(browser, live_server.url, administrator(second), narrow=True)
    oscar.press("Unlock the organisation", "Unlock Acme")
    oscar.confirm()
    assert PendingAct.unscoped.get().state == "confirmed"
    assert Tenant.objects.get(pk=world.tenant_id).unlock_at is not None
    for one in (olivia, oscar):
        one.page.context.close()
