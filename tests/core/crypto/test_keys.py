# SPDX-License-Identifier: Apache-2.0
"""Keys against every vector there is for them, and against what nobody honest would send."""

import gzip
import hashlib
import json
import time
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa, x25519
from hypothesis import given
from hypothesis import strategies as st

from holdfast.core.base.encoding import encode
from holdfast.core.base.errors import InvalidSignature, Malformed, UnwrapFailed
from holdfast.core.base.secret import SecretBytes
from holdfast.core.base.words import eight_words
from holdfast.core.crypto.keys import (
    AGREEMENT_KINDS,
    SIGNING_KINDS,
    AgreementKey,
    KemKey,
    KeyKind,
    OaepHash,
    PublicKey,
    RecipientRsaKey,
    SealingKey,
    SigningKey,
    decode_public_key,
    encapsulate,
    verify,
    wrap_rsa,
)

VECTORS = Path(__file__).parents[2] / "vectors"
P25519 = 2**255 - 19
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
SMALL_ORDER_U = [
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
]
RSA_KEY = RecipientRsaKey.generate()
EVERY_PUBLIC_KEY = [
    SigningKey.generate(KeyKind.ED25519).public,
    SigningKey.generate(KeyKind.P256_SIGNING).public,
    AgreementKey.generate(KeyKind.X25519).public,
    AgreementKey.generate(KeyKind.P256_AGREEMENT).public,
    KemKey.generate().public,
    SealingKey.generate().public,
    RSA_KEY.public,
]


def wycheproof(name: str) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    loaded = json.loads((VECTORS / f"wycheproof/{name}.json").read_text())
    return [(group, case) for group in loaded["testGroups"] for case in group["tests"]]


def raw_hex(kind: KeyKind, text: str) -> PublicKey:
    return PublicKey(kind, bytes.fromhex(text))


def holds(kind: KeyKind, key: str, signature: str, message: bytes) -> bool:
    try:
        verify(raw_hex(kind, key), bytes.fromhex(signature), message)
    except (InvalidSignature, Malformed):
        return False
    return True


def test_verify_agrees_with_wycheproof_on_ed25519() -> None:
    cases = wycheproof("ed25519_test")
    for group, case in cases:
        held = holds(KeyKind.ED25519, group["publicKey"]["pk"], case["sig"], bytes.fromhex(case["msg"]))
        assert held == (case["result"] == "valid"), case["tcId"]
    assert len(cases) == 151


def test_verify_agrees_with_wycheproof_on_p256() -> None:
    cases = wycheproof("ecdsa_secp256r1_sha256_p1363_test")
    for group, case in cases:
        key = group["publicKey"]["uncompressed"]
        held = holds(KeyKind.P256_SIGNING, key, case["sig"], bytes.fromhex(case["msg"]))
        assert held == (case["result"] == "valid"), case["tcId"]
    assert len(cases) == 262


def test_verify_keeps_the_strict_profile_on_every_edge_of_ed25519() -> None:
    refused = {"non_canonical_A", "non_canonical_R", "low_order_A", "low_order_residue"}
    cases = json.loads((VECTORS / "cctv/ed25519vectors.json").read_text())
    accepted = 0
    for case in cases:
        held = holds(KeyKind.ED25519, case["key"], case["sig"], case["msg"].encode())
        assert held == (not refused & set(case["flags"])), case["number"]
        accepted += held
    assert len(cases) == 457
    assert accepted > 0


def test_sign_gives_the_published_ed25519_signatures() -> None:
    lines = (VECTORS / "rfc/ed25519-sign.input.first256.txt").read_text().split()
    for line in lines:
        secret, public, message, signed = line.split(":")[:4]
        key = SigningKey.from_seed(KeyKind.ED25519, SecretBytes(bytes.fromhex(secret)[:32]))
        assert key.public.raw.hex() == public
        assert key.sign(bytes.fromhex(message)).hex() + message == signed
    assert len(lines) == 256


@pytest.mark.parametrize("u", SMALL_ORDER_U)
def test_decode_refuses_the_seven_small_order_points_of_x25519(u: str) -> None:
    with pytest.raises(Malformed):
        raw_hex(KeyKind.X25519, u)


@pytest.mark.parametrize("u", SMALL_ORDER_U)
def test_exchange_refuses_an_all_zero_secret_even_from_a_key_that_was_never_decoded(u: str) -> None:
    own = AgreementKey.generate()
    smuggled = PublicKey._of_parsed(
        KeyKind.X25519, b"", b"", x25519.X25519PublicKey.from_public_bytes(bytes.fromhex(u))
    )
    with pytest.raises(Malformed, match="all-zero"):
        own.exchange(smuggled)


