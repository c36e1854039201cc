# SPDX-License-Identifier: Apache-2.0
"""The profile's key in the operating system's keyring, and every machine that has none worth the name.

The backend here is a class of the package `keyring`, as any other, that keeps its entries in a file of the test.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keyring as system
import pytest
from keyring.backend import KeyringBackend
from keyring.backends import chainer, fail, null
from keyring.errors import KeyringLocked, PasswordDeleteError

from holdfast.client.errors import MachineError, NotPossible, ProfileError
from holdfast.client.profile import account as accounts
from holdfast.client.profile import keyring
from holdfast.client.profile.head import new_key
from holdfast.client.profile.sqlite_file import head_of
from holdfast.client.profile.store import PROFILE_FILE
from holdfast.core.base.secret import SecretBytes

TENANT, ALICE = b"t" * 16, b"a" * 16


class FileKeyring(KeyringBackend):
    """Stands for the system's own: entries in one file, which it can lock or lose."""

    priority = 5

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.is_locked = False
        self.is_forgetful = False

    def _entries(self) -> dict[str, str]:
        if self.is_locked:
            raise KeyringLocked("locked")
        return json.loads(self.path.read_text()) if self.path.exists() else {}

    def get_password(self, service: str, username: str) -> str | None:
        return self._entries().get(f"{service}/{username}")

    def set_password(self, service: str, username: str, password: str) -> None:
        if not self.is_forgetful:
            self.path.write_text(json.dumps({**self._entries(), f"{service}/{username}": password}))

    def delete_password(self, service: str, username: str) -> None:
        entries = self._entries()
        if entries.pop(f"{service}/{username}", None) is None:
            raise PasswordDeleteError("none")
        self.path.write_text(json.dumps(entries))


class PlaintextKeyring(FileKeyring):
    """What a package of alternatives calls itself: everything in a file that anybody reads."""


class WeakKeyring(FileKeyring):
    """A backend that its own author does not recommend."""

    priority = 0.6  # type: ignore[assignment]


@pytest.fixture(autouse=True)
def backend(tmp_path: Path) -> Iterator[FileKeyring]:
    before = system.get_keyring()
    made = FileKeyring(tmp_path / "entries")
    system.set_keyring(made)
    yield made
    system.set_keyring(before)


def made_in(directory: Path) -> accounts.Account:
    return accounts.create(directory, tenant=TENANT, user=ALICE)


def test_profile_opens_without_a_passphrase_where_the_keyring_has_its_key(tmp_path: Path, backend: FileKeyring) -> None:
    account = made_in(tmp_path / "p")
    account.state.server = "https://holdfast.example"
    account.save()
    account.close()
    assert not accounts.asks_for_passphrase(tmp_path / "p")
    profile = head_of(tmp_path / "p" / PROFILE_FILE).profile
    assert list(json.loads(backend.path.read_text())) == [f"holdfast/{profile.hex()}"]
    with accounts.open_account(tmp_path / "p") as found:
        assert found.state.server == "https://holdfast.example"


def test_two_profiles_have_two_keys(tmp_path: Path, backend: FileKeyring) -> None:
    made_in(tmp_path / "p").close()
    made_in(tmp_path / "q").close()
    assert len(set(json.loads(backend.path.read_text()).values())) == 2


@pytest.mark.parametrize(
    "found",
    [fail.Keyring, null.Keyring, PlaintextKeyring, WeakKeyring],
    ids=["none", "null", "plain text", "not recommended"],
)
def test_profile_is_not_made_where_no_keyring_keeps_a_secret(tmp_path: Path, found: Any) -> None:
    weak = issubclass(found, FileKeyring)
    system.set_keyring(found(tmp_path / "weak") if weak else found())
    with pytest.raises(MachineError, match="no keyring") as caught:
        made_in(tmp_path / "p")
    assert "--passphrase-file" in caught.value.way_out
    assert not (tmp_path / "p" / PROFILE_FILE).exists()
    assert not (tmp_path / "weak").exists()


