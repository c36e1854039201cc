# SPDX-License-Identifier: Apache-2.0
"""Contents read back as they were written, and nothing else is read. FAULTS C1."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from holdfast.core.base.encoding import decode, encode, label
from holdfast.core.base.errors import Malformed, UnwrapFailed
from holdfast.core.base.padding import pad
from holdfast.core.base.secret import SecretBytes
from holdfast.core.messages.content import (
    MAX_ACKNOWLEDGED,
    MAX_BODY,
    Content,
    ContentKind,
    LargeReference,
    acknowledgement_body,
    open_large,
    seal_large,
)
from tests.cast.statements import NOW, hash_of, id_of

REFERENCE = LargeReference(SecretBytes(bytes(range(32))), hash_of("ciphertext"), 70_000)
ID = id_of("message")
IDS = sorted(id_of(str(number)) for number in range(257))
CONTENTS = {
    "bytes": Content(ContentKind.BYTES, ID, NOW, b"hello"),
    "nothing": Content(ContentKind.BYTES, ID, 0),
    "copy": Content(ContentKind.BYTES, ID, NOW, b"x" * 4096, id_of("bob"), "checkpoint\n", hash_of("head")),
    "large": Content(ContentKind.LARGE, ID, NOW, REFERENCE),
    "moved": Content(ContentKind.MOVED, ID, NOW, hash_of("new head")),
    "greeting": Content(ContentKind.GREETING, ID, NOW, chain_head=hash_of("head")),
    "acknowledgement": Content(ContentKind.ACKNOWLEDGEMENT, ID, NOW, b"".join(IDS[:256])),
    "acknowledgement of nothing": Content(ContentKind.ACKNOWLEDGEMENT, ID, NOW),
}


@pytest.mark.parametrize("name", CONTENTS)
def test_content_reads_back(name: str) -> None:
    assert Content.decode(CONTENTS[name].encode()) == CONTENTS[name]


def test_content_is_the_map_of_the_format_page() -> None:
    assert decode(CONTENTS["copy"].encode()) == {
        1: 1,
        2: 1,
        3: ID,
        4: NOW,
        5: b"x" * 4096,
        6: id_of("bob"),
        7: "checkpoint\n",
        8: hash_of("head"),
    }
    assert decode(CONTENTS["large"].encode())[5] == {1: bytes(range(32)), 2: hash_of("ciphertext"), 3: 70_000}  # type: ignore[index]


@pytest.mark.parametrize(
    "changes",
    [
        {1: 2},
        {2: 0},
        {2: 6},
        {2: 2},
        {2: 3},
        {2: 4},
        {3: bytes(15)},
        {3: bytes(17)},
        {4: -1},
        {4: 253_402_300_800},
        {5: bytes(4097)},
        {5: 7},
        {5: "text"},
        {2: 3, 5: bytes(31)},
        {2: 4, 5: b"x"},
        {2: 5, 5: bytes(17)},
        {2: 5, 5: IDS[0] * 2},
        {2: 5, 5: IDS[1] + IDS[0]},
        {2: 5, 5: b"".join(IDS)},
        {2: 5, 5: list(IDS[:1])},
        {2: 2, 5: {1: bytes(32), 2: bytes(32)}},
        {2: 2, 5: {1: bytes(31), 2: bytes(32), 3: 1}},
        {2: 2, 5: {1: bytes(32), 2: bytes(33), 3: 1}},
        {2: 2, 5: {1: bytes(32), 2: bytes(32), 3: 1_000_001}},
        {2: 2, 5: {1: bytes(32), 2: bytes(32), 3: 1, 4: 1}},
        {6: bytes(15)},
        {7: "x" * 4097},
        {7: b"bytes"},
        {8: bytes(31)},
        {9: 1},
    ],
)
def test_content_refuses_every_other_form(changes: dict[int, Any]) -> None:
    fields = decode(CONTENTS["bytes"].encode())
    assert isinstance(fields, dict)
    with pytest.raises(Malformed):
        Content.decode(encode({**fields, **changes}))


def test_only_an_acknowledgement_names_messages_and_it_names_each_once() -> None:
    body = acknowledgement_body([IDS[2], IDS[0], IDS[2]])
    assert Content(ContentKind.ACKNOWLEDGEMENT, ID, NOW, body).acknowledged == (IDS[0], IDS[2])
    assert Content(ContentKind.BYTES, ID, NOW, body).acknowledged == ()
    assert len(acknowledgement_body(IDS[:MAX_ACKNOWLEDGED])) <= MAX_BODY


@pytest.mark.parametrize("missing", [1, 2, 3, 4, 5])
def test_content_refuses_a_missing_field(missing: int) -> None:
    fields = decode(CONTENTS["bytes"].encode())
    assert isinstance(fields, dict)
    del fields[missing]
    with pytest.raises(Malformed, match="missing"):
        Content.decode(encode(fields))


def test_copies_under_one_id_have_a_name_for_each_user_and_everything_else_its_id() -> None:
    one = Content(ContentKind.BYTES, IDS[0], 1)
    copies = [replace(one, conversation=user) for user in IDS]
    expected = [hashlib.sha256(encode(["holdfast/v1/copy", IDS[0], user])).digest()[:16] for user in IDS]
    assert [one.name, *(copy.name for copy in copies)] == [IDS[0], *expected]
    assert len({one.name, *expected}) == 1 + len(set(IDS))


@given(st.binary(max_size=200))
def test_content_of_any_bytes_is_refused_or_reads_back(data: bytes) -> None:
    try:
        content = Content.decode(data)
    except Malformed:
        return
    assert content.encode() == data


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (ContentKind.BYTES, bytes(4097)),
        (ContentKind.BYTES, REFERENCE),
        (ContentKind.LARGE, b"not a reference"),
        (ContentKind.MOVED, bytes(31)),
        (ContentKind.GREETING, b"x"),
        (ContentKind.ACKNOWLEDGEMENT, bytes(15)),
        (ContentKind.ACKNOWLEDGEMENT, IDS[1] + IDS[0]),
        (ContentKind.ACKNOWLEDGEMENT, b"".join(IDS)),
    ],
)
def test_content_that_no_message_can_be_is_not_made(kind: ContentKind, body: Any) -> None:
    with pytest.raises(ValueError, match="body"):
        Content(kind, ID, NOW, body)


def test_large_reference_of_other_sizes_is_not_made() -> None:
    for changes in ({"key": SecretBytes(bytes(16))}, {"hash": bytes(31)}, {"size": -1}, {"size": 1_000_001}):
        with pytest.raises(ValueError, match="reference"):
            replace(REFERENCE, **changes)


def test_large_reference_does_not_print_its_key() -> None:
    assert bytes(range(32)).hex() not in repr(REFERENCE)
    assert repr(bytes(range(32)))[2:-1] not in repr(CONTENTS["large"])


@pytest.mark.parametrize("size", [0, 1, 4096, 70_000, 1_000_000])
def test_large_content_opens_and_fits_the_server(size: int) -> None:
    plaintext = secrets.token_bytes(size)
    reference, ciphertext = seal_large(plaintext)
    assert open_large(ciphertext, reference) == plaintext
    assert len(ciphertext) <= 1024 * 1024
    assert len(ciphertext) == len(pad(plaintext)) + 16


def test_large_content_hides_its_length_and_never_repeats_its_key() -> None:
    assert len(seal_large(bytes(70_000))[1]) == len(seal_large(bytes(70_100))[1])
    assert len({seal_large(b"")[0].key.reveal() for _ in range(100)}) == 100


def test_large_content_above_a_million_bytes_is_the_callers_mistake() -> None:
    with pytest.raises(ValueError, match="1,000,000"):
        seal_large(bytes(1_000_001))


def test_large_content_refuses_whatever_else_a_server_sends() -> None:
    reference, ciphertext = seal_large(b"x" * 5000)
    flipped = [ciphertext[:at] + bytes((ciphertext[at] ^ 1,)) + ciphertext[at + 1 :] for at in (0, 2500, 4999)]
    for other in (*flipped, b"", ciphertext[:-1], ciphertext + b"\0", seal_large(b"x" * 5000)[1]):
        with pytest.raises(UnwrapFailed):
            open_large(other, reference)


def test_large_content_refuses_another_key_hash_or_size() -> None:
    reference, ciphertext = seal_large(b"x" * 5000)
    for changes in (
        {"key": SecretBytes(bytes(32))},
        {"hash": bytes(32)},
        {"size": 4999},
        {"size": 5001},
        {"size": 0},
    ):
        with pytest.raises(UnwrapFailed):
            open_large(ciphertext, replace(reference, **changes))


def test_large_content_of_another_context_or_padding_is_refused() -> None:
    """The sender itself cheats: hash and key are right, yet it is not what everybody else would read."""
    key, padded = SecretBytes(bytes(32)), pad(bytes(5000))
    dirty = padded[:-1] + b"\x01"
    for aad, plaintext in ((b"", padded), (label("record"), padded), (label("content"), dirty)):
        ciphertext = AESGCM(bytes(32)).encrypt(bytes(12), plaintext, aad)
        reference = LargeReference(key, hashlib.sha256(ciphertext).digest(), 5000)
        with pytest.raises(UnwrapFailed):
            open_large(ciphertext, reference)


def test_large_content_refuses_what_another_recipient_sealed_under_its_key() -> None:
    """Every recipient has the key, and may side with the server: the hash in the message is the sender's own word."""
    reference, _ = seal_large(b"x" * 5000)
    forged = AESGCM(reference.key.reveal()).encrypt(bytes(12), pad(b"y" * 5000), label("content"))
    assert open_large(forged, replace(reference, hash=hashlib.sha256(forged).digest())) == b"y" * 5000
    with pytest.raises(UnwrapFailed):
        open_large(forged, reference)
