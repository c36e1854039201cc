# SPDX-License-Identifier: Apache-2.0
"""A tenant from the empty server to a released case, by six people who share no account, file or terminal.

ORGANISATION "Founding, at different desks". Operator, owner, three officers and a member are six accounts of the
system; the server's four processes are four more, each a user of PostgreSQL of its own. Between desks go a code on
paper, a file of public keys, and spoken words.
"""

from __future__ import annotations

import base64
import json
import os
import re
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx2
import psycopg
import pytest
from psycopg import sql

from config.database_roles import PROCESSES
from holdfast.client.officers import section
from holdfast.client.profile import account as accounts
from holdfast.core.base.encoding import b64u
from holdfast.core.base.secret import SecretBytes
from tenants.sign_in import totp_code
from tests.cast.accounts import Separated, have_root_run, interpreter, separated
from tests.cast.server import PROJECT, wait_for
from tests.faults.memory import find

IS_ROOT = os.geteuid() == 0
pytestmark = pytest.mark.postgres_only
OFFICERS = ("carol", "dan", "erin")
# Beside those of the processes (`tests.cast.accounts`).
DESKS = {name: 61_021 + number for number, name in enumerate(("olivia", *OFFICERS, "alice", "grace"))}
# Short, to be waited for; the cooling-off still longer than the commands between a signature and a look take.
DELAY, COOLING_OFF = "3s", 30


@dataclass
class Desk:
    """One person at a machine of their own: an account, a home that it alone enters, and the `holdfast` command."""

    name: str
    home: Path

    def __post_init__(self) -> None:
        self.home.mkdir(mode=0o700)
        self.put("passphrase", secrets.token_urlsafe(18))
        os.chown(self.home, DESKS[self.name], DESKS[self.name])

    def put(self, name: str, text: str) -> Path:
        """Lay down a file that somebody handed over, or that the person wrote."""
        path = self.home / name
        path.write_text(text)
        path.chmod(0o600)
        os.chown(path, DESKS[self.name], DESKS[self.name])
        return path

    def __call__(self, *arguments: str, expect: int = 0, profile: str = "profile") -> dict[str, Any]:
        """Run one `holdfast` command as this person, and return what it printed."""
        found = interpreter()
        assert found is not None
        account = DESKS[self.name]
        given = ("--json", "--profile", str(self.home / profile), "--passphrase-file", str(self.home / "passphrase"))
        done = subprocess.run(
            [found[0], "-m", "holdfast.cli", *given, *arguments],
            cwd=PROJECT,
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(self.home),
                "PYTHONPATH": found[1],
                "PYTHONDONTWRITEBYTECODE": "1",
            },
            user=account,
            group=account,
            extra_groups=[],
            umask=0o077,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert done.returncode == expect, f"{self.name}: holdfast {' '.join(arguments)}\n{done.stdout}{done.stderr}"
        document: dict[str, Any] = json.loads((done.stdout or done.stderr).strip().splitlines()[-1])
        return document


