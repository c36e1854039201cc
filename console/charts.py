# SPDX-License-Identifier: Apache-2.0
"""Charts as the server draws them: where each bar of a chart stands in its picture, and the numbers beside it.

Pure: numbers in, places out. `templates/console/chart.html` makes the SVG, and below it a table with the same numbers.
No bar says anything by its colour alone: its words and its number stand over it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

WIDTH: Final = 320  # units of the picture: about as many pixels on a narrow phone, so that its text stays readable
_ROW: Final = 40  # a line of text, the bar below it, and air
_TEXT: Final = 13  # from the row's top to the text's foot
_BAR: Final = 20  # from the row's top to the bar's
_THICK: Final = 10
_LEAST: Final = 3  # what is not nothing can be seen


@dataclass(frozen=True)
class Row:
    """What a chart is made of. kind: the badge whose colour it has. to: where a click on its words leads, or ""."""

    words: str
    number: int
    kind: str = "ok"
    to: str = ""


@dataclass(frozen=True)
class Bar:
    """One row of a chart and its place in the picture, in its units. percent: of all rows together, rounded."""

    row: Row
    text_y: int
    bar_y: int
    width: int
    percent: int


@dataclass(frozen=True)
class Chart:
    """A bar chart. key: unique on the page. heading: over it, in a few words. title, says: what it is of,
    and the whole of it in one sentence, for whoever does not see it."""

    key: str
    heading: str
    title: str
    says: str
    bars: tuple[Bar, ...]
    total: int
    height: int
    width: int = WIDTH
    thick: int = _THICK


def chart(key: str, heading: str, title: str, rows: Sequence[Row]) -> Chart:
    """Lay rows out as bars, one below the other, each as long as its share of all of them."""
    total = sum(row.number for row in rows)
    bars = tuple(
        Bar(
            row=row,
            text_y=place * _ROW + _TEXT,
            bar_y=place * _ROW + _BAR,
            width=max(_LEAST, round(WIDTH * row.number / total)) if row.number else 0,
            percent=round(100 * row.number / total) if total else 0,
        )
        for place, row in enumerate(rows)
    )
    says = ", ".join(f"{row.words}: {row.number}" for row in rows)
    return Chart(key, heading, title, f"Of {total}: {says}.", bars, total, len(rows) * _ROW)
