# SPDX-License-Identifier: Apache-2.0
"""HPKE with X-Wing against the drafts' vectors, and the refusals that make its `info` a binding context."""

import json
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.bindings._rust import openssl as rust_openssl
from cryptography.hazmat.primitives import hpke
from hypothesis import given
from hypothesis import strategies as st

from holdfast.core.base.encoding import label
from holdfast.core.base.errors import UnwrapFailed
from holdfast.core.base.secret import SecretBytes
from holdfast.core.crypto import sealing
from holdfast.core.crypto.keys import PublicKey, SealingKey, SigningKey

VECTORS = Path(__file__).parents[2] / "vectors/xwing-hpke"
RITA = SealingKey.from_seed(SecretBytes(bytes(range(32))))
INFO = label("test", b"case")
SECRET = SecretBytes(b"thirty-two bytes of somebody's key"[:32])
X_WING_KEM, HKDF_SHA256 = 0x647A, 1
AEADS = {1: hpke.AEAD.AES_128_GCM, 2: hpke.AEAD.AES_256_GCM, 3: hpke.AEAD.CHACHA20_POLY1305}


@pytest.mark.parametrize("case", json.loads((VECTORS / "xwing-draft-test-vectors.json").read_text()))
def test_sealing_key_expands_its_seed_as_the_x_wing_draft_says(case: dict[str, str]) -> None:
    assert SealingKey.from_seed(SecretBytes(bytes.fromhex(case["sk"]))).public.raw == bytes.fromhex(case["pk"])


def test_open_agrees_with_the_hpke_draft_on_x_wing() -> None:
    cases = json.loads((VECTORS / "hpke-pq-test-vectors.json").read_text())
    ran = 0
    for case in cases:
        if case["kem_id"] != X_WING_KEM or case["kdf_id"] != HKDF_SHA256 or case["aead_id"] not in AEADS:
            continue
        key = SealingKey.from_seed(SecretBytes(bytes.fromhex(case["skRm"])))
        assert key.public.raw == bytes.fromhex(case["pkRm"])
        # The vectors carry associated data, which the public one-shot interface does not take.
        suite = hpke.Suite(hpke.KEM.MLKEM768_X25519, hpke.KDF.HKDF_SHA256, AEADS[case["aead_id"]])
        first = case["encryptions"][0]
        opened = rust_openssl.hpke._decrypt_with_aad(
            suite, bytes.fromhex(case["enc"] + first["ct"]), key.parsed, bytes.fromhex(case["info"]),
            bytes.fromhex(first["aad"]),
        )  # fmt: skip
        assert opened == bytes.fromhex(first["pt"])
        ran += 1
    assert ran


@given(st.binary(max_size=300), st.binary(max_size=60))
def test_open_returns_what_was_sealed(plaintext: bytes, info: bytes) -> None:
    sealed = sealing.seal(SecretBytes(plaintext), to=RITA.public, info=info)
    assert len(sealed) == len(plaintext) + sealing.OVERHEAD
    assert sealing.open_sealed(sealed, key=RITA, info=info).reveal() == plaintext


def test_seal_never_repeats_itself() -> None:
    assert len({sealing.seal(SECRET, to=RITA.public, info=INFO) for _ in range(50)}) == 50


def test_open_refuses_another_key_context_or_any_flipped_bit_with_one_error() -> None:
    sealed = sealing.seal(SECRET, to=RITA.public, info=INFO)
    messages = set()
    wrong = [
        (sealed, SealingKey.generate(), INFO),
        (sealed, RITA, label("test", b"case2")),
        (b"", RITA, INFO),
    ]
    wrong += [
        (sealed[:-1], RITA, INFO),
        (sealed + b"\0", RITA, INFO),
        (sealed[: sealing.OVERHEAD - 1], RITA, INFO),
    ]
    for at in range(0, len(sealed), 31):
        wrong.append((sealed[:at] + bytes([sealed[at] ^ 0x80]) + sealed[at + 1 :], RITA, INFO))
    # An X25519 part of small order gives an all-zero secret, which the KEM must refuse.
    wrong.append((sealed[:1088] + bytes(32) + sealed[1120:], RITA, INFO))
    for octets, key, info in wrong:
        with pytest.raises(UnwrapFailed) as refused:
            sealing.open_sealed(octets, key=key, info=info)
        messages.add(str(refused.value))
        assert not isinstance(refused.value.__cause__, InvalidTag)
    assert messages == {"sealed message does not open"}


@given(st.binary(max_size=1300))
def test_open_refuses_arbitrary_bytes(octets: bytes) -> None:
    with pytest.raises(UnwrapFailed):
        sealing.open_sealed(octets, key=RITA, info=INFO)


def test_seal_refuses_a_key_that_is_not_for_sealing() -> None:
    key: PublicKey = SigningKey.generate().public
    with pytest.raises(ValueError, match="not sealed to"):
        sealing.seal(SECRET, to=key, info=INFO)
