# SPDX-License-Identifier: Apache-2.0
"""A claim with 10,000 and with 1,000,000 one-time pre-keys stored: it must stay flat (within 1.2)."""

from __future__ import annotations

import uuid
from typing import Any

from bench import world

SIZES = (10_000, 1_000_000)
TIMES = 300


def main() -> None:
    """Measure and report."""
    world.start()
    from tests.cast.phones import Directory

    directory = Directory()
    bob, alice = directory.phone("bob"), directory.phone("alice")
    alice.publish(batches=[100] * 8)
    stored, medians = 0, []
    for size in SIZES:
        _fill(alice, size - stored)
        stored = size
        medians.append(world.median_of(lambda: _claim(bob, alice), TIMES))
    line = world.row(
        f"a claim with {SIZES[1]:,} keys stored / with {SIZES[0]:,}", medians[1], medians[0], "ms", scale=1e3
    )
    world.report([line])


def _claim(bob: Any, alice: Any) -> None:
    from kernel.scope import tenant_scope
    from keys.claims import claim_device

    with tenant_scope(alice.person.tenant_id):
        answer = claim_device(device_id=alice.id, key=uuid.uuid4().hex, actor=bob.actor())
    if answer.document["one_time"] != "handed-out":
        raise RuntimeError("alice ran out of keys")


def _fill(alice: Any, number: int) -> None:
    """Store a repeated blob under unique ids, spread over devices that are not alice's."""
    from django.db import connection

    from keys.models import PreKeyBatch

    batch = PreKeyBatch.unscoped.filter(device_id=alice.id).first()
    leaf, proof = b"x" * 1_230, b"y" * 224
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
