# SPDX-License-Identifier: Apache-2.0
"""A signature holds for one payload, one purpose and one key."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.core.base.encoding import MAX_STATEMENT, decode, encode
from holdfast.core.base.errors import HoldfastError, InvalidSignature, Malformed
from holdfast.core.crypto.keys import KeyKind, SigningKey, verify
from holdfast.core.signed import cose
from holdfast.core.signed.cose import Purpose, Sign1

P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
KINDS = [KeyKind.ED25519, KeyKind.P256_SIGNING]
ALICE = {kind: SigningKey.generate(kind) for kind in KINDS}


def signed(kind: KeyKind = KeyKind.ED25519, payload: bytes = b"payload") -> Sign1:
    return cose.sign(payload, purpose=Purpose.SYNC, key=ALICE[kind])


@pytest.mark.parametrize("kind", KINDS)
def test_statement_goes_to_bytes_and_back_and_holds(kind: KeyKind) -> None:
    again = Sign1.parse(signed(kind).encode())
    assert again == signed(kind)
    assert again.kid == ALICE[kind].public.kid
    assert again.alg == {KeyKind.ED25519: -8, KeyKind.P256_SIGNING: -7}[kind]
    assert again.verify(ALICE[kind].public, purpose=Purpose.SYNC) == b"payload"


def test_statement_signs_the_structure_of_rfc_9052() -> None:
    one = signed()
    structure = encode(["Signature1", one.protected, b"holdfast/v1/sync", b"payload"])
    verify(ALICE[KeyKind.ED25519].public, one.signature, structure)
    assert decode(one.protected) == {1: -8, 4: one.kid}
    assert decode(one.encode()) == [one.protected, {}, b"payload", one.signature]


@pytest.mark.parametrize("kind", KINDS)
def test_statement_holds_for_no_other_purpose(kind: KeyKind) -> None:
    for purpose in Purpose:
        if purpose is not Purpose.SYNC:
            with pytest.raises(InvalidSignature):
                signed(kind).verify(ALICE[kind].public, purpose=purpose)


def test_purposes_are_the_whole_table_of_the_protocol() -> None:
    words = """chain device prekey sync share-manifest share-request escrow-key offline-key policy consent deposit
    case approval veto reseal reshare rewrap attestation archive export log-head roles officer-state
    resolution receipt custody officer door-proof transcript"""
    assert {purpose.value for purpose in Purpose} == set(words.split())


@pytest.mark.parametrize("kind", KINDS)
def test_statement_refuses_another_key_even_under_the_same_kid(kind: KeyKind) -> None:
    mallory = SigningKey.generate(kind)
    with pytest.raises(InvalidSignature):
        signed(kind).verify(mallory.public, purpose=Purpose.SYNC)
    forged = cose.sign(b"payload", purpose=Purpose.SYNC, key=mallory)
    renamed = Sign1(signed(kind).protected, forged.payload, forged.signature)
    with pytest.raises(InvalidSignature):
        renamed.verify(ALICE[kind].public, purpose=Purpose.SYNC)


@pytest.mark.parametrize("kind", KINDS)
def test_statement_refuses_a_key_that_signed_under_another_keys_name(kind: KeyKind) -> None:
    key = ALICE[kind]
    protected = encode({1: signed(kind).alg, 4: SigningKey.generate(kind).public.kid})
    structure = encode(["Signature1", protected, b"holdfast/v1/sync", b"payload"])
    # The mathematics holds; taking it would let one signer stand in a quorum under two names.
    verify(key.public, key.sign(structure), structure)
    with pytest.raises(InvalidSignature):
        Sign1(protected, b"payload", key.sign(structure)).verify(key.public, purpose=Purpose.SYNC)


def test_statement_refuses_an_algorithm_that_is_not_its_keys() -> None:
    key = ALICE[KeyKind.ED25519]
    protected = encode({1: -7, 4: key.public.kid})
    structure = encode(["Signature1", protected, b"holdfast/v1/sync", b"payload"])
    with pytest.raises(InvalidSignature):
        Sign1(protected, b"payload", key.sign(structure)).verify(key.public, purpose=Purpose.SYNC)


@pytest.mark.parametrize("kind", KINDS)
def test_every_refusal_of_a_signature_says_the_same_or_less(kind: KeyKind) -> None:
    one = signed(kind)
    said = set()
    for bad in (
        Sign1(one.protected, b"payloae", one.signature),
        Sign1(one.protected, b"payload", bytes((one.signature[0] ^ 1,)) + one.signature[1:]),
        Sign1(one.protected, b"payload", cose.sign(b"payload", purpose=Purpose.CASE, key=ALICE[kind]).signature),
    ):
        with pytest.raises(InvalidSignature) as caught:
            bad.verify(ALICE[kind].public, purpose=Purpose.SYNC)
        said.add(str(caught.value))
    assert len(said) == 1


@given(st.sampled_from(KINDS), st.data())
def test_statement_with_changed_bytes_is_refused_or_was_not_changed(kind: KeyKind, data: st.DataObject) -> None:
    octets = bytearray(signed(kind).encode())
    at = data.draw(st.integers(0, len(octets)))
    octets[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=2))
    try:
        again = Sign1.parse(bytes(octets))
        assert again.encode() == octets
        again.verify(ALICE[kind].public, purpose=Purpose.SYNC)
    except HoldfastError:
        return
    assert again == signed(kind)


@given(st.binary(max_size=60))
def test_statement_of_any_bytes_is_refused(data: bytes) -> None:
    with pytest.raises(Malformed):
        Sign1.parse(data)


KID = bytes(16)
SIGNATURE = bytes(64)
PROTECTED = encode({1: -8, 4: KID})


@pytest.mark.parametrize(
    "value",
    [
        [],
        {},
        b"",
        [PROTECTED, {}, b""],
        [PROTECTED, {}, b"", SIGNATURE, 0],
        [PROTECTED, {1: 0}, b"", SIGNATURE],
        [PROTECTED, [], b"", SIGNATURE],
        [PROTECTED, {}, "text", SIGNATURE],
        [PROTECTED, {}, b"", SIGNATURE[:-1]],
        [PROTECTED, {}, b"", SIGNATURE + b"\x00"],
        [{1: -8, 4: KID}, {}, b"", SIGNATURE],
        [b"", {}, b"", SIGNATURE],
        [encode({1: -8}), {}, b"", SIGNATURE],
        [encode({4: KID}), {}, b"", SIGNATURE],
        [encode({1: -8, 4: KID[:-1]}), {}, b"", SIGNATURE],
        [encode({1: -9, 4: KID}), {}, b"", SIGNATURE],
        [encode({1: 8, 4: KID}), {}, b"", SIGNATURE],
        [encode({1: "EdDSA", 4: KID}), {}, b"", SIGNATURE],
        [encode({1: -8, 2: 1, 4: KID}), {}, b"", SIGNATURE],
        [encode({1: -8, 4: KID, 5: 0}), {}, b"", SIGNATURE],
        [encode([-8, KID]), {}, b"", SIGNATURE],
        [PROTECTED + b"\x00", {}, b"", SIGNATURE],
        [b"\xa2\x04\x50" + KID + b"\x01\x27", {}, b"", SIGNATURE],
    ],
)
def test_statement_refuses_any_other_structure(value: object) -> None:
    assert Sign1.parse(encode([PROTECTED, {}, b"", SIGNATURE])).kid == KID
    with pytest.raises(Malformed):
        Sign1.parse(encode(value))  # type: ignore[arg-type]


def test_statement_refuses_the_tagged_form() -> None:
    with pytest.raises(Malformed, match="tag"):
        Sign1.parse(b"\xd2" + signed().encode())


def test_statement_refuses_more_than_its_limit() -> None:
    large = cose.sign(bytes(MAX_STATEMENT), purpose=Purpose.SYNC, key=ALICE[KeyKind.ED25519]).encode()
    with pytest.raises(Malformed, match="at most"):
        Sign1.parse(large)
    assert Sign1.parse(large, max_size=2 * MAX_STATEMENT).encode() == large


def test_entry_hash_survives_the_malleability_of_ecdsa() -> None:
    key = ALICE[KeyKind.P256_SIGNING]
    one = signed(KeyKind.P256_SIGNING)
    s = int.from_bytes(one.signature[32:], "big")
    twin = Sign1(one.protected, one.payload, one.signature[:32] + (P256_ORDER - s).to_bytes(32, "big"))
    assert twin.verify(key.public, purpose=Purpose.SYNC) == one.payload
    assert twin.encode() != one.encode()
    assert twin.entry_hash == one.entry_hash
    assert twin.payload_hash == one.payload_hash


def test_hashes_differ_by_payload_and_the_entry_hash_by_signer_too() -> None:
    other_key = cose.sign(b"payload", purpose=Purpose.SYNC, key=SigningKey.generate())
    assert signed().payload_hash == other_key.payload_hash
    assert signed().entry_hash != other_key.entry_hash
    assert signed().payload_hash != signed(payload=b"payloae").payload_hash


def test_statement_of_several_signers_goes_to_bytes_and_back() -> None:
    both = [signed(kind) for kind in KINDS]
    assert cose.parse_many(cose.encode_many(both)) == tuple(both)
    seventeen = [cose.sign(b"p", purpose=Purpose.POLICY, key=SigningKey.generate()) for _ in range(17)]
    assert len(cose.parse_many(cose.encode_many(seventeen))) == 17


def test_statement_of_several_signers_refuses_differing_payloads_repeats_and_crowds() -> None:
    one, other = signed(), signed(KeyKind.P256_SIGNING, b"another")
    crowd = [cose.sign(b"p", purpose=Purpose.POLICY, key=SigningKey.generate()).value() for _ in range(18)]
    values: tuple[Any, ...] = (
        [],
        {},
        [one.value(), other.value()],
        [one.value(), one.value()],
        [one.value(), b""],
        one.value(),
        crowd,
        7,
    )
    for value in values:
        with pytest.raises(Malformed):
            cose.parse_many(encode(value))
    with pytest.raises(ValueError, match="identical"):
        cose.encode_many([one, other])
    with pytest.raises(ValueError, match="identical"):
        cose.encode_many([])


def test_statement_of_several_signers_refuses_a_payload_above_the_limit_of_one() -> None:
    large = cose.sign(bytes(MAX_STATEMENT + 1), purpose=Purpose.POLICY, key=ALICE[KeyKind.ED25519])
    with pytest.raises(Malformed, match="too large"):
        cose.parse_many(cose.encode_many([large]))
    assert cose.parse_many(cose.encode_many([large]), max_size=MAX_STATEMENT + 1) == (large,)
