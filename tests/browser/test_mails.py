# SPDX-License-Identifier: Apache-2.0
"""The HTML part of a mail as a reader shows it: light, dark and 390 px wide, loading nothing, whatever a name says."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pytest
from django.db import transaction
from playwright.sync_api import Browser, Request, ViewportSize

from kernel import queue
from kernel.actors import Actor
from kernel.scope import tenant_scope
from tenants import invitations, mails
from tests.cast.chromium import NARROW, WIDE, Watched, overflow, picture
from tests.cast.mail_server import MailServer, mail_server, text_and_page
from tests.cast.tenants import Cast, build_world

pytestmark = pytest.mark.browser

FORMS: dict[str, tuple[ViewportSize, Literal["light", "dark"]]] = {
    "light": (WIDE, "light"),
    "dark": (WIDE, "dark"),
    "narrow": (NARROW, "light"),
}
HOSTILE = "<img src=x onerror=alert(1)>" + "W" * 70


@pytest.fixture
def server(settings: Any) -> Iterator[MailServer]:
    with mail_server(settings) as running:
        yield running


@pytest.fixture
def world(db: None) -> Cast:
    return build_world()


def _note(asked: list[str], request: Request) -> None:
    asked.append(request.url)


@pytest.mark.parametrize("form", FORMS)
def test_mail_reads_well_and_loads_nothing(
    form: str, world: Cast, server: MailServer, browser: Browser, tmp_path: Path
) -> None:
    who = world.olivia
    actor = Actor(who.tenant_id, "person", who.pk, person_id=who.pk, role=who.role)
    world.carol.name = HOSTILE
    world.carol.save()
    values = {"what": f"Reset the second factor of {HOSTILE}", "until": "2026-12-01 10:00 UTC", "page": "/console/"}
    with tenant_scope(world.acme.pk), transaction.atomic():
        invitations.promise(person=world.bob, actor=actor)
        mails.promise(kind="pending-act", to=world.carol, actor=actor, values=values)
        mails.promise(kind="role-changed", to=world.bob, actor=actor, values={"before": "member", "after": "officer"})
    assert queue.run_due(queue.MAIL) == 3
    size, scheme = FORMS[form]
    context = browser.new_context(viewport=size, color_scheme=scheme)
    for number, one in enumerate(server.mails):
        page = context.new_page()
        asked: list[str] = []
        page.on("request", partial(_note, asked))
        watched = Watched.of(page)
        page.set_content(text_and_page(one)[1])
        assert (asked, watched.complaints, overflow(page)) == ([], [], 0)
        assert page.locator("h1").inner_text() == one["Subject"]
        assert page.locator("img").count() == 0
        paper = page.evaluate("getComputedStyle(document.querySelector('.card')).backgroundColor")
        assert paper == ("rgb(31, 36, 43)" if scheme == "dark" else "rgb(255, 255, 255)")
        picture(page, tmp_path / f"mail-{number}-{form}.png")
    context.close()