@dataclass
class Town:
    """The server, its operator, and everybody's desk."""

    house: Separated
    desks: dict[str, Desk]
    people: dict[str, str] = field(default_factory=dict)

    def __getattr__(self, name: str) -> Desk:
        try:
            return self.desks[name]
        except KeyError:
            raise AttributeError(name) from None

    def ceremony(self, *arguments: str, answers: dict[str, list[str]] | None = None) -> str:
        """Hold a ceremony as the operator, who calls each officer and types what they read out."""
        return self.house.ceremony_with(arguments, lambda asked: self._read_out(asked, answers or {}))

    @staticmethod
    def _read_out(asked: str, answers: dict[str, list[str]]) -> str:
        places = [int(place) for place in re.findall(r"\d+", asked.partition(" of ")[0])]
        words = answers[asked.partition("<")[2].partition("@")[0]]
        return " ".join(words[place - 1] for place in places)

    def join(self, name: str, code: str) -> None:
        """Have somebody become an officer by a code that was handed to them."""
        desk = self.desks[name]
        doors = ("--passphrase-to", str(desk.home / "door.passphrase"), "--phrase-to", str(desk.home / "door.phrase"))
        given = ("--server", self.house.url, "--code-file", str(desk.put("code", code)), "--development")
        desk("officer", "join", *given, *doors)
        self.people[name] = str(desk("doctor")["user_id"])

    def sign_policy(self, signers: Sequence[str], fresh: Mapping[int, str]) -> dict[str, list[str]]:
        """Have officers sign the open proposal, each after calling everybody whose row is new.

        fresh: who they are, by row. Returns what each read out, from their own screen.
        """
        read = {name: self.proposals(name)[0]["own_words"] for name in fresh.values()}
        for name in signers:
            said: list[str] = []
            for _ in [row for row, other in fresh.items() if other != name]:
                asked = self.desks[name]("officer", "policy", "sign", "--yes", *said, expect=8)["error"]
                for row, place in re.findall(r"--word (\d+):(\d+)=", asked["way_out"]):
                    said.append(f"--word={row}:{place}={read[fresh[int(row)]][int(place) - 1]}")
            self.desks[name]("officer", "policy", "sign", "--yes", *said)
        return read

    def proposals(self, name: str, *options: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.desks[name]("officer", "policy", "show", *options)["proposals"]
        return found

    def in_force_from(self, version: int) -> float:
        with psycopg.connect(self.house.owner_url) as database:
            row = database.execute("SELECT in_force_from FROM escrow_policy WHERE version = %s", [version]).fetchone()
        assert row is not None, f"version {version} is not published"
        since: datetime = row[0]
        return since.timestamp()

    def invite(self, name: str, role: str, by: str, *, second: str = "") -> str:
        """Have the operator add somebody by name, and an officer hand them a code; an officer's code takes a second."""
        script = (
            "from tenants import services; from tenants.models import Tenant; from kernel.scope import tenant_scope\n"
            "from kernel.actors import system_actor\n"
            "tenant = Tenant.objects.get(slug='acme')\n"
            "with tenant_scope(tenant.pk):\n"
            f"    print(services.create_person(email='{name}@acme.test', name='{name}', role='{role}',"
            " actor=system_actor(tenant.pk, 'ceremony')).pk)\n"
        )
        self.people[name] = self.house.manage("shell", "-c", script, HOLDFAST_ROLE="ceremony").stdout.split()[-1]
        return self.code_for(name, by, second=second)

    def code_for(self, name: str, by: str, *, second: str = "") -> str:
        path = self.desks[by].home / f"{secrets.token_hex(4)}.code"
        issued = self.desks[by]("officer", "code", self.people[name], "--out", str(path))
        if second:
            self.desks[second](*issued["confirm"].split()[1:])
        return path.read_text()

    def release(self, device: str, approvers: tuple[str, ...]) -> str:
        """Have alice, on a new device of hers, ask for her archive, and open her letter with what comes."""
        # Erin let alice in, and so does not count: were it another who issues this code, one officer would be left.
        code = self.alice.put(f"{device}.code", self.code_for("alice", "erin"))
        enrol = ("enrol", "--server", self.house.url, "--code-file", str(code), "--name", device, "--development")
        self.alice(*enrol, profile=device)
        opened = self.alice("recover", "escrow", "open", "--reason", "Laptop lost.", profile=device)
        for name in approvers:
            approve = ("officer", "approve", opened["case_id"], "--yes", "--identity-check", "I know the voice.")
            places = self.desks[name](*approve, expect=8)["error"]["places"]
            heard = [f"--word={place}={opened['recipient_words'][place - 1]}" for place in places]
            self.desks[name](*approve, *heard)
        self.alice("recover", "escrow", "collect", "--wait", "60", profile=device)
        back = self.alice.home / f"letter-on-{device}"
        self.alice("archive", "decrypt", str(self.alice.home / "sealed"), "--out", str(back), profile=device)
        return back.read_text()

    def seeds(self, name: str) -> dict[str, bytes]:
        """Read an officer's seeds as their own profile has them, in a copy: a profile opens for its owner alone."""
        home = self.desks[name].home
        with tempfile.TemporaryDirectory() as directory:
            copy = shutil.copytree(home / "profile", Path(directory) / "profile")
            passphrase = SecretBytes((home / "passphrase").read_bytes())
            with closing(accounts.open_profile(copy, passphrase=passphrase)) as account:
                account.connect()
                contents = section.load(account)
        assert contents is not None
        return {
            f"{name}'s {kind} {place}": seed.reveal()
            for place, pair in enumerate(contents.pairs)
            for kind, seed in (("signing seed", pair.signing_seed), ("sealing seed", pair.sealing_seed))
        }


@pytest.mark.skipif(IS_ROOT, reason="it is root who runs these tests")
@pytest.mark.timeout(900)
def test_six_people_are_six_accounts_when_root_runs_these_tests() -> None:
    have_root_run(__file__)


@pytest.fixture
def town() -> Iterator[Town]:
    if not IS_ROOT:
        pytest.skip("starting processes as other accounts takes root")
    if interpreter() is None:
        pytest.skip("other accounts can run neither this Python nor the system's, or cannot read the project")
    with tempfile.TemporaryDirectory(prefix="holdfast-desks-") as directory:
        home = Path(directory)
        home.chmod(0o711)
        (home / "server").mkdir()
        (home / "desks").mkdir(mode=0o711)
        begin = ["--owner", "olivia@acme.test", *(p for one in OFFICERS for p in ("--officer", f"{one}@acme.test"))]
        with separated(home / "server", begin=("tenant", "acme", "--name", "Acme", *begin)) as house:
            yield Town(house, {name: Desk(name, home / "desks" / name) for name in DESKS})


def accept_invitation(town: Town) -> None:
    """Olivia sets password and authenticator by the link in her mail, and sees how far the founding is."""
    (mail,) = [text for text in town.house.mails() if "To: olivia@acme.test" in text]
    link = re.findall(r"http\S+/console/invitation/\S+", mail)[0]
    with httpx2.Client(base_url=town.house.url, follow_redirects=True) as browser:
        page = browser.get(link)
        key = re.search(r"(?:[A-Z2-7]{4} ){7}[A-Z2-7]{4}", page.text)
        token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page.text)
        assert key is not None
        assert token is not None
        secret = SecretBytes(base64.b32decode(key[0].replace(" ", "")))
        password = secrets.token_urlsafe(18)
        typed = {"password": password, "again": password, "code": totp_code(secret, at=time.time())}
        headers = {"referer": link}
        done = browser.post(link, data={**typed, "csrfmiddlewaretoken": token[1]}, headers=headers)
        assert done.status_code == 200, done.text
        assert "recovery codes" in done.text.lower()


