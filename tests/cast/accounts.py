# SPDX-License-Identifier: Apache-2.0
"""An installation whose processes are separate accounts, of the system and of PostgreSQL: as `deploy/` has it.

The accounts are numbers that no system knows by name: root starts each process as one of them. Everything that a
process has lies in one directory, which it alone enters; what the ceremony keeps, none of them does.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import psycopg
import pytest

from config.database_roles import PROCESSES, role_name
from config.env import make_secret_key
from tests.cast.database_roles import as_user, fresh_database
from tests.cast.postgres import free_port
from tests.cast.server import PROJECT, descendants_of, wait_for
from tests.checks import GOOD

# Far from those that systems hand out, and below those of containers' users.
ACCOUNTS = {process: 61_001 + number for number, process in enumerate(PROCESSES)}
# How a question of the ceremony ends that somebody has to hear an answer to.
ASKS = "as you hear them: "
# A ceremony is a few seconds of work; far more than it takes on a machine that does other things.
CEREMONY_SECONDS = 300
# What a process needs to begin: the libraries with compiled parts, and the project itself.
_NEEDED = "import cryptography, django, granian, pkcs11, psycopg, config.database_roles"


def as_account(process: str) -> dict[str, Any]:
    """Return what Popen takes for a process to be that account, with no group but its own."""
    return {"user": ACCOUNTS[process], "group": ACCOUNTS[process], "extra_groups": []}


@cache
def interpreter() -> tuple[str, str] | None:
    """Return a Python that these accounts may run, and where its modules are; None when they can run none.

    That of the tests may be in a home directory which nobody else enters; the system's own then does.
    """
    libraries = os.pathsep.join((sysconfig.get_path("platlib"), sysconfig.get_path("purelib"), str(PROJECT)))
    for python in (sys.executable, f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}"):
        try:
            done = subprocess.run(
                [python, "-c", _NEEDED],
                cwd=PROJECT,
                env={"PATH": os.environ["PATH"], "PYTHONPATH": libraries, "PYTHONDONTWRITEBYTECODE": "1"},
                capture_output=True,
                check=False,
                **as_account("web"),
            )
        except OSError:
            continue
        if done.returncode == 0:
            return python, libraries
    return None


def have_root_run(tests: str) -> None:
    """Run a file of tests once more, as root; skips where nobody may."""
    if not shutil.which("sudo") or subprocess.run(["sudo", "-n", "true"], capture_output=True, check=False).returncode:
        pytest.skip("starting processes as other accounts takes root, or sudo without a password")
    pytest_of_this = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", tests]
    named = [f"{name}={value}" for name, value in os.environ.items() if name.startswith("HOLDFAST_TEST_POSTGRES")]
    subprocess.run(["sudo", "-n", "env", *named, *pytest_of_this], cwd=PROJECT, check=True)


@dataclass
class Hands:
    """Somebody who is one account, and does what they like with it."""

    process: subprocess.Popen[str]

    def sql(self, sql: str, *arguments: Any) -> dict[str, Any]:
        given = [{"hex": one.hex()} if isinstance(one, bytes) else one for one in arguments]
        return self._ask({"sql": sql, "arguments": given})

    def read(self, path: Path) -> dict[str, Any]:
        return self._ask({"file": str(path)})

    def _ask(self, asked: dict[str, Any]) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(asked) + "\n")
        self.process.stdin.flush()
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer


@dataclass
class Separated:
    """The installation: where things are, and the processes that run."""

    directory: Path
    owner_url: str
    prefix: str
    port: int = field(default_factory=free_port)
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    # Octets that every process holds, in its environment, to show that a search of memory finds what is there.
    planted: bytes = field(default_factory=lambda: os.urandom(32))
    # All that the ceremonies put on the operator's screen.
    said: str = ""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def ceremony(self) -> Path:
        """What the ceremony keeps: all originals, and the demo's files."""
        return self.directory / "ceremony"

    def home(self, process: str) -> Path:
        return self.directory / process

    def log(self, process: str) -> str:
        return (self.directory / f"{process}.log").read_text()

    def database_url(self, process: str) -> str:
        database = self.owner_url.rpartition("/")[2]
        return as_user(self.owner_url, role_name(process, prefix=self.prefix), database=database)

    @property
    def owner_environment(self) -> dict[str, str]:
        """What the ceremony runs under, as the owner of the tables."""
        return {
            "HOLDFAST_STATE_DIR": str(self.ceremony),
            "HOLDFAST_DATABASE_URL": self.owner_url,
            "HOLDFAST_PUBLIC_URL": self.url,
            "DJANGO_SETTINGS_MODULE": "config.settings.development",
        }

    def manage(self, *arguments: str, **extra: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, str(PROJECT / "manage.py"), *arguments],
            cwd=PROJECT,
            env=_ours() | self.owner_environment | extra,
            text=True,
            capture_output=True,
            check=True,
            timeout=300,
        )

    def ceremony_with(self, arguments: tuple[str, ...], answer: Callable[[str], str]) -> str:
        """Hold a ceremony as the operator, and type the answer to each question that it asks; returns the screen."""
        with subprocess.Popen(
            [sys.executable, str(PROJECT / "manage.py"), "ceremony", *arguments, "--yes"],
            cwd=PROJECT,
            env=_ours() | self.owner_environment | {"HOLDFAST_ROLE": "ceremony", "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as running:
            assert running.stdin is not None
            assert running.stdout is not None
            stop = threading.Timer(CEREMONY_SECONDS, running.kill)
            stop.start()
            screen, line = "", ""
            try:
                while one := running.stdout.read(1):
                    screen, line = screen + one, "" if one == "\n" else line + one
                    if line.endswith(ASKS):
                        running.stdin.write(f"{answer(line)}\n")
                        running.stdin.flush()
                        line = ""
            finally:
                stop.cancel()
        self.said += screen
        assert running.returncode == 0, screen
        return screen

    def code(self, name: str) -> str:
        """Return what the operator hands over for the founding: an officer's code, or the release process's keys."""
        return (self.ceremony / "ceremony" / "codes" / "acme" / name).read_text()

    def mails(self) -> list[str]:
        return [path.read_text() for path in (self.ceremony / "mail").iterdir()]

    def pids_of(self, process: str) -> list[int]:
        """Return all that runs of a role, its own children too."""
        pid = self.running[process].pid
        return [pid, *descendants_of(pid)]

    def hand_out_again(self) -> None:
        """Give the release process what a ceremony made while it ran: its keys, and whom it trusts."""
        self.stop("release")
        self._hand_out_all()
        self.hand_out("release")
        self.start("release")
        wait_for(self.is_ready, 120)

    def _hand_out_all(self) -> None:
        accounts = [part for process in PROCESSES for part in ("--account", f"{process}={ACCOUNTS[process]}")]
        self.manage("ceremony", "hand-out", str(self.directory), *accounts, "--yes", HOLDFAST_ROLE="ceremony")

    def hand_out(self, process: str) -> None:
        """Give a process what is its own beside what the ceremony handed out, in a directory that it alone enters."""
        home, made = self.home(process), self.ceremony
        make_secret_key(made)
        shutil.copy2(made / "secret.key", home / "secret.key")
        if process in ("sequencer", "release"):
            shutil.copytree(made / process, home / process, dirs_exist_ok=True)
        for path in (home, *home.rglob("*")):
            os.chown(path, ACCOUNTS[process], ACCOUNTS[process])
            path.chmod(0o700 if path.is_dir() else 0o600)

    def environment(self, process: str) -> dict[str, str]:
        home = self.home(process)
        given = {
            "HOLDFAST_ROLE": process,
            "HOLDFAST_STATE_DIR": str(home),
            "HOLDFAST_DATABASE_URL": self.database_url(process),
            "HOLDFAST_ROLE_KEY_FILE": str(home / "role.key"),
        }
        if process in ("web", "worker"):
            # Over plain http, and with mail into files: what production refuses.
            return given | {"HOLDFAST_PUBLIC_URL": self.url, "DJANGO_SETTINGS_MODULE": "config.settings.development"}
        # The others refuse to start but as production would: as themselves, to the system and to the database.
        software = {"HOLDFAST_REHEARSAL": "1", "HOLDFAST_HSM_SOFTHSM": "true", "HOLDFAST_HSM_MODULE": _SOFTHSM}
        return GOOD | software | given | {"HOLDFAST_SECRET_KEY_FILE": str(home / "secret.key")}

    def start(self, process: str) -> None:
        found = interpreter()
        assert found is not None
        python, libraries = found
        granian = ["-m", "config.web", "--interface", "wsgi", "config.wsgi:application", "--host", "127.0.0.1"]
        granian += ["--port", str(self.port), "--workers", "1", "--blocking-threads", "4", "--backpressure", "64"]
        with (self.directory / f"{process}.log").open("ab") as log:
            self.running[process] = subprocess.Popen(
                [python, *(granian if process == "web" else ["manage.py", process])],
                cwd=PROJECT,
                env=_ours()
                | self.environment(process)
                | {"PYTHONPATH": libraries, "PYTHONDONTWRITEBYTECODE": "1", "HOME": str(self.home(process))}
                | {"PLANTED": self.planted.hex()},
                stdout=log,
                stderr=subprocess.STDOUT,
                umask=0o077,
                **as_account(process),
            )

    def stop(self, *processes: str) -> None:
        for process in processes or tuple(self.running):
            self.running[process].terminate()
        for process in processes or tuple(self.running):
            running = self.running.pop(process)
            try:
                running.wait(timeout=20)
            except subprocess.TimeoutExpired:
                running.kill()
                running.wait()

    @contextmanager
    def hands(self, process: str) -> Iterator[Hands]:
        """Be one of the accounts."""
        found = interpreter()
        assert found is not None
        with subprocess.Popen(
            [found[0], "-m", "tests.cast.hands", self.database_url(process)],
            cwd=PROJECT,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": found[1], "PYTHONDONTWRITEBYTECODE": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            **as_account(process),
        ) as running:
            yield Hands(running)

    def is_ready(self) -> bool:
        import urllib.error
        import urllib.request

        for process, running in self.running.items():
            assert running.poll() is None, self.log(process)
        try:
            with urllib.request.urlopen(f"{self.url}/readyz", timeout=5) as answer:
                return set(json.load(answer)["parts"].values()) == {"ok"}
        except (urllib.error.URLError, OSError):
            return False


_SOFTHSM = "/usr/lib/softhsm/libsofthsm2.so"


def _ours() -> dict[str, str]:
    return {
        name: value for name, value in os.environ.items() if not name.startswith(("HOLDFAST_", "DJANGO_", "PYTEST_"))
    }


@contextmanager
def separated(directory: Path, *, begin: Sequence[str] = ()) -> Iterator[Separated]:
    """Hold the ceremonies on a database of its own, hand out what is whose, start all four; undone afterwards.

    begin: the ceremony that begins a tenant, to be founded by whoever is asked; without, it is the demo's.
    """
    prefix = f"t{os.urandom(6).hex()}_"
    with ExitStack() as stack:
        server = os.environ["HOLDFAST_TEST_POSTGRES"]
        administrator = stack.enter_context(psycopg.connect(server, autocommit=True))
        for process in PROCESSES:
            name = role_name(process, prefix=prefix)
            administrator.execute(f"CREATE ROLE {name} LOGIN")
            stack.callback(administrator.execute, f"DROP ROLE {name}")
        made = Separated(directory, stack.enter_context(fresh_database(f"{prefix}owner")), prefix)
        # Others pass through to what is theirs, and see no names.
        directory.chmod(0o711)
        made.ceremony.mkdir(mode=0o700)
        if begin:
            made.manage("migrate")
            for ceremony in (["init"], begin):
                made.manage("ceremony", *ceremony, "--yes", HOLDFAST_ROLE="ceremony")
        else:
            made.manage("demo", HOLDFAST_ROLE="ceremony")
        made.manage("database_roles", "--prefix", prefix)
        stack.callback(made.stop)
        made._hand_out_all()
        for process in PROCESSES:
            made.hand_out(process)
            made.start(process)
        wait_for(made.is_ready, 120)
        yield made
