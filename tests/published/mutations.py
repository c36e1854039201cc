# SPDX-License-Identifier: Apache-2.0
"""What a reader of a dCBOR map must refuse, whatever the map means."""

from __future__ import annotations

from typing import Any

from holdfast.core.base.encoding import MAX_VAULT, decode, encode


def malformed(octets: bytes, *, prefix: bytes = b"") -> dict[str, bytes]:
    """Return a map's malformed forms by what is wrong with each; prefix: what stands before the map in its format."""
    value: Any = decode(octets, max_size=2 * MAX_VAULT)
    forms = {
        "empty": b"",
        "cut by one byte": octets[:-1],
        "cut in half": octets[: len(octets) // 2],
        "a byte after it": octets + b"\0",
        "twice": octets + octets,
        "an array": encode(list(value.values())),
        "an indefinite map": b"\xbf" + octets[1:] + b"\xff",
        "a map with a long head": b"\xb8" + bytes([len(value)]) + octets[1:],
        "an unknown field": encode({**value, 99: 0}),
        "a tag before it": b"\xc1" + octets,
        "another version": encode({**value, 1: 2}),
        "version 0": encode({**value, 1: 0}),
        "no fields": encode({}),
        "a map inside an array": encode([value]),
    }
    for key in sorted(value):
        forms[f"field {key} missing"] = encode({one: part for one, part in value.items() if one != key})
        forms[f"field {key} of another type"] = encode({**value, key: [] if isinstance(value[key], int | bytes) else 0})
    return {why: prefix + form for why, form in forms.items()}


def rows(forms: dict[str, bytes], **also: str) -> list[dict[str, str]]:
    """Return mutations as they are published."""
    return [{"why": why, "octets": form.hex(), **also} for why, form in forms.items()]
