# SPDX-License-Identifier: Apache-2.0
"""Shamir sharing against an independent slow field, exhaustively where the field is small enough."""

import itertools
import secrets
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.core.base.secret import SecretBytes
from holdfast.core.crypto import shares


def slow_product(a: int, b: int) -> int:
    """Polynomial multiplication, then long division by x^8 + x^4 + x^3 + x + 1."""
    product = 0
    for bit in range(8):
        if b & 1 << bit:
            product ^= a << bit
    for bit in range(15, 7, -1):
        if product & 1 << bit:
            product ^= 0x11B << (bit - 8)
    return product


def slow_inverse(a: int) -> int:
    return next(b for b in range(1, 256) if slow_product(a, b) == 1)


INVERSE = [0, *(slow_inverse(a) for a in range(1, 256))]


def slow_combine(points: dict[int, bytes]) -> bytes:
    out = bytearray(len(next(iter(points.values()))))
    for at in range(len(out)):
        for i, share in points.items():
            weight = 1
            for j in points:
                if j != i:
                    weight = slow_product(weight, slow_product(j, INVERSE[i ^ j]))
            out[at] ^= slow_product(weight, share[at])
    return bytes(out)


def fixed(*rows: bytes):
    source = iter(rows)
    return lambda _count: next(source)


def test_times_agrees_with_the_slow_field_for_every_pair() -> None:
    everything = bytes(range(256))
    lanes = int.from_bytes(everything, "big")
    for public in range(256):
        product = shares._times(lanes, public, 256).to_bytes(256, "big")
        assert product == bytes(slow_product(a, public) for a in everything)


def test_inverse_agrees_with_the_slow_field_for_every_element() -> None:
    assert [shares._inverse(a) for a in range(1, 256)] == INVERSE[1:]


def test_interpolate_agrees_with_the_slow_field_at_every_x() -> None:
    points = {x: secrets.token_bytes(3) for x in (0, 1, 7, 254, 255)}
    found = {at: shares.interpolate({x: SecretBytes(y) for x, y in points.items()}, at=at) for at in range(256)}
    for at, value in found.items():
        # Moving every x by `at` puts the question at zero, where the slow one answers it.
        moved = {x ^ at: y for x, y in points.items()}
        assert value.reveal() == (moved[0] if 0 in moved else slow_combine(moved))
    # Any five of the values give the same polynomial again.
    others = {x: found[x] for x in (3, 30, 77, 128, 200)}
    assert all(shares.interpolate(others, at=x).reveal() == y for x, y in points.items())


def test_interpolate_refuses_what_is_no_point() -> None:
    share = SecretBytes(b"x")
    for points, at in (({}, 0), ({1: share}, 256), ({1: share}, -1), ({256: share}, 0), ({-1: share}, 0)):
        with pytest.raises(ValueError, match=r"byte|length"):
            shares.interpolate(points, at=at)


def test_split_evaluates_the_polynomial_of_the_page() -> None:
    made = shares.split(SecretBytes(b"\x53\x00"), m=3, n=5, random=fixed(b"\xca\x01", b"\x02\xff"))
    for i, share in made.items():
        square = slow_product(i, i)
        expected = [s ^ slow_product(a, i) ^ slow_product(b, square) for s, a, b in ((0x53, 0xCA, 2), (0, 1, 0xFF))]
        assert share.reveal() == bytes(expected)


def test_combine_gives_the_secret_back_from_every_subset_of_every_policy() -> None:
    secret = SecretBytes(secrets.token_bytes(32))
    for n in range(2, 8):
        for m in range(2, n + 1):
            made = shares.split(secret, m=m, n=n)
            for count in range(m, n + 1):
                for chosen in itertools.combinations(made, count):
                    points = {i: made[i] for i in chosen}
                    assert shares.combine(points) == secret
                    assert slow_combine({i: s.reveal() for i, s in points.items()}) == secret.reveal()


def test_combine_gives_the_secret_back_at_the_largest_policy() -> None:
    secret = SecretBytes(secrets.token_bytes(32))
    made = shares.split(secret, m=16, n=16)
    assert shares.combine(made) == secret
    assert shares.combine({i: made[i] for i in range(1, 16)}) != secret


def test_split_tells_one_share_nothing_exhaustively_for_one_byte() -> None:
    # Over all 256 coefficients each share of each secret takes each value exactly once: no information.
    for secret in (0x00, 0x01, 0x53, 0xFF):
        for i in (1, 2, 3):
            seen = Counter(
                shares.split(SecretBytes(bytes([secret])), m=2, n=3, random=fixed(bytes([a])))[i].reveal()
                for a in range(256)
            )
            assert set(seen.values()) == {1}
            assert len(seen) == 256


def test_split_tells_two_shares_nothing_when_three_are_needed() -> None:
    # Over all 65,536 pairs of coefficients, shares 1 and 2 take each pair of values exactly once.
    secret = SecretBytes(b"\xa7")
    seen = set()
    for a in range(256):
        for b in range(256):
            made = shares.split(secret, m=3, n=3, random=fixed(bytes([a]), bytes([b])))
            seen.add((made[1].reveal(), made[3].reveal()))
    assert len(seen) == 65536


@given(
    st.binary(min_size=1, max_size=80),
    st.integers(2, 16).flatmap(lambda n: st.tuples(st.integers(2, n), st.just(n))),
)
def test_combine_undoes_split_for_any_secret(secret: bytes, policy: tuple[int, int]) -> None:
    m, n = policy
    made = shares.split(SecretBytes(secret), m=m, n=n)
    last = dict(list(made.items())[-m:])
    assert shares.combine(last).reveal() == secret


@pytest.mark.parametrize(("m", "n"), [(-1, 3), (0, 3), (1, 3), (4, 3), (2, 17), (17, 17), (2, 1), (1, 1), (2, 2**40)])
def test_split_refuses_a_policy_outside_its_bounds(m: int, n: int) -> None:
    with pytest.raises(ValueError, match="2 <= m <= n <= 16"):
        shares.split(SecretBytes(b"x" * 32), m=m, n=n)


def test_split_refuses_an_empty_secret_and_short_randomness() -> None:
    with pytest.raises(ValueError, match="nothing"):
        shares.split(SecretBytes(b""), m=2, n=3)
    with pytest.raises(ValueError, match="another length"):
        shares.split(SecretBytes(b"x" * 32), m=2, n=3, random=lambda k: bytes(k - 1))


def test_combine_refuses_shares_that_cannot_belong_together() -> None:
    share = SecretBytes(b"x" * 32)
    for wrong in (
        {}, {1: share}, {0: share, 1: share}, {1: share, 17: share}, {-1: share, 1: share},
        {1: share, 2: SecretBytes(b"x" * 31)}, {1: SecretBytes(b""), 2: SecretBytes(b"")},
    ):  # fmt: skip
        with pytest.raises(ValueError, match="shares"):
            shares.combine(wrong)


def test_combine_gives_another_value_when_one_share_is_wrong() -> None:
    secret = SecretBytes(secrets.token_bytes(32))
    made = shares.split(secret, m=2, n=3)
    made[1] = SecretBytes(bytes([made[1].reveal()[0] ^ 1]) + made[1].reveal()[1:])
    assert shares.combine({1: made[1], 2: made[2]}) != secret
