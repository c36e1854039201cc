# SPDX-License-Identifier: Apache-2.0
"""People found by their e-mail addresses, by real commands over a real server, from the invitation to a case."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cast.server import PROJECT, Installation
from tests.journeys.demo import Person, Walk


def said(who: Person, *arguments: str, stdin: str = "") -> str:
    """Run one command as a person at no terminal, and return what they would read."""
    command = [sys.executable, "-m", "holdfast.cli", "--profile", str(who.profile)]
    done = subprocess.run(
        [*command, "--passphrase-file", str(who.passphrase), *arguments],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        input=stdin,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def address_of(walk: Walk, name: str) -> str:
    return (walk.demo / "codes" / f"{name}.address").read_text()


@pytest.mark.timeout(600)
def test_people_are_named_by_their_addresses_from_the_code_to_the_case(server: Installation, tmp_path: Path) -> None:
    server.manage("demo", "--members-only", HOLDFAST_ROLE="ceremony")
    walk = Walk(server.url, server.demo)
    carol, alice, bob = walk.resident("carol"), walk.person("alice"), walk.person("bob")
    alices, bobs = address_of(walk, "alice"), address_of(walk, "bob")
    walk.enrol(alice, walk.code_of("alice"), "laptop")

    # Bob was invited and has no device: whoever writes to him is told nothing of that; whoever issues codes finds him.
    unknown = walk.holdfast(alice, "contacts", "show", bobs, expect=10)
    nobody = walk.holdfast(alice, "contacts", "show", "nobody@acme.test", expect=10)
    assert unknown["error"]["message"].replace(bobs, "…") == nobody["error"]["message"].replace("nobody@acme.test", "…")
    issued = walk.holdfast(carol, "officer", "code", bobs.upper(), "--out", str(tmp_path / "bob.code"))
    walk.enrol(bob, tmp_path / "bob.code", "desktop")
    bobs_id = walk.holdfast(bob, "doctor")["user_id"]
    assert issued["person_id"] == bobs_id

    # From his first device on everybody does, with words to compare.
    first = said(alice, "send", bobs, stdin="Hello Bob.")
    words = walk.holdfast(bob, "chain", "show")["identity_words"]
    assert f"{bobs} is {bobs_id}, your organisation's server says." in first
    assert " ".join(words) in first
    assert " ".join(words) not in said(alice, "send", bobs, stdin="And again.")
    assert [one["text"] for one in walk.holdfast(bob, "receive")["messages"]] == ["Hello Bob.", "And again."]

    # Each command that takes a person takes their address.
    number = walk.holdfast(bob, "contacts", "show", alices)["safety_number"]
    assert walk.holdfast(alice, "contacts", "verify", bobs, "--number", " ".join(number))["verified"]
    assert walk.holdfast(alice, "chain", "show", bobs)["user_id"] == bobs_id
    assert walk.holdfast(alice, "bundle", "claim", bobs)["user_id"] == bobs_id
    trusted = walk.holdfast(bob, "backup", "contacts", alices, "carol@acme.test", "--needed", "2", "--yes")
    assert len(trusted["contacts"]) == 2
    refused = walk.holdfast(
        carol, "recover", "escrow", "open", "--subject", bobs, "--purpose", "leaver", "--reason", "Asked.", expect=1
    )
    assert "in escrow" in refused["error"]["message"]

    # What the profile remembers, and how it is made to forget.
    assert walk.holdfast(alice, "contacts", "pinned")["addresses"] == [{"address": bobs, "user_id": bobs_id}]
    assert walk.holdfast(alice, "contacts", "forget", bobs, expect=8)["error"]["kind"] == "ConsentNeeded"
    walk.holdfast(alice, "contacts", "forget", bobs, "--yes")
    assert walk.holdfast(alice, "contacts", "pinned")["addresses"] == []
