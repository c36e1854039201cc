# SPDX-License-Identifier: Apache-2.0
"""Every way to bring a device in and an account back, by the command against a running installation.

The phrase is walked in docs/quickstart.md, and escrow in the demo; here are pairing, contacts, export and password.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from holdfast.client.officers import officer, officer_keys
from holdfast.client.profile.private_files import write_private
from holdfast.core.base.encoding import b64u, label
from holdfast.core.base.secret import SecretBytes
from holdfast.core.crypto import sealing
from holdfast.core.identity.cases import Approval, ClientKind
from holdfast.core.signed.cose import Purpose, sign
from tests.cast.server import PROJECT, Installation, installation
from tests.journeys.demo import Person, Walk

PASSWORD = "a long password of alice's"
ALL = ("identity", "vault", "archive")


class Ways(Walk):
    """A walk whose people come and go by other doors than the demo's."""

    def begin(self) -> None:
        self.prepare()
        self.laptop, self.bob = self.person("alice-laptop"), self.person("bob")
        self.alice = self.enrol(self.laptop, self.code_of("alice"), "laptop")["user_id"]
        self.bob_id = self.enrol(self.bob, self.code_of("bob"), "bob's desktop")["user_id"]
        self.password = self.here / "password"
        write_private(self.password, PASSWORD)

    def new_device(self, name: str, user: str) -> Person:
        """Enrol one more device of somebody; it is pending."""
        who = self.person(name)
        # By an officer who is asked for nothing here: whoever lets a person in decides none of their cases.
        assert self.enrol(who, self.issue_code("erin", user), name)["state"] == "pending"
        return who

    def start(self, who: Person, *arguments: str) -> subprocess.Popen[str]:
        """Start a command that waits for another one."""
        command = [sys.executable, "-m", "holdfast.cli", "--json", "--profile", str(who.profile)]
        # A pipe is buffered unless the command flushes; the environment of the tests must not do that for it.
        buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
        return subprocess.Popen(
            [*command, "--passphrase-file", str(who.passphrase), *arguments],
            cwd=PROJECT,
            env=buffered,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )


@pytest.fixture(scope="module")
def running() -> Iterator[Installation]:
    with installation() as made:
        yield made


@pytest.fixture
def walk(running: Installation, monkeypatch: pytest.MonkeyPatch) -> Ways:
    for name, value in running.environment.items():
        monkeypatch.setenv(name, value)
    made = Ways(running.url, running.demo)
    made.begin()
    return made


