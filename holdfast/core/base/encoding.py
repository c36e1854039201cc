# SPDX-License-Identifier: Apache-2.0
"""The strict deterministic CBOR profile, strict base64url and the typed reading of decoded maps.

Implements PROTOCOL section 3 (a subset of RFC 8949 section 4.2.1) and RFC 4648 section 5 without padding.
Does not know what any field means, and accepts exactly one encoding of each value.
Specification: https://www.rfc-editor.org/rfc/rfc8949 section 4.2.1, https://www.rfc-editor.org/rfc/rfc4648 section 5.
"""

import base64
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, TypeAlias

from holdfast.core.base.errors import Malformed

Value: TypeAlias = "int | bytes | str | list[Value] | dict[int, Value]"
# What encode() takes: read-only containers, so that a list of bytes or a tuple will do.
Encodable: TypeAlias = "int | bytes | str | Sequence[Encodable] | Mapping[int, Encodable]"

# The sizes bound what a stranger can make a reader hold before anything is verified (FAULTS I1a, C1).
MAX_STATEMENT: Final = 16 * 1024  # bytes: statements, the default of decode()
MAX_BLOB: Final = 64 * 1024  # bytes: a policy with 16 officers, a deposit record, a whole message
MAX_VAULT: Final = 1024 * 1024  # bytes: the keyring, also the ceiling of the mailbox for large content
MAX_UINT: Final = 2**53 - 1  # what a JavaScript number holds exactly
# Negative integers are there for COSE's alg alone (-8, -7); below -65536 its registry is for private use (RFC 9053).
MIN_NINT: Final = -65536
# A recursive reader spends a stack frame on each level: without a bound, a few KiB of "[[[[…" end the process
# (FAULTS I2a). No structure of the protocol is deeper than this: encode() would refuse it.
MAX_DEPTH: Final = 6  # arrays and maps one inside another

# RFC 8949 section 3.1: the six major types of the profile. 6 (tags) and 7 (floats, booleans, null) have no name here.
_UINT, _NINT, _BSTR, _TSTR, _ARRAY, _MAP = range(6)
# RFC 8949 section 4.2.1: additional information -> bytes that follow, and the least number that needs so many. A
# smaller one in a longer head would be a second encoding of the same value, under another hash.
_MINIMA: Final = {24: (1, 24), 25: (2, 1 << 8), 26: (4, 1 << 16), 27: (8, 1 << 32)}
# Heads of up to two bytes are nearly all there are, and making them anew was half the time of encoding.
_SHORT: Final = [
    [
        bytes((major << 5 | argument,)) if argument < 24 else bytes((major << 5 | 24, argument))
        for argument in range(256)
    ]
    for major in range(_MAP + 1)
]


def _head(major: int, argument: int) -> bytes:
    if argument < 256:
        return _SHORT[major][argument]
    if argument < 1 << 16:
        return ((major << 5 | 25) << 16 | argument).to_bytes(3, "big")
    if argument < 1 << 32:
        return ((major << 5 | 26) << 32 | argument).to_bytes(5, "big")
    if argument <= MAX_UINT:
        return ((major << 5 | 27) << 64 | argument).to_bytes(9, "big")
    raise ValueError("integer above 2^53 - 1")


def _put(value: Encodable, out: list[bytes], depth: int) -> None:
    if isinstance(value, bytes):
        out.append(_head(_BSTR, len(value)))
        out.append(value)
    # In Python True is an int: taken as 1 it would decode as 1, and two values would share one encoding.
    elif isinstance(value, int) and not isinstance(value, bool):
        if value < MIN_NINT:
            raise ValueError("negative integer below -65536")
        out.append(_head(_UINT, value) if value >= 0 else _head(_NINT, -1 - value))
    elif isinstance(value, str):
        text = value.encode()
        out.append(_head(_TSTR, len(text)))
        out.append(text)
    elif isinstance(value, (list, tuple, dict)):
        if depth == MAX_DEPTH:
            raise ValueError("nested deeper than 6")
        if isinstance(value, dict):
            out.append(_head(_MAP, len(value)))
            # Ascending numbers are ascending bytes for shortest heads, so this is RFC 8949's order too.
            for key in sorted(value):
                if type(key) is not int or key < 0:
                    raise ValueError("map keys are unsigned integers")
                out.append(_head(_UINT, key))
                _put(value[key], out, depth + 1)
        else:
            out.append(_head(_ARRAY, len(value)))
            for item in value:
                _put(item, out, depth + 1)
    else:
        raise ValueError(f"{type(value).__name__} has no place in the profile")  # noqa: TRY004