def found(town: Town) -> None:
    """From codes on paper to a tenant that works."""
    for name in OFFICERS:
        town.join(name, town.house.code(f"{name}@acme.test.code"))
    keys = town.carol.put("release.json", town.house.code("release.json"))
    rows = [part for name in OFFICERS for part in ("--add", town.people[name])]
    terms = ["--delay", DELAY, "--notice-delay", "0s", "--cooling-off", f"{COOLING_OFF}s", "--undelivered-delay", "1d"]
    rules = ["--purpose", "device-loss", "--approve-with", "cli", "--deposits", "from-consent"]
    given = (*rows, *terms, *rules, "--release-keys", str(keys))
    town.carol("officer", "policy", "propose", "--m", "2", *given, "--yes")
    read = town.sign_policy(OFFICERS, dict(enumerate(OFFICERS, start=1)))
    town.ceremony("found", "acme", "--no-wait", answers=read)
    sign_key(town)
    assert "acme is founded." in town.ceremony("found", "acme", "--no-wait")
    town.house.hand_out_again()


@pytest.mark.timeout(900)
def test_six_people_found_a_tenant_use_it_and_change_it(town: Town) -> None:
    accept_invitation(town)
    found(town)
    enrol = ("enrol", "--server", town.house.url, "--name", "laptop", "--development")
    town.alice(*enrol, "--code-file", str(town.alice.put("code", town.invite("alice", "member", "erin"))))
    letter = town.alice.put("letter", "Dear Bob.")
    town.alice("archive", "encrypt", str(letter), "--out", str(town.alice.home / "sealed"))
    town.alice("escrow", "deposit", "--yes")
    assert town.release("tablet", ("carol", "dan")) == "Dear Bob."

    # A guard is lowered: published by the second signature, and in force only when it has cooled off.
    lowered_at = time.time()
    town.carol("officer", "policy", "propose", "--delay", "1s", "--yes")
    shown = town.proposals("erin")[0]
    assert (shown["version"], shown["lowers"]) == (2, ["delay_seconds"])
    assert shown["in_force_from"] >= lowered_at + COOLING_OFF
    town.sign_policy(("carol", "dan"), {})
    assert town.in_force_from(2) >= lowered_at + COOLING_OFF

    # Erin goes, and grace comes, whom carol and dan hear.
    town.join("grace", town.invite("grace", "officer", "carol", second="dan"))
    # A proposal names the version that is in force, and is over when another one comes into force.
    wait_for(lambda: time.time() > town.in_force_from(2), 2 * COOLING_OFF)
    town.carol("officer", "policy", "propose", "--remove", "3", "--add", town.people["grace"], "--yes")
    town.sign_policy(("carol", "dan"), {3: "grace"})
    made = town.proposals("carol", "--all")[0]
    assert (made["version"], made["state"], made["new_rows"]) == (3, "published", [3])
    roster = [one["person_id"] for one in made["policy"]["officers"]]
    assert roster == [town.people[name] for name in ("carol", "dan", "grace")]
    wait_for(lambda: time.time() > town.in_force_from(3), 2 * COOLING_OFF)

    # The next escrow key, to which alice deposits anew, for the officers of now. No version comes into force while it
    # is being signed: the key names the one that is.
    town.ceremony("escrow-key", "acme")
    sign_key(town)
    town.house.hand_out_again()
    status = town.alice("escrow", "status")
    assert (status["policy_version"], status["escrow_key_version"], status["stale"]) == (3, 2, [1])
    town.alice("escrow", "deposit", "--yes")
    assert town.alice("escrow", "status")["stale"] == []

    nobody_has_a_seed(town, (*OFFICERS, "grace"))


