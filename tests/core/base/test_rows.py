# SPDX-License-Identifier: Apache-2.0
"""Rows by the names of their fields: what is written is what is read, and nothing else is read."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, IntFlag
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.core.base.encoding import MAX_UINT, decode, encode
from holdfast.core.base.errors import Malformed
from holdfast.core.base.rows import (
    choice,
    decode_map,
    decode_row,
    encode_map,
    encode_row,
    flag,
    in_order,
    mapping,
    nested,
    nested_map,
    nested_or_none,
    octets,
    pair,
    secret,
    several,
    spread,
    text,
    uint,
)
from holdfast.core.base.secret import SecretBytes


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Part(IntFlag):
    HEAD = 1
    TAIL = 2


@dataclass(frozen=True)
class Place:
    user: Annotated[bytes, octets(2)]
    device: Annotated[bytes, octets(0, 3)]


@dataclass(frozen=True)
class Row:
    key: bytes
    place: Annotated[Place, spread(Place)]
    colour: Annotated[Colour, choice(Colour)]
    parts: Annotated[Part, choice(Part)]
    seed: Annotated[SecretBytes, secret(4)]
    pairs: Annotated[tuple[tuple[int, str], ...], several(pair(uint(), text(maximum=3)), of=tuple)]
    names: Annotated[dict[str, int], mapping(text(), uint(maximum=9))]
    ids: Annotated[frozenset[int], in_order(uint())]
    inner: Annotated[Place, nested(Place, "inner")]
    other: Annotated[Place | None, nested_or_none(Place, "other")]
    is_on: Annotated[bool, flag()] = False


@dataclass(frozen=True)
class Point:
    x: Annotated[int, uint().at(1)]


@dataclass(frozen=True)
class Numbered:
    count: Annotated[int, uint(minimum=1).at(4)]
    point: Annotated[Point | None, nested_map(Point, "point").at(2, is_optional=True)] = None
    words: Annotated[list[str], several(text(), maximum=3).at(7)] = field(default_factory=list)


PLACE = Place(b"ab", b"")
ROW = Row(
    b"key",
    PLACE,
    Colour.BLUE,
    Part(3),
    SecretBytes(b"seed"),
    ((1, "a"), (2, "b")),
    {"b": 2, "a": 1},
    frozenset({3, 1}),
    PLACE,
    None,
)
VALUE: list[Any] = [
    b"ab",
    b"",
    "blue",
    3,
    b"seed",
    [[1, "a"], [2, "b"]],
    [["a", 1], ["b", 2]],
    [1, 3],
    [b"ab", b""],
    [],
    0,
]


def test_row_is_an_array_of_its_columns_in_the_order_of_the_class() -> None:
    assert encode_row(ROW) == VALUE
    assert decode_row(Row, decode(encode(VALUE)), "row", key=b"key") == ROW


@pytest.mark.parametrize(
    ("place", "value"),
    [(0, b"abc"), (1, b"abcd"), (2, "green"), (2, 1), (2, []), (3, 0), (3, 4), (3, "x"), (4, b"see"), (4, "seed"),
     (5, [[1]]), (5, [[1, "long"]]), (5, 1), (6, [["a", 10]]),
     (7, ["x"]), (8, []), (8, [b"ab"]), (9, [b"ab"]), (9, 1), (10, 2)],
)  # fmt: skip
def test_value_that_no_column_wrote_is_refused(place: int, value: Any) -> None:
    with pytest.raises(Malformed):
        decode_row(Row, [*VALUE[:place], value, *VALUE[place + 1 :]], "row", key=b"")


@pytest.mark.parametrize("value", [VALUE[:-1], [*VALUE, 0], {}, 1, b"", []])
def test_array_of_another_length_is_refused(value: Any) -> None:
    with pytest.raises(Malformed, match="row"):
        decode_row(Row, value, "row", key=b"")


def test_map_holds_each_column_under_its_number_and_leaves_out_what_is_not_there() -> None:
    assert encode_map(Numbered(5)) == {4: 5, 7: []}
    whole = Numbered(5, Point(3), ["a"])
    assert encode_map(whole) == {4: 5, 2: {1: 3}, 7: ["a"]}
    for row in (whole, Numbered(1)):
        assert decode_map(Numbered, decode(encode(encode_map(row))), "numbered") == row


@pytest.mark.parametrize(
    "value", [{}, {4: 5}, {4: 0, 7: []}, {4: 5, 7: [], 1: 0}, {4: 5, 7: ["a"] * 4}, {4: 5, 7: [], 2: {}}, []]
)
def test_map_that_lacks_a_number_or_has_another_is_refused(value: Any) -> None:
    with pytest.raises(Malformed):
        decode_map(Numbered, value, "numbered")


@given(st.integers(0, MAX_UINT), st.lists(st.text("abcé€", max_size=9), max_size=3))
def test_what_is_written_is_read(count: int, words: list[str]) -> None:
    row = Numbered(max(count, 1), None, words)
    assert decode_map(Numbered, decode(encode(encode_map(row))), "numbered") == row


def test_class_without_columns_is_a_mistake_of_the_programmer() -> None:
    @dataclass
    class Bare:
        x: int = 0

    with pytest.raises(TypeError, match="Bare"):
        encode_row(Bare())
