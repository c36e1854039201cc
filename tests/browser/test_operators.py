# SPDX-License-Identifier: Apache-2.0
"""The operators' admin in a real browser: signing in, every list and row, an act; nothing blocked, nothing too wide."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, Literal

import pytest
from django.contrib import admin
from django.contrib.admin.utils import quote
from django.db import transaction
from django.test import Client
from playwright.sync_api import Browser, ViewportSize

from kernel import heartbeats, queue
from kernel.models import Job
from kernel.scope import tenant_scope
from tenants.models import Tenant
from tests.cast.browsers import signed_in, text_of
from tests.cast.chromium import NARROW, WIDE, Watched, overflow, totp
from tests.cast.operators import PASSWORD, SIGN_IN, Desk, admin_mounted, forget_codes, make_operator
from tests.cast.tenants import make_service
from tests.cast.world import World

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def petra(world: World) -> Iterator[Desk]:
    with admin_mounted():
        yield make_operator()


@pytest.fixture
def dead(world: World) -> Job:
    heartbeats.note("worker/mail")
    make_service(world.cast.acme)
    world.directory.phone("alice")
    world.sequence()
    with tenant_scope(world.tenant_id), transaction.atomic():
        job = queue.enqueue("tests.work")
    assert job is not None
    Job.unscoped.filter(pk=job.pk).update(state="dead", last_error="MailNotTaken")
    return job.reload()


def sign_in(watched: Watched, url: str, desk: Desk) -> None:
    forget_codes()
    watched.page.goto(url + SIGN_IN)
    watched.page.get_by_label("Name").fill(desk.operator.name)
    watched.page.get_by_label("Password").fill(PASSWORD)
    watched.page.get_by_label("Code of your authenticator").fill(totp(desk.key.reveal(), time.time()))
    watched.page.get_by_role("button", name="Sign in").click()
    watched.page.wait_for_url(f"{url}/admin/")


def pages(dead: Job) -> list[str]:
    found = ["/admin/", f"/admin/acts/job/{dead.pk}/drop/"]
    for model in admin.site._registry:
        listing = f"/admin/{model._meta.label_lower.replace('.', '/')}/"
        some = model._base_manager.first()
        assert some is not None, f"this world has no {listing}"
        found += [listing, f"{listing}{quote(some.pk)}/"]
    return found


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
def test_every_page_opens_clean_and_fits_the_window(  # noqa: PLR0917 — fixtures
    size: ViewportSize, scheme: Literal["light", "dark"], browser: Browser, petra: Desk, dead: Job, live_server: Any
) -> None:
    context = browser.new_context(viewport=size, color_scheme=scheme)
    watched = Watched.of(context.new_page())
    assert watched.open(live_server.url + SIGN_IN) == []
    sign_in(watched, live_server.url, petra)
    for address in pages(dead):
        # An icon of Django's for which a slow machine still waits when the next page is asked for is no fault of ours.
        complaints = [one for one in watched.open(live_server.url + address) if "/static/admin/img/" not in one]
        assert complaints == [], address
        assert overflow(watched.page) <= 0, address
    context.close()


def test_tenant_is_suspended_and_resumed_by_links_and_buttons_without_script(
    browser: Browser, world: World, petra: Desk, live_server: Any
) -> None:
    context = browser.new_context(viewport=WIDE, java_script_enabled=False)
    page = context.new_page()
    sign_in(Watched(page), live_server.url, petra)
    for words, state in (("Suspend the organisation", "suspended"), ("Resume the organisation", "active")):
        page.goto(f"{live_server.url}/admin/tenants/tenant/{world.tenant_id}/")
        page.get_by_role("link", name=words).click()
        assert Tenant.objects.get(pk=world.tenant_id).state != state
        page.get_by_role("button", name=words).click()
        page.wait_for_url("**/admin/tenants/tenant/*/")
        assert "To undo it" in page.inner_text(".messagelist")
        assert Tenant.objects.get(pk=world.tenant_id).state == state
    page.get_by_role("button", name="Sign out").click()
    page.goto(f"{live_server.url}/admin/")
    assert page.url.endswith(SIGN_IN)
    context.close()


def test_tenants_auditor_reads_who_suspended_them(world: World, petra: Desk) -> None:
    operator = petra.browser()
    for act in ("suspend", "resume"):
        assert operator.post(f"/admin/acts/tenant/{world.tenant_id}/{act}/").status_code == 302
    world.sequence()
    found = text_of(signed_in(world.cast.otto).get(f"/console/audit/?by=operator:{petra.operator.pk}"))
    assert "Organisation suspended by the operator" in found
    assert f"operator:{petra.operator.pk}" in found
    assert Client().get("/console/audit/").status_code == 302
