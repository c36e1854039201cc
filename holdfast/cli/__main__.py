# SPDX-License-Identifier: Apache-2.0
"""Runs the command as `python -m holdfast.cli`."""

from holdfast.cli import main

if __name__ == "__main__":
    main()
