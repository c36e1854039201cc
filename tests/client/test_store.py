# SPDX-License-Identifier: Apache-2.0
"""The profile on disk: private, encrypted, replaced whole or not at all.

Implements FAULTS C1, C3, Z5 and W1 for the client's own state.
"""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from holdfast.client import account as accounts
from holdfast.client import officer_keys
from holdfast.client.errors import ProfileError, TrustRefused, WrongPassphrase
from holdfast.client.state import (
    Contact,
    Device,
    Generation,
    OfficerKeys,
    OpenCase,
    PreKey,
    PreKeys,
    State,
    Trust,
    VaultKey,
)
from holdfast.client.store import DirectoryStore, MemoryStore, Safe
from holdfast.core.doors import Argon2Cost
from holdfast.core.errors import Malformed, OutOfBounds
from holdfast.core.keys import SigningKey
from holdfast.core.secret import SecretBytes

TENANT, ALICE = b"t" * 16, b"a" * 16
PASSPHRASE = SecretBytes(b"correct horse battery staple")
CHEAP = Argon2Cost(memory_kib=19 * 1024, passes=2, lanes=1)


def full_state() -> State:
    def secret(sign: bytes, size: int = 32) -> SecretBytes:
        return SecretBytes(sign * size)

    return State(
        server="http://127.0.0.1:8000",
        trust=Trust(b"p" * 32, False, True, b"\x01" + b"r" * 32, [b"one", b"two"], [b"key"], ["vkey"], {"o": "note"}),
        device=Device(b"d" * 16, secret(b"1"), secret(b"2"), secret(b"3"), b"statement", True),
        identity_seed=secret(b"4"),
        chain=[b"genesis", b"add"],
        pre_keys=PreKeys(
            next_id=103,
            signed=[PreKey(1, secret(b"5"), secret(b"6", 64), 7)],
            one_time=[PreKey(2, secret(b"7"), SecretBytes(b""), 8)],
            unsent=(b"batch", b"leaves"),
            signed_statement=b"spk",
        ),
        generations=[Generation(24322, secret(b"8"), 9, b"c" * 32, b"i" * 16, b"h" * 32, True)],
        contacts={b"b" * 16: Contact(b"b" * 16, [b"e"], [b"f"], 2)},
        vault=VaultKey(1, secret(b"9"), 4),
        consent=b"yes",
        case=OpenCase(b"k" * 16, b"case", SecretBytes(b"rsa"), secret(b"a"), secret(b"b")),
        officer=OfficerKeys(secret(b"c"), secret(b"d")),
    )


def safe_in(directory: Path) -> Safe:
    store = DirectoryStore(directory)
    store.create()
    return Safe.create(store, tenant=TENANT, user=ALICE, passphrase=PASSPHRASE, cost=CHEAP)


@pytest.mark.parametrize("state", [State(), full_state()])
def test_state_survives_its_own_bytes(state: State) -> None:
    assert State.from_secret(state.to_secret()) == state


def test_state_of_another_version_is_refused() -> None:
    octets = bytearray(full_state().to_secret().reveal())
    assert octets[1:3] == b"\x01\x01"
    octets[2] = 2
    with pytest.raises(Malformed):
        State.from_secret(SecretBytes(bytes(octets)))


def test_profile_opens_with_its_passphrase_only(tmp_path: Path) -> None:
    safe_in(tmp_path / "p").save(full_state().to_secret())
    store = DirectoryStore(tmp_path / "p")
    _, secret = Safe.open(store, passphrase=PASSPHRASE)
    assert State.from_secret(secret) == full_state()
    with pytest.raises(WrongPassphrase):
        Safe.open(store, passphrase=SecretBytes(b"correct horse battery stapl"))


def test_profile_file_and_directory_are_closed_to_others(tmp_path: Path) -> None:
    safe_in(tmp_path / "p").save(full_state().to_secret())
    assert stat.S_IMODE((tmp_path / "p").stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in (tmp_path / "p").iterdir()} == {0o600}


def test_profile_open_to_others_is_refused(tmp_path: Path) -> None:
    safe_in(tmp_path / "p").save(full_state().to_secret())
    (tmp_path / "p").chmod(0o755)
    with pytest.raises(ProfileError, match="open to others"):
        Safe.open(DirectoryStore(tmp_path / "p"), passphrase=PASSPHRASE)


def test_profile_file_shows_no_secret(tmp_path: Path) -> None:
    state = full_state()
    safe_in(tmp_path / "p").save(state.to_secret())
    octets = (tmp_path / "p" / "state.holdfast").read_bytes()
    assert b"1" * 32 not in octets
    assert b"127.0.0.1" not in octets
    assert b"1" * 32 in state.to_secret().reveal()


