# SPDX-License-Identifier: Apache-2.0
"""The start of the release process over a log of many entries: the first one, and those after it, with its memory.

Of ten entries one is of a deposit and one of its receipt; the others tell of nothing that it has to remember. The worst
start is one after a kill, with as many entries since the facts were kept as there can be. The floor of the first is the
bare check of every signature; of the others, to read what was kept once and check its MAC. Processor seconds, and not
those of a clock: what else the machine does is not ours.
"""

from __future__ import annotations

import hmac
import itertools
import json
import os
import secrets
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from uuid import UUID, uuid4

from bench import world

SIZES: Final = (10_000, 100_000, 1_000_000)
ROUNDS: Final = 3
GOAL_SECONDS: Final = 5.0
_CHUNK: Final = 5_000


def main() -> None:
    """Measure and report."""
    if sys.argv[1:2] == ["--once"]:
        _once(Path(sys.argv[2]), UUID(sys.argv[3]))
        return
    world.start()
    with world.hsm():
        made = world.founded()
        made.sequence()
        # A million take minutes to sign, store and read: with `--largest 10000000` alone.
        most = int(os.environ.get("BENCH_LARGEST", "0")) // 10
        sizes = [size for size in SIZES if size <= max(most, SIZES[0])]
        world.report([row for size in sizes for row in _measure(made, size)])


def _measure(made: Any, size: int) -> list[world.Row]:
    from recovery.release.log import least_to_keep

    _fill(made, size)
    made.release.forget_facts()
    (made.release.path / "heads").unlink(missing_ok=True)
    first = _start(made)
    again = [_start(made) for _ in range(ROUNDS)]
    kept = made.release.facts
    octets = kept.stat().st_size
    read = _seconds(lambda: hmac.digest(bytes(32), kept.read_bytes(), "sha256"))
    # Followed, and one too few to be kept.
    more = least_to_keep(size) - 1
    _fill(made, size + more)
    _start(made)
    worst = [_start(made) for _ in range(ROUNDS)]
    return [
        world.row(f"first start over {size:,} entries ({_mebibytes(first)})", first["seconds"], _checked(size), "s"),
        _under_goal(f"start after it ({octets >> 10:,} KiB kept, {_mebibytes(again[-1])})", again),
        world.row("  beside reading what was kept, and its MAC", statistics.median(_seconds_of(again)), read, "s"),
        _under_goal(f"start after a kill, {more:,} entries since", worst),
    ]


def _under_goal(what: str, taken: list[dict[str, float]]) -> world.Row:
    return world.row(what, _seconds_of(taken), [GOAL_SECONDS] * ROUNDS, "s", goal="<= 1", beside="the goal")


def _seconds_of(taken: list[dict[str, float]]) -> list[float]:
    return [one["seconds"] for one in taken]


def _mebibytes(taken: dict[str, float]) -> str:
    return f"{taken['kib'] / 1024:,.0f} MiB, {taken['before'] / 1024:,.0f} before"


def _seconds(work: Any) -> float:
    return world.median_of(work, ROUNDS)


