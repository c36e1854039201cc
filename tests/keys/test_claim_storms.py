# SPDX-License-Identifier: Apache-2.0
"""Many claims at once: no key twice, no false "none left", exact limits, revocation wins (FAULTS X1, X3, X7)."""

from __future__ import annotations

import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pytest
from django.db import connection, connections, transaction
from django.utils import timezone

from audit.models import Entry
from holdfast.core.base.encoding import b64u
from holdfast.core.crypto.keys import SigningKey
from holdfast.core.identity import chain_author
from holdfast.core.identity.entries import Reason
from kernel.errors import NotFound
from kernel.scope import tenant_scope
from keys import access, batches, claims, services
from keys.claims import ClaimAnswer, claim_device
from keys.errors import ClaimLimit, PreKeyReused
from keys.models import Claim, OneTimePreKey
from tests.cast.phones import Directory

THREADS = 32
KEYS = 2_000

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgres]


@pytest.fixture
def cast() -> Directory:
    return Directory()


@pytest.fixture(autouse=True)
def _no_limits(settings: Any) -> None:
    settings.HOLDFAST_CLAIMS_PER_REQUESTER = settings.HOLDFAST_CLAIMS_PER_TARGET = 1_000_000


def storm(threads: int, act: Callable[[int], None]) -> float:
    """Run `act` in several threads that start together, each with its own connection; return the seconds taken."""
    start = threading.Barrier(threads)

    def run(number: int) -> None:
        try:
            start.wait(timeout=30)
            act(number)
        finally:
            connections.close_all()

    began = time.monotonic()
    with ThreadPoolExecutor(threads) as pool:
        for done in [pool.submit(run, number) for number in range(threads)]:
            done.result(timeout=240)
    return time.monotonic() - began


def handed(answer: ClaimAnswer) -> tuple[str, int] | None:
    one_time = answer.document.get("one_time_pre_key")
    return (one_time["batch"], one_time["index"]) if one_time else None


