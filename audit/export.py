# SPDX-License-Identifier: Apache-2.0
"""The export that an auditor takes home: JSON lines with every leaf, the hashes of each tile, and the signed head.

Implements docs/formats/audit-log.md on `holdfast.core.log.log_export`, which the offline verifier shares.
It logs nothing itself: the caller appends an entry before the first line leaves.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from functools import cache
from typing import Any, Protocol
from uuid import UUID

from audit import access
from audit.models import Checkpoint, Entry, Numbered
from holdfast.core.base.errors import Malformed
from holdfast.core.log import merkle, tiles
from holdfast.core.log.log_entry import log_origin
from holdfast.core.log.log_export import (
    ExportedEntry,
    ExportedTile,
    Header,
    WithheldEntry,
    checkpoint_line,
    readable,
)
from kernel.scope import tenant_scope

BATCH = 4 * tiles.WIDTH  # of entries that are held at a time


class Head(Protocol):
    """What a first line needs of a signed head."""

    size: int
    vkey: str


def document(entry: Entry | Numbered) -> dict[str, Any]:
    """Return an entry as people read it: what its leaf says, whatever the columns beside it say."""
    return {"index": entry.leaf_index, **readable(bytes(entry.leaf))}


def header(tenant_id: UUID, head: Head, log: str, *, roles: bytes, count: int) -> bytes:
    """Return the first line.

    roles: the newest statement of the tenant root on whose keys write and sign, b"" where there is none. count: how
    many entries this reader sees as hashes only.
    """
    return Header(log_origin(str(tenant_id), log), head.vkey, head.size, count, roles, has_tiles=True).to_line()


def lines_between(log: str, start: int, stop: int, *, size: int, hidden: Collection[int]) -> Iterator[bytes]:
    """Give the lines of the entries start … stop−1 in the tree of `size`, below the hashes of their tiles.

    start: the first of a tile. hidden: the places of entries that this reader sees as hashes only. Two queries,
    and one for each tile higher up.

    A row that is missing is left out and a damaged tile is given as it is: an export shows the log as it is, and the
    auditor's verifier says where it is wrong.
    """
    stored = access.lowest_tiles(log, start // tiles.WIDTH, -(-stop // tiles.WIDTH))
    other = access.tile_reader(log)

    def read(level: int, index: int) -> bytes:
        return stored[index] if level == 0 and index in stored else other(level, index)

    nodes = cache(tiles.tile_nodes(read))
    leaves = dict(access.leaves_there(log, start, stop))
    hidden = frozenset(hidden)
    for first in range(start, stop, tiles.WIDTH):
        index = first // tiles.WIDTH
        width = min(tiles.WIDTH, size - first)
        try:
            proof = tiles.tile_proof(nodes, index=index, size=size)
        except Malformed:
            proof = ()
        yield ExportedTile(index, read(0, index)[: width * merkle.HASH_SIZE], proof).to_line()
        for place in range(first, min(first + tiles.WIDTH, stop)):
            leaf = leaves.get(place)
            if leaf is None:
                continue
            entry = WithheldEntry(place, merkle.leaf_hash(leaf), None) if place in hidden else None
            yield (entry or ExportedEntry(place, leaf, None)).to_line()


def lines(
    tenant_id: UUID, log: str, checkpoint: Checkpoint, *, roles: bytes = b"", hidden: Collection[int] = ()
) -> Iterator[bytes]:
    """Give the export line by line: the header, every entry up to the head, the head. One batch is held at a time.

    roles, hidden: as `header` and `lines_between` have them.
    """
    size = checkpoint.size
    yield header(tenant_id, checkpoint, log, roles=roles, count=len(hidden))
    for low in range(0, size, BATCH):
        # The scope is opened for each batch: between two, other work may run in this thread.
        with tenant_scope(tenant_id):
            batch = list(lines_between(log, low, min(low + BATCH, size), size=size, hidden=hidden))
        yield from batch
    yield checkpoint_line(checkpoint.note)
