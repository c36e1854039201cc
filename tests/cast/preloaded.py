# SPDX-License-Identifier: Apache-2.0
"""The `holdfast` command, many times over: each run a process of its own, forked from one that has imported its code.

What a run does is what `python -m holdfast.cli` does with the same words, but for the third of a second in which the
code is read from the disk. One thread, so that what is forked is whole.
"""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import signal
import subprocess
import sys
import tempfile
import traceback
import weakref
from pathlib import Path
from typing import Final

PROJECT: Final = Path(__file__).resolve().parents[2]
LONGEST_SECONDS: Final = 300


class Preloaded:
    """Runs the command in processes forked from one of its own, which begins with the first and ends with this."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run the command with these words, in this process's environment of now, and without input."""
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.cast.preloaded"],
                cwd=PROJECT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            weakref.finalize(self, _end, self._process)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([words, dict(os.environ)]) + "\n")
        self._process.stdin.flush()
        code, out, error = json.loads(self._process.stdout.readline())
        return subprocess.CompletedProcess(["holdfast", *words], code, out, error)


def _end(process: subprocess.Popen[str]) -> None:
    process.communicate()


def _import_all() -> None:
    import holdfast.cli.commands
    import holdfast.client

    for package in (holdfast.cli.commands, holdfast.client):
        for found in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
            importlib.import_module(found.name)


def _run(words: list[str], environment: dict[str, str], out: int, error: int) -> int:
    """Run the command in a child, and return its exit code; minus the signal that ended it."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            signal.alarm(LONGEST_SECONDS)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(out, 1)
            os.dup2(error, 2)
            sys.argv = ["holdfast", *words]
            os.environ.clear()
            os.environ.update(environment)
            status = _status()
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _status() -> int:
    from holdfast.cli import main

    try:
        main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # as the interpreter ends with it
        traceback.print_exc()
        return 1
    return 0


def main() -> None:
    """Run what stands in each line of the input, until it ends; answer with a line each."""
    _import_all()
    for line in sys.stdin:
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as error:
            words, environment = json.loads(line)
            code = _run(words, environment, out.fileno(), error.fileno())
            said = []
            for file in (out, error):
                file.seek(0)
                said.append(file.read().decode())
        sys.stdout.write(json.dumps([code, *said]) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
