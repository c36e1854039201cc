# SPDX-License-Identifier: Apache-2.0
"""The command and the disk: what is told to end leaves no plaintext, and nobody reads an errno."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from uuid import UUID

import pytest

from holdfast.cli.app import main
from holdfast.cli.exits import Exit
from holdfast.client.identity import device
from holdfast.client.profile import account as accounts
from holdfast.client.profile.account import Account
from holdfast.client.profile.private_files import locked, write_private
from holdfast.client.profile.state import Generation
from holdfast.core.base.secret import SecretBytes
from holdfast.core.escrow.archive import SEGMENT_SIZE, encrypt_segments, new_archive_key
from holdfast.core.escrow.deposit import archive_key_commitment
from holdfast.core.vault.password_door import Argon2Cost
from tests.cast.lying_server import TENANT, LyingServer, Tenant, text
from tests.cast.members import ALICE, Members

PASSPHRASE = "correct horse battery staple"
CHEAP = Argon2Cost(memory_kib=19 * 1024, passes=2, lanes=1)
LINE = [sys.executable, "-m", "holdfast.cli"]


@pytest.fixture
def world() -> Members:
    return Members(LyingServer(Tenant()))


@pytest.fixture
def options(tmp_path: Path) -> list[str]:
    """A profile with one archive key, and the options that open it; beside it a letter under that key."""
    key = new_archive_key()
    passphrase = SecretBytes(PASSPHRASE.encode())
    with closing(
        accounts.create(tmp_path / "p", tenant=TENANT, user=ALICE, passphrase=passphrase, cost=CHEAP)
    ) as account:
        account.state.generations.append(Generation(1, key, 1, archive_key_commitment(1, key)))
        account.save()
    write_private(tmp_path / "passphrase", PASSPHRASE)
    content = [bytes(SEGMENT_SIZE), bytes(SEGMENT_SIZE), b"end"]
    sealed = encrypt_segments(iter(content), archive_key=key, tenant=TENANT, user=ALICE, generation=1)
    (tmp_path / "letter.holdfast").write_bytes(b"".join(sealed))
    (tmp_path / "out").mkdir()
    return ["--profile", str(tmp_path / "p"), "--passphrase-file", str(tmp_path / "passphrase"), "--json"]


def run(*arguments: str) -> tuple[int, dict[str, str]]:
    done = subprocess.run([*LINE, *arguments], capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, json.loads(done.stderr)["error"] if done.returncode else json.loads(done.stdout)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_command_that_is_told_to_end_leaves_no_plaintext(
    number: signal.Signals, options: list[str], tmp_path: Path
) -> None:
    sealed = (tmp_path / "letter.holdfast").read_bytes()
    os.mkfifo(tmp_path / "slow")
    line = [*LINE, "archive", "decrypt", str(tmp_path / "slow"), "--out", str(tmp_path / "out" / "letter"), *options]
    with subprocess.Popen(line) as command, (tmp_path / "slow").open("wb", buffering=0) as slow:
        slow.write(sealed[: 2 * SEGMENT_SIZE])
        until = time.monotonic() + 60
        while not list((tmp_path / "out").iterdir()):
            assert time.monotonic() < until
            time.sleep(0.01)
        command.send_signal(number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            command.wait(10)
        if command.poll() is None:
            # It came between two reads of a pipe that is empty by now: Python sees it when the next one wakes it.
            command.send_signal(number)
        assert command.wait(60) == 128 + number
    assert list((tmp_path / "out").iterdir()) == []


def test_refusal_of_the_disk_is_read_in_words_with_a_way_out(options: list[str], tmp_path: Path) -> None:
    sealed = str(tmp_path / "letter.holdfast")
    (tmp_path / "taken").write_bytes(b"theirs")
    for place, words in (("missing/letter", "no such file or directory"), ("taken", "nothing is overwritten")):
        code, error = run("archive", "decrypt", sealed, "--out", str(tmp_path / place), *options)
        assert code not in {Exit.DONE, Exit.UNTRUSTED, Exit.PROFILE}
        assert str(tmp_path / place) in error["message"]
        assert words in error["message"]
        assert "Errno" not in error["message"]
        assert error["way_out"]
    assert (tmp_path / "taken").read_bytes() == b"theirs"


def test_enrolment_code_is_not_made_when_there_is_no_place_for_it(
    world: Members, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    carol = world.enrolled(world.server.tenant.officers[0].person)

    @contextmanager
    def opened(_directory: Path, **_how: object) -> Iterator[Account]:
        yield carol

    monkeypatch.setattr(carol, "connect", lambda *_args, **_more: carol.api)
    monkeypatch.setattr(accounts, "open_account", opened)
    monkeypatch.setattr(accounts, "asks_for_passphrase", lambda _directory: False)
    issued: list[UUID] = []
    issue = device.issue_code

    def issuing(account: Account, user: UUID) -> device.IssuedCode:
        issued.append(user)
        return issue(account, user)

    monkeypatch.setattr(device, "issue_code", issuing)
    (tmp_path / "taken").write_bytes(b"theirs")
    for out, ended, count in (("taken", Exit.INPUT, 0), ("missing/code", Exit.INPUT, 0), ("new", Exit.DONE, 1)):
        with pytest.raises(SystemExit) as end:
            main(["officer", "code", text(ALICE), "--out", str(tmp_path / out)])
        assert (end.value.code, len(issued)) == (ended, count), capsys.readouterr().err
    assert (tmp_path / "taken").read_bytes() == b"theirs"
    assert (tmp_path / "new").read_text().startswith("hf")


def test_busy_profile_has_an_exit_code_of_its_own_and_is_waited_for(options: list[str], tmp_path: Path) -> None:
    with locked(tmp_path / "p"):
        code, error = run("doctor", *options, "--profile-wait", "0")
        assert (code, error["kind"]) == (Exit.AGAIN, "ProfileBusy")
        waiting = subprocess.Popen([*LINE, "doctor", *options], stdout=subprocess.PIPE)
        with pytest.raises(subprocess.TimeoutExpired):
            waiting.wait(1.5)
    assert waiting.wait(60) == Exit.DONE
    waiting.communicate()
