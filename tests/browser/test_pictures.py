# SPDX-License-Identifier: Apache-2.0
"""The pictures of the documentation: made from pages that stand, small, and each shown somewhere. `make pictures`.

HOLDFAST_DOCS_PICTURES=1 writes them into docs/; otherwise they are made and thrown away.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, ViewportSize

from tests.browser import test_console, test_me
from tests.browser.administration import Administered, administered
from tests.browser.test_accessible import typing
from tests.cast.world import World

DOCS: Final = Path(__file__).parents[2] / "docs"
SIZE: Final[ViewportSize] = {"width": 1100, "height": 720}
MOST_OCTETS: Final = 120_000  # a page with all of them still loads at once
COLOURS: Final = 96  # what flat pages and their smoothed letters need
PICTURES: Final = (
    "console.png",
    "pictures/people.png",
    "pictures/person.png",
    "pictures/invite.png",
    "pictures/confirm.png",
    "pictures/second-person.png",
    "pictures/file.png",
    "pictures/organisation.png",
    "pictures/left.png",
)


def test_each_picture_is_small_and_shown_in_a_page() -> None:
    assert {str(path.relative_to(DOCS)) for path in DOCS.rglob("*.png")} == set(PICTURES)
    pages = "\n".join(page.read_text() for page in (*DOCS.rglob("*.md"), DOCS.parent / "README.md"))
    for name in PICTURES:
        assert (DOCS / name).stat().st_size < MOST_OCTETS, name
        assert f"({name})" in pages or f"(docs/{name})" in pages, name


@pytest.mark.browser
@pytest.mark.django_db(transaction=True)
def test_pictures_are_made_of_pages_that_stand(
    browser: Browser, world: World, live_server: Any, tmp_path: Path
) -> None:
    case, _ = world.approved("carol")
    made = administered(world)
    to = DOCS if os.environ.get("HOLDFAST_DOCS_PICTURES") else tmp_path
    officer = test_console.context_of(
        browser, live_server.url, world.cast.dan, viewport={"width": 1280, "height": 1000}
    )
    _shoot(officer.new_page(), live_server.url + f"/console/cases/{case.id}/", to / "console.png")
    owner = test_me.context_of(browser, live_server.url, world.cast.olivia, viewport=SIZE)
    page = owner.new_page()
    for name, (address, then) in _shown(made).items():
        _shoot(page, live_server.url + address, to / "pictures" / f"{name}.png", then)
    for context in (officer, owner):
        context.close()
    assert all((to / name).stat().st_size < MOST_OCTETS for name in PICTURES)


def _shown(made: Administered) -> dict[str, tuple[str, Callable[[Page], object] | None]]:
    acts = {act.name: act for act in made.acts}
    return {
        "people": (made.pages["people-busy"], None),
        "person": (made.pages["person-administered"], None),
        "invite": (acts["person-invite"].address, None),
        "confirm": (acts["person-role"].address, typing(acts["person-role"])),
        "second-person": (made.pages["pending-theirs"], None),
        "file": (made.pages["import-bad"], None),
        "organisation": (made.pages["organisation"], None),
        "left": (made.pages["person-left"], None),
    }


def _shoot(page: Page, address: str, to: Path, then: Callable[[Page], object] | None = None) -> None:
    answer = page.goto(address)
    assert answer is not None
    assert answer.status == 200, address
    if then is not None:
        then(page)
    to.parent.mkdir(parents=True, exist_ok=True)
    taken = Image.open(BytesIO(page.screenshot())).convert("RGB")
    taken.quantize(COLOURS, dither=Image.Dither.NONE).save(to, optimize=True)