def line_of(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, process.communicate(timeout=60)[1]
    said: dict[str, Any] = json.loads(line)
    return said


def end_of(process: subprocess.Popen[str], typed: str = "") -> dict[str, Any]:
    out, err = process.communicate(typed or None, timeout=120)
    assert process.returncode == 0, err
    said: dict[str, Any] = json.loads(out.splitlines()[-1])
    return said


@pytest.mark.timeout(600)
def test_devices_come_in_by_qr_code_and_by_digits_and_go_out_by_revocation(walk: Ways, tmp_path: Path) -> None:
    walk.holdfast(walk.laptop, "backup", "password", "--password-file", str(walk.password))

    phone = walk.new_device("alice-phone", walk.alice)
    pairing = walk.start(phone, "devices", "pair")
    shown = tmp_path / "scanned"
    write_private(shown, line_of(pairing)["text"])
    walk.holdfast(walk.laptop, "devices", "pair", "--text-file", str(shown))
    joined = end_of(pairing)
    assert joined["authenticated"] is True
    assert joined["identity_words"] == walk.holdfast(walk.laptop, "chain", "show")["identity_words"]

    tablet = walk.new_device("alice-tablet", walk.alice)
    offering = walk.start(tablet, "devices", "pair", "--digits")
    answering = walk.start(walk.laptop, "devices", "pair", "--digits", "--text-file", "-")
    digits = line_of(offering)["digits"]
    added = end_of(answering, f"{digits[:4]} {digits[4:]}\n")["device_id"]
    assert end_of(offering)["authenticated"] is False

    walk.say(walk.bob, walk.alice, "To all three of you.")
    assert [walk.hear(who, walk.bob_id) for who in (walk.laptop, phone, tablet)] == ["To all three of you."] * 3

    done = walk.holdfast(walk.laptop, "devices", "revoke", added, "--why", "lost", "--yes")
    assert done["revoked"] == [added]
    assert set(done["replaced"]) >= set(ALL)
    assert done["needs"] == ["password"]
    walk.holdfast(phone, "maintain")
    walk.say(walk.bob, walk.alice, "To the two that are left.")
    assert walk.hear(phone, walk.bob_id) == "To the two that are left."
    refused = walk.holdfast(tablet, "receive", expect=4)
    assert refused["error"]["code"] == "device-revoked"


@pytest.mark.timeout(600)
def test_contacts_bring_an_account_back_and_a_stranger_is_objected_to(walk: Ways) -> None:
    carol, dan = walk.officers["carol"], walk.officers["dan"]
    ids = {who.name: walk.holdfast(who, "doctor")["user_id"] for who in (carol, dan)}
    chosen = (walk.bob_id, ids["carol"], ids["dan"])
    walk.holdfast(walk.laptop, "backup", "contacts", *chosen, "--needed", "2", "--yes")
    for who in (walk.bob, carol, dan):
        (share,) = [one for one in walk.holdfast(who, "contacts", "held")["shares"] if one["owner"] == walk.alice]
        assert (share["needed"], share["of"], share["current"]) == (2, 3, True)

    stranger = walk.new_device("mallorys", walk.alice)
    asked = walk.holdfast(stranger, "recover", "contacts", expect=9)
    assert asked["state"] == "open"
    own = walk.holdfast(walk.laptop, "contacts", "requests")["in_your_name"]
    assert [one["request_id"] for one in own] == [asked["request_id"]]
    walk.holdfast(walk.laptop, "contacts", "veto", asked["request_id"], "--yes")
    late = walk.holdfast(
        walk.bob, "contacts", "give", asked["request_id"], "--code-heard", " ".join(asked["code"]), expect=4
    )
    assert late["error"]["status"] == 409

    shutil.rmtree(walk.laptop.profile)
    tablet = walk.new_device("alice-tablet", walk.alice)
    asked = walk.holdfast(tablet, "recover", "contacts", expect=9)
    request, code = asked["request_id"], " ".join(asked["code"])
    wrong = walk.holdfast(walk.bob, "contacts", "give", request, "--code-heard", "00000 " * 6, expect=8)
    assert wrong["error"]["kind"] == "WrongWords"
    walk.holdfast(walk.bob, "contacts", "give", request, "--code-heard", code)
    walk.holdfast(dan, "contacts", "give", request, "--code-heard", code)
    back = walk.holdfast(tablet, "recover", "contacts", "--all-lost", "--wait", "60")
    assert len(back["revoked"]) == 1
    walk.say(walk.bob, walk.alice, "You are back.")
    assert walk.hear(tablet, walk.bob_id) == "You are back."


@pytest.mark.timeout(600)
def test_export_file_and_password_bring_an_account_back(walk: Ways) -> None:
    exported = walk.here / "alice.export"
    walk.holdfast(walk.laptop, "backup", "export", "--out", str(exported), "--password-file", str(walk.password))
    assert exported.stat().st_mode & 0o077 == 0
    shutil.rmtree(walk.laptop.profile)
    tablet = walk.new_device("alice-tablet", walk.alice)
    unsaid = walk.holdfast(tablet, "recover", "import", str(exported), "--password-file", str(walk.password), expect=8)
    assert "holdfast recover finish" in unsaid["error"]["way_out"]
    assert walk.holdfast(tablet, "recover", "finish", "--all-lost")["revoked"]

    walk.holdfast(tablet, "backup", "password", "--password-file", str(walk.password))
    shutil.rmtree(tablet.profile)
    notebook = walk.new_device("alice-notebook", walk.alice)
    wrong = walk.here / "wrong"
    write_private(wrong, "some other password")
    walk.holdfast(notebook, "recover", "password", "--password-file", str(wrong), "--all-lost", expect=10)
    back = walk.holdfast(notebook, "recover", "password", "--password-file", str(walk.password), "--all-lost")
    assert [one["kind"] for one in back["needs"]] == ["password", "phrase"]
    walk.say(walk.bob, walk.alice, "You are back.")
    assert walk.hear(notebook, walk.bob_id) == "You are back."


def wrong_share(walk: Ways, who: Person) -> None:
    """Have an officer approve with another share than theirs, well sealed and signed for, as no client of ours does."""
    with walk.library(who) as account:
        view = officer.see(account, UUID(walk.case))
        keys, row = officer_keys.keys_of(account), officer_keys.own_row(account, view.policy)
        (one,) = view.deposits
        named = (view.q, one.deposit_id, row.index)
        sealed = sealing.seal(
            SecretBytes(secrets.token_bytes(32)),
            to=view.case.recipient_sealing_key,
            info=label("release-share", *named),
        )
        outer = sealing.seal(
            SecretBytes(sealed),
            to=view.policy.policy.terms.release_sealing_key,
            info=label("release-share-outer", *named),
        )
        said = Approval(
            account.header(),
            view.q,
            ((one.deposit_id, row.index, hashlib.sha256(sealed).digest()),),
            view.policy.hash,
            True,
            "Video call.",
            ClientKind.CLI,
        )
        signed = sign(said.to_payload(), purpose=Purpose.APPROVAL, key=keys.signing)
        shares = [[str(UUID(bytes=one.deposit_id)), b64u(outer)]]
        account.api.post(f"cases/{walk.case}/approvals", {"statement": b64u(signed.encode()), "shares": shares})


# As one person's act would, with the web process's key.
_SUSPEND = """
from kernel.actors import system_actor
from kernel.scope import tenant_scope
from keys import access
from tenants import services
from tenants.models import Person
alice = Person.unscoped.get(pk="{person}")
with tenant_scope(alice.tenant_id):
    for device in access.active_devices(alice.pk):
        services.suspend_credential(credential_id=device.id, actor=system_actor(alice.tenant_id, "test"))
"""


@pytest.mark.timeout(600)
def test_cases_that_end_free_the_device_and_a_wrong_share_is_replaced(walk: Ways, running: Installation) -> None:
    letter = walk.here / "letter.txt"
    letter.write_text("dear alice\n" * 1000)
    sealed = walk.here / "letter.holdfast"
    walk.holdfast(walk.laptop, "archive", "encrypt", str(letter), "--out", str(sealed))
    walk.holdfast(walk.laptop, "escrow", "deposit", "--yes")

    # Somebody asks in alice's name, and alice forbids it: made when the signed log shows it, also on a device that one
    # person has suspended.
    running.manage("shell", "-c", _SUSPEND.format(person=walk.alice), HOLDFAST_ROLE="web")
    assert walk.holdfast(walk.laptop, "devices", "list", expect=4)["error"]["code"] == "access-suspended"
    stranger = walk.new_device("mallorys", walk.alice)
    asked = walk.holdfast(stranger, "recover", "escrow", "open", "--reason", "Lost.")["case_id"]
    vetoed = walk.holdfast(
        walk.laptop, "recover", "escrow", "veto", asked, "--reason", "Not me.", "--wait", "60", "--yes"
    )
    assert (vetoed["state"], isinstance(vetoed["log_index"], int)) == ("vetoed", True)
    assert walk.holdfast(stranger, "recover", "escrow", "status")["ended"]

    # An officer denies what alice asks; the same device asks again.
    shutil.rmtree(walk.laptop.profile)
    tablet = walk.new_device("alice-tablet", walk.alice)
    denied = walk.holdfast(tablet, "recover", "escrow", "open", "--reason", "Lost.")["case_id"]
    walk.holdfast(walk.officers["carol"], "officer", "deny", denied, "--reason", "I could not reach alice.")
    status = walk.holdfast(tablet, "recover", "escrow", "status")
    assert (status["state"], "denied it" in status["ended"]) == ("denied", True)
    opened = walk.holdfast(tablet, "recover", "escrow", "open", "--reason", "Lost. Call me at home.")
    assert opened["case_id"] != denied
    walk.case, walk.case_words = opened["case_id"], opened["recipient_words"]

    wrong_share(walk, walk.officers["carol"])
    walk.approve("dan")
    found = walk.holdfast(tablet, "recover", "escrow", "collect", "--wait", "0", expect=9)
    while "Too few right shares" not in found["error"]["message"]:
        found = walk.holdfast(tablet, "recover", "escrow", "collect", "--wait", "0", expect=9)
    waits = walk.holdfast(tablet, "recover", "escrow", "status")
    assert (waits["state"], "too few right shares" in waits["waiting_for"]) == ("awaiting-share", True)
    # The share is void, and not the officer.
    walk.approve("carol")
    back = walk.holdfast(tablet, "recover", "escrow", "collect", "--wait", "60")
    assert (len(back["generations"]), back["blamed"]) == (1, [])
    walk.holdfast(tablet, "archive", "decrypt", str(sealed), "--out", str(walk.here / "back.txt"))
    assert (walk.here / "back.txt").read_bytes() == letter.read_bytes()
