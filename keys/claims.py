# SPDX-License-Identifier: Apache-2.0
"""Handing out one-time pre-keys, each exactly once: the hot path of the directory.

Implements PROTOCOL section 7 and FAULTS X1, X3, X7, X9 and D3. It verifies nothing and asks no HSM: what it
hands out was verified at upload, byte for byte as it is given.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple
from uuid import UUID

from django.conf import settings
from django.db import IntegrityError, connection
from django.utils import timezone

from audit import services as audit
from holdfast.core.base.encoding import b64u
from kernel import acts
from kernel.actors import Actor
from kernel.api import IdempotencyKeyReused
from kernel.errors import NotFound
from kernel.scope import current_tenant
from keys.errors import ClaimLimit
from keys.models import ChainHead, Claim, Device, PreKeyBatch, SignedPreKey

HOUR: Final = 3600
# More devices of one user than this are not messaged in one request.
MAX_DEVICES: Final = 100
# An entry's text has room for this many keys, named by batch row and key id.
_BUNDLES_PER_ENTRY: Final = 10

# SQLite has one writer, and lets the waiting ones poll: under a storm an unlucky thread polls past any timeout.
# The threads of this process wait for each other here instead; only other processes are left to poll for.
_sqlite_turn = threading.Lock()

Target = Literal["device", "user"]
_COLUMN: Final[dict[Target, str]] = {"device": "id", "user": "user_id"}


@dataclass(frozen=True, slots=True)
class HandedOut:
    """One device's bundle: what every handshake needs, and the one-time pre-key when one was left."""

    device_id: UUID
    suite: int
    chain_head: bytes
    device_statement: bytes
    signed_pre_key: bytes
    batch_id: UUID | None
    batch: bytes | None
    key_id: int | None
    index: int | None
    leaf: bytes | None
    proof: bytes | None

    def bundle(self) -> dict[str, Any]:
        """Return the bundle as PROTOCOL section 7 writes it, and whether a one-time key is in it."""
        answer: dict[str, Any] = {
            "v": 1,
            "suite": self.suite,
            "chain_head": b64u(self.chain_head),
            "device_statement": b64u(self.device_statement),
            "signed_pre_key": b64u(self.signed_pre_key),
        }
        if self.batch is None or self.leaf is None or self.proof is None:
            return {**answer, "one_time": "exhausted"}
        one_time = {
            "batch": b64u(self.batch),
            "leaf": b64u(self.leaf),
            "index": self.index,
            "proof": b64u(self.proof),
        }
        return {**answer, "one_time_pre_key": one_time, "one_time": "handed-out"}


@dataclass(frozen=True, slots=True)
class ClaimAnswer:
    """What a claim is answered with; `replayed` when it was answered before under the same key."""

    document: dict[str, Any]
    replayed: bool


def claim_device(*, device_id: UUID, key: str, actor: Actor) -> ClaimAnswer:
    """Hand out one bundle of a device, with its next one-time pre-key if one is left.

    key: the requester's idempotency key; asked again with it, the same bundle is given (FAULTS D3). Raises
    NotFound for a device that is not active or has published nothing, ClaimLimit, IdempotencyKeyReused.
    """
    rows, replayed = _claim("device", device_id, key, actor)
    if not rows:
        raise NotFound
    return ClaimAnswer(rows[0].bundle(), replayed)


def claim_user(*, user_id: UUID, key: str, actor: Actor) -> ClaimAnswer:
    """Hand out one bundle of each active device of a user that has published one, as `claim_device` does.

    Raises NotFound for a user without an account chain, ClaimLimit, IdempotencyKeyReused.
    """
    rows, replayed = _claim("user", user_id, key, actor)
    if rows:
        head = rows[0].chain_head
    else:
        found = ChainHead.objects.filter(user_id=user_id).values_list("head", flat=True).first()
        if found is None:
            raise NotFound
        head = bytes(found)
    bundles = [{"device_id": str(row.device_id), **row.bundle()} for row in rows]
    return ClaimAnswer({"chain_head": b64u(head), "bundles": bundles}, replayed)