def sign_key(town: Town) -> None:
    """Have carol and dan sign an escrow key whose words the operator reads from the ceremony's screen."""
    for name in ("carol", "dan"):
        words = town.desks[name]("officer", "key", "sign", "--yes")["words"]
        assert " ".join(words) in town.house.said


def nobody_has_a_seed(town: Town, officers: Sequence[str]) -> None:
    """No process of the server, no file of its and the operator's, and no row holds a seed of any officer's."""
    seeds = {name: seed for officer in officers for name, seed in town.seeds(officer).items()}
    assert len(seeds) == 2 * len(officers)
    # What is planted, in every process, in a file and in a row, shows that the same search finds what is there.
    planted = town.house.planted
    (town.house.home("worker") / "planted").write_bytes(planted)
    with psycopg.connect(town.house.owner_url, autocommit=True) as database:
        database.execute("CREATE TABLE planted (octets bytea)")
        database.execute("INSERT INTO planted VALUES (%s)", [planted])
    # And the web process's own key, which it holds as octets.
    own = (town.house.home("web") / "role.key").read_bytes()
    found = places(town.house, {**seeds, "planted": planted, "own": own})
    assert found.pop("planted") == {*PROCESSES, "worker/planted", "the table planted"}
    assert found.pop("own") == {"web", "web/role.key", "ceremony/roles/web.key"}
    assert found == {name: set() for name in seeds}


def places(house: Separated, needles: Mapping[str, bytes]) -> dict[str, set[str]]:
    """Say where each is found, as octets, in hexadecimal or in base64: in which processes, files and tables."""
    named = {
        f"{name} {form}": written
        for name, octets in needles.items()
        for form, written in enumerate((octets, octets.hex().encode(), b64u(octets).encode(), base64.b64encode(octets)))
    }
    found: dict[str, set[str]] = {name: set() for name in needles}

    def note(place: str, hits: Iterable[str]) -> None:
        for hit in hits:
            found[hit.rpartition(" ")[0]].add(place)

    for process in PROCESSES:
        for pid in house.pids_of(process):
            note(process, (name for name, times in find(pid, named).items() if times))
    for path in house.directory.rglob("*"):
        if path.is_file() and not path.is_symlink():
            held = path.read_bytes()
            note(str(path.relative_to(house.directory)), (name for name, one in named.items() if one in held))
    with psycopg.connect(house.owner_url) as database:
        for (table,) in database.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall():
            # Octets in a column are written in hexadecimal.
            for (row,) in database.execute(sql.SQL("SELECT t::text FROM {} t").format(sql.Identifier(table))):
                held = row.encode()
                note(f"the table {table}", (name for name, one in named.items() if one in held))
    return found
