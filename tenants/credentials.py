# SPDX-License-Identifier: Apache-2.0
"""Behind every signed request: who is this credential now, is this nonce fresh, and has its owner requests left.

Implements ORGANISATION "Requests" and the speed goal of claims: one SELECT, one INSERT, no object mapping between.
The INSERT is part of the act's transaction where a view lets it (`kernel.acts`).
Implements FAULTS T9: whoever sends without end is refused before any work, and takes nothing from others.
Does not verify signatures. Reads across tenants: a request names its credential, and only its signature says whose.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, Final
from uuid import UUID

from django.db import connection, transaction
from django.utils import timezone

from audit.access import RESTORED_TABLE
from holdfast.core.signed.turns import Kept
from kernel import statements
from kernel.actors import Actor
from kernel.errors import Throttled, Unauthenticated
from tenants.errors import AccessSuspended, DeviceRevoked
from tenants.limits import BUCKET_MICROSECONDS, Level, leases, levels_of
from tenants.models import Credential, Nonce, Person, Tenant, TokenBucket
from tenants.permissions import device_permissions, suspended_permissions
from tenants.roles import SERVICE_ROLE
from tenants.states import CredentialState, PersonState, TenantState

ANSWERED_TURN: Final = "holdfast_turn"  # where a request carries its turn's answer to `middleware.TurnMiddleware`
_CREDENTIAL, _TENANT, _PERSON = (model._meta.db_table for model in (Credential, Tenant, Person))
_NONCE, _BUCKET = (model._meta.db_table for model in (Nonce, TokenBucket))
# An id is unique in its tenant alone. Clients draw theirs at random, so that several tenants have the same one only
# by intent. The oldest come first: whoever copies an id is the one who may find no place here.
_MAX_NAMESAKES: Final = 8
_LOOK_UP: Final = (
    "SELECT c.tenant_id, c.kind, c.public_key, c.state, c.person_id, t.state, p.role, p.state,"  # noqa: S608 — our own tables' names
    # By the database's clock, as the day is written: clocks that differ around midnight would write by turns.
    " c.last_used_on = CURRENT_DATE, c.turn_mark, c.turn_before, c.turn_breaks, c.turn_is_break, c.turn_since,"
    " r.id IS NOT NULL"
    f" FROM {_CREDENTIAL} c JOIN {_TENANT} t ON t.id = c.tenant_id"
    f" LEFT JOIN {RESTORED_TABLE} r ON r.tenant_id = c.tenant_id"
    # The tenant stands in the join as well: a row forged with another tenant's person finds nobody.
    f" LEFT JOIN {_PERSON} p ON p.id = c.person_id AND p.tenant_id = c.tenant_id WHERE c.id = %s"
    f" ORDER BY c.row_id LIMIT {_MAX_NAMESAKES}"
)
_SPEND: Final = (
    f"INSERT INTO {_NONCE} (credential_id, nonce, tenant_id, expires_at) VALUES (%s, %s, %s, %s)"  # noqa: S608 — as above
    " ON CONFLICT (tenant_id, credential_id, nonce) DO NOTHING RETURNING 1"
)
# GCRA: a bucket is the time at which it is full again. A token moves that time on; who would move it further ahead
# than a bucket holds finds no row to change, and so takes nothing. {source} is where the values come from.
# One that stands further ahead than a bucket holds was written by a clock that was ahead and has been set right: it is
# taken for full, or whoever sent a request meanwhile would be refused for as long as the clock was off.
_TAKE: Final = (
    f"INSERT INTO {_BUCKET} AS b (key, full_at) {{source}} ON CONFLICT (key) DO UPDATE"
    " SET full_at = CASE WHEN b.full_at BETWEEN {number} AND {number} + {fault} THEN b.full_at ELSE {number} END"
    " + {number} WHERE b.full_at <= {number} + {number} OR b.full_at > {number} + {fault} RETURNING 1"
)
# Of a device and its person, what would be active but for a suspension, or for its person's leaving: both are one
# person's act, and no such act ends a veto. Nobody who is invited has a device that acts.
_SUSPENDED: Final = {
    (CredentialState.SUSPENDED, PersonState.LEFT),
    (CredentialState.SUSPENDED, PersonState.ACTIVE),
    (CredentialState.SUSPENDED, PersonState.SUSPENDED),
    (CredentialState.ACTIVE, PersonState.SUSPENDED),
}
# Twice what a bucket holds: several servers' clocks are a little apart.
_FAULT: Final = str(2 * BUCKET_MICROSECONDS)
_NUMBER: Final = "CAST(%s AS bigint)"
_TAKE_ONE: Final = _TAKE.format(source="VALUES (%s, %s)", number=_NUMBER, fault=_FAULT)
_MARK_USE: Final = (
    f"UPDATE {_CREDENTIAL} SET last_used_on = CURRENT_DATE WHERE tenant_id = %s AND id = %s"  # noqa: S608 — as above
    " AND (last_used_on IS NULL OR last_used_on <> CURRENT_DATE)"
)
# Only over what was read: of two requests that begin one opening, or two copies' at once, one moves it.
_MOVE: Final = (
    f"UPDATE {_CREDENTIAL}"  # noqa: S608 — as above
    " SET turn_mark = %s, turn_before = %s, turn_breaks = %s, turn_is_break = %s, turn_since = %s"
    " WHERE tenant_id = %s AND id = %s AND turn_mark = %s"
)
_REFUSED: Final = {
    "credential": "This device or program sends more requests than one may.",
    "person": "Your devices together send more requests than one person's may.",
    "tenant": "Your organisation sends more requests than one may.",
    "source": "More requests come from your network address than may come from one.",
}


@dataclass(frozen=True, slots=True)
class Known:
    """A credential whose tenant, owner and own state let it act, as the database says at this moment.

    is_used_today: whether a request of it was let in on this day before.
    """

    actor: Actor
    public_key: bytes
    is_used_today: bool
    turn: Kept


@dataclass(frozen=True, slots=True)
class Moved:
    """What is kept of a credential's turns, and what is to be kept in its place."""

    read: Kept
    kept: Kept