def test_chain_of_keyrings_stands_for_its_first_that_encrypts(
    tmp_path: Path, backend: FileKeyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    weak = PlaintextKeyring(tmp_path / "weak")
    monkeypatch.setattr(chainer.ChainerBackend, "backends", [weak, backend])
    system.set_keyring(chainer.ChainerBackend())
    made_in(tmp_path / "p").close()
    assert backend.path.exists()
    assert not weak.path.exists()
    monkeypatch.setattr(chainer.ChainerBackend, "backends", [weak])
    with pytest.raises(MachineError, match="no keyring"):
        accounts.open_profile(tmp_path / "p")


def test_keyring_that_loses_what_it_is_given_is_found_out_before_a_profile_is_made(
    tmp_path: Path, backend: FileKeyring
) -> None:
    backend.is_forgetful = True
    with pytest.raises(ProfileError):
        made_in(tmp_path / "p")
    assert not (tmp_path / "p" / PROFILE_FILE).exists()


def test_locked_keyring_says_to_unlock_it(tmp_path: Path, backend: FileKeyring) -> None:
    made_in(tmp_path / "p").close()
    backend.is_locked = True
    with pytest.raises(MachineError, match="refused") as caught:
        accounts.open_profile(tmp_path / "p")
    assert "Unlock" in caught.value.way_out


def test_profile_on_a_machine_without_its_key_stays_closed(tmp_path: Path, backend: FileKeyring) -> None:
    made_in(tmp_path / "p").close()
    backend.path.unlink()
    with pytest.raises(ProfileError, match="does not have this profile's key"):
        accounts.open_profile(tmp_path / "p")
    with pytest.raises(ProfileError, match="does not have this profile's key"):
        accounts.open_profile(tmp_path / "p", passphrase=SecretBytes(b"a passphrase it never had"))


@pytest.mark.parametrize("entry", ["", "not base64url!", "AAAA"])
def test_entry_that_is_no_key_is_refused(tmp_path: Path, backend: FileKeyring, entry: str) -> None:
    made_in(tmp_path / "p").close()
    (name,) = json.loads(backend.path.read_text())
    backend.path.write_text(json.dumps({name: entry}))
    with pytest.raises(ProfileError, match="not its key"):
        accounts.open_profile(tmp_path / "p")


def test_another_profiles_key_does_not_open_this_one(tmp_path: Path, backend: FileKeyring) -> None:
    made_in(tmp_path / "p").close()
    (name,) = json.loads(backend.path.read_text())
    made_in(tmp_path / "q").close()
    entries = json.loads(backend.path.read_text())
    (other,) = entries.keys() - {name}
    backend.path.write_text(json.dumps({name: entries[other]}))
    with pytest.raises(ProfileError, match="not this profile's"):
        accounts.open_profile(tmp_path / "p")


def test_refused_profile_leaves_no_key_behind(tmp_path: Path, backend: FileKeyring) -> None:
    made_in(tmp_path / "p").close()
    before = backend.path.read_text()
    with pytest.raises(NotPossible, match="already"):
        made_in(tmp_path / "p")
    assert backend.path.read_text() == before


def test_profile_moves_from_the_keyring_to_a_passphrase_and_back(tmp_path: Path, backend: FileKeyring) -> None:
    passphrase = SecretBytes(b"correct horse battery staple")
    made_in(tmp_path / "p").close()
    first = json.loads(backend.path.read_text())
    accounts.change_key(tmp_path / "p", new=passphrase)
    assert accounts.asks_for_passphrase(tmp_path / "p")
    assert json.loads(backend.path.read_text()) == {}, "the old key is destroyed"
    accounts.change_key(tmp_path / "p", passphrase=passphrase)
    assert not accounts.asks_for_passphrase(tmp_path / "p")
    second = json.loads(backend.path.read_text())
    assert len(second) == 1
    assert not {*first.items()} & {*second.items()}
    with accounts.open_account(tmp_path / "p") as found:
        assert found.user == ALICE


def test_forgotten_key_is_gone_and_may_be_forgotten_twice(backend: FileKeyring) -> None:
    key = new_key()
    keyring.keep(b"p" * 16, key)
    assert keyring.fetch(b"p" * 16) == key
    for _ in range(2):
        keyring.forget(b"p" * 16)
    with pytest.raises(ProfileError, match="does not have"):
        keyring.fetch(b"p" * 16)
