# SPDX-License-Identifier: Apache-2.0
"""An export of the audit log, and its verification: entries a second, beside the least that each has to do.

The floor of the one is to hash, spell and write each entry's leaf; of the other, to check its bare Ed25519 signature,
which no proof spares, as a server that has the log's key could otherwise write in another part's name. So the goal of
an export is five times what it was, and that of a verification stands beside its floor, which one core does 10,000
times a second: it takes as many cores as there are.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import secrets
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from uuid import UUID, uuid4

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bench.world import Row, figure, report, row
from holdfast.client.auditor.auditor import Verdict, verify_export
from holdfast.core.base.encoding import b64u
from holdfast.core.base.secret import SecretBytes
from holdfast.core.crypto.keys import KeyKind, SigningKey
from holdfast.core.identity.roles import RoleKey, Roles
from holdfast.core.log import checkpoint as notes
from holdfast.core.log import merkle, tiles
from holdfast.core.log.log_entry import LogEntry, log_origin
from holdfast.core.log.log_export import ExportedEntry, ExportedTile, Header, checkpoint_line
from holdfast.core.log.writers import Role
from holdfast.core.signed import cose
from holdfast.core.signed.cose import Purpose
from holdfast.core.signed.payloads import Header as StatementHeader

SIZES = (10_000, 100_000)
# Entries a second of either on one core, when each entry had a proof of its own: 4,190. Five times of it.
GOAL = ">= 20950"
ROUNDS = 3
PIECE = 16 * tiles.WIDTH  # as the worker packs them
TENANT = UUID("11111111-1111-4111-8111-111111111111")


def main() -> None:
    """Measure and report."""
    report([one for size in SIZES for one in _measure(size)])


def _measure(size: int) -> list[Row]:
    seed = secrets.token_bytes(32)
    key, log_key, root = (
        SigningKey.from_seed(KeyKind.ED25519, SecretBytes(one)) for one in (seed, b"l" * 32, b"r" * 32)
    )
    origin = log_origin(str(TENANT), "audit")
    leaves = [_entry().to_signed_leaf(origin=origin, key=key) for _ in range(size)]
    hashes = [merkle.leaf_hash(leaf) for leaf in leaves]
    read = _stored(hashes)
    roles = Roles(
        StatementHeader(TENANT.bytes, b"", b"", 1_700_000_000),
        1,
        (RoleKey(Role.WEB, key.public), RoleKey(Role.LOG, log_key.public)),
    )
    statement = cose.sign(roles.to_payload(), purpose=Purpose.ROLES, key=root)
    verifier = notes.NoteVerifier(origin, log_key.public)
    head = notes.Checkpoint(origin, size, merkle.root(hashes), 1_700_000_000)
    note = notes.sign_note(head.to_text(), verifier=verifier, sign=log_key.sign)

    def export(path: Path) -> None:
        nodes = cache(tiles.tile_nodes(read))
        with path.open("wb") as file:
            lines = [Header(origin, verifier.to_text(), size, 0, statement.encode(), has_tiles=True).to_line()]
            for first in range(0, size, tiles.WIDTH):
                index = first // tiles.WIDTH
                proof = tiles.tile_proof(nodes, index=index, size=size)
                lines.append(ExportedTile(index, read(0, index), proof).to_line())
                lines += [
                    ExportedEntry(at, leaves[at], None).to_line() for at in range(first, min(first + tiles.WIDTH, size))
                ]
                if not (first + tiles.WIDTH) % PIECE:
                    file.write(gzip.compress(b"".join(lines), 1, mtime=0))
                    lines = []
            file.write(gzip.compress(b"".join([*lines, checkpoint_line(note)]), 1, mtime=0))

    bare = Ed25519PrivateKey.from_private_bytes(seed)
    message = leaves[0][:-67]
    signature, public = bare.sign(message), bare.public_key()
    with tempfile.TemporaryDirectory() as directory:
        packed, path = Path(directory) / "log.gz", Path(directory) / "log"

        def verify() -> None:
            if verify_export(path).verdict != Verdict.NOT_ANCHORED:
                raise RuntimeError("the export does not hold")

        taken = []
        for _ in range(ROUNDS):
            wrote, _ = _seconds(lambda: export(packed))
            path.write_bytes(gzip.decompress(packed.read_bytes()))
            spelling, _ = _seconds(lambda: [b64u(leaf) for leaf in leaves if merkle.leaf_hash(leaf)])
            verifying, clock = _seconds(verify)
            checking, _ = _seconds(lambda: [public.verify(signature, message) for _ in range(size)])
            taken.append((wrote, spelling, verifying, checking, clock))
    written, spelt, verified, checked, waited = ([one / size for one in column] for column in zip(*taken, strict=True))
    of, cores = f"of {size:,} entries", os.cpu_count() or 1
    return [
        row(f"export {of}, packed, for each", written, spelt, "µs CPU", scale=1e6),
        figure(f"export {of}, packed, on one core", [1 / one for one in written], "/ s", goal=GOAL),
        row(f"verification {of}, for each", verified, checked, "µs CPU", scale=1e6, goal="<= 2", beside="signature"),
        figure(f"verification {of}, by the clock on {cores} cores", [1 / one for one in waited], "/ s"),
    ]


def _seconds(work: Callable[[], object]) -> tuple[float, float]:
    """Return the processor seconds of some work, in its own processes too, and those of the clock."""
    before = os.times()
    work()
    after = os.times()
    cpu = sum(after[:4]) - sum(before[:4])
    return cpu, after.elapsed - before.elapsed


def _stored(hashes: list[bytes]) -> tiles.TileReader:
    levels = [hashes]
    while len(levels[-1]) >= tiles.WIDTH:
        below, full = levels[-1], len(levels[-1]) // tiles.WIDTH
        levels.append([merkle.root(below[at * tiles.WIDTH : (at + 1) * tiles.WIDTH]) for at in range(full)])
    return lambda level, index: b"".join(levels[level][index * tiles.WIDTH : (index + 1) * tiles.WIDTH])


def _entry() -> LogEntry:
    return LogEntry(
        entry_id=uuid4().bytes,
        tag="escrow:deposit:accept",
        actor=f"device:{uuid4()}",
        person=uuid4().bytes,
        subject=str(uuid4()),
        time=1_700_000_000,
        body={"deposit": uuid4().bytes, "generation": 7, "record": hashlib.sha256(b"record").digest()},
    )


if __name__ == "__main__":
    main()
