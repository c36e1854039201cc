# SPDX-License-Identifier: Apache-2.0
"""Storing a verified batch of one-time pre-keys: what it must not meet is looked for where it is written.

Implements PROTOCOL sections 2 and 7, FAULTS X2. It verifies nothing: `services.verify_batch` has.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Final, NamedTuple
from uuid import UUID, uuid4

from django.db import DatabaseError, OperationalError, connection, transaction
from django.utils import timezone

from audit import services as audit
from audit.errors import AuditUnavailable
from holdfast.core.messages.bundle import VerifiedBatch
from holdfast.core.signed.cose import Sign1
from kernel import statements
from kernel.actors import Actor
from kernel.errors import LimitReached, NotFound
from kernel.scope import current_tenant
from keys.errors import PreKeyReused

# One-time pre-keys that wait to be handed out: ten batches. Clients upload one when fewer than 25 are left.
MAX_UNISSUED: Final = 1_000


@dataclass(frozen=True)
class StoredBatch:
    """How many keys of an upload were new, and how many the device has now."""

    stored: int
    count: int


def store_batch(*, device_id: UUID, statement: bytes, signed: Sign1, batch: VerifiedBatch, actor: Actor) -> StoredBatch:
    """Store a verified batch of the actor's device. The same batch again stores nothing (FAULTS X2).

    Raises NotFound unless the device is active, PreKeyReused when the batch's ids meet those of another, also of one
    that is used up; LimitReached.
    """
    row = _Row(device_id, statement, signed.payload_hash, batch, actor)
    store = _store_postgres if connection.vendor == "postgresql" else _store_sqlite
    while True:
        found = store(row)
        if found.was_stored:
            return StoredBatch(len(batch.leaves), found.unissued + len(batch.leaves))
        # Of the two at once that the database's constraints let one of by, the other looks anew.
        if (before := _before(row, found)) is not None:
            return before


class _Row(NamedTuple):
    """What is to be stored."""

    device_id: UUID
    statement: bytes
    statement_hash: bytes
    batch: VerifiedBatch
    actor: Actor

    @property
    def entry(self) -> dict[str, Any]:
        """What the log says of it."""
        body = {"batch": self.batch.statement.batch_id, "size": len(self.batch.leaves)}
        return {"tag": "keys:pre-key:store", "actor": self.actor, "subject": str(self.device_id), "body": body}


class _Found(NamedTuple):
    """What the database had before, and whether it took the batch. known: the hash of the batch of this id."""

    is_active: bool
    known: bytes | None
    has_ids: bool
    unissued: int
    was_stored: bool


def _before(row: _Row, found: _Found) -> StoredBatch | None:
    """Return the answer for what was stored before, or raise what speaks against a batch; None when nothing does."""
    if not found.is_active:
        raise NotFound
    if found.known is not None:
        if found.known != row.statement_hash:
            raise PreKeyReused("This batch id was used for another batch.", field="batch")
        return StoredBatch(0, found.unissued)
    if found.has_ids:
        raise PreKeyReused("Use key ids above every id used before.", field="leaves")
    if found.unissued + len(row.batch.leaves) > MAX_UNISSUED:
        raise LimitReached(
            "This device has as many one-time pre-keys waiting as it may. Upload more when they were handed out.",
            field="leaves",
            limit="one-time-pre-keys",
            most=MAX_UNISSUED,
        )
    return None


# ── PostgreSQL: one statement ────────────────────────────────────────────────────────────────────────────────
#
# (1) the device's row is locked, so that a revocation comes before or after it, and read as it is then;
# (2) all else is read as it was when the statement began. Another batch of the device that came in between has the
#     number that this one would take, and then nothing is stored and all is looked at again;
# (3) leaves and proofs come as one octet string each, and are cut: one parameter in the place of a hundred;
# (4) the entry is inserted with the batch or not at all, also where no transaction is open: the statement is the act.
_TYPES: Final = {
    **dict.fromkeys(("id", "tenant_id", "person_id"), "uuid"),
    "leaf": "bytea",
    "time": "timestamptz",
    "body": "jsonb",
}
_ENTRY: Final = ", ".join(f"%(entry_{name})s::{_TYPES.get(name, 'text')}" for name in audit.ENTRY_COLUMNS)
_POSTGRES: Final = f"""
WITH device AS MATERIALIZED (
  SELECT d.id, d.pre_key_epoch FROM keys_device d
   WHERE d.tenant_id = %(tenant)s::uuid AND d.id = %(device)s::uuid AND d.state = 'active' FOR NO KEY UPDATE
), before AS MATERIALIZED (
  SELECT (SELECT b.statement_hash FROM keys_prekeybatch b WHERE b.tenant_id = %(tenant)s::uuid
             AND b.device_id = %(device)s::uuid AND b.batch_id = %(batch)s::bytea) AS known,
         EXISTS (SELECT 1 FROM keys_prekeybatch b WHERE b.tenant_id = %(tenant)s::uuid
                    AND b.device_id = %(device)s::uuid
                    AND b.last_key_id >= %(first)s::bigint AND b.first_key_id <= %(last)s::bigint) AS has_ids,
         COALESCE((SELECT max(b.number) FROM keys_prekeybatch b WHERE b.tenant_id = %(tenant)s::uuid
                      AND b.device_id = %(device)s::uuid), 0) AS newest,
         (SELECT count(*) FROM keys_onetimeprekey o JOIN device d ON o.epoch = d.pre_key_epoch
           WHERE o.tenant_id = %(tenant)s::uuid AND o.device_id = %(device)s::uuid) AS unissued
), stored AS (
  INSERT INTO keys_prekeybatch (id, tenant_id, device_id, number, batch_id, statement, statement_hash,
                                first_key_id, last_key_id, size, epoch, stored_at)
  SELECT %(id)s::uuid, %(tenant)s::uuid, d.id, b.newest + 1, %(batch)s::bytea, %(statement)s::bytea, %(hash)s::bytea,
         %(first)s::bigint, %(last)s::bigint, %(size)s::int, d.pre_key_epoch, %(now)s::timestamptz
    FROM device d CROSS JOIN before b
   WHERE b.known IS NULL AND NOT b.has_ids AND b.unissued + %(size)s::int <= %(most)s::int
  ON CONFLICT DO NOTHING
  RETURNING id, epoch
), filled AS (
  INSERT INTO keys_onetimeprekey (tenant_id, device_id, epoch, batch_id, key_id, index, leaf, proof)
  SELECT %(tenant)s::uuid, %(device)s::uuid, s.epoch, s.id, k.key_id, k.place - 1,
         substr(%(leaves)s::bytea, (sum(k.leaf_size) OVER so_far - k.leaf_size)::int + 1, k.leaf_size),
         substr(%(proofs)s::bytea, (sum(k.proof_size) OVER so_far - k.proof_size)::int + 1, k.proof_size)
    FROM stored s CROSS JOIN ROWS FROM (
         unnest(%(key_ids)s::bigint[]), unnest(%(leaf_sizes)s::int[]), unnest(%(proof_sizes)s::int[])
         ) WITH ORDINALITY AS k (key_id, leaf_size, proof_size, place)
  WINDOW so_far AS (ORDER BY k.place)
   ORDER BY k.place
), logged AS (
  INSERT INTO {audit.ENTRY_TABLE} ({", ".join(audit.ENTRY_COLUMNS)}) SELECT {_ENTRY} FROM stored
)
SELECT EXISTS (SELECT 1 FROM device), b.known, b.has_ids, b.unissued, EXISTS (SELECT 1 FROM stored) FROM before b
"""  # noqa: S608 — made of constants above and our own table's name


def _store_postgres(row: _Row) -> _Found:
    leaves = row.batch.leaves
    parameters: dict[str, Any] = {
        "id": uuid4(),
        "tenant": current_tenant(),
        "device": row.device_id,
        "batch": row.batch.statement.batch_id,
        "statement": row.statement,
        "hash": row.statement_hash,
        "first": row.batch.first_key_id,
        "last": row.batch.last_key_id,
        "size": len(leaves),
        "most": MAX_UNISSUED,
        "now": timezone.now(),
        "key_ids": [leaf.key_id for leaf in leaves],
        "leaves": b"".join(leaf.leaf for leaf in leaves),
        "leaf_sizes": [len(leaf.leaf) for leaf in leaves],
        "proofs": b"".join(leaf.proof for leaf in leaves),
        "proof_sizes": [len(leaf.proof) for leaf in leaves],
    }
    values = audit.parameters(audit.prepared(**row.entry))
    parameters |= {f"entry_{name}": value for name, value in zip(audit.ENTRY_COLUMNS, values, strict=True)}
    try:
        # Alone, the statement is the act; in somebody's transaction, what fails is undone without the rest of it.
        with transaction.atomic() if connection.in_atomic_block else nullcontext():
            ((is_active, known, has_ids, unissued, was_stored),) = statements.run(_POSTGRES, parameters)
    except OperationalError:
        raise
    except DatabaseError as error:
        # Of batch and entry, neither is there without the other: whichever it was, nothing was recorded.
        raise AuditUnavailable from error
    return _Found(is_active, None if known is None else bytes(known), has_ids, unissued, was_stored)


# ── SQLite: the same steps under the one write lock that IMMEDIATE takes at BEGIN ────────────────────────────
_LOOK: Final = """
SELECT d.pre_key_epoch,
       (SELECT b.statement_hash FROM keys_prekeybatch b
         WHERE b.tenant_id = d.tenant_id AND b.device_id = d.id AND b.batch_id = %s),
       EXISTS (SELECT 1 FROM keys_prekeybatch b
                WHERE b.tenant_id = d.tenant_id AND b.device_id = d.id
                  AND b.last_key_id >= %s AND b.first_key_id <= %s),
       COALESCE((SELECT max(b.number) FROM keys_prekeybatch b
                  WHERE b.tenant_id = d.tenant_id AND b.device_id = d.id), 0),
       (SELECT count(*) FROM keys_onetimeprekey o
         WHERE o.tenant_id = d.tenant_id AND o.device_id = d.id AND o.epoch = d.pre_key_epoch)
  FROM keys_device d WHERE d.tenant_id = %s AND d.id = %s AND d.state = 'active'
