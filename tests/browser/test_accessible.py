# SPDX-License-Identifier: Apache-2.0
"""Every console page as every role, light and dark, wide and at 390 px: no axe finding, nothing scrolls sideways.

`make test` opens each page in some of these forms, `make soak PART=accessible` in all. With HOLDFAST_PICTURES in the
environment, pictures are kept in that directory.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.urls import resolve
from playwright.sync_api import Browser, Page

from kernel.scope import tenant_scope
from tenants.models import Person
from tenants.permissions import session_permissions
from tenants.states import TenantState
from tests.browser import test_me
from tests.browser.accessible import findings
from tests.browser.administration import CHOSEN, ELSEWHERE, GIVEN, Act, administered
from tests.browser.screenshots import FORMS, OWN
from tests.browser.test_console import context_of
from tests.browser.test_founding import invited
from tests.browser.test_password_reset import mailed
from tests.cast.chromium import NARROW, Watched, overflow, picture
from tests.cast.tenants import make_person
from tests.cast.world import OpenCase, World
from tests.soak import PART

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

# Everybody. Owners and officers see every page: between them in every form.
ROLES = {
    "owner": ("light", "narrow-dark"),
    "officer": ("dark", "narrow"),
    "reviewer": ("dark", "narrow"),
    "auditor": ("light", "narrow-dark"),
    "support": ("dark", "narrow"),
    "helpdesk": ("narrow-dark",),
    "member": ("dark",),
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
        make_person("hana", "helpdesk")
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
    } | {f"me-{name.replace('/', '-') or 'home'}": f"/me/{name}/".replace("//", "/") for name in OWN}


def somebody(world: World, role: str) -> Person:
    with tenant_scope(world.tenant_id):
        found: Person | None = Person.objects.filter(role=role, state="active").order_by("email").last()
    assert found is not None
    return found


@pytest.mark.rounds("accessible")
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
    if role != "member" and not PART:
        mine = {name: address for name, address in mine.items() if not address.startswith("/me/")}
    assert len(mine) >= 9, mine
    wrong = []
    for form in FORMS if PART else ROLES[role]:
        size, scheme = FORMS[form]
        context = context_of(browser, live_server.url, person, viewport=size, color_scheme=scheme)
        watched = Watched.of(context.new_page())
        for name, address in mine.items():
            opened = watched.open(live_server.url + address)
            wrong += [
                f"{form} {name}: {one}" for one in [*opened, *held_against(watched, form, f"{role}/{form}/{name}")]
            ]
        context.close()
    assert wrong == [], "\n".join(wrong)


def held_against(watched: Watched, form: str, name: str) -> list[str]:
    """Return what is wrong with the open page as it looks, and keep its picture where pictures are wanted."""
    complaints = findings(watched.page)
    if (wide := overflow(watched.page)) > 0:
        complaints.append(f"wider than the window by {wide} px")
    inside = ".table-scroll, .tabs, .side, .steps" if FORMS[form][0] is NARROW else "main"
    if watched.page.locator(inside).evaluate_all("all => all.some(one => one.scrollWidth > one.clientWidth + 1)"):
        complaints.append(f"{inside} scrolls sideways")
    if kept := os.environ.get("HOLDFAST_PICTURES"):
        picture(watched.page, Path(kept) / f"{name}.png")
    return complaints


class Tour:
    """Pages opened one after the other by one person, each in the next of four forms; in the soak in all of them."""

    def __init__(self, browser: Browser, url: str, person: Person | None = None) -> None:
        self.url = url
        self.wrong: list[str] = []
        self.seen: list[str] = []
        self.pages: dict[str, Watched] = {}
        for form, (size, scheme) in FORMS.items():
            given: dict[str, Any] = {"viewport": size, "color_scheme": scheme}
            new = test_me.context_of(browser, url, person, **given) if person else browser.new_context(**given)
            self.pages[form] = Watched.of(new.new_page())

    def look(self, name: str, address: str, *, then: Callable[[Page], object] | None = None, refused: str = "") -> None:
        """Open a page, do what is to be done there, and hold what is then shown against it.

        refused: the status that it answers with, where it has to refuse.
        """
        forms = list(FORMS) if PART else [list(FORMS)[len(self.seen) % len(FORMS)]]
        self.seen.append(name)
        for form in forms:
            watched = self.pages[form]
            opened = watched.open(self.url + address)
            if refused:
                assert any(refused in one for one in opened), f"{name} was not refused"
                opened = [one for one in opened if refused not in one]
            if then is not None:
                then(watched.page)
            complaints = [*opened, *held_against(watched, form, f"administration/{form}/{name}")]
            self.wrong += [f"{form} {name}: {one}" for one in complaints]

    def end(self) -> None:
        for watched in self.pages.values():
            watched.page.context.close()
        assert self.wrong == [], "\n".join(self.wrong)


def pressing(words: str) -> Callable[[Page], None]:
    return lambda page: page.get_by_role("button", name=words).click()


def typing(act: Act) -> Callable[[Page], None]:
    """Return what fills in an act's form and asks what it would do."""

    def typed(page: Page) -> None:
        for name, text in GIVEN.get(act.name, {}).items():
            page.locator(f"#{name}").fill(text)
        if chosen := CHOSEN.get(act.name):
            page.locator(f"input[value={chosen}]").check()
        page.get_by_role("button", name="Look at it").click()
        page.get_by_role("heading", name="What this will do").wait_for()

    return typed


