# SPDX-License-Identifier: Apache-2.0
"""Merkle trees against an independent slow tree, the published vectors and every size up to 512."""

import base64
import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.core.base.errors import Malformed, Untrusted
from holdfast.core.log import merkle, tiles

VECTORS = json.loads(
    (Path(__file__).parents[2] / "vectors/tlog/transparency-dev-merkle-proof-testdata.json").read_text()
)
LIMIT = 512
LEAVES = [merkle.leaf_hash(n.to_bytes(2, "big")) for n in range(LIMIT + 1)]


def slow_root(hashes: list[bytes]) -> bytes:
    """RFC 6962 section 2.1, written as its sentence reads."""
    if not hashes:
        return hashlib.sha256(b"").digest()
    if len(hashes) == 1:
        return hashes[0]
    k = 1
    while k * 2 < len(hashes):
        k *= 2
    return hashlib.sha256(b"\x01" + slow_root(hashes[:k]) + slow_root(hashes[k:])).digest()


ROOTS = [slow_root(LEAVES[:n]) for n in range(LIMIT + 1)]


def stored_tiles(size: int) -> dict[tuple[int, int], bytes]:
    """Every tile of the first `size` leaves, built level by level."""
    found: dict[tuple[int, int], bytes] = {}
    nodes = merkle.memory_nodes(LEAVES[:size])
    level = 0
    while size >> (8 * level):
        row = [nodes(8 * level, i) for i in range(size >> (8 * level))]
        for at in range(0, len(row), 256):
            found[level, at // 256] = b"".join(row[at : at + 256])
        level += 1
    return found


def b64(text: str) -> bytes:
    return base64.b64decode(text)


@pytest.mark.parametrize("name", [k for k in VECTORS if k.startswith("testdata/inclusion/")])
def test_verify_inclusion_agrees_with_transparency_dev(name: str) -> None:
    case = VECTORS[name]
    proof = [b64(one) for one in case["proof"] or []]

    def verify() -> None:
        merkle.verify_inclusion(
            b64(case["leafHash"]), index=case["leafIdx"], size=case["treeSize"], proof=proof,
            expected_root=b64(case["root"]),
        )  # fmt: skip

    if case["wantErr"]:
        with pytest.raises(Untrusted):
            verify()
    else:
        verify()


@pytest.mark.parametrize("name", [k for k in VECTORS if k.startswith("testdata/consistency/")])
def test_verify_consistency_agrees_with_transparency_dev(name: str) -> None:
    case = VECTORS[name]
    # One vector names a root of 12 bytes: any string will do there, ours are always 32 bytes.
    old, new = b64(case["root1"]), b64(case["root2"])
    if not case["wantErr"] and len(old) != 32:
        old, new = hashlib.sha256(old).digest(), hashlib.sha256(new).digest()
    proof = [b64(one) for one in case["proof"] or []]

    def verify() -> None:
        merkle.verify_consistency(old_size=case["size1"], old_root=old, size=case["size2"], new_root=new, proof=proof)

    if case["wantErr"]:
        with pytest.raises(Untrusted):
            verify()
    else:
        verify()


def test_root_agrees_with_the_slow_tree_for_every_size() -> None:
    grown = merkle.CompactRange()
    for size in range(LIMIT + 1):
        assert merkle.root(LEAVES[:size]) == ROOTS[size] == grown.root()
        assert merkle.CompactRange.from_bytes(grown.to_bytes()) == grown
        grown = grown.append(LEAVES[size])


def test_inclusion_holds_for_every_leaf_of_every_size() -> None:
    nodes = merkle.memory_nodes(LEAVES)
    for size in range(1, LIMIT + 1):
        for index in range(size):
            proof = merkle.inclusion_from(nodes, index, size)
            assert len(proof) <= (size - 1).bit_length()
            merkle.verify_inclusion(LEAVES[index], index=index, size=size, proof=proof, expected_root=ROOTS[size])


def test_consistency_holds_between_every_two_sizes() -> None:
    nodes = merkle.memory_nodes(LEAVES)
    for size in range(1, LIMIT + 1):
        for old in range(1, size + 1):
            merkle.verify_consistency(
                old_size=old, old_root=ROOTS[old], size=size, new_root=ROOTS[size],
                proof=merkle.consistency_from(nodes, old, size),
            )  # fmt: skip


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 9, 31, 33, 64, 65])
def test_verify_inclusion_refuses_every_other_place_and_every_changed_hash(size: int) -> None:
    for index in range(size):
        proof = merkle.inclusion_proof(LEAVES[:size], index)
        wrong = [(at, size, proof) for at in range(-1, size + 2) if at != index]
        wrong += [(index, size, [*proof[:i], ROOTS[0], *proof[i + 1 :]]) for i in range(len(proof))]
        wrong += [(index, size, proof[:-1])] if proof else []
        wrong += [(index, size, [*proof, ROOTS[0]]), (index, size, [ROOTS[0][:31], *proof])]
        for at, width, path in wrong:
            with pytest.raises(Untrusted):
                merkle.verify_inclusion(LEAVES[index], index=at, size=width, proof=path, expected_root=ROOTS[size])


