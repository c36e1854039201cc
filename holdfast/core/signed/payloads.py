# SPDX-License-Identifier: Apache-2.0
"""What every payload has in common: the header, its times, and the reading of keys and suites.

Implements fields 1 to 6 of PROTOCOL section 3.
Does not know any one statement; those are in `statements`, `prekeys`, `policy` and `cases`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from holdfast.core.base.encoding import MAX_STATEMENT, Encodable, Fields, decode, encode
from holdfast.core.base.errors import Expired, Malformed
from holdfast.core.crypto.keys import KeyKind, PublicKey, decode_public_key
from holdfast.core.crypto.suites import Suite

# Of the payload's shape. Another is refused: a field's meaning is never guessed (PROTOCOL section 3).
VERSION: Final = 1
ID_SIZE: Final = 16  # bytes: a UUID
HASH_SIZE: Final = 32  # bytes: SHA-256
# Clocks of devices differ by minutes (PROTOCOL section 3). This bounds how far ahead a wrong one, or a liar, can date.
MAX_AHEAD_SECONDS: Final = 300
_HEADER: Final = frozenset(range(1, 7))
MAX_U32: Final = 2**32 - 1  # ids and versions: four bytes in every binary form and index


@dataclass(frozen=True)
class Header:
    """Fields 1 to 6 of every payload. Ids are 16 bytes; user is b"" in a tenant's statements, device may be.

    Times are UTC seconds; expires_at is 0 for never.
    """

    tenant: bytes
    user: bytes
    device: bytes
    issued_at: int
    expires_at: int = 0


def check_time(header: Header, now: int) -> None:
    """Raise Expired if issued more than five minutes ahead of `now`, or if `now` has reached the expiry."""
    if header.issued_at > now + MAX_AHEAD_SECONDS:
        raise Expired("issued in the future: check this machine's clock")
    # Age alone ends nothing: what must end says so in field 6.
    if header.expires_at and now >= header.expires_at:
        raise Expired("statement has expired")


def close_payload(header: Header, fields: Mapping[int, Encodable]) -> bytes:
    """Return the payload bytes of a header and the fields from 7 on."""
    return encode(
        {
            1: VERSION,
            2: header.tenant,
            3: header.user,
            4: header.device,
            5: header.issued_at,
            6: header.expires_at,
            **fields,
        }
    )


def open_payload(
    payload: bytes,
    what: str,
    required: Iterable[int],
    optional: Iterable[int] = (),
    *,
    max_size: int = MAX_STATEMENT,
) -> tuple[Header, Fields]:
    """Read the header and give the fields for reading; `required` and `optional` name those from 7 on.

    Raises Malformed for another version, a wrong size, an expiry not after the issue, an unknown field.
    """
    fields = Fields(decode(payload, max_size=max_size), what, _HEADER.union(required), optional)
    if fields.uint(1) != VERSION:
        raise fields.refuse(1, "is not version 1")
    header = Header(
        tenant=fields.octets(2, ID_SIZE),
        user=fields.octets(3, (0, ID_SIZE)),
        device=fields.octets(4, (0, ID_SIZE)),
        issued_at=fields.uint(5),
        expires_at=fields.uint(6),
    )
    # Never valid at any time: a mistake of the maker, better found now than by each reader's clock.
    if header.expires_at and header.expires_at <= header.issued_at:
        raise fields.refuse(6, "is not after the time of issue")
    return header, fields


def require_device(header: Header, what: str) -> None:
    """Raise Malformed unless the header names a user and a device."""
    if not header.user or not header.device:
        raise Malformed(f"{what}: names no user or no device")


def require_user(header: Header, what: str) -> None:
    """Raise Malformed unless the header names a user."""
    if not header.user:
        raise Malformed(f"{what}: names no user")


def require_tenant_only(header: Header, what: str) -> None:
    """Raise Malformed unless the header names the tenant and nobody in it."""
    if header.user or header.device:
        raise Malformed(f"{what}: names a user or a device, yet is the tenant's")


def read_suite(fields: Fields, key: int) -> Suite:
    """Return the suite in field `key`; raises Malformed for a byte that names none."""
    try:
        return Suite(fields.uint(key))
    except ValueError:
        raise fields.refuse(key, "is not a known suite") from None


def read_key(fields: Fields, key: int, expect: KeyKind | frozenset[KeyKind]) -> PublicKey:
    """Return the public key in field `key`, checked as decode_public_key does."""
    # bytes: the longest key is X-Wing's, 1,217 with its type byte
    return decode_public_key(fields.octets(key, maximum=2048), expect=expect)
