# SPDX-License-Identifier: Apache-2.0
"""Where a profile keeps its rows: one encrypted SQLite file in a private directory, or memory.

Implements docs/formats/profile.md, and PROTOCOL section 4 (state is persisted before ciphertext is released).
Does not know what a row means, and cannot protect it from another program of the same user.
"""

from __future__ import annotations

import contextlib
import hmac
import secrets
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Protocol

from holdfast.client.errors import MachineError, NotPossible, RaceLost, damaged
from holdfast.client.profile.head import Head, read_head
from holdfast.client.profile.private_files import locked, make_private_directory
from holdfast.client.profile.sqlite_file import connect, explain_errors, read_document, write_empty
from holdfast.core.base.encoding import MAX_VAULT, Fields, decode, encode, label
from holdfast.core.base.errors import HoldfastError
from holdfast.core.base.secret import SecretBytes
from holdfast.core.crypto import wrapping
from holdfast.files import remove_parts

PROFILE_FILE: Final = "profile.holdfast"
SALT_SIZE: Final = 32  # bytes: a fresh key for each writing of a row, so that no nonce can repeat
MAX_VALUE: Final = 2 * MAX_VAULT  # bytes of one row with its frame: the state, or a message with its large content


class Store(Protocol):
    """Rows by kind and key. What a transaction did is there wholly and durably when it ends, or not at all."""

    @property
    def tenant(self) -> bytes:
        """The 16-byte tenant whose profile this is."""

    @property
    def user(self) -> bytes:
        """The 16-byte person whose profile this is."""

    @property
    def undone(self) -> int:
        """How many transactions were undone so far, inner ones too: who remembers what it wrote asks."""

    def transaction(self) -> contextlib.AbstractContextManager[None]:
        """Group changes. Nested ones are undone by themselves when they raise; the outermost makes all durable."""

    def get(self, kind: str, key: bytes) -> SecretBytes | None:
        """Return a row's value, or None."""

    def put(self, kind: str, key: bytes, value: SecretBytes) -> None:
        """Write a row, in a transaction of its own when none is open. A row written again keeps its place."""

    def delete(self, kind: str, key: bytes) -> None:
        """Destroy a row, if there is one."""

    def keys(self, kind: str) -> list[bytes]:
        """Return the keys of a kind in the order in which they were first written."""

    def locked(self) -> contextlib.AbstractContextManager[None]:
        """Keep other holders of the same store out. Raises ProfileBusy when one is in already."""

    def close(self) -> None:
        """Give the store back. Nothing may be asked of it afterwards."""


class MemoryStore:
    """A store for tests, and for programs that keep state elsewhere. Ends with the process."""

    def __init__(self, *, tenant: bytes, user: bytes) -> None:
        self.tenant = tenant
        self.user = user
        self._rows: dict[str, dict[bytes, tuple[int, SecretBytes]]] = {}
        self._places = 0
        self._depth = 0
        self.undone = 0
        self._undo: list[tuple[str, bytes, tuple[int, SecretBytes] | None]] = []

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        mark = len(self._undo)
        self._depth += 1
        try:
            yield
        except BaseException:
            self._roll_back(mark)
            raise
        finally:
            self._depth -= 1
            if self._depth == 0:
                self._undo.clear()

    def _roll_back(self, mark: int) -> None:
        self.undone += 1
        touched = set()
        while len(self._undo) > mark:
            kind, key, before = self._undo.pop()
            rows = self._rows.setdefault(kind, {})
            if before is None:
                rows.pop(key, None)
            else:
                rows[key] = before
                touched.add(kind)
        for kind in touched:
            # What was deleted and is back stands at its old place, not at the end.
            self._rows[kind] = dict(sorted(self._rows[kind].items(), key=lambda row: row[1][0]))

    def get(self, kind: str, key: bytes) -> SecretBytes | None:
        found = self._rows.get(kind, {}).get(key)
        return found[1] if found else None

    def put(self, kind: str, key: bytes, value: SecretBytes) -> None:
        rows = self._rows.setdefault(kind, {})
        before = rows.get(key)
        self._remember(kind, key, before)
        self._places += 1
        rows[key] = (before[0] if before else self._places, value)

    def delete(self, kind: str, key: bytes) -> None:
        before = self._rows.get(kind, {}).pop(key, None)
        if before:
            self._remember(kind, key, before)

    def _remember(self, kind: str, key: bytes, before: tuple[int, SecretBytes] | None) -> None:
        if self._depth:
            self._undo.append((kind, key, before))

    def keys(self, kind: str) -> list[bytes]:
        return list(self._rows.get(kind, {}))

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        yield

    def close(self) -> None:
        pass


