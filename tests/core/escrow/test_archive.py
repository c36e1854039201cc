# SPDX-License-Identifier: Apache-2.0
"""Archive records: whole, in order, under one key, or refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.core.base.errors import HoldfastError, UnwrapFailed
from holdfast.core.base.secret import SecretBytes
from holdfast.core.escrow.archive import (
    SEGMENT_SIZE,
    TAG_SIZE,
    decrypt_segments,
    encrypt_segments,
    new_archive_key,
    prefix_size,
    read_prefix,
)

KEY = new_archive_key()
TENANT, USER = b"t" * 16, b"u" * 16
SIZES = [0, 1, SEGMENT_SIZE - 1, SEGMENT_SIZE, SEGMENT_SIZE + 1, 3 * SEGMENT_SIZE]


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


def encrypted(content: bytes) -> bytes:
    return b"".join(
        encrypt_segments(cut(content, SEGMENT_SIZE), archive_key=KEY, tenant=TENANT, user=USER, generation=7)
    )


def decrypted(record: bytes, key: SecretBytes = KEY) -> bytes:
    at = prefix_size(record[:6])
    return b"".join(decrypt_segments(record[:at], cut(record[at:], SEGMENT_SIZE + TAG_SIZE), archive_key=key))


@pytest.mark.parametrize("size", SIZES)
def test_content_comes_back_byte_for_byte(size: int) -> None:
    content = bytes(range(256)) * (size // 256 + 1)
    assert decrypted(encrypted(content[:size])) == content[:size]


@pytest.mark.parametrize("size", SIZES)
def test_a_record_cut_off_continued_or_reordered_is_refused(size: int) -> None:
    record = encrypted(b"x" * size)
    at = prefix_size(record[:6])
    pieces = cut(record[at:], SEGMENT_SIZE + TAG_SIZE)
    changed = [record[:-1], record + b"x", record + pieces[-1], record[:at]]
    if len(pieces) > 1:
        changed += [
            record[: -len(pieces[-1])],
            record[:at] + b"".join([pieces[1], pieces[0], *pieces[2:]]),
            record[:at] + b"".join(pieces[1:]),
        ]
    for one in changed:
        with pytest.raises(UnwrapFailed):
            decrypted(one)


@given(st.integers(0, 200), st.integers(1, 255))
def test_any_changed_byte_is_refused(at: int, flip: int) -> None:
    record = bytearray(encrypted(b"hello"))
    record[at % len(record)] ^= flip
    with pytest.raises(HoldfastError):
        decrypted(bytes(record))


def test_another_generations_key_opens_nothing() -> None:
    with pytest.raises(UnwrapFailed):
        decrypted(encrypted(b"hello"), new_archive_key())


def test_the_header_says_whose_it_is() -> None:
    record = encrypted(b"")
    header, _ = read_prefix(record[: prefix_size(record[:6])])
    assert (header.tenant, header.user, header.generation) == (TENANT, USER, 7)


def test_two_records_of_one_content_share_no_segment() -> None:
    assert encrypted(b"same")[6:] != encrypted(b"same")[6:]


@given(st.binary(max_size=400))
def test_any_octets_are_a_record_or_refused(data: bytes) -> None:
    with pytest.raises(HoldfastError):
        decrypted(b"HFAR" + data)
