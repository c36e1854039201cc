# SPDX-License-Identifier: Apache-2.0
"""Input that is meant to reach past a parser: names of a prototype, names twice, numbers and nesting without end.

Each hostile item is put in the place of every item of a sound sample, and beside it, in byte strings too.
"""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

NAMES: Final = ("__proto__", "constructor", "prototype", "toString", "then", "__defineGetter__", "hasOwnProperty")


def head(major: int, number: int) -> bytes:
    """Return the shortest head of an item."""
    if number < 24:
        return bytes([major << 5 | number])
    size = next(size for size in (1, 2, 4, 8) if number < 1 << 8 * size)
    return bytes([major << 5 | {1: 24, 2: 25, 4: 26, 8: 27}[size]]) + number.to_bytes(size, "big")


def _text(value: str) -> bytes:
    return head(3, len(value.encode())) + value.encode()


_POLLUTED: Final = b"\xa1" + _text("polluted") + b"\x01"
CBOR: Final[dict[str, bytes]] = {
    **{f"an object under {name}": b"\xa1" + _text(name) + _POLLUTED for name in NAMES},
    **{f"the text {name}": _text(name) for name in NAMES},
    "a number twice": b"\xa2\x01\x01\x01\x02",
    "a name twice": b"\xa2" + 2 * (_text("a") + b"\x01"),
    "__proto__ twice": b"\xa2" + 2 * (_text("__proto__") + _POLLUTED),
    "bytes as a name": b"\xa1\x41\x01\x01",
    "a map as a name": b"\xa1\xa0\x01",
    "NaN": b"\xf9\x7e\x00",
    "NaN with a message": b"\xfb\x7f\xf8\x00\x00\x00\x00\x00\x01",
    "infinity": b"\xf9\x7c\x00",
    "minus infinity": b"\xfa\xff\x80\x00\x00",
    "1.5": b"\xf9\x3e\x00",
    "minus zero": b"\xf9\x80\x00",
    "1 as a float": b"\xf9\x3c\x00",
    "2^53 - 1": b"\x1b\x00\x1f\xff\xff\xff\xff\xff\xff",
    "2^53": b"\x1b\x00\x20\x00\x00\x00\x00\x00\x00",
    "2^64 - 1": b"\x1b" + 8 * b"\xff",
    "minus one": b"\x20",
    "minus 2^64": b"\x3b" + 8 * b"\xff",
    "a big number": b"\xc2\x49\x01" + 8 * b"\x00",
    "one, too long": b"\x18\x01",
    "one, in eight bytes": b"\x1b" + 7 * b"\x00" + b"\x01",
    "undefined": b"\xf7",
    "null": b"\xf6",
    "true": b"\xf5",
    "a simple value": b"\xf8\xff",
    "half of a pair": b"\x63\xed\xa0\x80",
    "text that is no UTF-8": b"\x61\xff",
    "the mark of a byte order": _text("\ufeff"),
    "a NUL": _text("\0"),
    "a date": b"\xc1\x1a\x6a\xb1\x3b\x80",
    "CBOR within CBOR": b"\xd8\x18\x41\x01",
    "an array without end": b"\x9f\x01\xff",
    "a map without end": b"\xbf\x01\x01\xff",
    "bytes without end": b"\x5f\x41\x01\xff",
    "an array of 2^64 - 1": b"\x9b" + 8 * b"\xff",
    "a map of 2^32": b"\xbb\x00\x00\x00\x01\x00\x00\x00\x00",
    "bytes of 2^63": b"\x5b\x80" + 7 * b"\x00",
    "text of 2^53": b"\x7b\x00\x20" + 6 * b"\x00",
    "a break": b"\xff",
    "sixty arrays in each other": 60 * b"\x81" + b"\x01",
    "sixty maps in each other": 60 * b"\xa1\x01" + b"\x01",
    "ten thousand arrays in each other": 10_000 * b"\x81" + b"\x01",
    "five thousand maps in each other": 5_000 * b"\xa1\x01" + b"\x01",
    "five thousand tags": 5_000 * b"\xc1" + b"\x01",
}
_NESTED: Final = '{"a":' * 5_000 + "1" + "}" * 5_000
JSON: Final[dict[str, str]] = {
    **{f"an object under {name}": f'{{"{name}":{{"polluted":1}}}}' for name in NAMES},
    **{f"the text {name}": f'"{name}"' for name in NAMES},
    "__proto__ by its escapes": '{"\\u005f\\u005fproto\\u005f\\u005f":{"polluted":1}}',
    "a name twice": '{"a":1,"a":2}',
    "a name twice, once by its escapes": '{"a":1,"\\u0061":2}',
    "NaN": "NaN",
    "infinity": "Infinity",
    "1e999": "1e999",
    "minus zero": "-0",
    "1.5": "1.5",
    "one as a float": "1.0",
    "2^53": "9007199254740992",
    "2^53 + 1": "9007199254740993",
    "a number of 5,000 digits": "9" * 5_000,
    "a negative number": "-1",
    "half of a pair": '"\\ud800"',
    "a pair the wrong way round": '"\\udc00\\ud800"',
    "a NUL": '"\\u0000"',
    "the mark of a byte order": '"\\ufeff"',
    "null": "null",
    "true": "true",
    "an empty object": "{}",
    "a number": "7",
    "arrays in each other": "[" * 10_000 + "]" * 10_000,
    "objects in each other": _NESTED,
    "what toJSON is": '{"toJSON":1,"valueOf":2,"length":4294967296}',
}


