# SPDX-License-Identifier: Apache-2.0
"""Messages between devices of both kinds over the real server: every suite, any order, and a tab killed at any step."""

from __future__ import annotations

import json
import random
import secrets
from typing import Any
from uuid import UUID

import httpx2
import pytest

from holdfast.client.identity import device
from holdfast.client.messages import messages, prekeys
from holdfast.client.profile import account as accounts
from holdfast.client.profile.account import Account
from holdfast.client.profile.state import State
from holdfast.client.profile.store import MemoryStore
from holdfast.client.vault import pairing
from holdfast.core.crypto.suites import Suite
from tests.soak import rounds
from tests.web.pages import House, Pages, Tab

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

# What the app of these tests has in its page: `client`, and what came, written down before it says done to it, once for
# each id. What it has said done to never comes again.
APP = """
    const receive = async () => {
        for (const one of await kept.client.receive()) {
            const { localStorage: got } = globalThis, id = hex(one.id);
            if (got.getItem(`done ${id}`) !== null) throw new Error("it came again");
            got.setItem(id, hex(one.content));
            await one.done();
            got.setItem(`done ${id}`, "");
        }
    };
    const sendAll = async (to, bodies) => {
        for (const [id, body] of bodies) {
            if (globalThis.localStorage.getItem(`sent ${id}`) !== null) continue;
            await kept.client.send(to, unhex(body), { messageId: unhex(id) });
            globalThis.localStorage.setItem(`sent ${id}`, "");
        }
    };
"""
ENROL = """
    kept.client = await holdfast.Client.enrol(api, code, { name: "a browser", suite, isDevelopment: true });
    return [await kept.client.device(), await kept.client.words(), await kept.client.isActive()];
"""
OPEN = "kept.client = await holdfast.Client.open(); return null;"
# A server that hands messages over in any order.
OPEN_SHUFFLED = """
    const shuffled = async (url, init) => {
        const answer = await globalThis.fetch(url, init);
        if (init.method !== "GET" || !new URL(url).pathname.endsWith("/messages")) return answer;
        const page = await answer.json();
        page.messages = page.messages.map((row) => [Math.random(), row]).sort(([one], [other]) => one - other);
        page.messages = page.messages.map(([, row]) => row);
        return new Response(JSON.stringify(page), { status: answer.status, headers: answer.headers });
    };
    kept.client = await holdfast.Client.open(undefined, { fetch: shuffled });
    return null;
"""
# The page can be cut before and after each request and each commit, and does nothing more from there on.
CUT = """
    let count = 0, tell;
    const cut = new Promise((resolve) => { tell = resolve; }), never = new Promise(() => {});
    const isOver = () => {
        if (kept.isThrough) return false;
        if (++count >= at) tell(true);
        return count >= at;
    };
    const { fetch } = globalThis, { commit } = IDBTransaction.prototype;
    globalThis.fetch = async (url, init) => {
        if (isOver()) return never;
        const answer = await fetch(url, init);
        return isOver() ? never : answer;
    };
    IDBTransaction.prototype.commit = function () {
        if (isOver()) return this.abort();
        commit.call(this);
        isOver();
    };
"""


def bodies_of(*bodies: bytes) -> list[list[str]]:
    """Return an app's list of what is to be sent: ids and bodies."""
    return [[secrets.token_hex(16), body.hex()] for body in bodies]


def got_by(tab: Tab) -> list[str]:
    """Return what the app in a page has written down, in hex, and see that nothing had to be reported."""
    told = tab.call("return (await kept.client.reports()).map(({ text, kind }) => [kind, text])")
    assert told == []
    rows = "return Object.entries(localStorage).filter(([key]) => !key.includes(' ')).map(([, body]) => body)"
    return sorted(tab.call(rows))


def got(account: Account) -> list[bytes]:
    """Receive and take everything, and see that nothing had to be reported."""
    found = messages.receive(account)
    for one in found:
        one.done()
    assert messages.reports(account) == []
    return [one.body for one in found]


def laptop_of(house: House, name: str, suite: Suite) -> Account:
    account = house.profile(name)
    device.enrol(account, house.code(name), name="laptop", suite=suite, is_development=True)
    prekeys.publish(account)
    return account


def browser_of(house: House, pages: Pages, name: str, suite: Suite) -> Tab:
    """Return a browser with a person's first device."""
    tab = pages.device()
    *_, is_active = tab.call(ENROL, code=house.code(name).text(), suite=suite.value)
    assert is_active
    return tab


