# SPDX-License-Identifier: Apache-2.0
"""What the client writes for a person, on the disks that people have: a stick, a full one, one with files of theirs."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from holdfast.client.escrow import archive
from holdfast.client.profile.account import Account
from holdfast.client.vault import export
from holdfast.core.base.secret import SecretBytes
from holdfast.files import FileFailed, write_whole
from tests.cast.members import Members
from tests.cast.refusals import under

CONTENT = bytes(200_000)
STICK = {"renameat2": errno.EINVAL, "link": errno.EPERM, "linkat": errno.EPERM}
PASSWORD = SecretBytes(b"a password of an export file")

# Each writes one new file, `new`, from what lies in the directory.
WRITES: dict[str, Callable[[Account, Path], object]] = {
    "encrypt": lambda account, stick: archive.encrypt_file(account, stick / "in", stick / "new"),
    "decrypt": lambda account, stick: archive.decrypt_file(account, stick / "sealed", stick / "new"),
    "export": lambda account, stick: write_whole(stick / "new", export.write(account, password=PASSWORD)),
}


@pytest.fixture
def alice(world: Members, tmp_path: Path) -> Account:
    account = world.depositor(tmp_path)
    (tmp_path / "in").write_bytes(CONTENT)
    archive.encrypt_file(account, tmp_path / "in", tmp_path / "sealed")
    return account


def names(directory: Path) -> set[str]:
    return {one.name for one in directory.iterdir()}


@pytest.mark.parametrize("what", WRITES)
def test_file_system_without_hard_links_takes_whatever_is_written(what: str, alice: Account, tmp_path: Path) -> None:
    before = names(tmp_path)
    under(STICK, lambda: WRITES[what](alice, tmp_path))
    assert names(tmp_path) == {*before, "new"}
    if what == "decrypt":
        assert (tmp_path / "new").read_bytes() == CONTENT


@pytest.mark.parametrize("what", ["encrypt", "decrypt"])
@pytest.mark.parametrize(("call", "number"), [("write", errno.ENOSPC), ("fsync", errno.EIO)])
def test_disk_that_refuses_keeps_no_plaintext_and_nothing_else(
    what: str, call: str, number: int, alice: Account, tmp_path: Path
) -> None:
    before = names(tmp_path)
    with pytest.raises(FileFailed):
        under({call: number}, lambda: WRITES[what](alice, tmp_path))
    assert names(tmp_path) == before


@pytest.mark.parametrize("name", [".opened.part", ".opened.new", "opened.part"])
def test_source_of_a_decryption_is_still_there_whatever_it_is_called(name: str, alice: Account, tmp_path: Path) -> None:
    shutil.copy(tmp_path / "sealed", tmp_path / name)
    sealed = (tmp_path / name).read_bytes()
    archive.decrypt_file(alice, tmp_path / name, tmp_path / "opened")
    assert (tmp_path / "opened").read_bytes() == CONTENT
    assert (tmp_path / name).read_bytes() == sealed
