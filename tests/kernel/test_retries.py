# SPDX-License-Identifier: Apache-2.0
"""What failed is tried again after longer and longer, and a log says what failed and not with what."""

from __future__ import annotations

import errno
import json

import pytest

from kernel import retries
from kernel.retries import Retries, named, pause_seconds


def test_pause_doubles_up_to_the_longest() -> None:
    assert [pause_seconds(n, first=5, longest=60) for n in range(7)] == [5, 5, 10, 20, 40, 60, 60]
    assert pause_seconds(10**9, first=5, longest=600) == 600


def test_thing_is_left_alone_until_its_time_and_begins_anew_once_it_has_worked() -> None:
    now = [0.0]
    tried = Retries(first=1, longest=60, clock=lambda: now[0])
    assert tried.left("a") == 0
    assert [tried.failed("a"), tried.failed("a")] == [1, 2]
    assert (tried.left("a"), tried.left("b")) == (2, 0)
    now[0] = 2.0
    assert tried.left("a") == 0
    tried.worked("a")
    assert tried.failed("a") == 1


def test_memory_of_failures_has_a_bound() -> None:
    tried = Retries(first=1, longest=60, clock=lambda: 0.0)
    for number in range(retries.MOST + 5):
        tried.failed(number)
    assert len(tried._failed) == retries.MOST
    assert (tried.left(4), tried.left(5)) == (0, 1)


def test_failure_is_named_by_its_place_in_our_code_and_not_by_its_text() -> None:
    with pytest.raises(ValueError, match="Expecting") as failed:
        json.loads("the secret")
    assert named(failed.value).startswith("JSONDecodeError at tests/kernel/test_retries.py:")
    assert named(ValueError("the secret")) == "ValueError"
    assert named(OSError(errno.ENOSPC, "the secret")) == "OSError (No space left on device)"
    assert named(OSError(550, "the secret")) == "OSError", "a mail server's number, with its words"
