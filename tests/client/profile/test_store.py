# SPDX-License-Identifier: Apache-2.0
"""The profile on disk: private, encrypted, bound row by row, changed wholly or not at all.

Implements FAULTS C1, C3, Z5 and W1 for the client's own state.
"""

from __future__ import annotations

import contextlib
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.client.errors import MachineError, NotPossible, ProfileBusy, ProfileError, RaceLost, WrongPassphrase
from holdfast.client.profile import account as accounts
from holdfast.client.profile.head import Head, new_key, read_head
from holdfast.client.profile.state import Contact, Device, Generation, OfficerKeys, OpenCase, State, Trust, VaultKey
from holdfast.client.profile.store import PROFILE_FILE, MemoryStore, SqliteStore, Store
from holdfast.core.base.errors import Malformed, OutOfBounds
from holdfast.core.base.secret import SecretBytes
from holdfast.core.vault.password_door import Argon2Cost

TENANT, ALICE = b"t" * 16, b"a" * 16
PASSPHRASE = SecretBytes(b"correct horse battery staple")
CHEAP = Argon2Cost(memory_kib=19 * 1024, passes=2, lanes=1)
KEY = SecretBytes(b"k" * 32)


def full_state() -> State:
    def secret(sign: bytes, size: int = 32) -> SecretBytes:
        return SecretBytes(sign * size)

    return State(
        server="http://127.0.0.1:8000",
        trust=Trust(b"p" * 32, False, True, b"\x01" + b"r" * 32, [b"one", b"two"], [b"key"], ["vkey"], {"o": "note"}),
        device=Device(b"d" * 16, secret(b"1"), secret(b"2"), secret(b"3"), b"statement", True),
        identity_seed=secret(b"4"),
        chain=[b"genesis", b"add"],
        generations=[Generation(24322, secret(b"8"), 9, b"c" * 32, b"i" * 16, b"h" * 32, True)],
        vault=VaultKey(1, secret(b"9"), 4),
        consent=b"yes",
        case=OpenCase(b"k" * 16, b"case", SecretBytes(b"rsa"), secret(b"a"), secret(b"b")),
        officer=OfficerKeys(secret(b"c"), secret(b"d")),
    )


def secret(text: str) -> SecretBytes:
    return SecretBytes(text.encode())


def file_in(directory: Path) -> SqliteStore:
    return SqliteStore.create(directory / PROFILE_FILE, KEY, Head.new(tenant=TENANT, user=ALICE))


def reopened(directory: Path) -> SqliteStore:
    return SqliteStore(directory / PROFILE_FILE, KEY)


