# SPDX-License-Identifier: Apache-2.0
"""The offline verifier as an auditor has it: one file on a disk, in a browser without a network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, expect

from tests.cast.chromium import WIDE, Watched

SECONDS = 60


@dataclass
class Verifier:
    """The page, and what it did that it must not: complaints, and requests for anything but itself."""

    page: Page
    watched: Watched
    requests: list[str] = field(default_factory=list)

    def verify(self, file: Path, trust: str | None = None, saved: Sequence[str] = ()) -> None:
        """Give a file, and see the verdict on it, and that the page has done nothing wrong until then."""
        self.begin(file, trust, saved)
        expect(self.page.locator("#verdict")).to_be_visible(timeout=SECONDS * 1000)
        assert self.wrongs() == []

    def begin(self, file: Path, trust: str | None = None, saved: Sequence[str] = ()) -> None:
        """Give a file, and push the button."""
        self.page.get_by_label("Exported log").set_input_files(str(file))
        self.page.get_by_label("Key that you trust").fill(trust or "")
        self.page.get_by_label("Heads that you saved earlier").fill("".join(saved))
        self.page.get_by_role("button", name="Verify").click()

    @property
    def word(self) -> str:
        return self.page.locator(".verdict-word").inner_text()

    @property
    def reason(self) -> str:
        return (self.page.locator(".verdict-reason bdi").text_content() or "").replace(
            "under “Key that you trust”", "with --trust"
        )

    def fact(self, name: str, within: str = "#verdict") -> str:
        """Return what stands beside a name, "" where it does not stand there."""
        found = self.page.locator(f"{within} .facts > div").filter(
            has=self.page.locator("dt").get_by_text(name, exact=True)
        )
        return (found.first.locator("dd").text_content() or "") if found.count() else ""

    @property
    def entry(self) -> list[Any] | None:
        """The first entry that is wrong, as the vectors have it."""
        if not self.fact("Reason"):
            return None
        known = [self.fact(name).replace("unreadable", "") for name in ("Id", "Tag")]
        return [int(self.fact("Index")), *known, self.fact("Reason")]

    def wrongs(self) -> list[str]:
        """Return everything that the page must not have done."""
        return [*self.watched.complaints, *self.page.evaluate("window.violations"), *self.requests]

    def rows(self, count: int) -> list[str]:
        """Wait for so many entries and return their texts."""
        expect(self.page.locator("#rows > li")).to_have_count(count)
        assert self.wrongs() == []
        return self.page.locator("#rows > li").all_inner_texts()


@contextmanager
def opened(browser: Browser, path: Path, **options: Any) -> Iterator[Verifier]:
    """Open the page from the disk, in a browser that has no network."""
    context = browser.new_context(**{"offline": True, "viewport": WIDE, **options})
    page = context.new_page()
    verifier = Verifier(page, Watched.of(page))
    address = path.as_uri()
    page.on(
        "request",
        lambda one: None if one.url == address or one.url.startswith("blob:") else verifier.requests.append(one.url),
    )
    page.goto(address)
    yield verifier
    context.close()
