# SPDX-License-Identifier: Apache-2.0
"""Every sealed blob of a vault in every context but its own, and blobs that would open under two keys."""

import hmac
import itertools
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.core.base.encoding import decode, encode
from holdfast.core.base.errors import HoldfastError, Malformed, UnwrapFailed
from holdfast.core.base.secret import SecretBytes
from holdfast.core.crypto.phrase import Phrase
from holdfast.core.vault import contacts_door, password_door, phrase_door
from holdfast.core.vault.blob import VaultHeader, open_vault, seal_vault
from holdfast.core.vault.contacts_door import open_contacts_door, seal_contacts_door
from holdfast.core.vault.door_blob import Door, DoorHead, DoorOwner
from holdfast.core.vault.password_door import Argon2Cost, open_password_door, seal_password_door
from holdfast.core.vault.phrase_door import open_phrase_door, seal_phrase_door

QUICK = Argon2Cost(memory_kib=19 * 1024, passes=2, lanes=1)
VAULT_KEY = SecretBytes(bytes(range(32)))
PASSWORD = SecretBytes(b"correct horse battery")
# One secret for all, so that only the context stands between them.
PHRASE = Phrase(VAULT_KEY)
SET = b"set of 16 bytes."
OWNERS = [
    DoorOwner(tenant, user, epoch)
    for tenant, user, epoch in itertools.product((b"a" * 16, b"b" * 16), (b"a" * 16, b"b" * 16), (1, 2))
]
SEAL: Mapping[str, Callable[[DoorOwner], bytes]] = {
    "password": lambda owner: seal_password_door(VAULT_KEY, password=PASSWORD, owner=owner, cost=QUICK),
    "phrase": lambda owner: seal_phrase_door(VAULT_KEY, phrase=PHRASE, owner=owner),
    "contacts": lambda owner: seal_contacts_door(VAULT_KEY, secret=VAULT_KEY, set_id=SET, owner=owner),
    "vault": lambda owner: seal_vault(
        VAULT_KEY, vault_key=VAULT_KEY, header=VaultHeader(owner.tenant, owner.user, owner.epoch, 1)
    ),
}
OPEN: Mapping[str, Callable[[bytes, DoorOwner], SecretBytes]] = {
    "password": lambda blob, owner: open_password_door(blob, password=PASSWORD, owner=owner),
    "phrase": lambda blob, owner: open_phrase_door(blob, phrase=PHRASE, owner=owner),
    "contacts": lambda blob, owner: open_contacts_door(blob, secret=VAULT_KEY, set_id=SET, owner=owner),
    "vault": lambda blob, owner: open_vault(
        blob, vault_key=VAULT_KEY, expect=VaultHeader(owner.tenant, owner.user, owner.epoch, 1)
    ),
}
CONTEXTS = list(itertools.product(SEAL, OWNERS))


def test_each_blob_opens_in_its_own_context_and_in_no_other() -> None:
    blobs = {(kind, owner): SEAL[kind](owner) for kind, owner in CONTEXTS}
    opened = 0
    for (kind, owner), blob in blobs.items():
        for other in CONTEXTS:
            if other == (kind, owner):
                assert OPEN[kind](blob, owner) == VAULT_KEY
                opened += 1
                continue
            with pytest.raises((Malformed, UnwrapFailed)):
                OPEN[other[0]](blob, other[1])
    assert opened == len(CONTEXTS) == 32


@pytest.mark.parametrize("kind", ["password", "phrase", "contacts"])
def test_a_door_relabelled_to_another_owner_does_not_open_for_them(kind: str) -> None:
    owner, thief = OWNERS[0], OWNERS[-1]
    value: Any = decode(SEAL[kind](owner))
    value |= {4: thief.tenant, 5: thief.user, 6: thief.epoch}
    with pytest.raises(UnwrapFailed):
        OPEN[kind](encode(value), thief)


