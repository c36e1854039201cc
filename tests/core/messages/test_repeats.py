# SPDX-License-Identifier: Apache-2.0
"""The rules of what is sent again: to whom, how often, and what it counts as."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.core.messages import repeats

NOW = 1_790_000_000
DAY = 86_400
DEVICES = st.sets(st.sampled_from([bytes([number]) * 16 for number in range(5)]))


@pytest.mark.parametrize(
    ("begun", "is_confirmed", "may"),
    [
        ([], True, True),
        ([], False, True),
        ([NOW], True, True),
        ([NOW - 1], False, False),
        ([NOW - DAY + 1], False, False),
        ([NOW - DAY], False, True),
        ([NOW - 1, NOW], True, False),
        ([NOW - DAY, NOW], True, True),
        ([NOW - DAY, NOW - DAY], False, True),
        # By a clock that was ahead: for an hour it counts, from further off it blocks nothing.
        ([NOW + 3600, NOW + 3600], True, False),
        ([NOW + 40 * DAY, NOW + 40 * DAY], False, True),
    ],
)
def test_sessions_are_begun_anew_twice_a_day_and_the_second_after_an_answer(
    begun: list[int], is_confirmed: bool, may: bool
) -> None:
    assert repeats.may_begin(begun, NOW, is_confirmed=is_confirmed) is may


def test_greetings_are_answered_four_times_a_day() -> None:
    times: list[int] = []
    answered = []
    for hour in range(72):
        if repeats.may_answer(times, NOW + hour * 3600):
            times.append(NOW + hour * 3600)
            answered.append(hour)
    assert answered == [0, 1, 2, 3, 24, 25, 26, 27, 48, 49, 50, 51]


@pytest.mark.parametrize(("octets", "counted"), [(0, 4096), (4096, 4096), (4097, 4097), (1_015_824, 1_015_824)])
def test_message_counts_as_four_kib_at_least(octets: int, counted: int) -> None:
    assert repeats.counted(octets) == counted
    assert repeats.KEPT_OCTETS // repeats.LEAST_OCTETS == 16_384


@given(waiting=DEVICES, listed=DEVICES, is_acknowledged=st.booleans())
def test_message_waits_for_listed_devices_alone_and_is_never_given_up_while_nobody_has_it(
    waiting: set[bytes], listed: set[bytes], is_acknowledged: bool
) -> None:
    still = repeats.still_due(waiting, listed, is_acknowledged=is_acknowledged)
    assert still <= listed
    assert still >= waiting & listed
    if waiting and listed and not is_acknowledged:
        assert still, "somebody is to get it"
    if still - waiting:
        assert not is_acknowledged, "a device that came later gets nothing that another one has"
        assert not waiting & listed
        assert still == listed


def test_pause_doubles_to_an_end_and_is_never_shorter_than_was_asked() -> None:
    waits = [repeats.pause_seconds(refused, 0) for refused in range(1, 40)]
    assert waits[:4] == [60, 120, 240, 480]
    assert set(waits[9:]) == {6 * 3600}
    assert repeats.pause_seconds(10**6, 0) == 6 * 3600
    assert repeats.pause_seconds(1, 90.5) == 91
    assert repeats.pause_seconds(1, 10**9) == repeats.MOST_PAUSED_SECONDS