@dataclass(frozen=True, slots=True)
class Barred:
    """A credential by which nobody may act now, and what whoever holds its key is told: nobody else learns it."""

    refusal: Unauthenticated
    public_key: bytes


def look_up(credential_id: UUID, *, admits_suspended: bool = False) -> list[Known | Barred]:
    """Return the credentials with this id with the actors they stand for: one of a tenant, at most eight, the oldest.

    Whose request it is, the caller decides by the keys, no two of which are the same.

    Tenant, person and credential are read again for every request: a demotion or suspension counts from the
    next request on (FAULTS A6), and every state but the listed ones counts for nothing (P9).

    admits_suspended: also those that were suspended, or whose person was, with what is left to them.
    """
    rows = statements.run(_LOOK_UP, [_uuid_parameter(credential_id)])
    return [_known(credential_id, row, admits_suspended) for row in rows]


def _known(credential_id: UUID, row: Sequence[Any], admits_suspended: bool) -> Known | Barred:
    tenant_id, kind, public_key, state, person_id, tenant_state, role, person_state, is_used_today, *turn = row[:-1]
    is_service = kind == Credential.Kind.SERVICE
    role = SERVICE_ROLE if is_service else role
    is_suspended = admits_suspended and (state, person_state) in _SUSPENDED
    if is_suspended:
        permissions = suspended_permissions(role, tenant_state)
    elif is_service or person_state == PersonState.ACTIVE:
        permissions = device_permissions(role, state, tenant_state)
    else:
        permissions = frozenset()
    if not permissions:
        return Barred(_refusal(state, person_state, tenant_state), bytes(public_key))
    actor = Actor(
        tenant_id=_uuid(tenant_id),
        kind="service" if is_service else "device",
        id=credential_id,
        person_id=None if person_id is None else _uuid(person_id),
        role=role,
        permissions=permissions,
        credential_state=state,
        is_suspended=is_suspended,
        is_restored=bool(row[-1]),
    )
    mark, before, breaks, is_break, since = turn
    kept = Kept(bytes(mark), bytes(before), breaks, bool(is_break), since)
    return Known(actor, bytes(public_key), bool(is_used_today), kept)