@pytest.mark.parametrize(
    "suite",
    [
        pytest.param(one, marks=pytest.mark.rounds("web-messages"))
        if one is Suite.HYBRID_P256
        else pytest.param(one, marks=pytest.mark.soak("web-messages"))
        for one in Suite
    ],
)
def test_person_with_a_laptop_and_a_browser_has_everything_on_both(house: House, pages: Pages, suite: Suite) -> None:
    laptop, bob = laptop_of(house, "alice", suite), laptop_of(house, "bob", suite)
    messages.send(bob, laptop.user, b"before the browser")
    tab = pages.device()
    identifier, words, is_active = tab.call(ENROL, code=house.code("alice").text(), suite=suite.value)
    assert not is_active
    pairing.approve(laptop, UUID(identifier), words=tuple(words))
    tab.call("await kept.client.recover.byDevice(); return null")

    large = secrets.token_bytes(200_000)
    sent = messages.send(bob, laptop.user, large)
    assert {one.bytes for one in sent.devices} == {laptop.device.id, UUID(identifier).bytes}
    written = bodies_of(b"from the browser", secrets.token_bytes(100_000))
    tab.call(f"{APP} await receive(); await sendAll(bob, bodies); return null", bob=house.id_of("bob"), bodies=written)
    assert got_by(tab) == [large.hex()]
    assert got(bob) == [bytes.fromhex(body) for _, body in written]
    # The laptop has what came, and a copy of what the browser sent.
    assert got(laptop) == [b"before the browser", large, *(bytes.fromhex(body) for _, body in written)]
    messages.send(laptop, bob.user, b"from the laptop")
    assert got(bob) == [b"from the laptop"]
    tab.call(f"{APP} await receive(); return null")
    assert b"from the laptop".hex() in got_by(tab)
    # What everybody has is kept by nobody to be sent again.
    for account in (bob, laptop):
        messages.confirm(account)
    messages.receive(bob)
    messages.receive(laptop)
    tab.call("await kept.client.receive(); return null")
    assert tab.call("return (await kept.client.unconfirmed()).length") == 0
    messages.receive(bob)
    assert messages.unconfirmed(bob) == []
    assert tab.page.evaluate("violations") == []


class Shuffled(httpx2.HTTPTransport):
    """A server that hands messages over in any order."""

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        answer = super().handle_request(request)
        if request.method != "GET" or not request.url.path.endswith("/messages"):
            return answer
        page: dict[str, Any] = json.loads(answer.read())
        random.shuffle(page["messages"])
        return httpx2.Response(answer.status_code, json=page)


@pytest.mark.rounds("web-messages")
def test_thousand_messages_each_way_arrive_in_any_order(house: House, pages: Pages) -> None:
    each, at_once = rounds(24, 1000), rounds(12, 50)
    tab = browser_of(house, pages, "alice", Suite.HYBRID)
    tab.call("await kept.client.close(); return null")
    tab.call(OPEN_SHUFFLED)
    person = house.world.cast.people["bob"]
    bob = accounts.Account(MemoryStore(tenant=house.world.tenant_id.bytes, user=person.pk.bytes), State())
    bob.connect(house.url, transport=Shuffled())
    device.enrol(bob, house.code("bob"), name="laptop", is_development=True)
    prekeys.publish(bob)
    alice = UUID(house.id_of("alice")).bytes
    sent: list[bytes] = []
    back: list[list[str]] = []
    received: list[bytes] = []
    while len(sent) < each:
        turn = bodies_of(*(b"%d of alice" % (len(back) + at) for at in range(at_once)))
        back += turn
        tab.call(f"{APP} await sendAll(bob, bodies); return null", bob=house.id_of("bob"), bodies=turn)
        for number in range(at_once):
            body = b"%d of bob" % (len(sent) + number)
            messages.send(bob, alice, body)
        sent += [b"%d of bob" % (len(sent) + number) for number in range(at_once)]
        received += got(bob)
        tab.call(f"{APP} await receive(); return null")
    received += got(bob)
    assert sorted(received) == sorted(bytes.fromhex(body) for _, body in back)
    assert got_by(tab) == sorted(body.hex() for body in sent)
    bob.close()


@pytest.mark.rounds("web-messages")
def test_tab_killed_at_any_step_of_a_send_and_a_receive_loses_and_repeats_nothing(house: House, pages: Pages) -> None:
    """In the soak at every request and commit; the first message of a session is in web/sdk/tests/messages.test.ts."""
    tab = browser_of(house, pages, "alice", Suite.HYBRID)
    bob, alice = laptop_of(house, "bob", Suite.HYBRID), UUID(house.id_of("alice")).bytes
    to, written, sent = house.id_of("bob"), bodies_of(b"first"), [b"hello"]
    messages.send(bob, alice, b"hello")
    both = f"{APP} await receive(); await sendAll(bob, bodies); await receive()"
    tab.call(f"{both}; return null", bob=to, bodies=written)
    at, step, is_cut = 1, rounds(17, 1), True
    while is_cut:
        sent += [b"%d of bob" % at, b"large of bob %d " % at * 500]
        for body in sent[-2:]:
            messages.send(bob, alice, body)
        written += bodies_of(b"%d of alice" % at, b"large of alice %d " % at * 500)
        before, tab = tab, pages.tab(tab)
        before.close()
        tab.call(OPEN)
        act = f"const act = async () => {{ {both}; kept.isThrough = true; return false; }};"
        is_cut = tab.call(f"{act} {CUT} return Promise.race([act(), cut])", bob=to, bodies=written[-2:], at=at)
        if is_cut:
            before, tab = tab, pages.tab(tab)
            before.close()
            tab.call(OPEN)
            tab.call(f"{both}; return null", bob=to, bodies=written[-2:])
        at += step
    received = []
    for _ in range(2):
        received += got(bob)
        tab.call(f"{APP} await receive(); return null")
    assert sorted(received) == sorted(bytes.fromhex(body) for _, body in written)
    assert got_by(tab) == sorted(body.hex() for body in sent)
    messages.receive(bob)
    assert messages.unconfirmed(bob) == []
    assert tab.call("return (await kept.client.unconfirmed()).length") == 0
    assert at > 20, "there are as many steps, and more"
