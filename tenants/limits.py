# SPDX-License-Identifier: Apache-2.0
"""What limits count with: windows of tries, token buckets of requests, and strangers' refusals in memory.

Implements FAULTS I10a and T9 (the tenant is part of every key). Windows and buckets stand in the shared database, so
that several web processes count together, and a request counts whatever becomes of it. Of a bucket each process takes
tokens in advance: a burst of requests writes few rows, and the database still gives no more than the limit.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Lock
from typing import Final

from django.conf import settings
from django.db import connection
from django.utils import timezone

from kernel.actors import Actor
from kernel.errors import Throttled
from tenants.models import RateWindow

# A bucket holds what its rate gives in a minute. So no row is in use a minute after its last request, and a client
# that comes back after an hour's silence has a minute's requests at once.
BUCKET_MICROSECONDS: Final = 60 * 1_000_000
# The buckets of a tenant and of a source are updated by everybody in it, and PostgreSQL holds a row until its commit
# is on the disk. Each stands in as many rows, chosen by the credential: at its highest rate a row is taken once in
# four milliseconds, so that waiting for it is the exception. Who chooses their ids fills one row and no more.
SLOTS: Final = 16
# A process takes so much of a bucket in advance, so that a burst of requests writes few rows, and forgets what it has
# not used. So the bucket never gives more than its rate, and what several processes leave unused is a small part of it.
LEASE_MICROSECONDS: Final = 1_000_000
LEASE_LIFE_MICROSECONDS: Final = 10 * 1_000_000
# Buckets of which one process holds tokens: some megabytes.
_MAX_LEASES: Final = 16_384
# Sources whose refused requests one process remembers: some hundred kilobytes.
_MAX_STRANGERS: Final = 4096


@dataclass(frozen=True, slots=True)
class Level:
    """One bucket that a request takes a token from: its row's key, and the microseconds that one token is worth.

    is_shared: whether requests of other people wait while a transaction holds its row.
    """

    name: str
    key: str
    cost: int
    is_shared: bool = False

    @property
    def lease(self) -> int:
        """How many tokens may be taken in advance, the request's own among them."""
        return max(1, LEASE_MICROSECONDS // max(1, self.cost))


def levels_of(actor: Actor, source: str) -> list[Level]:
    """List the buckets of a signed request, the narrowest first: a wider one pays only for what a narrower let pass."""
    assert actor.id is not None
    assert actor.tenant_id is not None
    slot, tenant = actor.id.int % SLOTS, actor.tenant_id.hex
    person = actor.person_id or actor.id
    return [
        Level("credential", f"c{tenant}{actor.id.hex}", _cost(settings.HOLDFAST_REQUESTS_PER_CREDENTIAL)),
        Level("person", f"p{tenant}{person.hex}", _cost(settings.HOLDFAST_REQUESTS_PER_PERSON)),
        Level("tenant", f"t{slot:x}{tenant}", _cost(settings.HOLDFAST_REQUESTS_PER_TENANT, SLOTS), True),
        Level("source", f"s{slot:x}{source}", _cost(settings.HOLDFAST_REQUESTS_PER_SOURCE, SLOTS), True),
    ]


def _cost(per_second: float, slots: int = 1) -> int:
    return int(1_000_000 * slots / per_second)


@dataclass(slots=True)
class _Lease:
    """Tokens of one bucket that this process holds. Times are the clock's, in microseconds."""

    tokens: int = 0
    taken_at: int = 0
    asked_at: int = 0  # when a lease was asked for that has not been given


class Leases:
    """The tokens that this process has taken in advance, in its memory: what is lost with it was never used."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._held: OrderedDict[str, _Lease] = OrderedDict()

    def take(self, levels: Sequence[Level], now: int) -> list[int]:
        """Take a token of each bucket that there is one of; return how many of each to ask the database for.

        One thread asks for a lease, and the others meanwhile for the token they need. So they do for a second after a
        lease was refused: there may be less than that left.
        """
        with self._lock:
            return [self._take(level, now) for level in levels]

    def _take(self, level: Level, now: int) -> int:
        if level.lease == 1:
            return 1
        held = self._held.get(level.key)
        if held is None:
            held = self._held[level.key] = _Lease()
            if len(self._held) > _MAX_LEASES:
                self._held.popitem(last=False)  # the one that was begun the longest ago
        # A clock that was set back makes a lease no younger.
        if held.tokens and 0 <= now - held.taken_at < LEASE_LIFE_MICROSECONDS:
            held.tokens -= 1
            return 0
        if 0 <= now - held.asked_at < LEASE_MICROSECONDS:
            return 1
        held.asked_at = now
        return level.lease

    def give(self, level: Level, tokens: int, now: int) -> None:
        """Put away what of a lease that the database gave is left."""
        with self._lock:
            held = self._held.get(level.key)
            if held is not None:
                held.tokens, held.taken_at, held.asked_at = tokens, now, 0

    def give_back(self, levels: Iterable[Level]) -> None:
        """Put the tokens back that a request took and was not let in with."""
        with self._lock:
            for level in levels:
                held = self._held.get(level.key)
                if held is not None:
                    held.tokens += 1

    def forget(self) -> None:
        """Hold nothing any more."""
        with self._lock:
            self._held.clear()


leases: Final = Leases()


def count_against(key: str, *, limit: int, seconds: int) -> None:
    """Count one try of `key` in the current window of `seconds`. Raises Throttled above `limit`.

    Call it outside the act's transaction: a refused act must still be counted.
    """
    count, left = count_in_window(key, seconds=seconds)
    if count > limit:
        raise Throttled(retry_after=left)


def count_in_window(key: str, *, seconds: int) -> tuple[int, int]:
    """Count one more of `key`, and return how many its window of `seconds` has now, and its seconds left.

    Inside a transaction the count is undone with it.
    """
    now = int(timezone.now().timestamp())
    window = now // seconds
    ends = (window + 1) * seconds
    return _increment(key, window, datetime.fromtimestamp(ends, UTC)), ends - now


def is_first(key: str, number: int, *, expires_at: datetime) -> bool:
    """Tell whether `number` of `key` is seen for the first time, and keep it until `expires_at`.

    Inside a transaction it is forgotten with it.
    """
    return _increment(key, number, expires_at) == 1


class Strangers:
    """Counts in this process's memory the requests that authenticate nobody, by source: they write no row.

    Such a request costs one look-up by its key, however many come; counted in the database, each would cost a commit.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = Lock()
        self._until: OrderedDict[str, float] = OrderedDict()

    def count(self, source: str) -> None:
        """Count one. Raises Throttled when the source has none left; refused ones are not counted on."""
        now, cost = self._clock(), 1 / settings.HOLDFAST_REFUSALS_PER_SOURCE
        with self._lock:
            until = max(self._until.pop(source, now), now)
            is_full = until + cost > now + BUCKET_MICROSECONDS / 1_000_000
            self._until[source] = until if is_full else until + cost
            if len(self._until) > _MAX_STRANGERS:
                self._until.popitem(last=False)  # the one that was silent the longest
        if is_full:
            raise Throttled("Too many requests from here were not signed by a registered key. Wait, then retry.")


strangers: Final = Strangers()


def _increment(key: str, window: int, expires_at: datetime) -> int:
    table = RateWindow._meta.db_table
    with connection.cursor() as cursor:
        cursor.execute(
            f'INSERT INTO {table} (key, "window", count, expires_at) VALUES (%s, %s, 1, %s)'  # noqa: S608 — our own table's name
            f' ON CONFLICT (key, "window") DO UPDATE SET count = {table}.count + 1 RETURNING count',
            [key[:120], window, connection.ops.adapt_datetimefield_value(expires_at)],
        )
        return int(cursor.fetchone()[0])
