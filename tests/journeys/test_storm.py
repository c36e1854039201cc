# SPDX-License-Identifier: Apache-2.0
"""A storm that any stranger and any member can make, against a whole installation behind its own proxy.

Beside it an honest client sends, receives and signs in; what it can do in a calm and in the storm stands in one run.
Mail server and HSM hang meanwhile, and heads stay young.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import secrets
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from holdfast.client.errors import ClientError
from holdfast.client.identity import device
from holdfast.client.messages import messages, prekeys
from holdfast.client.profile import account as accounts
from holdfast.client.profile.account import Account
from holdfast.core.base.secret import SecretBytes
from holdfast.core.vault.password_door import Argon2Cost
from keys.mailbox import LETTERS
from tenants.sign_in import totp_code
from tests.cast.hsm import build_interposer
from tests.cast.postgres import postgres
from tests.cast.server import PROJECT, Installation, installation
from tests.journeys.messenger import PASSPHRASE
from tests.journeys.test_messages import code_of
from tests.soak import FIGURES

pytestmark = pytest.mark.timeout(3600)
CHEAP = Argon2Cost(memory_kib=19 * 1024, passes=2, lanes=1)
HEAD_SECONDS = 120
# Just above what nginx lets one source try for ever (deploy/nginx/http.conf).
SIGN_IN_SECONDS = 1.2
# What an honest client does at the most when nobody storms: more than any person, and their devices together, write.
USUAL_PER_SECOND = 10
Pace = dict[str, float]


@contextmanager
def silent_mail_server() -> Iterator[str]:
    """A mail server that takes every connection and says nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listening, ExitStack() as held:
        is_over = threading.Event()
        listening.settimeout(0.2)

        def take() -> None:
            while not is_over.is_set():
                with contextlib.suppress(TimeoutError):
                    held.enter_context(listening.accept()[0])

        taking = threading.Thread(target=take)
        taking.start()
        try:
            yield f"smtp://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            is_over.set()
            taking.join()


@dataclass
class Honest:
    """Two members who write to each other, and an officer who signs in, from the address they always come from."""

    server: Installation
    alice: Account
    bob: Account
    done: Counter[str] = field(default_factory=Counter)
    refused: list[str] = field(default_factory=list)
    took: dict[str, list[float]] = field(default_factory=lambda: {"messages": [], "sign-ins": []})
    # How many of each were done in a second of doing nothing else, when it was looked at last.
    fastest: Pace = field(default_factory=dict)
    signed_in_at: float = float("-inf")

    def once(self) -> None:
        """One message there and read; and a sign-in, as often as a proxy lets one address try."""
        started, text = time.monotonic(), secrets.token_bytes(200)
        try:
            messages.send(self.alice, self.bob.user, text)
            got = []
            for message in messages.receive(self.bob):
                got.append(message.body)
                message.done()
            assert text in got, "what was sent was received"
        except ClientError as error:
            self.refused.append(f"message: {type(error).__name__} {error}")
        else:
            self.did("messages", started)
        started = time.monotonic()
        if started - self.signed_in_at < SIGN_IN_SECONDS:
            return
        self.signed_in_at = started
        status, _ = self.post("/console/sign-in/", self.form())
        if status == 302:
            self.did("sign-ins", started)
        else:
            self.refused.append(f"sign-in: {status}")

    def did(self, what: str, started: float) -> None:
        self.done[what] += 1
        self.took[what].append(time.monotonic() - started)

    def pace(self, seconds: float) -> Pace:
        """Go on at a pace for so long, and return how many of each were done in a second."""
        self.took = {"messages": [], "sign-ins": []}
        started = due = time.monotonic()
        while (now := time.monotonic()) - started < seconds:
            time.sleep(max(0.0, due - now))
            due = max(due, now - 1) + 1 / USUAL_PER_SECOND
            self.once()
        self.fastest |= {what: len(took) / sum(took) for what, took in self.took.items()}
        return {what: len(took) / (time.monotonic() - started) for what, took in self.took.items()}

    def form(self) -> dict[str, str]:
        return {"tenant": "acme", "email": "carol@acme.test", "password": self.secrets()[0]}

    def secrets(self) -> tuple[str, bytes]:
        """Carol's password and the key of her authenticator, as the development ceremony wrote them down."""
        rows = [line.split("\t") for line in (self.server.demo / "sign-in.txt").read_text().splitlines()]
        _, _, password, key = next(row for row in rows if row[0] == "carol@acme.test")
        return password, base64.b32decode(key)

    def post(self, path: str, form: dict[str, str], cookie: str = "") -> tuple[int, str]:
        asked = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=60)
        token = secrets.token_hex(16)
        headers = {
            "Content-Type": "application/x-www-form-urlencoded",
            "Cookie": f"csrftoken={token}; {cookie}",
            "Origin": self.server.url,
        }
        with closing(asked):
            asked.request("POST", path, urlencode({**form, "csrfmiddlewaretoken": token}), headers)
            answer = asked.getresponse()
            answer.read()
            cookies = [value.split(";")[0] for name, value in answer.getheaders() if name.lower() == "set-cookie"]
            return answer.status, next((one for one in cookies if one.startswith("sessionid=")), "")

    def sign_in_wholly(self) -> None:
        """Sign in once with both factors: from then on this is a place that the account is known at."""
        status, session = self.post("/console/sign-in/", self.form())
        assert status == 302
        for _ in range(2):
            code = totp_code(SecretBytes(self.secrets()[1]), at=time.time())
            status, _ = self.post("/console/sign-in/code/", {"code": code}, session)
            if status == 302:
                return
            # The ceremony spent the code of its own half minute.
            time.sleep(30.5 - time.time() % 30)
        raise AssertionError(status)


