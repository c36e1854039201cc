# SPDX-License-Identifier: Apache-2.0
"""Merkle trees against an independent slow tree, the published vectors and every size up to 512."""

import base64
import hashlib
import json
from collections.abc import Callable
from functools import partial
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


@pytest.mark.parametrize("size", [*range(1, 66), 255, 256, 257, 300, 511, 512])
def test_proofs_of_all_leaves_and_of_a_tile_are_those_of_each(size: int) -> None:
    each = [tuple(merkle.inclusion_proof(LEAVES[:size], index)) for index in range(size)]
    assert merkle.inclusion_proofs(LEAVES[:size]) == each
    stored = stored_tiles(size)

    def read(level: int, index: int) -> bytes:
        return stored[level, index]

    nodes = tiles.tile_nodes(read)
    of_tiles = [tiles.inclusion_proofs(read, nodes, index=at, size=size) for at in range(-(-size // 256))]
    assert [proof for tile in of_tiles for proof in tile] == each


def test_proofs_of_a_tile_that_is_too_short_or_none_are_refused() -> None:
    short = {(0, 0): b"".join(LEAVES[:99]), (0, 1): b""}
    for index, size, wrong in ((0, 100, Malformed), (1, 257, Malformed), (1, 256, ValueError)):

        def read(level: int, at: int) -> bytes:
            return short[level, at]

        with pytest.raises(wrong):
            tiles.inclusion_proofs(read, tiles.tile_nodes(read), index=index, size=size)


# What a liar does to a proof, of leaf `index` among these hashes; each was a proof before.
TAMPERED = {
    "none": lambda proof, at: proof,
    "another hash": lambda proof, at: [*proof[:at], LEAVES[500], *proof[at + 1 :]],
    "one fewer": lambda proof, at: [*proof[:at], *proof[at + 1 :]],
    "one more": lambda proof, at: [*proof[:at], LEAVES[500], *proof[at:]],
    "one more at the end": lambda proof, at: [*proof, LEAVES[500]],
    "turned round": lambda proof, at: proof[::-1],
    "cut": lambda proof, at: proof[:at],
    "none at all": lambda proof, at: [],
    "a short hash": lambda proof, at: [*proof[:at], LEAVES[500][:31], *proof[at + 1 :]],
}


@pytest.mark.parametrize("how", TAMPERED)
@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 9, 33, 70])
def test_checker_of_many_proofs_believes_what_the_checker_of_one_does(size: int, how: str) -> None:
    """Whatever it has seen before, and in whatever order: also a proof whose end alone was changed."""
    proofs, root = merkle.inclusion_proofs(LEAVES[:size]), merkle.root(LEAVES[:size])

    def verdict(check: Callable[[], None]) -> bool:
        try:
            check()
        except Untrusted:
            return False
        return True

    for step in (1, -1, 5):
        checker = merkle.InclusionChecker(size=size, root=root)
        for index in (at * step % size for at in range(size)):
            for leaf, at in [(LEAVES[index], place) for place in range(len(proofs[index]) + 1)] + [(LEAVES[500], 0)]:
                proof = tuple(TAMPERED[how](list(proofs[index]), at))
                one = verdict(
                    partial(merkle.verify_inclusion, leaf, index=index, size=size, proof=proof, expected_root=root)
                )
                assert verdict(partial(checker.check, leaf, index=index, proof=proof)) is one
            checker.check(LEAVES[index], index=index, proof=proofs[index])
    for index in (-1, size):
        with pytest.raises(Untrusted):
            checker.check(LEAVES[0], index=index, proof=proofs[0])


def test_checker_hashes_each_node_of_a_row_once(monkeypatch: pytest.MonkeyPatch) -> None:
    proofs, root = merkle.inclusion_proofs(LEAVES), merkle.root(LEAVES)
    checker, hashed = merkle.InclusionChecker(size=len(LEAVES), root=root), 0
    node_hash = merkle.node_hash

    def counting(left: bytes, right: bytes) -> bytes:
        nonlocal hashed
        hashed += 1
        return node_hash(left, right)

    monkeypatch.setattr(merkle, "node_hash", counting)
    for index, proof in enumerate(proofs):
        checker.check(LEAVES[index], index=index, proof=proof)
    assert hashed <= 2 * len(LEAVES)
