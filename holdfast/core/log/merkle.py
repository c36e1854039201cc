# SPDX-License-Identifier: Apache-2.0
"""Merkle trees of the two logs and of pre-key batches: roots, inclusion and consistency proofs.

Implements RFC 6962 section 2 (hashing) and RFC 9162 sections 2.1.3 and 2.1.4 (verification).
Stores nothing and signs nothing: tiles are in `tiles`, signed heads in `checkpoint`.
Specification: https://www.rfc-editor.org/rfc/rfc6962 section 2; https://www.rfc-editor.org/rfc/rfc9162 section 2.1.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from holdfast.core.base.errors import Malformed, Untrusted
from holdfast.core.base.writing import read_back

HASH_SIZE = 32  # bytes: SHA-256, the hash of RFC 6962 section 2.1
EMPTY_ROOT = hashlib.sha256(b"").digest()  # RFC 6962 section 2.1: the hash of an empty string
MAX_SIZE = 2**53 - 1  # what the deterministic CBOR profile can name
# A tree of MAX_SIZE leaves has 53 levels, so no honest proof is longer; the bound is on a liar's hashing.
MAX_PROOF = 64

# node(level, index): the hash of the perfect subtree over leaves [index << level, (index + 1) << level).
Nodes = Callable[[int, int], bytes]


def leaf_hash(leaf: bytes) -> bytes:
    """Hash one leaf to 32 bytes. RFC 6962 section 2.1: the 0x00 keeps leaves and nodes apart."""
    return hashlib.sha256(b"\x00" + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash two 32-byte children to 32 bytes. RFC 6962 section 2.1."""
    # Without the other prefix, an inner node's 64 bytes could be shown as a leaf: a second preimage of the same root.
    return hashlib.sha256(b"\x01" + left + right).digest()


def root(hashes: Sequence[bytes]) -> bytes:
    """Return the 32-byte root over leaf hashes in order; of no leaves, SHA-256 of nothing.

    hashes: what `leaf_hash` returned, not the leaves. RFC 6962 section 2.1.
    """
    return root_from(memory_nodes(hashes), len(hashes))


def inclusion_proof(hashes: Sequence[bytes], index: int) -> list[bytes]:
    """Return the audit path of leaf `index`, from the leaf's sibling upwards. RFC 6962 section 2.1.1.

    Raises ValueError when there is no such leaf (the caller's mistake).
    """
    return inclusion_from(memory_nodes(hashes), index, len(hashes))


def inclusion_proofs(hashes: Sequence[bytes]) -> list[tuple[bytes, ...]]:
    """Return the audit path of every leaf, in order, as `inclusion_proof` does; each node is hashed once."""
    paths: list[list[bytes]] = [[] for _ in hashes]
    level, row = 0, list(hashes)
    while len(row) > 1:
        for index, path in enumerate(paths):
            # A node at the ragged edge has no sibling here, and is carried up.
            if (sibling := (index >> level) ^ 1) < len(row):
                path.append(row[sibling])
        carried = [row[-1]] if len(row) & 1 else []
        row = [node_hash(row[at], row[at + 1]) for at in range(0, len(row) - 1, 2)] + carried
        level += 1
    return [tuple(path) for path in paths]


def consistency_proof(hashes: Sequence[bytes], old_size: int) -> list[bytes]:
    """Return the proof that the tree of `old_size` is a prefix of this one. RFC 6962 section 2.1.2.

    Raises ValueError unless 1 <= old_size <= len(hashes) (the caller's mistake).
    """
    return consistency_from(memory_nodes(hashes), old_size, len(hashes))


def memory_nodes(hashes: Sequence[bytes]) -> Nodes:
    """Return a node reader over leaf hashes held in memory."""
    levels = [list(hashes)]
    while len(levels[-1]) > 1:
        # An odd node at the end stays out of the level above. RFC 6962 never doubles it, so no two lists share a root.
        below = levels[-1]
        levels.append([node_hash(below[i], below[i + 1]) for i in range(0, len(below) - 1, 2)])
    return lambda level, index: levels[level][index]


def root_from(nodes: Nodes, size: int) -> bytes:
    """Return the root of the first `size` leaves, reading at most log2(size) nodes."""
    return _range_hash(nodes, 0, size) if size else EMPTY_ROOT


def inclusion_from(nodes: Nodes, index: int, size: int) -> list[bytes]:
    """Return the inclusion proof of leaf `index` in the tree of `size`. RFC 6962 section 2.1.1."""
    if not 0 <= index < size:
        raise ValueError("no such leaf in a tree of this size")
    path: list[bytes] = []
    low, high = 0, size
    # Down from the root to the leaf; the path is turned round at the end, since a verifier works upwards.
    while high - low > 1:
        middle = low + _split(high - low)
        if index < middle:
            path.append(_range_hash(nodes, middle, high))
            high = middle
        else:
            path.append(_range_hash(nodes, low, middle))
            low = middle
    return path[::-1]


