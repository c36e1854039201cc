# SPDX-License-Identifier: Apache-2.0
"""An owner administers by command over a real server: invites, changes a role, suspends, and is undone."""

from __future__ import annotations

import base64
import sqlite3
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from holdfast.client.profile.private_files import write_private
from holdfast.core.base.secret import SecretBytes
from tenants.sign_in import totp_code
from tests.cast.server import Installation
from tests.journeys.demo import Person, Walk

pytestmark = pytest.mark.timeout(900)


@dataclass
class Owner:
    """Somebody with a device and an authenticator."""

    server: Installation
    walk: Walk
    who: Person
    key: SecretBytes

    def code(self) -> Path:
        """Write the present code into a file, unspent: as if half a minute had gone by since the one before."""
        with closing(sqlite3.connect(self.server.state_dir / "holdfast.sqlite3", isolation_level=None)) as database:
            database.execute(
                "UPDATE tenants_authenticator SET last_t = -1, throttling_failure_count = 0,"
                " throttling_failure_timestamp = NULL"
            )
            database.execute("DELETE FROM tenants_ratewindow WHERE key LIKE 'totp:%'")
        path = self.who.profile / "code"
        write_private(path, totp_code(self.key, at=time.time()), replaces=True)
        return path

    def org(self, *arguments: str, expect: int = 0) -> dict[str, Any]:
        return self.walk.holdfast(self.who, "org", *arguments, expect=expect)

    def do(self, *arguments: str, expect: int = 0) -> dict[str, Any]:
        return self.org(*arguments, "--code-file", str(self.code()), expect=expect)


@pytest.fixture
def walk(server: Installation) -> Walk:
    server.manage("demo", "--members-only", HOLDFAST_ROLE="ceremony")
    return Walk(server.url, server.demo)


@pytest.fixture
def olivia(walk: Walk, server: Installation) -> Owner:
    rows = [line.split("\t") for line in (walk.demo / "sign-in.txt").read_text().splitlines()]
    (secret,) = [row[3] for row in rows if row[0] == "olivia@acme.test"]
    who = walk.resident("olivia")
    walk.enrol(who, walk.code_of("olivia"), "owner's laptop")
    return Owner(server, walk, who, SecretBytes(base64.b32decode(secret)))


def test_owner_administers_by_command(walk: Walk, olivia: Owner, tmp_path: Path) -> None:
    alice, bob = walk.person("alice"), (walk.demo / "codes" / "bob.address").read_text()
    walk.enrol(alice, walk.code_of("alice"), "laptop")
    device = walk.holdfast(alice, "doctor")["device_id"]

    # A look does nothing; without a code nothing is done either.
    # Invited, or active by another walk against the same server.
    before = _state(olivia, bob)
    looked = olivia.org("suspend", bob, "--look")
    assert (looked["done"], looked["title"].startswith("Suspend Bob")) == (False, True)
    assert olivia.org("suspend", bob, expect=8)["error"]["kind"] == "ConsentNeeded"
    assert _state(olivia, bob) == before

    # Invited: the link goes into a file of one's own, and into nothing that is printed.
    link = tmp_path / "link"
    address = f"ivy-{walk.here.name}@acme.test"
    invited = olivia.do("invite", address, "--name", "Ivy Lee", "--role", "member", "--shown", "--out", str(link))
    assert invited["once_file"] == str(link)
    assert "/console/invitation/" in link.read_text()
    assert link.stat().st_mode & 0o777 == 0o600
    assert link.read_text().strip() not in str(invited)
    refused = olivia.org("invite", address, "--name", "Ivy Lee", "--out", str(link), expect=10)
    assert "exists already" in refused["error"]["message"]
    again = olivia.org("invite", address, "--name", "Ivy Lee", "--look", expect=4)
    assert [one["field"] for one in again["error"]["fields"]] == ["email"]

    # Found by their address in every state, and changed.
    assert _state(olivia, address) == "invited"
    changed = olivia.do("role", address, "auditor")
    assert "auditor" in changed["text"]
    assert changed["undo"] == "Change the role back to member."
    assert [one["role"] for one in olivia.org("people", "--search", address)["people"]] == ["auditor"]
    used = olivia.org("rename", address, "Ivy", "--code-file", str(olivia.who.profile / "code"), expect=4)
    assert used["error"]["code"] == "step-up-refused", "a code works once"

    # Suspended, by the generic command as by its own, and back.
    olivia.do("suspend", address)
    assert _state(olivia, address) == "suspended"
    olivia.do("act", "person-resume", address)
    assert _state(olivia, address) == "invited"

    # Each act that the server lists can at least be looked at by its name, without this command knowing it.
    (leaving,) = [one for one in olivia.org("acts")["acts"] if one["name"] == "person-leave"]
    assert leaving["kind"] == "person"
    left = olivia.org("act", "person-leave", address, "--look")
    assert (left["act"], left["done"]) == ("person-leave", False)

    olivia.do("device", "suspend", device)
    assert walk.holdfast(alice, "contacts", "show", "carol@acme.test", expect=4)["error"]["status"] == 401
    olivia.do("device", "resume", device)
    walk.holdfast(alice, "contacts", "show", "carol@acme.test")

    # Of two persons: it waits, is seen by the others, and is taken back.
    waits = olivia.do("reset-sign-in", "otto@acme.test")
    assert waits["done"] is False
    (listed,) = olivia.org("pending")["pending"]
    assert (listed["id"], listed["act"]) == (waits["pending_id"], "person-factors")
    spent = ("--code-file", str(olivia.who.profile / "code"))
    own = olivia.org("confirm", waits["pending_id"], *spent, expect=4)
    assert own["error"]["code"] == "not-a-second-person"
    olivia.org("withdraw", waits["pending_id"])
    assert olivia.org("pending")["pending"] == []

    # A file of people: its bad lines first, then the code, then the worker.
    file = tmp_path / "people.csv"
    file.write_text(f"name,email,role\nJo,jo-{walk.here.name}@acme.test,member\nNobody,no address,member\n")
    read = olivia.org("import", str(file), "--look")
    assert (read["good"], [one["line"] for one in read["bad_lines"]]) == (1, [3])
    begun = olivia.do("import", str(file))
    done = olivia.org("import", "--status", begun["import_id"], "--wait", "60")
    assert (done["state"], done["created"]) == ("done", 1)
    assert _state(olivia, f"jo-{walk.here.name}@acme.test") == "invited"

    # Whoever may not is told so, by the server.
    assert walk.holdfast(alice, "org", "people", expect=4)["error"]["code"] == "denied"
    assert walk.holdfast(alice, "org", "suspend", device, "--look", expect=4)["error"]["code"] == "denied"


def _state(owner: Owner, address: str) -> str:
    (found,) = owner.org("people", "--search", address)["people"]
    return str(found["state"])
