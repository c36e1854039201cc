# SPDX-License-Identifier: Apache-2.0
"""Who could release a deposit, by policies and times alone (FAULTS P5, P8, P9)."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

from holdfast.core.crypto.keys import SealingKey, SigningKey
from holdfast.core.escrow.releasable import Releasable, releasable
from holdfast.core.identity.policy import History, Officer, SignedPolicy, history_of
from tests.cast import statements as cast
from tests.cast.statements import DAY, NOW, OFFICERS, SIGNED_POLICY

PRESENT = frozenset({cast.CAROL, cast.DAN, cast.ERIN, cast.RITA})
RITA = Officer(4, cast.RITA, SigningKey.generate().public, SealingKey.generate().public)
ALL = SIGNED_POLICY.signers


def followed_by(signers: frozenset[bytes] = ALL, **changes: Any) -> History:
    """The founding version, and one that was published now."""
    made = cast.next_policy(**changes)
    second = SignedPolicy(made, hashlib.sha256(made.to_payload()).digest(), signers)
    return history_of([SIGNED_POLICY, second], [0, NOW])


FOUNDED = history_of([SIGNED_POLICY], [0])


def ask(history: History = FOUNDED, *, at: int = NOW, **changes: Any) -> Releasable:
    return releasable(SIGNED_POLICY, history=history, at=at, **({"present": PRESENT} | changes))


def test_officers_of_the_deposits_own_policy_are_counted_by_its_indices() -> None:
    found = ask()
    assert (found.indices, found.needed, found.is_open, found.is_alarming) == ((1, 2, 3), 2, True, False)
    moved = followed_by(roster=(replace(OFFICERS[1], index=1), replace(OFFICERS[0], index=2), replace(RITA, index=3)))
    assert ask(moved).indices == (1, 2)


def test_whoever_is_not_present_or_is_excluded_does_not_count() -> None:
    found = ask(present=PRESENT - {cast.CAROL})
    assert (found.indices, found.is_open, found.is_alarming) == ((2, 3), True, True)
    found = ask(present=PRESENT - {cast.CAROL}, excluded={cast.DAN})
    assert (found.indices, found.is_open) == ((3,), False)
    assert ask(present=()).indices == ()


def test_officer_whom_a_version_takes_out_counts_until_it_is_in_force() -> None:
    signers = frozenset(OFFICERS[place].signing_key.kid for place in (0, 1))
    history = followed_by(signers, roster=(*OFFICERS[:2], replace(RITA, index=3)))
    assert [ask(history, at=NOW + seconds).indices for seconds in (DAY - 1, DAY)] == [(1, 2, 3), (1, 2)]


def test_officer_with_other_keys_has_no_share_to_hand_over() -> None:
    erin = OFFICERS[2]
    for row in (replace(erin, sealing_key=RITA.sealing_key), replace(erin, signing_key=RITA.signing_key)):
        history = followed_by(roster=(*OFFICERS[:2], row))
        assert cast.ERIN in {officer.person for officer in history.counting(NOW)}
        assert ask(history).indices == (1, 2)


def test_raised_quorum_binds_older_deposits_even_while_the_version_waits() -> None:
    lowered = replace(cast.TERMS, delay_seconds=0)
    for terms in (cast.TERMS, lowered):
        found = ask(followed_by(roster=(*OFFICERS, RITA), m=3, terms=terms))
        assert (found.indices, found.needed, found.is_open, found.is_alarming) == ((1, 2, 3), 3, True, True)
    assert not ask(followed_by(roster=(*OFFICERS, RITA), m=3), excluded={cast.ERIN}).is_open


def test_case_is_decided_by_the_officers_of_its_own_policy() -> None:
    other = cast.next_policy(m=2, roster=(*OFFICERS[:2], replace(RITA, index=3)))
    assert ask(asked_under=[other]).indices == (1, 2)
    stricter = replace(cast.POLICY, m=3, roster=(*OFFICERS, RITA))
    assert ask(asked_under=[stricter]).needed == 3


def test_new_officer_counts_for_deposits_of_their_own_version_after_the_cooling_off() -> None:
    history = followed_by(roster=(*OFFICERS, RITA))
    found = [
        releasable(history.newest, history=history, at=NOW + seconds, present=PRESENT).indices
        for seconds in (0, DAY - 1, DAY)
    ]
    assert found == [(1, 2, 3), (1, 2, 3), (1, 2, 3, 4)]