"""
_STORE: Final = """
INSERT INTO keys_prekeybatch (id, tenant_id, device_id, number, batch_id, statement, statement_hash,
                              first_key_id, last_key_id, size, epoch, stored_at)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
"""
_FILL: Final = """
INSERT INTO keys_onetimeprekey (tenant_id, device_id, epoch, batch_id, key_id, "index", leaf, proof)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s)
"""


def _store_sqlite(row: _Row) -> _Found:
    tenant, device, batch = current_tenant().hex, row.device_id.hex, row.batch
    first, last, size = batch.first_key_id, batch.last_key_id, len(batch.leaves)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_LOOK, [batch.statement.batch_id, first, last, tenant, device])
        looked = cursor.fetchall()
        if not looked:
            return _Found(is_active=False, known=None, has_ids=False, unissued=0, was_stored=False)
        ((epoch, known, has_ids, newest, unissued),) = looked
        is_free = known is None and not has_ids and unissued + size <= MAX_UNISSUED
        if is_free:
            row_id, now = uuid4().hex, connection.ops.adapt_datetimefield_value(timezone.now())
            named = [row_id, tenant, device, newest + 1, batch.statement.batch_id, row.statement, row.statement_hash]
            cursor.execute(_STORE, [*named, first, last, size, epoch, now])
            of_batch = (tenant, device, epoch, row_id)
            cursor.executemany(
                _FILL, [(*of_batch, leaf.key_id, leaf.index, leaf.leaf, leaf.proof) for leaf in batch.leaves]
            )
            audit.append(**row.entry)
    return _Found(is_active=True, known=known, has_ids=bool(has_ids), unissued=unissued, was_stored=is_free)
