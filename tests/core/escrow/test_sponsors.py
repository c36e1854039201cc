# SPDX-License-Identifier: Apache-2.0
"""Who stands behind whoever asks: acts by which people let each other in, and for how long they count."""

from __future__ import annotations

import pytest

from holdfast.core.escrow.sponsors import WITHIN_SECONDS, letting_in, still_behind

NOW = 1_900_000_000
DAY = 86_400


class Acts:
    """What is known of people, as acts are done one after the other."""

    def __init__(self) -> None:
        self.known: dict[str, dict[str, int]] = {}

    def let_in(self, person: str, by: str, at: int) -> None:
        for one in letting_in([by], self.known, at):
            self.known.setdefault(person, {})[one] = at

    def behind(self, person: str, at: int) -> frozenset[str]:
        return still_behind(self.known.get(person, {}), at)


def test_nobody_stands_behind_whom_nobody_let_in() -> None:
    assert still_behind({}, NOW) == frozenset()
    assert letting_in([], {"a": {"b": NOW}}, NOW) == frozenset()
    assert letting_in(["a"], {}, NOW) == {"a"}


def test_those_behind_a_sponsor_come_along_however_long_they_wait_afterwards() -> None:
    """A puppet made eighty days before it acted has its maker behind it, for ninety days from its own act."""
    acts = Acts()
    acts.let_in("c", by="d", at=NOW - 251 * DAY)
    acts.let_in("b", by="c", at=NOW - 160 * DAY)
    acts.let_in("a", by="b", at=NOW - 80 * DAY)
    assert acts.behind("a", NOW) == {"b", "c"}
    assert acts.behind("b", NOW) == frozenset()


@pytest.mark.parametrize(("ago", "behind"), [(0, {"b"}), (WITHIN_SECONDS, {"b"}), (WITHIN_SECONDS + 1, set())])
def test_act_counts_for_ninety_days(ago: int, behind: set[str]) -> None:
    assert still_behind({"b": NOW - ago}, NOW) == behind
    assert letting_in(["a"], {"a": {"b": NOW - ago}}, NOW) == {"a"} | behind


def test_what_a_sponsor_comes_to_afterwards_had_no_part_in_their_act() -> None:
    acts = Acts()
    acts.let_in("a", by="b", at=NOW - DAY)
    acts.let_in("b", by="c", at=NOW)
    assert acts.behind("a", NOW) == {"b"}


def test_people_who_let_each_other_in_stand_behind_each_other() -> None:
    acts = Acts()
    for day in range(10):
        acts.let_in("a", by="b", at=NOW + day * DAY)
        acts.let_in("b", by="a", at=NOW + day * DAY)
    assert acts.behind("a", NOW + 9 * DAY) == acts.behind("b", NOW + 9 * DAY) == {"a", "b"}
    assert sum(map(len, acts.known.values())) == 4, "one time for two people, whatever they do"
