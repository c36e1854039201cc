# SPDX-License-Identifier: Apache-2.0
"""Lists in pages: which page is asked for in which order, and the addresses of those beside it.

What is asked for comes from the address, and is only ever looked up: by which columns a list is sorted, its page says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

from django.http import HttpRequest

PAGE: Final = 50  # rows: what a person still looks through


@dataclass(frozen=True)
class Column:
    """One column of a table. name: by what the address sorts by it, "" for a column that nothing is sorted by.

    order: the fields behind it, the last of them unique; for a list that is sorted in another way, none.
    """

    words: str
    name: str = ""
    order: tuple[str, ...] = ()
    is_number: bool = False


@dataclass(frozen=True)
class Head:
    """The head of a column. aria: `ascending` or `descending` where the list is sorted by it, "" elsewhere.

    to: the address that sorts by it, or the other way round; "" where nothing does.
    """

    words: str
    to: str
    aria: str
    is_number: bool


@dataclass(frozen=True)
class Listing:
    """One list as its address asks for it: filters to keep, the column that it is sorted by, and the page.

    sort: the column's name, "-" before it for the other way round.
    """

    columns: tuple[Column, ...]
    sort: str
    number: int
    kept: dict[str, str]
    by_default: str

    @classmethod
    def of(cls, request: HttpRequest, columns: Sequence[Column], *, by_default: str, **kept: str) -> Listing:
        """Read an address. What names no column that can be sorted by, is the order of default.

        by_default: a column's name, or "-" and a name. kept: the filters by name; empty ones are left out.
        """
        asked = request.GET.get("sort", by_default)
        names = {column.name for column in columns if column.name}
        sort = asked if asked.removeprefix("-") in names else by_default
        found = {name: value for name, value in kept.items() if value}
        return cls(tuple(columns), sort, page_number(request), found, by_default)

    @property
    def start(self) -> int:
        """How many rows come before this page."""
        return (self.number - 1) * PAGE

    @property
    def is_reversed(self) -> bool:
        """Whether the list goes from the last to the first."""
        return self.sort.startswith("-")

    @property
    def order(self) -> tuple[str, ...]:
        """Return the fields to order by. Each is turned round together with the column."""
        (column,) = (one for one in self.columns if one.name == self.sort.removeprefix("-"))
        if not self.is_reversed:
            return column.order
        return tuple(name.removeprefix("-") if name.startswith("-") else f"-{name}" for name in column.order)

    def address(self, **changes: str | int) -> str:
        """Return the address of this list with changes; one whose value is "" is left out."""
        told = {"sort": self.sort} if self.sort != self.by_default else {}
        asked = {**self.kept, **told, **changes}
        return "?" + urlencode({name: value for name, value in asked.items() if value != ""})

    def heads(self) -> list[Head]:
        """Return the table's heads, each with the address that sorts by it."""
        return [self._head(column) for column in self.columns]

    def _head(self, column: Column) -> Head:
        if not column.name:
            return Head(column.words, "", "", column.is_number)
        is_sorted = self.sort.removeprefix("-") == column.name
        aria = ("descending" if self.is_reversed else "ascending") if is_sorted else ""
        other = f"-{column.name}" if self.sort == column.name else column.name
        # Another order begins on its first page.
        to = self.address(sort="" if other == self.by_default else other)
        return Head(column.words, to, aria, column.is_number)

    def pages(self, total: int) -> dict[str, Any]:
        """Return what the pager needs of a list of so many rows: its place, and the addresses beside it."""
        last = max(1, -(-total // PAGE))
        return {
            "first": min(self.start + 1, total),
            "last": min(self.start + PAGE, total),
            "total": total,
            "number": self.number,
            "of": last,
            "is_beyond": self.number > last,
            "end": self.address(page=last),
            "previous": self.address(page=self.number - 1) if 1 < self.number <= last else "",
            "next": self.address(page=self.number + 1) if self.number < last else "",
        }

    def shown(self, total: int, **more: Any) -> dict[str, Any]:
        """Return what the templates of a list need: its heads, its pager, and where its filters are cleared."""
        return {"heads": self.heads(), "pages": self.pages(total), "sort": self.sort_asked, **more}

    @property
    def sort_asked(self) -> str:
        """Return the order for a form's hidden field; "" for the order of default."""
        return "" if self.sort == self.by_default else self.sort


def page_number(request: HttpRequest) -> int:
    """Return the page asked for, from 1; what is no number is the first page."""
    text = request.GET.get("page", "1")
    return max(1, int(text)) if text.isascii() and text.isdigit() and len(text) < 7 else 1
