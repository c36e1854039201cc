# SPDX-License-Identifier: Apache-2.0
"""A CSV file of people, read line by line: each line is somebody to invite, or is named with what is wrong with it.

Implements ORGANISATION "People from a file". Who is here already, the database says; this asks none.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from holdfast.core.base.addresses import mixed_letters
from holdfast.core.base.text import is_hidden, written_out
from tenants import names
from tenants.errors import ImportRefused, NameRefused
from tenants.imports.cells import is_formula, unescaped
from tenants.roles import Role

MAX_FILE: Final = 4 * 1024 * 1024  # bytes: 10,000 lines of 400 characters
MAX_LINES: Final = 10_000
MAX_CELL: Final = 1024  # characters: no name or address has more, and a quote that is not closed soon has
KEPT_CELLS: Final = 4  # of a bad line, to find it again
_COLUMNS: Final = ("name", "email", "role")
# What the heads of columns are called, in lower case. What an export holds beside is passed over.
_HEADS: Final = {
    "name": "name",
    "email": "email",
    "e-mail": "email",
    "e-mail address": "email",
    "email address": "email",
    "role": "role",
    "state": "",
    "id": "",
}
_SEPARATORS: Final = (",", ";", "\t")
_ROLES: Final = {text.casefold(): role for role in Role for text in (role.value, str(role.label))}


@dataclass(frozen=True)
class Line:
    """Somebody to invite. number: of the line on which they begin, from 1; key: of the address, as it is compared."""

    number: int
    name: str
    email: str
    key: str
    role: str


@dataclass(frozen=True)
class BadLine:
    """A line that invites nobody: which field is at fault, why, and its first cells (others' text) to find it by."""

    number: int
    field: str
    reason: str
    cells: tuple[str, ...]


class _Bad(Exception):
    def __init__(self, field: str, reason: str) -> None:
        super().__init__(reason)
        self.field, self.reason = field, reason


def text_of(octets: bytes) -> str:
    """Return the text of a file in UTF-8, with or without a byte-order mark. Raises ImportRefused, naming the line."""
    if len(octets) > MAX_FILE:
        raise ImportRefused("At most 4 MiB. Divide the file.", field="file")
    if octets[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise ImportRefused("Line 1: this is UTF-16. Save the file as “CSV UTF-8”.", field="file", line=1)
    try:
        return octets.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        number = octets.count(b"\n", 0, error.start) + 1
        raise ImportRefused(
            f"Line {number}: this is not UTF-8, but perhaps Latin-1 or Windows-1252. Save the file as “CSV UTF-8”.",
            field="file",
            line=number,
        ) from None


def lines(text: str) -> Iterator[Line | BadLine]:
    """Read a file's lines, one at a time; empty ones are passed over, and so is a line of heads.

    Raises ImportRefused, naming the line, for what cannot be read as lines at all, or has more than MAX_LINES.
    """
    text = text.removeprefix("\ufeff")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_separator(text))
    columns: tuple[str, ...] | None = None
    seen: dict[str, int] = {}
    count = 0
    while True:
        number = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error:
            # The cell is longer than the reader takes: by far more than any here may be.
            raise ImportRefused(
                f"Line {number}: a cell has more than {MAX_CELL:,} characters. Is a quote not closed?",
                field="file",
                line=number,
            ) from None
        if not any(cell.strip() for cell in cells):
            continue
        if columns is None:
            columns = _heads(cells, number)
            if columns:
                continue
            columns = _COLUMNS
        count += 1
        if count > MAX_LINES:
            raise ImportRefused(
                f"Line {number}: at most {MAX_LINES:,} people at once. Divide the file.", field="file", line=number
            )
        try:
            yield _person(cells, columns, number, seen)
        except _Bad as bad:
            # PostgreSQL keeps no NUL in a text.
            kept = tuple(cell[:MAX_CELL].replace("\0", written_out("\0")) for cell in cells[:KEPT_CELLS])
            yield BadLine(number, bad.field, bad.reason, kept)


def _separator(text: str) -> str:
    """Return what stands between cells: of the three, the one that is most in the first line that says something."""
    first = next((line for line in io.StringIO(text) if line.strip()), "")
    return max(_SEPARATORS, key=first[: 16 * MAX_CELL].count)


def _heads(cells: list[str], number: int) -> tuple[str, ...]:
    """Return the columns that a line of heads names, or none when it is a person already."""
    typed = [cell.strip().casefold() for cell in cells]
    if "email" not in {_HEADS.get(one) for one in typed}:
        return ()
    for one in typed:
        if one not in _HEADS:
            raise ImportRefused(
                f"Line {number}: there is no column “{written_out(one)[:40]}”. Take name, email, role.",
                field="file",
                line=number,
            )
    found = tuple(_HEADS[one] for one in typed)
    for name in _COLUMNS:
        if found.count(name) > 1 or (name == "name" and name not in found):
            raise ImportRefused(f"Line {number}: there has to be one column “{name}”.", field="file", line=number)
    return found


def _person(cells: list[str], columns: tuple[str, ...], number: int, seen: dict[str, int]) -> Line:
    given = {"name": "", "email": "", "role": ""}
    for place, cell in enumerate(cells):
        field = columns[place] if place < len(columns) else ""
        if len(cell) > MAX_CELL:
            raise _Bad(field, f"A cell has more than {MAX_CELL:,} characters. Is a quote not closed?")
        if place >= len(columns):
            if cell.strip():
                raise _Bad("", f"There are {len(cells)} columns, and {len(columns)} are expected.")
        elif field:
            given[field] = _plain(field, cell)
    key = _address(given["email"])
    try:
        name = names.display_name(given["name"])
    except NameRefused as error:
        raise _Bad("name", error.detail if given["name"] else "A name is needed.") from None
    role = _ROLES.get(given["role"].casefold()) if given["role"] else Role.MEMBER
    if role is None:
        raise _Bad("role", f"There is no such role. Take one of: {', '.join(Role.values)}.")
    if key in seen:
        raise _Bad("email", f"The address stands in line {seen[key]} already.")
    seen[key] = number
    return Line(number, name, given["email"], key, str(role))


def _plain(field: str, cell: str) -> str:
    if is_formula(cell):
        raise _Bad(field, "It begins like a formula of a spreadsheet. Put an apostrophe before it if it is meant.")
    text = unescaped(cell).strip()
    if "\n" in text or "\r" in text:
        raise _Bad(field, "A line ends within the cell. Is a quote not closed?")
    if any(map(is_hidden, text)):
        raise _Bad(field, "It holds characters that nobody sees.")
    return text


def _address(text: str) -> str:
    if not text:
        raise _Bad("email", "An e-mail address is needed.")
    try:
        key = names.email_key(text)
    except NameRefused as error:
        raise _Bad("email", error.detail) from None
    if mixed_letters(text):
        raise _Bad(
            "email",
            f"It has letters of another script, marked here: {names.marked(text)}. "
            "If it is right, invite this person by themselves.",
        )
    return key
