# SPDX-License-Identifier: Apache-2.0
"""`python -m config.web`: granian, with the arguments of its own command, whose status says when its process refused.

PLATFORM "Running it". granian ends with 1 however a process of its ends. Whoever starts it again has to know one that
ended from one that refuses: with a wrong PIN each further start is one more try, until the token is locked (FAULTS H3).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import FrameType
from typing import Final, NoReturn

from config.refusal import REFUSED, hear_of_refusals
from config.start import PRODUCTION, end_when_told, require_settings

_LOG_CONFIG: Final = Path(__file__).with_name("granian_logs.json")

_refusals: list[int] = []


def _heard(number: int, _frame: FrameType | None) -> None:
    _refusals.append(number)


def main() -> NoReturn:
    """Serve until a signal asks to stop, or a process ends; then end with granian's status, or REFUSED."""
    from granian.cli import entrypoint

    end_when_told()
    require_settings(PRODUCTION)
    hear_of_refusals(_heard)
    # granian's own lines look like ours, also in its first process, where Django is not.
    os.environ["GRANIAN_LOG_CONFIG"] = str(_LOG_CONFIG)
    status: str | int | None = 0
    try:
        entrypoint()  # type: ignore[no-untyped-call]
    except SystemExit as ending:
        status = ending.code
    sys.exit(REFUSED if _refusals else status)


if __name__ == "__main__":
    main()
