# SPDX-License-Identifier: Apache-2.0
"""Handing out one-time pre-keys, each exactly once: the hot path of the directory.

Implements PROTOCOL section 7 and FAULTS X1, X3, X7, X9 and D3. It verifies nothing and asks no HSM: what it
hands out was verified at upload, byte for byte as it is given. The hour's limits are counted from the claims
themselves, so that no claim waits for another's count unless a limit is near.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal, NamedTuple
from uuid import UUID

from django.conf import settings
from django.db import IntegrityError, connection
from django.utils import timezone

from audit import services as audit
from holdfast.core.base.encoding import b64u
from kernel import acts, statements
from kernel.actors import Actor
from kernel.api import IdempotencyKeyReused
from kernel.errors import NotFound
from kernel.scope import current_tenant
from keys.errors import ClaimLimit
from keys.models import ChainHead, Claim, Device, PreKeyBatch, SignedPreKey

HOUR: Final = 3600
# More devices of one user than this are not messaged in one request.
MAX_DEVICES: Final = 100
# So many keys below a limit, claims are counted one after another. More claims than this are never under way at once:
# PostgreSQL takes 100 connections by default, and each has one.
_NEAR: Final = 128
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


@dataclass(frozen=True, slots=True)
class _Asked:
    """One claim, as it was asked for."""

    target: Target
    target_id: UUID
    key: str
    requester_id: UUID


class _NearLimit(Exception):
    """Undoes a claim that has to be counted with no other of the same requester or device under way."""


def _claim(target: Target, target_id: UUID, key: str, actor: Actor) -> tuple[list[HandedOut], bool]:
    if actor.id is None:
        raise NotFound
    asked = _Asked(target, target_id, key, actor.id)
    try:
        try:
            # For all devices of a user it takes many keys in one, and is counted alone at once.
            return _hand_out(asked, actor, alone=target == "user"), False
        except _NearLimit:
            return _hand_out(asked, actor, alone=True), False
    except IntegrityError:
        # The claim stands already: a retry, or the same request twice at once. Nothing was taken this time,
        # because the key left its row in the transaction that has just been undone.
        replayed = _replay(target_id, key, actor.id)
        if not replayed:
            raise
        return replayed, True


def _hand_out(asked: _Asked, actor: Actor, *, alone: bool) -> list[HandedOut]:
    """Make a claim in one transaction. alone: with no other of its requester or devices under way."""
    is_postgres = connection.vendor == "postgresql"
    with nullcontext() if is_postgres else _sqlite_turn, acts.act():
        rows, counted = _take_postgres(asked, alone=alone) if is_postgres else _take_sqlite(asked)
        if rows:
            _require_within_limits(counted, len(rows))
            _record(asked.target, asked.target_id, rows, actor)
    return rows


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


class _Counted(NamedTuple):
    """Keys of this hour before this claim: its requester's, and those of the device that gave most.

    is_exact: whether none can have been left out that was under way.
    """

    requester: int
    device: int
    is_exact: bool


def _require_within_limits(counted: _Counted, taken: int) -> None:
    """Raise ClaimLimit, which undoes the claim, when one of the hour's limits is passed; _NearLimit near one."""
    requester_left = settings.HOLDFAST_CLAIMS_PER_REQUESTER - counted.requester - taken
    device_left = settings.HOLDFAST_CLAIMS_PER_TARGET - counted.device - 1
    if not counted.is_exact:
        if min(requester_left, device_left) < _NEAR:
            raise _NearLimit
        return
    retry_after = HOUR - int(timezone.now().timestamp()) % HOUR
    if requester_left < 0:
        raise ClaimLimit("You claimed as many pre-keys as one requester may in an hour.", retry_after=retry_after)
    if device_left < 0:
        raise ClaimLimit("This device gave as many pre-keys as it may in an hour.", retry_after=retry_after)