def test_exchange_agrees_with_wycheproof_on_x25519_and_refuses_the_rest() -> None:
    agreed = refused = 0
    for _, case in wycheproof("x25519_test"):
        public = bytes.fromhex(case["public"])
        own = AgreementKey.from_seed(KeyKind.X25519, SecretBytes(bytes.fromhex(case["private"])))
        if int.from_bytes(public, "little") >= P25519 or set(case["shared"]) == {"0"}:
            with pytest.raises(Malformed):
                own.exchange(PublicKey(KeyKind.X25519, public))
            refused += 1
        else:
            assert own.exchange(PublicKey(KeyKind.X25519, public)).reveal().hex() == case["shared"]
            agreed += 1
    assert agreed > 450
    assert refused > 30


def test_exchange_agrees_with_rfc_7748() -> None:
    text = (VECTORS / "rfc/rfc7748-x25519.txt").read_text()
    ran = 0
    for block in text.split("COUNT = ")[1:]:
        values = dict(line.split(" = ") for line in block.splitlines()[1:] if " = " in line)
        u = bytes.fromhex(values["INPUT_U"])
        if int.from_bytes(u, "little") >= P25519:
            # The RFC masks the top bit; this protocol refuses a key that has two encodings.
            with pytest.raises(Malformed):
                PublicKey(KeyKind.X25519, u)
            continue
        own = AgreementKey.from_seed(KeyKind.X25519, SecretBytes(bytes.fromhex(values["INPUT_SCALAR"])))
        assert own.exchange(PublicKey(KeyKind.X25519, u)).reveal().hex() == values["OUTPUT_U"]
        ran += 1
    assert ran >= 1


def test_exchange_agrees_with_wycheproof_on_p256_and_refuses_the_rest() -> None:
    agreed = 0
    for _, case in wycheproof("ecdh_secp256r1_ecpoint_test"):
        own = AgreementKey.from_seed(KeyKind.P256_AGREEMENT, SecretBytes(int(case["private"], 16).to_bytes(32, "big")))
        if case["result"] == "valid":
            peer = raw_hex(KeyKind.P256_AGREEMENT, case["public"])
            assert own.exchange(peer).reveal().hex() == case["shared"], case["tcId"]
            agreed += 1
        else:
            # What Wycheproof calls acceptable is a compressed point, which has no place here.
            with pytest.raises(Malformed):
                raw_hex(KeyKind.P256_AGREEMENT, case["public"])
    assert agreed > 200


def test_exchange_refuses_a_peer_of_another_kind() -> None:
    with pytest.raises(Malformed, match="different kinds"):
        AgreementKey.generate(KeyKind.X25519).exchange(AgreementKey.generate(KeyKind.P256_AGREEMENT).public)


def test_kem_key_agrees_with_wycheproof_from_seed_to_secret() -> None:
    for _, case in wycheproof("mlkem_768_keygen_seed_test"):
        key = KemKey.from_seed(SecretBytes(bytes.fromhex(case["seed"])))
        assert key.public.raw.hex() == case["ek"]
        assert PublicKey(KeyKind.ML_KEM_768, bytes.fromhex(case["ek"])) == key.public
    ran = 0
    for _, case in wycheproof("mlkem_768_test"):
        if len(case["seed"]) != 128:
            with pytest.raises(Malformed):
                KemKey.from_seed(SecretBytes(bytes.fromhex(case["seed"])))
            continue
        key = KemKey.from_seed(SecretBytes(bytes.fromhex(case["seed"])))
        if case["result"] == "valid":
            assert key.decapsulate(bytes.fromhex(case["c"])).reveal().hex() == case["K"]
            ran += 1
        else:
            with pytest.raises(Malformed):
                key.decapsulate(bytes.fromhex(case["c"]))
    assert ran > 100


def test_decode_refuses_ml_kem_keys_with_a_coefficient_above_the_modulus() -> None:
    lines = gzip.decompress((VECTORS / "cctv/mlkem768-modulus.txt.gz").read_bytes()).split()
    for line in lines:
        with pytest.raises(Malformed):
            PublicKey(KeyKind.ML_KEM_768, bytes.fromhex(line.decode()))
    assert len(lines) == 780


