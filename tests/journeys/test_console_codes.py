# SPDX-License-Identifier: Apache-2.0
"""A device enrolled by the real command with a code that somebody issued in the console, in their browser."""

from __future__ import annotations

import base64
import html
import re
import time
from pathlib import Path

import httpx2
import pytest

from holdfast.client.profile.private_files import write_private
from holdfast.core.base.secret import SecretBytes
from tenants.sign_in import totp_code
from tests.cast.server import Installation
from tests.journeys.demo import Walk


class Browser:
    """An owner or officer of the demo, signed in; each code of their authenticator is given once."""

    def __init__(self, server: Installation, name: str, http: httpx2.Client) -> None:
        rows = [line.split("\t") for line in (server.demo / "sign-in.txt").read_text().splitlines()]
        email, _, password, secret = next(row for row in rows if row[0].startswith(f"{name}@"))
        self.http, self.key, self.step = http, SecretBytes(base64.b32decode(secret)), int(time.time()) // 30
        page = self.fill_in(http.get("/console/sign-in/"), tenant="acme", email=email, password=password)
        page = self.fill_in(page, code=self.code())
        assert page.url.path == "/console/", page.text

    def code(self) -> str:
        """Wait for a step whose code was not given yet."""
        self.step += 1
        time.sleep(max(0.0, self.step * 30 - time.time()))
        return totp_code(self.key, at=time.time())

    def fill_in(self, page: httpx2.Response, **typed: str) -> httpx2.Response:
        """Send a page's form with what it carries unseen and what somebody types."""
        found = re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', page.text)
        data = {name: html.unescape(value) for name, value in found} | typed
        return self.http.post(str(page.url), data=data, headers={"referer": str(page.url)})


@pytest.mark.timeout(600)
def test_code_of_the_console_enrols_a_device_that_trusts_what_it_meets_first(
    server: Installation, tmp_path: Path
) -> None:
    server.manage("demo", "--members-only", HOLDFAST_ROLE="ceremony")
    walk = Walk(server.url, server.demo)
    with httpx2.Client(base_url=server.url, follow_redirects=True, timeout=30) as http:
        carol = Browser(server, "carol", http)
        address = (walk.demo / "codes" / "alice.address").read_text().strip()
        people = http.get("/console/people/", params={"q": address})
        (alices,) = set(re.findall(r"/console/people/([0-9a-f-]{36})/", people.text))
        page = carol.fill_in(http.get(f"/console/acts/code-issue/{alices}/"), how="shown")
        assert "trusts what it meets first" in html.unescape(page.text)
        page = carol.fill_in(page, code=carol.code())
        code = re.search(r"hf2\.[\w-]+", page.text)
        assert code, page.text
    write_private(tmp_path / "code", code[0])
    laptop = walk.person("alice-by-console")
    arguments = ("--server", server.url, "--code-file", str(tmp_path / "code"), "--name", "laptop", "--development")
    done = walk.holdfast(laptop, "enrol", *arguments)
    assert done["trust"] == "tofu"
    assert walk.holdfast(laptop, "doctor")["user_id"] == alices
    # It works once.
    assert "error" in walk.holdfast(walk.person("thief"), "enrol", *arguments, expect=4)
