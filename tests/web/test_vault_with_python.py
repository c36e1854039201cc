# SPDX-License-Identifier: Apache-2.0
"""The vault of a person with devices of both kinds: what a browser writes Python opens, and the other way round."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from holdfast.client.escrow import archive
from holdfast.client.identity import contacts, device
from holdfast.client.messages import letters
from holdfast.client.profile.account import Account
from holdfast.client.vault import doors, export, pairing, share_requests, trusted, vault
from holdfast.core.base.secret import SecretBytes
from holdfast.core.crypto.phrase import Phrase
from tests.cast.members import CHEAP
from tests.web.pages import House, Pages, Refused, Tab

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

PASSWORD, FILE_PASSWORD = "a password for the vault", "and another for the file"
COST = {"memoryKib": CHEAP.memory_kib, "passes": CHEAP.passes, "lanes": CHEAP.lanes}
# What tells whether a browser holds what another device does.
HOLDS = """
    const key = await kept.account.identityKey();
    return [hex(key.public.encoded), kept.account.state.generations.map(({ number }) => number)];
"""


def new_browser(house: House, pages: Pages, name: str = "alice") -> Tab:
    """One that is enrolled, and not in the account yet."""
    tab = pages.device()
    assert not house.enrol(tab, name)
    return tab


def new_laptop(house: House, name: str = "alice") -> Account:
    account = house.profile(name)
    assert not device.enrol(account, house.code(name), name="a laptop", is_development=True).is_active
    return account


def held(account: Account) -> list[object]:
    return [account.identity_key.public.encoded.hex(), [one.number for one in account.state.generations]]


def secret(text: str) -> SecretBytes:
    return SecretBytes(text.encode())


def test_doors_and_files_of_python_open_in_a_browser(house: House, pages: Pages) -> None:
    alice = house.enrolled("alice")
    archive.new_generation(alice)
    doors.set_password(alice, secret(PASSWORD), cost=CHEAP)
    phrase = doors.new_phrase(alice)
    words = phrase.words()
    doors.confirm_phrase(alice, phrase, {at: words[at - 1] for at in doors.questions()})
    file = export.write(alice, password=secret(FILE_PASSWORD), cost=CHEAP)

    tab = new_browser(house, pages)
    wrong = "const doors = await loaded('client/vault/doors'); await doors.openWithPassword(kept.account, { password })"
    with pytest.raises(Refused, match="WrongPassword"):
        tab.call(wrong, password=PASSWORD.upper())
    ways = (
        "(await loaded('client/vault/doors')).openWithPassword(kept.account, { password })",
        "(await loaded('client/vault/doors')).openWithPhrase(kept.account, await Phrase.parse(words))",
        "(await loaded('client/vault/export')).openFile(kept.account, unhex(file), { password: other })",
    )
    given = {"password": PASSWORD, "words": " ".join(words), "file": file.hex(), "other": FILE_PASSWORD}
    for way in ways:
        tab = new_browser(house, pages)
        tab.call(f"const {{ Phrase }} = await loaded('core/crypto/phrase'); await {way}; return null", **given)
        assert tab.call(HOLDS) == held(alice), way
        assert tab.page.evaluate("violations") == []


def test_doors_and_files_of_a_browser_open_in_python(house: House, pages: Pages) -> None:
    tab = pages.device()
    assert house.enrol(tab, "alice")
    words, file = tab.call(
        """
        const doors = await loaded("client/vault/doors"), archive = await loaded("client/escrow/archive");
        await archive.newGeneration(kept.account);
        await doors.setPassword(kept.account, password, { cost });
        const phrase = await doors.newPhrase(kept.account), words = await phrase.words();
        await doors.confirmPhrase(kept.account, phrase, new Map(doors.questions().map((at) => [at, words[at - 1]])));
        const file = await (await loaded("client/vault/export")).write(kept.account, { password: filePassword, cost });
        return [words, hex(file)];
        """,
        **{"password": PASSWORD, "filePassword": FILE_PASSWORD, "cost": COST},
    )
    by_password, by_phrase, by_file = (new_laptop(house) for _ in range(3))
    with pytest.raises(doors.WrongPassword):
        doors.open_with_password(by_password, password=secret(PASSWORD.upper()))
    doors.open_with_password(by_password, password=secret(PASSWORD))
    doors.open_with_phrase(by_phrase, Phrase.parse(secret(" ".join(words))))
    export.open_file(by_file, bytes.fromhex(file), password=secret(FILE_PASSWORD))
    for account in (by_password, by_phrase, by_file):
        assert held(account) == tab.call(HOLDS)


def test_devices_of_both_kinds_bring_each_other_in(house: House, pages: Pages) -> None:
    laptop = house.enrolled("alice")
    vault.save(laptop)
    shown = "const pairing = await loaded('client/vault/pairing'); "
    # By the code that the browser shows as a picture.
    tab = new_browser(house, pages)
    text = tab.call(
        f"{shown} const {{ pairingText }} = await loaded('core/vault/pairing');"
        "return pairingText(await pairing.request(kept.account))"
    )
    pairing.accept(laptop, text)
    joined = (
        f"{shown} const joined = await pairing.complete(kept.account); return [joined.isAuthenticated, joined.words]"
    )
    assert tab.call(joined) == [True, list(contacts.identity_words(laptop.chain))]
    assert tab.call(HOLDS) == held(laptop)

    # The browser brings in a second laptop by digits, and that one a second browser.
    second = new_laptop(house)
    offer = pairing.offer_code(second)
    tab.call(f"{shown} kept.answer = await pairing.answerCode(kept.account); return null")
    digits = offer.wait(0)
    assert UUID(tab.call("return kept.answer.confirm(digits)", digits=digits)).bytes == second.device.id
    assert not pairing.complete(second).is_authenticated
    assert held(second) == held(laptop)

    third = new_browser(house, pages)
    third.call(f"{shown} kept.offer = await pairing.offerCode(kept.account); return null")
    answer = pairing.answer_code(second)
    answer.confirm(third.call("return kept.offer.wait(0)"))
    assert third.call(joined)[0] is False
    assert third.call(HOLDS) == held(laptop)

    # A new vault key reaches devices of both kinds.
    tab.call(
        """
        const vault = await loaded("client/vault/vault"), { newVaultKey } = await loaded("core/vault/blob");
        await vault.beginEpoch(kept.account, { key: newVaultKey(), epoch: kept.account.state.vault.epoch + 1 });
        await (await loaded("client/vault/pairing")).sync(kept.account);
        """
    )
    letters.fetch(second)
    assert pairing.catch_up(second)
    third.call("await (await loaded('client/messages/letters')).fetch(kept.account)")
    assert third.call(f"{shown} return pairing.catchUp(kept.account)")


def test_contacts_with_a_browser_and_with_python_bring_an_account_back(
    house: House, pages: Pages, settings: Any
) -> None:
    settings.HOLDFAST_CONTACTS_DELAY_SECONDS = 0
    alice, bob, carol = pages.device(), house.enrolled("bob"), pages.device()
    assert house.enrol(alice, "alice")
    assert house.enrol(carol, "carol")
    alice.call(
        """
        const { uuidBytes } = await loaded("core/base/uuids"), trusted = await loaded("client/vault/trusted");
        await trusted.choose(kept.account, people.map(uuidBytes), { k: 2 });
        """,
        people=[house.id_of("bob"), house.id_of("carol")],
    )
    letters.fetch(bob)
    assert [one.is_current for one in trusted.take_shares(bob)] == [True]

    tablet = new_browser(house, pages)
    requests = "const requests = await loaded('client/vault/share_requests'); "
    request, code = tablet.call(
        f"{requests} const {{ requestId, code }} = await requests.openRequest(kept.account); return [requestId, code]"
    )
    share_requests.give(bob, UUID(request), code=code)
    with pytest.raises(Refused, match=r"NotYet: .*1 of 2"):
        tablet.call(f"{requests} await requests.gather(kept.account)")
    carol.call(f"{requests} await requests.give(kept.account, request, {{ code }})", request=request, code=code)
    tablet.call(f"{requests} await requests.gather(kept.account)")
    assert tablet.call(HOLDS) == alice.call(HOLDS)

    # And for a device with Python, of the shares that a browser made.
    laptop = new_laptop(house)
    asked = share_requests.open_request(laptop)
    share_requests.give(bob, asked.request_id, code=asked.code)
    given = {"request": str(asked.request_id), "code": list(asked.code)}
    carol.call(f"{requests} await requests.give(kept.account, request, {{ code }})", **given)
    assert share_requests.gather(laptop).blamed == []
    assert held(laptop) == alice.call(HOLDS)
