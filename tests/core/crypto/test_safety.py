# SPDX-License-Identifier: Apache-2.0
"""Safety numbers: alike at both ends, and changed by whatever a server could exchange."""

from __future__ import annotations

import hashlib

import pytest

from holdfast.core.base.encoding import encode
from holdfast.core.base.secret import SecretBytes
from holdfast.core.crypto.keys import KeyKind, SigningKey
from holdfast.core.crypto.safety import own_number, pair_number, six_groups
from tests.cast.statements import ACME, ALICE, MALLORY, MALLORY_TENANT

KEY = SigningKey.from_seed(KeyKind.ED25519, SecretBytes(bytes(range(32)))).public
OTHER = SigningKey.from_seed(KeyKind.ED25519, SecretBytes(bytes(32))).public


def test_six_groups_are_big_endian_words_modulo_100_000() -> None:
    digest = b"".join(word.to_bytes(4, "big") for word in (0, 1, 99_999, 100_000, 4_294_967_295, 1_234_567, 7, 7))
    assert six_groups(digest) == ("00000", "00001", "99999", "00000", "67295", "34567")


@pytest.mark.parametrize("size", [0, 24, 31, 33, 64])
def test_six_groups_refuse_what_is_no_sha_256_digest(size: int) -> None:
    with pytest.raises(ValueError, match="SHA-256"):
        six_groups(bytes(size))


def test_own_number_is_of_the_labelled_hash() -> None:
    said = encode(["holdfast/v1/safety-number", ACME, ALICE, b"\x01" + KEY.raw])
    assert own_number(tenant=ACME, user=ALICE, aik=KEY) == six_groups(hashlib.sha256(said).digest())


def test_own_number_changes_with_the_key_the_user_and_the_tenant() -> None:
    numbers = {
        own_number(tenant=tenant, user=user, aik=aik)
        for tenant in (ACME, MALLORY_TENANT)
        for user in (ALICE, MALLORY)
        for aik in (KEY, OTHER)
    }
    assert len(numbers) == 8


def test_pair_number_is_the_same_at_both_ends() -> None:
    alice, bob = own_number(tenant=ACME, user=ALICE, aik=KEY), own_number(tenant=ACME, user=MALLORY, aik=OTHER)
    assert pair_number(alice, bob) == pair_number(bob, alice)
    assert sorted(pair_number(alice, bob)) == sorted(alice + bob)
    assert len(pair_number(alice, bob)) == 12
    assert pair_number(alice, bob)[:6] == min(alice, bob)