@pytest.mark.parametrize("kind", ["phrase", "contacts", "vault"])
def test_every_flipped_byte_is_refused_but_in_what_is_not_read(kind: str) -> None:
    owner = OWNERS[0]
    blob = SEAL[kind](owner)
    plain: Any = decode(blob)
    unread = {4, 5, 6, 7}  # the owner and version are the caller's, not the blob's
    refused = 0
    for at in range(len(blob)):
        for bit in range(8):
            flipped = blob[:at] + bytes([blob[at] ^ 1 << bit]) + blob[at + 1 :]
            try:
                opened = OPEN[kind](flipped, owner)
            except HoldfastError:
                refused += 1
                continue
            value: Any = decode(flipped)
            assert opened == VAULT_KEY
            assert {number for number in plain if value[number] != plain[number]} <= unread
    assert refused > 8 * (len(blob) - 40)


# One ciphertext, two keys (FAULTS C9)

_MODULUS = 0xE1 << 120  # x^128 + x^7 + x^2 + x + 1, in GCM's order of bits


def _gf_product(a: int, b: int) -> int:
    product = 0
    for bit in range(127, -1, -1):
        if b >> bit & 1:
            product ^= a
        a = a >> 1 ^ (_MODULUS if a & 1 else 0)
    return product


def _gf_inverse(a: int) -> int:
    result, power = 1 << 127, a
    for _ in range(127):
        power = _gf_product(power, power)
        result = _gf_product(result, power)
    return result


def _block(key: bytes, block: bytes) -> int:
    encryptor = Cipher(algorithms.AES(key), modes.ECB()).encryptor()
    return int.from_bytes(encryptor.update(block), "big")


def _ghash_terms(key: bytes, aad: bytes, size: int) -> tuple[int, list[int], int]:
    """What does not depend on the ciphertext, and the power of H that each of its blocks is multiplied by."""
    h = _block(key, bytes(16))
    padded = aad + bytes(-len(aad) % 16)
    blocks = [int.from_bytes(padded[at : at + 16], "big") for at in range(0, len(padded), 16)]
    count = size // 16
    powers = [h]
    for _ in range(len(blocks) + count):
        powers.append(_gf_product(powers[-1], h))
    constant = _gf_product(8 * len(aad) << 64 | 8 * size, h)
    for at, block in enumerate(blocks):
        constant ^= _gf_product(block, powers[len(blocks) + count - at])
    return constant, [powers[count - at] for at in range(count)], h


def two_key_ciphertext(one: bytes, other: bytes, nonce: bytes, aad: bytes) -> bytes:
    """32 bytes of ciphertext and a tag that AES-256-GCM opens under both keys.

    The tags differ by a value linear in the blocks; the first block is chosen so that they do not.
    """
    (c1, p1, _), (c2, p2, _) = (_ghash_terms(key, aad, 32) for key in (one, other))
    first = nonce + b"\0\0\0\1"
    mask1, mask2 = _block(one, first), _block(other, first)
    second = int.from_bytes(b"any second block", "big")
    difference = c1 ^ c2 ^ mask1 ^ mask2 ^ _gf_product(second, p1[1] ^ p2[1])
    block = _gf_product(difference, _gf_inverse(p1[0] ^ p2[0]))
    tag = c1 ^ mask1 ^ _gf_product(block, p1[0]) ^ _gf_product(second, p1[1])
    return block.to_bytes(16, "big") + second.to_bytes(16, "big") + tag.to_bytes(16, "big")


