# SPDX-License-Identifier: Apache-2.0
"""docs/quickstart.md, followed line by line against an installation as `make up` starts it.

Every `sh` line is typed into one terminal, every `python` block into one interpreter, as they stand on the page; only
the server's address is another, because the tests take a free port.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cast.server import PROJECT, Installation, installation
from tests.journeys.terminal import Terminal

PAGE = PROJECT / "docs" / "quickstart.md"
ADDRESS = "http://127.0.0.1:8000"
# Runs blocks in one namespace, as a prompt would; a block ends with a line of its own, and so does the answer.
PROMPT = """
import sys, traceback
names = {"__name__": "quickstart"}
block = []
for line in sys.stdin:
    if line != "# end of block\\n":
        block.append(line)
        continue
    try:
        exec(compile("".join(block), "docs/quickstart.md", "exec"), names)
        print("# done", flush=True)
    except BaseException:
        traceback.print_exc(file=sys.stdout)
        print("# failed", flush=True)
    block = []
"""


def blocks() -> list[tuple[str, str]]:
    """Return the page's blocks in order: language and text."""
    return re.findall(r"^```(sh|python)\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)


class Interpreter:
    """One Python process that blocks are typed into."""

    def __init__(self, directory: Path, environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", PROMPT],
            cwd=directory,
            env=environment,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def run(self, block: str) -> str:
        """Run one block and return what it printed. Raises AssertionError when it ended in an exception."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{block}# end of block\n")
        self._process.stdin.flush()
        said = ""
        for line in self._process.stdout:
            if line == "# done\n":
                return said
            assert line != "# failed\n", f"{block}\n{said}"
            said += line
        raise AssertionError(f"the interpreter ended:\n{said}")

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()


@pytest.fixture(scope="module")
def running() -> Iterator[Installation]:
    with installation() as made:
        yield made


@pytest.fixture
def clone(running: Installation, tmp_path: Path) -> Path:
    """A directory that looks like the clone in which `make up` runs."""
    for name in ("Makefile", "manage.py", ".venv"):
        (tmp_path / name).symlink_to(PROJECT / name)
    (tmp_path / "var").symlink_to(running.state_dir)
    return tmp_path


@pytest.mark.timeout(600)
def test_every_block_of_the_page_works_as_it_stands_there(running: Installation, clone: Path) -> None:
    environment = {**running.environment, "TERM": "xterm", "PYTHONUNBUFFERED": "1"}
    del environment["DJANGO_SETTINGS_MODULE"]
    python = Interpreter(clone, environment)
    said: list[str] = []
    try:
        with Terminal(clone, environment) as terminal:
            for language, block in blocks():
                text = block.replace(ADDRESS, running.url)
                if language == "python":
                    said.append(python.run(text))
                    continue
                for line in text.splitlines():
                    code, screen = terminal.run(line)
                    assert code == 0, f"{line}\n{screen}"
                    said.append(screen)
            on_paper = terminal.paper
    finally:
        python.close()
    everything = "\n".join(said)
    assert "“Hello Bob. Shall we move the meeting to Friday?”" in everything
    assert "Friday is fine." in everything
    assert "“I have new keys. Nothing else has changed.”" in everything
    assert "“Back again.”" in everything
    # The screen on which the phrase was shown is not the one that stays.
    assert len(on_paper) == 24


def test_page_names_the_address_that_make_up_serves() -> None:
    assert PAGE.read_text().count(ADDRESS) >= 4
    assert any("make members" in block for _, block in blocks())
