# SPDX-License-Identifier: Apache-2.0
"""The letter that carries the vault key to another device: for that device, that pairing and that chain only."""

import hashlib
import itertools
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.core.base.encoding import decode, encode
from holdfast.core.base.errors import HoldfastError, InvalidSignature, Malformed, Untrusted, UnwrapFailed
from holdfast.core.base.secret import SecretBytes
from holdfast.core.crypto.keys import SealingKey, SigningKey
from holdfast.core.crypto.sealing import open_sealed, seal
from holdfast.core.signed import cose
from holdfast.core.signed.cose import Purpose
from holdfast.core.signed.payloads import Header
from holdfast.core.signed.statements import Sync, SyncKind
from holdfast.core.vault import sync_letter
from holdfast.core.vault.pairing import PairingRequest
from holdfast.core.vault.sync_letter import DeviceSync, OfficersKey, SyncLetter, seal_sync
from tests.cast.statements import ACME, AIK, ALICE, ISK, LAPTOP, MALLORY, NOW, PHONE, device_statement, hash_of

KEY = SealingKey.generate()
PHONE_STATEMENT = device_statement(
    SigningKey.generate(), header=Header(ACME, ALICE, PHONE, NOW), sealing_key=KEY.public
)
REQUEST = PairingRequest.new(PHONE_STATEMENT)
HEAD = hash_of("head")
CHECKPOINT = "log.example/acme/keys\n7\nroot\n"
CONTENTS = DeviceSync(SecretBytes(bytes(range(32))), 4, 17, CHECKPOINT, REQUEST.nonce)
BY_LAPTOP = Header(ACME, ALICE, LAPTOP, NOW)


def letter(contents: DeviceSync = CONTENTS, header: Header = BY_LAPTOP, **changes: Any) -> bytes:
    said: dict[str, Any] = {
        "kind": SyncKind.DEVICE_DOOR, "key": ISK, "to": KEY.public, "request_hash": REQUEST.hash, "head": HEAD,
    }  # fmt: skip
    return seal_sync(contents, header=header, **(said | changes))


def take(octets: bytes, kind: SyncKind = SyncKind.DEVICE_DOOR, nonce: bytes = REQUEST.nonce) -> DeviceSync:
    opened = SyncLetter.open(octets, key=KEY, request_hash=REQUEST.hash)
    return opened.verify(ISK.public, kind=kind, nonce=nonce)


def test_the_new_device_gets_what_it_needs_to_carry_on() -> None:
    opened = SyncLetter.open(letter(), key=KEY, request_hash=REQUEST.hash)
    assert (opened.head, opened.header) == (HEAD, BY_LAPTOP)
    assert opened.verify(ISK.public, kind=SyncKind.DEVICE_DOOR, nonce=REQUEST.nonce) == CONTENTS


def test_the_key_of_the_officers_section_goes_along_as_the_page_has_it() -> None:
    contents = replace(CONTENTS, officers=OfficersKey(SecretBytes(bytes(range(32, 64))), 2, 3))
    fields: Any = decode(contents.to_secret().reveal())
    assert fields[7] == [bytes(range(32, 64)), 2, 3]
    assert take(letter(contents)) == contents
    for row in ([bytes(31), 2, 3], [bytes(32), 0, 3], [bytes(32), 2, 0], [bytes(32), 2], []):
        with pytest.raises(Malformed):
            DeviceSync.from_secret(SecretBytes(encode(fields | {7: row})))


def test_a_device_gets_the_new_vault_key_after_a_rotation() -> None:
    own_hash = hashlib.sha256(PHONE_STATEMENT.to_payload()).digest()
    contents = replace(CONTENTS, epoch=5, checkpoint="", nonce=own_hash[:16])
    sent = letter(contents, kind=SyncKind.DEVICE_TO_DEVICE, request_hash=own_hash)
    opened = SyncLetter.open(sent, key=KEY, request_hash=own_hash)
    assert opened.verify(ISK.public, kind=SyncKind.DEVICE_TO_DEVICE, nonce=own_hash[:16]) == contents


def test_the_letter_is_the_one_of_the_page() -> None:
    outer: Any = decode(letter())
    assert (outer[1], outer[2]) == (1, HEAD)
    info = encode(["holdfast/v1/sync", REQUEST.hash, HEAD])
    inner: Any = decode(open_sealed(outer[3], key=KEY, info=info).reveal())
    contents = encode({1: 1, 2: bytes(range(32)), 3: 4, 4: 17, 5: CHECKPOINT, 6: REQUEST.nonce})
    assert inner[2] == contents
    statement = cose.Sign1.parse(inner[1])
    sync = Sync.from_payload(statement.verify(ISK.public, purpose=Purpose.SYNC))
    assert sync == Sync(BY_LAPTOP, SyncKind.DEVICE_DOOR, hashlib.sha256(contents).digest(), 17)


