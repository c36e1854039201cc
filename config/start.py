# SPDX-License-Identifier: Apache-2.0
"""What every process does first, before Django is there: say under which settings it runs.

PLATFORM "Running it". Nothing is chosen for an operator: `make` names the settings of development, the units those of
production.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import Final

from config.refusal import refuse

_NAME: Final = "DJANGO_SETTINGS_MODULE"
PRODUCTION: Final = "config.settings.production"


def require_settings(default: str = "") -> str:
    """Return the module of settings that the environment names, or set `default` there.

    Ends the process, with one sentence, where neither names one, and where there is none of that name.
    """
    name = os.environ.get(_NAME) or default
    if not name:
        refuse(f"{_NAME} is not set. On a server it is {PRODUCTION} (deploy/README.md). To try Holdfast out: make up.")
    try:
        is_there = find_spec(name) is not None
    except (ImportError, ValueError):
        is_there = False
    if not is_there:
        refuse(f"{_NAME}: there are no settings {name!r}. On a server it is {PRODUCTION}.")
    os.environ[_NAME] = name
    return name
