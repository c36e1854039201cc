# SPDX-License-Identifier: Apache-2.0
"""Vault blobs: opened by their key in their own place only, and parsed strictly."""

import itertools
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.core.base.encoding import MAX_VAULT, decode, encode
from holdfast.core.base.errors import HoldfastError, Malformed, UnwrapFailed
from holdfast.core.base.secret import SecretBytes
from holdfast.core.vault.blob import MAX_KEYRING, VaultHeader, new_vault_key, open_vault, read_header, seal_vault

KEY = new_vault_key()
ALICE = VaultHeader(tenant=b"acme" * 4, user=b"alice-16-bytes..", epoch=1, version=7)
KEYRING = SecretBytes(b"seeds and archive keys")
BLOB = seal_vault(KEYRING, vault_key=KEY, header=ALICE)


def changed(**fields: Any) -> bytes:
    value = decode(BLOB)
    assert isinstance(value, dict)
    for name, content in fields.items():
        number = int(name[1:])
        if content is None:
            del value[number]
        else:
            value[number] = content
    return encode(value)


@pytest.mark.parametrize("size", [0, 1, 22, 70_000, MAX_KEYRING])
def test_open_returns_the_keyring_that_was_sealed(size: int) -> None:
    keyring = SecretBytes(bytes(size))
    blob = seal_vault(keyring, vault_key=KEY, header=ALICE)
    assert len(blob) <= min(MAX_VAULT, size + 160)
    assert open_vault(blob, vault_key=KEY, expect=ALICE) == keyring
    assert read_header(blob) == ALICE


def test_seal_refuses_a_keyring_that_would_not_fit() -> None:
    with pytest.raises(ValueError, match="1 MiB"):
        seal_vault(SecretBytes(bytes(MAX_KEYRING + 1)), vault_key=KEY, header=ALICE)


def test_seal_uses_another_key_for_every_writing_of_one_version() -> None:
    blobs = [decode(seal_vault(KEYRING, vault_key=KEY, header=ALICE)) for _ in range(50)]
    for field in (8, 9, 10):
        assert len({blob[field] for blob in blobs if isinstance(blob, dict)}) == 50


def test_open_refuses_a_vault_of_another_place_between_all_pairs() -> None:
    places = [
        VaultHeader(tenant, user, epoch, version)
        for tenant, user, epoch, version in itertools.product(
            (b"a" * 16, b"b" * 16), (b"a" * 16, b"b" * 16), (1, 2), (1, 2)
        )
    ]
    for mine, other in itertools.product(places, places):
        blob = seal_vault(KEYRING, vault_key=KEY, header=mine)
        if mine == other:
            assert open_vault(blob, vault_key=KEY, expect=other) == KEYRING
        else:
            with pytest.raises(UnwrapFailed):
                open_vault(blob, vault_key=KEY, expect=other)


def test_open_refuses_a_blob_relabelled_to_what_is_expected() -> None:
    # The server rewrites the visible fields of an older version to look like the newest (FAULTS S10).
    newer = replace(ALICE, version=8)
    with pytest.raises(UnwrapFailed):
        open_vault(changed(_7=8), vault_key=KEY, expect=newer)


def test_open_refuses_another_key() -> None:
    with pytest.raises(UnwrapFailed):
        open_vault(BLOB, vault_key=new_vault_key(), expect=ALICE)


def test_open_refuses_every_flipped_byte() -> None:
    for at in range(len(BLOB)):
        for bit in (0, 7):
            flipped = BLOB[:at] + bytes([BLOB[at] ^ 1 << bit]) + BLOB[at + 1 :]
            try:
                opened = open_vault(flipped, vault_key=KEY, expect=ALICE)
            except HoldfastError:
                continue
            # What a blob says of itself is not used, so that changing it there changes nothing.
            assert opened == KEYRING
            assert read_header(flipped) != ALICE


@pytest.mark.parametrize(
    "fields",
    [
        {"_1": 0},
        {"_1": 2},
        {"_2": "door"},
        {"_2": b"vault"},
        {"_3": 1},
        {"_11": 1},
        {"_4": bytes(15)},
        {"_5": bytes(17)},
        {"_6": "1"},
        {"_7": None},
        {"_8": bytes(11)},
        {"_9": bytes(31)},
        {"_10": bytes(15)},
        {"_10": None},
    ],
)
def test_open_refuses_a_blob_outside_the_format(fields: dict[str, Any]) -> None:
    with pytest.raises(Malformed):
        open_vault(changed(**fields), vault_key=KEY, expect=ALICE)
    with pytest.raises(Malformed):
        read_header(changed(**fields))


@given(st.binary(max_size=300) | st.binary(max_size=40).map(lambda tail: BLOB[:60] + tail))
def test_arbitrary_bytes_are_malformed_or_do_not_open(octets: bytes) -> None:
    with pytest.raises((Malformed, UnwrapFailed)):
        open_vault(octets, vault_key=KEY, expect=ALICE)
