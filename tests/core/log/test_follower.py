# SPDX-License-Identifier: Apache-2.0
"""Following a log: forward only, every leaf seen, and each way of lying has its own refusal."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.core.base.errors import Expired, Forked, Untrusted
from holdfast.core.log import checkpoint as notes
from holdfast.core.log.follower import (
    MAX_AHEAD_SECONDS,
    Edited,
    LogFollower,
    RolledBack,
    require_fresh,
    require_not_ahead,
)
from holdfast.core.log.merkle import CompactRange, leaf_hash

NOW = 1_800_000_000
ORIGIN = "holdfast/11111111-1111-4111-8111-111111111111/audit"
LEAVES = [f"leaf {n}".encode() for n in range(40)]


def note(leaves: list[bytes], *, time: int | None = NOW, size: int | None = None) -> notes.Checkpoint:
    grown = CompactRange.over(leaf_hash(leaf) for leaf in leaves)
    return notes.Checkpoint(ORIGIN, grown.size if size is None else size, grown.root(), time)


def standing_at(size: int) -> LogFollower:
    return LogFollower().advance(LEAVES[:size], note(LEAVES[:size]))


@given(st.lists(st.integers(0, 40), max_size=8).map(sorted))
def test_advance_follows_any_growth(sizes: list[int]) -> None:
    follower = LogFollower()
    for size in sizes:
        follower = follower.advance(LEAVES[follower.size : size], note(LEAVES[:size]))
        assert follower.size == size
        assert follower.range == CompactRange.over(leaf_hash(leaf) for leaf in LEAVES[:size])


def test_advance_refuses_a_log_that_was_put_back_whatever_its_date() -> None:
    with pytest.raises(RolledBack):
        standing_at(10).advance([], note(LEAVES[:9], time=NOW + 9))


def test_head_of_one_size_with_an_earlier_date_is_the_same_log() -> None:
    """A clock that was set right dates earlier; heads are ordered by size."""
    assert standing_at(10).advance([], note(LEAVES[:10], time=NOW - 7200)).size == 10


def test_advance_refuses_a_second_head_of_one_size() -> None:
    forged = [*LEAVES[:9], b"another"]
    with pytest.raises(Forked) as refused:
        standing_at(10).advance([], note(forged))
    assert not isinstance(refused.value, Edited)


@pytest.mark.parametrize(
    "served",
    [
        [*LEAVES[10:14], b"edited", *LEAVES[15:20]],
        [*LEAVES[10:14], *LEAVES[15:20]],
        [*LEAVES[10:15], b"inserted", *LEAVES[15:20]],
        [*LEAVES[10:15], *LEAVES[15:20], b"appended"],
        [*LEAVES[10:14], LEAVES[15], LEAVES[14], *LEAVES[16:20]],
        LEAVES[10:19],
        [],
    ],
)
def test_advance_refuses_entries_that_do_not_lead_to_the_head(served: list[bytes]) -> None:
    follower = standing_at(10)
    with pytest.raises(Edited):
        follower.advance(served, note(LEAVES[:20]))
    assert follower.advance(LEAVES[10:20], note(LEAVES[:20])).size == 20


def test_advance_refuses_a_fork_behind_what_it_has_read() -> None:
    forged = [b"another past", *LEAVES[1:20]]
    with pytest.raises(Edited):
        standing_at(10).advance(forged[10:], note(forged))


def test_advance_reads_no_further_than_one_leaf_beyond_the_head() -> None:
    taken = []

    def endless() -> Iterator[bytes]:
        while True:
            taken.append(1)
            yield LEAVES[0]

    with pytest.raises(Edited):
        standing_at(1).advance(endless(), note(LEAVES[:5]))
    assert len(taken) == 5


@pytest.mark.parametrize("time", [NOW - 121, NOW + MAX_AHEAD_SECONDS + 1, None])
def test_head_outside_its_time_is_not_fresh(time: int | None) -> None:
    with pytest.raises(Expired):
        require_fresh(note(LEAVES[:3], time=time), now=NOW)


@pytest.mark.parametrize("time", [NOW - 120, NOW, NOW + MAX_AHEAD_SECONDS])
def test_head_within_its_time_is_fresh(time: int) -> None:
    require_fresh(note(LEAVES[:3], time=time), now=NOW)
    require_fresh(note(LEAVES[:3], time=time), now=time + 900, max_age=900)


@pytest.mark.parametrize("time", [NOW + MAX_AHEAD_SECONDS + 1, None])
def test_head_from_ahead_is_not_believed(time: int | None) -> None:
    require_not_ahead(note(LEAVES[:3], time=NOW - 10**6), now=NOW)
    with pytest.raises(Expired):
        require_not_ahead(note(LEAVES[:3], time=time), now=NOW)


def test_every_refusal_of_a_lie_is_untrusted() -> None:
    # The release process holds a case on any of them, whichever it is.
    assert issubclass(RolledBack, Untrusted)
    assert issubclass(Edited, Forked)
    assert issubclass(Forked, Untrusted)
