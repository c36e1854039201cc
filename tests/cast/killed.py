# SPDX-License-Identifier: Apache-2.0
"""A ceremony that is killed after each of its steps, and held again until nothing is missing.

Run as `python -m tests.cast.killed WHEN CEREMONY …`, under the environment of a ceremony. WHEN: `act`, when a step is
done and its line not yet written; `line`, when both are. Prints how often it was killed.
"""

from __future__ import annotations

import os
import signal
import sys

import django
from django.core.management import call_command

from tests.cast.founders import answers

MOST_STEPS = 60


def hold_once(when: str, ceremony: list[str]) -> int:
    """Hold it in a process of its own that takes one step; returns how that ended."""
    pid = os.fork()
    if pid:
        return os.waitpid(pid, 0)[1]
    from config.ceremonies.transcript import Transcript

    write = Transcript.write

    def killed(self: Transcript, *arguments: object) -> None:
        if when == "line":
            write(self, *arguments)  # type: ignore[arg-type]
        os.kill(os.getpid(), signal.SIGKILL)

    Transcript.write = killed  # type: ignore[method-assign,assignment]
    try:
        said = answers() if ceremony[0] == "found" else None
        call_command("ceremony", *ceremony, "--yes", answer=said)
    except BaseException as error:
        sys.stderr.write(f"{error}\n")
        os._exit(1)
    os._exit(0)


def main() -> int:
    """Hold the ceremony until it is through; 1 when it refused or never ended."""
    when, *ceremony = sys.argv[1:]
    django.setup()
    for kills in range(MOST_STEPS):
        ended = hold_once(when, ceremony)
        if os.WIFEXITED(ended):
            sys.stdout.write(f"{kills}\n")
            return os.WEXITSTATUS(ended)
    return 1


if __name__ == "__main__":
    raise SystemExit(main())