@pytest.fixture(params=["memory", "file"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    made: Store = MemoryStore(tenant=TENANT, user=ALICE) if request.param == "memory" else file_in(tmp_path / "p")
    yield made
    made.close()


@pytest.mark.parametrize("state", [State(), full_state()])
def test_state_survives_its_own_bytes(state: State) -> None:
    assert State.from_secret(state.to_secret()) == state


def test_state_of_another_version_is_refused() -> None:
    octets = bytearray(full_state().to_secret().reveal())
    assert octets[1:3] == b"\x01\x01"
    octets[2] = 2
    with pytest.raises(Malformed):
        State.from_secret(SecretBytes(bytes(octets)))


# Rows and transactions, of either store


class Undone(Exception):
    """Raised by a test inside a transaction."""


@contextlib.contextmanager
def undone(store: Store) -> Iterator[None]:
    """A transaction that raises after what is done in it."""
    with contextlib.suppress(Undone), store.transaction():
        yield
        raise Undone


def test_row_is_read_as_it_was_written_and_gone_when_deleted(store: Store) -> None:
    store.put("session", b"one", secret("first"))
    store.put("session", b"one", secret("second"))
    store.put("outbox", b"one", secret("of another kind"))
    assert store.get("session", b"one") == secret("second")
    store.delete("session", b"one")
    store.delete("session", b"never written")
    assert store.get("session", b"one") is None
    assert store.get("outbox", b"one") == secret("of another kind")


def test_keys_come_in_the_order_of_their_first_writing(store: Store) -> None:
    for key in (b"c", b"a", b"b"):
        store.put("outbox", key, secret("x"))
    store.put("outbox", b"c", secret("again"))
    assert store.keys("outbox") == [b"c", b"a", b"b"]
    store.delete("outbox", b"c")
    store.put("outbox", b"c", secret("as new"))
    assert store.keys("outbox") == [b"a", b"b", b"c"]
    assert store.keys("inbox") == []


def test_transaction_that_raises_leaves_everything_as_it_was(store: Store) -> None:
    for key in (b"a", b"b"):
        store.put("session", key, secret("old"))
    with undone(store):
        store.put("session", b"a", secret("new"))
        store.delete("session", b"a")
        store.put("session", b"c", secret("new"))
        assert store.keys("session") == [b"b", b"c"]
    assert store.keys("session") == [b"a", b"b"]
    assert store.get("session", b"a") == secret("old")
    assert store.get("session", b"c") is None


def test_inner_transaction_is_undone_by_itself_and_kept_with_the_outer(store: Store) -> None:
    with store.transaction():
        store.put("inbox", b"1", secret("kept"))
        with undone(store):
            store.put("inbox", b"2", secret("undone"))
        with store.transaction():
            store.put("inbox", b"3", secret("kept"))
    assert store.keys("inbox") == [b"1", b"3"]
    with undone(store), store.transaction():
        store.put("inbox", b"4", secret("ended well, and undone with the outer"))
    assert store.keys("inbox") == [b"1", b"3"]


# The state in its rows


def with_contacts(store: Store, *users: bytes) -> accounts.Account:
    account = accounts.Account(store, full_state())
    account.state.contacts = {user: Contact(user, [b"genesis", b"add"], [b"f"], 2, b"v" * 32) for user in users}
    account.save()
    return account


def test_account_finds_its_state_and_contacts_in_the_store(store: Store) -> None:
    account = with_contacts(store, b"b" * 16, b"c" * 16)
    assert accounts.Account(store).state == account.state
    account.state.contacts[b"b" * 16].entries += [b"rotate"]
    account.state.contacts[b"d" * 16] = Contact(b"d" * 16, [])
    del account.state.contacts[b"c" * 16]
    account.save()
    found = accounts.Account(store).state
    assert found == account.state
    assert found.contacts[b"b" * 16].entries == [b"genesis", b"add", b"rotate"]


def test_save_leaves_contacts_alone_that_did_not_change(tmp_path: Path) -> None:
    store = file_in(tmp_path / "p")
    account = with_contacts(store, b"b" * 16, b"c" * 16)

    def sealed() -> list[bytes]:
        return [row[0] for row in store._connection.execute("SELECT sealed FROM entry WHERE kind = 'contact'")]

    before = sealed()
    account.state.contacts[b"c" * 16].suite = 1
    account.save()
    assert sealed()[0] == before[0]
    assert sealed()[1] != before[1]


def test_contact_saved_in_a_transaction_that_was_undone_is_saved_by_the_next(store: Store) -> None:
    account = with_contacts(store, b"b" * 16)
    with undone(store):
        account.state.contacts[b"b" * 16].entries.append(b"rotate")
        account.save()
    assert accounts.Account(store).state.contacts[b"b" * 16].entries == [b"genesis", b"add"]
    account.save()
    assert accounts.Account(store).state.contacts[b"b" * 16].entries == [b"genesis", b"add", b"rotate"]


def test_hundreds_of_contacts_with_years_of_history_fit(tmp_path: Path) -> None:
    store = file_in(tmp_path / "p")
    account = accounts.Account(store, full_state())
    people = [number.to_bytes(16, "big") for number in range(400)]
    account.state.contacts = {user: Contact(user, [bytes(700)] * 40) for user in people}
    account.save()
    assert accounts.Account(store).state == account.state


def test_state_too_long_to_be_read_again_is_refused_before_it_is_written(store: Store) -> None:
    account = with_contacts(store)
    account.state.chain = [bytes(1000)] * 2500
    with pytest.raises(NotPossible, match="full"):
        account.save()
    assert accounts.Account(store).state.chain == full_state().chain


# The file


def test_profile_opens_with_its_passphrase_only(tmp_path: Path) -> None:
    made = accounts.create(tmp_path / "p", tenant=TENANT, user=ALICE, passphrase=PASSPHRASE, cost=CHEAP)
    made.state = full_state()
    made.save()
    made.close()
    assert accounts.asks_for_passphrase(tmp_path / "p")
    with accounts.open_account(tmp_path / "p", passphrase=PASSPHRASE) as found:
        assert found.state == full_state()
        assert (found.tenant, found.user) == (TENANT, ALICE)
    with pytest.raises(WrongPassphrase):
        accounts.open_profile(tmp_path / "p", passphrase=SecretBytes(b"correct horse battery stapl"))
    with pytest.raises(ProfileError, match="by its passphrase"):
        accounts.open_profile(tmp_path / "p")


def test_every_file_of_the_profile_is_closed_to_others(tmp_path: Path) -> None:
    made = file_in(tmp_path / "p")
    with made.locked():
        made.put("state", b"", secret("x"))
        assert stat.S_IMODE((tmp_path / "p").stat().st_mode) == 0o700
        files = {file.name: stat.S_IMODE(file.stat().st_mode) for file in (tmp_path / "p").iterdir()}
    assert files.keys() == {PROFILE_FILE, f"{PROFILE_FILE}-wal", f"{PROFILE_FILE}-shm", "lock"}
    assert set(files.values()) == {0o600}


def test_profile_open_to_others_is_refused(tmp_path: Path) -> None:
    file_in(tmp_path / "p").close()
    (tmp_path / "p").chmod(0o755)
    with pytest.raises(MachineError, match="open to others"):
        reopened(tmp_path / "p")


def test_profile_file_shows_neither_values_nor_keys(tmp_path: Path) -> None:
    made = file_in(tmp_path / "p")
    made.put("session", b"bob-------------", secret("a secret of a session"))
    octets = b"".join(file.read_bytes() for file in (tmp_path / "p").iterdir())
    assert b"a secret" not in octets
    assert b"bob---" not in octets
    assert made.keys("session") == [b"bob-------------"]


def raw(directory: Path) -> sqlite3.Connection:
    return sqlite3.connect(directory / PROFILE_FILE, isolation_level=None)


@pytest.mark.parametrize("columns", ["sealed", "name, sealed", "kind, sealed", "kind, name, sealed"])
def test_swapped_rows_are_refused(tmp_path: Path, columns: str) -> None:
    made = file_in(tmp_path / "p")
    made.put("session", b"bob", secret("with bob"))
    made.put("skipped", b"bob", secret("with carol"))
    made.close()
    with raw(tmp_path / "p") as changed:
        rows = changed.execute(f"SELECT {columns} FROM entry ORDER BY place").fetchall()
        changed.execute("UPDATE entry SET name = randomblob(32)")
        for place, row in ((1, rows[1]), (2, rows[0])):
            for column, value in zip(columns.split(", "), row, strict=True):
                changed.execute(f"UPDATE entry SET {column} = ? WHERE place = ?", (value, place))
        if "name" not in columns:
            first, second = (reopened(tmp_path / "p")._name(kind, b"bob") for kind in ("session", "skipped"))
            changed.execute("UPDATE entry SET name = ? WHERE place = 1", (first,))
            changed.execute("UPDATE entry SET name = ? WHERE place = 2", (second,))
    changed.close()
    found = reopened(tmp_path / "p")
    if columns == "kind, name, sealed":
        # Rows that merely changed places are whole, and only their order is another.
        assert found.get("session", b"bob") == secret("with bob")
        return
    with pytest.raises(ProfileError, match="damaged"):
        found.keys("session")
    with pytest.raises(ProfileError, match="damaged"):
        found.get("session", b"bob")


def test_row_of_another_profile_is_refused(tmp_path: Path) -> None:
    """The same key, tenant, user, kind and row key: only the profile is another."""
    first, second = file_in(tmp_path / "p"), file_in(tmp_path / "q")
    for one in (first, second):
        one.put("state", b"", secret("x"))
        one.close()
    with raw(tmp_path / "p") as source, raw(tmp_path / "q") as target:
        for table in ("head", "entry"):
            column = "document" if table == "head" else "sealed"
            value = source.execute(f"SELECT {column} FROM {table}").fetchone()
            if table == "entry":
                target.execute(f"UPDATE {table} SET {column} = ?", value)
    source.close()
    target.close()
    with pytest.raises(ProfileError, match="damaged"):
        reopened(tmp_path / "q").get("state", b"")


def test_changed_byte_anywhere_never_brings_another_value(tmp_path: Path) -> None:
    made = file_in(tmp_path / "p")
    made.put("state", b"", secret("state"))
    made.close()
    path = tmp_path / "p" / PROFILE_FILE
    whole = path.read_bytes()
    refused = 0
    for at in range(0, len(whole), 61):
        changed = bytearray(whole)
        changed[at] ^= 1
        path.write_bytes(changed)
        try:
            found = reopened(tmp_path / "p").get("state", b"")
        except ProfileError:
            refused += 1
        else:
            # Unused space and SQLite's own counters may change; a row is lost at worst, and that is seen.
            assert found in (None, secret("state"))
    assert refused


@pytest.mark.parametrize(
    "change",
    [
        {"tenant": b"m" * 16},
        {"user": b"m" * 16},
        {"profile": b"m" * 16},
        {"door": b"a door where the keyring was"},
    ],
)
def test_changed_head_is_refused(tmp_path: Path, change: dict[str, bytes]) -> None:
    made = file_in(tmp_path / "p")
    said = {"tenant": TENANT, "user": ALICE, "profile": made.head.profile, "door": b"", **change}
    made.close()
    forged = Head(**said).seal(new_key())
    original = raw(tmp_path / "p")
    original.execute("UPDATE head SET document = ?", (forged,))
    original.close()
    with pytest.raises(ProfileError, match="not this profile's"):
        reopened(tmp_path / "p")


@given(noise=st.binary(max_size=200), at=st.integers(0, 400))
def test_head_that_anybody_wrote_is_read_or_refused(noise: bytes, at: int) -> None:
    whole = Head(TENANT, ALICE, b"p" * 16, b"a door").seal(KEY)
    for octets in (noise, whole[:at] + noise + whole[at + len(noise) :]):
        try:
            found = read_head(octets)
            found.require(octets, KEY)
        except ProfileError:
            continue
        assert octets == whole


def test_store_serves_another_thread_than_the_one_that_opened_it(tmp_path: Path) -> None:
    made = file_in(tmp_path / "p")
    thread = threading.Thread(target=made.put, args=("state", b"", secret("from elsewhere")))
    thread.start()
    thread.join()
    assert made.get("state", b"") == secret("from elsewhere")


def test_file_that_is_no_profile_is_refused(tmp_path: Path) -> None:
    (tmp_path / "p").mkdir(mode=0o700)
    (tmp_path / "p" / PROFILE_FILE).write_bytes(b"not a database" * 500)
    with pytest.raises(ProfileError, match="damaged"):
        reopened(tmp_path / "p")
    (tmp_path / "p" / PROFILE_FILE).write_bytes(b"")
    with pytest.raises(ProfileError, match="not a profile file"):
        reopened(tmp_path / "p")


def test_short_passphrase_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(OutOfBounds):
        accounts.create(tmp_path / "p", tenant=TENANT, user=ALICE, passphrase=SecretBytes(b"too short"))
    assert list((tmp_path / "p").iterdir()) == []


def test_profile_is_never_made_over_another(tmp_path: Path) -> None:
    made = file_in(tmp_path / "p")
    made.put("state", b"", secret("x"))
    with pytest.raises(NotPossible, match="already"):
        file_in(tmp_path / "p")
    assert made.get("state", b"") == secret("x")


def test_second_command_is_kept_out_of_a_profile_in_use(tmp_path: Path) -> None:
    first = file_in(tmp_path / "p")
    second = reopened(tmp_path / "p")
    with first.locked(), pytest.raises(ProfileBusy), second.locked():
        pass
    with second.locked():
        pass


HOLDER = """
import sys
from pathlib import Path
from holdfast.client.profile import account as accounts
from holdfast.core.base.secret import SecretBytes

with accounts.open_account(Path(sys.argv[1]), passphrase=SecretBytes(sys.argv[2].encode())) as account:
    account.state.server = "https://holdfast.example"
    account.save()
    print("in", flush=True)
    sys.stdin.read()
"""


def test_profile_is_closed_to_others_while_a_process_holds_it_and_open_when_that_is_killed(tmp_path: Path) -> None:
    accounts.create(tmp_path / "p", tenant=TENANT, user=ALICE, passphrase=PASSPHRASE, cost=CHEAP).close()
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "p"), PASSPHRASE.reveal().decode()]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "in\n"
        with pytest.raises(ProfileBusy):
            accounts.open_account(tmp_path / "p", passphrase=PASSPHRASE).__enter__()
        holder.kill()
    with accounts.open_account(tmp_path / "p", passphrase=PASSPHRASE) as account:
        assert account.state.server == "https://holdfast.example"


