# SPDX-License-Identifier: Apache-2.0
"""Strict JSON for security-relevant bodies: one meaning per body, or a refusal.

RFC 8259 read as RFC 7493 (I-JSON) advises: UTF-8, unique names, finite numbers; plus caps on size and
depth (FAULTS I1a to I5a). It knows no field names.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, NoReturn, cast

import orjson
from rest_framework.parsers import BaseParser
from rest_framework.renderers import BaseRenderer

from kernel.errors import InvalidJson, TooLarge

MAX_BODY = 64 * 1024
MAX_DEPTH = 16
MAX_INT = 2**63 - 1
# 20 characters hold every integer up to MAX_INT with its sign; Python's own limit of 4,300 digits
# would let a client spend our time first.
MAX_DIGITS = 20

# Possessive, and content with a missing end: whatever stands here is passed once. With an end that has to be there, a
# body of quotes and backslashes is tried again from each of them, which takes a minute for 64 KiB.
_STRINGS = re.compile(rb'"(?:[^"\\]|\\.)*+"?', re.DOTALL)
_BRACKETS = re.compile(rb"[\[\]{}]")


def loads(body: bytes, *, max_size: int = MAX_BODY) -> Any:
    """Decode one JSON text.

    Raises TooLarge above `max_size` octets, and InvalidJson (the sender's fault) for anything that
    two parsers could read differently: duplicate names, NaN, infinities, numbers beyond 64 bits,
    lone surrogates, invalid UTF-8, a byte-order mark, nesting deeper than 16.
    """
    if len(body) > max_size:
        raise TooLarge(f"The body may have at most {max_size} octets.")
    _check_depth(body)
    try:
        text = body.decode("utf-8")
        value = json.loads(
            text,
            object_pairs_hook=_unique,
            parse_constant=_no_constant,
            parse_int=_bounded_int,
            parse_float=_finite_float,
        )
    except UnicodeDecodeError:
        raise InvalidJson("The body is not valid UTF-8.") from None
    except json.JSONDecodeError as error:
        raise InvalidJson(f"The body is not valid JSON: line {error.lineno}, column {error.colno}.") from None
    except RecursionError:
        raise InvalidJson("The body is nested too deeply.") from None
    if "\\u" in text:
        # Only an escape can bring in half of a surrogate pair; the decoder lets it pass.
        _check_surrogates(value)
    return value


def dumps(value: Any) -> bytes:
    """Encode an answer as UTF-8 JSON."""
    return orjson.dumps(value)


def _check_depth(body: bytes) -> None:
    """Refuse deep nesting before any recursive parser sees it. Brackets in strings do not count."""
    # Nothing is nested deeper than it has brackets. Of a body that is one long text, finding where strings end takes
    # longer than all the rest.
    if body.count(b"[") + body.count(b"{") <= MAX_DEPTH:
        return
    depth = 0
    for bracket in _BRACKETS.findall(_STRINGS.sub(b"", body)):
        depth += 1 if bracket in b"[{" else -1
        if depth > MAX_DEPTH:
            raise InvalidJson(f"The body is nested more than {MAX_DEPTH} levels deep.")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise InvalidJson("A name appears twice in one object.", field=twice[:80])
    return result


def _no_constant(name: str) -> NoReturn:
    raise InvalidJson(f"{name} is not a JSON number.")


def _bounded_int(digits: str) -> int:
    if len(digits) > MAX_DIGITS or abs(number := int(digits)) > MAX_INT:
        raise InvalidJson("A number is out of range.")
    return number


def _finite_float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise InvalidJson("A number is out of range.")
    return number


def _check_surrogates(value: Any) -> None:
    if isinstance(value, str):
        if any("\ud800" <= char <= "\udfff" for char in value):
            raise InvalidJson("A string holds half of a surrogate pair.")
    elif isinstance(value, dict):
        for name, inner in value.items():
            _check_surrogates(name)
            _check_surrogates(inner)
    elif isinstance(value, list):
        for inner in value:
            _check_surrogates(inner)


class StrictJsonParser(BaseParser):
    """Reads a request body by `loads`, with the view's own `max_body` when it has one."""

    media_type = "application/json"

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> Any:
        view = (parser_context or {}).get("view")
        limit = getattr(view, "max_body", MAX_BODY)
        # One octet more than allowed tells too large from just large enough without reading it all.
        return loads(cast(bytes, stream.read(limit + 1)), max_size=limit)


class JsonRenderer(BaseRenderer):
    """Writes answers by `dumps`."""

    media_type = "application/json"
    format = "json"
    charset = None

    def render(self, data: Any, accepted_media_type: str | None = None, renderer_context: Any = None) -> bytes:
        if data is None:
            return b""
        if isinstance(data, bytes):
            return data  # an idempotent answer, replayed as it was
        return dumps(data)
