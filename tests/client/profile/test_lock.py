# SPDX-License-Identifier: Apache-2.0
"""A profile is used by one at a time, and whoever comes meanwhile waits for as long as they said."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from holdfast.client.client import Client
from holdfast.client.errors import ClientError, ProfileBusy, ProfileError, WrongPassphrase
from holdfast.client.profile import account as accounts
from holdfast.client.profile import private_files
from holdfast.core.base.secret import SecretBytes
from holdfast.core.vault.password_door import Argon2Cost
from tests.cast.lying_server import TENANT
from tests.cast.members import ALICE

PASSPHRASE = SecretBytes(b"correct horse battery")
CHEAP = Argon2Cost(memory_kib=19 * 1024, passes=2, lanes=1)
MANY = 12
HOLDER = """
import sys
from pathlib import Path
from holdfast.client.profile.private_files import locked

with locked(Path(sys.argv[1])):
    print("in", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def profile(tmp_path: Path) -> Path:
    accounts.create(tmp_path / "p", tenant=TENANT, user=ALICE, passphrase=PASSPHRASE, cost=CHEAP).close()
    return tmp_path / "p"


@contextmanager
def held(profile: Path) -> Iterator[subprocess.Popen[str]]:
    """Have another process hold a profile until it is told a line."""
    command = [sys.executable, "-c", HOLDER, str(profile)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "in\n"
        try:
            yield holder
        finally:
            holder.kill()


def let_go(holder: subprocess.Popen[str]) -> None:
    assert holder.stdin is not None
    holder.stdin.write("\n")
    holder.stdin.flush()


def test_many_at_once_all_have_their_turn_and_lose_nothing(profile: Path) -> None:
    begin = threading.Barrier(MANY)
    refused: list[ProfileError] = []

    def once(_number: int) -> None:
        begin.wait()
        try:
            with accounts.open_account(profile, passphrase=PASSPHRASE, wait_seconds=60) as account:
                account.state.server += "x"
                account.save()
        except ProfileError as error:
            refused.append(error)

    with ThreadPoolExecutor(MANY) as pool:
        list(pool.map(once, range(MANY)))
    assert refused == []
    with accounts.open_account(profile, passphrase=PASSPHRASE) as account:
        assert account.state.server == MANY * "x"


@pytest.mark.parametrize("wait", [0, 0.05, -1, float("nan")])
def test_busy_profile_is_said_to_be_busy_in_words_for_every_app(profile: Path, wait: float) -> None:
    with held(profile), pytest.raises(ProfileBusy) as busy:
        Client.open(profile, passphrase=PASSPHRASE, wait_seconds=wait)
    assert isinstance(busy.value, ProfileError)
    assert isinstance(busy.value, ClientError)
    for word in ("command", "holdfast", "--"):
        assert word not in f"{busy.value} {busy.value.way_out}"


def test_whoever_waits_goes_in_when_the_other_has_gone(profile: Path) -> None:
    with held(profile) as holder, ThreadPoolExecutor(1) as pool:

        def waiting() -> bytes:
            with accounts.open_account(profile, passphrase=PASSPHRASE, wait_seconds=60) as account:
                return account.user

        found = pool.submit(waiting)
        with pytest.raises(TimeoutError):
            found.result(0.2)
        let_go(holder)
        assert found.result(60) == ALICE


def test_profile_that_got_a_new_key_meanwhile_opens_by_what_it_says_then(
    profile: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = SecretBytes(b"another passphrase altogether")
    locked = private_files.locked

    @contextmanager
    def late(directory: Path, *, wait_seconds: float = 0) -> Iterator[None]:
        # While this one waited, another program was in.
        monkeypatch.setattr(accounts, "locked", locked)
        accounts.change_key(directory, passphrase=PASSPHRASE, new=other)
        with locked(directory, wait_seconds=wait_seconds):
            yield

    monkeypatch.setattr(accounts, "locked", late)
    with pytest.raises(WrongPassphrase):
        accounts.open_account(profile, passphrase=PASSPHRASE, wait_seconds=1).__enter__()
    with accounts.open_account(profile, passphrase=other) as account:
        assert account.user == ALICE


def test_new_passphrase_waits_for_its_turn_as_well(profile: Path) -> None:
    with held(profile), pytest.raises(ProfileBusy):
        accounts.change_key(profile, passphrase=PASSPHRASE, new=SecretBytes(b"another passphrase"))
    with closing(accounts.open_profile(profile, passphrase=PASSPHRASE)) as account:
        assert account.user == ALICE