def test_store_that_another_process_wrote_to_refuses_to_write_over_it(tmp_path: Path) -> None:
    first, second = file_in(tmp_path / "p"), reopened(tmp_path / "p")
    first.put("state", b"", secret("of the first"))
    with pytest.raises(RaceLost, match="changed this profile"):
        second.put("state", b"", secret("of the second, made from older state"))
    first.put("state", b"", secret("of the first again"))
    assert second.get("state", b"") == secret("of the first again")


def test_full_disk_keeps_the_old_state(tmp_path: Path) -> None:
    made = file_in(tmp_path / "p")
    made.put("state", b"", secret("old"))
    pages = made._connection.execute("PRAGMA page_count").fetchone()[0]
    made._connection.execute(f"PRAGMA max_page_count = {pages}")

    def write() -> None:
        with made.transaction():
            made.put("state", b"", SecretBytes(bytes(100)))
            made.put("session", b"bob", SecretBytes(bytes(100_000)))

    def carry_on() -> None:
        with made.transaction():
            made.put("state", b"", SecretBytes(bytes(100)))
            with contextlib.suppress(MachineError):
                made.put("session", b"bob", SecretBytes(bytes(100_000)))
            made.put("inbox", b"1", secret("what came after"))

    with pytest.raises(MachineError, match="full"):
        write()
    with pytest.raises(MachineError, match="undone"):
        carry_on()
    assert made.keys("inbox") == []
    made._connection.execute("PRAGMA max_page_count = 1000000")
    assert made.get("state", b"") == secret("old")
    made.put("state", b"", secret("new"))
    assert made.get("state", b"") == secret("new")


