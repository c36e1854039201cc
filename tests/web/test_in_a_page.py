# SPDX-License-Identifier: Apache-2.0
"""The SDK in Chromium, at an origin of its own, with the real server."""

from __future__ import annotations

import secrets
from typing import Any
from uuid import UUID

import pytest

from holdfast.client.identity import chains
from holdfast.core.base.encoding import b64u
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
        tab.call("await holdfast.Client.open('nobody')")
    assert refused.value.name == "ProfileError"
    assert "no profile called nobody" in refused.value.message
    assert "Client.enrol()" in refused.value.way_out


def test_page_of_no_listed_origin_reads_no_answer(house: House, pages: Pages, settings: Any) -> None:
    tab = pages.device()
    ask = """
        const headers = { "content-type": "application/json" }, body = JSON.stringify({ code });
        const answer = await fetch(`${api}/api/v1/devices`, { method: "POST", headers, body, credentials: "omit" });
        return answer.status;
    """
    assert tab.call(ask, code="x") == 400, "of a listed one it is sent, and what is wrong with it is read"
    settings.HOLDFAST_WEB_ORIGINS = ["http://localhost:1"]
    with pytest.raises(Refused, match="TypeError"):
        tab.call(ask, code="x")
    with pytest.raises(Refused, match="TypeError"):
        tab.call("return (await fetch(`${api}/api/v1/vault`)).status")


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


# Everything that a script of the page can read of its databases: octets and texts as they are, and each key's own
# attempt to leave.
DUMP = """
const octets = [], texts = [], keys = [];
const walk = async value => {
  if (value instanceof CryptoKey) {
    const tries = ["raw", "pkcs8", "spki", "jwk"].map(format => crypto.subtle.exportKey(format, value));
    const exported = (await Promise.allSettled(tries)).filter(one => one.status === "fulfilled").length;
    keys.push({ extractable: value.extractable, exported, type: value.type });
  } else if (value instanceof ArrayBuffer) octets.push(hex(new Uint8Array(value)));
  else if (ArrayBuffer.isView(value)) octets.push(hex(new Uint8Array(value.buffer)));
  else if (typeof value === "string") texts.push(value);
  else if (value && typeof value === "object") for (const one of Object.values(value)) await walk(one);
};
const asked = request => new Promise((resolve, reject) => {
  request.onsuccess = () => resolve(request.result);
  request.onerror = () => reject(request.error);
});
for (const { name } of await indexedDB.databases()) {
  const database = await asked(indexedDB.open(name));
  for (const store of database.objectStoreNames) {
    const opened = database.transaction(store).objectStore(store);
    for (const rows of await Promise.all([asked(opened.getAll()), asked(opened.getAllKeys())])) await walk(rows);
  }
  database.close();
}
for (const storage of [localStorage, sessionStorage]) for (const one of Object.entries(storage)) await walk(one);
return { octets, texts, keys };
"""
# The seeds and private keys that this device has, and what an app put beside them.
SECRETS = """
const { device, identitySeed, generations } = kept.account.state;
const held = [...Object.values(device), identitySeed, ...generations.map(one => one.key)];
return held.filter(one => one instanceof holdfast.SecretBytes).map(one => hex(one.reveal()));
"""


def test_no_script_of_the_page_reads_a_seed_of_an_enrolled_device(house: House, pages: Pages) -> None:
    tab = pages.device()
    house.enrol(tab, "alice")
    seeds = tab.call(SECRETS)
    assert len(seeds) >= 4
    tab.call(
        """
        const { SecureKeyStorage } = await holdfast.keyStorage();
        const storage = await SecureKeyStorage.open(), curve = { name: "ECDSA", namedCurve: "P-256" };
        const { privateKey } = await crypto.subtle.generateKey(curve, true, ["sign", "verify"]);
        const session = await crypto.subtle.generateKey({ name: "AES-GCM", length: 256 }, true, ["encrypt"]);
        kept.octets = [
          hex(new Uint8Array(await crypto.subtle.exportKey("pkcs8", privateKey))).slice(72, 136),
          hex(new Uint8Array(await crypto.subtle.exportKey("raw", session))),
        ];
        await storage.storePrivateKey("long", privateKey);
        await storage.storeSessionKey("short", session);
        kept.keys = [await storage.getPrivateKey("long"), await storage.getSessionKey("short")];
        """
    )
    for number in (0, 1):
        for form in ("raw", "pkcs8", "jwk"):
            with pytest.raises(Refused, match=r"InvalidAccessError|NotSupportedError"):
                tab.call("return crypto.subtle.exportKey(form, kept.keys[number])", form=form, number=number)
    planted = secrets.token_hex(32)
    tab.call("sessionStorage.setItem('planted', planted)", planted=planted)
    found = tab.call(DUMP)
    assert len(found["keys"]) >= 3
    assert {(key["extractable"], key["exported"]) for key in found["keys"] if key["type"] != "public"} == {(False, 0)}
    everything = "".join(found["octets"]) + "".join(found["texts"])
    assert len(everything) > 10_000
    mine = [planted, *seeds, *tab.call("return kept.octets")]
    written = [b64u(bytes.fromhex(one)) for one in mine]
    assert [one for one in [*mine, *written] if one in everything] == [planted]
