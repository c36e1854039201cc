# SPDX-License-Identifier: Apache-2.0
"""The pages that are written from the code: man page, docs/cli.md, API reference; and that the code has what they need.

Compares what is in the tree with what would be written now.
"""

from __future__ import annotations

import importlib
import inspect
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
MODULES = [
    f"{package}.{path.stem}"
    for package in ("holdfast.core", "holdfast.client", "holdfast.cli", "holdfast.cli.commands")
    for path in sorted((PROJECT / package.replace(".", "/")).glob("*.py"))
    if not path.stem.startswith("__")
]


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command], cwd=PROJECT, capture_output=True, text=True, timeout=120, check=False
    )


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
    assert (tmp_path / "holdfast" / "core" / "chain.html").exists()


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