def test_deleted_row_leaves_no_byte_in_any_file(tmp_path: Path) -> None:
    made = file_in(tmp_path / "p")
    made.put("one-time-pre-key", b"1", SecretBytes(bytes(9000)))
    made.put("one-time-pre-key", b"2", secret("stays"))
    sealed = made._connection.execute("SELECT sealed FROM entry WHERE place = 1").fetchone()[0]
    pieces = [sealed[at : at + 16] for at in range(0, len(sealed) - 16, 500)]

    def found() -> set[bytes]:
        octets = b"".join(file.read_bytes() for file in (tmp_path / "p").iterdir())
        return {piece for piece in pieces if piece in octets}

    assert found() == set(pieces)
    made.delete("one-time-pre-key", b"1")
    assert found() == set()
    assert made.get("one-time-pre-key", b"2") == secret("stays")


def test_deletion_that_a_reader_held_up_is_made_good_by_the_next_transaction(tmp_path: Path) -> None:
    made = file_in(tmp_path / "p")
    made._connection.execute("PRAGMA busy_timeout = 50")
    made.put("one-time-pre-key", b"1", SecretBytes(bytes(9000)))
    reader = raw(tmp_path / "p")
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM entry").fetchone()
    made.delete("one-time-pre-key", b"1")
    log = tmp_path / "p" / f"{PROFILE_FILE}-wal"
    assert log.stat().st_size > 9000
    reader.execute("ROLLBACK")
    reader.close()
    made.put("state", b"", secret("x"))
    assert log.stat().st_size == 0
    assert made.keys("one-time-pre-key") == []


