# SPDX-License-Identifier: Apache-2.0
"""The main job from end to end against a running server: what `make demo` shows and a journey test repeats.

Walks issue by issue what README promises, by the `holdfast` command and, for acts that the command itself would
refuse, by its library. Copies nothing secret; every walk gets a new alice and bob, so it can be repeated.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from rich.console import Console
from rich.markup import escape

from holdfast.client.errors import Problem
from holdfast.client.officers import officer, officer_keys
from holdfast.client.profile import account as accounts
from holdfast.client.profile.account import Account
from holdfast.client.profile.private_files import write_private
from holdfast.client.profile.store import PROFILE_FILE
from holdfast.core.base.encoding import b64u
from holdfast.core.base.secret import SecretBytes
from holdfast.core.escrow import approvals
from holdfast.core.identity.cases import ClientKind
from holdfast.core.identity.policy import Officer
from tests.cast.preloaded import Preloaded

PROJECT = Path(__file__).resolve().parents[2]
WAIT_SECONDS = "90"
# Anything that touches the network in this process ends it: the proof needs none.
NO_NETWORK = """
import sys
def refuse(event, _arguments):
    if event.startswith("socket."):
        raise SystemExit("this process may not use the network")
sys.addaudithook(refuse)
from holdfast.cli import main
main()
"""


class WalkFailed(Exception):
    """A step did not end as it should; the message says which and how."""


@dataclass
class Person:
    """One profile directory and where its passphrase is."""

    name: str
    profile: Path

    @property
    def passphrase(self) -> Path:
        return self.profile / "passphrase"


@dataclass
class Step:
    """One line of the walk, with the seconds it took."""

    title: str
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)


@dataclass
class Walk:
    """One walk: the server, the directory of its development ceremony, and where this walk keeps its own files."""

    server: str
    demo: Path
    console: Console = field(default_factory=lambda: Console(highlight=False, soft_wrap=True))
    steps: list[Step] = field(default_factory=list)
    # Ninety commands, each a process: to read their code ninety times is half of the walk.
    command: Preloaded = field(default_factory=Preloaded)

    def __post_init__(self) -> None:
        self.here = self.demo / "walks" / time.strftime("%Y%m%d-%H%M%S")
        self.here.mkdir(mode=0o700, parents=True)

    # Telling

    @contextlib.contextmanager
    def step(self, title: str) -> Iterator[Step]:
        step = Step(title)
        self.steps.append(step)
        started = time.monotonic()
        try:
            yield step
        except BaseException:
            self.console.print(f"[bold red] ✗ {len(self.steps):>2}[/]  {title}")
            raise
        step.seconds = time.monotonic() - started
        self.console.print(f"[bold green] ✓[/] {len(self.steps):>2}  {title} [dim]({step.seconds:.1f} s)[/]")
        for note in step.notes:
            self.console.print(f"        [dim]{escape(note)}[/]")

    # Doing

    def person(self, name: str) -> Person:
        """Return a profile of this walk, with a fresh passphrase."""
        made = Person(name, self.here / name)
        write_private(made.passphrase, secrets.token_urlsafe(18))
        return made

    def resident(self, name: str) -> Person:
        """Return a profile that outlives the walk: an officer's, or the auditor's."""
        made = Person(name, self.demo / "profiles" / name)
        if not made.passphrase.exists():
            write_private(made.passphrase, secrets.token_urlsafe(18))
        return made

    def holdfast(self, who: Person, *arguments: str, expect: int = 0) -> dict[str, Any]:
        """Run one `holdfast` command as a person, and return what it printed; errors have the key "error"."""
        known = ("--json", "--profile", str(who.profile), "--passphrase-file", str(who.passphrase))
        done = self.command.run(*known, *arguments)
        if done.returncode != expect:
            raise WalkFailed(
                f"{who.name}: holdfast {' '.join(arguments)} ended with {done.returncode}, not {expect}\n"
                f"{done.stdout}{done.stderr}"
            )
        text = done.stdout or done.stderr
        document: dict[str, Any] = json.loads(text.strip().splitlines()[-1])
        return document

    @contextlib.contextmanager
    def library(self, who: Person) -> Iterator[Account]:
        """Open a person's profile in this process, for what the command itself refuses to do."""
        passphrase = SecretBytes(who.passphrase.read_bytes().strip())
        with accounts.open_account(who.profile, passphrase=passphrase) as account:
            account.connect()
            yield account

    def enrol(self, who: Person, code: Path, name: str) -> dict[str, Any]:
        """Enrol by a code file, and set the used code aside."""
        done = self.holdfast(
            who, "enrol", "--server", self.server, "--code-file", str(code), "--name", name, "--development"
        )
        code.rename(code.with_suffix(".used"))
        return done

    def enrol_resident(self, who: Person) -> None:
        """Enrol somebody who outlives the walk, unless an earlier walk did."""
        if (who.profile / PROFILE_FILE).exists() and self.holdfast(who, "doctor")["device_active"]:
            return
        code = str(self.code_of(who.name))
        name = f"{who.name}'s workstation"
        self.holdfast(who, "enrol", "--server", self.server, "--code-file", code, "--name", name, "--development")

    def code_of(self, name: str) -> Path:
        return self.demo / "codes" / f"{name}.code"

    # The walk

    def run(self, *, bob_leaves: bool = True) -> None:
        """Walk every step in order. Raises WalkFailed, and Problem for a refusal that nobody expected."""
        started = time.monotonic()
        self.prepare()
        self.enrol_devices()
        self.claim_bundles()
        self.write_and_answer()
        self.rotate()
        self.deposit_and_encrypt()
        self.lose_everything()
        self.open_case()
        self.first_approval()
        self.refused_approvals()
        self.second_approval()
        self.collect()
        self.begin_again()
        self.bob_is_asked()
        if bob_leaves:
            self.bob_leaves()
            self.read_what_bob_left()
            self.account_for_it()
        self.audit()
        total = time.monotonic() - started
        self.console.print(f"\n[bold]All {len(self.steps)} steps in {total:.0f} s.[/] Files of this walk: {self.here}")

    def prepare(self) -> None:
        with self.step(f"The server at {self.server} answers"):
            self._require_server()
        self.officers = {name: self.resident(name) for name in ("carol", "dan", "erin")}
        self.otto = self.resident("otto")
        self.founding()
        self.new_members()
        with self.step("The officers carol, dan and erin, and the auditor otto, have a device each") as step:
            for who in (*self.officers.values(), self.otto):
                self.enrol_resident(who)
            step.notes.append("each enrolled by a code of their own")
            self.tenant_words = self.holdfast(self.officers["carol"], "doctor")["root_words"]
            step.notes.append(f"the tenant in eight words: {' '.join(self.tenant_words)}")

    def _require_server(self) -> None:
        try:
            with urllib.request.urlopen(f"{self.server}/readyz", timeout=10) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            pass
        raise WalkFailed(f"Nothing answers at {self.server}. In another terminal: make up")

    def founding(self) -> None:
        with self.step("Acme was founded at different desks: what its ceremonies did, signed by its root") as step:
            self._manage("ceremony", "transcript", "acme", "--out", str(self.here))
            said = (self.here / "transcript-acme.txt").read_text()
            step.notes += re.findall(r" UTC  ((?:tenant|found): .*)", said)
        with self.step("Its three officers keep their keys behind doors of their own") as step:
            for who in self.officers.values():
                doors = self.holdfast(who, "officer", "doors")["doors"]
                proven = [door["kind"] for door in doors if door["open"]]
                step.notes.append(f"{who.name}: {' and '.join(proven) or 'none yet: holdfast officer init'}")

    def _manage(self, *arguments: str) -> str:
        """Run a command of the operator's, and return what it printed."""
        done = subprocess.run(
            [sys.executable, str(PROJECT / "manage.py"), *arguments],
            cwd=PROJECT,
            env={**os.environ, "HOLDFAST_ROLE": "ceremony"},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        if done.returncode != 0:
            raise WalkFailed(f"{' '.join(arguments)} failed:\n{done.stdout}{done.stderr}")
        return done.stdout

    def new_members(self) -> None:
        with self.step("Acme has two new members, alice and bob, each with a single-use enrolment code") as step:
            step.notes += self._manage("demo", "--members-only").split("\n")[:-1]

    def enrol_devices(self) -> None:
        self.laptop, self.phone, self.bob = self.person("alice-laptop"), self.person("alice-phone"), self.person("bob")
        self.password = self.here / "alice-vault-password"
        write_private(self.password, secrets.token_urlsafe(18))
        with self.step(
            "alice enrols a laptop: identity key, device keys, signed pre-key, 100 one-time pre-keys"
        ) as step:
            done = self.enrol(self.laptop, self.code_of("alice"), "laptop")
            self.alice = done["user_id"]
            if done["root_words"] != self.tenant_words or done["trust"] != "pinned":
                raise WalkFailed("alice's laptop pinned another tenant than the officers")
            step.notes.append("the laptop verified the tenant from the pin in the code; no key left it")
            self.holdfast(self.laptop, "backup", "password", "--password-file", str(self.password))
        with self.step(
            "alice enrols a phone; the laptop approves it by eight words, and sends alice's keys over, sealed to it"
        ):
            code = self.issue_code("erin", self.alice)
            pending = self.enrol(self.phone, code, "phone")
            words = " ".join(pending["device_words"])
            self.holdfast(self.laptop, "devices", "approve", pending["device_id"], "--words", words)
            self.holdfast(self.phone, "recover", "device", "--wait", WAIT_SECONDS)
        with self.step("bob enrols a device"):
            self.bob_id = self.enrol(self.bob, self.code_of("bob"), "bob's desktop")["user_id"]

    def issue_code(self, by: str, person: str) -> Path:
        """Have an officer issue an enrolment code for somebody who needs one more device."""
        code = self.here / f"{secrets.token_hex(4)}.code"
        self.holdfast(self.officers[by], "officer", "code", person, "--out", str(code))
        return code

    def claim_bundles(self) -> None:
        with self.step(
            "bob claims a bundle of each of alice's devices and verifies chain, devices, keys and proofs"
        ) as step:
            claimed = self.holdfast(self.bob, "bundle", "claim", self.alice)
            if [one["is_last_resort"] for one in claimed["devices"]] != [False, False]:
                raise WalkFailed(f"bob expected a one-time key of two devices: {claimed}")
            self.alice_words = claimed["identity_words"]
            step.notes.append(f"alice's identity in eight words: {' '.join(self.alice_words)}")

    def write_and_answer(self) -> None:
        with self.step("alice writes to bob; the server carries what only bob's device can open") as step:
            self.say(self.laptop, self.bob_id, "Hello Bob, the file is coming.")
            step.notes.append(f"bob reads: {self.hear(self.bob, self.alice)}")
        with self.step("bob answers, and alice reads it on the laptop and on the phone") as step:
            self.say(self.bob, self.alice, "Thank you. I am waiting.")
            heard = [self.hear(who, self.bob_id) for who in (self.laptop, self.phone)]
            if heard != ["Thank you. I am waiting."] * 2:
                raise WalkFailed(f"both of alice's devices should have had bob's answer: {heard}")
            step.notes.append("one message, encrypted for each device by itself")

    def rotate(self) -> None:
        with self.step("alice replaces the identity key, and what bob writes is still read") as step:
            before = self.holdfast(self.laptop, "chain", "show")["identity_words"]
            done = self.holdfast(self.laptop, "rotate")
            if not done["done"]:
                raise WalkFailed(f"the rotation should have come to its grace period: {done}")
            self.alice_words = self.holdfast(self.laptop, "chain", "show")["identity_words"]
            if self.alice_words == before:
                raise WalkFailed("alice's identity key is still the old one")
            self.say(self.bob, self.alice, "Still there?")
            if self.hear(self.laptop, self.bob_id) != "Still there?":
                raise WalkFailed("alice's laptop should have read bob's message after the rotation")
            step.notes.append(
                f"alice's identity in eight words now: {' '.join(self.alice_words)}; bob's client followed it"
            )
        with self.step("alice's phone takes the new keys over, and reads the same message") as step:
            self.holdfast(self.phone, "maintain")
            if self.hear(self.phone, self.bob_id) != "Still there?":
                raise WalkFailed("alice's phone should have read bob's message after the rotation")
            if done["needs"] != ["password"]:
                raise WalkFailed(f"the password door should have closed with the old vault key: {done}")
            self.holdfast(self.laptop, "backup", "password", "--password-file", str(self.password))
            step.notes.append("the rotation closed the password of the vault, and alice has set it again")

    def say(self, who: Person, to: str, text: str) -> None:
        """Have a person send a message, which no command takes as an argument."""
        draft = who.profile / "draft"
        write_private(draft, text)
        if not self.holdfast(who, "send", to, "--file", str(draft))["sent"]:
            raise WalkFailed(f"{who.name}: the message was not sent")
        draft.unlink()

    def hear(self, who: Person, sender: str) -> str:
        """Have a person receive; returns the newest text of one sender."""
        found = self.holdfast(who, "receive")
        texts = [one["text"] for one in found["messages"] if one["sender"] == sender]
        if not texts:
            raise WalkFailed(f"{who.name} should have heard from {sender}: {found}")
        return str(texts[-1])

    def deposit_and_encrypt(self) -> None:
        self.letter = self.here / "letter.txt"
        shutil.copy(PROJECT / "requirements-dev.txt", self.letter)
        self.sealed = self.here / "letter.txt.holdfast"
        with self.step("alice encrypts a file from the disk under this month's archive key") as step:
            done = self.holdfast(self.laptop, "archive", "encrypt", str(self.letter), "--out", str(self.sealed))
            self.generation = done["generation"]
            step.notes.append(f"{done['size']} bytes in {done['seconds']} s, generation {self.generation}")
        with self.step("alice reads who could open it, agrees, and deposits the archive key in escrow") as step:
            done = self.holdfast(self.laptop, "escrow", "deposit", "--yes")
            self.deposit = done["deposited"][0]["deposit_id"]
            self.holdfast(self.laptop, "maintain")
            step.notes.append("half of it needs the HSM, half needs two of three officers; the server can open neither")

    def lose_everything(self) -> None:
        with self.step("alice loses laptop and phone, and has forgotten the password"):
            shutil.rmtree(self.laptop.profile)
            shutil.rmtree(self.phone.profile)
            self.password.unlink()
        self.tablet = self.person("alice-tablet")
        with self.step(
            "alice enrols a new tablet with a fresh code from erin: it is pending, and opens nothing"
        ) as step:
            done = self.enrol(self.tablet, self.issue_code("erin", self.alice), "tablet")
            if done["state"] != "pending":
                raise WalkFailed("the tablet should be pending: nobody has vouched for it")
            refused = self.holdfast(
                self.tablet, "archive", "decrypt", str(self.sealed), "--out", str(self.here / "early"), expect=6
            )
            step.notes.append(refused["error"]["message"])

    def open_case(self) -> None:
        with self.step("the tablet opens a case; it shows eight words of a key made for this case alone") as step:
            done = self.holdfast(
                self.tablet, "recover", "escrow", "open", "--reason", "Laptop and phone stolen on the train."
            )
            self.case, self.case_words = done["case_id"], done["recipient_words"]
            step.notes.append(" ".join(self.case_words))

    def approve(self, name: str) -> dict[str, Any]:
        """Have an officer approve by the command, with the three words that it asks for, as heard from alice."""
        approve = ("approve", self.case, "--yes", "--identity-check", "Video call, I know them.")
        return self.answer(name, self.case_words, *approve)

    def answer(self, name: str, words: list[str], *command: str) -> dict[str, Any]:
        """Have an officer's command ask for words at places of its own choice, and answer as alice reads them out."""
        asked = self.holdfast(self.officers[name], "officer", *command, expect=8)["error"]["places"]
        heard = [option for place in asked for option in ("--word", f"{place}={words[place - 1]}")]
        return self.holdfast(self.officers[name], "officer", *command, *heard)

    def first_approval(self) -> None:
        with self.step("carol sees the case as signed, and will not approve with a wrong word") as step:
            seen = self.holdfast(self.officers["carol"], "officer", "show", self.case)
            if seen["subject"] != self.alice or not seen["may_approve"]:
                raise WalkFailed(f"carol sees another case: {seen}")
            wrong = [option for place in seen["ask_words"] for option in ("--word", f"{place}=zebra")]
            arguments = ("officer", "approve", self.case, "--yes", "--identity-check", "E-mail.", *wrong)
            step.notes.append(self.holdfast(self.officers["carol"], *arguments, expect=8)["error"]["message"])
        with self.step(
            "carol hears three words from alice and approves; one officer's approval releases nothing"
        ) as step:
            done = self.approve("carol")
            if (done["approvals"], done["needed"]) != (1, 2):
                raise WalkFailed(f"one approval of two was expected: {done}")
            refused = self.holdfast(self.tablet, "recover", "escrow", "collect", "--wait", "2", expect=9)
            step.notes.append(refused["error"]["message"])

    def refused_approvals(self) -> None:
        with self.step("alice, subject and requester, approves the case past the client: refused") as step:
            step.notes.append(self._approve_as_nobody())
        with self.step("erin, who issued the tablet's code, approves alice's case past the client: refused") as step:
            step.notes.append(self._approve_past_the_client(self.case, "You issued the enrolment code"))
        with self.step("erin, an officer, opens a case for alice's archive and approves it too: refused") as step:
            asked = ("--purpose", "legal", "--subject", self.alice, "--deposit", self.deposit)
            step.notes.append(self._approve_own_case("You opened this case", *asked))
        with self.step("erin opens a case for erin's own archive, as its subject, and approves it: refused") as step:
            self._deposit_for_erin()
            step.notes.append(self._approve_own_case("You are the subject"))

    def _approve_as_nobody(self) -> str:
        """Send an approval signed by alice's own device, straight to the server."""
        with self.library(self.tablet) as account:
            view = officer.see(account, UUID(self.case))
            statement = approvals.deny(
                view.statement,
                policy=view.policy,
                signing_key=account.signing_key,
                header=account.header(),
                identity_check="It is me.",
                client_kind=ClientKind.CLI,
            )
            document = {"statement": b64u(statement.encode()), "shares": []}
            return self._refused(account, f"cases/{self.case}/approvals", document)

    def _deposit_for_erin(self) -> None:
        erin = self.officers["erin"]
        sealed = self.here / "erin.holdfast"
        self.holdfast(erin, "archive", "encrypt", str(self.letter), "--out", str(sealed))
        self.holdfast(erin, "escrow", "deposit", "--yes")

    def _approve_own_case(self, refusal: str, *asked: str) -> str:
        """Have erin open a case and send an approval of it, right in all but who made it, straight to the server."""
        erin = self.officers["erin"]
        opened = self.holdfast(erin, "recover", "escrow", "open", "--reason", "Curiosity.", *asked)
        answer = self._approve_past_the_client(opened["case_id"], refusal)
        self.holdfast(erin, "recover", "escrow", "cancel", "--reason", "Opened for the demonstration.")
        return answer

    def _approve_past_the_client(self, case: str, refusal: str) -> str:
        erin = self.officers["erin"]
        shown = self.holdfast(erin, "officer", "show", case)
        if shown["may_approve"]:
            raise WalkFailed("erin's own client should have told erin that erin may not approve")
        with self.library(erin) as account:
            view = officer.see(account, UUID(case))
            statement, outers = _forced_approval(account, view)
            shares = [[str(UUID(bytes=one.deposit_id)), b64u(one.outer)] for one in outers]
            document = {"statement": b64u(statement), "shares": shares}
            answer = self._refused(account, f"cases/{case}/approvals", document)
        if refusal not in answer:
            raise WalkFailed(f"another refusal was expected: {answer}")
        return answer

    def _refused(self, account: Account, path: str, document: dict[str, Any]) -> str:
        try:
            account.api.post(path, document)
        except Problem as problem:
            if problem.status in (403, 404):
                return f"{problem.status} {problem.code}: {problem}"
            raise
        raise WalkFailed("the server accepted an approval that it must refuse")

    def second_approval(self) -> None:
        with self.step("dan, the second officer, approves: the delay starts, and alice's notice is on its way") as step:
            done = self.approve("dan")
            if done["approvals"] != 2:
                raise WalkFailed(f"two approvals were expected: {done}")
            step.notes.append(f"the case is {done['state']}")

    def collect(self) -> None:
        with self.step(
            "the release process has the HSM re-wrap its half; the tablet collects and combines both"
        ) as step:
            done = self.holdfast(self.tablet, "recover", "escrow", "collect", "--wait", WAIT_SECONDS)
            if done["generations"] != [self.generation] or done["blamed"]:
                raise WalkFailed(f"another release was expected: {done}")
            self.new_words = done["identity_words"]
            step.notes.append("no server, and neither officer, has seen the archive key")
        with self.step("the tablet opens the archive key and decrypts the file, byte for byte"):
            back = self.here / "letter-again.txt"
            self.holdfast(self.tablet, "archive", "decrypt", str(self.sealed), "--out", str(back))
            if back.read_bytes() != self.letter.read_bytes():
                raise WalkFailed("the file came back changed")

    def begin_again(self) -> None:
        with self.step("carol and dan attest alice's new identity key, by words that alice reads to them"):
            for name in ("carol", "dan"):
                self.answer(name, self.new_words, "attest", self.case, "--yes")
        with self.step("the account begins again under that key: new archive key, new vault, old devices out") as step:
            password = self.here / "alice-new-password"
            write_private(password, secrets.token_urlsafe(18))
            arguments = ("recover", "escrow", "finish", "--new-password-file", str(password), "--wait", WAIT_SECONDS)
            done = self.holdfast(self.tablet, *arguments)
            shown = self.holdfast(self.tablet, "chain", "show")
            if shown["re_genesis"]["case_id"] != self.case or len(shown["revoked"]) != 2 or len(shown["devices"]) != 1:
                raise WalkFailed(f"alice's chain should show the re-genesis of this case: {shown}")
            step.notes.append(f"entry {shown['re_genesis']['seq']} of alice's chain, attested by two officers")
            self.holdfast(self.tablet, "escrow", "deposit", "--yes")
            step.notes.append(f"generation {done['generation']} is in escrow, after alice's consent under the new key")

    def bob_is_asked(self) -> None:
        with self.step("bob's client asks bob before it trusts alice again") as step:
            refused = self.holdfast(self.bob, "bundle", "claim", self.alice, expect=8)
            step.notes.append(refused["error"]["message"])
            old = " ".join(self.alice_words)
            self.holdfast(self.bob, "contacts", "confirm", self.alice, "--words", old, expect=8)
            step.notes.append("the words of the old key do not do")
        with self.step("bob hears the new words from alice, confirms, and claims a bundle of alice's tablet"):
            self.holdfast(self.bob, "contacts", "confirm", self.alice, "--words", " ".join(self.new_words))
            claimed = self.holdfast(self.bob, "bundle", "claim", self.alice)
            if len(claimed["devices"]) != 1 or claimed["identity_words"] != self.new_words:
                raise WalkFailed(f"one device under the new key was expected: {claimed}")
        with self.step("they write to each other again") as step:
            self.say(self.bob, self.alice, "Good to have you back.")
            step.notes.append(f"alice reads on the tablet: {self.hear(self.tablet, self.bob_id)}")
            self.say(self.tablet, self.bob_id, "Good to be back.")
            step.notes.append(f"bob reads: {self.hear(self.bob, self.alice)}")

    def bob_leaves(self) -> None:
        self.plan, self.sealed_plan = self.here / "plan.md", self.here / "plan.md.holdfast"
        shutil.copy(PROJECT / "README.md", self.plan)
        with self.step("bob encrypts a plan, and puts the archive key into escrow"):
            done = self.holdfast(self.bob, "archive", "encrypt", str(self.plan), "--out", str(self.sealed_plan))
            self.generation = done["generation"]
            self.holdfast(self.bob, "escrow", "deposit", "--yes")
        with self.step("bob leaves and hands the desktop in; erin, who takes over, asks to read bob's archive") as step:
            shutil.rmtree(self.bob.profile)
            until = (datetime.now(UTC) + timedelta(days=7)).strftime("%Y-%m-%d")
            asked = ("--purpose", "leaver", "--subject", self.bob_id, "--until", until)
            erin = self.officers["erin"]
            done = self.holdfast(erin, "recover", "escrow", "open", "--reason", "Handover of bob's projects.", *asked)
            self.case, self.case_words = done["case_id"], done["recipient_words"]
            step.notes.append(f"the case names the day on which it is closed again: {until}")

    def read_what_bob_left(self) -> None:
        erin = self.officers["erin"]
        with self.step("carol and dan approve; erin collects bob's archive key, apart from erin's own") as step:
            for name in ("carol", "dan"):
                self.approve(name)
            done = self.holdfast(erin, "recover", "escrow", "collect", "--wait", WAIT_SECONDS)
            if (done["generations"], done["disclosure"]) != ([self.generation], self.case) or done["identity_words"]:
                raise WalkFailed(f"a disclosure of bob's generation was expected: {done}")
            refused = self.holdfast(
                erin, "archive", "decrypt", str(self.sealed_plan), "--out", str(self.here / "x"), expect=6
            )
            step.notes.append(f"without the case: {refused['error']['message']}")
        with self.step("erin reads the plan by the case, byte for byte; the manifest has its line first") as step:
            back = self.here / "plan-of-bob.md"
            self.holdfast(erin, "archive", "decrypt", str(self.sealed_plan), "--case", self.case, "--out", str(back))
            if back.read_bytes() != self.plan.read_bytes():
                raise WalkFailed("the plan came back changed")
            (listed,) = [
                one
                for one in self.holdfast(erin, "archive", "disclosures")["disclosures"]
                if one["case_id"] == self.case
            ]
            if (listed["files"], listed["subject"]) != (1, self.bob_id):
                raise WalkFailed(f"one file of bob's was read: {listed}")
            step.notes.append(f"{listed['files']} file opened, by erin's device, signed")

    def account_for_it(self) -> None:
        erin, manifest = self.officers["erin"], self.here / "custody-of-bobs-archive"
        with self.step("the work is done: erin ends the disclosure, the keys are destroyed, nothing opens any more"):
            self.holdfast(erin, "archive", "disclosures", "--end", self.case, "--yes")
            again = ("--case", self.case, "--out", str(self.here / "y"))
            self.holdfast(erin, "archive", "decrypt", str(self.sealed_plan), *again, expect=1)
        with self.step(
            "erin hands over the custody manifest; otto verifies it offline, and a line left out shows"
        ) as step:
            q = self.holdfast(erin, "archive", "custody", self.case, "--out", str(manifest))["q"]
            code, report = self.offline("archive", "verify", str(manifest), "--q", q)
            digest = hashlib.sha256(self.sealed_plan.read_bytes()).hexdigest()
            if code != 0 or not report["closed"] or [one["sha256"] for one in report["files"]] != [digest]:
                raise WalkFailed(f"the manifest should name the plan, and be closed: {report}")
            step.notes.append(f"one file, {digest[:16]}…, and the keys destroyed")
            lines = manifest.read_bytes().splitlines(keepends=True)
            edited = self.here / "custody-edited"
            edited.write_bytes(b"".join([*lines[:3], *lines[4:]]))
            code, report = self.offline("archive", "verify", str(edited), "--q", q)
            if code != 1:
                raise WalkFailed(f"a manifest without its first line was believed: {report}")
            step.notes.append(report["reason"])

    def audit(self) -> None:
        self.export = self.here / "audit.jsonl"
        with self.step("otto, the auditor, exports the log") as step:
            done = self.holdfast(self.otto, "audit", "export", "--out", str(self.export))
            step.notes.append(f"{done['size']} entries")
        with self.step("otto verifies the file offline: no server, and a process that may not use the network") as step:
            code, report = self.verify_offline(self.export)
            if code != 0:
                raise WalkFailed(f"the export does not verify: {report}")
            step.notes.append(report["reason"])
            code, report = self.verify_offline(self.export, trust=False)
            if code != 3:
                raise WalkFailed(f"without a key the result is not anchored: {report}")
            step.notes.append("without a key from elsewhere: self-consistent, not anchored (exit code 3)")
        with self.step("one byte of the file is changed: the verifier names the entry") as step:
            changed, index = self.change_one_byte()
            code, report = self.verify_offline(changed)
            bad = report["first_bad_entry"]
            if code != 1 or not bad or bad["index"] != index:
                raise WalkFailed(f"entry {index} should have been named: {report}")
            step.notes.append(f"entry {bad['index']}, {bad['tag']}: exit code 1")

    def verify_offline(self, file: Path, *, trust: bool = True) -> tuple[int, dict[str, Any]]:
        """Verify an export of the log; returns exit code and report."""
        return self.offline("audit", "verify", str(file), *(["--trust", str(self.demo / "root.vkey")] if trust else []))

    def offline(self, *arguments: str) -> tuple[int, dict[str, Any]]:
        """Run a command in a process that ends when it touches the network; returns exit code and report."""
        done = subprocess.run(
            [sys.executable, "-c", NO_NETWORK, "--json", *arguments],
            cwd=PROJECT,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        if not done.stdout:
            raise WalkFailed(f"the verifier said nothing: {done.stderr}")
        report: dict[str, Any] = json.loads(done.stdout)
        return done.returncode, report

    def change_one_byte(self) -> tuple[Path, int]:
        """Copy the export with one letter of the middle entry's actor changed; returns the copy and the index."""
        lines = self.export.read_bytes().splitlines(keepends=True)
        # Not each line is an entry's: before each 256 of them stands one of their hashes.
        places = [at for at, line in enumerate(lines) if line.startswith(b'{"index":')]
        index = len(places) // 2
        line = bytearray(lines[places[index]])
        at = line.index(b'"actor":"') + len(b'"actor":"')
        line[at] = ord("x") if line[at] != ord("x") else ord("y")
        lines[places[index]] = bytes(line)
        changed = self.here / "audit-changed.jsonl"
        changed.write_bytes(b"".join(lines))
        return changed, index


def _forced_approval(account: Account, view: officer.CaseView) -> tuple[bytes, tuple[approvals.OuterShare, ...]]:
    """Make an approval that holds in every part but who makes it."""
    keys = officer_keys.keys_of(account)
    row = view.policy.policy.officer(keys.signing_key.kid)
    assert isinstance(row, Officer)
    signed, outers = approvals.approve(
        view.statement,
        {one.deposit_id: one.deposit for one in view.deposits},
        by=approvals.Approver(row, keys.signing, keys.sealing, account.header(), ClientKind.CLI),
        policy=view.policy,
        release_key=view.policy.policy.terms.release_sealing_key,
        identity_check="None.",
    )
    return signed.encode(), outers


def main() -> None:
    """Walk against the server and the directory that the environment names; by default those of `make up`."""
    state = Path(os.environ.get("HOLDFAST_STATE_DIR", PROJECT / "var"))
    server = os.environ.get("HOLDFAST_PUBLIC_URL", "http://127.0.0.1:8000").rstrip("/")
    try:
        Walk(server, state / "demo").run()
    except (WalkFailed, Problem) as error:
        Console(stderr=True, highlight=False, soft_wrap=True).print(
            f"[bold red]The walk stopped.[/] {escape(str(error))}"
        )
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