def _refusal(state: str, person_state: str | None, tenant_state: str) -> Unauthenticated:
    """Say why a credential is let in nowhere, the nearest cause first."""
    if state == CredentialState.REVOKED:
        return DeviceRevoked()
    causes = (
        (state == CredentialState.SUSPENDED, "This device or program is suspended."),
        (person_state == PersonState.LEFT, "Your account here has ended."),
        (person_state == PersonState.SUSPENDED, "Your account is suspended."),
        (tenant_state == TenantState.SUSPENDED, "Your organisation is suspended."),
        (tenant_state == TenantState.ENDED, "Your organisation has ended here."),
    )
    detail = next((said for is_so, said in causes if is_so), "")
    return AccessSuspended(detail) if detail else Unauthenticated()


class Spend:
    """What a request costs: its nonce, a token of each bucket, and what it makes of its credential's turns.

    Committed on its own (`now`) or with the request's act (`take`, then `keep`), and then, of an act that is undone,
    again on its own: a request that fails later has still spent its signature. A replay takes no token. moved: what is
    written with the last of it. Whoever is throttled has spent the nonce as well, and taken no turn.
    """

    def __init__(
        self, actor: Actor, nonce: bytes, *, expires_at: datetime, source: str, moved: Moved | None = None
    ) -> None:
        assert actor.id is not None
        assert actor.tenant_id is not None
        self._row = [
            _uuid_parameter(actor.id),
            nonce,
            _uuid_parameter(actor.tenant_id),
            connection.ops.adapt_datetimefield_value(expires_at),
        ]
        self._move = _move_values(actor.tenant_id, actor.id, moved) if moved else []
        self._levels = levels_of(actor, source)
        self._at = int(timezone.now().timestamp() * 1_000_000)
        asked = leases.take(self._levels, self._at)
        # What the database is asked for: not the buckets of which this process held a token.
        self._asked = [(level, tokens) for level, tokens in zip(self._levels, asked, strict=True) if tokens]
        self._held = [level for level, tokens in zip(self._levels, asked, strict=True) if not tokens]
        self._taken: list[tuple[Level, int]] = []
        self._is_replay = False
        self._refused: Level | None = None

    @property
    def is_shared(self) -> bool:
        """Whether it changes rows that other people's requests wait for, which no act may hold until it is done."""
        return any(level.is_shared for level, _ in self._asked)

    def now(self) -> None:
        """Take and commit it. Raises Unauthenticated for a request that was spent before, Throttled."""
        self._take()
        self.keep()
        self._require()

    def take(self) -> None:
        """Take it in the open transaction. Raises as `now` does."""
        self._take()
        if self._is_replay:
            self.keep()
        self._require()

    def keep(self) -> None:
        """Put away what was taken in advance, and back what a refused request took of what this process holds."""
        for level, tokens in self._taken:
            if tokens > 1:
                leases.give(level, tokens - 1, self._at)
        if self._is_replay or self._refused:
            narrower = self._levels[: self._levels.index(self._refused)] if self._refused else []
            leases.give_back(level for level in self._held if level not in narrower)
            self._held = [level for level in self._held if level in narrower]

    def _take(self) -> None:
        take = _spend_postgres if connection.vendor == "postgresql" else _spend_sqlite
        steps = take(self._row, self._asked, self._at, self._move)
        self._is_replay = steps == 0
        self._taken = self._asked[: max(steps - 1, 0)]
        left = [] if self._is_replay else self._asked[len(self._taken) :]
        if left and left[0][1] > 1:
            # Less than a lease is left of it: maybe the one token that is needed.
            left = [(level, 1) for level, _ in left]
            steps = _take_each(left, self._at, self._move)
            self._taken, left = self._taken + left[:steps], left[steps:]
        self._refused = left[0][0] if left else None

    def _require(self) -> None:
        if self._is_replay:
            raise Unauthenticated
        if self._refused:
            raise Throttled(f"{_REFUSED[self._refused.name]} Wait, then retry.", retry_after=1)


