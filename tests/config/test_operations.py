# SPDX-License-Identifier: Apache-2.0
"""The operators' pages name what there is: each command with its options, each alarm, each part of the doctor."""

from __future__ import annotations

import argparse
import ast
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from django.core.management import get_commands, load_command_class
from django.core.management.base import CommandError

from config.readiness import lanes
from tests.cast.pages import OPERATIONS, PROJECT, Block, blocks, spans
from tests.cli.test_documents import unknown_in

MANAGE = PROJECT / "docs" / "manage.md"
PAGES = (OPERATIONS, MANAGE, PROJECT / "docs" / "admin.md", PROJECT / "deploy" / "README.md")
# Words of the shell, and programs of the packages that the page names or of what tests have no need of.
SHELL = {"cd", "echo", "set", ".", "umask"}
ELSEWHERE = {"nft", "systemctl", "journalctl"}
SYSTEMCTL = {"daemon-reload", "enable", "start", "stop", "restart", "reset-failed", "--failed"}
UNITS = {path.stem for path in (PROJECT / "deploy" / "systemd").glob("*.service")} | {"nginx"}
ROOMS = ("audit", "config", "console", "escrow", "hsm", "kernel", "keys", "operators", "recovery", "tenants")


def parser_of(name: str) -> argparse.ArgumentParser:
    command = load_command_class(get_commands()[name], name)
    return command.create_parser("manage.py", name)


def subcommands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}


def unknown_to_manage(words: Sequence[str]) -> str:
    """Return what of a command `manage.py` does not know, or nothing. Words are taken as values where one may stand."""
    name, *rest = words
    if name == "help":
        return ""
    if name not in get_commands():
        return name
    parser = parser_of(name)
    for word in rest:
        inner = subcommands(parser)
        if word.startswith("--"):
            if word.partition("=")[0] not in parser._option_string_actions:
                return word
        elif inner:
            if word not in inner:
                return word
            parser = inner[word]
    return ""


def all_commands() -> list[list[str]]:
    return [words for block in blocks() for words in block.commands()]


@pytest.mark.parametrize("block", blocks(), ids=lambda block: f"{block.section}-{block.text.split(chr(10))[0][:40]}")
def test_shell_reads_each_block(block: Block) -> None:
    done = subprocess.run(["bash", "-n"], input=block.text, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("words", all_commands(), ids=lambda words: " ".join(words)[:60])
def test_each_command_on_the_page_exists(words: list[str]) -> None:
    program, *rest = words
    if program == "manage.py":
        name, *arguments = rest
        try:
            parser_of(name).parse_args(arguments)
        except CommandError as error:
            pytest.fail(f"{words}: {error}")
    elif program == "holdfast":
        assert unknown_in(" ".join(rest)) == ""
    elif program == "systemctl":
        assert rest[0] in SYSTEMCTL
        assert {*rest[1:]} <= UNITS
    elif program.startswith("deploy/"):
        assert (PROJECT / program).is_file()
    else:
        assert program in SHELL | ELSEWHERE or shutil.which(program), program


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_each_command_in_the_text_exists(page: Path) -> None:
    named = [span for span in spans(page, "manage.py") if span != "manage.py" and "…" not in span]
    assert [(span, found) for span in named if (found := unknown_to_manage(span.split()[1:]))] == []


def test_search_for_named_commands_finds_those_that_are_gone() -> None:
    assert unknown_to_manage(["void-unissued"]) == "void-unissued"
    assert unknown_to_manage(["ceremony", "accept-restord", "acme"]) == "accept-restord"
    assert unknown_to_manage(["ceremony", "roles", "acme", "--ends"]) == "--ends"
    assert unknown_to_manage(["ceremony", "roles", "acme", "--end"]) == ""


def test_page_of_the_commands_says_of_each_when_to_use_it() -> None:
    ours = {name for name, app in get_commands().items() if isinstance(app, str) and app.split(".")[0] in ROOMS}
    assert len(ours) > 10
    text = MANAGE.read_text()
    wanted = {f"`manage.py {name}" for name in ours - {"ceremony"}}
    wanted |= {f"`manage.py ceremony {name}" for name in subcommands(parser_of("ceremony"))}
    assert sorted(one for one in wanted if not re.search(rf"{re.escape(one)}[ `]", text)) == []


def section(number: str) -> str:
    found = re.search(rf"^### {re.escape(number)} .*?(?=^##)", OPERATIONS.read_text(), re.MULTILINE | re.DOTALL)
    assert found
    return found[0]


def calls(*names: str) -> Iterator[ast.Call]:
    """Yield each call, in the server's code, of a function or method of one of these names."""
    for path in sorted(one for room in ROOMS for one in (PROJECT / room).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                if name in names:
                    yield node


def first_text(call: ast.Call) -> str:
    first = call.args[0] if call.args else None
    return first.value if isinstance(first, ast.Constant) and isinstance(first.value, str) else ""


def first_column(text: str) -> set[str]:
    rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("|")]
    return {span for row in rows for span in re.findall(r"`([^`]+)`", row)}


def test_page_says_what_each_critical_line_means_and_no_other() -> None:
    fragments = first_column(section("3.4"))
    lines = [first_text(call) for call in calls("critical")]
    # One line is a sentence from elsewhere, of a key that is not there.
    lines = [line for line in lines if line != "%s"]
    assert len(lines) > 20
    assert [line for line in lines if not any(one in line for one in fragments)] == []
    sentence = (PROJECT / "recovery" / "release" / "directory.py").read_text()
    assert [one for one in fragments if not any(one in line for line in [*lines, sentence])] == []


def test_page_says_what_each_part_of_readyz_means() -> None:
    assert {"database", "hsm", "disk", *lanes({})} <= first_column(section("3.1"))


def test_page_names_each_part_of_the_doctor() -> None:
    parts = {first_text(call) for call in calls("Finding")} - {""}
    assert parts == {*re.findall(r"^\| `([a-z ]+)`", section("3.3"), re.MULTILINE)}


def test_each_refusal_at_the_start_says_the_way_out_itself() -> None:
    """So the page need not list them: but for what says all in its sentence, each has its hint."""
    found = [call for call in calls("Error") if any(one.arg == "id" for one in call.keywords)]
    bare = {ast.literal_eval(one.value) for call in found for one in call.keywords if one.arg == "id"} - {
        ast.literal_eval(one.value)
        for call in found
        if any(keyword.arg == "hint" for keyword in call.keywords)
        for one in call.keywords
        if one.arg == "id"
    }
    assert bare <= {"holdfast.E001", "holdfast.E003", "holdfast.E004"}, bare
