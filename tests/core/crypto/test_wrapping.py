# SPDX-License-Identifier: Apache-2.0
"""Key wrapping, committed encryption and record contexts against Wycheproof, the RFCs and their refusals."""

import hmac
import itertools
import json
import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from holdfast.core.base.encoding import label
from holdfast.core.base.errors import UnwrapFailed
from holdfast.core.base.secret import SecretBytes
from holdfast.core.crypto import sealing, wrapping
from holdfast.core.crypto.keys import SealingKey
from holdfast.core.crypto.wrapping import CommittedKey
from holdfast.core.vault.blob import VaultHeader, seal_vault

VECTORS = Path(__file__).parents[2] / "vectors"
KEY = SecretBytes(bytes(range(32)))
NONCE = bytes(12)


def wycheproof(name: str) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    groups = json.loads((VECTORS / "wycheproof" / name).read_text())["testGroups"]
    return [(group, case) for group in groups for case in group["tests"]]


def test_decrypt_agrees_with_wycheproof_on_every_case_of_our_sizes() -> None:
    ran = {"valid": 0, "invalid": 0}
    for group, case in wycheproof("aes_gcm_test.json"):
        if (group["keySize"], group["ivSize"], group["tagSize"]) != (256, 96, 128):
            continue
        key, nonce, aad = (bytes.fromhex(case[name]) for name in ("key", "iv", "aad"))
        sealed = bytes.fromhex(case["ct"] + case["tag"])
        ran[case["result"]] += 1
        if case["result"] == "valid":
            plaintext = SecretBytes(bytes.fromhex(case["msg"]))
            assert wrapping.decrypt(sealed, key=SecretBytes(key), nonce=nonce, aad=aad) == plaintext
            assert wrapping.encrypt(plaintext, key=SecretBytes(key), nonce=nonce, aad=aad) == sealed
        else:
            with pytest.raises(UnwrapFailed):
                wrapping.decrypt(sealed, key=SecretBytes(key), nonce=nonce, aad=aad)
    assert min(ran.values()) > 20


def test_hkdf_agrees_with_wycheproof() -> None:
    ran = 0
    for _, case in wycheproof("hkdf_sha256_test.json"):
        ikm, salt, info = (bytes.fromhex(case[name]) for name in ("ikm", "salt", "info"))
        if case["result"] == "valid":
            okm = wrapping.hkdf(salt=salt, ikm=SecretBytes(ikm), info=info, length=case["size"])
            assert okm.reveal() == bytes.fromhex(case["okm"])
        else:
            with pytest.raises(ValueError, match="8160"):
                wrapping.hkdf(salt=salt, ikm=SecretBytes(ikm), info=info, length=case["size"])
        ran += 1
    assert ran == 86


def test_hkdf_agrees_with_rfc_5869() -> None:
    text = (VECTORS / "rfc/rfc5869-hkdf-sha256.txt").read_text()
    ran = 0
    for block in text.split("COUNT = ")[1:]:
        pairs = (line.partition(" =") for line in block.splitlines()[1:] if " =" in line)
        case = {name.strip().lower(): value.strip() for name, _, value in pairs}
        okm = wrapping.hkdf(
            salt=bytes.fromhex(case["salt"]),
            ikm=SecretBytes(bytes.fromhex(case["ikm"])),
            info=bytes.fromhex(case["info"]),
            length=int(case["l"]),
        )
        assert okm.reveal() == bytes.fromhex(case["okm"])
        ran += 1
    assert ran == 3


