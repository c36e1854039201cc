# SPDX-License-Identifier: Apache-2.0
"""`manage.py up` and a process of production as containers run them: process 1, a uid without a name, no HOME."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import prepared
from tests.cast.accounts import have_root_run, interpreter
from tests.cast.server import PROJECT, Installation, children_of, descendants_of, is_alive, set_up, wait_for
from tests.checks import production

# As a platform draws them for each tenant of its own: no /etc/passwd has it.
UID = 1_000_680_000
NAMESPACE = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
AS_NOBODY = ["setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups", "--no-new-privs"]


IS_ROOT = os.geteuid() == 0


@pytest.mark.skipif(IS_ROOT, reason="it is root who runs these tests")
def test_namespaces_are_made_when_root_runs_these_tests() -> None:
    have_root_run(__file__)


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that every account enters; nobody but root does pytest's own."""
    if not IS_ROOT or subprocess.run([*NAMESPACE, "true"], capture_output=True, check=False).returncode:
        pytest.skip("a namespace of processes takes root")
    if interpreter() is None:
        pytest.skip("other accounts can run neither this Python nor the system's, or cannot read the project")
    with tempfile.TemporaryDirectory(prefix="holdfast-first-") as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


def give(directory: Path) -> None:
    for path in (directory, *directory.rglob("*")):
        os.chown(path, UID, UID, follow_symlinks=False)


def start(directory: Path, command: list[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start one as process 1 of a namespace, under an environment that has nothing but what it is given."""
    found = interpreter()
    assert found is not None
    python, libraries = found
    given = {
        **environment,
        "PYTHONPATH": libraries,
        "PYTHONDONTWRITEBYTECODE": "1",
        "PATH": "/usr/bin:/bin",
    }
    with (directory / "first.log").open("ab") as log:
        return subprocess.Popen(
            [*NAMESPACE, *AS_NOBODY, python, str(PROJECT / "manage.py"), *command],
            cwd=PROJECT,
            env=given,
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def first_of(outside: subprocess.Popen[bytes]) -> int:
    """Return process 1 of the namespace, by its number here."""
    wait_for(lambda: children_of(outside.pid))
    return children_of(outside.pid)[0]


def names_of(pids: list[int]) -> set[str]:
    return {Path(f"/proc/{pid}/comm").read_text().strip() for pid in pids}


@pytest.fixture
def installed(place: Path) -> Installation:
    made = Installation(place)
    prepared.copy("installation", made.state_dir, set_up)
    give(made.state_dir)
    return made


def test_up_is_process_1_of_a_uid_without_a_name_or_a_home(installed: Installation) -> None:
    environment = {
        "HOLDFAST_STATE_DIR": str(installed.state_dir),
        "HOLDFAST_PUBLIC_URL": installed.url,
        "DJANGO_SETTINGS_MODULE": "config.settings.development",
    }
    outside = start(installed.directory, ["up"], environment)
    first, log = first_of(outside), installed.directory / "first.log"
    try:
        wait_for(lambda: b"Ctrl-C" in log.read_bytes() or outside.poll() is not None, 120)
        assert outside.poll() is None, log.read_text()
        assert installed.is_ready()
        # What others leave behind becomes ours, and is buried.
        inside = ["nsenter", f"--target={first}", "--pid", "--mount", "sh", "-c", "sleep 5 & exit 0"]
        subprocess.run(inside, check=True)
        wait_for(lambda: "sleep" in names_of(children_of(first)))
        wait_for(lambda: "sleep" not in names_of(children_of(first)))
        assert all(is_alive(pid) for pid in children_of(first)), "a zombie is left"
        everything = [first, *descendants_of(first)]
        os.kill(first, signal.SIGTERM)
        assert outside.wait(timeout=30) == 0
        assert not [pid for pid in everything if is_alive(pid)]
        assert log.read_text().rstrip().endswith("Stopped.")
    finally:
        outside.kill()
        outside.wait()


@pytest.mark.parametrize("role", ["worker", "release"])
def test_process_1_ends_by_sigterm_while_it_waits_for_its_database(role: str, place: Path) -> None:
    environment = production(place) | {
        "HOLDFAST_ROLE": role,
        "HOLDFAST_DATABASE_URL": "postgres://holdfast@127.0.0.1:9/holdfast",
    }
    give(place)
    outside = start(place, [role], environment)
    first, log = first_of(outside), place / "first.log"
    try:
        wait_for(lambda: b"the database is away" in log.read_bytes() or outside.poll() is not None)
        assert outside.poll() is None, log.read_text()
        os.kill(first, signal.SIGTERM)
        assert outside.wait(timeout=10) == 128 + signal.SIGTERM
    finally:
        outside.kill()
        outside.wait()
    assert "Traceback" not in log.read_text()
