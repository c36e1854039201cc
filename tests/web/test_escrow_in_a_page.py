# SPDX-License-Identifier: Apache-2.0
"""Escrow in Chromium with the real server: a deposit, its receipt, officers' approvals, a release, a new beginning."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest

from holdfast.client.identity import chains
from holdfast.client.officers import hearing, officer, section
from holdfast.client.officers.officer import CaseView
from holdfast.client.profile.account import Account
from holdfast.client.profile.state import OfficerKeys
from holdfast.client.vault import pairing, vault
from holdfast.core.identity.policy import ApproveWith
from tests.cast.world import World
from tests.web.pages import House, Pages, Refused, Tab

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def world(found: Callable[..., World]) -> World:
    """Officers signed for it that decisions may come from a page."""
    return found(approve_with=ApproveWith.ANY)


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

PAIRING_TEXT = """
const { request } = await loaded("client/vault/pairing"), { pairingText } = await loaded("core/vault/pairing");
return pairingText(await request(kept.account));
"""
PAIRED = """
await (await loaded("client/vault/pairing")).complete(kept.account);
return (await loaded("client/officers/section")).takeGiven(kept.account);
"""
# The person reads the words at these places out; the page never shows them.
APPROVE = """
const officer = await loaded("client/officers/officer");
kept.view = await officer.see(kept.account, id);
const places = await officer.placesFor(kept.account, kept.view);
const heard = new Map(places.map(place => [place, words[place - 1]])), identityCheck = "Saw them at the door.";
const wrong = new Map(places.map(place => [place, "zebra"])), { name } = await officer
  .approve(kept.account, kept.view, { heard: wrong, identityCheck }).catch(error => error);
return [places, name, (await officer.approve(kept.account, kept.view, { heard, identityCheck })).approvals];
"""
ATTEST = """
const officer = await loaded("client/officers/officer");
const proposal = await officer.proposed(kept.account, kept.view);
const places = await officer.placesOfProposal(kept.account, proposal);
await officer.attest(kept.account, kept.view, proposal, { heard: new Map(places.map(at => [at, words[at - 1]])) });
"""
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


def officer_in_a_page(house: House, pages: Pages, name: str) -> tuple[Tab, Account]:
    """Return a page of an officer's, and their first device, which brought it in and gave it their section's key."""
    laptop, tab = as_officer(house, name), pages.device()
    assert laptop.state.officer is not None
    vault.save(laptop)
    section.begin(laptop)
    section.save(laptop, [laptop.state.officer])
    assert not house.enrol(tab, name)
    text = tab.call(PAIRING_TEXT)
    pairing.accept(laptop, text, with_officers_keys=True)
    assert tab.call(PAIRED) == 1
    return tab, laptop


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


def test_person_who_lost_every_device_gets_it_all_back_by_an_officer_in_python_and_one_in_a_page(
    house: House, pages: Pages
) -> None:
    laptop, record = deposited(house, pages)
    phone = pages.device()
    assert not house.enrol(phone, "alice"), "no device brings it in"
    with pytest.raises(Refused, match="ProfileError"):
        phone.call(READ, record=record)
    asked = {"reason": "Lost both devices.", "subject": house.id_of("alice")}
    stopped = phone.call(OPEN, **asked)
    house.world.work()
    # Somebody who still has a device stops it, and sees in the log that it is stopped.
    assert laptop.call(VETO, id=stopped["caseId"]) == ""
    with pytest.raises(Refused, match="NotPossible: The case has ended: vetoed"):
        phone.call(COLLECT)
    opened = phone.call(OPEN, **asked)
    house.world.work()
    carol, view = approve(house, "carol", opened)
    dan, first = officer_in_a_page(house, pages, "dan")
    places = [*hearing.places(first, tuple(opened["words"]))]
    assert dan.call(APPROVE, id=opened["caseId"], words=opened["words"]) == [places, "WrongWords", 2]
    house.world.tick()
    got = phone.call(COLLECT)
    assert (got["generations"], got["blamed"]) == ([1], [])
    assert phone.call(READ, record=record) == LETTER
    proposed = officer.proposal(carol, view)
    officer.attest(carol, view, proposed, heard=heard(carol, got["words"]))
    dan.call(ATTEST, words=got["words"])
    assert phone.call(FINISH, password="a password of my own") == 2
    state = chains.follow(house.enrolled("bob"), UUID(house.id_of("alice")).bytes, ())
    assert state is not None
    assert len(state[0].devices) == 1
    assert phone.page.evaluate("violations") == []
