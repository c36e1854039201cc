# SPDX-License-Identifier: Apache-2.0
"""Reading a tenant's logs: entries, tiles, checkpoints and proofs, always of the tenant whose scope is open."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from audit.errors import NoCheckpoint, OutsideTheLog
from audit.models import Checkpoint, Entry, LogHead, Tile
from holdfast.core import tiles
from holdfast.core.merkle import HASH_SIZE

BATCH = 500


def latest_checkpoint(log: str) -> Checkpoint:
    """Return the newest signed head. Raises NoCheckpoint."""
    found: Checkpoint | None = Checkpoint.objects.filter(log=log).order_by("-size").first()
    if found is None:
        raise NoCheckpoint
    return found


def pending(log: str) -> int:
    """Count the entries that no signed head covers yet."""
    newest = Checkpoint.objects.filter(log=log).order_by("-size").first()
    return Entry.objects.filter(log=log).count() - (newest.size if newest else 0)


def tile(log: str, level: int, index: int) -> bytes:
    """Return a tile's hashes, or nothing when there is no such tile yet."""
    row = Tile.objects.filter(log=log, level=level, index=index).first()
    return bytes(row.hashes) if row else b""


def tile_reader(log: str) -> tiles.TileReader:
    """Return a reader of this tenant's tiles."""
    return lambda level, index: tile(log, level, index)


def sequenced_size(log: str) -> int:
    """Return how many entries have an index."""
    head = LogHead.objects.filter(log=log).first()
    return head.size if head else 0


def inclusion(log: str, *, index: int, size: int) -> list[bytes]:
    """Prove that the leaf at `index` is in the tree of `size`. Raises OutsideTheLog."""
    if not 0 <= index < size <= sequenced_size(log):
        raise OutsideTheLog("There is no such entry in a log of this size.", field="index")
    return tiles.inclusion_proof(tile_reader(log), index=index, size=size)


def consistency(log: str, *, old_size: int, size: int) -> list[bytes]:
    """Prove that the tree of `old_size` is a prefix of the tree of `size`. Raises OutsideTheLog."""
    if not 1 <= old_size <= size <= sequenced_size(log):
        raise OutsideTheLog("Sizes run from 1 to the size of the signed log.", field="from")
    return tiles.consistency_proof(tile_reader(log), old_size=old_size, size=size)


def leaves_between(log: str, start: int, stop: int) -> Iterator[bytes]:
    """Give the leaves with indices start … stop−1 in order, in bounded batches."""
    for entry in entries_between(log, start, stop):
        yield bytes(entry.leaf)


def entries_between(log: str, start: int, stop: int) -> Iterator[Entry]:
    """Give the rows with indices start … stop−1 in order, in bounded batches."""
    for low in range(start, stop, BATCH):
        rows = Entry.objects.filter(log=log, leaf_index__gte=low, leaf_index__lt=min(low + BATCH, stop))
        yield from rows.order_by("leaf_index")


def search(
    *,
    tag: str = "",
    actor: str = "",
    subject: str = "",
    since: datetime | None = None,
    until: datetime | None = None,
    before: int | None = None,
    limit: int = 50,
) -> list[Entry]:
    """List audit entries, newest first, by an allow-list of filters; `before` is the cursor (an index)."""
    wanted: dict[str, Any] = {
        name: value
        for name, value in {
            "tag__startswith": tag,
            "actor": actor,
            "subject": subject,
            "time__gte": since,
            "time__lt": until,
            "leaf_index__lt": before,
        }.items()
        if value not in ("", None)
    }
    rows = Entry.objects.filter(log="audit", leaf_index__isnull=False, **wanted)
    return list(rows.order_by("-leaf_index")[:limit])


def width_of(hashes: bytes) -> int:
    """Return how many hashes a tile holds."""
    return len(hashes) // HASH_SIZE