def test_storm_hands_out_every_key_once_and_reports_none_left_only_when_none_is(
    cast: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "MAX_UNISSUED", KEYS)
    alice, bob = cast.phone("alice"), cast.phone("bob")
    alice.publish(batches=[100] * (KEYS // 100))
    actor, got, lock = bob.actor(), [], threading.Lock()

    def act(number: int) -> None:
        with tenant_scope(cast.world.acme.pk):
            turns = range(number, KEYS, THREADS)
            mine = [handed(claim_device(device_id=alice.id, key=f"claim-{turn}", actor=actor)) for turn in turns]
        with lock:
            got.extend(mine)

    seconds = storm(THREADS, act)
    print(f"{KEYS} claims by {THREADS} threads on {connection.vendor}: {KEYS / seconds:,.0f}/s")  # noqa: T201
    assert len(got) == KEYS
    assert got.count(None) == 0, "a false none left"
    assert len(set(got)) == KEYS, "a key was handed out twice"
    assert OneTimePreKey.unscoped.count() == 0
    with tenant_scope(cast.world.acme.pk):
        assert handed(claim_device(device_id=alice.id, key="one more", actor=actor)) is None
    assert Claim.unscoped.filter(key_id__isnull=False).count() == KEYS


def test_storm_of_one_claim_repeated_takes_one_key(cast: Directory) -> None:
    alice, bob = cast.phone("alice"), cast.phone("bob")
    alice.publish(batches=[100])
    actor, got = bob.actor(), []

    def act(number: int) -> None:
        with tenant_scope(cast.world.acme.pk):
            got.append(claim_device(device_id=alice.id, key="the same", actor=actor))

    storm(16, act)
    assert len({str(answer.document) for answer in got}) == 1
    assert [answer.replayed for answer in got].count(False) == 1
    assert OneTimePreKey.unscoped.count() == 99


# One is near from the first claim on; of the other, claims begin side by side and end one after another.
@pytest.mark.parametrize("limit", [10, 150])
def test_storm_stops_at_exactly_the_limit(cast: Directory, settings: Any, limit: int) -> None:
    settings.HOLDFAST_CLAIMS_PER_REQUESTER = limit
    alice, bob = cast.phone("alice"), cast.phone("bob")
    alice.publish(batches=[100, 100])
    actor, results = bob.actor(), []
    each = limit // 16 + 3

    def act(number: int) -> None:
        with tenant_scope(cast.world.acme.pk):
            for turn in range(each):
                try:
                    claim_device(device_id=alice.id, key=f"{number}-{turn}", actor=actor)
                    results.append("given")
                except ClaimLimit:
                    results.append("limit")

    storm(16, act)
    assert (results.count("given"), results.count("limit")) == (limit, 16 * each - limit)
    assert OneTimePreKey.unscoped.count() == 200 - limit
    assert Claim.unscoped.count() == limit


OTHERS = 5_000  # claims of this hour, by and of others


@pytest.mark.parametrize("plans", ["force_generic_plan", "force_custom_plan"])
def test_claim_reads_no_claims_of_others(cast: Directory, plans: str) -> None:
    """However the database plans it: with figures of a busy hour it once read the whole hour of all tenants."""
    if connection.vendor != "postgresql":
        pytest.skip("SQLite has no plan that is made before it knows its values")
    alice, bob = cast.phone("alice"), cast.phone("bob")
    alice.publish(batches=[1])
    with tenant_scope(cast.world.acme.pk):
        claim_device(device_id=alice.id, key="one", actor=bob.actor())
    Claim.unscoped.bulk_create(_of_others(Claim.unscoped.get(), OTHERS), batch_size=500)
    sql = claims._POSTGRES_BY["device"]
    given = {"tenant": cast.world.acme.pk, "target": alice.id, "requester": bob.id, "key": "two", "limit": 100}
    now = timezone.now()
    given |= {"now": now, "hour": claims._hour(now), "most_of_requester": 10**6, "most_of_device": 10**6}
    with connection.cursor() as cursor:
        cursor.execute(f"ANALYZE {Claim._meta.db_table}")
        names = list(dict.fromkeys(re.findall(r"%\((\w+)\)s", sql)))
        places = {name: f"${number}" for number, name in enumerate(names, 1)}
        cursor.execute(f"PREPARE planned AS {sql % places}")
        try:
            with transaction.atomic():
                cursor.execute(f"SET LOCAL plan_cache_mode = {plans}")
                values = ", ".join(f"'{given[name]}'" for name in names)
                cursor.execute(f"EXPLAIN EXECUTE planned ({values})")
                plan = "\n".join(row[0] for row in cursor.fetchall())
        finally:
            cursor.execute("DEALLOCATE planned")
    used = set(re.findall(r"(?:using|Index Scan on|Seq Scan on) ((?:keys_)?claim\w*)", plan))
    assert used == {"claim_rate", "claim_rate_of_requester"}, plan


def _of_others(like: Claim, number: int) -> Iterator[Claim]:
    # Few and busy: with one claim of each, the database would find its way however the statement is written.
    people = [uuid.uuid4() for _ in range(8)]
    values = {name: getattr(like, name) for name in ("tenant_id", "target_id", "chain_head", "signed_pre_key_id")}
    for at in range(number):
        one = {"device_id": people[at % 8], "requester_id": people[at // 8 % 8], "key": uuid.uuid4().hex, "ordinal": 0}
        yield Claim(**values, **one, claimed_at=like.claimed_at)


@dataclass
class History:
    """What each claim saw, by the clock: asked at, answered at, and whether something was handed out."""

    rows: list[tuple[float, float, bool]] = field(default_factory=list)
    revoked_at: float = 0.0


def test_storm_hands_out_nothing_once_a_revocation_was_answered(cast: Directory) -> None:
    account, bob = cast.account("alice"), cast.phone("bob")
    kept, lost = account.add_phone(), account.add_phone()
    lost.publish(batches=[100] * 10)
    actor, history = bob.actor(), History()
    pair = chain_author.revoke_device(
        account.chain,
        by=account.author(kept),
        device=lost.id.bytes,
        reason=Reason.DEVICE_LOST,
        since=0,
        new_aik=SigningKey.generate(),
    )
    document = {"entries": [b64u(one.encode()) for one in pair], "expected_head": b64u(account.chain.head)}

    def claims(number: int) -> None:
        turn, after = 0, 0
        with tenant_scope(cast.world.acme.pk):
            # On and on until the revocation was answered, and five times more.
            while after < 5 and turn < 3_000:
                turn, after = turn + 1, after + bool(history.revoked_at)
                asked = time.monotonic()
                try:
                    claim_device(device_id=lost.id, key=f"{number}-{turn}", actor=actor)
                    history.rows.append((asked, time.monotonic(), True))
                except NotFound:
                    history.rows.append((asked, time.monotonic(), False))

    def revokes() -> None:
        while len(history.rows) < 50:
            time.sleep(0.01)
        answer = kept.send("POST", f"{account.path}/chain", document)
        assert answer.status_code == 201, answer.content
        history.revoked_at = time.monotonic()

    storm(8, lambda number: revokes() if number == 0 else claims(number))
    given_after = [row for row in history.rows if row[2] and row[0] > history.revoked_at]
    assert given_after == []
    assert any(row[2] for row in history.rows), "nothing was claimed before the revocation: the race was not run"
    assert any(not row[2] for row in history.rows), "nothing was refused after the revocation: the race was not run"
    # The log explains each outcome: no key was taken behind the revocation.
    revoked = Entry.unscoped.get(tag="keys:device:revoke")
    assert not [e for e in Entry.unscoped.filter(tag="keys:pre-key:claim", seq__gt=revoked.seq) if e.body["keys"]]
    assert OneTimePreKey.unscoped.filter(device_id=lost.id).count() == 0


def test_storm_of_the_same_upload_stores_it_once(cast: Directory) -> None:
    alice = cast.phone("alice")
    built, results = alice.batch(100), []
    statement = built.statement.encode()

    def act(number: int) -> None:
        with tenant_scope(cast.world.acme.pk):
            device = access.device(alice.id)
            signed, batch = services.verify_batch(device=device, statement=statement, leaves=built.leaves)
            results.append(
                services.store_batch(
                    device_id=alice.id, statement=statement, signed=signed, batch=batch, actor=alice.actor()
                ).stored
            )

    storm(8, act)
    assert sorted(results) == [0] * 7 + [100]
    assert OneTimePreKey.unscoped.count() == 100


def test_storm_of_batches_with_the_same_ids_stores_one_of_them(cast: Directory) -> None:
    alice = cast.phone("alice")
    built, results = [alice.batch(20, first=1) for _ in range(8)], []

    def act(number: int) -> None:
        statement = built[number].statement.encode()
        with tenant_scope(cast.world.acme.pk):
            device = access.device(alice.id)
            signed, batch = services.verify_batch(device=device, statement=statement, leaves=built[number].leaves)
            try:
                stored = services.store_batch(
                    device_id=alice.id, statement=statement, signed=signed, batch=batch, actor=alice.actor()
                )
                results.append(stored.stored)
            except PreKeyReused:
                results.append(0)

    storm(8, act)
    assert sorted(results) == [0] * 7 + [20]
    assert sorted(OneTimePreKey.unscoped.values_list("key_id", flat=True)) == list(range(1, 21))
