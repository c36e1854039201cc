# SPDX-License-Identifier: Apache-2.0
"""What stands inside a message's padding, and content too large for one.

Implements PROTOCOL section 4 (content above 4 KiB) and the content map of docs/formats/content.md.
Does not encrypt messages: sessions do. Nothing in a content is used as an address or opened by itself (FAULTS S18).
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from enum import IntEnum
from itertools import pairwise
from typing import Annotated, Final

from holdfast.core.base.encoding import MAX_BLOB, Encodable, Fields, decode, encode, label
from holdfast.core.base.errors import Malformed, UnwrapFailed
from holdfast.core.base.padding import pad, unpad
from holdfast.core.base.rows import octets, secret, uint
from holdfast.core.base.secret import SecretBytes
from holdfast.core.base.writing import read_back
from holdfast.core.crypto.wrapping import KEY_SIZE, NONCE_SIZE, decrypt, encrypt
from holdfast.core.signed.payloads import HASH_SIZE, ID_SIZE, VERSION

# A body is encrypted for each device anew. Above this it is sealed once, and each device gets some 80 bytes of
# reference.
MAX_BODY: Final = 4 * 1024  # bytes
MAX_ACKNOWLEDGED: Final = 256  # message ids in one acknowledgement: as many as fit a body
MAX_CHECKPOINT: Final = 4 * 1024  # characters: a checkpoint has a few hundred; room for witnesses' signatures
# Padded and tagged, this is still below the 1 MiB that the server takes.
MAX_LARGE: Final = 1_000_000
# The end of the year 9999, beyond which no calendar goes: whoever reads the message could not say when it was sent.
_MAX_TIME: Final = 253_402_300_799
# One key seals one content, so that its nonce may be fixed.
_NONCE: Final = bytes(NONCE_SIZE)
# The aad says what the key is for. Conversation and device are bound by the session that carries the reference.
_CONTENT: Final = label("content")


class ContentKind(IntEnum):
    """Field 2 of a content: what its body is."""

    BYTES = 1
    LARGE = 2
    MOVED = 3
    GREETING = 4
    ACKNOWLEDGEMENT = 5


@dataclass(frozen=True)
class LargeReference:
    """What a message carries in place of large content. hash: SHA-256 of the ciphertext. size: of the plaintext."""

    key: Annotated[SecretBytes, secret(32)]
    hash: Annotated[bytes, octets(32)]
    size: Annotated[int, uint()]

    def __post_init__(self) -> None:
        if len(self.key) != KEY_SIZE or len(self.hash) != HASH_SIZE or not 0 <= self.size <= MAX_LARGE:
            raise ValueError("a reference is a key and a hash of 32 bytes, and a size of at most 1,000,000")


def seal_large(plaintext: bytes) -> tuple[LargeReference, bytes]:
    """Encrypt up to 1,000,000 bytes under a key of its own; returns the reference, and the ciphertext to upload.

    The same ciphertext serves all devices; each gets the reference through its own session. Raises ValueError above.
    """
    if len(plaintext) > MAX_LARGE:
        raise ValueError("large content is at most 1,000,000 bytes")
    # Random and never the session's: the reference goes to devices whose sessions share no secret.
    key = SecretBytes(secrets.token_bytes(KEY_SIZE))
    ciphertext = encrypt(SecretBytes(pad(plaintext)), key=key, nonce=_NONCE, aad=_CONTENT)
    return LargeReference(key, hashlib.sha256(ciphertext).digest(), len(plaintext)), ciphertext


def open_large(ciphertext: bytes, reference: LargeReference) -> bytes:
    """Undo `seal_large`. Raises UnwrapFailed when the server sent anything but what the sender sealed.

    The hash is what the sender itself said: every recipient has the key, and one of them may side with the server.
    """
    # First: a megabyte that is not the sender's is not decrypted. GCM's tag would hold for a forgery by any recipient.
    if not hmac.compare_digest(hashlib.sha256(ciphertext).digest(), reference.hash):
        raise UnwrapFailed("content does not open")
    try:
        plaintext = unpad(decrypt(ciphertext, key=reference.key, nonce=_NONCE, aad=_CONTENT).reveal())
    except Malformed:
        raise UnwrapFailed("content does not open") from None
    # Last, as it counts plaintext: what the message announced must be what has come.
    if len(plaintext) != reference.size:
        raise UnwrapFailed("content does not open")
    return plaintext


@dataclass(frozen=True)
class Content:
    """One message's content.

    body: up to 4 KiB of anything for BYTES, a LargeReference for LARGE, the sender's new 32-byte chain head for MOVED,
    nothing for GREETING, up to 256 names of messages in ascending order for ACKNOWLEDGEMENT. message_id: 16 random
    bytes, the same in every copy. sent_at: UTC seconds by the sender.
    conversation: the user it is with, only in copies to the sender's own devices. checkpoint: the sender's newest of
    the key log, to be compared. chain_head: the sender's, 32 bytes. Raises ValueError for what no message can be.
    """

    kind: ContentKind
    message_id: bytes
    sent_at: int
    body: bytes | LargeReference = b""
    conversation: bytes | None = None
    checkpoint: str | None = None
    chain_head: bytes | None = None

    def __post_init__(self) -> None:
        # Else the same bytes could be a reference to one reader and a text to another.
        if isinstance(self.body, LargeReference) is not (self.kind is ContentKind.LARGE):
            raise ValueError("a large content, and no other, has a reference for its body")
        if isinstance(self.body, bytes):
            least, most = _BODY_SIZES[self.kind]
            if not least <= len(self.body) <= most:
                raise ValueError("a body of this kind has another size")
            if self.kind is ContentKind.ACKNOWLEDGEMENT and not _is_ids(self.body):
                raise ValueError("the body of an acknowledgement is ids in ascending order, each once")

    @property
    def name(self) -> bytes:
        """What the message is kept, recognised and acknowledged under, 16 bytes: its id, in a copy with the user.

        An app may give one id to what it writes to several people, whose copies all go to the same own devices.
        """
        if self.conversation is None:
            return self.message_id
        return hashlib.sha256(label("copy", self.message_id, self.conversation)).digest()[:ID_SIZE]

    @property
    def acknowledged(self) -> tuple[bytes, ...]:
        """The names of the messages that an acknowledgement is of, 16 bytes each; none for every other kind."""
        if self.kind is not ContentKind.ACKNOWLEDGEMENT or not isinstance(self.body, bytes):
            return ()
        return _ids(self.body)

    @read_back("decode")
    def encode(self) -> bytes:
        """Return the dCBOR map that goes into a message. It holds the message: a plaintext like any other."""
        body: Encodable = self.body if isinstance(self.body, bytes) else _reference_fields(self.body)
        fields: dict[int, Encodable] = {1: VERSION, 2: int(self.kind), 3: self.message_id, 4: self.sent_at, 5: body}
        if self.conversation is not None:
            fields[6] = self.conversation
        if self.checkpoint is not None:
            fields[7] = self.checkpoint
        if self.chain_head is not None:
            fields[8] = self.chain_head
        return encode(fields)

    @classmethod
    def decode(cls, data: bytes) -> Content:
        """Undo `encode`. Raises Malformed for another version or kind, an unknown field, a body of another size."""
        fields = Fields(decode(data, max_size=MAX_BLOB), "content", range(1, 6), (6, 7, 8))
        if fields.uint(1) != VERSION:
            raise fields.refuse(1, "is not version 1")
        try:
            kind = ContentKind(fields.uint(2))
        except ValueError:
            raise fields.refuse(2, "is not a known kind") from None
        if kind is ContentKind.LARGE:
            body: bytes | LargeReference = _read_reference(fields)
        else:
            least, most = _BODY_SIZES[kind]
            body = fields.octets(5, maximum=most)
            if len(body) < least:
                raise fields.refuse(5, f"is not of {least} bytes")
            if kind is ContentKind.ACKNOWLEDGEMENT and not _is_ids(body):
                raise fields.refuse(5, "is not of message ids in ascending order")
        return cls(
            kind=kind,
            message_id=fields.octets(3, ID_SIZE),
            sent_at=fields.uint(4, maximum=_MAX_TIME),
            body=body,
            conversation=fields.octets(6, ID_SIZE) if 6 in fields else None,
            checkpoint=fields.text(7, maximum=MAX_CHECKPOINT) if 7 in fields else None,
            chain_head=fields.octets(8, HASH_SIZE) if 8 in fields else None,
        )


# bytes, least and most. A head has one size, and a greeting carries nothing that could be read as a message.
_BODY_SIZES: Final = {
    ContentKind.BYTES: (0, MAX_BODY),
    ContentKind.MOVED: (HASH_SIZE, HASH_SIZE),
    ContentKind.GREETING: (0, 0),
    ContentKind.ACKNOWLEDGEMENT: (0, MAX_ACKNOWLEDGED * ID_SIZE),
}


def acknowledgement_body(message_ids: Collection[bytes]) -> bytes:
    """Return the body that names up to 256 messages (16 bytes each), the same whatever their order."""
    return b"".join(sorted(set(message_ids)))


def _ids(body: bytes) -> tuple[bytes, ...]:
    return tuple(body[at : at + ID_SIZE] for at in range(0, len(body), ID_SIZE))


def _is_ids(body: bytes) -> bool:
    """Whether a body is of whole ids, each once and in order: one set of messages has one form."""
    ids = _ids(body)
    return len(body) % ID_SIZE == 0 and all(before < after for before, after in pairwise(ids))


def _reference_fields(reference: LargeReference) -> dict[int, Encodable]:
    return {1: reference.key.reveal(), 2: reference.hash, 3: reference.size}


def _read_reference(fields: Fields) -> LargeReference:
    body = Fields(fields.value(5), "content reference", (1, 2, 3))
    return LargeReference(
        key=SecretBytes(body.octets(1, KEY_SIZE)),
        hash=body.octets(2, HASH_SIZE),
        size=body.uint(3, maximum=MAX_LARGE),
    )
