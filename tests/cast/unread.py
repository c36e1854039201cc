# SPDX-License-Identifier: Apache-2.0
"""Bytes that this library would never give out, for readers to refuse: a writer without its own reader's look."""

from __future__ import annotations

from typing import Any


def unread(made: Any, writer: str = "to_payload") -> Any:
    """Return what a writing method writes before its reader has seen it."""
    method = getattr(type(made), writer)
    return getattr(method, "__wrapped__", method)(made)
