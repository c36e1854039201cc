# SPDX-License-Identifier: Apache-2.0
"""The release process with its own tokens, until nothing is due: what the kill tests start and kill.

`python -m tests.recovery.release_once` under the settings of the tests and HOLDFAST_ROLE=release.
"""

from __future__ import annotations

import os

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings.test")
django.setup()


def main() -> None:
    """Tick a few times; each tick does all that is due."""
    from django.conf import settings
    from django.db import connection

    from recovery.release.process import open_process

    # The tests' own connections do not wait for the disk; what is killed does, as on a server: each commit is a
    # call that the kills meet.
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA synchronous=FULL")
    with open_process(settings.HOLDFAST_RELEASE_DIR) as process:
        for _ in range(3):
            process.tick()


if __name__ == "__main__":
    main()
