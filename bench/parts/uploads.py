# SPDX-License-Identifier: Apache-2.0
"""Uploads of 100 one-time keys over HTTP, all of it verified: beside Synapse, which verifies nothing, and bare SQL.

The floor of SQLite is the bare check of one signature and one root, and one transaction of bare inserts.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, Final

from bench import load, world
from bench.crowd import Crowd, lines, signed
from bench.peers import bare_sql
from bench.peers.synapse import synapse

CLIENTS: Final = (1, 8, 32)
KEYS: Final = 100
EACH: Final = 8  # uploads of one device in a round; a device may have 1,000 keys
PEOPLE: Final = 16
SYNAPSE_EACH: Final = 4  # a device may have 500 keys there
SYNAPSE_MOST: Final = 96
TIMES: Final = 10


def main() -> None:
    """Measure and report."""
    world.start()
    from django.db import connection

    world.report(_over_http() if connection.vendor == "postgresql" else _embedded())


def _over_http() -> list[world.Row]:
    world.say(f"making {2 * PEOPLE} people")
    crowd = Crowd()
    suites = {
        f"suite {suite}": [account.phones[0] for account in crowd.people(PEOPLE, hybrid=suite == 2)] for suite in (1, 2)
    }
    rows = []
    with world.server() as ours, ExitStack() as stack:
        peer: Any
        try:
            peer = stack.enter_context(synapse())
        except world.NotMeasured as error:
            peer = error
        for suite, phones in suites.items():
            world.say(f"uploads, {suite}, untimed")
            _ours(ours, phones, max(CLIENTS))
        for clients in CLIENTS:
            rates: dict[str, list[float]] = {}
            for number in range(world.ROUNDS):
                world.say(f"uploads, {clients} client(s), round {number + 1} of {world.ROUNDS}")
                for suite, phones in suites.items():
                    rates.setdefault(suite, []).append(_ours(ours, phones, clients))
                if not isinstance(peer, world.NotMeasured):
                    rates.setdefault("synapse", []).append(_synapse(peer, clients))
            for suite in suites:
                goal = ">= 4" if clients == max(CLIENTS) and suite == "suite 1" else ""
                what = f"uploads of {KEYS} keys, {suite}, {clients} client(s)"
                if "synapse" in rates:
                    rows.append(world.row(what, rates[suite], rates["synapse"], "/s", beside="Synapse", goal=goal))
                else:
                    rows.append(world.missing(f"{what}, beside Synapse", peer, goal=goal))
    return rows


def _ours(serving: world.Serving, phones: list[Any], clients: int) -> float:
    from keys.models import OneTimePreKey
    from tests.cast.phones import batch_document

    made = [[batch_document(phone.batch(KEYS)) for phone in phones] for _ in range(EACH)]
    # Signed when all are built: a signature is good for a minute.
    asked = [
        signed(phone, "POST", f"{phone.path}/pre-keys", document)
        for documents in made
        for phone, document in zip(phones, documents, strict=True)
    ]
    run = load.run(serving.port, lines(asked, clients))
    stored = OneTimePreKey.unscoped.all()
    if stored.count() != run.answered * KEYS:
        raise RuntimeError(f"{stored.count()} keys are there after {run.answered} uploads")
    stored._raw_delete("default")
    return run.rate


def _synapse(peer: Any, clients: int) -> float:
    """Have devices that have no keys yet upload some, each a few times."""
    first = len(peer.devices)
    for _ in range(SYNAPSE_MOST // SYNAPSE_EACH):
        peer.add_person(1)
    asked = [peer.upload(person, KEYS) for _ in range(SYNAPSE_EACH) for person in range(first, len(peer.devices))]
    return load.run(peer.serving.port, lines(asked, clients)).rate


def _embedded() -> list[world.Row]:
    from holdfast.core.crypto.suites import Suite
    from tests.cast.phones import Directory

    alice = Directory().phone("alice", suite=Suite.HYBRID)
    alice.publish(batches=[KEYS])
    built = iter([alice.batch(KEYS) for _ in range(world.ROUNDS * 2 * (TIMES + 1))])
    bare = bare_sql.open_sqlite()
    ours, floor = world.paired(lambda: _stored(alice, built), lambda: _bare(alice, built, bare), TIMES)
    return [world.row(f"a batch of {KEYS} hybrid one-time keys, checked and stored", ours, floor, "ms", scale=1e3)]


def _stored(alice: Any, built: Iterator[Any]) -> None:
    from django.db import transaction

    from kernel.scope import tenant_scope
    from keys import access, services
    from keys.models import OneTimePreKey

    batch = next(built)
    statement = batch.statement.encode()
    with tenant_scope(alice.person.tenant_id):
        device = access.device(alice.id)
        signed_, verified = services.verify_batch(device=device, statement=statement, leaves=batch.leaves)
        with transaction.atomic():
            OneTimePreKey.objects.all()._raw_delete("default")
            services.store_batch(
                device_id=alice.id, statement=statement, signed=signed_, batch=verified, actor=alice.actor()
            )


def _bare(alice: Any, built: Iterator[Any], bare: Any) -> None:
    from holdfast.core.base.encoding import decode
    from holdfast.core.log import merkle
    from holdfast.core.signed.cose import Purpose

    batch = next(built)
    batch.statement.verify(alice.isk.public, purpose=Purpose.PREKEY)
    leaves = decode(batch.leaves, max_size=256 * 1024)
    merkle.root([merkle.leaf_hash(leaf) for leaf in leaves])
    bare.execute("BEGIN IMMEDIATE")
    bare.executemany(
        "INSERT INTO bare_key (device, leaf, proof) VALUES (1, ?, ?)", [(one, b"y" * 224) for one in leaves]
    )
    bare.execute("COMMIT")


if __name__ == "__main__":
    main()