def test_verify_consistency_refuses_every_changed_hash_and_every_other_root() -> None:
    for size in range(2, 34):
        for old in range(1, size):
            proof = merkle.consistency_proof(LEAVES[:size], old)
            wrong = [(ROOTS[old], ROOTS[size], [*proof[:i], ROOTS[0], *proof[i + 1 :]]) for i in range(len(proof))]
            wrong += [(ROOTS[0], ROOTS[size], proof), (ROOTS[old], ROOTS[0], proof)]
            wrong += [(ROOTS[old], ROOTS[size], proof[:-1]), (ROOTS[old], ROOTS[size], [*proof, ROOTS[0]])]
            for old_root, new_root, path in wrong:
                with pytest.raises(Untrusted):
                    merkle.verify_consistency(old_size=old, old_root=old_root, size=size, new_root=new_root, proof=path)


def test_proofs_refuse_to_be_made_outside_the_tree() -> None:
    for index, size in ((-1, 3), (3, 3), (0, 0)):
        with pytest.raises(ValueError, match="no such leaf"):
            merkle.inclusion_proof(LEAVES[:size], index)
    for old in (0, 4):
        with pytest.raises(ValueError, match="consistency"):
            merkle.consistency_proof(LEAVES[:3], old)


@given(st.binary(max_size=200))
def test_compact_range_accepts_only_what_it_writes(octets: bytes) -> None:
    try:
        read = merkle.CompactRange.from_bytes(octets)
    except Malformed:
        return
    assert read.to_bytes() == octets


def test_compact_range_refuses_a_leaf_of_another_length() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        merkle.CompactRange().append(b"short")


def test_tiles_give_the_same_roots_and_proofs_for_every_size() -> None:
    store = stored_tiles(LIMIT)
    memory = merkle.memory_nodes(LEAVES)

    def tile(level: int, index: int) -> bytes:
        return store[level, index]

    for size in range(LIMIT + 1):
        assert tiles.root(tile, size) == ROOTS[size]
        assert tiles.compact_range(tile, size) == merkle.CompactRange.over(LEAVES[:size])
    for size in (1, 255, 256, 257, 300, 511, 512):
        for index in range(0, size, 37):
            proof = tiles.inclusion_proof(tile, index=index, size=size)
            assert proof == merkle.inclusion_from(memory, index, size)
            if index:
                proof = tiles.consistency_proof(tile, old_size=index, size=size)
                assert proof == merkle.consistency_from(memory, index, size)


def test_tile_reader_is_asked_for_each_tile_once_and_for_few_of_them() -> None:
    asked: list[tuple[int, int]] = []
    full = merkle.leaf_hash(b"x") * 256

    def tile(level: int, index: int) -> bytes:
        asked.append((level, index))
        return full

    tiles.inclusion_proof(tile, index=12_345_678, size=100_000_007)
    assert len(asked) == len(set(asked)) <= 8


def test_tiles_refuse_a_tile_that_is_too_short() -> None:
    with pytest.raises(Malformed):
        tiles.root(lambda _level, _index: b"", 3)


def test_tiles_changed_names_each_new_or_longer_tile() -> None:
    for old in range(0, LIMIT, 17):
        for new in range(old, LIMIT, 29):
            before, after = stored_tiles(old), stored_tiles(new)
            expected = {(*place, len(row) // 32) for place, row in after.items() if before.get(place) != row}
            assert set(tiles.tiles_changed(old, new)) == expected


def test_tile_path_groups_the_index_by_thousands() -> None:
    assert tiles.tile_path(0, 1234067) == "tile/0/x001/x234/067"
    assert tiles.tile_path(1, 0, 17) == "tile/1/000.p/17"