def test_changed_byte_of_the_profile_never_brings_another_state() -> None:
    store = MemoryStore()
    Safe.create(store, tenant=TENANT, user=ALICE, passphrase=PASSPHRASE, cost=CHEAP).save(SecretBytes(b"state"))
    whole = store.load()
    assert whole is not None
    refused = 0
    positions = range(0, len(whole), 11)
    for at in positions:
        changed = bytearray(whole)
        changed[at] ^= 1
        store.save(bytes(changed))
        try:
            _, state = Safe.open(store, passphrase=PASSPHRASE)
        except ProfileError:
            refused += 1
        else:
            # The door repeats whose it is, and is opened for whom the file says: that copy is not read.
            assert state.reveal() == b"state"
    assert refused > len(positions) * 0.7


def test_short_passphrase_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path / "p")
    store.create()
    with pytest.raises(OutOfBounds):
        Safe.create(store, tenant=TENANT, user=ALICE, passphrase=SecretBytes(b"too short"))
    assert list((tmp_path / "p").iterdir()) == []


def test_second_command_is_kept_out_of_a_profile_in_use(tmp_path: Path) -> None:
    safe_in(tmp_path / "p").save(SecretBytes(b"x"))
    first, second = DirectoryStore(tmp_path / "p"), DirectoryStore(tmp_path / "p")
    with first.locked(), pytest.raises(ProfileError, match="Another"), second.locked():
        pass
    with second.locked():
        pass


def test_profile_is_never_made_over_another(tmp_path: Path) -> None:
    safe_in(tmp_path / "p").save(SecretBytes(b"x"))
    with pytest.raises(ProfileError, match="already"):
        DirectoryStore(tmp_path / "p").create()


WRITER = """
import sys
from pathlib import Path
from holdfast.client.store import DirectoryStore, Safe
from holdfast.core.keys import SigningKey
from holdfast.core.secret import SecretBytes
safe, state = Safe.open(DirectoryStore(Path(sys.argv[1])), passphrase=SecretBytes(sys.argv[2].encode()))
count = int.from_bytes(state.reveal()[:8], "big")
print("ready", flush=True)
while True:
    count += 1
    safe.save(SecretBytes(count.to_bytes(8, "big") * 4096))
    print(count, flush=True)
"""


def test_kill_at_any_moment_leaves_the_last_acknowledged_state_or_the_next(tmp_path: Path) -> None:
    safe_in(tmp_path / "p").save(SecretBytes((0).to_bytes(8, "big") * 4096))
    for round_number in range(12):
        command = [sys.executable, "-c", WRITER, str(tmp_path / "p"), PASSPHRASE.reveal().decode()]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            time.sleep(0.01 + 0.007 * round_number)
            process.send_signal(signal.SIGKILL)
            acknowledged = [int(line) for line in process.stdout if line.endswith("\n")]
        _, state = Safe.open(DirectoryStore(tmp_path / "p"), passphrase=PASSPHRASE)
        octets = state.reveal()
        count = int.from_bytes(octets[:8], "big")
        assert octets == count.to_bytes(8, "big") * 4096
        assert acknowledged
        assert count - acknowledged[-1] in (0, 1)


def test_failed_write_keeps_the_old_state_and_leaves_no_file_beside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    safe = safe_in(tmp_path / "p")
    safe.save(SecretBytes(b"old"))

    def full_disk(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="space"):
        safe.save(SecretBytes(b"new"))
    monkeypatch.undo()
    assert [file.name for file in (tmp_path / "p").iterdir()] == ["state.holdfast"]
    assert Safe.open(DirectoryStore(tmp_path / "p"), passphrase=PASSPHRASE)[1].reveal() == b"old"


def test_officer_profile_keeps_its_keys_and_refuses_a_second_root(tmp_path: Path) -> None:
    made = officer_keys.create_officer_profile(tmp_path / "carol", tenant=TENANT, person=ALICE, passphrase=PASSPHRASE)
    root, other = SigningKey.generate().public, SigningKey.generate().public
    made.pin(root, b"h" * 32)
    found = officer_keys.open_officer_profile(tmp_path / "carol", passphrase=PASSPHRASE)
    assert (found.signing_key, found.sealing_key) == (made.signing_key, made.sealing_key)
    with pytest.raises(TrustRefused):
        found.pin(other, b"h" * 32)
    with pytest.raises(ProfileError, match="already"):
        officer_keys.make_keys(found.account)


def test_profile_without_a_server_says_what_to_do() -> None:
    account = accounts.create(MemoryStore(), tenant=TENANT, user=ALICE, passphrase=PASSPHRASE)
    with pytest.raises(ProfileError) as caught:
        account.connect()
    assert "holdfast enrol" in caught.value.way_out
