# SPDX-License-Identifier: Apache-2.0
"""The client in a real browser, with the real server, when its tab, its storage or its clock fails it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Final

import pytest
from django.utils import timezone

from holdfast.client.messages import messages, prekeys
from holdfast.client.profile.account import Account
from holdfast.client.rotation import rotation
from holdfast.client.server.clock import Clock
from holdfast.core.identity.entries import Reason
from kernel import clock
from tests.soak import PART, rounds
from tests.web.faults.stopping import stop_at, wait_until_stopped
from tests.web.pages import House, Pages, Refused, Tab

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
DAY: Final = 86_400
MIB: Final = 1024 * 1024

ENROL: Final = "kept.client = await holdfast.Client.enrol(api, code, { isDevelopment: true, name: 'a browser' });"
OPEN: Final = "kept.client = await holdfast.Client.open();"
SEND_AS: Final = "kept.client.send(to, text, { messageId: unhex(id) })"
SEND: Final = "return (await kept.client.send(to, text)).isSent;"
# Everything that waits, as text, and done with.
TAKE: Final = """
const taken = [];
for (const one of await kept.client.receive()) {
  taken.push(one.text);
  await one.done();
}
return taken;
"""
MAINTAIN: Final = (
    "return (await kept.client.maintain()).map(({ item, outcome, said, wayOut }) => [item, outcome, said, wayOut]);"
)
REPORTS: Final = "return (await kept.client.reports()).map(({ kind }) => kind);"
# The clock of everything that a page reads the time of; `ahead` in seconds.
CLOCK: Final = """
(() => {
    const Right = Date;
    globalThis.ahead = 0;
    globalThis.Date = class extends Right {
        constructor(...given) { given.length ? super(...given) : super(Right.now() + ahead * 1000); }
        static now() { return Right.now() + ahead * 1000; }
    };
})()
"""


def with_clock(tab: Tab) -> Tab:
    """Let a test set the clock of this tab, after it was loaded again, by its `ahead`."""
    tab.page.add_init_script(CLOCK)
    return tab.open(tab.page.url)


def enrol(house: House, tab: Tab, name: str) -> Tab:
    tab.call(ENROL, code=house.code(name).text())
    return tab


def send(house: House, tab: Tab, to: str, text: str) -> bool:
    return bool(tab.call(SEND, to=house.id_of(to), text=text))


def reopened(pages: Pages, tab: Tab) -> Tab:
    """Open the profile in a fresh tab of the same browser."""
    fresh = pages.tab(tab)
    fresh.call(OPEN)
    return fresh


def taken(account: Account) -> list[str]:
    """Everything that waits for a Python device, as text, and done with."""
    found = messages.receive(account)
    for one in found:
        one.done()
    return [one.body.decode() for one in found]


def needing(tab: Tab) -> dict[str, str]:
    """Do what is due; return what failed and what needs the person, by its item."""
    return {
        item: f"{said} {way}" for item, outcome, said, way in tab.call(MAINTAIN) if outcome in ("failed", "needs you")
    }


@pytest.fixture
def alice(house: House, pages: Pages) -> Tab:
    return enrol(house, pages.device(), "alice")


@pytest.fixture
def bob(house: House) -> Account:
    return house.enrolled("bob")


# Tabs


def test_two_tabs_send_and_receive_at_once_and_no_key_is_used_twice(
    house: House, pages: Pages, alice: Tab, bob: Account
) -> None:
    tabs, each = {"one": alice, "two": reopened(pages, alice)}, rounds(6, 50)
    many = """
    const one = i => kept.client.send(to, `${name} ${i}`).then(({ isSent }) => isSent);
    kept.sent = Promise.all(Array.from({ length: each }, (_, i) => one(i)));
    """
    for name, tab in tabs.items():
        tab.call(many, to=house.id_of("bob"), name=name, each=each)
    for tab in tabs.values():
        assert tab.call("return kept.sent") == [True] * each
    found = taken(bob)
    for name in tabs:
        assert [text for text in found if text.startswith(name)] == [f"{name} {i}" for i in range(each)]
    assert len(found) == 2 * each
    assert messages.reports(bob) == []
    # And the other way: what came is taken by both at once, each message at least by one of them.
    for i in range(each):
        messages.send(bob, house.world.cast.people["alice"].pk.bytes, f"back {i}".encode())
    for tab in tabs.values():
        tab.call(f"kept.taken = (async () => {{ {TAKE} }})()")
    came = [tab.call("return kept.taken") for tab in tabs.values()]
    assert {text for one in came for text in one} == {f"back {i}" for i in range(each)}
    for tab in tabs.values():
        assert tab.call(REPORTS) == []
        assert tab.call(TAKE) == []
        assert needing(tab).keys() <= {"backup"}


def killed_in_a_send(house: House, pages: Pages, tab: Tab, bob: Account, moment: tuple[int, bool]) -> Tab:
    """Close a tab at a commit of a send, and go on in a fresh one: the message arrives once."""
    at, is_after = moment
    text = f"{'after' if is_after else 'before'} {at}"
    given = {"to": house.id_of("bob"), "text": text, "id": os.urandom(16).hex()}
    stop_at(tab.page, at, is_after=is_after)
    tab.call(f"void ({SEND_AS}).then(() => document.title = 'sent')", **given)
    wait_until_stopped(tab.page, "sent")
    tab.close()
    tab = reopened(pages, tab)
    assert needing(tab).keys() <= {"backup"}
    came = taken(bob)
    # Once it is kept it arrives by itself; an app that has a list of its own sends it again, and it arrives once.
    assert tab.call(f"return ({SEND_AS}).then(({{ isSent }}) => isSent)", **given) is True
    assert came + taken(bob) == [text]
    return tab


# The first message claims a bundle and begins a session in eight commits; later ones have two.
FIRST: Final = [(at, is_after) for at in range(1, 9) for is_after in (False, True)] if PART else [(3, True), (6, False)]


@pytest.mark.rounds("web-faults")
@pytest.mark.parametrize("moment", FIRST)
def test_tab_closed_at_each_commit_of_a_first_send_loses_and_repeats_nothing(
    moment: tuple[int, bool], house: House, pages: Pages, alice: Tab, bob: Account
) -> None:
    alice = killed_in_a_send(house, pages, alice, bob, moment)
    messages.send(bob, house.world.cast.people["alice"].pk.bytes, b"back")
    assert alice.call(TAKE) == ["back"]
    assert (alice.call(REPORTS), messages.reports(bob)) == ([], [])


@pytest.mark.rounds("web-faults")
def test_tab_closed_at_each_commit_of_a_later_send_loses_and_repeats_nothing(
    house: House, pages: Pages, alice: Tab, bob: Account
) -> None:
    assert send(house, alice, "bob", "first")
    assert taken(bob) == ["first"]
    for moment in [(1, False), (1, True), (2, False), (2, True)][: rounds(2, 4)]:
        alice = killed_in_a_send(house, pages, alice, bob, moment)
    assert send(house, alice, "bob", "last")
    assert taken(bob) == ["last"]
    assert (alice.call(REPORTS), messages.reports(bob)) == ([], [])


ROTATION: Final = (
    [(at, is_after) for at in range(1, 19) for is_after in (False, True)] if PART else [(5, True), (14, False)]
)


@pytest.mark.rounds("web-faults")
def test_tab_closed_at_each_commit_of_a_rotation_carries_it_on(
    house: House, pages: Pages, alice: Tab, bob: Account
) -> None:
    assert send(house, alice, "bob", "before")
    assert taken(bob) == ["before"]
    words = alice.call("return kept.client.identityWords()")
    for at, is_after in ROTATION:
        stop_at(alice.page, at, is_after=is_after)
        alice.call("void kept.client.rotate().then(() => document.title = 'rotated')")
        assert wait_until_stopped(alice.page, "rotated"), "a rotation has fewer commits than this goes through"
        alice.close()
        alice = reopened(pages, alice)
        assert needing(alice).keys() <= {"backup"}
        assert needing(alice).keys() <= {"backup"}, "carried on, and to its end"
        fresh = alice.call("return kept.client.identityWords()")
        # Before its first commit, the rotation was never begun.
        assert (fresh == words) is ((at, is_after) == (1, False))
        words = fresh
        assert len(alice.call("return kept.client.devices.all()")) == 1
        assert send(house, alice, "bob", f"after {at}")
        messages.send(bob, house.world.cast.people["alice"].pk.bytes, f"to {at}".encode())
        assert (taken(bob), alice.call(TAKE)) == ([f"after {at}"], [f"to {at}"])
    assert messages.reports(bob) == []
    assert alice.call(REPORTS) == []


# Storage


@contextmanager
def full_disk(tab: Tab, room: int) -> Iterator[None]:
    """Let the browser keep no more than so many bytes for the page."""
    session = tab.page.context.new_cdp_session(tab.page)
    session.send("Storage.overrideQuotaForOrigin", {"origin": tab.page.evaluate("origin"), "quotaSize": room})
    yield
    session.send("Storage.overrideQuotaForOrigin", {"origin": tab.page.evaluate("origin")})


def test_full_disk_sends_and_takes_nothing_until_there_is_room(house: House, pages: Pages, bob: Account) -> None:
    alice = pages.device()
    with full_disk(alice, 2 * MIB):
        enrol(house, alice, "alice")
        assert send(house, alice, "bob", "there is room")
        large = "for (let i = 0; i < 20; i++) await kept.client.send(to, '.'.repeat(900_000));"
        for _ in range(2):
            with pytest.raises(Refused, match=r"^MachineError: .*no room") as found:
                alice.call(large, to=house.id_of("bob"))
            assert "Free some space" in found.value.way_out
        kept = len(alice.call("return kept.client.unconfirmed()"))
        came = taken(bob)
        assert came[0] == "there is room"
        for _ in range(3):
            messages.send(bob, house.world.cast.people["alice"].pk.bytes, b"-" * 900_000)
        with pytest.raises(Refused, match=r"^MachineError: .*no room"):
            alice.call("await kept.client.receive()")
    assert send(house, alice, "bob", "there is room again")
    assert [len(one) for one in alice.call(TAKE)] == [900_000] * 3
    assert needing(alice).keys() <= {"backup"}
    came += taken(bob)
    # What was refused went nowhere, and what was kept arrived.
    assert (len(came), came[-1]) == (kept + 1, "there is room again")
    assert (alice.call(REPORTS), messages.reports(bob)) == ([], [])


def test_private_window_works_and_says_that_the_profile_will_go(alice: Tab) -> None:
    kept = alice.call("return kept.client.keeping()")
    assert kept["isPersistent"] is False
    assert "private window" in kept["said"]
    assert "client.backup" in kept["wayOut"]


def test_account_comes_back_by_phrase_after_the_browser_cleared_its_storage(
    house: House, pages: Pages, alice: Tab, bob: Account
) -> None:
    assert send(house, alice, "bob", "before")
    assert taken(bob) == ["before"]
    phrase = alice.call(
        """
        const phrase = await kept.client.backup.newPhrase(), words = await phrase.words();
        const answers = new Map((await kept.client.backup.questions()).map(place => [place, words[place - 1]]));
        await kept.client.backup.confirmPhrase(phrase, answers);
        return words.join(" ");
        """
    )
    session = alice.page.context.new_cdp_session(alice.page)
    session.send("Storage.clearDataForOrigin", {"origin": alice.page.evaluate("origin"), "storageTypes": "all"})
    with pytest.raises(Refused, match=r"^ProfileError: .*cleared") as found:
        send(house, alice, "bob", "lost")
    assert "Client.enrol()" in found.value.way_out
    assert "client.recover" in found.value.way_out
    with pytest.raises(Refused, match=r"^ProfileError: There is no profile") as none:
        reopened(pages, alice)
    assert "Client.enrol()" in none.value.way_out
    # As it says, in the same browser under the same name.
    enrol(house, alice, "alice")
    lost = alice.call("return (await kept.client.recover.byPhrase(phrase)).devices", phrase=phrase)
    alice.call("await kept.client.recover.finish({ lost })", lost=[one["device"] for one in lost])
    assert alice.call("return kept.client.isActive()") is True
    assert needing(alice).keys() <= {"backup"}
    assert send(house, alice, "bob", "after")
    assert taken(bob) == ["after"]
    messages.send(bob, house.world.cast.people["alice"].pk.bytes, b"welcome back")
    assert alice.call(TAKE) == ["welcome back"]


# Time


@pytest.mark.parametrize(
    "ahead", [DAY + 3600, -DAY - 3600, 23 * 3600, -23 * 3600], ids=["+25h", "-25h", "+23h", "-23h"]
)
def test_clock_wrong_by_a_day_is_named_and_costs_nothing(ahead: int, house: House, pages: Pages, bob: Account) -> None:
    alice = enrol(house, with_clock(pages.device()), "alice")
    assert send(house, alice, "bob", "before")
    alice.page.evaluate(f"ahead = {ahead}")
    if abs(ahead) <= DAY:
        # Within a day, requests are dated as the server says.
        assert send(house, alice, "bob", "while it is wrong")
    else:
        for call in ("return kept.client.receive()", "return kept.client.devices.all()"):
            with pytest.raises(Refused) as found:
                alice.call(call)
            assert "clock is" in found.value.way_out
            assert ("behind" in found.value.way_out) is (ahead < 0)
        with pytest.raises(Refused) as found:
            send(house, alice, "bob", "while it is wrong")
        assert "clock is" in found.value.way_out
    said = needing(alice)
    assert ("behind" in said["clock"]) is (ahead < 0)
    messages.send(bob, house.world.cast.people["alice"].pk.bytes, b"to a wrong clock")
    alice.page.evaluate("ahead = 0")
    assert needing(alice).keys() <= {"backup"}
    assert send(house, alice, "bob", "after")
    assert taken(bob) == ["before", *(["while it is wrong"] if abs(ahead) <= DAY else []), "after"]
    assert alice.call(TAKE) == ["to a wrong clock"]
    assert alice.call(REPORTS) == []


def sleep(monkeypatch: pytest.MonkeyPatch, seconds: int, *accounts: Account) -> None:
    """Let so much time pass for the server, its database and devices in Python: these, and those that come."""
    apart, wall, now = timedelta(seconds=seconds), time.time, timezone.now

    def later() -> float:
        return wall() + seconds

    monkeypatch.setattr(time, "time", later)
    monkeypatch.setattr(timezone, "now", lambda: now() + apart)
    monkeypatch.setattr(Clock.__init__, "__defaults__", (later,))
    for account in accounts:
        monkeypatch.setattr(account.api.clock, "_read", later)
    known = {
        "postgresql": f"SELECT clock_timestamp() + interval '{seconds} seconds'",
        "sqlite": f"SELECT strftime('%Y-%m-%dT%H:%M:%f', 'now', '+{seconds} seconds')",
    }
    monkeypatch.setattr(clock, "_NOW", known)


def test_device_that_slept_for_a_month_comes_back_by_maintain(
    house: House, pages: Pages, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = enrol(house, with_clock(pages.device()), "alice")
    bob = house.enrolled("bob")
    assert send(house, alice, "bob", "before")
    assert taken(bob) == ["before"]
    messages.send(bob, house.world.cast.people["alice"].pk.bytes, b"in the first days")
    messages.confirm(bob)
    # Others go on: the log grows, bob's keys are others, and alice's signed pre-key is out of date.
    sleep(monkeypatch, 31 * DAY, bob)
    prekeys.publish(bob)
    rotation.rotate(bob, rotation.EVERYTHING, reason=Reason.USER_REQUEST)
    for name in ("carol", "dan", "erin"):
        house.enrolled(name)
    alice.page.evaluate(f"ahead = {31 * DAY}")
    assert needing(alice).keys() <= {"backup"}
    assert needing(alice).keys() <= {"backup"}
    assert alice.call(TAKE) == ["in the first days"]
    assert send(house, alice, "bob", "after")
    messages.send(bob, house.world.cast.people["alice"].pk.bytes, b"welcome back")
    assert taken(bob) == ["after"]
    assert alice.call(TAKE) == ["welcome back"]
    assert alice.call(REPORTS) == []
    assert messages.reports(bob) == []
