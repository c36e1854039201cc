# SPDX-License-Identifier: Apache-2.0
"""The private halves of this device's pre-keys as rows of its store, each with the bytes it was published under.

Implements docs/formats/profile.md (pre-key rows) for PROTOCOL sections 2 and 4.
Decides nothing: `prekeys` says when a key is made, published, found gone and destroyed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Final, TypeVar

from holdfast.client.errors import damaged
from holdfast.client.profile.store import Store
from holdfast.core.base.encoding import MAX_BLOB
from holdfast.core.base.errors import Malformed
from holdfast.core.base.rows import in_order, octets, open_row, seal_row, secret, uint
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
_MAX_BATCH_ROW: Final = 256 * 1024  # bytes: 100 hybrid leaves of 1.3 KiB, and their statement
_KEM_SEED_SIZES: Final = (0, 64)  # bytes: none in a classical suite, or d and z of FIPS 203

R = TypeVar("R")


def key_of(key_id: int) -> bytes:
    """Return the row key of a pre-key id: 4 bytes, big-endian."""
    return key_id.to_bytes(4, "big")


@dataclass(frozen=True)
class SignedRow:
    """A signed pre-key: seeds (the KEM's is empty in a classical suite), its Sign1, and when it was made.

    replaced_at: UTC seconds; 0 while it is the current one.
    """

    ROW_SIZE: ClassVar = MAX_BLOB

    key_id: int
    dh_seed: Annotated[SecretBytes, secret(32)]
    kem_seed: Annotated[SecretBytes, secret(*_KEM_SEED_SIZES)]
    made_at: Annotated[int, uint()]
    statement: Annotated[bytes, octets()]
    replaced_at: Annotated[int, uint()] = 0

    def save(self, store: Store) -> None:
        """Write the row."""
        store.put(SIGNED, key_of(self.key_id), seal_row(self))

    @classmethod
    def load(cls, store: Store, key_id: int) -> SignedRow | None:
        """Read the row, if there is one. Raises ProfileError for a damaged one."""
        return _load(cls, store, SIGNED, key_of(key_id), key_id=key_id)

    def own(self, suite: Suite) -> OwnPreKey:
        """Return what a responder takes."""
        return _own(self.key_id, suite, self.dh_seed, self.kem_seed, Sign1.parse(self.statement).payload)


@dataclass(frozen=True)
class OneTimeRow:
    """A one-time pre-key: seeds, its batch's 16-byte id, its leaf, and when the server was first seen without it.

    gone_at: UTC seconds; 0 while the server still holds it, or has not been given it yet.
    """

    ROW_SIZE: ClassVar = MAX_BLOB

    key_id: int
    dh_seed: Annotated[SecretBytes, secret(32)]
    kem_seed: Annotated[SecretBytes, secret(*_KEM_SEED_SIZES)]
    batch_id: Annotated[bytes, octets(16)]
    leaf: Annotated[bytes, octets()]
    gone_at: Annotated[int, uint()] = 0

    def save(self, store: Store) -> None:
        """Write the row."""
        store.put(ONE_TIME, key_of(self.key_id), seal_row(self))

    def gone(self, at: int) -> OneTimeRow:
        """Return the row of a key that the server no longer holds."""
        return replace(self, gone_at=at)

    @classmethod
    def load(cls, store: Store, key_id: int) -> OneTimeRow | None:
        """Read the row, if there is one. Raises ProfileError for a damaged one."""
        return _load(cls, store, ONE_TIME, key_of(key_id), key_id=key_id)

    def own(self, suite: Suite, batch: BatchRow) -> OwnPreKey:
        """Return what a responder takes."""
        statement = one_time_statement(Sign1.parse(batch.statement).payload, self.leaf)
        return _own(self.key_id, suite, self.dh_seed, self.kem_seed, statement)


@dataclass(frozen=True)
class BatchRow:
    """The signed statement over one batch. leaves: what the server has not acknowledged yet, empty once it has."""

    ROW_SIZE: ClassVar = _MAX_BATCH_ROW

    batch_id: bytes
    statement: Annotated[bytes, octets()]
    leaves: Annotated[bytes, octets()]

    def save(self, store: Store) -> None:
        """Write the row."""
        store.put(BATCH, self.batch_id, seal_row(self))

    @classmethod
    def load(cls, store: Store, batch_id: bytes) -> BatchRow | None:
        """Read the row, if there is one. Raises ProfileError for a damaged one."""
        return _load(cls, store, BATCH, batch_id, batch_id=batch_id)


@dataclass(frozen=True)
class Ledger:
    """What is remembered of pre-keys as a whole.

    next_id: above every id ever used, so it only grows. epoch: how often the server said it had voided its keys.
    foreign: ids that the server holds and this device does not, told to the person once.
    """

    ROW_SIZE: ClassVar = MAX_BLOB

    next_id: Annotated[int, uint(minimum=1)] = 1
    epoch: Annotated[int, uint()] = 0
    foreign: Annotated[frozenset[int], in_order(uint())] = frozenset()

    def save(self, store: Store) -> None:
        """Write the row."""
        store.put(LEDGER, b"", seal_row(self))

    @classmethod
    def load(cls, store: Store) -> Ledger:
        """Read the row; a fresh one when there is none yet. Raises ProfileError for a damaged one."""
        return _load(cls, store, LEDGER, b"") or cls()


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


def _load(kind: type[R], store: Store, name: str, key: bytes, **beside: Any) -> R | None:
    kept = store.get(name, key)
    try:
        return open_row(kind, kept, f"profile {name}", **beside) if kept else None
    except Malformed as error:
        raise damaged(error) from error