class SqliteStore:
    """The profile file: SQLite with every value encrypted, in a directory of mode 0700, itself of mode 0600.

    A transaction is on the disk when it ends (write-ahead log, synchronous=FULL): after a kill at any moment the
    file holds all of it or nothing.

    What deletion does: SQLite overwrites the row's bytes with zeros in the file (secure_delete), and the write-ahead
    log, which still has them, is copied back and cut to nothing before the deleting transaction returns. What it
    cannot do: an SSD's wear levelling, a copy-on-write or journalling file system, snapshots, backups, swap and
    hibernation keep older blocks, beyond any program's reach. All of these hold ciphertext under the profile's key
    only; whoever has both an old block and the key (the keyring's, or the passphrase) reads the old row.

    path: the file, made by `create`. key: the 32 bytes that its head was sealed under. Raises ProfileError for a
    file that is missing, damaged, or sealed under another key, MachineError where others may enter.
    """

    def __init__(self, path: Path, key: SecretBytes) -> None:
        self.path = path
        with explain_errors():
            self._connection = connect(path)
        try:
            document = read_document(self._connection)
            self.head = read_head(document)
            self.head.require(document, key)
        except BaseException:
            self._connection.close()
            raise
        self._use(key)
        self._depth = 0
        self.undone = 0
        self._has_deleted = False
        self._version = self._data_version()
        self._keys: dict[str, dict[bytes, None]] = {}

    @classmethod
    def create(cls, path: Path, key: SecretBytes, head: Head) -> SqliteStore:
        """Make the file, in a directory made for it if need be. Raises NotPossible when there is one already.

        A kill meanwhile leaves the whole file or none: it is made beside, and renamed when it is complete.
        """
        make_private_directory(path.parent)
        with locked(path.parent):
            if path.exists():
                raise NotPossible(f"{path.parent} holds a profile already.")
            remove_parts(path.parent)
            write_empty(path, head.seal(key))
        return cls(path, key)

    def _use(self, key: SecretBytes) -> None:
        """Derive what rows are found by, and what they are encrypted under. An RFC 5869 salt makes both this file's."""
        self._name_key = wrapping.hkdf(salt=self.head.profile, ikm=key, info=label("profile-names"), length=32)
        self._row_key = wrapping.hkdf(salt=self.head.profile, ikm=key, info=label("profile-rows"), length=32)

    @property
    def tenant(self) -> bytes:
        return self.head.tenant

    @property
    def user(self) -> bytes:
        return self.head.user

    def close(self) -> None:
        with explain_errors():
            self._connection.close()

    def rekey(self, key: SecretBytes, head: Head) -> None:
        """Encrypt every row anew under another key and head, all of them or none.

        What older blocks of the disk still hold is unreadable from then on to whoever has not kept the old key.
        """
        if (head.tenant, head.user) != (self.tenant, self.user):
            raise ValueError("the new head is of another profile")
        old = self.head, self._name_key, self._row_key
        try:
            with self.transaction(), explain_errors():
                rows = self._execute("SELECT place, kind, name, sealed FROM entry").fetchall()
                opened = [(place, kind, *self._open(kind, name, sealed)) for place, kind, name, sealed in rows]
                self.head = head
                self._use(key)
                for place, kind, row_key, value in opened:
                    name = self._name(kind, row_key)
                    sealed = self._seal(kind, name, row_key, value)
                    self._execute("UPDATE entry SET name = ?, sealed = ? WHERE place = ?", (name, sealed, place))
                self._execute("UPDATE head SET document = ?", (head.seal(key),))
                self._has_deleted = True
        except BaseException:
            self.head, self._name_key, self._row_key = old
            raise

    def locked(self) -> contextlib.AbstractContextManager[None]:
        return locked(self.path.parent)

    # Transactions

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        outermost = self._depth == 0
        self._require_whole()
        with explain_errors():
            self._execute("BEGIN IMMEDIATE" if outermost else f"SAVEPOINT inner_{self._depth}")
            if outermost:
                self._require_sole_writer()
        self._depth += 1
        try:
            yield
            with explain_errors():
                self._execute("COMMIT" if outermost else f"RELEASE inner_{self._depth - 1}")
        except BaseException:
            self._keys.clear()
            self._undo(outermost)
            raise
        finally:
            self._depth -= 1
        if outermost and self._has_deleted:
            self._scrub()

    def _require_whole(self) -> None:
        # A full disk makes SQLite undo the whole transaction. What followed would be kept by itself: a part.
        if self._depth and not self._connection.in_transaction:
            raise MachineError("The transaction was undone; nothing more is written in it.")

    def _statement(self) -> contextlib.AbstractContextManager[None]:
        """Return the transaction of one statement: its own, or the one that is open, of which it is one step."""
        self._require_whole()
        return contextlib.nullcontext() if self._depth else self.transaction()

    def _undo(self, outermost: bool) -> None:
        self.undone += 1
        if not self._connection.in_transaction:
            return  # SQLite has undone it already, as it does when the disk is full
        with explain_errors():
            if outermost:
                self._execute("ROLLBACK")
            else:
                self._execute(f"ROLLBACK TO inner_{self._depth - 1}")
                self._execute(f"RELEASE inner_{self._depth - 1}")

    def _require_sole_writer(self) -> None:
        if self._data_version() != self._version:
            self._execute("ROLLBACK")
            raise RaceLost(
                "Another program has changed this profile meanwhile.", way_out="Open it again, and do it again."
            )

    def _data_version(self) -> int:
        # SQLite counts what other connections committed: what this process remembers would overwrite it.
        return int(self._execute("PRAGMA data_version").fetchone()[0])

    def _scrub(self) -> None:
        """Copy the write-ahead log back and cut it to nothing: until then it holds what was deleted."""
        try:
            is_busy = self._execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        except sqlite3.OperationalError:
            return  # the transaction stands all the same; the next one tries again
        self._has_deleted = bool(is_busy)

    def _execute(self, sql: str, values: tuple[object, ...] = ()) -> sqlite3.Cursor:
        return self._connection.execute(sql, values)

    # Rows

    def get(self, kind: str, key: bytes) -> SecretBytes | None:
        name = self._name(kind, key)
        with explain_errors():
            row = self._execute("SELECT kind, sealed FROM entry WHERE name = ?", (name,)).fetchone()
        if row is None:
            return None
        found, value = self._open(row[0], name, row[1])
        if (row[0], found) != (kind, key):
            raise damaged("a row is of another kind than its name")
        return value

    def put(self, kind: str, key: bytes, value: SecretBytes) -> None:
        if len(value) > MAX_VALUE - 1024:
            raise ValueError("a row has at most 2 MiB")
        name = self._name(kind, key)
        sealed = self._seal(kind, name, key, value)
        with self._statement(), explain_errors():
            self._execute(
                "INSERT INTO entry (kind, name, sealed) VALUES (?, ?, ?)"
                " ON CONFLICT (name) DO UPDATE SET sealed = excluded.sealed",
                (kind, name, sealed),
            )
        if kind in self._keys:
            self._keys[kind][key] = None

    def delete(self, kind: str, key: bytes) -> None:
        with self._statement(), explain_errors():
            gone = self._execute("DELETE FROM entry WHERE name = ?", (self._name(kind, key),)).rowcount
            self._has_deleted = self._has_deleted or gone > 0
        if kind in self._keys:
            self._keys[kind].pop(key, None)

    def keys(self, kind: str) -> list[bytes]:
        if kind not in self._keys:
            # Keys are inside the encrypted rows (they name peers), so they are opened once and remembered.
            with explain_errors():
                rows = self._execute("SELECT name, sealed FROM entry WHERE kind = ? ORDER BY place", (kind,)).fetchall()
            self._keys[kind] = {self._open(kind, name, sealed)[0]: None for name, sealed in rows}
        return list(self._keys[kind])

    def _name(self, kind: str, key: bytes) -> bytes:
        """Return by what a row is found: 32 bytes that say nothing of the key without the profile's."""
        return hmac.digest(self._name_key.reveal(), encode([kind, key]), "sha256")

    def _row_cipher(self, salt: bytes) -> tuple[SecretBytes, bytes]:
        # A key of its own for every write: random nonces under one key would be bounded to 2^32 writes.
        okm = wrapping.hkdf(salt=salt, ikm=self._row_key, info=label("profile-row"), length=44).reveal()
        return SecretBytes(okm[:32]), okm[32:]

    def _context(self, kind: str, name: bytes) -> bytes:
        return label("profile-row", self.head.tenant, self.head.user, self.head.profile, kind, name)

    def _seal(self, kind: str, name: bytes, key: bytes, value: SecretBytes) -> bytes:
        salt = secrets.token_bytes(SALT_SIZE)
        row_key, nonce = self._row_cipher(salt)
        content = SecretBytes(encode([key, value.reveal()]))
        return salt + wrapping.encrypt(content, key=row_key, nonce=nonce, aad=self._context(kind, name))

    def _open(self, kind: str, name: bytes, sealed: bytes) -> tuple[bytes, SecretBytes]:
        row_key, nonce = self._row_cipher(sealed[:SALT_SIZE])
        try:
            content = wrapping.decrypt(sealed[SALT_SIZE:], key=row_key, nonce=nonce, aad=self._context(kind, name))
            row = Fields.of_row(decode(content.reveal(), max_size=MAX_VALUE), "profile row", 2)
            return row.octets(0), SecretBytes(row.octets(1, maximum=MAX_VALUE))
        except HoldfastError as error:
            raise damaged(error) from error