def encode(value: Encodable) -> bytes:
    """Encode `value` in the one way the profile allows: shortest heads, map keys ascending.

    Raises ValueError for a value outside the profile: bool, None, float, a lone surrogate, an integer outside
    -65536..2^53-1, nesting deeper than 6 (a caller's mistake). PROTOCOL section 3.
    """
    out: list[bytes] = []
    _put(value, out, 0)
    return b"".join(out)


def _take(data: bytes, at: int, depth: int) -> tuple[Value, int]:
    """Read one item of `data` at `at`; an IndexError means that the data ended inside a head."""
    head = data[at]
    major, argument = head >> 5, head & 31
    at += 1
    if argument >= 24:
        if argument > 27 or major > _MAP:
            raise Malformed("CBOR: indefinite length or reserved head")
        width, minimum = _MINIMA[argument]
        # A slice beyond the end is only shorter, and would read as a smaller number; an index beyond it is an error.
        data[at + width - 1]
        argument = int.from_bytes(data[at : at + width], "big")
        at += width
        if not minimum <= argument <= MAX_UINT:
            raise Malformed("CBOR: integer not shortest, or above 2^53 - 1")
    if major == _UINT:
        return argument, at
    if _BSTR <= major <= _TSTR:
        end = at + argument
        if end > len(data):
            raise Malformed("CBOR: string longer than the data")
        return data[at:end] if major == _BSTR else _text(data[at:end]), end
    if major == _NINT:
        if argument > -1 - MIN_NINT:
            raise Malformed("CBOR: negative integer below -65536")
        return -1 - argument, at
    if major > _MAP:
        raise Malformed("CBOR: tag, float or simple value")
    if depth == MAX_DEPTH:
        raise Malformed("CBOR: nested deeper than 6")
    if argument > len(data) - at:
        # Each item takes a byte at least: a claimed length never makes us work or allocate beyond the data.
        raise Malformed("CBOR: container longer than the data")
    return _take_array(data, at, argument, depth) if major == _ARRAY else _take_map(data, at, argument, depth)


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise Malformed("CBOR: text is not UTF-8") from None


def _take_array(data: bytes, at: int, count: int, depth: int) -> tuple[list[Value], int]:
    items: list[Value] = []
    for _ in range(count):
        item, at = _take(data, at, depth + 1)
        items.append(item)
    return items, at


def _take_map(data: bytes, at: int, count: int, depth: int) -> tuple[dict[int, Value], int]:
    pairs: dict[int, Value] = {}
    previous = -1
    for _ in range(count):
        key: Value = data[at]
        assert isinstance(key, int)
        if key < 24:
            at += 1
        elif key >> 5 != _UINT:
            raise Malformed("CBOR: map key is not an unsigned integer")
        else:
            key, at = _take(data, at, depth + 1)
            assert isinstance(key, int)
        # One comparison refuses both a second order and a key that is there twice. Libraries differ in which of two
        # equal keys they keep, so two readers of one signed map would believe different things.
        if key <= previous:
            raise Malformed("CBOR: map keys not strictly ascending")
        previous = key
        pairs[key], at = _take(data, at, depth + 1)
    return pairs, at


def decode(data: bytes, *, max_size: int = MAX_STATEMENT) -> Value:
    """Decode exactly one value; whatever this accepts, encode() gives back byte for byte.

    Raises Malformed for anything outside the profile, trailing bytes, and more than `max_size` bytes.
    PROTOCOL section 3.
    """
    if len(data) > max_size:
        raise Malformed(f"CBOR: {len(data)} bytes, at most {max_size} allowed")
    try:
        # The size was compared first: nothing is read of a body that is too large.
        value, end = _take(data, 0, 0)
    except IndexError:
        raise Malformed("CBOR: ends early") from None
    # What follows would be in the hash and unseen by the reader: room for a second meaning.
    if end != len(data):
        raise Malformed("CBOR: trailing bytes")
    return value


def label(name: str, *parts: Encodable) -> bytes:
    """Return dCBOR(["holdfast/v1/" + name, part, …]): the bytes of every info, salt and commitment.

    The array makes the parts unambiguous: ("a", "bc") and ("ab", "c") differ. PROTOCOL section 3.
    """
    return encode([f"holdfast/v1/{name}", *parts])


# The library's decoder skips signs outside the alphabet: one byte string would have endless texts (FAULTS I3a).
_BASE64URL: Final = re.compile(r"[A-Za-z0-9_-]*", re.ASCII)


