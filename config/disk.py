# SPDX-License-Identifier: Apache-2.0
"""How much room is left where this process writes (PLATFORM "Running it")."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from django.conf import settings

# Below this a day's log, a backup's copy or one migration may fill it; and files, each of which takes an entry.
LOW_BYTES: Final = 256 * 1024 * 1024
LOW_FILES: Final = 1_000
# Not Python's own search for it, which writes a file to try each, and finds none where the disk is full.
_TEMPORARY: Final = "/tmp"  # noqa: S108 — looked at, and nothing is written there


def places() -> Iterator[Path]:
    """Return the directories that processes of this installation write to, as far as they are there."""
    name = settings.DATABASES["default"]["NAME"]
    is_file = "sqlite3" in settings.DATABASES["default"]["ENGINE"]
    mine = (settings.HOLDFAST_STATE_DIR, settings.HOLDFAST_SEQUENCER_DIR, settings.HOLDFAST_RELEASE_DIR)
    for place in (
        *([Path(name).parent] if is_file else []),
        *map(Path, mine),
        Path(os.environ.get("TMPDIR") or _TEMPORARY),
    ):
        if os.access(place, os.X_OK):
            yield place


def is_low(place: Path) -> bool:
    """Tell whether a file system is nearly full, for accounts that are not root. Raises OSError."""
    found = os.statvfs(place)
    # A file system that counts no files says 0 of all.
    return found.f_bavail * found.f_frsize < LOW_BYTES or (found.f_files > 0 and found.f_favail < LOW_FILES)
