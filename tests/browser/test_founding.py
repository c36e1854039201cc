# SPDX-License-Identifier: Apache-2.0
"""The pages of a founding in a real browser: an invitation from link to recovery codes, and who is waited for."""

from __future__ import annotations

import base64
import time
from typing import Any, Literal

import pytest
from django.conf import settings
from playwright.sync_api import Browser, ViewportSize

from kernel.actors import system_actor
from kernel.scope import tenant_scope
from tenants import invitations, services
from tenants.models import Person, Tenant
from tenants.roles import Role
from tenants.states import TenantState
from tests.browser.test_console import context_of
from tests.cast.chromium import NARROW, WIDE, Watched, overflow, totp
from tests.cast.founded import Hsm
from tests.cast.tenants import Cast, build_world, sealing

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
PASSWORD = "four words that nobody guessed"


@pytest.fixture
def world(hsm: Hsm, transactional_db: None) -> Cast:
    made = sealing(build_world())
    Tenant.objects.filter(pk=made.acme.pk).update(state=TenantState.FOUNDING)
    return made


def invited(world: Cast, name: str) -> str:
    actor = system_actor(world.acme.pk, "ceremony")
    with tenant_scope(world.acme.pk):
        person = services.create_person(email="ivy@acme.test", name="Ivy", role=Role.OWNER, actor=actor)
        Person.unscoped.filter(pk=person.pk).update(name=name[:100])
        link = invitations.invite(person=person.reload(), actor=actor).text.reveal().decode()
    return link.removeprefix(settings.HOLDFAST_PUBLIC_URL)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
def test_pages_open_clean_and_fit_the_window(
    size: ViewportSize, scheme: Literal["light", "dark"], browser: Browser, world: Cast, live_server: Any
) -> None:
    path = invited(world, "<script>document.title='run'</script>")
    Person.unscoped.filter(pk=world.dan.pk).update(name="<img src=x onerror=\"document.title='run'\">" * 2)
    context = context_of(browser, live_server.url, world.olivia, viewport=size, color_scheme=scheme)
    watched = Watched.of(context.new_page())
    for address in ("/console/", path):
        assert watched.open(live_server.url + address) == [], address
        assert overflow(watched.page) <= 0, address
        assert watched.page.locator("h1").count() == 1, address
        assert watched.page.title() != "run"
    assert watched.page.get_by_role("img").evaluate("image => image.naturalWidth") > 100
    context.close()


def test_invited_person_gets_in_without_script(browser: Browser, world: Cast, live_server: Any) -> None:
    context = browser.new_context(viewport=NARROW, java_script_enabled=False)
    page = context.new_page()
    page.goto(live_server.url + invited(world, "Ivy"))
    secret = page.locator("span.mono.small").inner_text().replace(" ", "")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_label("The same again").fill(PASSWORD)
    page.get_by_label("The six digits that it shows now").fill(totp(base64.b32decode(secret), time.time()))
    page.get_by_role("button", name="Accept").click()
    codes = page.locator("ul.codes li").all_inner_texts()
    assert len(codes) == 10
    page.get_by_role("link", name="I have them. Sign in").click()
    page.get_by_label("Organisation").fill("acme")
    page.get_by_label("E-mail address").fill("ivy@acme.test")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Continue").click()
    page.locator("input[name=code]").fill(codes[3])
    page.locator("form:has(input[name=code]) button[type=submit]").click()
    assert page.get_by_role("heading", level=1).inner_text() == "Acme is being founded"
    context.close()
