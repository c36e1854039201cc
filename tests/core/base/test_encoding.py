# SPDX-License-Identifier: Apache-2.0
"""One encoding for each value: the CBOR profile, base64url and the reading of fields."""

import itertools
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from holdfast.core.base.encoding import (
    MAX_BLOB,
    MAX_DEPTH,
    MAX_STATEMENT,
    MAX_UINT,
    Fields,
    b64u,
    decode,
    encode,
    label,
    unb64u,
)
from holdfast.core.base.errors import Malformed

SCALARS = st.integers(-65536, MAX_UINT) | st.binary(max_size=40) | st.text(st.characters(codec="utf-8"), max_size=20)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.integers(0, MAX_UINT), inner, max_size=4),
    max_leaves=12,
)


def depth_of(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(depth_of, value.values()), default=0)
    return 1 + max(map(depth_of, value), default=0) if isinstance(value, list) else 0


@given(VALUES.filter(lambda value: depth_of(value) <= MAX_DEPTH))
def test_decode_gives_back_what_was_encoded(value: Any) -> None:
    assert decode(encode(value)) == value


@settings(max_examples=2000)
@given(st.binary(max_size=24))
@example(bytes.fromhex("a2010001" + "00"))
@example(bytes.fromhex("1b0020000000000000"))
def test_decode_accepts_only_what_encode_would_write(data: bytes) -> None:
    try:
        value = decode(data)
    except Malformed:
        return
    assert encode(value) == data


def test_decode_accepts_only_what_encode_would_write_for_every_input_of_two_bytes() -> None:
    accepted = 0
    for pair in itertools.product(range(256), repeat=2):
        data = bytes(pair)
        try:
            value = decode(data)
        except Malformed:
            continue
        accepted += 1
        assert encode(value) == data
    # uint8 and nint8 above 23, one byte, one ASCII character, one array and no map of a single byte item.
    assert accepted == 232 + 232 + 256 + 128 + (24 + 24 + 4)


@given(VALUES.filter(lambda value: depth_of(value) <= MAX_DEPTH), st.data())
def test_decode_of_a_mutated_value_refuses_or_round_trips(value: Any, data: st.DataObject) -> None:
    octets = bytearray(encode(value))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(octets)))
        octets[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=2))
    try:
        again = decode(bytes(octets))
    except Malformed:
        return
    assert encode(again) == octets


@pytest.mark.parametrize(
    ("value", "octets"),
    [
        (0, "00"),
        (23, "17"),
        (24, "1818"),
        (255, "18ff"),
        (256, "190100"),
        (65536, "1a00010000"),
        (2**32, "1b0000000100000000"),
        (MAX_UINT, "1b001fffffffffffff"),
        (-1, "20"),
        (-8, "27"),
        (-65536, "39ffff"),
        (b"", "40"),
        ("ü", "62c3bc"),
        ([1, [2]], "82018102"),
        ({10: 1, 2: b"x"}, "a20241780a01"),
    ],
)
def test_encode_writes_the_shortest_form(value: Any, octets: str) -> None:
    assert encode(value).hex() == octets
    assert decode(bytes.fromhex(octets)) == value


@pytest.mark.parametrize(
    ("octets", "why"),
    [
        ("", "no bytes"),
        ("1817", "a uint in two bytes that fits one"),
        ("1900ff", "a uint in three bytes that fits two"),
        ("1a0000ffff", "a uint in five bytes that fits three"),
        ("1b00000000ffffffff", "a uint in nine bytes that fits five"),
        ("1b0020000000000000", "2^53"),
        ("1bffffffffffffffff", "2^64 - 1"),
        ("3a00010000", "-65537"),
        ("5f4100ff", "an indefinite byte string"),
        ("7f6161ff", "indefinite text"),
        ("9f00ff", "an indefinite array"),
        ("bf0000ff", "an indefinite map"),
        ("c100", "a tag"),
        ("f4", "false"),
        ("f6", "null"),
        ("f97e00", "a float"),
        ("fb3ff0000000000000", "a double"),
        ("1c", "a reserved head"),
        ("62c328", "invalid UTF-8"),
        ("63eda080", "a lone surrogate"),
        ("62c080", "overlong UTF-8"),
        ("a2010001" + "01", "a duplicate key"),
        ("a202000100", "keys descending"),
        ("a1" + "20" + "00", "a negative key"),
        ("a1" + "6161" + "00", "a text key"),
        ("a1" + "4161" + "00", "a byte-string key"),
        ("a1" + "1801" + "00", "a key that is not shortest"),
        ("0000", "trailing bytes"),
        ("4261", "a string that ends early"),
        ("5b001fffffffffffff", "a string of 2^53 - 1 bytes"),
        ("9b001fffffffffffff", "an array of 2^53 - 1 items"),
        ("bb001fffffffffffff", "a map of 2^53 - 1 pairs"),
        ("8200", "an array that ends early"),
        ("a101", "a map that ends early"),
        ("a1", "a map without its key"),
        ("19", "a head that ends early"),
        ("1a0001", "an argument that ends early"),
    ],
)
def test_decode_refuses_what_is_outside_the_profile(octets: str, why: str) -> None:
    with pytest.raises(Malformed):
        decode(bytes.fromhex(octets))