@pytest.mark.rounds("accessible")
def test_every_page_of_administration(browser: Browser, world: World, live_server: Any) -> None:
    made = administered(world)
    tour = Tour(browser, live_server.url, world.cast.olivia)
    for name, address in made.pages.items():
        tour.look(name, address)
    now = {act.name: act for act in made.acts}
    later = [now.pop(name) for name in ELSEWHERE]
    for act in now.values():
        tour.look(act.name, act.address)
        if act.is_typed:
            tour.look(f"{act.name}-look", act.address, then=typing(act))
    tour.look("act-wrong", now["person-invite"].address, then=pressing("Look at it"))
    tour.look("import-wrong", made.pages["import-form"], then=pressing("Read it"))
    tour.look("refused", f"/console/acts/person-suspend/{world.cast.olivia.pk}/", refused="409")

    def confirm(page: Page) -> None:
        typing(now["log-token-create"])(page)
        page.locator("#code").fill(made.olivia.code())
        page.locator("#code").press("Enter")
        page.get_by_role("heading", name="Shown this once").wait_for()

    tour.look("once", now["log-token-create"].address, then=confirm)
    made.state(TenantState.LOCKED)
    for name in ("overview-busy", "organisation", "person-administered"):
        tour.look(f"{name}-locked", made.pages[name])
    unlock, keep_locked, stop = later
    tour.look(unlock.name, unlock.address)
    made.unlocking()
    tour.look(keep_locked.name, keep_locked.address)
    tour.look("organisation-unlocking", made.pages["organisation"])
    made.state(TenantState.ENDING)
    for name in ("overview-busy", "organisation"):
        tour.look(f"{name}-ending", made.pages[name])
    tour.look(stop.name, stop.address)
    tour.end()
    assert len(tour.seen) >= 60


def test_pages_of_links_have_no_axe_finding(browser: Browser, world: World, live_server: Any) -> None:
    link = invited(world.cast, "Ivy Lee")
    Client().post("/console/password-reset/", {"tenant": "acme", "email": "carol@acme.test"})
    tour = Tour(browser, live_server.url)
    tour.look("sign-in", "/console/sign-in/")
    tour.look("password-reset", "/console/password-reset/")
    tour.look("password-reset-link", mailed())
    tour.look("invitation", link)
    tour.look("invitation-refused", link.replace(link[-6:], "xxxxx/"), refused="404")
    tour.end()


@pytest.mark.parametrize("form", ["dark", "narrow"])
def test_pages_for_everybody_have_no_axe_finding(form: str, browser: Browser, world: World, live_server: Any) -> None:
    size, scheme = FORMS[form]
    context = browser.new_context(viewport=size, color_scheme=scheme)
    watched = Watched.of(context.new_page())
    for address in ("/", "/console/sign-in/", "/docs/problems", "/api/docs/"):
        assert [*watched.open(live_server.url + address), *findings(watched.page)] == [], address
        assert overflow(watched.page) <= 0, address
    context.close()