def enrolled(server: Installation, home: Path, name: str) -> Account:
    code = code_of(server, name)
    account = accounts.create(home / name, tenant=code.tenant, user=code.person, passphrase=PASSPHRASE, cost=CHEAP)
    account.connect(server.url)
    device.enrol(account, code, name=f"{name}'s laptop", is_development=True)
    prekeys.publish(account)
    return account


def owe_mails(server: Installation, count: int) -> None:
    """Promise so many mails: the server is asked to hand them to one that hangs."""
    script = (
        "from tenants.models import Person; from keys import notices; from kernel.scope import tenant_scope; "
        "from django.db import transaction; alice = Person.unscoped.get(email='alice@acme.test')\n"
        "with tenant_scope(alice.tenant_id), transaction.atomic():\n"
        f"    for n in range({count}):\n"
        "        notices.owe(person_ids=[], with_mail=[alice.pk], event='door-read', kind='x', device_id=str(n))\n"
    )
    server.manage("shell", "-c", script)


def profile_of_dan(server: Installation) -> Path:
    return server.demo / "profiles" / "dan"


def readiness(server: Installation) -> dict[str, Any]:
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)) as asked:
        asked.request("GET", "/readyz")
        return dict(json.loads(asked.getresponse().read()))


@dataclass
class Watch:
    """Looks at `/readyz` once a second, and keeps the oldest age of the signed heads that it has seen."""

    server: Installation
    oldest: int = 0
    states: set[str] = field(default_factory=set)
    is_over: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        while not self.is_over.wait(1):
            with contextlib.suppress(OSError, ValueError, http.client.HTTPException):
                said = readiness(self.server)
                self.oldest = max(self.oldest, said["head_age_seconds"] or 0)
                self.states |= {f"{part} {state}" for part, state in said["parts"].items() if state != "ok"}


@pytest.mark.soak("storm")
@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_an_honest_client_keeps_half_its_pace_in_a_storm(database: str, tmp_path: Path) -> None:
    calm, stormy, watch, told = storm(database, tmp_path, calm_seconds=20, storm_seconds=120)
    figures = {"database": database, "calm": calm, "storm": stormy, "oldest head": watch.oldest, **told}
    FIGURES.mkdir(parents=True, exist_ok=True)
    with (FIGURES / "storm-figures.jsonl").open("a") as kept:
        kept.write(json.dumps(figures) + "\n")
    for what in calm:
        assert stormy[what] >= calm[what] / 2, what
    assert sum(told["sign-ins"].values()) >= 10_000


def test_a_storm_stops_nobody_and_nothing(tmp_path: Path) -> None:
    storm("sqlite", tmp_path, calm_seconds=2, storm_seconds=20)


def storm(
    database: str, tmp_path: Path, *, calm_seconds: float, storm_seconds: float
) -> tuple[Pace, Pace, Watch, dict[str, Any]]:
    """Let it storm; return the honest client's pace before and within, and what was seen meanwhile."""
    with ExitStack() as stack:
        hsm = build_interposer(tmp_path / "interposer")
        extra = {
            "HOLDFAST_EMAIL_URL": stack.enter_context(silent_mail_server()),
            "HOLDFAST_HSM_MODULE": str(hsm.module),
        }
        if database == "postgres":
            extra["HOLDFAST_DATABASE_URL"] = stack.enter_context(postgres())
        server = stack.enter_context(installation(by_up=database == "postgres", **extra))
        honest = Honest(server, enrolled(server, tmp_path, "alice"), enrolled(server, tmp_path, "bob"))
        stack.callback(honest.alice.close)
        stack.callback(honest.bob.close)
        honest.sign_in_wholly()
        honest.once()
        calm = honest.pace(calm_seconds)
        owe_mails(server, 50)
        watch = Watch(server)
        watching = threading.Thread(target=watch.run)
        watching.start()
        who = [str(profile_of_dan(server)), honest.alice.device.id.hex()]
        command = [sys.executable, "-m", "tests.journeys.storm", str(server.port), str(storm_seconds), *who]
        with subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True) as strangers:
            stormy = [honest.pace(storm_seconds / 3)]
            # What the web process asks the HSM for hangs; the sequencer's signatures, and everything else, do not.
            hsm.rules("C_Decrypt before 20000", "C_UnwrapKey before 20000", "C_Encrypt before 20000")
            stormy.append(honest.pace(storm_seconds / 3))
            hsm.rules()
            stormy.append(honest.pace(storm_seconds / 3))
            said, _ = strangers.communicate(timeout=120)
        watch.is_over.set()
        watching.join()
        told = json.loads(said) | {"honest": dict(honest.done), "fastest": honest.fastest, "states": [*watch.states]}
        flooded = told["member"]
        assert honest.refused == [], "what an honest client asked was done"
        assert watch.oldest < HEAD_SECONDS
        assert not {
            code for kind in ("bodies", "sign-ins", "files", "enrolments") for code in told[kind] if code == "500"
        }
        assert flooded["letter taken"] > 0
        refused = [answer for answer in flooded if answer.startswith("letter ") and answer != "letter taken"]
        assert refused or flooded["letter taken"] < LETTERS.messages_of_one, "a flood of letters meets its quota"
        return calm, {what: sum(part[what] for part in stormy) / 3 for what in calm}, watch, told
