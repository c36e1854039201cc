# SPDX-License-Identifier: Apache-2.0
"""The rows of a message on its way into the inbox: as the server handed it over, and as it was opened.

Implements docs/formats/messages.md for the device's own encrypted store.
Opens nothing and judges nothing; `inbox` does.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from holdfast.client.sessions.sessions import Address
from holdfast.core.base.encoding import Encodable, Fields, Value, decode, encode
from holdfast.core.base.secret import SecretBytes
from holdfast.core.messages.content import LargeReference

_MAX_ROW: Final = 2 * 1024 * 1024


@dataclass(frozen=True)
class Envelope:
    """One message as the server handed it over. Sender and times are its word only. content: large ciphertext or b"".

    lacks_content: the server says that there is large content, and did not give it.
    """

    sender: Address
    to_device: bytes
    message: bytes
    received_at: int
    content: bytes = b""
    lacks_content: bool = False

    @property
    def hash(self) -> bytes:
        """What names these very bytes; each message has random ones, so that none comes twice by chance."""
        return hashlib.sha256(self.message).digest()

    def to_secret(self) -> SecretBytes:
        """Return the bytes of the envelope, for the time until it can be opened."""
        rows: list[Encodable] = [self.sender.user, self.sender.device, self.to_device, self.message]
        return SecretBytes(encode([*rows, self.received_at, self.content, int(self.lacks_content)]))

    @classmethod
    def from_secret(cls, secret: SecretBytes) -> Envelope:
        """Undo to_secret."""
        row = Fields.of_row(decode(secret.reveal(), max_size=_MAX_ROW), "held message", 7)
        return cls(
            sender=Address(row.octets(0, 16), row.octets(1, 16)),
            to_device=row.octets(2, 16),
            message=row.octets(3),
            received_at=row.uint(4),
            content=row.octets(5),
            lacks_content=bool(row.uint(6, maximum=1)),
        )


@dataclass(frozen=True)
class Kept:
    """One message in the inbox, as `messages.Received` shows it."""

    received_at: int
    sender: Address
    message_id: bytes
    sent_at: int
    conversation: bytes
    is_last_resort: bool
    body: bytes
    reference: LargeReference | None

    def to_secret(self) -> SecretBytes:
        """Return the bytes of the row."""
        rows: list[Encodable] = []
        if self.reference:
            rows = [self.reference.key.reveal(), self.reference.hash, self.reference.size]
        value: list[Encodable] = [self.received_at, self.sender.user, self.sender.device, self.message_id, self.sent_at]
        return SecretBytes(encode([*value, self.conversation, int(self.is_last_resort), self.body, rows]))

    @classmethod
    def from_secret(cls, secret: SecretBytes) -> Kept:
        """Undo to_secret."""
        row = Fields.of_row(decode(secret.reveal(), max_size=_MAX_ROW), "inbox", 9)
        return cls(
            received_at=row.uint(0),
            sender=Address(row.octets(1, 16), row.octets(2, 16)),
            message_id=row.octets(3, 16),
            sent_at=row.uint(4),
            conversation=row.octets(5, 16),
            is_last_resort=bool(row.uint(6, maximum=1)),
            body=row.octets(7),
            reference=_reference(row.array(8)),
        )


def _reference(rows: list[Value]) -> LargeReference | None:
    if not rows:
        return None
    row = Fields.of_row(rows, "inbox reference", 3)
    return LargeReference(SecretBytes(row.octets(0, 32)), row.octets(1, 32), row.uint(2))