def consistency_from(nodes: Nodes, old_size: int, size: int) -> list[bytes]:
    """Return the consistency proof from `old_size` to `size`. RFC 6962 section 2.1.2."""
    if not 1 <= old_size <= size:
        raise ValueError("a consistency proof needs 1 <= old size <= size")
    path: list[bytes] = []
    low, high = 0, size
    # The same walk towards the edge of the old tree: each sibling on the way completes
    # the old root, the new one, or both.
    while old_size != high:
        middle = low + _split(high - low)
        if old_size <= middle:
            path.append(_range_hash(nodes, middle, high))
            high = middle
        else:
            path.append(_range_hash(nodes, low, middle))
            low = middle
    # What is left is the largest subtree that both trees share: the verifier knows it already when it
    # is the whole old tree (low == 0), and must be told otherwise.
    if low:
        path.append(_range_hash(nodes, low, high))
    return path[::-1]


def verify_inclusion(leaf: bytes, *, index: int, size: int, proof: Sequence[bytes], expected_root: bytes) -> None:
    """Check that the leaf hash `leaf` stands at `index` in the tree of `size` under `expected_root`.

    Raises Untrusted for every failure: the prover, or whoever carried the proof, is wrong.
    RFC 9162 section 2.1.3.2.
    """
    # Lengths first: two hashes cut at another place would join to the same 64 bytes.
    _check_hashes([leaf, *proof, expected_root])
    if not 0 <= index < size <= MAX_SIZE:
        raise Untrusted("inclusion proof is outside the tree")
    position, last, result = index, size - 1, leaf
    for sibling in proof:
        # `last` is the index of the last node in this level; 0 means that the root is reached, and any more hashes
        # would lead to a root of another tree.
        if last == 0:
            raise Untrusted("inclusion proof is too long")
        # A right child, or the node at the ragged edge: in both cases the sibling stands to the left.
        if position & 1 or position == last:
            result = node_hash(sibling, result)
            # A node without a right sibling is carried up unhashed until it becomes a right child.
            while not position & 1 and position:
                position, last = position >> 1, last >> 1
        else:
            result = node_hash(result, sibling)
        position, last = position >> 1, last >> 1
    # `last` must have come to 0 as well: a shorter proof could otherwise end at an
    # inner node that somebody calls a root.
    if last or not hmac.compare_digest(result, expected_root):
        raise Untrusted("inclusion proof does not lead to the root")


class InclusionChecker:
    """Checks inclusion proofs of many leaves of one tree, as `verify_inclusion` checks one.

    A node that a proof has led to the root is not hashed again for the leaf beside it: in their order, leaves cost two
    hashes each, however large the tree. It keeps the newest path, no more.
    """

    def __init__(self, *, size: int, root: bytes) -> None:
        _check_hashes([root])
        self._size, self._root = size, root
        # By level: the left one of two nodes side by side, its position, the right one, and the path from their parent
        # on. All of it was led to the root.
        self._proven: dict[int, tuple[int, bytes, bytes, tuple[bytes, ...]]] = {}

    def check(self, leaf: bytes, *, index: int, proof: tuple[bytes, ...]) -> None:
        """Check that the leaf hash `leaf` stands at `index`. Raises Untrusted for every failure."""
        _check_hashes([leaf, *proof])
        if not 0 <= index < self._size <= MAX_SIZE:
            raise Untrusted("inclusion proof is outside the tree")
        level, position, last, result = 0, index, self._size - 1, leaf
        seen: dict[int, tuple[int, bytes, bytes, tuple[bytes, ...]]] = {}
        for place, sibling in enumerate(proof):
            # A node without a right sibling is carried up unhashed until it becomes a right child.
            while position == last and not position & 1 and position:
                level, position, last = level + 1, position >> 1, last >> 1
            if last == 0:
                raise Untrusted("inclusion proof is too long")
            left, right = (sibling, result) if position & 1 else (result, sibling)
            pair = (position & ~1, left, right, proof[place + 1 :])
            if pair == self._proven.get(level):
                break
            seen[level] = pair
            result = node_hash(left, right)
            level, position, last = level + 1, position >> 1, last >> 1
        else:
            if last or not hmac.compare_digest(result, self._root):
                raise Untrusted("inclusion proof does not lead to the root")
        self._proven |= seen


