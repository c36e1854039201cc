# SPDX-License-Identifier: Apache-2.0
"""examples/web-chat in Chromium at a real server: two people write, one sends a file, loses the browser and comes back.

The files are served as docs/quickstart-web.md says; only the server's address is another. With HOLDFAST_PICTURES in the
environment, pictures are kept in that directory.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.accessible import findings
from tests.cast.chromium import NARROW, WIDE, Watched, overflow, picture
from tests.cast.node import PROJECT
from tests.web.pages import BUILT, House

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

EXAMPLE = PROJECT / "examples" / "web-chat"
ADDRESS = "http://127.0.0.1:8000"
# What a page that obeyed others would do: run this, show that, go there.
HOSTILE = '<img src=x onerror="document.title=\'taken\'"><a href="javascript:alert(1)">Hello</a>'
PICTURES = Path(os.environ["HOLDFAST_PICTURES"]) if "HOLDFAST_PICTURES" in os.environ else None
expect.set_options(timeout=30_000)


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def url(house: House, tmp_path: Path, settings: Any) -> Iterator[str]:
    """The example's own address, which the server lets call it."""
    page = tmp_path / "page"
    shutil.copytree(EXAMPLE, page)
    (page / "holdfast").symlink_to(BUILT)
    (page / "index.html").write_text((page / "index.html").read_text().replace(ADDRESS, house.url))
    http = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(page)))
    threading.Thread(target=http.serve_forever, args=(0.05,), daemon=True).start()
    made = f"http://127.0.0.1:{http.server_port}"
    settings.HOLDFAST_WEB_ORIGINS = [made]
    yield made
    http.shutdown()
    http.server_close()


class Person:
    """Somebody before the page, in a browser of their own."""

    def __init__(self, browser: Browser, url: str, name: str) -> None:
        self.name, self.url = name, url
        self.context = browser.new_context(viewport=WIDE)
        self.page: Page = self.context.new_page()
        self.watched = Watched.of(self.page)
        self.page.set_default_timeout(30_000)

    def enrol(self, house: House) -> None:
        self.page.goto(self.url)
        self.page.get_by_label("Enrolment code").fill(house.code(self.name).text())
        self.page.get_by_role("button", name="Begin").click()

    def look(self, what: str) -> None:
        """Hold the page against axe, wide and light, narrow and dark; in all four forms where pictures are wanted."""
        for scheme in ("light", "dark"):
            for form, size in (("wide", WIDE), ("narrow", NARROW)):
                if PICTURES is None and (scheme, form) not in (("light", "wide"), ("dark", "narrow")):
                    continue
                self.page.set_viewport_size(size)
                self.page.emulate_media(color_scheme=scheme)
                assert findings(self.page) == [], f"{what}, {form}, {scheme}"
                assert overflow(self.page) == 0, f"{what}, {form}, {scheme}"
                if PICTURES is not None:
                    picture(self.page, PICTURES / f"{what}-{form}-{scheme}.png", whole=False)
        self.page.set_viewport_size(WIDE)
        self.page.emulate_media(color_scheme="light")

    def write(self, text: str) -> None:
        self.page.get_by_label("Message", exact=True).fill(text)
        self.page.keyboard.press("Enter")

    def lines(self) -> Any:
        return self.page.get_by_role("log").get_by_role("listitem")


