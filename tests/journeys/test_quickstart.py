# SPDX-License-Identifier: Apache-2.0
"""docs/quickstart.md and docs/quickstart-web.md, followed line by line against an installation as `make up` starts it.

Every `sh` line is typed into one terminal, every `python` block into one interpreter, every `js` block into the console
of Chromium's developer tools, as they stand on the page; only the addresses are others, because the tests take free
ports.
"""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, CDPSession, ConsoleMessage, Dialog, Page

from tests.cast.postgres import free_port
from tests.cast.server import PROJECT, Installation, installation, wait_for
from tests.journeys.terminal import Terminal

PAGE = PROJECT / "docs" / "quickstart.md"
WEB_PAGE = PROJECT / "docs" / "quickstart-web.md"
ADDRESS = "http://127.0.0.1:8000"
WEB_PORT = "8080"
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


def blocks(page: Path) -> list[tuple[str, str]]:
    """Return a page's blocks in order: language and text."""
    return re.findall(r"^```(sh|python|js)\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)


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


class Console:
    """The console of the developer tools on an open page. answers: what is typed into each question, by its text."""

    def __init__(self, page: Page, answers: Callable[[str], str]) -> None:
        self.said: list[str] = []
        self._answers = answers
        self._tools: CDPSession = page.context.new_cdp_session(page)
        page.on("console", self._hear)
        page.on("dialog", self._answer)

    def run(self, block: str) -> None:
        """Run one block. Raises AssertionError when it ended in an error."""
        done = self._tools.send(
            "Runtime.evaluate", {"expression": block, "replMode": True, "awaitPromise": True, "userGesture": True}
        )
        assert "exceptionDetails" not in done, f"{block}\n{done['exceptionDetails']}"
        assert self.denied() == [], block

    def denied(self) -> list[str]:
        """Return what did not hold: each failed `console.assert` that was heard."""
        return [one for one in self.said if one.startswith("assert:")]

    def _hear(self, message: ConsoleMessage) -> None:
        self.said.append(f"{message.type}: {message.text}")

    def _answer(self, dialog: Dialog) -> None:
        dialog.accept(self._answers(dialog.message))


@pytest.fixture(scope="module")
def web_port() -> str:
    return str(free_port())


@pytest.fixture(scope="module")
def running(web_port: str) -> Iterator[Installation]:
    with installation(HOLDFAST_WEB_ORIGINS=f"http://127.0.0.1:{web_port}") as made:
        yield made


@pytest.fixture
def clone(running: Installation, tmp_path: Path) -> Path:
    """A directory that looks like the clone in which `make up` runs."""
    for name in ("Makefile", "manage.py", ".venv", "web"):
        (tmp_path / name).symlink_to(PROJECT / name)
    shutil.copytree(PROJECT / "examples", tmp_path / "examples")
    page = tmp_path / "examples" / "web-chat" / "index.html"
    page.write_text(page.read_text().replace(ADDRESS, running.url))
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
            for language, block in blocks(PAGE):
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
    assert any("make members" in block for _, block in blocks(PAGE))


def _is_served(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.browser
@pytest.mark.timeout(600)
def test_every_block_of_the_page_for_the_web_works_as_it_stands_there(
    running: Installation, clone: Path, web_port: str, browser: Browser
) -> None:
    environment = {**running.environment, "TERM": "xterm", "PYTHONUNBUFFERED": "1"}
    del environment["DJANGO_SETTINGS_MODULE"]

    def file(name: str) -> str:
        places = (clone / "var" / "demo" / "codes", clone / "quickstart-web")
        return next(path for place in places if (path := place / name).exists()).read_text().strip()

    page = browser.new_page()
    console, screens = Console(page, file), []
    with Terminal(clone, environment) as terminal:
        try:
            for language, block in blocks(WEB_PAGE):
                text = block.replace(ADDRESS, running.url).replace(WEB_PORT, web_port)
                if language == "js":
                    if page.url == "about:blank":
                        wait_for(lambda: _is_served(int(web_port)))
                        page.goto(f"http://127.0.0.1:{web_port}/")
                    console.run(text)
                    continue
                for line in text.splitlines():
                    code, screen = terminal.run(line)
                    assert code == 0, f"{line}\n{screen}"
                    screens.append(screen)
        finally:
            terminal.run("kill %1")
    everything = "\n".join(screens)
    assert "“Hello Bob. Shall we move the meeting to Friday?”" in everything
    assert "“Back again.”" in everything
    # What a page says comes a moment after it has said it.
    wait_for(lambda: page.title() and any("WrongInput" in one for one in console.said))
    assert any("Friday is fine." in one for one in console.said)
    assert console.denied() == []
    page.close()


def test_page_for_the_web_names_the_addresses_that_are_served() -> None:
    assert WEB_PAGE.read_text().count(ADDRESS) >= 3
    assert (PROJECT / "examples" / "web-chat" / "index.html").read_text().count(ADDRESS) == 2
