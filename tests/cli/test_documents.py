# SPDX-License-Identifier: Apache-2.0
"""The pages that are written from the code: man page, docs/cli.md, API reference; and that the code has what they need.

Compares what is in the tree with what would be written now.
"""

from __future__ import annotations

import importlib
import inspect
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from holdfast.cli.app import app
from holdfast.cli.page import FLAGS, WITH_VALUE

PROJECT = Path(__file__).resolve().parents[2]
MODULES = [
    ".".join(path.relative_to(PROJECT).with_suffix("").parts)
    for path in sorted((PROJECT / "holdfast").rglob("*.py"))
    if not path.stem.startswith("__")
]


# How a text for people names a command: after a colon, in backticks, in <code>, or on a line of its own.
NAMED = re.compile(r"(?:: |`|<code>|\\n {4}|^ {4,}|\(|; )holdfast((?: (?:--)?[a-z][a-z-]*)+)", re.MULTILINE)
TEXTS = [
    path
    for place in (
        "holdfast",
        "console",
        "recovery",
        "keys",
        "escrow",
        "tenants",
        "config",
        "templates",
        "docs",
        "README.md",
    )
    for path in ([PROJECT / place] if (PROJECT / place).is_file() else sorted((PROJECT / place).rglob("*.*")))
    if path.suffix in {".py", ".html", ".txt", ".md"} and "migrations" not in path.parts
]
# What follows the command in a sentence.
PROSE = {"the", "and", "there", "then", "here", "with", "on", "lists", "says", "takes", "import", "does", "command"}


def unknown_in(said: str) -> str:
    """Return what a text calls the command by that the command does not know, or nothing."""
    command = typer.main.get_command(app)
    for word in said.split():
        names = getattr(command, "commands", {})
        options = {one for parameter in command.params for one in parameter.opts} | {*WITH_VALUE, *FLAGS, "--help"}
        if word in names:
            command = names[word]
        elif word in options:
            continue
        elif word.startswith("--") or (names and word not in PROSE):
            return said.strip()
        else:
            return ""
    return ""


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command], cwd=PROJECT, capture_output=True, text=True, timeout=120, check=False
    )


PAGE = re.compile(r"[(`\s](?:docs/)?((?:formats/)?[a-z0-9-]+\.md)[)`\s,.;:#]")


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(PROJECT)))
def test_no_text_names_a_page_that_is_not_there(path: Path) -> None:
    places = (path.parent, PROJECT / "docs", PROJECT / "docs" / "formats")
    named = set(PAGE.findall(path.read_text()))
    assert [one for one in named if not any((place / one).is_file() for place in places)] == []


def test_man_page_and_command_page_are_those_of_the_command() -> None:
    done = run("docs/manual.py", "--check")
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(shutil.which("man") is None, reason="this machine has no man")
def test_man_page_is_roff_without_a_warning() -> None:
    done = subprocess.run(
        ["man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", str(PROJECT / "docs" / "holdfast.1")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_reference_is_built_without_a_warning(tmp_path: Path) -> None:
    done = run("docs/reference.py", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "Client" in (tmp_path / "holdfast.html").read_text()
    assert (tmp_path / "holdfast" / "core" / "identity" / "chain.html").exists()


@pytest.mark.parametrize("name", MODULES)
def test_everything_public_has_a_docstring(name: str) -> None:
    module = importlib.import_module(name)
    own = [
        (inner, one)
        for inner, one in vars(module).items()
        if not inner.startswith("_")
        and (inspect.isfunction(one) or inspect.isclass(one))
        and one.__module__ == module.__name__
    ]
    assert module.__doc__
    assert [inner for inner, one in own if not one.__doc__] == []


def test_every_command_that_a_text_names_exists() -> None:
    named = [(path, said) for path in TEXTS for said in NAMED.findall(path.read_text())]
    assert len(named) > 60
    assert [(str(path.relative_to(PROJECT)), said) for path, said in named if unknown_in(said)] == []


def test_search_for_named_commands_finds_one_that_is_gone() -> None:
    assert [unknown_in(said) for said in NAMED.findall('way_out="Open it: holdfast vault open")')] == ["vault open"]
    assert unknown_in(" devices pair --digital") == "devices pair --digital"
    assert unknown_in(" devices pair --digits") == ""


def test_index_of_the_formats_names_every_page_and_no_other() -> None:
    directory = PROJECT / "docs" / "formats"
    named = re.findall(r"^\| \[([a-z-]+\.md)\]\(\1\) \|", (directory / "README.md").read_text(), re.MULTILINE)
    assert sorted(named) == sorted(path.name for path in directory.glob("*.md") if path.name != "README.md")


def test_every_link_between_the_pages_leads_somewhere() -> None:
    pages = [*(PROJECT / "docs").rglob("*.md"), *PROJECT.glob("*.md")]
    links = [
        (page, link.split("#")[0])
        for page in pages
        for link in re.findall(r"\]\((?!https?:)([^)]+)\)", page.read_text())
    ]
    assert len(links) > 20
    assert [(page.name, link) for page, link in links if not (page.parent / link).exists()] == []
