# SPDX-License-Identifier: Apache-2.0
"""Strict reading of the server's JSON answers.

Implements PROTOCOL section 3 for REST: unique names, finite numbers, base64url without padding, UUIDs.
Does not verify signatures: a value that reads well is still only what the server claims.
"""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final, NoReturn

from holdfast.client.errors import AnswerRefused
from holdfast.core.base.encoding import unb64u
from holdfast.core.base.errors import Malformed

MAX_ANSWER: Final = 2 * 1024 * 1024  # a vault of 1 MiB in base64url, with room for its statement
_MAX_DEPTH: Final = 16


def parse(body: bytes) -> Answer:
    """Decode one JSON object. Raises AnswerRefused for anything that two parsers could read differently."""
    try:
        value = json.loads(
            body.decode(),
            object_pairs_hook=_unique,
            parse_constant=_refuse_number,
            parse_float=_finite,
        )
        if b"\\u" in body:
            # Half a surrogate pair is text in JSON and nowhere else: it could be neither kept nor shown.
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        raise AnswerRefused("The server's answer is not JSON of the strict kind.") from None
    if not isinstance(value, dict) or _depth(value) > _MAX_DEPTH:
        raise AnswerRefused("The server's answer is not a JSON object, or is nested too deeply.")
    return Answer(value)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a name twice")
    return value


def _refuse_number(_text: str) -> NoReturn:
    raise ValueError("NaN and infinities are no JSON")


def _finite(text: str) -> float:
    # 1e999 is infinite in one language and an error in the next.
    if not math.isfinite(number := float(text)):
        raise ValueError("not finite")
    return number


def _depth(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + max((_depth(item) for item in inner), default=0)


class Answer:
    """Typed reading of one JSON object. Every reader raises AnswerRefused, naming the field.

    Unknown fields are let be: a newer server may say more, and nothing here believes it.
    """

    __slots__ = ("_map", "_where")

    def __init__(self, value: dict[str, Any], where: str = "") -> None:
        self._map = value
        self._where = where

    def __contains__(self, name: str) -> bool:
        return self._map.get(name) is not None

    def _refuse(self, name: str, what: str) -> AnswerRefused:
        return AnswerRefused(f"The server's answer is wrong: {self._where}{name} {what}.")

    def text(self, name: str, *, maximum: int = 4096) -> str:
        """Return text of at most `maximum` characters."""
        value = self._map.get(name)
        if not isinstance(value, str) or len(value) > maximum:
            raise self._refuse(name, f"is not text of at most {maximum} characters")
        return value

    def number(self, name: str) -> int:
        """Return an integer of 0..2^53-1."""
        value = self._map.get(name)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**53:
            raise self._refuse(name, "is not an integer of 0..2^53-1")
        return value

    def flag(self, name: str) -> bool:
        """Return true or false."""
        value = self._map.get(name)
        if not isinstance(value, bool):
            raise self._refuse(name, "is not true or false")
        return value

    def octets(self, name: str, size: int | None = None, *, maximum: int = MAX_ANSWER) -> bytes:
        """Return the bytes of strict base64url text; exactly `size` of them when given."""
        return _octets(self._map.get(name), size, maximum, lambda what: self._refuse(name, what))

    def identifier(self, name: str) -> bytes:
        """Return the 16 bytes of a UUID in its canonical text."""
        value = self._map.get(name)
        try:
            parsed = uuid.UUID(value) if isinstance(value, str) else None
        except ValueError:
            parsed = None
        if parsed is None or str(parsed) != value:
            raise self._refuse(name, "is not a UUID")
        return parsed.bytes

    def time(self, name: str) -> int:
        """Return UTC seconds of an RFC 3339 time to the second, from 1970 on."""
        try:
            seconds = parse_time(self.text(name))
        except ValueError:
            seconds = -1
        if seconds < 0:
            raise self._refuse(name, "is not a time like 2026-11-24T10:00:00Z")
        return seconds

    def one(self, name: str) -> Answer:
        """Return an object inside this one."""
        value = self._map.get(name)
        if not isinstance(value, dict):
            raise self._refuse(name, "is not an object")
        return Answer(value, f"{self._where}{name}.")

    def values(self) -> dict[str, str | int]:
        """Return this object as texts and integers by their names, where it holds nothing else."""
        for name in self._map:
            if not isinstance(self._map[name], str):
                self.number(name)
        return dict(self._map)

    def many(self, name: str, *, maximum: int = 10_000) -> Iterator[Answer]:
        """Return the objects of an array."""
        for index, value in enumerate(self._array(name, maximum)):
            if not isinstance(value, dict):
                raise self._refuse(f"{name}[{index}]", "is not an object")
            yield Answer(value, f"{self._where}{name}[{index}].")

    def rows(self, name: str, width: int, *, maximum: int = 10_000) -> Iterator[Answer]:
        """Return the fixed-width arrays of an array; their items are then named "0", "1", …"""
        for index, value in enumerate(self._array(name, maximum)):
            if not isinstance(value, list) or len(value) != width:
                raise self._refuse(f"{name}[{index}]", f"is not an array of {width}")
            yield Answer({str(at): item for at, item in enumerate(value)}, f"{self._where}{name}[{index}].")

    def many_octets(self, name: str, *, maximum: int = 10_000) -> list[bytes]:
        """Return an array of base64url texts as bytes."""
        items = self._array(name, maximum)
        return [
            _octets(item, None, MAX_ANSWER, lambda what, at=index: self._refuse(f"{name}[{at}]", what))
            for index, item in enumerate(items)
        ]

    def numbers(self, name: str, *, maximum: int = 10_000) -> list[int]:
        """Return an array of integers of 0..2^53-1."""
        items = self._array(name, maximum)
        return [Answer({name: item}, self._where).number(name) for item in items]

    def texts(self, name: str, *, maximum: int = 10_000) -> list[str]:
        """Return an array of texts."""
        items = self._array(name, maximum)
        if not all(isinstance(item, str) for item in items):
            raise self._refuse(name, "is not an array of texts")
        return items

    def _array(self, name: str, maximum: int) -> list[Any]:
        value = self._map.get(name)
        if not isinstance(value, list) or len(value) > maximum:
            raise self._refuse(name, f"is not an array of at most {maximum} items")
        return value


def _octets(value: Any, size: int | None, maximum: int, refuse: Any) -> bytes:
    try:
        data = unb64u(value, max_size=maximum) if isinstance(value, str) else None
    except Malformed:
        data = None
    if data is None or (size is not None and len(data) != size):
        raise refuse(f"is not base64url of {size if size is not None else f'at most {maximum}'} bytes")
    return data


def parse_time(text: str) -> int:
    """Return the UTC seconds of `2026-11-24T10:00:00Z`. Raises ValueError for any other form."""
    return int(datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp())


def uuid_text(identifier: bytes) -> str:
    """Return the text of a 16-byte identifier, as paths and JSON have it."""
    return str(uuid.UUID(bytes=identifier))


def uuid_bytes(text: str) -> bytes:
    """Return the 16 bytes of a UUID that a person typed. Raises ValueError for anything else."""
    return uuid.UUID(text.strip()).bytes
