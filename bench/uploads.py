# SPDX-License-Identifier: Apache-2.0
"""A batch of 100 hybrid one-time pre-keys: our check and store against one signature, one root and a bare insert."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

from bench import world

TIMES = 10
ROUNDS = 5


def main() -> None:
    """Measure and report."""
    world.start()
    from holdfast.core.crypto.suites import Suite
    from tests.cast.phones import Directory

    alice = Directory().phone("alice", suite=Suite.HYBRID)
    alice.publish(batches=[100])
    needed = ROUNDS * (TIMES + 1) + 5
    built = iter([alice.batch(100) for _ in range(2 * needed)])
    ours, floor = world.paired(lambda: _ours(alice, built), lambda: _floor(alice, built), TIMES, rounds=ROUNDS)
    world.report([world.row("a batch of 100 hybrid one-time keys, checked and stored", ours, floor, "ms", scale=1e3)])


def _ours(alice: Any, built: Iterator[Any]) -> None:
    from kernel.scope import tenant_scope
    from keys import access, services

    batch = next(built)
    statement = batch.statement.encode()
    with tenant_scope(alice.person.tenant_id):
        device = access.device(alice.id)
        signed, verified = services.verify_batch(device=device, statement=statement, leaves=batch.leaves)
        services.store_batch(
            device_id=device.id, statement=statement, signed=signed, batch=verified, actor=alice.actor()
        )


def _floor(alice: Any, built: Iterator[Any]) -> None:
    """The bare check (one signature, one root) and one bare insert of 100 rows in one transaction."""
    from django.db import connection, transaction

    from holdfast.core.base.encoding import decode
    from holdfast.core.log import merkle
    from holdfast.core.signed.cose import Purpose
    from keys.models import PreKeyBatch

    batch = next(built)
    batch.statement.verify(alice.isk.public, purpose=Purpose.PREKEY)
    leaves = decode(batch.leaves, max_size=256 * 1024)
    merkle.root([merkle.leaf_hash(leaf) for leaf in leaves])
    first = PreKeyBatch.unscoped.filter(device_id=alice.id).values_list("pk", flat=True).first()
    hexed = (lambda value: value) if connection.vendor == "postgresql" else (lambda value: value.hex)
    rows = [
        (hexed(alice.person.tenant_id), hexed(uuid.UUID(int=0)), 0, hexed(first), at, at, leaf, b"y" * 224)
        for at, leaf in enumerate(leaves)
    ]
    sql = 'INSERT INTO keys_onetimeprekey (tenant_id, device_id, epoch, batch_id, key_id, "index", leaf, proof) VALUES '
    with transaction.atomic(), connection.cursor() as cursor:
        for at in range(0, 100, 50):
            part = rows[at : at + 50]
            cursor.execute(
                sql + ", ".join(["(%s, %s, %s, %s, %s, %s, %s, %s)"] * len(part)), [v for r in part for v in r]
            )


if __name__ == "__main__":
    main()
