# SPDX-License-Identifier: Apache-2.0
"""`manage.py up`: starts everything as one command, changes nothing the second time, leaves nothing behind."""

from __future__ import annotations

import hashlib
import os
import signal
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.cast.server import Installation, descendants_of, installation, is_alive, wait_for


@pytest.fixture(scope="module")
def running() -> Iterator[Installation]:
    with installation(by_up=True) as made:
        yield made


def wait_until_gone(pids: list[int], seconds: float = 15) -> list[int]:
    deadline = time.monotonic() + seconds
    while any(is_alive(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.1)
    return [pid for pid in pids if is_alive(pid)]


def fingerprints(directory: Path) -> dict[str, str]:
    return {
        str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def test_up_says_where_it_is_and_who_can_sign_in(running: Installation) -> None:
    said = running.log.read_text()
    assert running.url in said
    for name in ("olivia", "carol", "dan", "erin", "rex", "otto"):
        assert f"{name}@acme.test" in said


def test_up_refuses_an_address_that_is_taken(running: Installation) -> None:
    second = running.manage("up", check=False)
    assert second.returncode != 0
    assert "answers at" in second.stderr


def test_no_secret_stands_in_a_command_line_or_an_environment(running: Installation) -> None:
    assert running.process is not None
    secrets = [path.read_text().strip() for path in (running.state_dir / "hsm" / "pins").glob("*")]
    secrets += [(running.state_dir / "secret.key").read_text().strip()]
    assert len(secrets) > 4
    for pid in [running.process.pid, *descendants_of(running.process.pid)]:
        for name in ("cmdline", "environ"):
            shown = Path(f"/proc/{pid}/{name}").read_bytes().decode(errors="replace")
            assert not [secret for secret in secrets if secret in shown]


def test_each_process_holds_copies_of_its_own_tokens_only(running: Installation) -> None:
    held = {}
    for role in ("web", "worker", "sequencer", "release"):
        pid = running.pid_of(role)
        labels = set()
        for directory in (running.state_dir / "hsm" / "run").glob(f"*{pid}*"):
            for path in directory.rglob("token.object"):
                content = path.read_bytes()
                labels |= {name for name in ("ceremony", "root", "log", "escrow") if name.encode() in content}
        held[role] = labels
    assert held["web"] == {"root"}
    assert held["worker"] == {"root"}
    assert held["sequencer"] == {"log"}
    assert held["release"] == {"escrow", "root"}


def test_a_second_up_changes_nothing_and_ctrl_c_leaves_no_process(running: Installation) -> None:
    assert running.process is not None
    everything = [running.process.pid, *descendants_of(running.process.pid)]
    running.stop()
    assert wait_until_gone(everything) == []
    before = fingerprints(running.state_dir / "hsm" / "tokens") | fingerprints(running.demo)
    started = time.monotonic()
    running.start()
    assert time.monotonic() - started < 30
    assert fingerprints(running.state_dir / "hsm" / "tokens") | fingerprints(running.demo) == before


def test_up_listens_elsewhere_than_the_public_address_when_told(running: Installation) -> None:
    running.stop()
    before, running.extra = (
        running.extra,
        {
            **running.extra,
            "HOLDFAST_PUBLIC_URL": "https://holdfast.test",
            "HOLDFAST_LISTEN": f"127.0.0.1:{running.port}",
        },
    )
    try:
        running.start()
        asked = urllib.request.Request(f"{running.url}/docs/problems", headers={"host": "holdfast.test"})
        with urllib.request.urlopen(asked, timeout=10) as answer:
            assert answer.status == 200
        assert "https://holdfast.test/console/" in running.log.read_text()
    finally:
        running.stop()
        running.extra = before
        running.start()


def test_kill_9_leaves_no_process(running: Installation) -> None:
    assert running.process is not None
    everything = [running.process.pid, *descendants_of(running.process.pid)]
    assert len(everything) >= 6
    os.kill(running.process.pid, signal.SIGKILL)
    running.process.wait()
    assert wait_until_gone(everything) == []
    running.start()


ROLES = ("proxy", "web", "worker", "sequencer", "release")


def pids(running: Installation) -> dict[str, int]:
    """Which process does each role's work; 0 for a role that has none at this moment."""
    found = dict.fromkeys(ROLES, 0)
    for role in ROLES:
        with suppress(LookupError, OSError):
            found[role] = running.pid_of(role)
    return found


@pytest.mark.parametrize("role", ROLES)
def test_process_that_ends_by_itself_is_started_again_and_the_others_go_on(running: Installation, role: str) -> None:
    assert running.process is not None
    before, said_before = pids(running), running.log.stat().st_size
    os.kill(before[role], signal.SIGKILL)
    wait_for(lambda: not is_alive(before[role]))
    # The proxy answers by itself that nobody is behind it, so both are waited for.
    wait_for(lambda: pids(running)[role] not in (0, before[role]) and running.is_ready())
    assert running.process.poll() is None
    after = pids(running)
    assert {name for name in ROLES if after[name] != before[name]} == {role}
    said = running.log.read_bytes()[said_before:].decode()
    assert f"The {role} process ended with status " in said
    assert "; starting it again in " in said


def test_process_that_refuses_to_start_says_so_and_is_not_tried_again(running: Installation) -> None:
    """Their keys are gone: a person has to put them back, and no try before that changes anything.

    With a wrong PIN, each would be one of the few that a token allows.
    """
    refusing = ("web", "worker")
    keys = [running.state_dir / "roles" / f"{role}.key" for role in refusing]
    said_before = running.log.stat().st_size

    def said() -> str:
        return running.log.read_bytes()[said_before:].decode()

    away = [key.rename(key.with_suffix(".away")) for key in keys]
    try:
        for role in refusing:
            os.kill(running.pid_of(role), signal.SIGKILL)
        wait_for(lambda: all(f"The {role} process ended with status 78" in said() for role in refusing))
        assert said().count("The role key ") == len(refusing)
        assert "The others go on. Mend it, then stop and start Holdfast again." in said()
        time.sleep(5)  # longer than the pauses so far
        left = pids(running)
        assert {role for role in ROLES if not left[role]} == {*refusing}
        assert said().count("The role key ") == len(refusing)
    finally:
        for moved, key in zip(away, keys, strict=True):
            moved.rename(key)
    running.stop()
    running.start()
    assert all(pids(running)[role] for role in refusing)