def b64u(data: bytes) -> str:
    """Return base64url of `data` without padding. RFC 4648 section 5."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def unb64u(text: str, *, max_size: int | None = None) -> bytes:
    """Return the bytes of unpadded base64url `text`, at most `max_size` bytes of them.

    Raises Malformed for padding, white space, a foreign alphabet, an impossible length, non-zero trailing
    bits and excess size: one byte string has exactly one text. RFC 4648 sections 3.5 and 5.
    """
    # On the text, before it is decoded: refusing costs nothing then.
    if max_size is not None and len(text) > (max_size * 4 + 2) // 3:
        raise Malformed(f"base64url: more than {max_size} bytes")
    if not _BASE64URL.fullmatch(text) or len(text) % 4 == 1:
        raise Malformed("base64url: not in the unpadded alphabet")
    data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    # The last sign can carry up to four bits that belong to no byte, and the library ignores them.
    if b64u(data) != text:
        raise Malformed("base64url: trailing bits are not zero")
    return data


class Fields:
    """Typed reading of one decoded map whose keys are all named in advance.

    Raises Malformed, naming `what` and the field's number, for a value that is not a map, a missing or
    unknown key, and, in each reader, a value of another type or size. Reading a key not named is a KeyError.
    """

    __slots__ = ("_map", "_what")

    def __init__(self, value: Value, what: str, required: Iterable[int], optional: Iterable[int] = ()) -> None:
        if not isinstance(value, dict):
            raise Malformed(f"{what}: not a map")
        required = frozenset(required)
        if not required <= value.keys():
            raise Malformed(f"{what}: field {min(required - value.keys())} is missing")
        # Refused and not skipped: one side would have signed what the other side never reads.
        if len(value) > len(required) and (unknown := value.keys() - required - frozenset(optional)):
            raise Malformed(f"{what}: field {min(unknown)} is unknown")
        self._map = value
        self._what = what

    @classmethod
    def of_row(cls, value: Value, what: str, size: int) -> "Fields":
        """Read a fixed array of `size` items in the same way; fields are then numbered from 0."""
        if not isinstance(value, list) or len(value) != size:
            raise Malformed(f"{what}: not an array of {size}")
        # Numbered here, so that no field can be missing or unknown: there is nothing to compare.
        self = object.__new__(cls)
        self._map, self._what = dict(enumerate(value)), what
        return self

    def __contains__(self, key: int) -> bool:
        return key in self._map

    def refuse(self, key: int, reason: str) -> Malformed:
        """Return the error that names field `key`; the caller raises it."""
        return Malformed(f"{self._what}: field {key} {reason}")

    def uint(self, key: int, *, minimum: int = 0, maximum: int = MAX_UINT) -> int:
        """Return an unsigned integer within the bounds given."""
        value = self._map[key]
        if not isinstance(value, int) or not minimum <= value <= maximum:
            raise self.refuse(key, f"is not an integer of {minimum}..{maximum}")
        return value

    def octets(self, key: int, size: int | Sequence[int] | None = None, *, maximum: int = MAX_VAULT) -> bytes:
        """Return a byte string of exactly `size` bytes, of one of several sizes, or of at most `maximum`."""
        value = self._map[key]
        if not isinstance(value, bytes) or len(value) > maximum:
            raise self.refuse(key, f"is not a byte string of at most {maximum} bytes")
        if size is not None and len(value) != size and (isinstance(size, int) or len(value) not in size):
            raise self.refuse(key, f"is not a byte string of {size} bytes")
        return value

    def text(self, key: int, *, maximum: int = 1024) -> str:
        """Return text of at most `maximum` characters."""
        value = self._map[key]
        if not isinstance(value, str) or len(value) > maximum:
            raise self.refuse(key, f"is not text of at most {maximum} characters")
        return value

    def array(self, key: int, *, minimum: int = 0, maximum: int = MAX_VAULT) -> list[Value]:
        """Return an array of `minimum` to `maximum` items of any type."""
        value = self._map[key]
        if not isinstance(value, list) or not minimum <= len(value) <= maximum:
            raise self.refuse(key, f"is not an array of {minimum}..{maximum} items")
        return value

    def row(self, key: int, size: int | None = None) -> "Fields":
        """Return the array at `key`, of `size` items or of any number, to be read in the same way."""
        items = self.array(key)
        return Fields.of_row(items, f"{self._what}, field {key}", len(items) if size is None else size)

    def __len__(self) -> int:
        return len(self._map)

    def value(self, key: int) -> Value:
        """Return the value as decoded, for a nested map that has its own Fields."""
        return self._map[key]