def _claim(target: Target, target_id: UUID, key: str, actor: Actor) -> tuple[list[HandedOut], bool]:
    if actor.id is None:
        raise NotFound
    is_postgres = connection.vendor == "postgresql"
    take = _take_postgres if is_postgres else _take_sqlite
    try:
        with nullcontext() if is_postgres else _sqlite_turn, acts.act():
            rows, spent = take(target, target_id, key, actor.id)
            _require_budget(spent)
            if rows:
                _record(target, target_id, rows, actor)
    except IntegrityError:
        # The claim stands already: a retry, or the same request twice at once. Nothing was taken this time,
        # because the key left its row in the transaction that has just been undone.
        replayed = _replay(target_id, key, actor.id)
        if not replayed:
            raise
        return replayed, True
    return rows, False


def _record(target: Target, target_id: UUID, rows: Sequence[HandedOut], actor: Actor) -> None:
    """Write the audit entries of a claim: without them, nothing was handed out (fail closed)."""
    for start in range(0, len(rows), _BUNDLES_PER_ENTRY):
        part = rows[start : start + _BUNDLES_PER_ENTRY]
        keys = " ".join(f"{row.batch_id.hex}:{row.key_id}" for row in part if row.batch_id)
        audit.append(
            tag="keys:pre-key:claim",
            actor=actor,
            subject=f"{target}:{target_id}",
            body={"bundles": len(part), "keys": keys},
        )


class _Spent(NamedTuple):
    """What stands in the budgets once this claim is counted."""

    requester: int
    target: int


def _require_budget(spent: _Spent) -> None:
    """Raise ClaimLimit, which undoes the claim and its count, when one of the hour's limits is passed."""
    retry_after = HOUR - int(timezone.now().timestamp()) % HOUR
    if spent.requester > settings.HOLDFAST_CLAIMS_PER_REQUESTER:
        raise ClaimLimit("You claimed as many pre-keys as one requester may in an hour.", retry_after=retry_after)
    if spent.target > settings.HOLDFAST_CLAIMS_PER_TARGET:
        raise ClaimLimit("This device gave as many pre-keys as it may in an hour.", retry_after=retry_after)


def _replay(target_id: UUID, key: str, requester_id: UUID) -> list[HandedOut]:
    """Give again what was given under this key: the same octets, from the rows that still hold them."""
    claims = list(Claim.objects.filter(requester_id=requester_id, key=key).order_by("ordinal"))
    if any(claim.target_id != target_id for claim in claims):
        raise IdempotencyKeyReused("Use a fresh key for each claim.", field="idempotency-key")
    return [_handed_out(claim) for claim in claims]


def _handed_out(claim: Claim) -> HandedOut:
    device = Device.objects.get(id=claim.device_id)
    batch = PreKeyBatch.objects.get(id=claim.batch_id) if claim.batch_id else None
    return HandedOut(
        device_id=device.id,
        suite=device.suite,
        chain_head=bytes(claim.chain_head),
        device_statement=bytes(device.statement),
        signed_pre_key=bytes(SignedPreKey.objects.get(id=claim.signed_pre_key_id).statement),
        batch_id=claim.batch_id,
        batch=bytes(batch.statement) if batch else None,
        key_id=claim.key_id,
        index=claim.index,
        leaf=bytes(claim.leaf) if claim.leaf else None,
        proof=bytes(claim.proof) if claim.proof is not None else None,
    )


