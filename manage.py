#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Django's command line for operators; people use `holdfast`."""

from __future__ import annotations

import sys

from config.start import end_when_told, require_settings, show_what_can_be_shown


def main() -> None:
    """Run one management command, under the settings that the environment names."""
    end_when_told()
    show_what_can_be_shown()
    require_settings()
    from django.core.management import execute_from_command_line

    from config.sentences import OF_DATABASE, of_database

    try:
        execute_from_command_line(sys.argv)
    except OF_DATABASE as error:
        said = of_database(error)
        if not said:
            raise
        sys.stderr.write(f"{said}\n")
        sys.exit(1)


if __name__ == "__main__":
    main()
