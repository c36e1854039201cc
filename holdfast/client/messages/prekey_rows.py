# SPDX-License-Identifier: Apache-2.0
"""The private halves of this device's pre-keys as rows of its store, each with the bytes it was published under.

Implements docs/formats/profile.md (pre-key rows) for PROTOCOL sections 2 and 4.
Decides nothing: `prekeys` says when a key is made, published, found gone and destroyed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from holdfast.client.errors import damaged
from holdfast.client.profile.store import Store
from holdfast.core.base.encoding import MAX_BLOB, Encodable, Fields, decode, encode
from holdfast.core.base.errors import Malformed
from holdfast.core.base.secret import SecretBytes
from holdfast.core.crypto.keys import AgreementKey, KemKey
from holdfast.core.crypto.suites import Suite
from holdfast.core.messages.bundle import one_time_statement
from holdfast.core.messages.session import OwnPreKey
from holdfast.core.signed.cose import Sign1

SIGNED: Final = "signed-pre-key"
ONE_TIME: Final = "one-time-pre-key"
BATCH: Final = "pre-key-batch"
LEDGER: Final = "pre-keys"
_MAX_BATCH_ROW: Final = 256 * 1024
_KEM_SEED_SIZES: Final = (0, 64)


def key_of(key_id: int) -> bytes:
    """Return the row key of a pre-key id: 4 bytes, big-endian."""
    return key_id.to_bytes(4, "big")


@dataclass(frozen=True)
class SignedRow:
    """A signed pre-key: seeds (the KEM's is empty in a classical suite), its Sign1, and when it was made.

    replaced_at: UTC seconds; 0 while it is the current one.
    """

    key_id: int
    dh_seed: SecretBytes
    kem_seed: SecretBytes
    made_at: int
    statement: bytes
    replaced_at: int = 0

    def save(self, store: Store) -> None:
        """Write the row."""
        seeds: list[Encodable] = [self.dh_seed.reveal(), self.kem_seed.reveal()]
        row = SecretBytes(encode([*seeds, self.made_at, self.statement, self.replaced_at]))
        store.put(SIGNED, key_of(self.key_id), row)

    @classmethod
    def load(cls, store: Store, key_id: int) -> SignedRow | None:
        """Read the row, if there is one. Raises ProfileError for a damaged one."""
        row = _read(store, SIGNED, key_of(key_id), 5)
        if row is None:
            return None
        try:
            seeds = SecretBytes(row.octets(0, 32)), SecretBytes(row.octets(1, _KEM_SEED_SIZES))
            return cls(key_id, *seeds, row.uint(2), row.octets(3), row.uint(4))
        except Malformed as error:
            raise damaged(error) from error

    def own(self, suite: Suite) -> OwnPreKey:
        """Return what a responder takes."""
        return _own(self.key_id, suite, self.dh_seed, self.kem_seed, Sign1.parse(self.statement).payload)


@dataclass(frozen=True)
class OneTimeRow:
    """A one-time pre-key: seeds, its batch's 16-byte id, its leaf, and when the server was first seen without it.

    gone_at: UTC seconds; 0 while the server still holds it, or has not been given it yet.
    """

    key_id: int
    dh_seed: SecretBytes
    kem_seed: SecretBytes
    batch_id: bytes
    leaf: bytes
    gone_at: int = 0

    def save(self, store: Store) -> None:
        """Write the row."""
        seeds: list[Encodable] = [self.dh_seed.reveal(), self.kem_seed.reveal()]
        store.put(ONE_TIME, key_of(self.key_id), SecretBytes(encode([*seeds, self.batch_id, self.leaf, self.gone_at])))

    def gone(self, at: int) -> OneTimeRow:
        """Return the row of a key that the server no longer holds."""
        return replace(self, gone_at=at)

    @classmethod
    def load(cls, store: Store, key_id: int) -> OneTimeRow | None:
        """Read the row, if there is one. Raises ProfileError for a damaged one."""
        row = _read(store, ONE_TIME, key_of(key_id), 5)
        if row is None:
            return None
        try:
            seeds = SecretBytes(row.octets(0, 32)), SecretBytes(row.octets(1, _KEM_SEED_SIZES))
            return cls(key_id, *seeds, row.octets(2, 16), row.octets(3), row.uint(4))
        except Malformed as error:
            raise damaged(error) from error

    def own(self, suite: Suite, batch: BatchRow) -> OwnPreKey:
        """Return what a responder takes."""
        statement = one_time_statement(Sign1.parse(batch.statement).payload, self.leaf)
        return _own(self.key_id, suite, self.dh_seed, self.kem_seed, statement)


@dataclass(frozen=True)
class BatchRow:
    """The signed statement over one batch. leaves: what the server has not acknowledged yet, empty once it has."""

    batch_id: bytes
    statement: bytes
    leaves: bytes

    def save(self, store: Store) -> None:
        """Write the row."""
        store.put(BATCH, self.batch_id, SecretBytes(encode([self.statement, self.leaves])))

    @classmethod
    def load(cls, store: Store, batch_id: bytes) -> BatchRow | None:
        """Read the row, if there is one. Raises ProfileError for a damaged one."""
        row = _read(store, BATCH, batch_id, 2)
        try:
            return cls(batch_id, row.octets(0), row.octets(1)) if row else None
        except Malformed as error:
            raise damaged(error) from error


@dataclass(frozen=True)
class Ledger:
    """What is remembered of pre-keys as a whole.

    next_id: above every id ever used, so it only grows. epoch: how often the server said it had voided its keys.
    foreign: ids that the server holds and this device does not, told to the person once.
    """

    next_id: int = 1
    epoch: int = 0
    foreign: frozenset[int] = frozenset()

    def save(self, store: Store) -> None:
        """Write the row."""
        store.put(LEDGER, b"", SecretBytes(encode([self.next_id, self.epoch, sorted(self.foreign)])))

    @classmethod
    def load(cls, store: Store) -> Ledger:
        """Read the row; a fresh one when there is none yet. Raises ProfileError for a damaged one."""
        row = _read(store, LEDGER, b"", 3)
        if row is None:
            return cls()
        try:
            ids = row.array(2)
            foreign = Fields.of_row(ids, "foreign pre-keys", len(ids))
            return cls(row.uint(0, minimum=1), row.uint(1), frozenset(foreign.uint(at) for at in range(len(ids))))
        except Malformed as error:
            raise damaged(error) from error


def all_signed(store: Store) -> list[SignedRow]:
    """Return the signed pre-keys whose private halves are kept, oldest first."""
    loaded = (SignedRow.load(store, int.from_bytes(key, "big")) for key in store.keys(SIGNED))
    return [row for row in loaded if row]


def all_one_time(store: Store) -> Iterator[OneTimeRow]:
    """Go through the one-time pre-keys whose private halves are kept, in the order they were made."""
    for key in store.keys(ONE_TIME):
        row = OneTimeRow.load(store, int.from_bytes(key, "big"))
        if row:
            yield row


def _own(key_id: int, suite: Suite, dh_seed: SecretBytes, kem_seed: SecretBytes, statement: bytes) -> OwnPreKey:
    kem = KemKey.from_seed(kem_seed) if len(kem_seed) else None
    return OwnPreKey(key_id, AgreementKey.from_seed(suite.agreement_kind, dh_seed), kem, statement)


def _read(store: Store, kind: str, key: bytes, size: int) -> Fields | None:
    kept = store.get(kind, key)
    try:
        limit = _MAX_BATCH_ROW if kind == BATCH else MAX_BLOB
        return Fields.of_row(decode(kept.reveal(), max_size=limit), f"profile {kind}", size) if kept else None
    except Malformed as error:
        raise damaged(error) from error