def test_encapsulate_and_decapsulate_agree() -> None:
    key = KemKey.generate()
    ciphertext, secret = encapsulate(key.public)
    assert key.decapsulate(ciphertext) == secret
    assert len(secret) == 32
    assert KemKey.from_seed(key.seed()).public == key.public
    with pytest.raises(ValueError, match="encapsulate"):
        encapsulate(SigningKey.generate().public)


@pytest.mark.parametrize("key", EVERY_PUBLIC_KEY, ids=lambda key: key.kind.name)
def test_public_key_goes_to_bytes_and_back(key: PublicKey) -> None:
    again = decode_public_key(key.encoded, expect=key.kind)
    assert again == key
    assert again.encoded[0] == key.kind
    assert key.kid == hashlib.sha256(key.encoded).digest()[:16]
    assert decode_public_key(key.encoded, expect=None).kid == key.kid


@pytest.mark.parametrize("key", EVERY_PUBLIC_KEY, ids=lambda key: key.kind.name)
def test_decode_refuses_each_key_under_every_other_type_byte(key: PublicKey) -> None:
    p256 = {KeyKind.P256_SIGNING, KeyKind.P256_AGREEMENT}
    for kind in KeyKind:
        if kind is key.kind:
            continue
        with pytest.raises(Malformed):
            decode_public_key(key.encoded, expect=kind)
        if {kind, key.kind} not in (p256, {KeyKind.ED25519, KeyKind.X25519}):
            with pytest.raises(Malformed):
                decode_public_key(bytes((kind,)) + key.raw, expect=None)


@pytest.mark.parametrize("key", EVERY_PUBLIC_KEY, ids=lambda key: key.kind.name)
def test_decode_refuses_a_key_cut_short_or_run_on(key: PublicKey) -> None:
    for data in (key.encoded[:-1], key.encoded + b"\x00", key.encoded[:1], b""):
        with pytest.raises(Malformed):
            decode_public_key(data, expect=None)


@given(st.binary(max_size=80), st.sampled_from([None, *KeyKind]))
def test_decode_of_any_bytes_refuses_or_gives_them_back(data: bytes, expect: KeyKind | None) -> None:
    try:
        key = decode_public_key(data, expect=expect)
    except Malformed:
        return
    assert key.encoded == data


@given(st.data())
def test_decode_of_a_mutated_key_refuses_or_gives_it_back(data: st.DataObject) -> None:
    octets = bytearray(data.draw(st.sampled_from(EVERY_PUBLIC_KEY)).encoded)
    octets[data.draw(st.integers(0, min(len(octets) - 1, 40)))] ^= data.draw(st.integers(1, 255))
    try:
        key = decode_public_key(bytes(octets), expect=None)
    except Malformed:
        return
    assert key.encoded == octets


@pytest.mark.parametrize("kind_byte", [0x00, 0x07, 0x09, 0xFF])
def test_decode_refuses_an_unknown_type_byte(kind_byte: int) -> None:
    with pytest.raises(Malformed, match="type byte"):
        decode_public_key(bytes((kind_byte,)) + bytes(32), expect=None)


def test_decode_takes_any_of_a_set_of_kinds_and_no_other() -> None:
    key = SigningKey.generate(KeyKind.P256_SIGNING).public
    assert decode_public_key(key.encoded, expect=SIGNING_KINDS) == key
    with pytest.raises(Malformed, match="expected"):
        decode_public_key(key.encoded, expect=AGREEMENT_KINDS)


def test_decode_refuses_p256_points_that_are_not_uncompressed_points_of_the_curve() -> None:
    raw = SigningKey.generate(KeyKind.P256_SIGNING).public.raw
    off_curve = raw[:-1] + bytes((raw[-1] ^ 1,))
    above_field = b"\x04" + b"\xff" * 64
    for bad in (off_curve, above_field, b"\x04" + bytes(64), b"\x02" + raw[1:33], b"\x06" + raw[1:], b"\x00"):
        with pytest.raises(Malformed):
            PublicKey(KeyKind.P256_SIGNING, bad)


def test_decode_refuses_an_x_wing_key_whose_x25519_half_is_hostile() -> None:
    raw = SealingKey.generate().public.raw
    for u in SMALL_ORDER_U:
        with pytest.raises(Malformed):
            PublicKey(KeyKind.X_WING, raw[:1184] + bytes.fromhex(u))


