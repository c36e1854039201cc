# SPDX-License-Identifier: Apache-2.0
"""Every console page as every role, light and dark, wide and at 390 px: no axe finding, nothing scrolls sideways.

With HOLDFAST_PICTURES in the environment, pictures of all of them are kept in that directory.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

import pytest
from django.urls import resolve
from playwright.sync_api import Browser, ViewportSize

from kernel.scope import tenant_scope
from tenants.models import Person
from tenants.permissions import session_permissions
from tests.browser.accessible import findings
from tests.browser.chromium import NARROW, WIDE, Watched, overflow, picture
from tests.browser.test_console import context_of
from tests.cast.tenants import make_person
from tests.cast.world import OpenCase, World

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

FORMS: dict[str, tuple[ViewportSize, Literal["light", "dark"]]] = {
    "light": (WIDE, "light"),
    "dark": (WIDE, "dark"),
    "narrow": (NARROW, "light"),
    "narrow-dark": (NARROW, "dark"),
}
# Everybody who enters the console. Owners and officers see every page: between them in every form.
ROLES = {
    "owner": ("light", "narrow-dark"),
    "officer": ("dark", "narrow"),
    "reviewer": ("dark", "narrow"),
    "auditor": ("light", "narrow-dark"),
    "support": ("dark", "narrow"),
}
SOUND = (
    "m=2&delay_seconds=2d&max_notice_delay_seconds=0s&cooling_off_seconds=7d&undelivered_delay_seconds=14d"
    "&consent_binds_seconds=0s&purposes=device-loss&approve_with=any&deposits=all&text=Ask+us+first."
)
LONG = "Wilhelmina-Alexandra van der Westhuizen-Montgomery de Almeida e Vasconcelos"


def busy(world: World) -> tuple[OpenCase, dict[str, str]]:
    """Make something stand on every page, and return each page's address by name."""
    case, _ = world.approved("carol")
    world.directory.phone("alice").publish()
    world.consent("bob")
    world.publish(world.policy(m=2, delay_seconds=86400), signers=list(world.founders.values())[:2])
    world.propose(world.policy(m=2, delay_seconds=60), "carol")
    with tenant_scope(world.tenant_id):
        make_person("sam", "support")
        for number in range(60):
            make_person(f"member-{number}", "member")
        long = make_person("wilhelmina", "member")
        long.name, long.email = LONG, "wilhelmina.alexandra.van.der.westhuizen.montgomery@acme.test"
        long.save(update_fields=["name", "email"])
    world.transcript("Ceremonies\n   1  2026-11-30 07:00:00 UTC  init: make the HSM tokens " + "a" * 200 + "\n")
    world.sequence()
    alice = world.cast.people["alice"].pk
    proposing = "m=5&delay_seconds=soon&purposes=&text=%E2%80%AE"
    return case, {
        "overview": "/console/",
        "cases": "/console/cases/?group=all&sort=expires",
        "cases-none": "/console/cases/?group=operator",
        "case": f"/console/cases/{case.id}/",
        "people": "/console/people/?sort=-role",
        "people-searched": "/console/people/?q=wilhelmina",
        "people-none": "/console/people/?q=nobody-of-this-name",
        "people-beyond": "/console/people/?page=9",
        "devices": "/console/people/devices/",
        "doors": "/console/people/doors/",
        "person": f"/console/people/{alice}/",
        "person-none": f"/console/people/{long.pk}/",
        "device": f"/console/devices/{case.phone.id}/",
        "escrow": "/console/escrow/?sort=-name",
        "answers": "/console/escrow/answers/",
        "answers-none": "/console/escrow/answers/?answer=none",
        "policy": "/console/escrow/policy/",
        "propose": "/console/escrow/policy/propose/",
        "propose-wrong": f"/console/escrow/policy/propose/?{proposing}",
        "propose-done": f"/console/escrow/policy/propose/?{SOUND}",
        "ceremonies": "/console/ceremonies/",
        "transcript": "/console/ceremonies/1/",
        "audit": "/console/audit/",
        "audit-wrong": "/console/audit/?since=yesterday&by=me",
        "entry": "/console/audit/0/",
    }


def somebody(world: World, role: str) -> Person:
    with tenant_scope(world.tenant_id):
        found: Person | None = Person.objects.filter(role=role, state="active").order_by("email").last()
    assert found is not None
    return found


@pytest.mark.parametrize("role", sorted(ROLES))
def test_no_page_has_an_axe_finding_or_scrolls_sideways(
    role: str, browser: Browser, world: World, live_server: Any
) -> None:
    _, pages = busy(world)
    person = somebody(world, role)
    granted = session_permissions(role)
    mine = {
        name: address
        for name, address in pages.items()
        if resolve(address.partition("?")[0]).func.permission_name in granted  # type: ignore[attr-defined]
    }
    assert len(mine) >= 9, mine
    wrong = []
    for form in ROLES[role]:
        size, scheme = FORMS[form]
        context = context_of(browser, live_server.url, person, viewport=size, color_scheme=scheme)
        watched = Watched.of(context.new_page())
        for name, address in mine.items():
            complaints = [*watched.open(live_server.url + address), *findings(watched.page)]
            if (wide := overflow(watched.page)) > 0:
                complaints.append(f"wider than the window by {wide} px")
            inside = ".table-scroll, .tabs, .side, .steps" if size is NARROW else "main"
            is_wide = "all => all.some(one => one.scrollWidth > one.clientWidth + 1)"
            if watched.page.locator(inside).evaluate_all(is_wide):
                complaints.append(f"{inside} scrolls sideways")
            if kept := os.environ.get("HOLDFAST_PICTURES"):
                picture(watched.page, Path(kept) / role / form / f"{name}.png")
            wrong += [f"{form} {name}: {one}" for one in complaints]
        context.close()
    assert wrong == [], "\n".join(wrong)


@pytest.mark.parametrize("form", ["dark", "narrow"])
def test_pages_for_everybody_have_no_axe_finding(form: str, browser: Browser, world: World, live_server: Any) -> None:
    size, scheme = FORMS[form]
    context = browser.new_context(viewport=size, color_scheme=scheme)
    watched = Watched.of(context.new_page())
    for address in ("/", "/console/sign-in/", "/docs/problems", "/api/docs/"):
        assert [*watched.open(live_server.url + address), *findings(watched.page)] == [], address
        assert overflow(watched.page) <= 0, address
    context.close()
