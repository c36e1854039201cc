# SPDX-License-Identifier: Apache-2.0
"""Every console page in a real browser: nothing blocked, nothing too wide, and hostile text in every field inert."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from playwright.sync_api import Browser, BrowserContext, ViewportSize

from holdfast.core.base.encoding import b64u
from holdfast.core.identity.cases import Veto
from holdfast.core.signed import cose
from holdfast.core.signed.cose import Purpose
from holdfast.core.signed.statements import DeviceStatement
from tenants.models import Person
from tests.cast import phones as keys
from tests.cast.browsers import signed_in
from tests.cast.chromium import NARROW, WIDE, Watched, overflow, sign_in, totp
from tests.cast.tenants import PASSWORD, give_password, give_totp
from tests.cast.world import OpenCase, World

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

# FAULTS G25: seven ways for text to become script, each of which would say so in the window's title.
PAYLOADS = (
    "<script>document.title='run'</script>",
    "<img src=x onerror=\"document.title='run'\">",
    "\"><svg onload=document.title='run'>",
    "' autofocus onfocus=document.title='run' x='",
    "<a href=\"javascript:document.title='run'\">here</a>",
    "</title></textarea><iframe srcdoc=\"<script>parent.document.title='run'</script>\">",
    "{{ 7|add:'run' }}{% debug %}<math><mi//xlink:href='data:x,<script>document.title=`run`</script>'>",
)
# Signs that turn, hide or split their neighbours (FAULTS P13).
BIDI = "paid \u202edemialc\u202c \u2066x\u2069 \u200b\ufeff end"


def context_of(browser: Browser, url: str, person: Person, **options: Any) -> BrowserContext:
    """Return a browser context in which the person is signed in: the session is made here, as signing in makes it."""
    session = signed_in(person).cookies["sessionid"].value
    context = browser.new_context(viewport=options.pop("viewport", WIDE), **options)
    context.add_cookies([{"name": "sessionid", "value": session, "url": url}])
    return context


def pages_of(world: World, case: OpenCase) -> list[str]:
    """List every page, with the things that hostile text was put into."""
    phones = [case.phone.id, world.directory.phone("alice").id]
    return [
        "/console/",
        "/console/cases/?group=all",
        f"/console/cases/{case.id}/",
        "/console/people/",
        *(f"/console/people/{world.cast.people[name].pk}/" for name in ("alice", "carol")),
        *(f"/console/devices/{phone}/" for phone in phones),
        "/console/escrow/",
        "/console/audit/",
        "/console/audit/exports/",
        "/console/audit/0/",
        f"/console/audit/?about={case.id}",
    ]


def test_signing_in_takes_password_and_code_in_the_browser(browser: Browser, world: World, live_server: Any) -> None:
    give_password(world.cast.carol)
    secret = give_totp(world.cast.carol).reveal()
    context = browser.new_context(viewport=WIDE)
    watched = Watched.of(context.new_page())
    sign_in(watched.page, live_server.url, email="carol@acme.test", password=PASSWORD, code=totp(secret))
    assert watched.page.get_by_role("heading", level=1).inner_text() == "Overview"
    assert watched.complaints == []
    watched.page.get_by_role("button", name="Sign out").click()
    watched.page.goto(f"{live_server.url}/console/cases/")
    assert watched.page.url.endswith("/console/sign-in/")
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
def test_every_page_opens_clean_and_fits_the_window(
    size: ViewportSize, scheme: Literal["light", "dark"], browser: Browser, world: World, live_server: Any
) -> None:
    case, _ = world.approved("carol")
    world.directory.phone("alice").publish()
    context = context_of(browser, live_server.url, world.cast.dan, viewport=size, color_scheme=scheme)
    watched = Watched.of(context.new_page())
    for path in pages_of(world, case):
        assert watched.open(live_server.url + path) == [], path
        assert overflow(watched.page) <= 0, path
        assert watched.page.locator("h1").count() == 1, path
        unnamed = "main :is(input, select):not([type=hidden]):not(:is([id]))"
        assert watched.page.locator(unnamed).count() == 0, path
    context.close()


def test_every_page_can_be_used_without_script(browser: Browser, world: World, live_server: Any) -> None:
    case, _ = world.approved()
    context = context_of(browser, live_server.url, world.cast.dan, java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{live_server.url}/console/")
    page.get_by_role("region", name="Cases that wait for you").get_by_role("link").first.click()
    assert page.url.endswith(f"/console/cases/{case.id}/")
    page.goto(f"{live_server.url}/console/people/")
    page.get_by_label("Name or address").fill("ali")
    page.get_by_role("button", name="Show").click()
    assert page.get_by_role("rowheader").count() == 1
    page.goto(f"{live_server.url}/console/audit/")
    page.get_by_label("What").select_option("escrow:policy:")
    page.get_by_role("button", name="Show").click()
    assert page.locator("tbody tr").count() == 1
    context.close()


def hostile_world(world: World, monkeypatch: pytest.MonkeyPatch, text: str) -> OpenCase:
    """Put `text` into every field that a person or a device writes and a console page shows."""
    for number, name in enumerate(("alice", "carol")):
        # Past the rule for names, which refuses some of it: an imported row may be older than the rule.
        row = Person.unscoped.filter(pk=world.cast.people[name].pk)
        row.update(name=text[:100], email=f"{text[:90]}{number}@acme.test")

    def named(**fields: Any) -> DeviceStatement:
        return DeviceStatement(**fields | {"name": text[:64]})

    monkeypatch.setattr(keys, "DeviceStatement", named)
    deposit = world.deposit()
    case = world.opened(deposit, reason=text, reference=text[:200])
    document = world.signed_approval(case, "carol", [deposit], identity_check=text[:200])
    assert world.directory.phone("carol").send("POST", f"{case.path}/approvals", document).status_code == 201
    phone = world.directory.phone("alice")
    signed = cose.sign(
        Veto(phone.header(), case.statement.payload_hash, text).to_payload(), purpose=Purpose.VETO, key=phone.isk
    )
    answer = phone.send("POST", f"{case.path}/veto", {"statement": b64u(signed.encode()), "reason": text})
    assert answer.status_code in (200, 201), answer.content
    world.sequence()
    return case


@pytest.mark.parametrize("number", range(len(PAYLOADS)))
def test_hostile_text_in_every_field_stays_text(
    number: int, browser: Browser, world: World, live_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = PAYLOADS[number]
    case = hostile_world(world, monkeypatch, text)
    context = context_of(browser, live_server.url, world.cast.dan)
    watched = Watched.of(context.new_page())
    shown = 0
    for path in [*pages_of(world, case), f"/console/people/?q={text[:40]}", f"/console/audit/?by={text[:40]}"]:
        # No complaint at all: not even an attempt that the content security policy had to stop.
        assert watched.open(live_server.url + path) == [], path
        page = watched.page
        assert page.evaluate("document.title") != "run", path
        assert page.locator("main :is(script, img, iframe, math)").count() == 0, path
        assert page.evaluate(
            "[...document.querySelectorAll('*')].every(e => ![...e.attributes].some(a => /^on/.test(a.name)))"
        )
        assert page.locator("a[href^='javascript:' i]").count() == 0
        shown += text[:40] in page.locator("main").inner_text().replace("\n", " ")
    assert shown >= 6
    context.close()


def test_text_that_turns_its_neighbours_is_shown_as_it_is_signed(
    browser: Browser, world: World, live_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = hostile_world(world, monkeypatch, BIDI)
    context = context_of(browser, live_server.url, world.cast.dan)
    page = context.new_page()
    page.goto(f"{live_server.url}/console/cases/{case.id}/")
    reason = page.locator("blockquote.quote").first
    written = "paid U+202Edemialc U+202C U+2066xU+2069 \u200b\ufeff end"
    assert reason.inner_text().replace(" ", "") == written.replace(" ", "")
    assert reason.evaluate("box => getComputedStyle(box).unicodeBidi") == "isolate"
    assert not any(sign in page.content() for sign in "\u202e\u202c\u2066\u2069")
    context.close()


@pytest.mark.parametrize(("path", "is_framed"), [("/static/holdfast/mark.svg", True), ("/console/sign-in/", False)])
def test_no_page_of_ours_is_framed_by_another(path: str, is_framed: bool, browser: Browser, live_server: Any) -> None:
    page = browser.new_page()
    reached: list[str] = []
    page.on("framenavigated", lambda frame: reached.append(frame.url))
    page.set_content(f'<iframe src="{live_server.url}{path}"></iframe>', wait_until="networkidle")
    assert any(url.endswith(path) for url in reached) == is_framed
    page.close()
