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
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import psycopg

from config.database_roles import PROCESSES, role_name
from tests.cast.database_roles import as_user, fresh_database
from tests.cast.postgres import free_port
from tests.cast.server import PROJECT, wait_for
from tests.checks import GOOD

# Far from those that systems hand out, and below those of containers' users.
ACCOUNTS = {process: 61_001 + number for number, process in enumerate(PROCESSES)}
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

    def hand_out(self, process: str) -> None:
        """Give a process what is its own beside what the ceremony handed out, in a directory that it alone enters."""
        home, made = self.home(process), self.ceremony
        shutil.copy2(made / "secret.key", home / "secret.key")
        if process in ("sequencer", "release"):
            shutil.copytree(made / process, home / process)
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
                | {"PYTHONPATH": libraries, "PYTHONDONTWRITEBYTECODE": "1", "HOME": str(self.home(process))},
                stdout=log,
                stderr=subprocess.STDOUT,
                umask=0o077,
                **as_account(process),
            )

    def stop(self, *processes: str) -> None:
        for process in processes or tuple(self.running):
            self.running[process].terminate()
        for process in processes or tuple(self.running):
            self.running.pop(process).wait(timeout=20)

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
def separated(directory: Path) -> Iterator[Separated]:
    """Hold the ceremony on a database of its own, hand out what is whose, start all four; undone afterwards."""
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
        made.manage("demo", HOLDFAST_ROLE="ceremony")
        made.manage("database_roles", "--prefix", prefix)
        stack.callback(made.stop)
        accounts = [part for process in PROCESSES for part in ("--account", f"{process}={ACCOUNTS[process]}")]
        made.manage("ceremony", "hand-out", str(directory), *accounts, "--yes", HOLDFAST_ROLE="ceremony")
        for process in PROCESSES:
            made.hand_out(process)
            made.start(process)
        wait_for(made.is_ready, 120)
        yield made
