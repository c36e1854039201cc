# SPDX-License-Identifier: Apache-2.0
"""`ceremony hand-out` against the accounts that it gives to: each changes its own directory while root works there.

FAULTS L14. The accounts are numbers; what they do meanwhile is done at the moment at which it would hurt.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import time
from pathlib import Path

import pytest

from config.ceremonies import CeremonyRefused, accounts
from kernel.files import write_durably
from tests.cast.accounts import ACCOUNTS

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="giving files to other accounts takes root")
WEB = pwd.struct_passwd(("61001", "x", ACCOUNTS["web"], ACCOUNTS["web"], "", "/", "/"))
OWN = {"role.key": b"key", "hsm/tokens/root-1/object": b"token", "hsm/pins/root.pin": b"1", "hsm/hsm.json": b"{}"}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The directory of an account that has been handed its own."""
    home = tmp_path / "accounts" / "web"
    accounts._hand_out(home, OWN, WEB)
    return home


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """A directory of root's, with a file in a directory of it."""
    (tmp_path / "victim" / "root-1").mkdir(parents=True, mode=0o755)
    (tmp_path / "victim").chmod(0o755)
    (tmp_path / "victim" / "root-1" / "object").write_bytes(b"root's")
    # Others pass through, as they do in /var/lib.
    for above in (tmp_path, *tmp_path.parents[:3]):
        above.chmod(above.stat().st_mode | 0o011)
    return tmp_path / "victim"


def untouched(victim: Path) -> bool:
    paths = [victim, *victim.rglob("*")]
    named = {str(path.relative_to(victim)) for path in paths} == {".", "root-1", "root-1/object"}
    return named and {path.stat().st_uid for path in paths} == {0} and paths[-1].read_bytes() == b"root's"


def test_hand_out_gives_and_finds_what_it_gave(home: Path) -> None:
    assert accounts._is_handed_out(home, OWN, WEB)
    assert {path.lstat().st_uid for path in (home, *home.rglob("*"))} == {WEB.pw_uid}
    newer = {**OWN, "hsm/tokens/root-2/object": b"next"}
    del newer["hsm/tokens/root-1/object"]
    assert not accounts._is_handed_out(home, newer, WEB)
    accounts._hand_out(home, newer, WEB)
    assert [path.name for path in (home / "hsm" / "tokens").iterdir()] == ["root-2"]
    assert accounts._is_handed_out(home, newer, WEB)


@pytest.mark.parametrize("after", range(1, len(OWN) + 1))
def test_hand_out_killed_after_each_file_leaves_a_manifest_with_its_tokens(
    home: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    newer = {"role.key": b"key", "hsm/tokens/root-2/object": b"next", "hsm/pins/root.pin": b"2", "hsm/hsm.json": b"[]"}
    write, written = write_durably, []

    def killed(path: Path, body: bytes) -> None:
        write(path, body)
        written.append(path)
        if len(written) == after:
            os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(accounts, "write_durably", killed)
    with pytest.raises(CeremonyRefused, match="ended before anything was said"):
        accounts._hand_out(home, newer, WEB)
    named = "root-2" if (home / "hsm" / "hsm.json").read_bytes() == newer["hsm/hsm.json"] else "root-1"
    assert (home / "hsm" / "tokens" / named / "object").exists()
    monkeypatch.undo()
    accounts._hand_out(home, newer, WEB)
    assert accounts._is_handed_out(home, newer, WEB)
    assert [path.name for path in (home / "hsm" / "tokens").iterdir()] == ["root-2"]


def test_hand_out_killed_before_the_directory_is_the_accounts_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "accounts" / "web"
    monkeypatch.setattr(accounts, "_opened", lambda _home: os.kill(os.getpid(), signal.SIGKILL))
    ceremony = accounts._FORK.Process(target=accounts._hand_out, args=(home, OWN, WEB))
    ceremony.start()
    ceremony.join()
    monkeypatch.undo()
    assert (ceremony.exitcode, home.stat().st_uid) == (-signal.SIGKILL, 0)
    assert not accounts._is_handed_out(home, OWN, WEB)
    accounts._hand_out(home, OWN, WEB)
    assert accounts._is_handed_out(home, OWN, WEB)


def test_hand_out_follows_no_link_that_lay_there(home: Path, victim: Path) -> None:
    shutil.rmtree(home / "hsm" / "tokens")
    (home / "hsm" / "tokens").symlink_to(victim)
    with pytest.raises(CeremonyRefused, match=f"{home}/hsm/tokens: is not the plain file or directory"):
        accounts._hand_out(home, OWN, WEB)
    assert untouched(victim)


def test_hand_out_is_no_more_than_the_account_when_a_link_comes_meanwhile(
    home: Path, victim: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_at = accounts._looked_at

    def then_swapped(path: Path, *is_right: object) -> object:
        found = looked_at(path, *is_right)  # type: ignore[arg-type]
        if path == Path("hsm/tokens"):
            shutil.rmtree(home / "hsm" / "tokens")
            (home / "hsm" / "tokens").symlink_to(victim)
        return found

    monkeypatch.setattr(accounts, "_looked_at", then_swapped)
    with pytest.raises(CeremonyRefused, match="Permission denied"):
        accounts._hand_out(home, OWN, WEB)
    assert untouched(victim)


def test_hand_out_gives_away_nothing_by_its_path(home: Path, victim: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chown, named = os.chown, []

    def swapped(path: object, *arguments: object, **more: object) -> None:
        named.append(path)
        shutil.rmtree(home / "hsm" / "tokens", ignore_errors=True)
        (home / "hsm" / "tokens").symlink_to(victim)
        chown(path, *arguments, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "chown", swapped)
    accounts._hand_out(home, OWN, WEB)
    assert (named, untouched(victim)) == ([], True)


@pytest.mark.parametrize("of", ["root", "another account"])
def test_hand_out_leaves_a_directory_of_anothers_alone(tmp_path: Path, of: str) -> None:
    home = tmp_path / "web"
    home.mkdir()
    (home / "kept").write_bytes(b"theirs")
    owner = 0 if of == "root" else ACCOUNTS["release"]
    os.chown(home, owner, owner)
    with pytest.raises(CeremonyRefused, match=f"{home} has something in it, or is another"):
        accounts._hand_out(home, OWN, WEB)
    assert (home.stat().st_uid, [path.name for path in home.iterdir()]) == (owner, ["kept"])


def test_hand_out_takes_no_link_for_the_directory(tmp_path: Path, victim: Path) -> None:
    (tmp_path / "web").symlink_to(victim)
    with pytest.raises(CeremonyRefused, match="is no directory"):
        accounts._hand_out(tmp_path / "web", OWN, WEB)
    assert untouched(victim)


def test_account_that_stops_it_is_not_waited_for(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounts, "SECONDS", 1)
    monkeypatch.setattr(accounts, "_write", lambda _wanted: time.sleep(60))
    with pytest.raises(CeremonyRefused, match="kept it waiting for 1 seconds"):
        accounts._hand_out(home, OWN, WEB)
