# SPDX-License-Identifier: Apache-2.0
"""The rows of a message on its way into the inbox: as the server handed it over, and as it was opened.

Implements docs/formats/messages.md for the device's own encrypted store.
Opens nothing and judges nothing; `inbox` does.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Annotated, ClassVar, Final

from holdfast.client.sessions.sessions import Address
from holdfast.core.base.rows import flag, nested_or_none, octets, open_row, seal_row, spread, uint
from holdfast.core.base.secret import SecretBytes
from holdfast.core.messages.content import LargeReference

_MAX_ROW: Final = 2 * 1024 * 1024  # bytes: large content and its message, with room for the rest


@dataclass(frozen=True)
class Envelope:
    """One message as the server handed it over. Sender and times are its word only. content: large ciphertext or b"".

    lacks_content: the server says that there is large content, and did not give it.
    """

    ROW_SIZE: ClassVar = _MAX_ROW

    sender: Annotated[Address, spread(Address)]
    to_device: Annotated[bytes, octets(16)]
    message: Annotated[bytes, octets()]
    received_at: Annotated[int, uint()]
    content: Annotated[bytes, octets()] = b""
    lacks_content: Annotated[bool, flag()] = False

    @property
    def hash(self) -> bytes:
        """What names these very bytes; each message has random ones, so that none comes twice by chance."""
        return hashlib.sha256(self.message).digest()

    def to_secret(self) -> SecretBytes:
        """Return the bytes of the envelope, for the time until it can be opened."""
        return seal_row(self)

    @classmethod
    def from_secret(cls, secret: SecretBytes) -> Envelope:
        """Undo to_secret."""
        return open_row(cls, secret, "held message")


@dataclass(frozen=True)
class Kept:
    """One message in the inbox, as `messages.Received` shows it."""

    ROW_SIZE: ClassVar = _MAX_ROW

    received_at: Annotated[int, uint()]
    sender: Annotated[Address, spread(Address)]
    message_id: Annotated[bytes, octets(16)]
    sent_at: Annotated[int, uint()]
    conversation: Annotated[bytes, octets(16)]
    is_last_resort: Annotated[bool, flag()]
    body: Annotated[bytes, octets()]
    reference: Annotated[LargeReference | None, nested_or_none(LargeReference, "inbox reference")]

    def to_secret(self) -> SecretBytes:
        """Return the bytes of the row."""
        return seal_row(self)

    @classmethod
    def from_secret(cls, secret: SecretBytes) -> Kept:
        """Undo to_secret."""
        return open_row(cls, secret, "inbox")
