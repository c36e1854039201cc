# SPDX-License-Identifier: Apache-2.0
"""Padding hides lengths as Padmé does, and one plaintext has exactly one padded form."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.core.base.errors import Malformed
from holdfast.core.base.padding import pad, padded_size, unpad


def padme(size: int) -> int:
    """The paper's own formula, in its own terms."""
    exponent = math.floor(math.log2(size))
    last_bits = exponent - (math.floor(math.log2(exponent)) + 1)
    mask: int = 2**last_bits - 1
    return (size + mask) & ~mask


@pytest.mark.parametrize(("size", "padded"), [(4, 4), (9, 10), (17, 18), (100, 104), (1028, 1088), (49_156, 51_200)])
def test_padded_size_is_the_papers(size: int, padded: int) -> None:
    assert padded_size(size) == padded == padme(size)


def test_padded_size_is_padme_up_to_the_largest_message() -> None:
    assert [padded_size(size) for size in range(2, 65_537)] == [padme(size) for size in range(2, 65_537)]


@given(st.integers(2, 2**40))
def test_padded_size_adds_less_than_12_percent_and_is_its_own(size: int) -> None:
    padded = padded_size(size)
    assert size <= padded < 1.12 * size
    assert padded_size(padded) == padded


def test_messages_of_like_length_have_one_length() -> None:
    assert len({len(pad(bytes(size))) for size in range(1025, 1085)}) == 1
    assert len({len(pad(bytes(size))) for size in range(4096)}) < 300


@given(st.binary(max_size=3000))
def test_unpad_gives_back_what_was_padded(plaintext: bytes) -> None:
    padded = pad(plaintext)
    assert len(padded) == padme(4 + len(plaintext))
    assert unpad(padded) == plaintext


@given(st.binary(max_size=600))
def test_unpad_takes_nothing_that_pad_does_not_make(padded: bytes) -> None:
    try:
        plaintext = unpad(padded)
    except Malformed:
        return
    assert pad(plaintext) == padded


def test_unpad_refuses_padding_that_is_not_zeros() -> None:
    padded = pad(bytes(1030))
    for at in range(1034, len(padded)):
        with pytest.raises(Malformed, match="not zeros"):
            unpad(padded[:at] + b"\x01" + padded[at + 1 :])


@pytest.mark.parametrize(
    "padded", [b"", b"\0" * 3, b"\0" * 5, b"\0\0\0\1", b"\xff" * 4, pad(b"x") + b"\0", pad(b"x")[:-1]]
)
def test_unpad_refuses_every_other_size(padded: bytes) -> None:
    with pytest.raises(Malformed):
        unpad(padded)


def test_unpad_refuses_a_length_that_hides_bytes_in_the_padding() -> None:
    padded = pad(b"x" * 1029 + b"\0")
    assert unpad(padded) == b"x" * 1029 + b"\0"
    assert unpad((1029).to_bytes(4, "big") + padded[4:]) == b"x" * 1029
    with pytest.raises(Malformed):
        unpad((900).to_bytes(4, "big") + padded[4:])
