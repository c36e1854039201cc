# SPDX-License-Identifier: Apache-2.0
"""How a process says that it must not run: one sentence, and an exit status that whoever starts it again knows.

`deploy/systemd` names the same number. To try again would change nothing, and with a wrong PIN would lock the token.
"""

from __future__ import annotations

import sys
from typing import Final, NoReturn

# EX_CONFIG of sysexits.h. A person has to mend something before this process can be started.
REFUSED: Final = 78


def refuse(text: str) -> NoReturn:
    """End this process with a sentence for a person, and the status REFUSED. Raises SystemExit."""
    print(text, file=sys.stderr)  # noqa: T201 — logging may not be set up yet
    ending = SystemExit(text)
    ending.code = REFUSED
    raise ending
