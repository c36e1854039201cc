# SPDX-License-Identifier: Apache-2.0
"""Escrow in Chromium with the real server: a deposit, its receipt, officers' approvals, a release, a new beginning."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from holdfast.client.identity import chains
from holdfast.client.officers import hearing, officer
from holdfast.client.officers.officer import CaseView
from holdfast.client.profile.account import Account
from holdfast.client.profile.state import OfficerKeys
from tests.web.pages import House, Pages, Refused, Tab

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

LETTER = "dear bob\n" * 9000
# Encrypts a letter, and keeps its record in `kept`: a file leaves the page as hex.
DEPOSIT = """
const archive = await loaded("client/escrow/archive"), escrow = await loaded("client/escrow/escrow");
const { Collected } = await loaded("client/escrow/whole_file");
const written = new Collected();
await archive.encryptFile(kept.account, new Blob([letter]), written.target);
await escrow.consent(kept.account);
const deposited = (await escrow.depositMissing(kept.account)).map(one => one.number);
return { deposited, record: hex(new Uint8Array(await written.blob.arrayBuffer())) };
"""
STATUS = """
const { status } = await loaded("client/escrow/escrow");
const { consent, readable, withoutReceipt, foreignOnServer } = await status(kept.account);
return { consent, readable, withoutReceipt, foreignOnServer };
"""
OPEN = """
const { openCase } = await loaded("client/recovery/by_case"), { uuidBytes } = await loaded("core/base/uuids");
const { caseId, words } = await openCase(kept.account, { reason, purpose: "device-loss", subject: uuidBytes(subject) });
return { caseId, words };
"""
COLLECT = """
const { collect } = await loaded("client/recovery/by_case");
const { generations, words, blamed } = await collect(kept.account);
return { generations, words, blamed };
"""
READ = """
const { decryptFile } = await loaded("client/escrow/archive");
const { Collected } = await loaded("client/escrow/whole_file");
const opened = new Collected();
await decryptFile(kept.account, new Blob([unhex(record)]), opened.target);
return await opened.blob.text();
"""
FINISH = "return (await (await loaded('client/recovery/by_case')).finish(kept.account, { password })).generation"

VETO = """
const { veto } = await loaded("client/recovery/vetoes");
return (await veto(kept.account, id, { reason: "That is not me." })).whyNot;
"""


def as_officer(house: House, name: str) -> Account:
    """Return an officer's device, with the keys that the policy names."""
    account, founder = house.enrolled(name), house.world.founders[name]
    account.state.officer = OfficerKeys(founder.signing_key.seed(), founder.sealing_key.seed())
    account.save()
    return account


def heard(account: Account, words: Any) -> dict[int, str]:
    """What the officer hears from the person: words that are read out from the person's own screen."""
    return {place: words[place - 1] for place in hearing.places(account, tuple(words))}


def approve(house: House, name: str, opened: dict[str, Any]) -> tuple[Account, CaseView]:
    account = as_officer(house, name)
    view = officer.see(account, UUID(opened["caseId"]))
    officer.approve(account, view, heard=heard(account, opened["words"]), identity_check="Called them at home.")
    return account, view


def deposited(house: House, pages: Pages) -> tuple[Tab, str]:
    """Return a page of alice's whose archive key is in escrow, and the record of her letter."""
    laptop = pages.device()
    assert house.enrol(laptop, "alice")
    made = laptop.call(DEPOSIT, letter=LETTER)
    assert made["deposited"] == [1]
    assert laptop.call(STATUS)["withoutReceipt"] == [1]
    house.world.tick()
    standing = {"consent": "given", "readable": [1], "withoutReceipt": [], "foreignOnServer": []}
    assert laptop.call(STATUS) == standing
    return laptop, made["record"]


def test_person_who_lost_every_device_gets_it_all_back_in_a_page_by_officers_in_python(
    house: House, pages: Pages
) -> None:
    _, record = deposited(house, pages)
    phone = pages.device()
    assert not house.enrol(phone, "alice"), "no device brings it in"
    with pytest.raises(Refused, match="ProfileError"):
        phone.call(READ, record=record)
    opened = phone.call(OPEN, reason="Lost both devices.", subject=house.id_of("alice"))
    house.world.work()
    officers = [approve(house, name, opened) for name in ("carol", "dan")]
    house.world.tick()
    got = phone.call(COLLECT)
    assert (got["generations"], got["blamed"]) == ([1], [])
    assert phone.call(READ, record=record) == LETTER
    for account, view in officers:
        proposed = officer.proposal(account, view)
        officer.attest(account, view, proposed, heard=heard(account, got["words"]))
    assert phone.call(FINISH, password="a password of my own") == 2
    state = chains.follow(house.enrolled("bob"), UUID(house.id_of("alice")).bytes, ())
    assert state is not None
    assert len(state[0].devices) == 1
    assert phone.page.evaluate("violations") == []


def test_person_in_a_page_stops_a_case_that_is_none_of_theirs(house: House, pages: Pages) -> None:
    laptop, _ = deposited(house, pages)
    thief = pages.device()
    house.enrol(thief, "alice")
    opened = thief.call(OPEN, reason="Lost both devices.", subject=house.id_of("alice"))
    house.world.work()
    assert laptop.call(VETO, id=opened["caseId"]) == "", "the log shows it"
    with pytest.raises(Refused, match="NotPossible: The case has ended: vetoed"):
        thief.call(COLLECT)
