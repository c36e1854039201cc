# SPDX-License-Identifier: Apache-2.0
"""Inputs for two parsers that must agree: samples, changed byte by byte, as CBOR, or as text.

The same random generator and the same samples give the same inputs; samples hold fresh keys, so that a case which
counts is written down in full.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any, Final

from holdfast.core.base.encoding import MAX_VAULT, decode
from holdfast.core.base.errors import HoldfastError

# Heads of CBOR that a canonical reader refuses or that lie at an edge, and what text formats turn on.
_HEADS: Final = [
    bytes.fromhex(one)
    for one in """
        00 17 1800 1817 1818 18ff 190000 1900ff 190100 1a0000ffff 1a00010000 1b00000000ffffffff 1b0000000100000000
        1b001fffffffffffff 1b0020000000000000 1bffffffffffffffff 20 37 3800 3818 390100 39ffff 3a00010000
        3b001fffffffffffff 40 4100 5800 5818 5f 60 6161 6180 62c3a9 62c328 63efbbbf 63eda080 64f09f9880 7800 7f 80 8100
        9800 9f a0 a10000 a10001 a1616100 a2000000 a2010000 b800 bf c0 c100 d818 e0 f4 f5 f6 f7 f820 f90000 f97e00
        fa00000000 fb0000000000000000 ff
    """.split()  # noqa: SIM905
]
_TOKENS: Final = [
    *'{}[]":,\\=;.-_+/ \n\r\t\0é\ufeff\u200b\u2028\u00a0ſİⅧ１😀—A',
    *("\\u0000", "\\u0061", "\\ud800", "\\n", "null", "true", "0", "-0", "1e3", "1.0", "00", "9" * 20),
    *('"index":', '"leaf":', '"size":', "e\u0301", "\u0300" * 3, "AA", "==", "  ", "HFP1.", "HFE1.", "sig1=", "--"),
]
_NUMBERS: Final = [
    0,
    1,
    2,
    3,
    23,
    24,
    255,
    256,
    65535,
    65536,
    2**31,
    2**32 - 1,
    2**32,
    2**53 - 1,
    2**53,
    -1,
    -65536,
    -65537,
]
_SIZES: Final = [0, 1, 8, 12, 15, 16, 17, 31, 32, 33, 48, 64, 65]


class _Tagged:
    """A value that no encoder of ours writes: octets as they are to stand."""

    def __init__(self, octets: bytes) -> None:
        self.octets = octets


def _head(major: int, argument: int, rng: random.Random | None = None) -> bytes:
    """Write a head in its shortest form, or with a generator sometimes in a longer one."""
    sizes = [(24, 0), (2**8, 1), (2**16, 2), (2**32, 4), (2**64, 8)]
    at = next(place for place, (limit, _) in enumerate(sizes) if argument < limit)
    if rng is not None and rng.random() < 0.05:
        at = min(at + 1, 4)
    length = sizes[at][1]
    if length == 0:
        return bytes([major << 5 | argument])
    return bytes([major << 5 | 23 + {1: 1, 2: 2, 4: 3, 8: 4}[length]]) + argument.to_bytes(length, "big")


def _write(value: Any, rng: random.Random | None = None) -> bytes:  # noqa: PLR0911
    """Write any value as CBOR: maps in the order they have, with a generator sometimes not in the shortest form."""
    match value:
        case _Tagged():
            return value.octets
        case bool():
            return b"\xf5" if value else b"\xf4"
        case int():
            return _head(0, value, rng) if value >= 0 else _head(1, -1 - value, rng)
        case bytes():
            return _head(2, len(value), rng) + value
        case str():
            octets = value.encode()
            return _head(3, len(octets), rng) + octets
        case list():
            return _head(4, len(value), rng) + b"".join(_write(one, rng) for one in value)
        case _:
            pairs = b"".join(_write(one, rng) for pair in value.items() for one in pair)
            return _head(5, len(value), rng) + pairs


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Name every value in a tree by the way to it, itself first."""
    yield path
    if isinstance(value, list):
        for number, one in enumerate(value):
            yield from _places(one, (*path, number))
    elif isinstance(value, dict):
        for key, one in value.items():
            yield from _places(one, (*path, key))


