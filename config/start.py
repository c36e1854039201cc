# SPDX-License-Identifier: Apache-2.0
"""What every process does first, before Django is there: say under which settings it runs.

PLATFORM "Running it". Nothing is chosen for an operator: `make` names the settings of development, the units those of
production.
"""

from __future__ import annotations

import io
import os
import signal
import sys
from importlib.util import find_spec
from typing import Final

from config.refusal import refuse

_NAME: Final = "DJANGO_SETTINGS_MODULE"
PRODUCTION: Final = "config.settings.production"


_BY_SIGTERM: Final = 128 + signal.SIGTERM  # as a shell names the end of whom it ended


def end_when_told() -> None:
    """Have SIGTERM end this process from now on, also where it is the first of a container, to which it says nothing.

    What works until SIGTERM, or has to tidy up, says later for itself what is done then.
    """
    if os.getpid() == 1:
        signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(_BY_SIGTERM))


def show_what_can_be_shown() -> None:
    """Have both streams write an escape for a character that their encoding has not: what was done stays done."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def require_settings(default: str = "") -> str:
    """Return the module of settings that the environment names, or set `default` there.

    Ends the process, with one sentence, where neither names one, and where there is none of that name.
    """
    name = os.environ.get(_NAME) or default
    if not name:
        refuse(
            f"{_NAME} is not set. On a server it is {PRODUCTION} (docs/operations.md). To try Holdfast out: make up."
        )
    try:
        is_there = find_spec(name) is not None
    except (ImportError, ValueError):
        is_there = False
    if not is_there:
        refuse(f"{_NAME}: there are no settings {name!r}. On a server it is {PRODUCTION}.")
    os.environ[_NAME] = name
    return name
