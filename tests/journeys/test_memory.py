# SPDX-License-Identifier: Apache-2.0
"""The plaintext of an escrowed key is in no server process: not before, not while it is unwrapped, not after.

Promise 3 of THREAT_MODEL.md. The memory of web, worker and release process is read as root's debugger would.
"""

from __future__ import annotations

import hashlib
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from holdfast.client.escrow import escrow
from holdfast.core.base.encoding import b64u, label
from holdfast.core.base.secret import SecretBytes
from holdfast.core.crypto import wrapping
from holdfast.core.escrow.deposit import DepositTerms, build_deposit
from holdfast.core.signed.cose import Purpose, Sign1, sign
from holdfast.core.signed.payloads import Header
from holdfast.core.signed.statements import DepositStatement
from tests.cast.hsm import Interposer, make_home
from tests.cast.server import PROJECT, Installation, wait_for
from tests.checks import production
from tests.faults.memory import find
from tests.journeys.demo import Walk

ROLES = ("web", "worker", "sequencer", "release")
ALIVE_MS = 12_000


@dataclass
class KnownDeposit(Walk):
    """A walk whose deposit is made here, with every secret of it written down."""

    secrets_of: dict[str, bytes] = field(default_factory=dict)
    sealed_half: bytes = b""

    def deposit_and_encrypt(self) -> None:
        self.letter = self.here / "letter.txt"
        self.letter.write_text("for the archive")
        self.sealed = self.here / "letter.txt.holdfast"
        self.holdfast(self.laptop, "archive", "encrypt", str(self.letter), "--out", str(self.sealed))
        drawn: list[bytes] = []

        def draw(size: int) -> bytes:
            drawn.append(secrets.token_bytes(size))
            return drawn[-1]

        with self.library(self.laptop) as account:
            escrow.prepare(account)
            escrow.consent(account)
            generation = account.state.generations[-1]
            terms = DepositTerms(
                suite=account.device_statement.suite,
                tenant=account.tenant,
                user=account.user,
                device=account.device.id,
                policy=account.trusted.newest,
                escrow_key=account.escrow_key,
                consent_hash=Sign1.parse(account.state.consent).payload_hash,
            )
            deposit = build_deposit(
                generation.key,
                generation=generation.number,
                deposit_id=secrets.token_bytes(16),
                terms=terms,
                random=draw,
            )
            record = deposit.to_record()
            header = Header(account.tenant, account.user, account.device.id, account.api.clock.now())
            statement = DepositStatement(header, hashlib.sha256(record).digest())
            signed = sign(statement.to_payload(), purpose=Purpose.DEPOSIT, key=account.signing_key)
            account.api.post("escrow/deposits", {"record": b64u(record), "statement": b64u(signed.encode())})
            half, officers_half = drawn[0], drawn[1]
            data_key = wrapping.hkdf(
                salt=deposit.header.ctx, ikm=SecretBytes(half + officers_half), info=label("deposit"), length=64
            ).reveal()[:32]
            self.secrets_of = {
                "archive key": generation.key.reveal(),
                "data key": data_key,
                "r_h": half,
                "r_o": officers_half,
            }
            self.sealed_half = deposit.sealed_half

    def found(self, server: Installation) -> dict[str, dict[str, int]]:
        return {role: find(server.pid_of(role), self.secrets_of) for role in ROLES}


NOTHING = {role: {"archive key": 0, "data key": 0, "r_h": 0, "r_o": 0} for role in ROLES}


@pytest.fixture
def walk(server: Installation, monkeypatch: pytest.MonkeyPatch) -> Iterator[KnownDeposit]:
    for name, value in server.environment.items():
        if name.startswith(("HOLDFAST_", "DJANGO_")):
            monkeypatch.setenv(name, value)
    return KnownDeposit(server.url, server.demo)  # type: ignore[return-value]