@dataclass
class Item:
    """A CBOR item: what stands in place of it, or its own parts."""

    octets: bytes = b""
    major: int = -1
    parts: list[Item] = field(default_factory=list)

    def encode(self) -> bytes:
        """Return its bytes; a byte string's parts are what lies in it."""
        if not self.parts and self.major < 0:
            return self.octets
        inner = b"".join(part.encode() for part in self.parts)
        counts = {2: len(inner), 4: len(self.parts), 5: len(self.parts) // 2}
        return self.octets if self.major == 6 else head(self.major, counts[self.major]) + inner

    def all(self) -> Iterator[Item]:
        """Give it and all that lies in it."""
        yield self
        for part in self.parts:
            yield from part.all()


class NotRead(Exception):
    """The bytes are no CBOR that this reader knows: it is for samples that the formats' writers made."""


def read(data: bytes) -> Item:
    """Read one item that fills the bytes."""
    item, end = _read(data, 0)
    if end != len(data):
        raise NotRead
    return item


def _read(data: bytes, start: int) -> tuple[Item, int]:
    if start >= len(data):
        raise NotRead
    major, low = data[start] >> 5, data[start] & 31
    size = {24: 1, 25: 2, 26: 4, 27: 8}.get(low, 0)
    at = start + 1 + size
    if low > 27 or at > len(data) or major == 6:
        raise NotRead
    number = int.from_bytes(data[start + 1 : at], "big") if size else low
    if major in (4, 5):
        parts = []
        for _ in range(number * (major - 3)):
            part, at = _read(data, at)
            parts.append(part)
        return Item(major=major, parts=parts), at
    end = at + number if major in (2, 3) else at
    if end > len(data):
        raise NotRead
    if major == 2 and number > 1:
        try:
            return Item(major=2, parts=[read(data[at:end])]), end
        except NotRead:
            pass
    return Item(data[start:end]), end


Input = Callable[[], bytes]


def of_cbor(sample: bytes) -> Iterator[Input]:
    """Give what makes a sample with each hostile item in each place, and with one more entry in each array and map."""
    for octets in CBOR.values():
        yield partial(bytes, octets)
    try:
        whole = read(sample)
    except NotRead:
        return
    for item in whole.all():
        for octets in CBOR.values():
            yield partial(_spliced, whole, item, Item(octets))
            if item.major in (4, 5):
                more = [*item.parts, *itertools.repeat(Item(octets), item.major - 3)]
                yield partial(_spliced, whole, item, Item(major=item.major, parts=more))


def _spliced(whole: Item, item: Item, other: Item) -> bytes:
    kept = item.octets, item.major, item.parts
    item.octets, item.major, item.parts = other.octets, other.major, other.parts
    made = whole.encode()
    item.octets, item.major, item.parts = kept
    return made


def of_json(sample: bytes) -> Iterator[Input]:
    """Give what makes an object with each hostile value under each name and a prototype's, and with each name twice."""
    for text in JSON.values():
        yield partial(f"{text}\n".encode)
    fields = {name: json.dumps(value) for name, value in json.loads(sample).items()}
    end = "\n" if sample.endswith(b"\n") else ""
    for text in JSON.values():
        for name in fields:
            yield partial(_line, {**fields, name: text}.items(), end)
        for name in NAMES:
            yield partial(_line, {name: text, **fields}.items(), end)
            yield partial(_line, {**fields, name: text}.items(), end)
    for name, value in fields.items():
        yield partial(_line, [*fields.items(), (name, value)], end)
        # Read by inheritance, it would be there all the same.
        others = {other: found for other, found in fields.items() if other != name}
        yield partial(_line, {**others, "__proto__": f'{{"{name}":{value}}}'}.items(), end)


def _line(fields: Iterable[tuple[str, str]], end: str) -> bytes:
    return ("{" + ",".join(f"{json.dumps(name)}:{value}" for name, value in fields) + "}" + end).encode()


def inputs(samples: Sequence[bytes], number: int, chance: random.Random) -> list[bytes]:
    """Return so many hostile inputs, by chance where there are more."""
    found: list[Input] = []
    for sample in samples:
        try:
            is_json = isinstance(json.loads(sample), dict)
        except ValueError:
            is_json = False
        found += of_json(sample) if is_json else of_cbor(sample)
    return [make() for make in (chance.sample(found, number) if len(found) > number else found)]
