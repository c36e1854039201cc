# SPDX-License-Identifier: Apache-2.0
"""What the command imports to say something: nothing of cryptography, network or database before a command runs.

A process of its own asks for the helps of one first word, and says what it has imported for them.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import pytest
import typer
from typer.core import TyperCommand

from holdfast.cli import page
from holdfast.cli.app import app
from holdfast.cli.commands import backup, care, enrol
from holdfast.cli.commands.officer import keys
from holdfast.cli.listed import LISTED
from holdfast.client.officers import section_doors
from holdfast.client.profile import account as accounts
from holdfast.client.profile.private_files import write_private
from holdfast.client.rotation import rotation
from holdfast.client.vault import doors
from holdfast.core.base.secret import SecretBytes
from holdfast.core.crypto.stretching import Argon2Cost
from holdfast.core.crypto.suites import Suite

ROOT: Any = typer.main.get_command(app)
LEAVES = [leaf.words for leaf in page.leaves(ROOT)]
GROUPS = sorted({words[:length] for words in LEAVES for length in range(len(words))})
# Each takes longer to import than what a help needs in all, or leads to one that does.
HEAVY = {
    "_sqlite3", "_ssl", "anyio", "cryptography", "ctypes", "email", "h11", "httpcore2", "httpx2", "keyring",
    "platformdirs", "pydantic", "rich", "sqlite3", "ssl", "urllib.request",
}  # fmt: skip
# What was there before has nothing to do with us: editable installations and coverage bring much.
SAYS = """
import json, sys
before = set(sys.modules)
from holdfast.cli import main
for line in json.loads(sys.argv[1]):
    try:
        main(line)
    except SystemExit:
        pass
run = [name for name, module in sys.modules.items() if type(module).__name__ != "_LazyModule"]
print(json.dumps(sorted(set(run) - before)), file=sys.stderr)
"""
# What a help may have of the client: classes of refusals, and of packages no more than their names.
CLIENT = re.compile(r"holdfast\.client\.(?!errors$)\w+\.|holdfast\.core\.(?!base)\w+\.(?!phrase$)")


def imported_by(*lines: tuple[str, ...], **environment: str) -> tuple[str, set[str]]:
    """Run command lines in one new process; return what they said, and the modules that had run by its end."""
    done = subprocess.run(
        [sys.executable, "-c", SAYS, json.dumps(lines)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **environment},
    )
    return done.stdout, set(json.loads(done.stderr.splitlines()[-1]))


@pytest.mark.parametrize("first", ["", *LISTED])
def test_no_help_imports_cryptography_network_or_database(first: str) -> None:
    groups = [one for one in GROUPS if one[:1] == ((first,) if first else ())]
    words = [*groups, *[one for one in LEAVES if one[:1] == (first,)][:2]]
    said, run = imported_by(*((*one, "--help") for one in words))
    assert said.count("Usage: holdfast") == len(words) > 0
    assert run & HEAVY == set()
    assert [name for name in run if CLIENT.match(name)] == []


def test_no_completion_imports_cryptography_network_or_database() -> None:
    line = "holdfast --profile p devices re"
    environment = {"_HOLDFAST_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": "4"}
    said, run = imported_by((), **environment)
    assert said.split() == ["revoke"]
    assert run & HEAVY == set()


def test_command_without_network_imports_none_and_no_keyring(tmp_path: Path) -> None:
    secret, directory = tmp_path / "passphrase", tmp_path / "profile"
    write_private(secret, "correct horse battery staple")
    passphrase = SecretBytes(b"correct horse battery staple")
    cost = Argon2Cost(memory_kib=19 * 1024, passes=2, lanes=1)
    accounts.create(directory, tenant=b"t" * 16, user=b"c" * 16, passphrase=passphrase, cost=cost).close()
    given = ("--json", "--profile", str(directory), "--passphrase-file", str(secret))
    said, run = imported_by((*given, "sent"))
    assert "messages" in json.loads(said)
    assert run & {"anyio", "h11", "httpcore2", "httpx2", "keyring", "platformdirs", "pydantic", "rich"} == set()


def test_list_of_commands_says_what_each_says_of_itself() -> None:
    for name, listed in LISTED.items():
        command = ROOT.commands[name]
        assert (name, command.get_short_help_str(200)) == (name, listed.help)
        assert isinstance(command, page.Group) == listed.is_group


@pytest.mark.parametrize(
    ("said", "known"),
    [
        (backup.Removable, {doors.PASSWORD, doors.PHRASE, doors.CONTACTS}),
        (care.What, {rotation.IDENTITY, rotation.DEVICE, rotation.VAULT, rotation.ARCHIVE}),
        (keys.Kind, set(section_doors.NAMES.values())),
        (enrol.SUITES, {suite.name.lower().replace("_", "-") for suite in Suite}),
    ],
    ids=["backup remove", "rotate", "officer set-door", "enrol --suite"],
)
def test_words_that_a_help_offers_are_those_of_the_client(said: Iterable[str], known: set[str]) -> None:
    assert set(said) == known


class Colour(StrEnum):
    """Something to choose from."""

    RED = "red"
    BLUE = "blue"


def _even(text: str) -> int:
    if int(text) % 2:
        raise typer.BadParameter("an even number")
    return int(text)


READ: list[tuple[Any, Any, list[str]]] = [
    (str, None, ["x", "", " x ", "-"]),
    (int, None, ["7", "-7", "+7", " 7", "1_000", "٣", "9" * 40, "x", "7.0"]),
    (Annotated[int, typer.Option(min=1, max=5)], None, ["1", "5", "0", "6"]),
    (float, 10, ["7", "7.5", ".5", "1e3", "nan", "x", "-1"]),
    (bool, False, []),
    (UUID, None, ["3f2b8c1e-1c1b-4a53-8f0a-6f2d1c9e7a11", "3F2B8C1E1C1B4A538F0A6F2D1C9E7A11", "x", "{}"]),
    (Path, None, ["/etc/passwd", "/etc", "/nowhere", "-", ""]),
    (Annotated[Path, typer.Option(exists=True, dir_okay=False)], None, ["/etc/passwd", "/etc", "/nowhere"]),
    (Annotated[Path, typer.Option(file_okay=False)], None, ["/etc/passwd", "/etc", "/nowhere"]),
    (Colour, Colour.RED, ["red", "blue", "RED", "green"]),
    (datetime, None, ["2027-03-31", "soon"]),
    (Annotated[int, typer.Option(parser=_even)], None, ["4", "3", "x"]),
    (list[UUID], None, ["3f2b8c1e-1c1b-4a53-8f0a-6f2d1c9e7a11", "x"]),
    (list[Colour], None, ["red", "green"]),
]


@pytest.mark.parametrize(("kind", "default", "texts"), READ, ids=lambda one: str(one)[:40])
def test_values_are_those_that_typer_reads(kind: Any, default: Any, texts: list[str]) -> None:
    for line in [[], *(["--given", text] for text in texts), ["--given", *texts[:1], "--given", *texts[-1:]]]:
        assert _read(page.Command, kind, default, line) == _read(TyperCommand, kind, default, line), line


def _read(command: type[TyperCommand], kind: Any, default: Any, line: list[str]) -> Any:
    """Return what a function gets for a line, and its type; or what is wrong with the line."""
    got = []

    def function(given: Any = default) -> None:
        got.append((repr(given), type(given)))

    function.__annotations__["given"] = kind
    app = typer.Typer(add_completion=False)
    app.command(cls=command)(function)
    try:
        app(line, standalone_mode=False)
    except typer.exceptions.TyperException as error:
        return error.format_message()
    return got
