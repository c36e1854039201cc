# SPDX-License-Identifier: Apache-2.0
"""The `holdfast` command: the SDK for people and scripts.

Implements every act of `holdfast.client` as a command with stable exit codes and `--json`.
Holds no rule of its own: what is refused here is refused by the client underneath.
"""

from holdfast.cli.app import main

__all__ = ["main"]
