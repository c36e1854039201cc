# SPDX-License-Identifier: Apache-2.0
"""Following a log: forward only, every leaf seen, and each way of lying has its own refusal."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.core.base.errors import Expired, Forked, InvalidSignature, Malformed, Untrusted
from holdfast.core.crypto.keys import SigningKey
from holdfast.core.log import checkpoint as notes
from holdfast.core.log.follower import MAX_AHEAD_SECONDS, Edited, LogFollower, RolledBack
from holdfast.core.log.merkle import CompactRange, leaf_hash

NOW = 1_800_000_000
ORIGIN = "holdfast/11111111-1111-4111-8111-111111111111/audit"
KEY = SigningKey.generate()
VERIFIER = notes.NoteVerifier(ORIGIN, KEY.public)
LEAVES = [f"leaf {n}".encode() for n in range(40)]


def note(leaves: list[bytes], *, time: int | None = NOW, size: int | None = None, origin: str = ORIGIN) -> str:
    grown = CompactRange.over(leaf_hash(leaf) for leaf in leaves)
    head = notes.Checkpoint(origin, grown.size if size is None else size, grown.root(), time)
    verifier = notes.NoteVerifier(origin, KEY.public)
    return notes.sign_note(head.to_text(), verifier=verifier, sign=KEY.sign)


def standing_at(size: int) -> LogFollower:
    return LogFollower(VERIFIER).advance(LEAVES[:size], note(LEAVES[:size]), now=NOW)


@given(st.lists(st.integers(0, 40), max_size=8).map(sorted))
def test_advance_follows_any_growth_and_survives_being_stored(sizes: list[int]) -> None:
    follower = LogFollower(VERIFIER)
    for size in sizes:
        follower = LogFollower.from_bytes(follower.to_bytes())
        follower = follower.advance(LEAVES[follower.size : size], note(LEAVES[:size]), now=NOW)
        assert follower.size == size
        assert follower.range == CompactRange.over(leaf_hash(leaf) for leaf in LEAVES[:size])
    assert follower.time == (NOW if sizes else 0)


def test_advance_refuses_a_log_that_was_put_back() -> None:
    with pytest.raises(RolledBack):
        standing_at(10).advance([], note(LEAVES[:9]), now=NOW)
    with pytest.raises(RolledBack):
        standing_at(10).advance([], note(LEAVES[:10], time=NOW - 1), now=NOW)


def test_advance_refuses_a_second_head_of_one_size() -> None:
    forged = [*LEAVES[:9], b"another"]
    with pytest.raises(Forked) as refused:
        standing_at(10).advance([], note(forged), now=NOW)
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
        follower.advance(served, note(LEAVES[:20]), now=NOW)
    assert follower.advance(LEAVES[10:20], note(LEAVES[:20]), now=NOW).size == 20


def test_advance_refuses_a_fork_behind_what_it_has_read() -> None:
    forged = [b"another past", *LEAVES[1:20]]
    with pytest.raises(Edited):
        standing_at(10).advance(forged[10:], note(forged), now=NOW)


def test_advance_reads_no_further_than_one_leaf_beyond_the_head() -> None:
    taken = []

    def endless() -> Iterator[bytes]:
        while True:
            taken.append(1)
            yield LEAVES[0]

    with pytest.raises(Edited):
        standing_at(1).advance(endless(), note(LEAVES[:5]), now=NOW)
    assert len(taken) == 5


@pytest.mark.parametrize("time", [NOW - 121, NOW + MAX_AHEAD_SECONDS + 1, None])
def test_advance_refuses_a_head_outside_its_time(time: int | None) -> None:
    with pytest.raises(Expired):
        LogFollower(VERIFIER).advance(LEAVES[:3], note(LEAVES[:3], time=time), now=NOW)


@pytest.mark.parametrize("time", [NOW - 120, NOW, NOW + MAX_AHEAD_SECONDS])
def test_advance_takes_a_head_within_its_time(time: int) -> None:
    assert LogFollower(VERIFIER).advance(LEAVES[:3], note(LEAVES[:3], time=time), now=NOW).time == time
    late = LogFollower(VERIFIER).advance(LEAVES[:3], note(LEAVES[:3], time=time), now=time + 900, max_age=900)
    assert late.size == 3


def test_advance_refuses_another_key_another_log_and_what_is_no_note() -> None:
    stranger = LogFollower(notes.NoteVerifier(ORIGIN, SigningKey.generate().public))
    with pytest.raises(InvalidSignature):
        stranger.advance(LEAVES[:3], note(LEAVES[:3]), now=NOW)
    other = "holdfast/22222222-2222-4222-8222-222222222222/audit"
    with pytest.raises(InvalidSignature):
        LogFollower(VERIFIER).advance(LEAVES[:3], note(LEAVES[:3], origin=other), now=NOW)
    body = notes.Checkpoint(other, 0, CompactRange().root(), NOW).to_text()
    with pytest.raises(InvalidSignature):
        LogFollower(VERIFIER).advance([], notes.sign_note(body, verifier=VERIFIER, sign=KEY.sign), now=NOW)
    with pytest.raises(Malformed):
        LogFollower(VERIFIER).advance([], "no note", now=NOW)
    signed = note(LEAVES[:3])
    with pytest.raises(InvalidSignature):
        LogFollower(VERIFIER).advance(LEAVES[:3], signed.replace(f"time {NOW}", f"time {NOW + 1}"), now=NOW)


@given(st.binary(max_size=300))
def test_from_bytes_refuses_noise(noise: bytes) -> None:
    with pytest.raises(Malformed):
        LogFollower.from_bytes(noise)


def test_every_refusal_of_a_lie_is_untrusted() -> None:
    # The release process holds a case on any of them, whichever it is.
    assert issubclass(RolledBack, Untrusted)
    assert issubclass(Edited, Forked)
    assert issubclass(Forked, Untrusted)
