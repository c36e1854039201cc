# SPDX-License-Identifier: Apache-2.0
"""Contents of every kind, large content with its key, safety numbers, and maps that are no contents."""

from __future__ import annotations

from typing import Any

from holdfast.core.base.encoding import decode, encode
from holdfast.core.base.secret import SecretBytes
from holdfast.core.crypto.keys import KeyKind, SigningKey
from holdfast.core.crypto.safety import own_number, pair_number
from holdfast.core.messages.content import Content, ContentKind, LargeReference, acknowledgement_body, seal_large
from tests.cast.statements import ACME, ALICE, NOW, hash_of, id_of

BOB = id_of("bob")
ID = id_of("message")
CONTENTS = {
    "bytes": Content(ContentKind.BYTES, ID, NOW, b"hello"),
    "nothing": Content(ContentKind.BYTES, ID, 0),
    "most": Content(ContentKind.BYTES, ID, NOW, b"x" * 4096),
    "a copy": Content(ContentKind.BYTES, ID, NOW, b"hello", BOB, "example.org/keys\n7\n", hash_of("head")),
    "large": Content(ContentKind.LARGE, ID, NOW, LargeReference(SecretBytes(bytes(32)), hash_of("content"), 70_000)),
    "moved": Content(ContentKind.MOVED, ID, NOW, hash_of("head")),
    "greeting": Content(ContentKind.GREETING, ID, NOW),
    "acknowledgement": Content(ContentKind.ACKNOWLEDGEMENT, ID, NOW, acknowledgement_body([id_of("b"), id_of("a")])),
    "acknowledgement of nothing": Content(ContentKind.ACKNOWLEDGEMENT, ID, NOW),
    "acknowledgement of most": Content(
        ContentKind.ACKNOWLEDGEMENT, ID, NOW, acknowledgement_body([id_of(str(number)) for number in range(256)])
    ),
}
REFUSED: dict[str, dict[int, Any]] = {
    "another version": {1: 2},
    "kind 0": {2: 0},
    "kind 6": {2: 6},
    "large without a reference": {2: 2},
    "moved without a head": {2: 3},
    "greeting with a body": {2: 4},
    "acknowledgement of a part of an id": {2: 5, 5: bytes(15)},
    "acknowledgement of an id and a part": {2: 5, 5: bytes(17)},
    "acknowledgement that names one twice": {2: 5, 5: id_of("a") * 2},
    "acknowledgement out of order": {2: 5, 5: b"".join(sorted([id_of("a"), id_of("b")], reverse=True))},
    "acknowledgement of 257": {2: 5, 5: b"".join(sorted(id_of(str(number)) for number in range(257)))},
    "acknowledgement as an array": {2: 5, 5: [id_of("a")]},
    "short id": {3: bytes(15)},
    "long id": {3: bytes(17)},
    "negative time": {4: -1},
    "time as text": {4: "now"},
    "body too long": {5: bytes(4097)},
    "body as text": {5: "hello"},
    "body as a map": {5: {}},
    "reference without size": {2: 2, 5: {1: bytes(32), 2: bytes(32)}},
    "reference with a short key": {2: 2, 5: {1: bytes(31), 2: bytes(32), 3: 1}},
    "reference above 1,000,000": {2: 2, 5: {1: bytes(32), 2: bytes(32), 3: 1_000_001}},
    "reference with one field more": {2: 2, 5: {1: bytes(32), 2: bytes(32), 3: 1, 4: 1}},
    "short user": {6: bytes(15)},
    "checkpoint as bytes": {7: b"example.org/keys"},
    "short head": {8: bytes(31)},
    "one field more": {9: 1},
}


def write() -> dict[str, object]:
    """Make the file anew: the key of the large content is fresh each time."""
    plaintext = bytes(range(256)) * 20
    reference, ciphertext = seal_large(plaintext)
    base = decode(CONTENTS["bytes"].encode())
    assert isinstance(base, dict)
    return {
        "page": "docs/formats/content.md",
        "contents": {name: content.encode().hex() for name, content in CONTENTS.items()},
        "refused": {why: encode({**base, **changes}).hex() for why, changes in REFUSED.items()},
        "large": {
            "key": reference.key.reveal().hex(),
            "hash": reference.hash.hex(),
            "size": reference.size,
            "ciphertext": ciphertext.hex(),
            "plaintext": plaintext.hex(),
        },
        "safety_number": _safety_number(),
    }


def _safety_number() -> dict[str, object]:
    people = [(ALICE, bytes(range(32))), (BOB, bytes(range(32, 64)))]
    keys = [SigningKey.from_seed(KeyKind.ED25519, SecretBytes(seed)).public for _, seed in people]
    halves = [own_number(tenant=ACME, user=user, aik=key) for (user, _), key in zip(people, keys, strict=True)]
    return {
        "tenant": ACME.hex(),
        "people": [
            {"user": user.hex(), "aik": key.encoded.hex(), "half": list(half)}
            for (user, _), key, half in zip(people, keys, halves, strict=True)
        ],
        "number": list(pair_number(*halves)),
    }
