# SPDX-License-Identifier: Apache-2.0
"""The SDK in Chromium, at an origin of its own, with the real server."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from holdfast.client.identity import chains
from keys.models import Device
from tests.web.pages import House, Pages, Refused

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


def test_page_of_another_origin_enrols_and_is_found_by_python(house: House, pages: Pages) -> None:
    tab = pages.device()
    assert house.enrol(tab, "alice")
    bob = house.enrolled("bob")
    followed = chains.follow(bob, house.world.cast.people["alice"].pk.bytes, ())
    assert followed is not None
    (only,) = followed[0].devices
    listed = "const { listDevices } = await loaded('client/identity/device'); return listDevices(kept.account)"
    assert [(one["device"], one["name"]) for one in tab.call(listed)] == [(str(UUID(bytes=only)), "a browser")]
    assert tab.page.evaluate("violations") == []
    assert tab.complaints == []


def test_octets_go_both_ways_and_a_refusal_comes_out_whole(house: House, pages: Pages) -> None:
    tab = pages.device()
    assert tab.call("return hex(octets.reverse())", octets=b"abc") == b"cba".hex()
    with pytest.raises(Refused) as refused:
        tab.call("await (await loaded('client/profile/account')).openProfile('nobody')")
    assert refused.value.name == "ProfileError"
    assert "no profile called nobody" in refused.value.message
    assert "Client.enrol()" in refused.value.way_out


def test_page_of_no_listed_origin_reads_no_answer(house: House, pages: Pages, settings: Any) -> None:
    tab = pages.device()
    settings.HOLDFAST_WEB_ORIGINS = ["http://localhost:1"]
    with pytest.raises(Refused, match="Unreachable"):
        house.enrol(tab, "alice")
    assert not Device.unscoped.exists(), "the browser asks first, and is told nothing"


def test_page_may_not_let_the_browser_add_a_cookie(house: House, pages: Pages) -> None:
    tab = pages.device()
    ask = "return (await fetch(`${api}/api/v1/vault`, { credentials })).status"
    assert tab.call(ask, credentials="omit") == 401
    with pytest.raises(Refused, match="TypeError"):
        tab.call(ask, credentials="include")


def test_built_file_runs_as_it_is(house: House, pages: Pages) -> None:
    tab = pages.tab(pages.device(), "/dist/")
    assert tab.page.evaluate("Object.keys(holdfast).length") > 1
    assert tab.page.evaluate("violations") == []
