# SPDX-License-Identifier: Apache-2.0
"""How the processes write their logs: one entry, one line, whatever text of others' an entry names.

Implements FAULTS P13 for operators: no name, error or address begins a line of its own or speaks to the terminal.
Decides nothing about what is logged.
"""

from __future__ import annotations

import logging
from typing import Any

from holdfast.core.base.text import written_out


class LineFormatter(logging.Formatter):
    """Writes out what is hidden in a message; a traceback keeps its line ends."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 — the base class names it
        """Write the line; a record that other handlers format too stays as it is."""
        message, record.message = record.message, written_out(record.message)
        try:
            return super().formatMessage(record)
        finally:
            record.message = message

    def formatException(self, ei: Any) -> str:  # noqa: N802
        """Write a traceback, each of whose lines is indented: none looks like an entry."""
        return _indented(super().formatException(ei))

    def formatStack(self, stack_info: str) -> str:  # noqa: N802
        """Write a stack, indented as a traceback is."""
        return _indented(super().formatStack(stack_info))


def _indented(lines: str) -> str:
    return "\n".join(f"    {written_out(line)}" for line in lines.splitlines())
