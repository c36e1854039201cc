# SPDX-License-Identifier: Apache-2.0
"""The pages of the organisation and of programs in a real browser, with others' text in them, locked and ending."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Literal

import pytest
from playwright.sync_api import Browser, ViewportSize

from kernel.actors import system_actor
from kernel.clock import database_now
from kernel.scope import tenant_scope
from tenants import log_tokens
from tenants.models import PendingAct, Tenant, TenantExport
from tenants.states import TenantState
from tests.browser.test_console import context_of
from tests.cast.chromium import NARROW, WIDE, Watched, overflow
from tests.cast.tenants import Cast, build_world, make_service

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
HOSTILE = "<img src=x onerror=\"document.title='run'\">"


@pytest.fixture
def world(transactional_db: None) -> Cast:
    made, now = build_world(), database_now()
    make_service(made.acme, HOSTILE)
    with tenant_scope(made.acme.pk):
        actor = system_actor(made.acme.pk, "ceremony")
        log_tokens.create(name=HOSTILE, life=timedelta(days=30), actor=actor)
        for state in ("waiting", "ready", "failed"):
            TenantExport.objects.create(asked_by=made.olivia.pk, state=state, expires_at=now + timedelta(days=7))
        PendingAct.objects.create(
            act="tenant-unlock", proposer_id=made.olivia.pk, proposed_at=now, expires_at=now + timedelta(days=7)
        )
    return made


@pytest.mark.parametrize(
    "form",
    [(WIDE, "light"), (WIDE, "dark"), (NARROW, "light"), (NARROW, "dark")],
    ids=["light", "dark", "narrow", "narrow-dark"],
)
@pytest.mark.parametrize("state", [TenantState.ACTIVE, TenantState.LOCKED, TenantState.ENDING])
def test_pages_open_clean_and_fit_the_window(
    state: str,
    form: tuple[ViewportSize, Literal["light", "dark"]],
    browser: Browser,
    world: Cast,
    live_server: Any,
) -> None:
    size, scheme = form
    soon = database_now() + timedelta(days=14)
    Tenant.objects.filter(pk=world.acme.pk).update(
        state=state,
        locked_at=database_now() if state == TenantState.LOCKED else None,
        unlock_at=soon if state == TenantState.LOCKED else None,
        ends_at=soon if state == TenantState.ENDING else None,
    )
    context = context_of(browser, live_server.url, world.olivia, viewport=size, color_scheme=scheme)
    watched = Watched.of(context.new_page())
    pages = ["organisation/", "programs/", "acts/log-token-create/", "acts/service-account-create/"]
    for address in pages if state == TenantState.ACTIVE else pages[:2]:
        assert watched.open(f"{live_server.url}/console/{address}") == [], address
        assert overflow(watched.page) <= 0, address
        assert watched.page.locator("h1").count() == 1, address
        assert watched.page.title() != "run"
    context.close()
