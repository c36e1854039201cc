# SPDX-License-Identifier: Apache-2.0
"""A person at a terminal: types lines into bash on a pseudo-terminal, reads what appears, and answers what is asked.

Used by journeys that follow a page line by line. Knows the questions of the `holdfast` command, and nothing else.
"""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import struct
import termios
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from fcntl import ioctl
from pathlib import Path
from typing import Final

_ESCAPES: Final = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[()][A-Z0-9]")
_NUMBERED: Final = re.compile(r"\b(\d{1,2}) ([a-z]+)\b")
_DONE: Final = "line-has-ended"


@dataclass
class Terminal:
    """One bash, a terminal around it, and the person's paper: the last recovery phrase that was shown."""

    directory: Path
    environment: Mapping[str, str]
    still_has_devices: bool = False
    paper: dict[int, str] = field(default_factory=dict)
    seconds: float = 120.0

    def __enter__(self) -> Terminal:
        self._pid, self._end = pty.fork()
        if self._pid == 0:
            os.chdir(self.directory)
            os.execvpe(
                "bash", ["bash", "--norc", "--noprofile", "-i"], {**self.environment, "PS1": f"{_DONE}=$?=", "PS2": ""}
            )
        ioctl(self._end, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 200, 0, 0))
        self._until_prompt("")
        self.run("bind 'set enable-bracketed-paste off' 2>/dev/null; stty -echo; HISTFILE=")
        return self

    def __exit__(self, *_exc: object) -> None:
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        os.close(self._end)

    def run(self, line: str) -> tuple[int, str]:
        """Type one line, answer what it asks, and return its exit code and what was on the screen."""
        # The next line only after the prompt: what waits in the terminal, a command would take for its answer.
        self._type(f"{line}\n")
        return self._until_prompt(line)

    def _until_prompt(self, line: str) -> tuple[int, str]:
        seen, answered, until = "", 0, time.monotonic() + self.seconds
        while True:
            found = re.search(rf"{_DONE}=(\d+)=", seen)
            if found:
                return int(found[1]), seen[: found.start()]
            if time.monotonic() > until:
                raise TimeoutError(f"nothing more came of {line!r}:\n{seen[-2000:]}")
            if not select.select([self._end], [], [], 0.2)[0]:
                continue
            seen += _ESCAPES.sub("", os.read(self._end, 65536).decode("utf-8", "replace")).replace("\r", "")
            answered = self._answer(seen, answered)

    def _answer(self, seen: str, answered: int) -> int:
        """Answer the question at the end of the screen, once; returns how much of the screen has been dealt with."""
        fresh = seen[answered:]
        if "Press Enter when you have written it down" in fresh:
            self.paper = {int(number): word for number, word in _NUMBERED.findall(fresh)}
            self._type("\n")
        elif asked := re.search(r"Word (\d+): ?$", fresh):
            self._type(f"{self.paper[int(asked[1])]}\n")
        elif re.search(r"Type the 24 words.*\n\n? ?1: ?$", fresh, re.DOTALL):
            self._type(" ".join(self.paper[number] for number in range(1, 25)) + "\n")
        elif re.search(r"Do you still have .*\[y/N\]: ?$", fresh):
            self._type("y\n" if self.still_has_devices else "n\n")
        else:
            return answered
        return len(seen)

    def _type(self, text: str) -> None:
        os.write(self._end, text.encode())