def _hour(now: datetime) -> datetime:
    return now.replace(minute=0, second=0, microsecond=0)


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
# (4) the hour's claims are counted from their rows, each without those under way beside it, which is exact enough far
#     from a limit (_NEAR). Whoever is near one takes the counters alone: it waits for those under way, and none of
#     these goes on beside it, since the shared lock is only tried (FAULTS X7). So claims far from a limit wait for
#     nobody, and those near it one after another, by ascending lock, so that they cannot deadlock. The hour stands in a
#     pair with whom it is counted for, so that no index of the time alone answers: with that, the planner has a claim
#     read every claim of the hour, of all tenants, or plans each one anew.
_COUNTER: Final = "uuid_hash_extended({subject}, uuid_hash_extended(%(tenant)s::uuid, 0))"
_OF_REQUESTER, _OF_DEVICE = (_COUNTER.format(subject=subject) for subject in ("%(requester)s::uuid", "d.id"))
_POSTGRES = f"""
WITH target AS MATERIALIZED (
  SELECT d.id, d.suite, d.statement, d.pre_key_epoch, h.head, s.id AS spk_id, s.statement AS spk,
         pg_try_advisory_xact_lock_shared({_OF_REQUESTER})
           AND pg_try_advisory_xact_lock_shared({_OF_DEVICE}) AS is_free
    FROM keys_device d
    JOIN keys_signedprekey s ON s.tenant_id = d.tenant_id AND s.device_id = d.id AND s.is_current
    JOIN keys_chainhead h ON h.tenant_id = d.tenant_id AND h.user_id = d.user_id
   WHERE d.tenant_id = %(tenant)s::uuid AND d.{{column}} = %(target)s::uuid AND d.state = 'active'
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
)
SELECT n.id, n.suite, n.head, n.statement, n.spk, n.batch_id, b.statement, n.key_id, n.index, n.leaf, n.proof,
       (SELECT count(*) FROM (
          SELECT 1 FROM keys_claim c
           WHERE c.tenant_id = %(tenant)s::uuid AND c.requester_id = %(requester)s::uuid
             AND (c.requester_id, c.claimed_at) >= (%(requester)s::uuid, %(hour)s::timestamptz)
           LIMIT %(most_of_requester)s) of_requester),
       (SELECT count(*) FROM (
          SELECT 1 FROM keys_claim c
           WHERE c.tenant_id = %(tenant)s::uuid AND c.device_id = n.id
             AND (c.device_id, c.claimed_at) >= (n.id, %(hour)s::timestamptz)
           LIMIT %(most_of_device)s) of_device),
       n.is_free
  FROM numbered n LEFT JOIN keys_prekeybatch b ON b.id = n.batch_id
 ORDER BY n.ordinal
"""  # noqa: S608 — made of constants above
_POSTGRES_BY: Final = {target: _POSTGRES.format(column=column) for target, column in _COLUMN.items()}
_ALONE: Final = f"""
WITH counter AS MATERIALIZED (
  SELECT {_OF_REQUESTER} AS key
   UNION
  SELECT {_OF_DEVICE} FROM keys_device d
   WHERE d.tenant_id = %(tenant)s::uuid AND d.{{column}} = %(target)s::uuid AND d.state = 'active'
   ORDER BY key
)
SELECT pg_advisory_xact_lock(key)::text FROM counter
"""  # noqa: S608 — made of constants above
_ALONE_BY: Final = {target: _ALONE.format(column=column) for target, column in _COLUMN.items()}


def _take_postgres(asked: _Asked, *, alone: bool) -> tuple[list[HandedOut], _Counted]:
    now = timezone.now()
    named: dict[str, Any] = {
        "tenant": current_tenant(),
        "target": asked.target_id,
        "requester": asked.requester_id,
    }
    parameters: dict[str, Any] = {
        **named,
        "key": asked.key,
        "now": now,
        "hour": _hour(now),
        "limit": MAX_DEVICES,
        # Beyond its limit nobody's claims are counted.
        "most_of_requester": settings.HOLDFAST_CLAIMS_PER_REQUESTER,
        "most_of_device": settings.HOLDFAST_CLAIMS_PER_TARGET,
    }
    if alone:
        # A statement of its own: what was committed while it waited is seen by the next.
        statements.run(_ALONE_BY[asked.target], named)
    found = statements.run(_POSTGRES_BY[asked.target], parameters)
    if not alone and not all(row[13] for row in found):
        raise _NearLimit  # somebody is, and has the counters alone
    of_requester, of_device = (max((row[at] for row in found), default=0) for at in (11, 12))
    return [HandedOut(*row[:11]) for row in found], _Counted(of_requester, of_device, is_exact=alone)


# ── SQLite: the same steps under the one write lock that IMMEDIATE takes at BEGIN ────────────────────────────
_TARGETS = """
SELECT d.id, d.suite, h.head, d.statement, s.statement, s.id, d.pre_key_epoch,
       (SELECT count(*) FROM keys_claim c
         WHERE c.tenant_id = d.tenant_id AND c.requester_id = %s AND c.claimed_at >= %s),
       (SELECT count(*) FROM keys_claim c
         WHERE c.tenant_id = d.tenant_id AND c.device_id = d.id AND c.claimed_at >= %s)
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
RETURNING batch_id, key_id, "index", leaf, proof,
          (SELECT b.statement FROM keys_prekeybatch b WHERE b.id = keys_onetimeprekey.batch_id)
"""
_RECORD: Final = """
INSERT INTO keys_claim (id, tenant_id, requester_id, key, ordinal, target_id, device_id, chain_head,
                        signed_pre_key_id, batch_id, key_id, "index", leaf, proof, claimed_at)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
"""


def _take_sqlite(asked: _Asked) -> tuple[list[HandedOut], _Counted]:
    now = timezone.now()
    tenant, requester, target = current_tenant().hex, asked.requester_id.hex, asked.target_id.hex
    claimed_at, hour = (connection.ops.adapt_datetimefield_value(at) for at in (now, _hour(now)))
    rows: list[HandedOut] = []
    by_requester = by_device = 0
    for ordinal, found in enumerate(
        statements.run(_TARGETS_BY[asked.target], [requester, hour, hour, tenant, target, MAX_DEVICES])
    ):
        device, suite, head, statement, spk, spk_id, epoch, by_requester, of_device = found
        by_device = max(by_device, of_device)
        batch_id, *key_fields, batch = (statements.run(_TAKE, [tenant, device, epoch]) or [(None,) * 6])[0]
        who = [uuid.uuid4().hex, tenant, requester, asked.key, ordinal, target, device]
        statements.run(_RECORD, [*who, head, spk_id, batch_id, *key_fields, claimed_at])
        batch_uuid = UUID(batch_id) if batch_id else None
        rows.append(HandedOut(UUID(device), suite, head, statement, spk, batch_uuid, batch, *key_fields))
    # There is one writer at a time: every claim is alone.
    return rows, _Counted(by_requester, by_device, is_exact=True)