def _changed(value: Any, rng: random.Random) -> Any:  # noqa: PLR0911
    """Return another value in the place of one, near it or of another kind."""
    if rng.random() < 0.15:
        return rng.choice([0, -1, b"", "", [], {}, True, False, 2**53, _Tagged(rng.choice(_HEADS))])
    match value:
        case int():
            return rng.choice([value + rng.choice([-1, 1]), rng.choice(_NUMBERS), value ^ 1 << rng.randrange(16)])
        case bytes():
            if _is_cbor(value) and rng.random() < 0.7:
                return _as_cbor(value, rng)
            size = rng.choice([len(value) - 1, len(value) + 1, rng.choice(_SIZES)])
            longer = value + bytes(max(0, size - len(value)))
            return rng.choice([longer[: max(0, size)], bytes(len(value)), _as_bytes(value, rng) if value else b"\0"])
        case str():
            return rng.choice(
                [value + rng.choice(["", " ", "\n", "\0", "x", "é", "e\u0301", "\u200b"]), value[1:], "x" * 5000]
            )
        case list():
            return rng.choice([value[:-1], [*value, *value[-1:]], value[::-1], [*value, 0]])
        case dict():
            return _changed_map(value, rng)
    return value


def _changed_map(value: dict[Any, Any], rng: random.Random) -> dict[Any, Any]:
    """Return a map with a key less, more, renamed, or with its keys in another order."""
    keys = list(value)
    if not keys or rng.random() < 0.3:
        return {**value, rng.choice([0, 1, 2, 3, 7, 23, 24, 99, 255, 256, -1, "a"]): rng.choice([0, b"", "", []])}
    gone = rng.choice(keys)
    if rng.random() < 0.5:
        return {key: one for key, one in value.items() if key != gone}
    rng.shuffle(keys)
    return {key: value[key] for key in keys}


def _is_cbor(octets: bytes) -> bool:
    return len(octets) > 3 and octets[0] >> 5 in (4, 5) and _decoded(octets) is not None


def _decoded(octets: bytes) -> Any:
    try:
        return decode(octets, max_size=2 * MAX_VAULT)
    except HoldfastError:
        return None


def _as_cbor(sample: bytes, rng: random.Random) -> bytes:
    """Change one value inside a CBOR item, or how it is written."""
    value = _decoded(sample)
    for _ in range(rng.choice([1, 1, 1, 2])):
        path = rng.choice(list(_places(value)))
        value = _replaced(value, path, rng)
    return _write(value, rng if rng.random() < 0.2 else None)


def _replaced(value: Any, path: tuple[Any, ...], rng: random.Random) -> Any:
    if not path:
        return _changed(value, rng)
    first, *rest = path
    copy = value.copy()
    copy[first] = _replaced(value[first], tuple(rest), rng)
    return copy


def _as_bytes(sample: bytes, rng: random.Random) -> bytes:
    """Change, take out, put in or move some bytes."""
    octets = bytearray(sample)
    for _ in range(rng.choice([1, 1, 2, 4])):
        at = rng.randrange(len(octets) + 1)
        end = min(len(octets), at + rng.choice([1, 1, 2, 8, 33]))
        what = rng.randrange(6)
        if what == 0 and at < len(octets):
            octets[at] ^= 1 << rng.randrange(8)
        elif what == 1 and at < len(octets):
            octets[at] = rng.randrange(256)
        elif what == 2:
            del octets[at:end]
        elif what == 3:
            octets[at:at] = rng.choice(_HEADS)
        elif what == 4:
            octets[at:at] = octets[at:end]
        else:
            octets[at:end] = rng.choice(_HEADS)
    return bytes(octets)


def _as_text(sample: bytes, rng: random.Random) -> bytes:
    """Change some characters: take out, put in, double, swap, or write in the other case."""
    text = sample.decode()
    for _ in range(rng.choice([1, 1, 2, 4])):
        at = rng.randrange(len(text) + 1)
        end = min(len(text), at + rng.choice([1, 1, 2, 8, 33]))
        token = rng.choice(_TOKENS)
        made = rng.choice(
            [token, "", text[at:end] * 2, text[at:end].swapcase(), text[at:end][::-1], chr(rng.randrange(33, 127))]
        )
        text = text[:at] + made + text[end if rng.random() < 0.7 else at :]
    return text.encode()


def inputs(samples: Sequence[bytes], number: int, rng: random.Random, *, is_text: bool) -> Iterator[bytes]:
    """Yield the samples, and changed ones up to `number` of all; is_text: all of them UTF-8."""
    yield from samples[:number]
    for _ in range(number - len(samples)):
        sample = rng.choice(samples)
        if rng.random() < 0.02:
            yield b"" if is_text else rng.randbytes(rng.randrange(64))
        elif is_text or (sample.isascii() and rng.random() < 0.8):
            yield _as_text(sample, rng)
        elif rng.random() < 0.6 and _is_cbor(sample):
            yield _as_cbor(sample, rng)
        else:
            yield _as_bytes(sample, rng)
