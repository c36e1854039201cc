# SPDX-License-Identifier: Apache-2.0
"""A Node process that answers lines: the TypeScript parsers as Python's tests talk to them (web/sdk/tests/peer)."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from tests.cast.node import NODE, SDK, environment, run

BATCH: Final = (
    64  # lines that are on their way at once; less than a pipe holds is not needed, they are read side by side
)


def bundled(entry: str, directory: Path) -> Path:
    """Bundle a file of web/sdk for Node, and return what to run."""
    run(str(NODE), "scripts/for_node.mjs", entry, str(directory))
    return directory / f"{Path(entry).stem}.mjs"


class Peer:
    """One process: a case goes in, and what became of it comes out."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def give(self, given: Mapping[str, bytes]) -> None:
        """Tell the parsers what they need beside the bytes."""
        self._say(["given", {name: octets.hex() for name, octets in given.items()}])

    def feed(self, name: str, cases: Sequence[bytes]) -> list[list[str]]:
        """Return what each case became: took and bytes, refused and class and message, or broke."""
        answers: list[list[str]] = []
        for start in range(0, len(cases), BATCH):
            batch = cases[start : start + BATCH]
            for case in batch:
                self._say(["feed", name, case.hex()])
            self._flush()
            answers += [self._hear() for _ in batch]
        return answers

    def _say(self, line: list[Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{json.dumps(line)}\n")

    def _flush(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.flush()

    def _hear(self) -> list[str]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the peer ended"
        answer: list[str] = json.loads(line)
        return answer


@contextmanager
def peer(directory: Path) -> Iterator[Peer]:
    """Start the process, and end it afterwards."""
    command = [str(NODE), str(bundled("tests/peer/lines.ts", directory))]
    with subprocess.Popen(
        command, cwd=SDK, env=environment(), text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        yield Peer(process)
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(timeout=20) == 0