def spki(key: rsa.RSAPrivateKey) -> bytes:
    return key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def test_decode_refuses_rsa_keys_of_another_size_or_exponent() -> None:
    for key in (rsa.generate_private_key(65537, 2048), rsa.generate_private_key(3, 3072)):
        with pytest.raises(Malformed):
            PublicKey(KeyKind.RSA_3072, spki(key))


def test_decode_refuses_rsa_keys_with_an_even_modulus_or_one_bit_short() -> None:
    good = RSA_KEY.public.parsed.public_numbers().n
    for n in (good - 1, good >> 1 | 1):
        forged = rsa.RSAPublicNumbers(65537, n)
        try:
            der = forged.public_key().public_bytes(
                serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
            )
        except ValueError:
            der = RSA_KEY.public.raw.replace(good.to_bytes(384, "big"), n.to_bytes(384, "big"))
        with pytest.raises(Malformed):
            PublicKey(KeyKind.RSA_3072, der)


def test_decode_refuses_rsa_keys_in_a_second_encoding() -> None:
    der = RSA_KEY.public.raw
    assert der[:4] == bytes.fromhex("308201a2")
    for second in (
        bytes.fromhex("30830001a2") + der[4:],  # a longer length than needed
        der.replace(bytes.fromhex("0500"), b"", 1),  # parameters left out instead of NULL
        der + b"\x00",
        RSA_KEY.public.parsed.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo),
        RSA_KEY.public.parsed.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.PKCS1),
    ):
        with pytest.raises(Malformed):
            PublicKey(KeyKind.RSA_3072, second)


def test_decode_refuses_a_key_of_another_algorithm_where_rsa_is_named() -> None:
    der = SigningKey.generate().public.parsed.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    with pytest.raises(Malformed):
        PublicKey(KeyKind.RSA_3072, der)


@pytest.mark.parametrize("kind", sorted(SIGNING_KINDS))
def test_signature_holds_for_its_key_and_bytes_only(kind: KeyKind) -> None:
    key = SigningKey.generate(kind)
    signature = key.sign(b"message")
    assert len(signature) == 64
    assert signature == key.sign(b"message")
    verify(key.public, signature, b"message")
    verify(decode_public_key(key.public.encoded, expect=kind), signature, b"message")
    assert SigningKey.from_seed(kind, key.seed()).public == key.public
    for public, signed, message in (
        (SigningKey.generate(kind).public, signature, b"message"),
        (key.public, signature, b"messagf"),
        (key.public, signature[:-1], b"message"),
        (key.public, signature + b"\x00", b"message"),
        (key.public, b"", b"message"),
        (key.public, bytes(64), b"message"),
    ):
        with pytest.raises(InvalidSignature):
            verify(public, signed, message)


@pytest.mark.parametrize("kind", sorted(SIGNING_KINDS))
def test_verify_refuses_every_single_flipped_bit_of_a_signature(kind: KeyKind) -> None:
    key = SigningKey.generate(kind)
    signature = key.sign(b"message")
    for bit in range(512):
        flipped = bytearray(signature)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(InvalidSignature):
            verify(key.public, bytes(flipped), b"message")


def test_verify_refuses_s_plus_l() -> None:
    key = SigningKey.generate()
    signature = key.sign(b"message")
    order = 2**252 + 27742317777372353535851937790883648493
    raised = (int.from_bytes(signature[32:], "little") + order).to_bytes(32, "little")
    with pytest.raises(InvalidSignature):
        verify(key.public, signature[:32] + raised, b"message")


def test_verify_refuses_to_be_asked_about_a_key_that_does_not_sign() -> None:
    with pytest.raises(ValueError, match="do not sign"):
        verify(AgreementKey.generate().public, bytes(64), b"")
    with pytest.raises(ValueError, match="do not sign"):
        SigningKey.generate(KeyKind.X25519)
    with pytest.raises(ValueError, match="do not agree"):
        AgreementKey.generate(KeyKind.ED25519)


@pytest.mark.parametrize("kind", sorted(AGREEMENT_KINDS))
def test_two_keys_agree_on_one_secret_and_are_restored_from_their_seeds(kind: KeyKind) -> None:
    alice, bob = AgreementKey.generate(kind), AgreementKey.generate(kind)
    again = AgreementKey.from_seed(kind, alice.seed())
    assert alice.exchange(bob.public) == bob.exchange(alice.public) == again.exchange(bob.public)
    assert len(alice.exchange(bob.public)) == 32


