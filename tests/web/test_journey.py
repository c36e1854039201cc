# SPDX-License-Identifier: Apache-2.0
"""People in browsers and people in Python at one real server, from the first code to the last device lost.

What an app does: `Client` and nothing below it, in Chromium on one side and in Python on the other.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest

from holdfast.client.client import Client
from holdfast.client.maintenance import Outcome
from tests.web.pages import House, Pages, Refused, Tab

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

PASSWORD = "a long password of alice's"
ENROL = """
    kept.client = await holdfast.Client.enrol(api, code, { isDevelopment: true, ...options });
    return kept.client.isActive();
"""
SEND = "const { isSent, devices } = await kept.client.send(to, text); return [isSent, devices.length]"
# What an app does with what it has received: it keeps it, and says so.
RECEIVE = """
    const found = await kept.client.receive();
    const told = found.map(one => [one.sender, one.text, one.isCopy]);
    for (const one of found) await one.done();
    return told;
"""
SET_PHRASE = """
    const phrase = await kept.client.backup.newPhrase(), words = await phrase.words();
    const answers = new Map((await kept.client.backup.questions()).map(place => [place, words[place - 1]]));
    await kept.client.backup.confirmPhrase(phrase, answers);
    return words;
"""
MAINTAIN = "return (await kept.client.maintain()).map(({ item, outcome, said }) => [item, outcome, said])"
REOPEN = "await kept.client?.close(); kept.client = await holdfast.Client.open(); return kept.client.isActive()"


@pytest.fixture
def bob(house: House) -> Iterator[Client]:
    """A person with the Python library."""
    with contextlib.ExitStack() as held:
        yield Client(house.enrolled("bob"), held)


def enrolled(house: House, pages: Pages, name: str, **options: Any) -> Tab:
    """A browser that nobody used before, enrolled as a device of somebody."""
    tab = pages.device()
    tab.call(ENROL, code=house.code(name).text(), options={"name": "a browser", **options})
    return tab


def texts(client: Client) -> list[str]:
    """Receive in Python, and keep what came."""
    found = client.receive()
    for one in found:
        one.done()
    return [one.text for one in found]


def failed(report: list[list[str]]) -> list[list[str]]:
    """Return the lines of what `maintain` could not do."""
    return [line for line in report if line[1] == Outcome.FAILED.value]


def test_browser_and_python_write_to_each_other_and_nothing_is_lost(house: House, pages: Pages, bob: Client) -> None:
    tab, alice_id, bob_id = enrolled(house, pages, "alice"), house.id_of("alice"), house.id_of("bob")
    assert tab.call("return [kept.client.user, kept.client.enrolment.isActive]") == [alice_id, True]

    assert tab.call(SEND, to="bob@acme.test", text="Hello Bob.") == [True, 1]
    assert texts(bob) == ["Hello Bob."]
    assert bob.send("alice@acme.test", "Grüße, Alice.".encode()).is_sent
    # Read by an app that was closed before it kept it: handed out again to the next, and then no more.
    assert len(tab.call("return (await kept.client.receive()).map(one => one.text)")) == 1
    tab.open(pages.site.url)
    assert tab.call(REOPEN) is True
    assert tab.call(RECEIVE) == [[bob_id, "Grüße, Alice.", False]]
    assert tab.call(RECEIVE) == []

    number = tab.call("return kept.client.contacts.safetyNumber(who)", who="bob@acme.test")
    assert tuple(number) == bob.contacts.safety_number(alice_id)
    with pytest.raises(Refused, match="WrongWords"):
        tab.call("await kept.client.contacts.verify(who, number)", who=bob_id, number=number[::-1])
    tab.call("await kept.client.contacts.verify(who, number)", who=bob_id, number=number)
    bob.contacts.verify(alice_id, number)
    (known,) = tab.call("return (await kept.client.contacts.all()).map(one => [one.user, one.isVerified])")
    assert known[1] is True

    # Two pages with one profile, at the same time: each sees what the other did, and no message gets a key twice.
    other = pages.tab(tab)
    assert other.call(REOPEN) is True
    begin = "kept.sending = Promise.all(texts.map(text => kept.client.send(to, text))); return null"
    sent = [f"{page} {number}" for page in "ab" for number in range(4)]
    for page, prefix in ((tab, "a"), (other, "b")):
        page.call(begin, to=bob_id, texts=[one for one in sent if one.startswith(prefix)])
    for page in (tab, other):
        assert page.call("return (await kept.sending).every(one => one.isSent)")
    assert sorted(texts(bob)) == sent
    assert [line for line in bob.maintain() if line.outcome is Outcome.FAILED] == []
    assert tab.call(RECEIVE) == []
    assert other.call("return (await kept.client.unconfirmed()).length") == 0, "bob's device has confirmed them all"

    # New keys on both sides change nothing of it.
    assert tab.call("return (await kept.client.rotate()).step") is not None
    assert tab.call(SEND, to=bob_id, text="I have new keys.") == [True, 1]
    assert texts(bob) == ["I have new keys."]
    assert bob.rotate().is_done
    bob.send(alice_id, b"So have I.")
    assert other.call(RECEIVE) == [[bob_id, "So have I.", False]]
    for page in (tab, other):
        assert page.call("return (await kept.client.reports()).length") == 0
        assert failed(page.call(MAINTAIN)) == []
        assert page.call(REOPEN) is True
        assert page.complaints == []
        assert page.page.evaluate("violations") == []
    assert [line for line in bob.maintain() if line.outcome is Outcome.FAILED] == []
    assert bob.reports() == []


@pytest.mark.soak("web-journey")
def test_devices_come_in_and_an_account_comes_back_by_password_and_by_phrase(
    house: House, pages: Pages, bob: Client
) -> None:
    first = enrolled(house, pages, "alice")
    bob_id = house.id_of("bob")
    first.call(SEND, to=bob_id, text="Before anything was lost.")
    first.call("await kept.client.backup.setPassword(password)", password=PASSWORD)
    assert len(first.call(SET_PHRASE)) == 24
    state = "return (await kept.client.backup.status()).filter(door => door.isOpen).map(door => door.kind).sort()"
    assert first.call(state) == ["password", "phrase"]

    # A second browser, brought in by the first: both read what bob writes, and it reads what the first sent.
    second = enrolled(house, pages, "alice")
    assert second.call("return kept.client.isActive()") is False
    shown = second.call("return [await kept.client.device(), await kept.client.words()]")
    first.call("await kept.client.devices.approve(device, words)", device=shown[0], words=shown[1])
    second.call("await kept.client.recover.byDevice({ waitSeconds: 20 })")
    assert second.call("return kept.client.isActive()") is True
    assert len(bob.send(house.id_of("alice"), b"To both of you.").devices) == 2
    assert [tab.call(RECEIVE) for tab in (first, second)] == [[[bob_id, "To both of you.", False]]] * 2

    for tab in (first, second):
        assert failed(tab.call(MAINTAIN)) == []
    assert texts(bob)[0] == "Before anything was lost."

    # Both are lost. The password opens the vault on a third, and the account goes on with new keys.
    lost = [tab.call("return kept.client.device()") for tab in (first, second)]
    third = enrolled(house, pages, "alice")
    with pytest.raises(Refused, match="WrongPassword"):
        third.call("await kept.client.recover.byPassword('another long password')")
    opened = third.call(
        "return (await kept.client.recover.byPassword(password)).devices.map(one => one.device)", password=PASSWORD
    )
    assert sorted(opened) == sorted(lost)
    needs = third.call("return (await kept.client.recover.finish({ lost })).needs.map(one => one.kind)", lost=lost)
    assert sorted(needs) == ["password", "phrase"]
    assert third.call("return kept.client.isActive()") is True
    assert third.call(SEND, to=bob_id, text="Back again.") == [True, 1]
    assert texts(bob)[-1] == "Back again."
    with pytest.raises(Refused) as refused:
        first.call("await kept.client.receive()")
    assert refused.value.code == "device-revoked"

    # And once more by a phrase, set anew because the old one was for the keys that were lost.
    words = third.call(SET_PHRASE)
    fourth = enrolled(house, pages, "alice")
    fourth.call("await kept.client.recover.byPhrase(words)", words=" ".join(words))
    gone = third.call("return kept.client.device()")
    fourth.call("await kept.client.recover.finish({ lost: [gone] })", gone=gone)
    assert bob.send(house.id_of("alice"), b"Welcome back.").devices == (
        UUID(fourth.call("return kept.client.device()")),
    )
    assert fourth.call(RECEIVE) == [[bob_id, "Welcome back.", False]]
    assert failed(fourth.call(MAINTAIN)) == []


def test_archive_is_deposited_as_agreed_and_the_logs_are_followed(house: House, pages: Pages) -> None:
    alice = enrolled(house, pages, "alice")
    text = alice.call("return kept.client.escrow.consentText()")
    assert "Escrow of your archive keys" in text
    with pytest.raises(Refused, match="ConsentNeeded"):
        alice.call("await kept.client.escrow.deposit()")
    alice.call("await kept.client.escrow.consent({ agreed: true })")
    assert alice.call("return kept.client.escrow.deposit()") == [], "there is no archive yet"
    encrypted = """
        const parts = [];
        const sink = () => new WritableStream({ write: part => void parts.push(part) });
        await kept.client.archive.encrypt(new Blob([text]), sink());
        const sealed = new Blob(parts.splice(0));
        await kept.client.archive.decrypt(sealed, sink());
        return [(await sealed.text()).includes(text), await new Blob(parts).text()];
    """
    assert alice.call(encrypted, text="Kept for years.") == [False, "Kept for years."]
    house.work()
    assert failed(alice.call(MAINTAIN)) == []
    status = "const { consent, readable } = await kept.client.escrow.status(); return [consent, readable]"
    assert alice.call(status) == ["given", [1]]

    otto = enrolled(house, pages, "otto")
    export = """
        const { file, report } = await kept.client.audit.export({ log });
        return [report.verdict, file.size > 1000];
    """
    for log in ("audit", "keys"):
        assert otto.call(export, log=log) == ["verified", True]
    # The same file without a server, by whoever has it and the root's key.
    offline = """
        const { file } = await kept.client.audit.export();
        const { verifyExport } = await holdfast.auditor();
        return (await verifyExport(file, { trust: await kept.client.audit.rootKey() })).verdict;
    """
    assert otto.call(offline) == "verified"
    with pytest.raises(Refused) as refused:
        alice.call("await kept.client.audit.export()")
    assert refused.value.name == "Problem"
