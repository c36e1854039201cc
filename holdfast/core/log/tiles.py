# SPDX-License-Identifier: Apache-2.0
"""Roots and proofs of a large log out of tiles of 256 hashes, reading O(log n) tiles.

Implements C2SP tlog-tiles (tile height 8) on top of RFC 6962 as in `merkle`.
Does no I/O: the caller's reader fetches a tile from a table, a file or a server.
Specification: https://c2sp.org/tlog-tiles ("Merkle Tree").
"""

from __future__ import annotations

from collections.abc import Callable

from holdfast.core.base.errors import Malformed
from holdfast.core.log import merkle

HEIGHT = 8  # levels in a tile: fixed by C2SP tlog-tiles, "Merkle Tree"
WIDTH = 1 << HEIGHT  # hashes in a full tile: 8 KiB, immutable once full, so that caches may keep it for ever

# tile(level, index): up to 256 concatenated hashes of 32 bytes; hash j of it stands at tree level
# 8 * level, position 256 * index + j. A partial tile may be longer than the size asked about.
TileReader = Callable[[int, int], bytes]


def tile_nodes(tile: TileReader) -> merkle.Nodes:
    """Return a node reader that fetches each tile once. Raises Malformed when a tile is too short.

    The reader is not trusted: every proof made from it is checked by whoever receives it.
    """
    fetched: dict[tuple[int, int], bytes] = {}

    def node(level: int, index: int) -> bytes:
        # Only every eighth level is stored. A level between two is hashed anew from the stored one below it.
        tile_level, above = divmod(level, HEIGHT)
        first = index << above
        tile_index, start = divmod(first, WIDTH)
        place = (tile_level, tile_index)
        if place not in fetched:
            fetched[place] = tile(*place)
        hashes = fetched[place][start * merkle.HASH_SIZE : (start + (1 << above)) * merkle.HASH_SIZE]
        # A short tile must not give a root of fewer leaves: that would be a valid hash of the wrong subtree.
        if len(hashes) != merkle.HASH_SIZE << above:
            raise Malformed("tile is too short for the tree size")
        # `merkle.root` over stored nodes is sound because the row is a full power of two: no node is carried up.
        row = [hashes[at : at + merkle.HASH_SIZE] for at in range(0, len(hashes), merkle.HASH_SIZE)]
        return merkle.root(row)

    return node


def root(tile: TileReader, size: int) -> bytes:
    """Return the 32-byte root of the first `size` leaves."""
    return merkle.root_from(tile_nodes(tile), size)


def inclusion_proof(tile: TileReader, *, index: int, size: int) -> list[bytes]:
    """Return the inclusion proof of leaf `index` in the tree of `size`; ValueError outside it."""
    return merkle.inclusion_from(tile_nodes(tile), index, size)


def inclusion_proofs(tile: TileReader, nodes: merkle.Nodes, *, index: int, size: int) -> list[tuple[bytes, ...]]:
    """Return the inclusion proofs of all leaves of the lowest tile `index` in the tree of `size`, in their order.

    nodes: what `tile_nodes` makes of the same reader. What leads from the tile to the root is computed once for all of
    them, and every node in the tile once. Raises Malformed when a tile is too short, ValueError outside the tree.
    """
    first = index * WIDTH
    width = min(WIDTH, size - first)
    if width <= 0:
        raise ValueError("no such tile in a tree of this size")
    octets = tile(0, index)[: width * merkle.HASH_SIZE]
    if len(octets) != width * merkle.HASH_SIZE:
        raise Malformed("tile is too short for the tree size")
    row = [octets[at : at + merkle.HASH_SIZE] for at in range(0, len(octets), merkle.HASH_SIZE)]
    # The leaves of a tile are one subtree of the tree, also at its ragged edge: RFC 6962 splits at powers of two.
    below = merkle.inclusion_proofs(row)
    above = tuple(merkle.inclusion_from(nodes, first, size)[len(below[0]) :])
    return [path + above for path in below]


def tile_proof(nodes: merkle.Nodes, *, index: int, size: int) -> tuple[bytes, ...]:
    """Return what leads from the root of the lowest tile `index` to the root of the tree of `size`.

    nodes: what `tile_nodes` makes of a reader. Tiles are the leaves of the tree above them, as RFC 6962 splits at
    powers of two. Raises Malformed when a tile is too short, ValueError outside the tree.
    """
    first = index * WIDTH
    width = min(WIDTH, size - first)
    if width <= 0:
        raise ValueError("no such tile in a tree of this size")
    below = (width - 1).bit_length()  # as many hashes lead from the tile's first leaf to the tile's root
    return tuple(merkle.inclusion_from(nodes, first, size)[below:])


def consistency_proof(tile: TileReader, *, old_size: int, size: int) -> list[bytes]:
    """Return the consistency proof between two sizes; ValueError unless 1 <= old_size <= size."""
    return merkle.consistency_from(tile_nodes(tile), old_size, size)


def compact_range(tile: TileReader, size: int) -> merkle.CompactRange:
    """Return the right edge of the tree of `size`, with which a sequencer starts."""
    nodes, edge, at = tile_nodes(tile), [], 0
    while at < size:
        level = (size - at).bit_length() - 1
        edge.append(nodes(level, at >> level))
        at += 1 << level
    return merkle.CompactRange(size, tuple(edge))


def tiles_changed(old_size: int, size: int) -> list[tuple[int, int, int]]:
    """Return (level, index, width) of every tile that growing from `old_size` to `size` creates or extends.

    width: number of hashes in the tile at `size`, 1..256.
    """
    changed: list[tuple[int, int, int]] = []
    level, old_count, count = 0, old_size, size
    # Up the levels until one has no full tile below it: only full tiles give a hash to the level above.
    while count:
        if count > old_count:
            grown = range(old_count // WIDTH, (count - 1) // WIDTH + 1)
            changed += [(level, index, min(WIDTH, count - index * WIDTH)) for index in grown]
        level, old_count, count = level + 1, old_count >> HEIGHT, count >> HEIGHT
    return changed


def tile_path(level: int, index: int, width: int = WIDTH) -> str:
    """Return the resource path `tile/<L>/<N>[.p/<W>]`. C2SP tlog-tiles, "Merkle Tree"."""
    # Groups of three digits, all but the last marked `x`: no directory of a static copy gets over a thousand names.
    parts = [f"{index % 1000:03d}"]
    while index >= 1000:
        index //= 1000
        parts.append(f"x{index % 1000:03d}")
    return f"tile/{level}/" + "/".join(reversed(parts)) + ("" if width == WIDTH else f".p/{width}")
