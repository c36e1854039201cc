# SPDX-License-Identifier: Apache-2.0
"""A profile in a real browser: two tabs, a killed one, a full disk, a private window, cleared data, an old worker."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext

from tests.cast.chromium import ARGUMENTS, EXECUTABLE
from tests.web.faults.acting import Acting, kill
from tests.web.faults.stopping import stop_at, wait_until_stopped
from tests.web.pages import Refused

pytestmark = pytest.mark.browser
MIB = 1024 * 1024


@pytest.fixture
def tab(context: BrowserContext, acts: str) -> Acting:
    return Acting.open(context, acts)


def cdp(tab: Acting, method: str, **given: Any) -> Any:
    return tab.page.context.new_cdp_session(tab.page).send(method, given)


def origin(tab: Acting) -> str:
    return str(tab.page.evaluate("location.origin"))


def test_two_tabs_share_one_profile_and_no_step_is_taken_twice(tab: Acting, context: BrowserContext, acts: str) -> None:
    tab.act("create", "own")
    other = Acting.open(context, acts)
    other.act("open", "own")
    for each in (tab, other):
        each.page.evaluate("void (globalThis.steps = Promise.all(Array.from({length: 20}, () => act('count', 'own'))))")
    steps = [one["value"] for each in (tab, other) for one in each.page.evaluate("steps")]
    assert sorted(steps) == list(range(1, 41))
    for each in (tab, other):
        each.act("refresh", "own")
        assert (each.act("counter", "own"), each.act("rows", "own")) == (40, [40] * 3)


def test_tab_that_waits_for_nobody_commits_nothing_over_another(
    tab: Acting, context: BrowserContext, acts: str
) -> None:
    tab.act("create", "own")
    other = Acting.open(context, acts)
    other.act("open", "own")
    tab.act("countAlone", "own")
    for name in ("countAlone", "counter", "rows"):
        with pytest.raises(Refused, match=r"^RaceLost"):
            other.act(name, "own")
    assert (other.act("count", "own"), tab.act("refresh", "own"), tab.act("counter", "own")) == (2, True, 2)


@pytest.mark.parametrize("is_after", [False, True], ids=["before", "after"])
def test_tab_killed_at_a_commit_leaves_all_of_it_or_nothing(
    is_after: bool, tab: Acting, context: BrowserContext, acts: str
) -> None:
    tab.act("create", "own")
    tab.act("count", "own")
    stop_at(tab.page, 2, is_after=is_after)
    tab.act("count", "own")
    tab.page.evaluate("void act('count', 'own', 40).then(() => document.title = 'went on')")
    assert wait_until_stopped(tab.page, "went on")
    assert not tab.page.evaluate("new Promise(go => setTimeout(() => go(document.title !== 'stopped'), 200))")
    kill(tab.page)
    # Its lock and its connection end with it: nobody waits for a tab that is gone.
    next_tab = Acting.open(context, acts)
    next_tab.act("open", "own")
    assert next_tab.act("counter", "own") == (3 if is_after else 2)
    assert next_tab.act("rows", "own") == ([3] * 40 if is_after else [2] * 3)
    assert next_tab.act("count", "own") == (4 if is_after else 3)


def test_tab_killed_while_it_holds_the_profile_gives_it_to_the_next(
    tab: Acting, context: BrowserContext, acts: str
) -> None:
    tab.act("create", "own")
    tab.act("hold", "own")
    other = Acting.open(context, acts)
    other.act("open", "own")
    other.page.evaluate("void (globalThis.waiting = act('count', 'own'))")
    kill(tab.page)
    assert other.page.evaluate("waiting") == {"value": 1}


def test_full_disk_keeps_what_was_and_goes_on_once_there_is_room(tab: Acting) -> None:
    # Before the first write: Chromium remembers for half a minute how much room there was.
    cdp(tab, "Storage.overrideQuotaForOrigin", origin=origin(tab), quotaSize=MIB)
    tab.act("create", "own")
    tab.act("count", "own")
    with pytest.raises(Refused, match=r"^MachineError: .*no room") as found:
        tab.act("count", "own", 2, MIB)
    assert "try again" in found.value.way_out
    assert (tab.act("counter", "own"), tab.act("rows", "own")) == (1, [1] * 3)
    cdp(tab, "Storage.overrideQuotaForOrigin", origin=origin(tab))
    assert tab.act("count", "own", 2, MIB) == 2


def test_private_window_works_and_says_that_the_profile_will_go(tab: Acting, browser: Browser, acts: str) -> None:
    tab.act("account", "own")
    kept = tab.act("keeping")
    assert kept["isPersistent"] is False
    assert kept["most"] > kept["used"] >= 0
    assert "private window" in kept["said"]
    assert "client.backup" in kept["wayOut"]
    window = browser.new_context()
    with pytest.raises(Refused, match=r"^ProfileError: There is no profile"):
        Acting.open(window, acts).act("open", "own")
    window.close()


def test_browser_that_keeps_a_page_for_good_is_believed(context: BrowserContext, acts: str) -> None:
    tab = Acting.open(context, acts)
    mine = cdp(tab, "Target.getTargetInfo")["targetInfo"]["browserContextId"]
    granted = {"permissions": ["durableStorage"], "origin": origin(tab), "browserContextId": mine}
    cdp(tab, "Browser.grantPermissions", **granted)
    tab.act("account", "own")
    kept = tab.act("keeping")
    assert (kept["isPersistent"], kept["said"], kept["wayOut"]) == (True, "", "")


@pytest.mark.parametrize("what", ["indexeddb", "all"])
def test_cleared_data_is_said_with_the_way_out(what: str, tab: Acting, context: BrowserContext, acts: str) -> None:
    tab.act("create", "own")
    tab.act("count", "own")
    cdp(tab, "Storage.clearDataForOrigin", origin=origin(tab), storageTypes=what)
    for name in ("count", "counter", "refresh"):
        with pytest.raises(Refused, match=r"^ProfileError: .*cleared") as found:
            tab.act(name, "own")
        assert "Client.enrol" in found.value.way_out
        assert "client.recover" in found.value.way_out
    later = Acting.open(context, acts)
    with pytest.raises(Refused, match=r"^ProfileError: There is no profile") as none:
        later.act("open", "own")
    assert "Client.enrol" in none.value.way_out
    # A new beginning under the same name, in the page that lost it as well.
    tab.act("create", "own")
    assert tab.act("count", "own") == 1


def test_old_service_worker_refuses_a_newer_profile_and_harms_nothing(tab: Acting) -> None:
    tab.act("account", "own")
    tab.register_worker("/acts/storage.js")
    assert tab.by_worker("server", "own") == "https://keys.example"
    tab.act("renewState", "own")
    before = tab.act("dump")
    for _ in range(2):
        with pytest.raises(Refused, match=r"^UpdateNeeded") as found:
            tab.by_worker("server", "own")
    assert tab.act("dump") == before
    # And one that has it open when a newer program comes lets that in at once.
    tab.by_worker("open", "own")
    tab.act("renew", "own")
    before = tab.act("dump")
    for name in ("counter", "refresh", "count", "open", "server"):
        with pytest.raises(Refused, match=r"^UpdateNeeded") as found:
            tab.by_worker(name, "own")
        assert "newer" in found.value.way_out + found.value.message
    with pytest.raises(Refused):
        tab.by_worker("create", "own")
    assert tab.act("dump") == before
    assert "what the newer program needs" in before


def test_dump_of_a_browsers_storage_holds_no_seed_before_or_after_deletion(
    browser: Browser, acts: str, tmp_path: Path
) -> None:
    with browser.browser_type.launch_persistent_context(
        tmp_path, executable_path=EXECUTABLE, args=ARGUMENTS
    ) as context:
        tab = Acting.open(context, acts)
        seeds = [*tab.act("account", "own"), *tab.act("replaceSeeds", "own")]
        app = tab.act("appKeys")
        dumps = [tab.act("dump")]
        assert tab.act("appKeysThere") == [True, True, False]
        for name, given in (("open", ["own"]), ("rekey", ["own"]), ("close", ["own"]), ("clearAppKeys", [])):
            tab.act(name, *given)
            dumps.append(tab.act("dump"))
        assert tab.act("appKeysThere") == [False, False, False]
        tab.act("remove", "own")
        dumps.append(tab.act("dump"))
    assert not any(seed in dump for dump in dumps for seed in [*seeds, *app])
    assert re.search(r"rowKey=\[a key that is not exported\]", dumps[0])
    assert "rowKey" not in dumps[-1]
    # Nor do the browser's files hold one, old blocks included: no row was ever written in the clear.
    files = b"".join(one.read_bytes() for one in tmp_path.rglob("*") if one.is_file())
    assert len(files) > MIB // 8
    assert not any(bytes.fromhex(seed) in files for seed in seeds)
