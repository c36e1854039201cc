# SPDX-License-Identifier: Apache-2.0
"""docs/layout.md says what stands where: each module has its one place in its tables, and nothing else has one.

Held to the tree for the rooms of `recovery`, the console, the library's two halves and the cast of the tests.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
LAYOUT = (PROJECT / "docs" / "layout.md").read_text()
CORE, CLIENT, CONSOLE = (PROJECT / path for path in ("holdfast/core", "holdfast/client", "console"))
COMMANDS = PROJECT / "holdfast" / "cli" / "commands"
# What every app has: an app's own beginning, and its addresses.
OF_AN_APP = {"apps", "urls"}


def table(head: str) -> list[list[str]]:
    """Return the cells of a table by the line that heads it, without that line."""
    rows = LAYOUT.partition(f"\n{head}\n")[2].splitlines()
    assert rows, f"no table is headed {head}"
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in _until_the_end(rows)]
    return cells[1:]


def _until_the_end(rows: list[str]) -> Iterator[str]:
    for row in rows:
        if not row.startswith("|"):
            return
        yield row


def named(cell: str) -> list[str]:
    return [name.rstrip("/") for name in re.findall(r"`([^`]+)`", cell)]


def modules(room: Path) -> list[str]:
    return sorted(path.stem for path in room.glob("*.py") if path.stem != "__init__")


def rooms(house: Path) -> list[str]:
    """List folders and modules alike: a room may be one file."""
    return sorted([*modules(house), *(path.parent.name for path in house.glob("*/__init__.py"))])


def test_rooms_of_recovery_hold_what_they_say() -> None:
    found = {named(room)[0]: sorted(named(files)) for room, _, files in table("| room | holds | files |")}
    assert found == {room: modules(PROJECT / "recovery" / room) for room in ("cases", "release", "contacts", "leaving")}


def test_groups_of_commands_hold_what_they_say() -> None:
    rows = {named(group)[0]: sorted(named(files)) for group, _, files in table("| group | holds | files |")}
    assert rows == {path.parent.name: modules(path.parent) for path in COMMANDS.glob("*/__init__.py")}


def test_rooms_of_the_core_hold_what_they_say() -> None:
    rows = [(named(room), sorted(named(files))) for room, _, files in table("| room | holds | modules |")]
    assert sorted(room for names, _ in rows for room in names) == rooms(CORE)
    assert {names[0]: files for names, files in rows} == {room: modules(CORE / room) for room in rooms(CORE)}


def test_rooms_of_the_client_hold_what_they_say_and_have_the_doors_they_name() -> None:
    rows = table("| room | holds | its door | inside |")
    assert sorted(room for first, *_ in rows for room in named(first)) == rooms(CLIENT)
    for first, _, door, inside in rows:
        for room in named(first):
            assert sorted(named(door) + named(inside)) == modules(CLIENT / room), room
            if (CLIENT / room).is_dir():
                assert sorted(named(door)) == _door(CLIENT / room / "__init__.py"), room


def _door(path: Path) -> list[str]:
    for statement in ast.parse(path.read_text()).body:
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "__all__":
            return sorted(ast.literal_eval(statement.value))
    pytest.fail(f"{path} names no door")


def test_rooms_of_the_console_are_those_that_there_are() -> None:
    rows = table("| room | holds |")
    assert sorted(room for first, _ in rows for room in named(first)) == sorted(set(rooms(CONSOLE)) - OF_AN_APP)
    words = next(holds for first, holds in rows if named(first) == ["words"])
    assert sorted(named(words)) == modules(CONSOLE / "words")


def test_cast_of_the_tests_is_named_once() -> None:
    # The first table with this head is of an app's files; the cast's follows its own sentence.
    after = LAYOUT.partition("`tests/cast/` holds who and what")[2].partition("| file | holds |\n")[2]
    files = [name for row in _until_the_end(after.splitlines()) for name in named(row.split("|")[1])]
    assert sorted(files) == modules(PROJECT / "tests" / "cast")
