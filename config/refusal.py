# SPDX-License-Identifier: Apache-2.0
"""How a process says that it must not run: one sentence, and an exit status that whoever starts it again knows.

`deploy/systemd` names the same number. To try again would change nothing, and with a wrong PIN would lock the token.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Final, NoReturn

# EX_CONFIG of sysexits.h. A person has to mend something before this process can be started.
REFUSED: Final = 78


# Of a process whose own parent does not hand its status on: it asks in its environment to be told, by its process id.
_TELL: Final = "HOLDFAST_TELL_REFUSAL"
_SIGNAL: Final = signal.SIGUSR1


def hear_of_refusals(heard: Callable[[int, FrameType | None], None]) -> None:
    """Have every process that comes from this one call `heard` here when it refuses. Call it in the main thread."""
    signal.signal(_SIGNAL, heard)
    os.environ[_TELL] = str(os.getpid())


def listener() -> int | None:
    """Return the process that asked to be told, which is the parent of whoever it started; None where nobody did."""
    told = os.environ.get(_TELL)
    return int(told) if told else None


def refuse(text: str) -> NoReturn:
    """End this process with a sentence for a person, and the status REFUSED. Raises SystemExit."""
    print(text, file=sys.stderr)  # noqa: T201 — logging may not be set up yet
    parent = listener()
    # Only a parent: the process with that number may be another's by now.
    if parent is not None and parent == os.getppid():
        os.kill(parent, _SIGNAL)
    ending = SystemExit(text)
    ending.code = REFUSED
    raise ending
