# SPDX-License-Identifier: Apache-2.0
"""A claim with ten thousand to a million one-time pre-keys at rest: it must stay flat (within 1.2)."""

from __future__ import annotations

import os
import statistics
import uuid
from datetime import timedelta
from typing import Any, Final

from bench import world

SMALLEST: Final = 10**4
TIMES: Final = 100
GOAL: Final = "<= 1.2"


def main() -> None:
    """Measure and report."""
    world.start()
    from django.db import connection

    from holdfast.core.crypto.suites import Suite
    from kernel.clock import database_now
    from keys.models import Claim
    from tests.cast.phones import Directory

    largest = int(os.environ["BENCH_LARGEST"])
    sizes = [10**power for power in range(4, 9) if 10**power <= largest]
    directory = Directory()
    bob, alice = directory.phone("bob"), directory.phone("alice")
    targets = {"suite 1": alice, "suite 2": directory.phone("carol", suite=Suite.HYBRID)}
    for target in targets.values():
        target.publish(batches=[])
    rounds: dict[str, list[list[float]]] = {suite: [] for suite in targets}
    alice.upload(100)
    stored = 0
    for size in sizes:
        world.say(f"{size:,} keys at rest")
        _fill(alice, size - stored)
        stored = size
        # What is counted of an hour has its limit, and is no key at rest.
        Claim.unscoped.update(claimed_at=database_now() - timedelta(hours=2))
        for suite, target in targets.items():
            for _ in range(4):
                target.upload(100)
            times = [world.median_of(lambda one=target: _claim(bob, one), TIMES) for _ in range(world.ROUNDS)]
            rounds[suite].append(times)
    rows = [
        world.row(
            f"a claim, {suite}, {sizes[-1]:,} keys at rest",
            taken[-1],
            taken[0],
            "ms",
            scale=1e3,
            beside=f"{SMALLEST:,} keys",
            goal=GOAL,
        )
        for suite, taken in rounds.items()
    ]
    curve = {
        "name": "growth",
        "title": f"A claim, by the one-time pre-keys at rest ({connection.vendor})",
        "across": "one-time pre-keys at rest",
        "up": "milliseconds a claim",
        "x": sizes,
        "lines": {suite: [statistics.median(times) * 1e3 for times in taken] for suite, taken in rounds.items()},
    }
    world.report(rows, [curve])


def _claim(bob: Any, alice: Any) -> None:
    from kernel.scope import tenant_scope
    from keys.claims import claim_device

    with tenant_scope(alice.person.tenant_id):
        answer = claim_device(device_id=alice.id, key=uuid.uuid4().hex, actor=bob.actor())
    if answer.document["one_time"] != "handed-out":
        raise RuntimeError("there are no keys left")


def _fill(alice: Any, number: int) -> None:
    """Store a repeated blob of suite 1's size under unique ids, spread over devices that are not alice's."""
    from django.db import connection

    from keys.models import PreKeyBatch

    batch = PreKeyBatch.unscoped.filter(device_id=alice.id).first()
    leaf, proof = b"x" * 50, b"y" * 224
    columns = 'tenant_id, device_id, epoch, batch_id, key_id, "index", leaf, proof'
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            # Our own limit for a request's statement is ten seconds; filling a table is no request.
            cursor.execute("SET statement_timeout = 0")
            cursor.execute(
                f"INSERT INTO keys_onetimeprekey ({columns})"
                " SELECT %s, md5((n %% 10000)::text)::uuid, 0, %s, n, n %% 100, %s, %s FROM generate_series(1, %s) n",
                [alice.person.tenant_id, batch.pk, leaf, proof, number],
            )
            cursor.execute("VACUUM ANALYZE keys_onetimeprekey")
            return
        cursor.execute(
            "WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < %s)"
            f" INSERT INTO keys_onetimeprekey ({columns})"
            " SELECT %s, printf('%%032x', n %% 10000), 0, %s, n, n %% 100, %s, %s FROM s",
            [number, alice.person.tenant_id.hex, batch.pk.hex, leaf, proof],
        )
        cursor.execute("ANALYZE")


if __name__ == "__main__":
    main()