def verify_consistency(*, old_size: int, old_root: bytes, size: int, new_root: bytes, proof: Sequence[bytes]) -> None:
    """Check that the tree (`size`, `new_root`) extends the tree (`old_size`, `old_root`).

    An old size of 0 is refused: every tree extends the empty one, so such a proof says nothing.
    Raises Untrusted for every failure. RFC 9162 section 2.1.4.2.
    """
    _check_hashes([old_root, new_root, *proof])
    if not 1 <= old_size <= size <= MAX_SIZE:
        raise Untrusted("consistency proof is outside the tree")
    # The same tree twice needs no proof; RFC 9162 section 2.1.4.2 begins where the sizes differ.
    if old_size == size:
        if proof or not hmac.compare_digest(old_root, new_root):
            raise Untrusted("two different trees of one size")
        return
    path = list(proof)
    if old_size & (old_size - 1) == 0:
        path.insert(0, old_root)  # the old tree is one perfect subtree of the new
    if not path:
        raise Untrusted("consistency proof is too short")
    # Both roots are built from one list of hashes: an old root that comes out right shows that the hashes are the old
    # tree's own, and the new root that they stand unchanged in the new one.
    position, last = old_size - 1, size - 1
    # Climbs to the largest subtree that ends where the old tree ends: the proof begins with its hash.
    while position & 1:
        position, last = position >> 1, last >> 1
    old = new = path[0]
    for sibling in path[1:]:
        if last == 0:
            raise Untrusted("consistency proof is too long")
        # To the left of the path lies what both trees have; to the right only what
        # is new. So only here both are hashed.
        if position & 1 or position == last:
            old, new = node_hash(sibling, old), node_hash(sibling, new)
            while not position & 1 and position:
                position, last = position >> 1, last >> 1
        else:
            new = node_hash(new, sibling)
        position, last = position >> 1, last >> 1
    same_old, same_new = hmac.compare_digest(old, old_root), hmac.compare_digest(new, new_root)
    if last or not (same_old and same_new):
        raise Untrusted("consistency proof does not connect the roots")


@dataclass(frozen=True, slots=True)
class CompactRange:
    """The right edge of a tree: enough to append and to give the root, 32 bytes per 1-bit of the size.

    A sequencer or a follower keeps this instead of the leaves. Immutable: `append` returns the next one,
    so that a failed write leaves the value it started from.
    """

    size: int = 0
    edge: tuple[bytes, ...] = ()  # perfect subtrees, largest first

    @classmethod
    def over(cls, hashes: Iterable[bytes]) -> CompactRange:
        """Return the range over leaf hashes in order."""
        built = cls()
        for digest in hashes:
            built = built.append(digest)
        return built

    def append(self, leaf: bytes) -> CompactRange:
        """Return the range with one more leaf hash of 32 bytes; ValueError on another length."""
        if len(leaf) != HASH_SIZE:
            raise ValueError("a leaf hash is 32 bytes")
        edge, carried, size = list(self.edge), leaf, self.size
        # As carrying in a binary counter: each 1-bit is a perfect subtree that the
        # new leaf, or what it became, completes.
        while size & 1:
            carried, size = node_hash(edge.pop(), carried), size >> 1
        return CompactRange(self.size + 1, (*edge, carried))

    def root(self) -> bytes:
        """Return the 32-byte root of all leaves appended so far."""
        if not self.edge:
            return EMPTY_ROOT
        # From the smallest up: RFC 6962 splits at the largest power of two, so the larger
        # subtree is always the left child.
        result = self.edge[-1]
        for left in reversed(self.edge[:-1]):
            result = node_hash(left, result)
        return result

    @read_back("from_bytes")
    def to_bytes(self) -> bytes:
        """Serialise: the size in 8 bytes, big-endian, then 32 bytes per subtree, largest first."""
        return self.size.to_bytes(8, "big") + b"".join(self.edge)

    @classmethod
    def from_bytes(cls, octets: bytes) -> CompactRange:
        """Undo `to_bytes`. Raises Malformed when the length does not follow from the size."""
        size = int.from_bytes(octets[:8], "big")
        # The size fixes the number of subtrees. Anything else is not a range, and would
        # give a root that nobody has signed.
        if len(octets) != 8 + HASH_SIZE * size.bit_count() or size > MAX_SIZE:
            raise Malformed("compact range has the wrong length for its size")
        return cls(size, tuple(octets[at : at + HASH_SIZE] for at in range(8, len(octets), HASH_SIZE)))


def _range_hash(nodes: Nodes, low: int, high: int) -> bytes:
    # Every range met here starts at a multiple of the power of two at or above its width, so it is a row of
    # perfect subtrees, one for each 1-bit of the width, largest first.
    parts: list[bytes] = []
    while low < high:
        # The largest perfect subtree that still fits; the caller's ranges are aligned, so it starts where one starts.
        level = (high - low).bit_length() - 1
        parts.append(nodes(level, low >> level))
        low += 1 << level
    result = parts.pop()
    while parts:
        result = node_hash(parts.pop(), result)
    return result


def _split(width: int) -> int:
    """The largest power of two below `width` (at least 2)."""
    return 1 << ((width - 1).bit_length() - 1)


def _check_hashes(hashes: Sequence[bytes]) -> None:
    if len(hashes) > MAX_PROOF + 3 or any(len(digest) != HASH_SIZE for digest in hashes):
        raise Untrusted("a proof is at most 64 hashes of 32 bytes")
