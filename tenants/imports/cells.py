# SPDX-License-Identifier: Apache-2.0
"""Cells of CSV files that a spreadsheet does not take for formulas, and lines of such files.

Implements ORGANISATION "People from a file". Pure: no row, no clock.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from typing import Final

# What begins a formula in the spreadsheets people use, also in the full width that some keyboards type.
_BEGINS: Final = frozenset("=+-@＝＋－＠")
# Cells that begin so are split or read anew by some of them.
_BREAKS: Final = frozenset("\t\r\n")


def is_formula(cell: str) -> bool:
    """Tell whether a spreadsheet may take a cell for a formula."""
    return cell[:1] in _BREAKS or cell.lstrip()[:1] in _BEGINS if cell else False


def escaped(cell: str) -> str:
    """Return a cell as it goes out: with an apostrophe before it when a spreadsheet would take it for a formula."""
    return f"'{cell}" if is_formula(cell.lstrip("'")) else cell


def unescaped(cell: str) -> str:
    """Return what `escaped` was given; any other cell as it is."""
    return cell[1:] if cell.startswith("'") and is_formula(cell.lstrip("'")) else cell


def line(cells: Iterable[str]) -> str:
    """Return one line of a CSV file (RFC 4180), each cell escaped."""
    made = io.StringIO()
    csv.writer(made).writerow([escaped(one) for one in cells])
    return made.getvalue()
