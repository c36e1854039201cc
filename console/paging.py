# SPDX-License-Identifier: Apache-2.0
"""Lists in pages: which one is asked for, and the addresses of those beside it."""

from __future__ import annotations

from typing import Any, Final

from django.http import HttpRequest

PAGE: Final = 50  # rows: what a person still looks through


def page_number(request: HttpRequest) -> int:
    """Return the page asked for, from 1; what is no number is the first page."""
    text = request.GET.get("page", "1")
    return max(1, int(text)) if text.isascii() and text.isdigit() and len(text) < 7 else 1


def pages(number: int, total: int, **kept: str) -> dict[str, Any]:
    """Return what the pager needs: its place, the pages beside it, and the filters to keep."""
    first = (number - 1) * PAGE
    return {
        "first": min(first + 1, total),
        "last": min(first + PAGE, total),
        "total": total,
        "previous": number - 1 if number > 1 else None,
        "next": number + 1 if first + PAGE < total else None,
        "kept": {name: value for name, value in kept.items() if value},
    }
