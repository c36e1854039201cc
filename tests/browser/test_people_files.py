# SPDX-License-Identifier: Apache-2.0
"""People by a file, and codes, in a real browser: from the file to the report, light, dark and 390 px."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from kernel import queue
from kernel.scope import tenant_scope
from tenants.models import Import, Person
from tests.browser.screenshots import FORMS
from tests.cast.administrators import settle
from tests.cast.chromium import Watched, overflow, picture, sign_in, totp
from tests.cast.founded import Hsm
from tests.cast.tenants import PASSWORD, Cast, build_world, forget_codes, give_password, give_totp, make_person, sealing

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
FILE = """name;email;role
Ivy Adams;ivy@acme.test;member
Jack Brown;jack@acme.test;officer
=HYPERLINK("http://evil.test");kim@acme.test;member
Bob;bob@acme.test;member
Ann \u202egnp;ann@acme.test;member
\u0410da;\u0430da@acme.test;member
Lou;nobody;emperor
"""


@pytest.fixture
def world(hsm: Hsm, transactional_db: None) -> Cast:
    made = sealing(build_world())
    give_password(made.olivia)
    with tenant_scope(made.acme.pk):
        made.people["oscar"] = make_person("oscar", "owner")
    settle(made.olivia, made.oscar, made.carol)
    return made


@pytest.mark.parametrize("form", FORMS)
def test_file_becomes_people_and_a_person_gets_a_code(
    form: str, browser: Browser, world: Cast, live_server: Any, tmp_path: Path
) -> None:
    size, scheme = FORMS[form]
    key = give_totp(world.olivia).reveal()
    # Without script: every page works by itself.
    context = browser.new_context(viewport=size, color_scheme=scheme, java_script_enabled=form != "dark")
    watched = Watched.of(context.new_page())
    page = watched.page

    def look(name: str) -> None:
        page.locator("h1").wait_for()
        if form != "dark":
            assert overflow(page) <= 0, name
        assert page.locator("h1").count() == 1, name
        picture(page, tmp_path / f"{name}.png")

    def confirm(page: Page, button: str) -> None:
        forget_codes(world.olivia)
        page.locator("input[name=code]").fill(totp(key))
        page.get_by_role("button", name=button).click()

    sign_in(page, live_server.url, email="olivia@acme.test", password=PASSWORD, code=totp(key))
    page.goto(f"{live_server.url}/console/people/")
    look("people")
    page.get_by_role("link", name="Invite by a file").click()
    look("form")
    page.get_by_label("A CSV file").set_input_files(
        {"name": "people.csv", "mimeType": "text/csv", "buffer": "Ada,a@x.test\nB\u00f6b,b@x.test".encode("latin-1")}
    )
    page.get_by_role("button", name="Read it").click()
    assert "Line 2: this is not UTF-8" in page.get_by_role("alert").inner_text()
    look("refused")
    page.get_by_label("A CSV file").set_input_files(
        {"name": "people.csv", "mimeType": "text/csv", "buffer": FILE.encode()}
    )
    page.get_by_role("button", name="Read it").click()
    look("read")
    assert page.locator("tbody tr").count() == 5
    with page.expect_download() as download:
        page.get_by_role("link", name="Bad lines as CSV").click()
    assert "'=HYPERLINK" in Path(download.value.path()).read_text()
    page.get_by_role("link", name="Lines that invite somebody").click()
    look("good")
    page.get_by_role("link", name="Invite these people").click()
    look("confirm")
    confirm(page, "Invite these people")
    look("running")
    while queue.run_due("worker"):
        pass
    page.get_by_role("link", name="Reload").click()
    assert page.locator("h1").inner_text() == "This file is done"
    look("done")
    assert Import.unscoped.get().created == 2
    jack = Person.unscoped.get(email="jack@acme.test")
    page.goto(f"{live_server.url}/console/people/{jack.pk}/")
    page.get_by_role("link", name="Issue an enrolment code").click()
    look("code-form")
    page.get_by_role("button", name="Look at it").click()
    look("code-confirm")
    confirm(page, "Issue an enrolment code")
    assert page.locator("code.once").inner_text().startswith("hf2.")
    look("code-once")
    page.get_by_role("link", name="I have it").click()
    assert "waits for a second person" in page.locator("table").first.inner_text()
    look("person")
    page.goto(f"{live_server.url}/console/acts/person-factors/{world.bob.pk}/")
    page.get_by_role("button", name="Look at it").click()
    confirm(page, "Propose it")
    page.goto(f"{live_server.url}/console/")
    look("overview")
    # But for the refusal that was meant.
    assert [one for one in watched.complaints if "status of 400" not in one] == []
    context.close()