def mark_use(known: Known) -> None:
    """Note the day on which a credential signed a request that was let in: one write a day, and no finer than a day."""
    if known.is_used_today:
        return
    assert known.actor.id is not None
    assert known.actor.tenant_id is not None
    with connection.cursor() as cursor:
        cursor.execute(_MARK_USE, [_uuid_parameter(known.actor.tenant_id), _uuid_parameter(known.actor.id)])


def _move_values(tenant_id: UUID, credential_id: UUID, moved: Moved) -> list[Any]:
    kept = moved.kept
    return [
        kept.mark,
        kept.before,
        kept.breaks,
        kept.is_break,
        kept.since,
        _uuid_parameter(tenant_id),
        _uuid_parameter(credential_id),
        moved.read.mark,
    ]


def _spend_postgres(row: Sequence[Any], asked: Sequence[tuple[Level, int]], now: int, move: Sequence[Any]) -> int:
    """Return how many steps were taken: the nonce, then each bucket until one was empty."""
    if not asked and not move:
        return len(statements.run(_SPEND, row))
    values = [value for level, tokens in asked for value in _values(level, tokens, now)]
    return int(statements.run(_spend_statement(len(asked), moves=bool(move)), [*row, *values, *move])[0][0])


def _spend_sqlite(row: Sequence[Any], asked: Sequence[tuple[Level, int]], now: int, move: Sequence[Any]) -> int:
    """Take the same steps under SQLite's one write lock: its WITH holds no INSERT."""
    with transaction.atomic(savepoint=False) if asked or move else nullcontext():
        return 1 + _take_each(asked, now, move) if statements.run(_SPEND, row) else 0


def _take_each(asked: Sequence[tuple[Level, int]], now: int, move: Sequence[Any]) -> int:
    """Take one bucket after the other, and the turn after the last; return how many were taken."""
    with transaction.atomic(savepoint=False), connection.cursor() as cursor:
        for steps, (level, tokens) in enumerate(asked):
            cursor.execute(_TAKE_ONE, _values(level, tokens, now))
            if cursor.fetchone() is None:
                return steps
        if move:
            cursor.execute(_MOVE, list(move))
    return len(asked)


def _values(level: Level, tokens: int, now: int) -> list[Any]:
    cost = tokens * level.cost
    return [level.key, now + cost, now, now, now, cost, now, BUCKET_MICROSECONDS - cost, now]


@cache
def _spend_statement(number: int, *, moves: bool) -> str:
    """Return PostgreSQL's one statement: each step begins with what the one before it returned.

    moves: whether the last of them moves the credential's turn.

    Every request takes its rows in this order, so that no two wait for each other.
    """
    steps = [f"step0 AS ({_SPEND})"]
    for step in range(1, number + 1):
        source = f"SELECT %s::text, %s::bigint FROM step{step - 1}"  # noqa: S608 — the name of a step above
        taken = _TAKE.format(source=source, number=_NUMBER, fault=_FAULT)
        steps.append(f"step{step} AS ({taken})")
    if moves:
        steps.append(f"moved AS ({_MOVE} AND EXISTS (SELECT 1 FROM step{number}))")  # noqa: S608 — as above
    total = " + ".join(f"(SELECT count(*) FROM step{step})" for step in range(number + 1))  # noqa: S608 — as above
    return f"WITH {', '.join(steps)} SELECT {total}"


def _uuid_parameter(value: UUID) -> Any:
    return value if connection.features.has_native_uuid_field else value.hex


def _uuid(value: Any) -> UUID:
    return value if isinstance(value, UUID) else UUID(value)
