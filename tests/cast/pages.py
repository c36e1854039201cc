# SPDX-License-Identifier: Apache-2.0
"""The pages for operators, as the tests read them: blocks of commands with who runs them, and commands in the text."""

from __future__ import annotations

import re
import shlex
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
OPERATIONS = PROJECT / "docs" / "operations.md"

_BLOCK = re.compile(r"^( *)```sh ([a-z ]+)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
_HEREDOC = re.compile(r"^([^\n]*<<('?)END\2)\n.*?^END$", re.MULTILINE | re.DOTALL)
_REDIRECTION = re.compile(r"\d*[<>]")
_SPAN = re.compile(r"`([^`\n]+)`")
# What ends one command of a line and lets the next begin.
_BETWEEN = {";", "&&", "|", "do", "done"}
_GROUP = {"{", "}"}


@dataclass(frozen=True)
class Block:
    """Commands in one fence. who: root, ceremony, opening or officer. by_hand: no test runs it."""

    section: str
    who: str
    by_hand: bool
    text: str

    def commands(self) -> Iterator[list[str]]:
        """Yield each command as its words, without heredocs, redirections, and the words of the shell around it."""
        for line in _HEREDOC.sub(r"\1", self.text).splitlines():
            words = shlex.shlex(line, posix=True, punctuation_chars=";|&")
            words.whitespace_split = True
            one: list[str] = []
            for word in [*words, ";"]:
                if word not in _BETWEEN:
                    if one or word not in _GROUP:
                        one.append(word)
                    continue
                if one and one[0] != "for" and "=" not in one[0]:
                    yield _without_redirections(one)
                one = []


def _without_redirections(words: list[str]) -> list[str]:
    ends = [number for number, word in enumerate(words) if _REDIRECTION.match(word)]
    return words[: ends[0]] if ends else words


def blocks(page: Path = OPERATIONS) -> list[Block]:
    """Return every block of commands on a page, in order, with the number of the section that it stands in."""
    text = page.read_text()
    found = []
    for match in _BLOCK.finditer(text):
        sections = re.findall(r"^##+ ([0-9.]+) ", text[: match.start()], re.MULTILINE)
        who, _, rest = match[2].partition(" ")
        found.append(Block(sections[-1].rstrip("."), who, rest == "by hand", textwrap.dedent(match[3])))
    return found


def spans(page: Path, program: str) -> list[str]:
    """Return every command of a program that the text of a page names in backticks."""
    prose = _BLOCK.sub("", page.read_text())
    return [span for span in _SPAN.findall(prose) if span.split()[0] == program]
