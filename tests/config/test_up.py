# SPDX-License-Identifier: Apache-2.0
"""`manage.py up`: starts everything as one command, changes nothing the second time, leaves nothing behind."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.cast.postgres import free_port
from tests.cast.server import Installation, descendants_of, is_alive, wait_for


@pytest.fixture(scope="module")
def interrupted() -> Iterator[tuple[Installation, list[int]]]:
    """One in a directory made beforehand, as a disk brings it, whose first start was ended amid the ceremonies.

    With all the processes that it had.
    """
    with tempfile.TemporaryDirectory(prefix="holdfast-up-") as directory:
        made = Installation(Path(directory))
        (made.state_dir / "lost+found").mkdir(parents=True)
        made.state_dir.chmod(0o777)
        begun = made.begin(umask=0)
        wait_for(lambda: list((made.state_dir / ".making" / "hsm").glob("*")) or begun.poll() is not None)
        everything = [begun.pid, *descendants_of(begun.pid)]
        begun.send_signal(signal.SIGTERM)
        assert begun.wait(timeout=30) == 0, made.log.read_text()
        yield made, everything


@pytest.fixture(scope="module")
def running(interrupted: tuple[Installation, list[int]]) -> Iterator[Installation]:
    made, everything = interrupted
    assert wait_until_gone(everything) == []
    assert {path.name for path in made.state_dir.iterdir()} == {".up.lock", "lost+found"}, "nothing is half-made"
    made.start(umask=0)
    try:
        yield made
    finally:
        made.stop()


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


def test_what_waits_has_neither_django_nor_the_settings(running: Installation) -> None:
    assert running.process is not None
    mapped = Path(f"/proc/{running.process.pid}/maps").read_text()
    assert [name for name in ("_pydantic_core", "cryptography", "_sqlite3") if name in mapped] == []
    assert "_sqlite3" in Path(f"/proc/{running.pid_of('worker')}/maps").read_text()


def test_up_refuses_an_address_that_is_taken(running: Installation) -> None:
    second = running.manage("up", check=False)
    assert second.returncode != 0
    assert "answers at" in second.stderr


def test_up_refuses_a_directory_that_another_uses(running: Installation) -> None:
    second = running.manage("up", check=False, HOLDFAST_PUBLIC_URL=f"http://127.0.0.1:{free_port()}")
    assert second.returncode == 1
    assert f"Another `up` uses {running.state_dir}" in second.stderr
    assert second.stdout == ""


def test_up_refuses_a_directory_in_which_it_may_not_write(running: Installation, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    elsewhere = {"HOLDFAST_PUBLIC_URL": f"http://127.0.0.1:{free_port()}"}
    second = running.manage("up", check=False, HOLDFAST_STATE_DIR=str(tmp_path / "file" / "var"), **elsewhere)
    assert second.returncode == 1
    assert f"cannot write in {tmp_path}/file/var: Not a directory" in second.stderr


@pytest.mark.parametrize("role", ["web", "release"])
def test_doctor_finds_nothing_wrong_with_what_runs(running: Installation, role: str) -> None:
    said = running.manage("doctor", HOLDFAST_ROLE=role).stdout
    assert "Everything that this account sees is as it has to be." in said
    assert {line.split()[0] for line in said.splitlines()[:-1]} <= {"ok", "unseen"}
    assert "was not tried" in said


def test_nobody_else_reads_what_is_made_under_any_umask(running: Installation) -> None:
    assert running.state_dir.stat().st_mode & 0o777 == 0o700
    open_to_others = [
        str(path.relative_to(running.state_dir))
        for path in running.state_dir.rglob("*")
        if path.name != "lost+found" and not path.is_symlink() and path.stat().st_mode & 0o077
    ]
    # Where an HSM's home is shared, services of other accounts read these: no secret is in them.
    assert set(open_to_others) <= {"hsm/hsm.json", "hsm/.commit.lock", "hsm/.ceremony.lock"}


def test_of_two_starts_at_one_address_one_wins_and_the_other_says_so(running: Installation, tmp_path: Path) -> None:
    running.stop()
    second = Installation(tmp_path, port=running.port)
    # Not what processes that ran have left: sockets, and copies of tokens.
    left_out = shutil.ignore_patterns("proxy", "run", ".up.lock")
    shutil.copytree(running.state_dir, second.state_dir, ignore=left_out)
    try:
        begun = [(one, one.begin(), one.log.stat().st_size if one.log.exists() else 0) for one in (running, second)]
        wait_for(lambda: any(process.poll() is not None for _, process, _ in begun), 120)
        loser, ended, said_before = next(one for one in begun if one[1].poll() is not None)
        said = loser.log.read_bytes()[said_before:].decode()
        assert ended.returncode == 1, said
        assert "Who can sign in" not in said, "it welcomes nobody"
        assert f"127.0.0.1:{running.port}" in said
        winner, _, said_before = next(one for one in begun if one[0] is not loser)
        wait_for(lambda: b"Ctrl-C" in winner.log.read_bytes()[said_before:], 120)
    finally:
        second.stop()
        if running.process is None or running.process.poll() is not None:
            running.start()


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
    running.start()
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
