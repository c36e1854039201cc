# SPDX-License-Identifier: Apache-2.0
"""Tabs that stop at a commit of their profile, and are closed there."""

from __future__ import annotations

from playwright.sync_api import Page

from tests.cast.server import wait_for

# Stops a page at its next commit of that number, or right after it: nothing that it would do then is done. The title
# says so, as nothing else of the page does any more.
_STOP = """
([at, isAfter]) => {
    let count = 0;
    const commit = IDBTransaction.prototype.commit, stop = () => document.title = "stopped";
    IDBTransaction.prototype.commit = function () {
        if (++count !== at) return commit.call(this);
        if (!isAfter) {
            const store = this.objectStore("head"), busy = () => store.get("version").onsuccess = busy;
            busy();
            return stop();
        }
        this.addEventListener("complete", event => (event.stopImmediatePropagation(), stop()), {capture: true});
        return commit.call(this);
    };
}
"""


def stop_at(page: Page, commit: int, *, is_after: bool) -> None:
    """Have a page stop at a commit that is to come, the first being 1: before it is on the disk, or after."""
    page.evaluate(_STOP, [commit, is_after])


def wait_until_stopped(page: Page, or_title: str = "") -> bool:
    """Return when a page has stopped, or bears another title; tells whether it has stopped."""
    wait_for(lambda: page.title() in ("stopped", or_title or "stopped"))
    return page.title() == "stopped"
