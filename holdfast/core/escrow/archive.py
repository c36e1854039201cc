# SPDX-License-Identifier: Apache-2.0
"""Archive keys by generation, and archive records: content of any size encrypted under a generation's key.

Implements docs/formats/archive-record.md (STREAM of 64 KiB segments, AES-256-GCM). Works on one segment at a time and
does no I/O: the caller reads and writes. Which generation is in use is the account chain's matter.
STREAM (Hoang, Reyhanitabar, Rogaway, Vizár): https://eprint.iacr.org/2015/189.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from holdfast.core.base.encoding import Fields, decode, encode, label
from holdfast.core.base.errors import Malformed, UnwrapFailed
from holdfast.core.base.secret import SecretBytes
from holdfast.core.base.writing import require_readable
from holdfast.core.crypto.wrapping import CommittedKey
from holdfast.core.escrow.deposit import ARCHIVE_KEY_SIZE
from holdfast.core.signed.payloads import ID_SIZE, MAX_U32

VERSION: Final = 1  # first field of the header: a reader stops at what it does not know
MAGIC: Final = b"HFAR"  # says what the file is before anything is parsed
SALT_SIZE: Final = 32  # bytes: drawn at random, so that no two records under one AK_g share a key (FAULTS C8)
# Bytes. What a reader has to hold before it may trust any of it; the tags cost 16 bytes in 64 KiB. As age has it.
SEGMENT_SIZE: Final = 64 * 1024
TAG_SIZE: Final = 16  # bytes: the full tag of SP 800-38D section 5.2.1.2
MAX_HEADER: Final = 512  # bytes: a header has about 120; the length is a stranger's word until the key fits
# The last byte of the nonce, STREAM's flag: without it a record cut off between two segments would look whole.
_LAST: Final = b"\x01"
_MORE: Final = b"\x00"


def new_archive_key() -> SecretBytes:
    """Return a fresh AK_g of 32 bytes. Generations are independent, so that a dated release opens those dates only."""
    return SecretBytes(secrets.token_bytes(ARCHIVE_KEY_SIZE))


@dataclass(frozen=True)
class ArchiveHeader:
    """Whose content this is and under which generation; salt: 32 random bytes, which make the record's key its own."""

    tenant: bytes
    user: bytes
    generation: int
    salt: bytes

    def context(self) -> bytes:
        """Return the info of the record's key: everything it must not be moved away from."""
        # Not the salt, which HKDF takes in by itself. A record moved to another user
        # or generation then has another key.
        return label("archive", self.tenant, self.user, self.generation)

    def to_prefix(self, commit: bytes) -> bytes:
        """Return magic, length (u16) and header: the bytes before the first segment."""
        header = encode({1: VERSION, 2: self.tenant, 3: self.user, 4: self.generation, 5: self.salt, 6: commit})
        return require_readable(read_prefix, MAGIC + len(header).to_bytes(2, "big") + header)


def prefix_size(start: bytes) -> int:
    """Return how long the prefix is, from the first 6 bytes. Raises Malformed when it is no archive record."""
    if len(start) < len(MAGIC) + 2 or not start.startswith(MAGIC):
        raise Malformed("archive record: this file is not one")
    size = int.from_bytes(start[4:6], "big")
    if not 0 < size <= MAX_HEADER:
        raise Malformed("archive record: a header of impossible length")
    return len(MAGIC) + 2 + size


def read_prefix(prefix: bytes) -> tuple[ArchiveHeader, bytes]:
    """Return the header and the key commitment. Raises Malformed."""
    if prefix_size(prefix) != len(prefix):
        raise Malformed("archive record: the header is cut off")
    fields = Fields(decode(prefix[6:]), "archive record", range(1, 7))
    fields.uint(1, minimum=VERSION, maximum=VERSION)
    header = ArchiveHeader(
        tenant=fields.octets(2, ID_SIZE),
        user=fields.octets(3, ID_SIZE),
        generation=fields.uint(4, maximum=MAX_U32),
        salt=fields.octets(5, SALT_SIZE),
    )
    return header, fields.octets(6, 32)


def encrypt_segments(
    segments: Iterable[bytes], *, archive_key: SecretBytes, tenant: bytes, user: bytes, generation: int
) -> Iterator[bytes]:
    """Give the record piece by piece: the prefix, then one piece for each segment of at most 64 KiB.

    All segments but the last must be full (ValueError otherwise, the caller's mistake); no segments make a record of
    empty content.
    """
    header = ArchiveHeader(tenant, user, generation, secrets.token_bytes(SALT_SIZE))
    key = _key(header, archive_key)
    yield header.to_prefix(key.commit())
    cipher = AESGCM(key.key.reveal())
    for index, segment, is_last in _marked(segments):
        # A reader cuts every 64 KiB + 16 and knows no other boundary.
        if len(segment) > SEGMENT_SIZE or (len(segment) < SEGMENT_SIZE and not is_last):
            raise ValueError("every segment but the last has 64 KiB")
        yield cipher.encrypt(_nonce(index, is_last=is_last), segment, None)


def decrypt_segments(prefix: bytes, pieces: Iterable[bytes], *, archive_key: SecretBytes) -> Iterator[bytes]:
    """Give the content piece by piece; each is authentic when given, and the record is whole when this ends.

    pieces: what follows the prefix, cut every 64 KiB + 16. Raises UnwrapFailed for a wrong key and for every change:
    edited, reordered, cut off or continued; so a caller keeps what it was given only when this ended without error.
    """
    header, commit = read_prefix(prefix)
    key = _key(header, archive_key)
    # Before the first segment: GCM alone would open one ciphertext under two keys (FAULTS C9).
    key.require(commit)
    cipher = AESGCM(key.key.reveal())
    for index, piece, is_last in _marked(pieces):
        try:
            yield cipher.decrypt(_nonce(index, is_last=is_last), piece, None)
        except InvalidTag:
            raise UnwrapFailed("the archive record was changed, cut off or continued") from None


def _key(header: ArchiveHeader, archive_key: SecretBytes) -> CommittedKey:
    return CommittedKey.derive(salt=header.salt, ikm=archive_key, info=header.context())


def _nonce(index: int, *, is_last: bool) -> bytes:
    """11 bytes of counter and a last-segment flag: order, number and end are all bound. The key serves one record."""
    return index.to_bytes(11, "big") + (_LAST if is_last else _MORE)


def _marked(items: Iterable[bytes]) -> Iterator[tuple[int, bytes, bool]]:
    """Number the items and mark the last; one empty item when there is none."""
    index, held = 0, b""
    # One item behind, since only the next one tells whether this is the last.
    for index, item in enumerate(items):
        if index:
            yield index - 1, held, False
        held = item
    yield index, held, True