@pytest.mark.timeout(600)
def test_no_server_process_holds_a_secret_of_a_deposit_at_any_moment_of_its_release(
    server: Installation, walk: KnownDeposit, counted_unwraps: Interposer
) -> None:
    walk.prepare()
    walk.enrol_devices()
    walk.deposit_and_encrypt()
    walk.lose_everything()
    walk.open_case()
    assert walk.found(server) == NOTHING, "before"

    key_id = bytes.fromhex(server.escrow_key_id())
    counted_unwraps.forget()
    # The unwrapped object stays alive for as long as the module sleeps before it wraps it. Only a re-wrap wraps here.
    counted_unwraps.rules(f"C_WrapKey before {ALIVE_MS} n=1")
    walk.approve("carol")
    walk.approve("dan")
    wait_for(lambda: ["leave", "C_UnwrapKey", key_id.hex()] in [words[1:4] for words in counted_unwraps.log()])
    time.sleep(0.5)
    while_alive = walk.found(server)
    handled = find(server.pid_of("release"), {"the sealed half": walk.sealed_half[:64]})
    assert counted_unwraps.entered("C_WrapKey") == 0, "the object had been wrapped before the memory was read"
    assert while_alive == NOTHING, "while the unwrapped object is alive"
    # The positive control of the same moment and process: what it does handle is found.
    assert handled["the sealed half"] >= 1

    counted_unwraps.rules()
    walk.generation = 1
    walk.collect()
    assert walk.found(server) == NOTHING, "after"


def test_the_search_finds_a_secret_that_is_there() -> None:
    needle = secrets.token_bytes(32)
    code = "import sys; held = bytes.fromhex(sys.stdin.readline()); print(flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        holder.stdin.write(needle.hex().encode() + b"\n")
        holder.stdin.flush()
        holder.stdout.readline()
        assert find(holder.pid, {"needle": needle, "other": secrets.token_bytes(32)})["needle"] >= 1
        holder.stdin.close()


# Reads its own child's memory without the right to read everybody's: what a process of the same account can do.
READER = """
import subprocess, sys, time
from pathlib import Path
child = subprocess.Popen(sys.argv[2:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
time.sleep(float(sys.argv[1]))
try:
    start = int(Path(f"/proc/{child.pid}/maps").read_text().split("-", 1)[0], 16)
    with Path(f"/proc/{child.pid}/mem").open("rb", buffering=0) as memory:
        memory.seek(start)
        memory.read(16)
    print("open" if child.poll() is None else "ended")
except PermissionError:
    print("closed" if child.poll() is None else "ended")
finally:
    child.kill()
    child.wait()
"""


def _seen_by_its_own_account(directory: Path, command: list[str], *, wait: float) -> str:
    without = ["setpriv", "--bounding-set=-sys_ptrace", "--inh-caps=-sys_ptrace"] if _is_root() else []
    # Real tokens, because a process without its HSM refuses to start.
    hsm = make_home(directory / "tokens")
    environment = {
        **production(directory),
        "HOLDFAST_HSM_HOME": str(hsm.home),
        "HOLDFAST_HSM_MODULE": str(hsm.module),
        "HOLDFAST_HSM_SOFTHSM": "true",
        "HOLDFAST_RELEASE_DIR": str(directory / "release"),
        "PATH": "/usr/bin:/bin",
    }
    done = subprocess.run(
        [*without, sys.executable, "-c", READER, str(wait), *command],
        cwd=PROJECT,
        env=environment,
        text=True,
        capture_output=True,
        check=True,
        timeout=60,
    )
    return done.stdout.strip()


def _is_root() -> bool:
    import os

    return os.geteuid() == 0


def test_the_memory_of_an_ordinary_process_is_open_to_its_own_account(tmp_path: Path) -> None:
    assert _seen_by_its_own_account(tmp_path, ["sleep", "30"], wait=0.5) == "open"


@pytest.mark.parametrize("role", ROLES)
def test_production_settings_close_the_memory_of_every_process(tmp_path: Path, role: str) -> None:
    manage = [sys.executable, "manage.py", role]
    web = [sys.executable, "-c", "import config.wsgi, time; time.sleep(60)"]
    command = ["env", f"HOLDFAST_ROLE={role}", *(web if role == "web" else manage)]
    assert _seen_by_its_own_account(tmp_path, command, wait=6) == "closed"
