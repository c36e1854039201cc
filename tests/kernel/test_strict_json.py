# SPDX-License-Identifier: Apache-2.0
"""Strict JSON: one meaning per body, or a 400 (FAULTS I1a to I5a)."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.errors import DomainError, InvalidJson, TooLarge
from kernel.strict_json import MAX_DEPTH, dumps, loads

REFUSED = {
    "empty": b"",
    "nothing but space": b"  ",
    "trailing bytes": b"{}{}",
    "single quotes": b"{'a': 1}",
    "invalid UTF-8": b'{"a": "\xff"}',
    "overlong UTF-8": b'{"a": "\xc0\x80"}',
    "byte-order mark": b"\xef\xbb\xbf{}",
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "NaN": b'{"a": NaN}',
    "Infinity": b'{"a": Infinity}',
    "minus Infinity": b'{"a": -Infinity}',
    "1e999": b'{"a": 1e999}',
    "minus 1e999": b'{"a": -1e999}',
    "5,000 digits": b'{"a": ' + b"9" * 5000 + b"}",
    "2**63": b'{"a": 9223372036854775808}',
    "duplicate name": b'{"a": 1, "a": 2}',
    "duplicate name, escaped": b'{"a": 1, "\\u0061": 2}',
    "duplicate name, nested": b'{"x": [{"a": 1, "a": 1}]}',
    "lone high surrogate": b'{"a": "\\ud800"}',
    "lone low surrogate": b'{"a": "\\udc00"}',
    "lone surrogate as name": b'{"\\ud800": 1}',
    "surrogates in the wrong order": b'{"a": "\\udc00\\ud800"}',
    "raw control character": b'{"a": "\x00"}',
    "depth one too many": b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1),
    "depth 100,000": b"[" * 30_000 + b"]" * 30_000,
    "depth of objects": b'{"a":' * 40 + b"1" + b"}" * 40,
    "unbalanced": b"[" * 10,
}


@pytest.mark.parametrize("name", REFUSED)
def test_loads_refuses(name: str) -> None:
    with pytest.raises(InvalidJson):
        loads(REFUSED[name])


def test_loads_refuses_a_body_above_the_limit() -> None:
    with pytest.raises(TooLarge):
        loads(b'"' + b"a" * 100 + b'"', max_size=100)


def test_loads_accepts_what_is_just_within_every_limit() -> None:
    assert loads(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH)
    assert loads(b'{"a": 9223372036854775807, "b": -1.5e300, "c": "\\ud83d\\ude00"}') == {
        "a": 2**63 - 1,
        "b": -1.5e300,
        "c": "😀",
    }
    assert loads(b'{"a": "[[[[[[[[[[[[[[[[[[[[[[ \\" {{{{{{"}') == {"a": '[[[[[[[[[[[[[[[[[[[[[[ " {{{{{{'}


def test_loads_names_the_duplicate() -> None:
    with pytest.raises(InvalidJson) as caught:
        loads(b'{"state": 1, "state": 2}')
    assert caught.value.field == "state"


@given(st.binary(max_size=200))
def test_loads_answers_any_octets_with_a_value_or_a_refusal(body: bytes) -> None:
    try:
        value = loads(body)
    except DomainError:
        return
    assert json.loads(body) == value


@given(
    st.recursive(st.none() | st.booleans() | st.integers(-(2**63) + 1, 2**63 - 1) | st.text(), st.lists, max_leaves=5)
)
def test_loads_reads_back_what_dumps_writes(value: object) -> None:
    assert loads(dumps(value)) == value