@pytest.mark.timeout(240)
def test_two_people_write_and_one_comes_back_by_their_phrase(
    house: House, browser: Browser, url: str, tmp_path: Path
) -> None:
    alice, bob = Person(browser, url, "alice"), Person(browser, url, "bob")
    alice.page.goto(url)
    alice.look("enrol")
    alice.enrol(house)
    bob.enrol(house)
    expect(bob.page.get_by_label("Write to")).to_be_visible()

    # Alice writes first; to bob she is somebody until he has looked her address up.
    alice.page.get_by_label("Write to").fill("bob@acme.test")
    alice.page.get_by_role("button", name="Open").click()
    alice.write("Hello Bob. Shall we move the meeting to Friday?")
    bob.page.get_by_role("button", name="somebody").click()
    expect(bob.lines()).to_contain_text(["Hello Bob. Shall we move the meeting to Friday?"])
    bob.page.get_by_label("Write to").fill("alice@acme.test")
    bob.page.get_by_role("button", name="Open").click()
    expect(bob.page.get_by_role("heading", name="alice@acme.test")).to_be_visible()
    bob.write(HOSTILE)
    expect(alice.lines().nth(1)).to_contain_text(HOSTILE)
    assert alice.page.title() == "Chat"

    # They compare, and bob sends a file.
    for one in (alice, bob):
        one.page.get_by_text("Make sure that it is them").click()
    assert alice.page.locator("#number").inner_text() == bob.page.locator("#number").inner_text() != ""
    alice.page.get_by_role("button", name="They are the same").click()
    expect(alice.page.get_by_text("You have made sure of them")).to_be_visible()
    alice.page.locator("#sure").click()
    octets = os.urandom(300_000)
    bob.page.get_by_label("File").set_input_files(
        {"name": "report <b>1</b>.bin", "mimeType": "text/html", "buffer": octets}
    )
    bob.page.get_by_role("button", name="Send").click()
    link = alice.page.get_by_role("link", name="report <b>1</b>.bin (300 kB)")
    with alice.page.expect_download() as download:
        link.click()
    download.value.save_as(tmp_path / "saved")
    assert (tmp_path / "saved").read_bytes() == octets
    alice.look("chat")

    # What was said is still there in a page that was loaded again.
    alice.page.reload()
    alice.page.get_by_role("button", name="bob@acme.test").click()
    expect(alice.lines()).to_have_count(3)

    # Her phrase; words that are not those of the paper set nothing.
    alice.page.get_by_role("button", name="Recovery phrase").click()
    expect(alice.page.get_by_role("dialog").get_by_role("listitem")).to_have_count(24)
    alice.look("phrase")
    paper = alice.page.get_by_role("dialog").get_by_role("listitem").all_inner_texts()
    alice.page.get_by_role("button", name="I have written them down").click()
    fields = alice.page.get_by_role("dialog").get_by_role("textbox")
    expect(fields).to_have_count(4)
    for at in range(4):
        fields.nth(at).fill("zebra")
    alice.page.get_by_role("button", name="Make them count").click()
    expect(alice.page.get_by_role("alert").last).to_contain_text("Not the words of this phrase")
    alice.look("phrase-asked")
    for at in range(4):
        fields.nth(at).fill(paper[int(fields.nth(at).get_attribute("name") or "") - 1])
    alice.page.get_by_role("button", name="Make them count").click()
    expect(alice.page.get_by_role("status")).to_contain_text("counts from now on")
    # The page has then saved her contacts as well, and nothing needs her any more.
    expect(alice.page.get_by_role("region", name="For you")).to_be_hidden()
    bystander = alice.watched
    alice.context.close()

    # Her browser is gone. In another one the words bring her back, and bob's conversation goes on.
    again = Person(browser, url, "alice")
    again.enrol(house)
    expect(again.page.get_by_role("heading", name="Come back")).to_be_visible()
    again.look("come-back")
    again.page.get_by_role("textbox", name="Your recovery phrase").fill(" ".join(["zebra"] * 24))
    again.page.get_by_role("button", name="Open my account").click()
    expect(again.page.get_by_role("alert").first).to_be_visible()
    again.page.get_by_role("textbox", name="Your recovery phrase").fill(" ".join(paper))
    again.page.get_by_role("button", name="Open my account").click()
    expect(again.page.get_by_role("checkbox")).to_be_checked()
    again.look("lost")
    again.page.get_by_role("button", name="Bring this browser in").click()
    expect(again.page.get_by_role("button", name="somebody")).to_be_visible()
    again.page.get_by_label("Write to").fill("bob@acme.test")
    again.page.get_by_role("button", name="Open").click()
    expect(again.page.get_by_role("heading", name="bob@acme.test")).to_be_visible()
    assert again.lines().all() == [], "what was read is on the lost device alone"
    expect(again.page.get_by_text("You have made sure of them")).to_be_visible()
    again.write("I have another browser now.")
    expect(bob.lines().last).to_contain_text("I have another browser now.")
    bob.write("Good that you are back.")
    expect(again.lines().last).to_contain_text("Good that you are back.")
    bob.look("after")
    for watched in (bystander, bob.watched, again.watched):
        # What is not there yet, such as a chain or a door, the server answers with 404, and Chromium writes that down.
        assert [one for one in watched.complaints if "status of 404" not in one] == []
    assert bob.page.evaluate("violations") == again.page.evaluate("violations") == []
    for one in (bob, again):
        one.context.close()
