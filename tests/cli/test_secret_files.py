# SPDX-License-Identifier: Apache-2.0
"""Files that secrets are read from: of this user or root, and open to nobody else.

Only a regular file has a mode that matters: standard input, pipes and what the shell has opened stay allowed.
"""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from holdfast.cli import asking
from holdfast.cli.exits import Exit
from holdfast.client.errors import MachineError
from holdfast.core.base.secret import SecretBytes
from holdfast.core.signed.enrolment import EnrolmentCode
from tests.cli.test_cli import CAROL, TENANT, run

SECRET = b"correct horse battery staple"
PHRASE = ("abandon " * 23 + "art").encode()
# Every door of the command through which a file's secret comes in, and what it reads.
READERS: dict[str, tuple[Callable[[Path], object], bytes]] = {
    "secret_file": (asking.secret_file, SECRET),
    "password": (lambda path: asking.password(path, "Password"), SECRET),
    "ask_phrase": (lambda path: asking.ask_phrase("Phrase", path), PHRASE),
}


def secret(path: Path, octets: bytes, mode: int) -> Path:
    path.write_bytes(octets)
    path.chmod(mode)
    return path


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("mode", [0o644, 0o640, 0o660, 0o604, 0o620, 0o602, 0o610, 0o601, 0o777, 0o4644])
def test_file_that_is_open_to_others_is_refused_with_the_line_that_closes_it(
    tmp_path: Path, reader: str, mode: int
) -> None:
    read, octets = READERS[reader]
    path = secret(tmp_path / "my secret", octets, mode)
    with pytest.raises(MachineError) as caught:
        read(path)
    assert str(caught.value) == f"{path} is open to others than its owner."
    assert caught.value.way_out == f"chmod 600 '{path}'"
    path.chmod(0o600)
    assert read(path)


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("mode", [0o600, 0o400, 0o700])
def test_file_of_its_owner_alone_is_read(tmp_path: Path, reader: str, mode: int) -> None:
    read, octets = READERS[reader]
    assert read(secret(tmp_path / "secret", octets, mode))


def test_link_is_judged_by_the_file_that_it_leads_to(tmp_path: Path) -> None:
    loose = secret(tmp_path / "loose", SECRET, 0o644)
    (tmp_path / "link").symlink_to(loose)
    with pytest.raises(MachineError):
        asking.secret_file(tmp_path / "link")
    loose.chmod(0o600)
    assert asking.secret_file(tmp_path / "link") == SecretBytes(SECRET)


def test_pipe_is_read_whatever_its_mode(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    pipe.chmod(0o666)
    writer = threading.Thread(target=pipe.write_bytes, args=(SECRET,))
    writer.start()
    assert asking.secret_file(pipe) == SecretBytes(SECRET)
    writer.join()


def test_what_the_shell_has_opened_is_read(tmp_path: Path) -> None:
    with secret(tmp_path / "loose", SECRET, 0o644).open("rb") as file:
        assert asking.secret_file(Path(f"/dev/fd/{file.fileno()}")) == SecretBytes(SECRET)


@pytest.mark.parametrize(
    ("user", "owner", "is_read"),
    [(1000, 1000, True), (1000, 0, True), (1000, 1001, False), (0, 1000, True), (0, 0, True)],
)
def test_file_is_this_users_or_roots_and_root_reads_everybodys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, user: int, owner: int, is_read: bool
) -> None:
    path = secret(tmp_path / "secret", SECRET, 0o600)
    status = os.stat_result((stat.S_IFREG | 0o600, 0, 0, 1, owner, 0, len(SECRET), 0, 0, 0))
    monkeypatch.setattr("os.geteuid", lambda: user)
    monkeypatch.setattr("os.fstat", lambda _descriptor: status)
    if is_read:
        assert asking.secret_file(path) == SecretBytes(SECRET)
    else:
        with pytest.raises(MachineError, match="belongs to another user"):
            asking.secret_file(path)


def test_no_more_than_a_secrets_length_is_read(tmp_path: Path) -> None:
    path = secret(tmp_path / "long", b"a" * 1_000_000, 0o600)
    assert len(asking.secret_file(path)) == 4096


@pytest.mark.parametrize("option", ["--code-file", "--passphrase-file"])
def test_command_says_in_one_sentence_which_file_to_close(tmp_path: Path, option: str) -> None:
    loose = secret(tmp_path / "loose", SECRET, 0o644)
    private = secret(tmp_path / "private", SECRET, 0o600)
    files = {"--code-file": private, "--passphrase-file": private, option: loose}
    words = [word for name, path in files.items() for word in (name, str(path))]
    if option == "--passphrase-file":
        code = EnrolmentCode.new(tenant=TENANT, person=CAROL).text().encode()
        secret(private, code, 0o600)
    done = run("enrol", "--server", "http://127.0.0.1:9", "--profile", str(tmp_path / "none"), *words)
    assert done.returncode == Exit.MACHINE
    assert f"{loose} is open to others than its owner. → chmod 600 {loose}" in " ".join(done.stderr.split())
    assert SECRET.decode() not in done.stdout + done.stderr