@pytest.mark.parametrize("size", [0, 31, 33, 63, 65])
def test_private_keys_refuse_seeds_of_another_size(size: int) -> None:
    seed = SecretBytes(b"\x01" * size)
    for kind in SIGNING_KINDS:
        with pytest.raises(Malformed):
            SigningKey.from_seed(kind, seed)
    for kind in AGREEMENT_KINDS:
        with pytest.raises(Malformed):
            AgreementKey.from_seed(kind, seed)
    with pytest.raises(Malformed):
        KemKey.from_seed(seed)
    with pytest.raises(Malformed):
        SealingKey.from_seed(seed)


@pytest.mark.parametrize("scalar", [0, P256_ORDER, P256_ORDER + 1, 2**256 - 1])
def test_p256_keys_refuse_a_scalar_outside_the_order(scalar: int) -> None:
    with pytest.raises(Malformed, match="below the order"):
        SigningKey.from_seed(KeyKind.P256_SIGNING, SecretBytes(scalar.to_bytes(32, "big")))


@pytest.mark.parametrize("hash_name", ["sha1", "sha256"])
def test_rsa_key_unwraps_what_was_wrapped_to_it_under_the_same_hash_only(hash_name: OaepHash) -> None:
    half = SecretBytes(b"r" * 32)
    wrapped = wrap_rsa(RSA_KEY.public, half, hash_name=hash_name)
    assert len(wrapped) == 384
    assert RSA_KEY.unwrap(wrapped, hash_name=hash_name) == half
    assert RecipientRsaKey.from_pkcs8(RSA_KEY.pkcs8()).unwrap(wrapped, hash_name=hash_name) == half
    other: OaepHash = "sha256" if hash_name == "sha1" else "sha1"
    refusals = set()
    for bad, name in (
        (wrapped, other),
        (wrapped[:-1], hash_name),
        (wrapped + b"\x00", hash_name),
        (b"", hash_name),
        (b"\xff" * 384, hash_name),
        (bytes((wrapped[0], wrapped[1] ^ 1)) + wrapped[2:], hash_name),
    ):
        with pytest.raises(UnwrapFailed) as caught:
            RSA_KEY.unwrap(bad, hash_name=name)
        refusals.add(str(caught.value))
    assert len(refusals) == 1


def test_rsa_key_refuses_what_is_not_an_rsa_private_key() -> None:
    foreign = SigningKey.generate()._private.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    for der in (b"", b"junk", foreign, RSA_KEY.pkcs8().reveal()[:-1]):
        with pytest.raises(Malformed):
            RecipientRsaKey.from_pkcs8(SecretBytes(der))
    with pytest.raises(ValueError, match="do not wrap"):
        wrap_rsa(SigningKey.generate().public, SecretBytes(b"r" * 32), hash_name="sha256")


def test_fingerprint_is_eight_words_of_the_label_and_the_key() -> None:
    key = SigningKey.from_seed(KeyKind.ED25519, SecretBytes(bytes(32))).public
    digest = hashlib.sha256(encode(["holdfast/v1/fp", "device", key.encoded])).digest()
    words = key.fingerprint("device")
    assert words == eight_words(digest)
    assert len(words) == 8
    assert words != key.fingerprint("officer")


def test_eight_words_spell_the_first_88_bits_in_order() -> None:
    assert eight_words(bytes(32)) == ("abandon",) * 8
    assert eight_words(b"\xff" * 32) == ("zoo",) * 8
    # 2047 in the first eleven bits, 1 in the last eleven.
    assert eight_words((2047 << 77 | 1).to_bytes(11, "big") + b"\xff" * 21) == ("zoo", *["abandon"] * 6, "ability")
    with pytest.raises(ValueError, match="88 bits"):
        eight_words(bytes(10))


def test_keys_print_their_names_and_never_their_secrets() -> None:
    for key in (SigningKey.generate(), AgreementKey.generate(), KemKey.generate(), SealingKey.generate()):
        assert key.seed().reveal().hex() not in repr(key) + repr(key.seed())
        assert key.public.kid.hex() in repr(key.public)


def test_verify_of_a_kept_key_costs_the_signature_alone() -> None:
    key = SigningKey.generate()
    signature = key.sign(b"message")

    def cost(check: Any) -> float:
        def once() -> float:
            started = time.process_time()
            for _ in range(50):
                check()
            return time.process_time() - started

        return min(once() for _ in range(7))

    bare = cost(lambda: key.public.parsed.verify(signature, b"message"))
    assert cost(lambda: verify(key.public, signature, b"message")) < 1.3 * bare