# ── PostgreSQL: one statement ────────────────────────────────────────────────────────────────────────────────
#
# (1) the devices are read without a lock: in share mode, a stream of claims would keep a revocation waiting for ever.
#     A revocation deletes the key rows after it has moved the device's state, so it waits for every claim that holds
#     one, and a later claim finds none: no one-time key leaves after it has committed (FAULTS X3);
# (2) SKIP LOCKED lets concurrent claims each take another key; without it they would all wait for the first
#     one's row, find it gone and report "none left" (FAULTS X1: 1,697 false ones of 2,000). MATERIALIZED keeps
#     the planner from running the choice more than once;
# (3) the key leaves its row in the statement that writes down who has it;
# (4) the budgets come last, requester before devices and devices by id, so that claims cannot deadlock.
_POSTGRES = """
WITH target AS MATERIALIZED (
  SELECT d.id, d.suite, d.statement, d.pre_key_epoch, h.head, s.id AS spk_id, s.statement AS spk
    FROM keys_device d
    JOIN keys_signedprekey s ON s.tenant_id = d.tenant_id AND s.device_id = d.id AND s.is_current
    JOIN keys_chainhead h ON h.tenant_id = d.tenant_id AND h.user_id = d.user_id
   WHERE d.tenant_id = %(tenant)s::uuid AND d.{column} = %(target)s::uuid AND d.state = 'active'
   ORDER BY d.id LIMIT %(limit)s
), picked AS MATERIALIZED (
  SELECT k.id FROM target t CROSS JOIN LATERAL (
    SELECT o.id FROM keys_onetimeprekey o
     WHERE o.tenant_id = %(tenant)s::uuid AND o.device_id = t.id AND o.epoch = t.pre_key_epoch
     ORDER BY o.id LIMIT 1 FOR UPDATE SKIP LOCKED) k
), taken AS (
  DELETE FROM keys_onetimeprekey o USING picked p WHERE o.id = p.id
  RETURNING o.device_id, o.batch_id, o.key_id, o.index, o.leaf, o.proof
), numbered AS MATERIALIZED (
  SELECT t.*, k.batch_id, k.key_id, k.index, k.leaf, k.proof, row_number() OVER (ORDER BY t.id) - 1 AS ordinal
    FROM target t LEFT JOIN taken k ON k.device_id = t.id
), recorded AS (
  INSERT INTO keys_claim (id, tenant_id, requester_id, key, ordinal, target_id, device_id, chain_head,
                          signed_pre_key_id, batch_id, key_id, index, leaf, proof, claimed_at)
  SELECT gen_random_uuid(), %(tenant)s::uuid, %(requester)s::uuid, %(key)s::text, n.ordinal, %(target)s::uuid, n.id,
         n.head, n.spk_id, n.batch_id, n.key_id, n.index, n.leaf, n.proof, %(now)s::timestamptz
    FROM numbered n
), spent AS (
  INSERT INTO keys_claimbudget AS b (id, tenant_id, side, subject_id, hour, taken)
  SELECT gen_random_uuid(), %(tenant)s::uuid, 'requester', %(requester)s::uuid, %(hour)s::int, count(*)
    FROM numbered HAVING count(*) > 0
  UNION ALL
  SELECT gen_random_uuid(), %(tenant)s::uuid, 'target', n.id, %(hour)s::int, 1 FROM numbered n
  ON CONFLICT (tenant_id, side, subject_id, hour) DO UPDATE SET taken = b.taken + excluded.taken
  RETURNING side, taken
)
SELECT n.id, n.suite, n.head, n.statement, n.spk, n.batch_id, b.statement, n.key_id, n.index, n.leaf, n.proof,
       (SELECT max(taken) FROM spent WHERE side = 'requester'), (SELECT max(taken) FROM spent WHERE side = 'target')
  FROM numbered n LEFT JOIN keys_prekeybatch b ON b.id = n.batch_id
 ORDER BY n.ordinal
"""
_POSTGRES_BY: Final = {target: _POSTGRES.format(column=column) for target, column in _COLUMN.items()}


