# SPDX-License-Identifier: Apache-2.0
"""A tenant's locks, entry by entry: when it is locked, and how much of a stretch of time that was."""

from __future__ import annotations

import random

from holdfast.core.escrow.locks import Locks


def locked(*marks: tuple[str, int]) -> Locks:
    locks = Locks()
    for word, at in marks:
        if word == "lock":
            locks.lock(at)
        elif word == "ask":
            locks.ask(at, delay=100)
        else:
            locks.unlock(at)
    return locks


def test_tenant_without_an_entry_is_unlocked() -> None:
    assert not Locks().is_locked(10)
    assert Locks().locked_between(0, 10) == 0


def test_lock_lasts_until_two_owners_words_delay_is_over() -> None:
    locks = locked(("lock", 10), ("ask", 20), ("unlock", 130))
    assert [locks.is_locked(at) for at in (10, 129, 130)] == [True, True, False]
    assert locks.locked_between(0, 200) == 120
    assert locks.locked_between(50, 60) == 10
    assert locks.locked_between(130, 200) == 0


def test_unlocking_that_comes_too_early_waits_for_the_delay() -> None:
    locks = locked(("lock", 10), ("ask", 20), ("unlock", 21))
    assert [locks.is_locked(at) for at in (21, 119, 120)] == [True, True, False]


def test_unlocking_that_nobody_asked_for_ends_nothing() -> None:
    locks = Locks()
    locks.lock(10)
    assert not locks.unlock(20)
    assert locks.is_locked(10**9)
    # A word of before the lock is not one about it.
    locks = locked(("ask", 5), ("lock", 10))
    assert not locks.unlock(200)


def test_asking_alone_ends_nothing() -> None:
    assert locked(("lock", 10), ("ask", 20)).is_locked(10**9)


def test_second_word_makes_the_delay_no_shorter_and_no_longer() -> None:
    locks = locked(("lock", 10), ("ask", 20), ("ask", 90), ("unlock", 95))
    assert [locks.is_locked(at) for at in (119, 120)] == [True, False]


def test_locking_again_ends_an_unlocking_on_its_way() -> None:
    locks = locked(("lock", 10), ("ask", 20), ("lock", 50))
    assert not locks.unlock(130)
    assert locks.is_locked(10**9)
    locks = locked(("lock", 10), ("ask", 20), ("unlock", 21), ("lock", 110))
    assert locks.is_locked(10**9)
    assert locks.locked_between(0, 500) == 490


def test_each_lock_counts_once() -> None:
    locks = locked(("lock", 10), ("ask", 10), ("unlock", 110), ("lock", 200), ("ask", 200), ("unlock", 300))
    assert locks.locked_between(0, 1000) == 200
    assert [locks.is_locked(at) for at in (299, 300)] == [True, False]


def test_time_for_a_delay_never_runs_backwards() -> None:
    """What is left of a delay is never more than before, and never goes on in a lock."""
    chance = random.Random(7)
    for _ in range(200):
        at, marks = 0, []
        for _ in range(chance.randrange(1, 12)):
            at += chance.randrange(1, 80)
            marks.append((chance.choice(["lock", "ask", "unlock"]), at))
        locks = locked(*marks)
        ends = [at + step for step in range(0, 300, 7)]
        passed = [end - locks.locked_between(0, end) for end in ends]
        assert passed == sorted(passed)
        for end in ends:
            if locks.is_locked(end):
                assert end + 1 - locks.locked_between(0, end + 1) == end - locks.locked_between(0, end)
