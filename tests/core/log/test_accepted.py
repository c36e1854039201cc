# SPDX-License-Identifier: Apache-2.0
"""A log that was accepted from a shorter past: which heads it leaves behind, and which go on from it."""

from __future__ import annotations

import pytest

from holdfast.core.base.errors import Forked, HoldfastError, Untrusted
from holdfast.core.log import merkle
from holdfast.core.log.accepted import SLACK_SECONDS, AcceptedLog
from holdfast.core.log.checkpoint import Checkpoint

AT = 1_800_000_000
OLD = [merkle.leaf_hash(bytes([number])) for number in range(9)]
NEW = OLD[:5] + [merkle.leaf_hash(bytes([number, 1])) for number in range(5, 9)]
ACCEPTED = AcceptedLog(5, merkle.root(OLD[:5]), AT, bytes(32))


def head(leaves: list[bytes], time: int | None = AT - 60) -> Checkpoint:
    return Checkpoint("a log", len(leaves), merkle.root(leaves), time)


@pytest.mark.parametrize(
    ("of", "is_left"),
    [
        (head(NEW[4:8]), True),
        (head(OLD[:5]), False),
        (head(OLD[:6]), True),
        (head(OLD), True),
        (head(NEW[4:9]), True),
        (head(OLD, AT + SLACK_SECONDS), True),
        (head(OLD, AT + SLACK_SECONDS + 1), False),
        (head(OLD, None), False),
    ],
    ids=["another, shorter", "accepted", "beyond", "far beyond", "another of its size", "slack", "later", "undated"],
)
def test_head_of_another_log_is_left_behind_when_it_is_of_before_the_officers_word(
    of: Checkpoint, is_left: bool
) -> None:
    assert ACCEPTED.leaves_behind(of) is is_left


@pytest.mark.parametrize(
    ("of", "is_outrun"),
    [(head(OLD[:4]), False), (head(OLD[:5]), False), (head(NEW[4:9]), True), (head(OLD[:6]), True)],
    ids=["shorter", "accepted", "another of its size", "longer"],
)
def test_head_outruns_what_was_accepted_when_it_has_what_that_lacked(of: Checkpoint, is_outrun: bool) -> None:
    assert ACCEPTED.is_outrun_by(of) is is_outrun


@pytest.mark.parametrize("size", [5, 6, 9])
def test_head_that_extends_what_was_accepted_goes_on(size: int) -> None:
    ACCEPTED.require_goes_on(head(NEW[:size]), merkle.consistency_proof(NEW[:size], 5) if size > 5 else ())


@pytest.mark.parametrize(
    ("of", "proof", "why"),
    [
        (head(OLD[:4]), [], Untrusted),
        (head(NEW[4:]), [], Forked),
        (head(NEW), [], HoldfastError),
        (head(NEW), merkle.consistency_proof(OLD, 5), HoldfastError),
        (head([*NEW[4:], *OLD]), merkle.consistency_proof([*NEW[4:], *OLD], 5), HoldfastError),
    ],
    ids=["shorter", "another of its size", "no proof", "proof of the past left behind", "another log"],
)
def test_head_of_another_log_does_not_go_on(of: Checkpoint, proof: list[bytes], why: type[HoldfastError]) -> None:
    with pytest.raises(why):
        ACCEPTED.require_goes_on(of, proof)