def test_commitment_refuses_a_ciphertext_that_gcm_opens_under_two_keys() -> None:
    # An attacker who knows two candidate secrets makes one door that opens with either, and learns by whether it
    # does which one is in use: with many secrets in one door, a password is found in few steps.
    owner = OWNERS[0]
    secrets = (SecretBytes(b"1" * 32), SecretBytes(b"2" * 32))
    head = DoorHead(contacts_door.KIND, {1: SET}, owner)
    keys = [head.key(salt=SET, ikm=secret) for secret in secrets]
    nonce = bytes(12)
    aad = encode({**head.fields(), 8: nonce})
    crafted = two_key_ciphertext(keys[0].key.reveal(), keys[1].key.reveal(), nonce, aad)
    found = [AESGCM(key.key.reveal()).decrypt(nonce, crafted, aad) for key in keys]
    assert found[0] != found[1]

    def door(commit: bytes) -> bytes:
        return encode({**head.fields(), 8: nonce, 9: commit, 10: crafted})

    for commit, refused in itertools.product([key.commit() for key in keys], [0, 1]):
        blob = door(commit)
        if keys[refused].commit() == commit:
            assert open_contacts_door(blob, secret=secrets[refused], set_id=SET, owner=owner)
        else:
            with pytest.raises(UnwrapFailed):
                open_contacts_door(blob, secret=secrets[refused], set_id=SET, owner=owner)


@pytest.mark.parametrize("kind", ["password", "phrase", "contacts", "vault"])
def test_commitment_of_another_key_is_refused_though_the_ciphertext_is_right(kind: str) -> None:
    value: Any = decode(SEAL[kind](OWNERS[0]))
    value[9] = hmac.digest(bytes(32), b"commit", "sha256")
    with pytest.raises(UnwrapFailed):
        OPEN[kind](encode(value), OWNERS[0])


# The common shape


def test_contacts_door_refuses_another_set_another_secret_and_other_sizes() -> None:
    blob = SEAL["contacts"](OWNERS[0])
    with pytest.raises(Malformed, match="another set"):
        open_contacts_door(blob, secret=VAULT_KEY, set_id=bytes(16), owner=OWNERS[0])
    with pytest.raises(UnwrapFailed):
        open_contacts_door(blob, secret=SecretBytes(bytes(32)), set_id=SET, owner=OWNERS[0])
    for secret, set_id in ((SecretBytes(bytes(31)), SET), (VAULT_KEY, SET[:-1]), (VAULT_KEY, b"")):
        with pytest.raises(ValueError, match="32 bytes and a set id of 16"):
            seal_contacts_door(VAULT_KEY, secret=secret, set_id=set_id, owner=OWNERS[0])


def test_contacts_door_refuses_what_is_outside_the_format() -> None:
    plain: Any = decode(SEAL["contacts"](OWNERS[0]))
    wrong: list[dict[int, Any]] = [{2: "phrase"}, {1: 2}, {3: {}}, {3: {1: bytes(15)}}, {3: {1: SET, 2: 1}}, {7: 1}]
    for fields in [*wrong, {10: bytes(47)}]:
        with pytest.raises(Malformed):
            open_contacts_door(encode({**plain, **fields}), secret=VAULT_KEY, set_id=SET, owner=OWNERS[0])


@pytest.mark.parametrize("kind", [password_door.KIND, phrase_door.KIND, contacts_door.KIND])
def test_a_door_of_each_kind_is_read_as_no_other(kind: str) -> None:
    blob = SEAL[kind](OWNERS[0])
    assert Door.parse(blob, kind).kind == kind
    for other in {password_door.KIND, phrase_door.KIND, contacts_door.KIND, "vault"} - {kind}:
        with pytest.raises(Malformed):
            Door.parse(blob, other)


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32), st.integers(0, 2**53 - 1))
@settings(deadline=None, max_examples=50)
def test_open_undoes_seal_for_any_key_secret_and_epoch(vault_key: bytes, secret: bytes, epoch: int) -> None:
    owner = replace(OWNERS[0], epoch=epoch)
    blob = seal_contacts_door(SecretBytes(vault_key), secret=SecretBytes(secret), set_id=SET, owner=owner)
    assert open_contacts_door(blob, secret=SecretBytes(secret), set_id=SET, owner=owner).reveal() == vault_key
    phrase = Phrase(SecretBytes(secret))
    blob = seal_phrase_door(SecretBytes(vault_key), phrase=phrase, owner=owner)
    assert open_phrase_door(blob, phrase=phrase, owner=owner).reveal() == vault_key
    assert len(blob) < 300