def _take_postgres(target: Target, target_id: UUID, key: str, requester_id: UUID) -> tuple[list[HandedOut], _Spent]:
    now = timezone.now()
    parameters: dict[str, Any] = {
        "tenant": current_tenant(),
        "target": target_id,
        "requester": requester_id,
        "key": key,
        "now": now,
        "hour": int(now.timestamp()) // HOUR,
        "limit": MAX_DEVICES,
    }
    with connection.cursor() as cursor:
        cursor.execute(_POSTGRES_BY[target], parameters)
        found = cursor.fetchall()
    if not found:
        return [], _Spent(0, 0)
    return [HandedOut(*row[:11]) for row in found], _Spent(*found[0][11:])


# ── SQLite: the same steps under the one write lock that IMMEDIATE takes at BEGIN ────────────────────────────
_TARGETS = """
SELECT d.id, d.suite, h.head, d.statement, s.statement, s.id, d.pre_key_epoch
  FROM keys_device d
  JOIN keys_signedprekey s ON s.tenant_id = d.tenant_id AND s.device_id = d.id AND s.is_current
  JOIN keys_chainhead h ON h.tenant_id = d.tenant_id AND h.user_id = d.user_id
 WHERE d.tenant_id = %s AND d.{column} = %s AND d.state = 'active'
 ORDER BY d.id LIMIT %s
"""
_TARGETS_BY: Final = {target: _TARGETS.format(column=column) for target, column in _COLUMN.items()}
_TAKE: Final = """
DELETE FROM keys_onetimeprekey
 WHERE id = (SELECT id FROM keys_onetimeprekey
              WHERE tenant_id = %s AND device_id = %s AND epoch = %s ORDER BY id LIMIT 1)
RETURNING batch_id, key_id, "index", leaf, proof
"""
_RECORD: Final = """
INSERT INTO keys_claim (id, tenant_id, requester_id, key, ordinal, target_id, device_id, chain_head,
                        signed_pre_key_id, batch_id, key_id, "index", leaf, proof, claimed_at)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
"""
_SPEND: Final = """
INSERT INTO keys_claimbudget (id, tenant_id, side, subject_id, hour, taken) VALUES (%s, %s, %s, %s, %s, %s)
ON CONFLICT (tenant_id, side, subject_id, hour) DO UPDATE SET taken = taken + excluded.taken
RETURNING taken
"""


def _take_sqlite(target: Target, target_id: UUID, key: str, requester_id: UUID) -> tuple[list[HandedOut], _Spent]:
    now = timezone.now()
    tenant, hour = current_tenant().hex, int(now.timestamp()) // HOUR
    claimed_at = connection.ops.adapt_datetimefield_value(now)
    rows: list[HandedOut] = []
    most = 0
    with connection.cursor() as cursor:
        cursor.execute(_TARGETS_BY[target], [tenant, target_id.hex, MAX_DEVICES])
        for ordinal, found in enumerate(cursor.fetchall()):
            device, suite, head, statement, spk, spk_id, epoch = found
            cursor.execute(_TAKE, [tenant, device, epoch])
            batch_id, *key_fields = (cursor.fetchall() or [(None,) * 5])[0]
            batch = None
            if batch_id is not None:
                cursor.execute("SELECT statement FROM keys_prekeybatch WHERE id = %s", [batch_id])
                batch = cursor.fetchone()[0]
            who = [uuid.uuid4().hex, tenant, requester_id.hex, key, ordinal, target_id.hex, device]
            cursor.execute(_RECORD, [*who, head, spk_id, batch_id, *key_fields, claimed_at])
            cursor.execute(_SPEND, [uuid.uuid4().hex, tenant, "target", device, hour, 1])
            most = max(most, cursor.fetchone()[0])
            batch_uuid = UUID(batch_id) if batch_id else None
            rows.append(HandedOut(UUID(device), suite, head, statement, spk, batch_uuid, batch, *key_fields))
        if not rows:
            return [], _Spent(0, 0)
        cursor.execute(_SPEND, [uuid.uuid4().hex, tenant, "requester", requester_id.hex, hour, len(rows)])
        return rows, _Spent(cursor.fetchone()[0], most)