def test_open_refuses_another_key_another_request_and_another_head_alike() -> None:
    messages = set()
    value: Any = decode(letter())
    for octets, key, request_hash in (
        (letter(), SealingKey.generate(), REQUEST.hash),
        (letter(), KEY, PairingRequest.new(PHONE_STATEMENT).hash),
        (encode({**value, 2: hash_of("another head")}), KEY, REQUEST.hash),
        (encode({**value, 3: value[3][:-1]}), KEY, REQUEST.hash),
    ):
        with pytest.raises(UnwrapFailed) as refused:
            SyncLetter.open(octets, key=key, request_hash=request_hash)
        messages.add(str(refused.value))
    assert len(messages) == 1


def test_verify_refuses_a_letter_that_anybody_else_wrote() -> None:
    for signer in (SigningKey.generate(), AIK):
        with pytest.raises(InvalidSignature):
            take(letter(key=signer))


def test_verify_refuses_a_letter_of_another_kind() -> None:
    for sent, wanted in itertools.permutations(SyncKind, 2):
        opened = SyncLetter.open(letter(kind=sent), key=KEY, request_hash=REQUEST.hash)
        with pytest.raises(Untrusted, match="not the sync"):
            opened.verify(ISK.public, kind=wanted, nonce=REQUEST.nonce)


def test_verify_refuses_a_letter_that_another_receiver_passed_on() -> None:
    # The laptop wrote to the tablet; the tablet seals the same signed contents to the phone.
    first: Any = decode(letter(replace(CONTENTS, nonce=b"tablet's nonce.."), request_hash=hash_of("tablet")))
    plaintext = open_sealed(first[3], key=KEY, info=sync_letter._info(hash_of("tablet"), HEAD))
    passed_on = seal(plaintext, to=KEY.public, info=sync_letter._info(REQUEST.hash, HEAD))
    with pytest.raises(Untrusted, match="another device or another pairing"):
        take(encode({1: 1, 2: HEAD, 3: passed_on}))


def resealed(statement: bytes, contents: bytes) -> bytes:
    plaintext = SecretBytes(encode({1: statement, 2: contents}))
    return encode({1: 1, 2: HEAD, 3: seal(plaintext, to=KEY.public, info=sync_letter._info(REQUEST.hash, HEAD))})


def signed(sync: Sync) -> bytes:
    return cose.sign(sync.to_payload(), purpose=Purpose.SYNC, key=ISK).encode()


def test_verify_refuses_other_contents_and_another_version_than_were_signed() -> None:
    contents = CONTENTS.to_secret().reveal()
    other = replace(CONTENTS, vault_key=SecretBytes(bytes(32))).to_secret().reveal()
    sync = Sync(BY_LAPTOP, SyncKind.DEVICE_DOOR, hashlib.sha256(contents).digest(), 17)
    assert take(resealed(signed(sync), contents)) == CONTENTS
    with pytest.raises(Untrusted):
        take(resealed(signed(sync), other))
    with pytest.raises(Malformed, match="two versions"):
        take(resealed(signed(replace(sync, version=18)), contents))


def test_open_refuses_a_letter_in_nobodys_name() -> None:
    for header in (Header(ACME, ALICE, b"", NOW), Header(ACME, b"", LAPTOP, NOW)):
        with pytest.raises(ValueError, match="read this back"):
            letter(header=header)
    assert (
        SyncLetter.open(
            letter(header=Header(ACME, MALLORY, LAPTOP, NOW)), key=KEY, request_hash=REQUEST.hash
        ).header.user
        == MALLORY
    )  # whom the caller then does not find in their own chain


@pytest.mark.parametrize(
    "fields",
    [{1: 2}, {2: bytes(31)}, {3: "4"}, {4: b""}, {5: b""}, {5: "x" * 4097}, {6: bytes(15)}, {7: 1}],
)
def test_contents_outside_the_format_are_malformed(fields: dict[int, Any]) -> None:
    value: Any = decode(CONTENTS.to_secret().reveal())
    with pytest.raises(Malformed):
        DeviceSync.from_secret(SecretBytes(encode({**value, **fields})))
    for missing in range(1, 7):
        with pytest.raises(Malformed):
            DeviceSync.from_secret(SecretBytes(encode({k: v for k, v in value.items() if k != missing})))


def test_every_flipped_byte_is_refused() -> None:
    octets = letter()
    for at in range(len(octets)):
        with pytest.raises(HoldfastError):
            take(octets[:at] + bytes([octets[at] ^ 1]) + octets[at + 1 :])


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_no_letter(octets: bytes) -> None:
    with pytest.raises(HoldfastError):
        take(octets)
    with pytest.raises(Malformed):
        DeviceSync.from_secret(SecretBytes(octets))
