# SPDX-License-Identifier: Apache-2.0
"""Both stores behave as a dictionary does, through transactions, nesting, failures and reopening: a state machine."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from holdfast.client.profile.head import Head
from holdfast.client.profile.store import PROFILE_FILE, MemoryStore, SqliteStore, Store
from holdfast.core.base.secret import SecretBytes

TENANT, ALICE = b"t" * 16, b"a" * 16
KEY = SecretBytes(b"k" * 32)
KINDS = st.sampled_from(["session", "outbox"])
KEYS = st.binary(max_size=2)
VALUES = st.binary(max_size=40)

Rows = dict[tuple[str, bytes], bytes]


class Failed(Exception):
    """What a transaction of the machine fails with."""


class StoreMachine(RuleBasedStateMachine):
    """The model keeps one dictionary for each open transaction; its order is that of first writing."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="holdfast-store-"))
        self.directory.chmod(0o700)
        head = Head.new(tenant=TENANT, user=ALICE)
        self.file = SqliteStore.create(self.directory / PROFILE_FILE, KEY, head)
        self.memory = MemoryStore(tenant=TENANT, user=ALICE)
        self.rows: Rows = {}
        self.before: list[Rows] = []
        self.open: list[list[object]] = []

    @property
    def stores(self) -> tuple[Store, Store]:
        return self.file, self.memory

    @initialize()
    def start(self) -> None:
        assert self.file.keys("session") == []

    @rule(kind=KINDS, key=KEYS, value=VALUES)
    def put(self, kind: str, key: bytes, value: bytes) -> None:
        for store in self.stores:
            store.put(kind, key, SecretBytes(value))
        self.rows[kind, key] = value

    @rule(kind=KINDS, key=KEYS)
    def delete(self, kind: str, key: bytes) -> None:
        for store in self.stores:
            store.delete(kind, key)
        self.rows.pop((kind, key), None)

    @rule(kind=KINDS, key=KEYS)
    def get(self, kind: str, key: bytes) -> None:
        expected = self.rows.get((kind, key))
        for store in self.stores:
            value = store.get(kind, key)
            assert (value.reveal() if value is not None else None) == expected

    @precondition(lambda self: len(self.open) < 3)
    @rule()
    def begin(self) -> None:
        managers = [store.transaction() for store in self.stores]
        for manager in managers:
            manager.__enter__()
        self.open.append(list(managers))
        self.before.append(dict(self.rows))

    @precondition(lambda self: self.open)
    @rule(is_kept=st.booleans())
    def end(self, is_kept: bool) -> None:
        before = self.before.pop()
        for manager in self.open.pop():
            if is_kept:
                manager.__exit__(None, None, None)  # type: ignore[attr-defined]
                continue
            error = Failed()
            assert not manager.__exit__(Failed, error, None)  # type: ignore[attr-defined]
        if not is_kept:
            self.rows = before

    @precondition(lambda self: not self.open)
    @rule()
    def reopen(self) -> None:
        self.file.close()
        self.file = SqliteStore(self.directory / PROFILE_FILE, KEY)

    @invariant()
    def lists_agree(self) -> None:
        for kind in ("session", "outbox"):
            expected = [key for known, key in self.rows if known == kind]
            for store in self.stores:
                assert store.keys(kind) == expected

    def teardown(self) -> None:
        while self.open:
            self.end(is_kept=True)
        self.file.close()
        shutil.rmtree(self.directory)


TestStoreAgainstDictionary = StoreMachine.TestCase
TestStoreAgainstDictionary.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
