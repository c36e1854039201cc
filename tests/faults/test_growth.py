# SPDX-License-Identifier: Apache-2.0
"""No body costs more than in proportion to its length: doubling a hostile input at most doubles the CPU it takes.

Ratios of one process's CPU time, so that a busy machine changes nothing; a figure that noise spoilt is taken again.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from functools import partial

import pytest

from holdfast.client.server import answers
from holdfast.core.log import log_export
from holdfast.core.signed.requests import parse_signature
from kernel import strict_json
from tenants import names
from tenants.imports import reading
from tenants.sources import _parse as parse_address
from tests.faults.fuzz.parsers import PARSERS, text_of

# Bytes. The short one first: what grows with the square takes minutes at the other.
SIZES = (4 * 1024, 32 * 1024)
MOST = 2.5
# Below this, a call costs next to nothing at either length.
NOTHING_SECONDS = 0.004
TRIES = 4

# What each input is made of, up to its length: quotes and escapes, openings without an end, what patterns repeat on.
HOSTILE: dict[str, Callable[[int], bytes]] = {
    "escaped quotes": lambda size: b'"' + b'\\"' * (size // 2),
    "escaped quotes in an object": lambda size: b'{"a":"' + b'\\"' * (size // 2),
    "backslashes": lambda size: b'"' + b"\\" * size,
    "quotes": lambda size: b'"' * size,
    "arrays": lambda size: b"[" * size,
    "objects": lambda size: b'{"a":' * (size // 5),
    "pairs of one name": lambda size: b"{" + b'"a":1,' * (size // 6) + b'"a":1}',
    "pairs of many names": lambda size: b"{" + b",".join(b'"%d":1' % n for n in range(size // 9)) + b"}",
    "many items": lambda size: b"[" + b"1," * (size // 2) + b"1]",
    "digits": lambda size: b"9" * size,
    "surrogates": lambda size: b'"' + b"\\ud800" * (size // 6) + b'"',
    "CBOR arrays": lambda size: b"\x81" * size,
    "CBOR maps": lambda size: b"\xa1\x01" * (size // 2),
    "CBOR of any length": lambda size: b"\x9f" * size,
    "one CBOR array": lambda size: b"\x99" + (size & 0xFFFF).to_bytes(2, "big") + b"\x00" * size,
    "letters": lambda size: b"a" * size,
    "capitals": lambda size: b"A" * size,
    "words": lambda size: b"abandon " * (size // 8),
    "letters and dashes": lambda size: b"a-" * (size // 2),
    "letters and dots": lambda size: b"a@" + b"a." * (size // 2),
    "at signs": lambda size: b"a@" * (size // 2),
    "dashes": lambda size: b"-" * size,
    "spaces": lambda size: b" " * size,
    "lines": lambda size: b"a\n" * (size // 2),
    "commas": lambda size: b"1," * (size // 2),
    "colons": lambda size: b"sig1=:" * (size // 6),
    "parameters": lambda size: b'sig1=("@method")' + b";a=1" * (size // 4),
    "claims": lambda size: b'"id":"' * (size // 6),
    "zeros": lambda size: b"\x00" * size,
    "full-width letters": lambda size: "ａ".encode() * (size // 3),
    "combining marks": lambda size: b"a" + "\u0301".encode() * (size // 2),
    "falling marks": lambda size: b"a" + "\u0301\u0323".encode() * (size // 4),
}

FEEDS: dict[str, Callable[[bytes], object]] = {
    **{name: parser.feed for name, parser in PARSERS.items()},
    "request body": partial(strict_json.loads, max_size=4 * SIZES[-1]),
    "answer": answers.parse,
    "signature": text_of(lambda text: parse_signature("POST", text, text)),
    "forwarded address": text_of(parse_address),
    "slug": text_of(names.slug),
    "address": text_of(names.email_key),
    "display name": text_of(names.display_name),
    "file of people": lambda octets: list(reading.lines(reading.text_of(octets))),
    "log line": log_export.ExportedEntry.claimed,
}


def cpu_of(feed: Callable[[bytes], object], data: bytes, times: int = 1) -> float:
    started = time.process_time()
    for _ in range(times):
        with contextlib.suppress(Exception):  # which refusal it is, other tests say
            feed(data)
    return time.process_time() - started


def growth_of(feed: Callable[[bytes], object], make: Callable[[int], bytes]) -> float:
    """How much more an input of twice the length takes: 0 when both take next to nothing."""
    grown = 0.0
    for size in SIZES:
        grown = _growth_at(feed, make(size), make(2 * size))
        if grown > MOST:
            break
    return grown


def _growth_at(feed: Callable[[bytes], object], small: bytes, large: bytes) -> float:
    best = float("inf")
    for _ in range(TRIES):
        longer = cpu_of(feed, large)
        if longer < NOTHING_SECONDS:
            return 0
        # Often enough that the clock's steps do not matter.
        times = max(1, int(0.02 / longer))
        best = min(best, cpu_of(feed, large, times) / max(cpu_of(feed, small, times), 1e-9))
        if best <= MOST:
            break
    return best


@pytest.mark.parametrize("name", FEEDS)
def test_twice_the_input_takes_at_most_two_and_a_half_times_the_cpu(name: str) -> None:
    grown = {kind: growth_of(FEEDS[name], make) for kind, make in HOSTILE.items()}
    assert {kind: round(ratio, 1) for kind, ratio in grown.items() if ratio > MOST} == {}


def test_the_measure_finds_what_grows_with_the_square() -> None:
    def quadratic(data: bytes) -> int:
        return sum(data[:at].count(b"a") for at in range(0, len(data), 16))

    assert growth_of(quadratic, lambda size: b"a" * size) > MOST
