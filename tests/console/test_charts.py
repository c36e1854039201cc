# SPDX-License-Identifier: Apache-2.0
"""Charts: where the bars stand, and that the picture says in words what it shows."""

from __future__ import annotations

from console.charts import WIDTH, Row, chart


def test_chart_gives_each_row_its_share_of_the_width() -> None:
    made = chart("x", "X", "Of what", [Row("one", 1), Row("three", 3, "alarm"), Row("none", 0)])
    assert [bar.width for bar in made.bars] == [WIDTH // 4, 3 * WIDTH // 4, 0]
    assert [bar.percent for bar in made.bars] == [25, 75, 0]
    assert made.total == 4
    assert made.says == "Of 4: one: 1, three: 3, none: 0."
    tops = [bar.bar_y for bar in made.bars]
    assert tops == sorted(set(tops))
    assert made.height >= tops[-1] + made.thick


def test_chart_shows_what_is_not_nothing_however_small_and_nothing_of_nothing() -> None:
    made = chart("x", "X", "Of what", [Row("one", 1), Row("many", 1_000_000)])
    assert made.bars[0].width == 3
    assert all(bar.width <= WIDTH for bar in made.bars)
    assert [bar.width for bar in chart("x", "X", "Of what", [Row("none", 0)]).bars] == [0]