def test_commitments_rest_on_an_hmac_that_agrees_with_wycheproof() -> None:
    ran = 0
    for group, case in wycheproof("hmac_sha256_test.json"):
        tag = hmac.digest(bytes.fromhex(case["key"]), bytes.fromhex(case["msg"]), "sha256")[: group["tagSize"] // 8]
        assert (tag == bytes.fromhex(case["tag"])) == (case["result"] == "valid")
        ran += 1
    assert ran == 174
    committed = CommittedKey(KEY, SecretBytes(b"\x0b" * 32))
    assert committed.commit() == hmac.digest(b"\x0b" * 32, b"commit", "sha256")


def test_wrap_key_agrees_with_rfc_3394_section_4_6() -> None:
    kek = SecretBytes(bytes.fromhex("000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F"))
    key = SecretBytes(bytes.fromhex("00112233445566778899AABBCCDDEEFF000102030405060708090A0B0C0D0E0F"))
    wrapped = bytes.fromhex("28C9F404C4B810F4CBCCB35CFB87F8263F5786E2D80ED326CBC7F0E71A99F43BFB988B9B7A02DD21")
    assert wrapping.wrap_key(key, kek=kek) == wrapped
    assert wrapping.unwrap_key(wrapped, kek=kek) == key
    assert len(wrapped) == len(key) + wrapping.WRAP_OVERHEAD


def test_unwrap_key_refuses_every_flipped_bit_another_kek_and_every_other_length() -> None:
    wrapped = wrapping.wrap_key(SecretBytes(os.urandom(32)), kek=KEY)
    wrong = [wrapped[:at] + bytes([wrapped[at] ^ 1 << bit]) + wrapped[at + 1 :] for at in range(40) for bit in range(8)]
    wrong += [wrapped[:size] for size in range(40)] + [wrapped + b"\0", wrapped + bytes(8)]
    messages = set()
    for octets in wrong:
        with pytest.raises(UnwrapFailed) as refused:
            wrapping.unwrap_key(octets, kek=KEY)
        messages.add(str(refused.value))
    with pytest.raises(UnwrapFailed) as refused:
        wrapping.unwrap_key(wrapped, kek=SecretBytes(bytes(32)))
    assert messages == {str(refused.value)}


def test_wrapping_refuses_keys_and_nonces_of_other_lengths() -> None:
    for size in (0, 16, 24, 31, 33):
        with pytest.raises(ValueError, match="32 bytes"):
            wrapping.wrap_key(KEY, kek=SecretBytes(bytes(size)))
        with pytest.raises(ValueError, match="32 bytes"):
            wrapping.encrypt(KEY, key=SecretBytes(bytes(size)), nonce=NONCE, aad=b"")
    for size in (0, 8, 11, 13, 16):
        with pytest.raises(ValueError, match="12 bytes"):
            wrapping.decrypt(bytes(32), key=KEY, nonce=bytes(size), aad=b"")


def test_require_refuses_a_ciphertext_that_opens_under_two_keys() -> None:
    # AES-GCM's tag is linear in the last block: one ciphertext is made to open under both keys (FAULTS C9).
    first, second = os.urandom(32), os.urandom(32)
    sealed = two_key_ciphertext(first, second)
    opened = [AESGCM(key).decrypt(NONCE, sealed, b"") for key in (first, second)]
    assert opened[0] != opened[1]
    mine, other = CommittedKey(SecretBytes(first), KEY), CommittedKey(SecretBytes(second), SecretBytes(second))
    mine.require(mine.commit())
    with pytest.raises(UnwrapFailed):
        other.require(mine.commit())


def two_key_ciphertext(first: bytes, second: bytes) -> bytes:
    """Solve for the second of two blocks so that one tag holds under both keys; NIST SP 800-38D section 6.4."""
    blocks = [from_octets(os.urandom(16)), 0]
    (h1, mask1), (h2, mask2) = (ghash_keys(key) for key in (first, second))
    lengths = from_octets((0).to_bytes(8, "big") + (256).to_bytes(8, "big"))

    def rest(h: int, mask: int) -> int:
        h2 = product(h, h)
        return product(blocks[0], product(h2, h)) ^ product(lengths, h) ^ mask

    difference = product(h1, h1) ^ product(h2, h2)
    blocks[1] = product(rest(h1, mask1) ^ rest(h2, mask2), inverse(difference))
    tag = rest(h1, mask1) ^ product(blocks[1], product(h1, h1))
    return b"".join(to_octets(block) for block in (*blocks, tag))


def ghash_keys(key: bytes) -> tuple[int, int]:
    """Return H and E(K, J0) of AES-GCM under `key` with the zero nonce."""
    block = Cipher(algorithms.AES(key), modes.ECB()).encryptor()
    return from_octets(block.update(bytes(16))), from_octets(block.update(NONCE + (1).to_bytes(4, "big")))


def from_octets(octets: bytes) -> int:
    return int.from_bytes(octets, "big")


def to_octets(element: int) -> bytes:
    return element.to_bytes(16, "big")


def product(x: int, y: int) -> int:
    """Multiply in GCM's GF(2^128), whose bits run from the left."""
    result = 0
    for bit in range(127, -1, -1):
        if x >> bit & 1:
            result ^= y
        y = y >> 1 ^ (0xE1 << 120 if y & 1 else 0)
    return result


def inverse(x: int) -> int:
    result, square = 1 << 127, x
    for _ in range(127):
        square = product(square, square)
        result = product(result, square)
    return result


parts = st.tuples(
    st.binary(max_size=20),
    st.binary(max_size=20),
    st.binary(max_size=20),
    st.text(max_size=10),
    st.integers(0, 2**53 - 1),
)


@given(parts, parts)
def test_record_context_tells_any_two_contexts_apart(one: Any, two: Any) -> None:
    def context(part: Any) -> bytes:
        tenant, user, object_id, kind, version = part
        return wrapping.record_context(tenant=tenant, user=user, object_id=object_id, kind=kind, version=version)

    assert (context(one) == context(two)) == (one == two)


def test_record_context_does_not_let_a_byte_move_from_one_part_to_the_next() -> None:
    moved = [(b"a", b"bc", b""), (b"ab", b"c", b""), (b"abc", b"", b""), (b"", b"a", b"bc"), (b"", b"", b"abc")]
    contexts = {wrapping.record_context(tenant=t, user=u, object_id=o, kind="vault", version=1) for t, u, o in moved}
    assert len(contexts) == len(moved)


def test_decrypt_refuses_a_record_in_every_context_but_its_own() -> None:
    kinds = itertools.product((b"acme", b"evil"), (b"alice", b"bob"), (b"1", b"2"), ("vault", "door"), (1, 2))
    contexts = [wrapping.record_context(tenant=t, user=u, object_id=o, kind=k, version=v) for t, u, o, k, v in kinds]
    sealed = [wrapping.encrypt(SecretBytes(aad), key=KEY, nonce=os.urandom(12), aad=b"") for aad in contexts]
    assert len(set(sealed)) == 32
    for at, mine in enumerate(contexts):
        nonce = at.to_bytes(12, "big")
        octets = wrapping.encrypt(SecretBytes(b"record"), key=KEY, nonce=nonce, aad=mine)
        for aad in contexts:
            if aad == mine:
                assert wrapping.decrypt(octets, key=KEY, nonce=nonce, aad=aad).reveal() == b"record"
            else:
                with pytest.raises(UnwrapFailed):
                    wrapping.decrypt(octets, key=KEY, nonce=nonce, aad=aad)


def test_committed_key_differs_in_every_input() -> None:
    inputs = [
        (b"s", KEY, label("x", 1)),
        (b"t", KEY, label("x", 1)),
        (b"s", SecretBytes(bytes(32)), label("x", 1)),
        (b"s", KEY, label("x", 2)),
    ]
    seen = [CommittedKey.derive(salt=salt, ikm=ikm, info=info) for salt, ikm, info in inputs]
    assert len({one.key.reveal() for one in seen}) == len({one.commit() for one in seen}) == 4
    assert all(one.key != one.commitment_key for one in seen)


def drawn(count: int) -> list[bytes]:
    """What a forked worker draws: vault nonces and the encapsulations of sealed messages."""
    key, header = SealingKey.from_seed(KEY), VaultHeader(bytes(16), bytes(16), 1, 1)
    nonces = [seal_vault(SecretBytes(b""), vault_key=KEY, header=header) for _ in range(count)]
    return nonces + [sealing.seal(KEY, to=key.public, info=b"")[:1120] for _ in range(count)]


def test_forked_workers_never_draw_the_same_nonce() -> None:
    with ProcessPoolExecutor(8, mp_context=get_context("fork")) as pool:
        seen = [one for batch in pool.map(drawn, [200] * 8) for one in batch]
    assert len(seen) == len(set(seen)) == 8 * 400