def test_new_key_opens_every_row_in_its_old_order_and_the_old_key_none(tmp_path: Path) -> None:
    made = file_in(tmp_path / "p")
    for key in (b"b", b"a"):
        made.put("session", key, secret("with " + key.decode()))
    made.put("state", b"", secret("state"))
    fresh, head = new_key(), Head.new(tenant=TENANT, user=ALICE)
    made.rekey(fresh, head)
    assert made.get("state", b"") == secret("state")
    made.put("session", b"c", secret("after"))
    made.close()
    found = SqliteStore(tmp_path / "p" / PROFILE_FILE, fresh)
    assert found.keys("session") == [b"b", b"a", b"c"]
    assert found.get("session", b"a") == secret("with a")
    with pytest.raises(ProfileError, match="not this profile's"):
        reopened(tmp_path / "p")


def test_new_key_that_cannot_be_given_leaves_the_old_one(tmp_path: Path) -> None:
    made = file_in(tmp_path / "p")
    made.put("session", b"bob", secret("x"))
    with raw(tmp_path / "p") as changed:
        changed.execute("UPDATE entry SET sealed = zeroblob(80)")
    changed.close()
    made.close()
    damaged = reopened(tmp_path / "p")
    with pytest.raises(ProfileError, match="damaged"):
        damaged.rekey(new_key(), Head.new(tenant=TENANT, user=ALICE))
    damaged.put("state", b"", secret("still its own key"))
    damaged.close()
    assert reopened(tmp_path / "p").get("state", b"") == secret("still its own key")


def test_changed_passphrase_opens_and_the_old_one_does_not(tmp_path: Path) -> None:
    accounts.create(tmp_path / "p", tenant=TENANT, user=ALICE, passphrase=PASSPHRASE, cost=CHEAP).close()
    other = SecretBytes(b"another passphrase of mine")
    accounts.change_key(tmp_path / "p", passphrase=PASSPHRASE, new=other)
    with pytest.raises(WrongPassphrase):
        accounts.open_profile(tmp_path / "p", passphrase=PASSPHRASE)
    with accounts.open_account(tmp_path / "p", passphrase=other) as found:
        assert found.user == ALICE


def test_profile_without_a_server_says_what_to_do() -> None:
    account = accounts.Account(MemoryStore(tenant=TENANT, user=ALICE), State())
    with pytest.raises(ProfileError) as caught:
        account.connect()
    assert "holdfast enrol" in caught.value.way_out
