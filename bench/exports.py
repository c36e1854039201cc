# SPDX-License-Identifier: Apache-2.0
"""An export of the audit log, and its verification: entries a second, beside the least that each has to do.

The floor of the one is to hash, spell and write each entry's leaf; of the other, to check its bare Ed25519 signature,
which no proof spares, as a server that has the log's key could otherwise write in another part's name.
"""

from __future__ import annotations

import hashlib
import secrets
import tempfile
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from uuid import UUID, uuid4

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bench.world import report
from holdfast.client.auditor.auditor import Verdict, verify_export
from holdfast.core.base.encoding import b64u
from holdfast.core.base.secret import SecretBytes
from holdfast.core.crypto.keys import KeyKind, SigningKey
from holdfast.core.identity.roles import RoleKey, Roles
from holdfast.core.log import checkpoint as notes
from holdfast.core.log import merkle, tiles
from holdfast.core.log.log_entry import LogEntry, log_origin
from holdfast.core.log.log_export import ExportedEntry, Header, checkpoint_line
from holdfast.core.log.writers import Role
from holdfast.core.signed import cose
from holdfast.core.signed.cose import Purpose
from holdfast.core.signed.payloads import Header as StatementHeader

SIZES = (10_000, 100_000)
TENANT = UUID("11111111-1111-4111-8111-111111111111")


def main() -> None:
    """Measure and report."""
    report([row for size in SIZES for row in _measure(size)])


def _measure(size: int) -> list[dict[str, str]]:
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
            file.write(Header(origin, verifier.to_text(), size, 0, statement.encode()).to_line())
            for tile in range(-(-size // tiles.WIDTH)):
                for at, proof in enumerate(
                    tiles.inclusion_proofs(read, nodes, index=tile, size=size), tile * tiles.WIDTH
                ):
                    file.write(ExportedEntry(at, leaves[at], proof).to_line())
            file.write(checkpoint_line(note))

    bare = Ed25519PrivateKey.from_private_bytes(seed)
    message = leaves[0][:-67]
    signature, public = bare.sign(message), bare.public_key()
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "log"
        written = _seconds(lambda: export(path))
        spelt = _seconds(lambda: [b64u(leaf) for leaf in leaves if merkle.leaf_hash(leaf)])

        def verify() -> None:
            if verify_export(path).verdict != Verdict.NOT_ANCHORED:
                raise RuntimeError("the export does not hold")

        read_ = _seconds(verify)
    checked = _seconds(lambda: [public.verify(signature, message) for _ in range(size)])
    return [
        _row(f"export of {size:,} entries", size, written, spelt),
        _row(f"verification of {size:,} entries", size, read_, checked),
    ]


def _row(what: str, size: int, ours: float, floor: float) -> dict[str, str]:
    return {
        "what": what,
        "ours": f"{size / ours:,.0f} / s",
        "floor": f"{size / floor:,.0f} / s",
        "ratio": f"{ours / floor:.2f}",
    }


def _seconds(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


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