def _checked(size: int) -> float:
    """The bare signatures of so many entries."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key, message = Ed25519PrivateKey.generate(), bytes(200)
    signature, public = key.sign(message), key.public_key()
    return world.median_of(lambda: public.verify(signature, message), 2_000) * size


def _start(made: Any) -> dict[str, float]:
    command = [sys.executable, "-m", "bench.parts.followed", "--once", str(made.home), str(made.tenant_id)]
    done = subprocess.run(command, text=True, stdout=subprocess.PIPE, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def _once(home: Path, tenant_id: UUID) -> None:
    """Start over the log as the release process does, in a process of its own."""
    import django

    django.setup()
    from audit import access as audit
    from kernel.scope import tenant_scope
    from recovery.release.clock import Clock
    from recovery.release.directory import Directory, only_process
    from recovery.release.log import LOG, ReleaseLog

    before, began = _peak(), time.process_time()
    with only_process(home), tenant_scope(tenant_id):
        clock = Clock(home / "clock")
        log = ReleaseLog.open(Directory(home, tenant_id), clock)
        log.follow(audit.latest_checkpoint(LOG).note, clock.now())
    taken = time.process_time() - began
    if log.facts.wrong or log.newest is None or log.follower.size != log.newest.size:
        raise RuntimeError("the log was not followed to its end")
    print(json.dumps({"seconds": taken, "kib": _peak(), "before": before}))


def _peak() -> int:
    # Not of getrusage, which counts what the parent held as well.
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


def _fill(made: Any, size: int) -> None:
    """Make the log as long as that, and sign its head; tiles are the sequencer's, and not looked at here."""
    from django.utils import timezone

    from audit.models import Checkpoint, LogHead
    from audit.sequencer import verifier
    from holdfast.core.log import checkpoint as notes
    from holdfast.core.log.merkle import CompactRange, leaf_hash
    from hsm import registry
    from kernel.scope import tenant_scope

    with tenant_scope(made.tenant_id):
        head = LogHead.objects.get(log="audit")
        grown, leaves = CompactRange.from_bytes(bytes(head.edge)), _leaves(made)
        while grown.size < size:
            some = [next(leaves) for _ in range(min(_CHUNK, size - grown.size))]
            _insert(made.tenant_id, some, grown.size)
            for _, leaf in some:
                grown = grown.append(leaf_hash(leaf))
        LogHead.objects.filter(pk=head.pk).update(size=grown.size, edge=grown.to_bytes(), signed_size=grown.size)
        now, token = timezone.now(), registry.log()
        key = verifier(made.tenant_id, "audit", token.public_key)
        text = notes.Checkpoint(key.name, grown.size, grown.root(), int(now.timestamp())).to_text()
        signed = {"note": notes.sign_note(text, verifier=key, sign=token.sign), "vkey": key.to_text()}
        Checkpoint.objects.create(log="audit", size=grown.size, root=grown.root(), signed_at=now, **signed)


def _leaves(made: Any) -> Iterator[tuple[Any, bytes]]:
    """Give entries and their leaves, signed as the parts sign them that write such."""
    from holdfast.core.log.log_entry import LogEntry, log_origin
    from holdfast.core.log.writers import Role
    from tests.cast.roles import ROLE_KEYS

    origin, now = log_origin(str(made.tenant_id), "audit"), int(time.time())
    policy, escrow_key, person = made.policies[-1].hash, secrets.token_bytes(32), str(uuid4())
    for number in itertools.count():
        role, tag, subject, body = Role.WEB, "keys:pre-key:claim", str(uuid4()), dict[str, Any](device=str(uuid4()))
        if number % 10 == 0:
            deposit = str(uuid4())
            hashes = {"record_hash": secrets.token_bytes(32), "half_hash": secrets.token_bytes(32)}
            body = {"deposit": deposit, "device": subject, "generation": 1, "policy": policy, "escrow_key": escrow_key}
            tag, subject, body = "escrow:deposit:accept", person, body | hashes
        if number % 10 == 1:
            role, tag, subject, body = Role.RELEASE, "escrow:deposit:receipt", deposit, {}
        entry = LogEntry(uuid4().bytes, tag, f"system:{role}", b"", subject, now, body)
        yield entry, entry.to_signed_leaf(origin=origin, key=ROLE_KEYS[role])


def _insert(tenant_id: UUID, some: list[tuple[Any, bytes]], first: int) -> None:
    from django.db import connection
    from django.db.models import Max
    from django.utils import timezone

    from audit.models import Entry
    from tests.cast.world import as_superuser

    seq, now = (Entry.unscoped.aggregate(last=Max("seq"))["last"] or 0) + 1, timezone.now()
    columns = "seq, id, tenant_id, log, leaf, leaf_index, tag, actor, subject, time, body"
    is_uuid = connection.features.has_native_uuid_field
    # As the sequencer leaves them, without the statement that each act has.
    rows = [
        (
            *(seq + at, UUID(bytes=entry.entry_id) if is_uuid else entry.entry_id.hex()),
            *(tenant_id if is_uuid else tenant_id.hex, "audit", leaf, first + at),
            *(entry.tag, entry.actor, entry.subject, now, "{}"),
        )
        for at, (entry, leaf) in enumerate(some)
    ]
    with as_superuser("audit_entry") as cursor:
        cursor.executemany(
            f"INSERT INTO audit_entry ({columns}) VALUES ({', '.join(['%s'] * 11)})",
            rows,
        )


if __name__ == "__main__":
    main()