@pytest.mark.parametrize(("opening", "leaf"), [(b"\x81", b"\x00"), (b"\xa1\x00", b"\x00")])
def test_decode_refuses_a_seventh_level(opening: bytes, leaf: bytes) -> None:
    assert encode(decode(opening * 6 + leaf)) == opening * 6 + leaf
    with pytest.raises(Malformed, match="nested"):
        decode(opening * 7 + leaf)
    with pytest.raises(Malformed, match="nested"):
        decode(opening * 5000 + leaf)


def test_decode_refuses_one_byte_more_than_the_limit() -> None:
    largest = encode(b"\x00" * (MAX_STATEMENT - 3))
    assert len(largest) == MAX_STATEMENT
    assert decode(largest) == b"\x00" * (MAX_STATEMENT - 3)
    with pytest.raises(Malformed, match="at most"):
        decode(largest + b"\x00")
    assert decode(largest, max_size=MAX_BLOB)


@pytest.mark.parametrize(
    "value",
    [True, False, None, 1.0, -65537, MAX_UINT + 1, {-1: 0}, {True: 0}, {"a": 0}, object(), "\ud800", [[[[[[[0]]]]]]]],
)
def test_encode_refuses_what_has_no_place_in_the_profile(value: Any) -> None:
    with pytest.raises(ValueError, match=r"integer|profile|keys|nested|surrogates"):
        encode(value)


@given(st.lists(st.binary(max_size=6) | st.text("abc", max_size=6), max_size=3), st.data())
def test_label_is_injective_where_the_parts_are_cut_differently(parts: list[bytes | str], data: st.DataObject) -> None:
    others = data.draw(st.lists(st.binary(max_size=6) | st.text("abc", max_size=6), max_size=3))
    assert (label("test", *parts) == label("test", *others)) == (parts == others)


def test_label_carries_the_prefix_and_separates_its_parts() -> None:
    assert decode(label("door", b"x")) == ["holdfast/v1/door", b"x"]
    assert label("t", "a", "bc") != label("t", "ab", "c")


@given(st.binary(max_size=70))
def test_base64url_gives_back_what_was_written(data: bytes) -> None:
    assert unb64u(b64u(data), max_size=len(data)) == data


@settings(max_examples=1000)
@given(st.text("AQg_-=+/ \nBé", max_size=9))
def test_base64url_accepts_only_what_it_would_write(text: str) -> None:
    try:
        data = unb64u(text)
    except Malformed:
        return
    assert b64u(data) == text


@pytest.mark.parametrize(
    "text", ["AA==", "AA=", "A", "AB", "AAB", "A A", "AAAA\n", " AAAA", "AA+A", "AA/A", "ÄAAA", "AAA\u0130"]
)
def test_base64url_refuses_a_second_spelling(text: str) -> None:
    with pytest.raises(Malformed):
        unb64u(text)


@pytest.mark.parametrize("size", range(8))
def test_base64url_refuses_one_byte_more_than_asked(size: int) -> None:
    assert unb64u(b64u(bytes(size)), max_size=size) == bytes(size)
    with pytest.raises(Malformed):
        unb64u(b64u(bytes(size + 1)), max_size=size)


FIELDS: dict[int, Any] = {1: 7, 2: b"\x00" * 16, 3: "name", 4: [1, 2], 5: -8}


def test_fields_read_what_is_there() -> None:
    fields = Fields(dict(FIELDS), "thing", range(1, 6), (9,))
    assert fields.uint(1) == 7
    assert fields.octets(2, 16) == bytes(16)
    assert fields.octets(2, (0, 16)) == bytes(16)
    assert fields.text(3) == "name"
    assert fields.array(4) == [1, 2]
    assert 1 in fields
    assert 9 not in fields


@pytest.mark.parametrize("value", [[], 0, b"", "map"])
def test_fields_refuse_what_is_not_a_map(value: Any) -> None:
    with pytest.raises(Malformed, match="thing: not a map"):
        Fields(value, "thing", ())


def test_fields_name_the_missing_and_the_unknown_field() -> None:
    with pytest.raises(Malformed, match="thing: field 6 is missing"):
        Fields(dict(FIELDS), "thing", range(1, 7))
    with pytest.raises(Malformed, match="thing: field 5 is unknown"):
        Fields(dict(FIELDS), "thing", range(1, 5))


@pytest.mark.parametrize(
    "read",
    [
        lambda fields: fields.uint(2),
        lambda fields: fields.uint(5),
        lambda fields: fields.uint(1, minimum=8),
        lambda fields: fields.uint(1, maximum=6),
        lambda fields: fields.octets(2, 15),
        lambda fields: fields.octets(2, (0, 32)),
        lambda fields: fields.octets(2, maximum=15),
        lambda fields: fields.octets(3),
        lambda fields: fields.text(2),
        lambda fields: fields.text(3, maximum=3),
        lambda fields: fields.array(2),
        lambda fields: fields.array(4, minimum=3),
        lambda fields: fields.array(4, maximum=1),
    ],
)
def test_fields_refuse_another_type_or_size_and_name_the_field(read: Any) -> None:
    with pytest.raises(Malformed, match=r"thing: field \d"):
        read(Fields(dict(FIELDS), "thing", range(1, 6)))


@pytest.mark.parametrize("row", [[], [1], [1, 2, 3], {0: 1, 1: 2}, b"ab"])
def test_fields_of_a_row_refuse_another_number_of_items(row: Any) -> None:
    assert Fields.of_row([1, 2], "row", 2).uint(1) == 2
    with pytest.raises(Malformed, match="array of 2"):
        Fields.of_row(row, "row", 2)
