# SPDX-License-Identifier: Apache-2.0
"""The list of who has answered a policy, as an officer's client reads it."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from holdfast.client.errors import AnswerRefused
from holdfast.client.officers import answers
from tests.cast.members import ALICE, Members

COUNTED = {"people": 3, "agreed": 1, "refused": 1, "older": 0, "none": 1}


def page(*said: str, more: bool, start: int, **counted: int) -> dict[str, Any]:
    rows = [
        {"person_id": str(UUID(int=start + number)), "name": "Somebody", "answer": one, "at": None}
        for number, one in enumerate(said)
    ]
    return {"version": 2, "until": "2026-12-01T00:00:00Z", "answers": rows, "more": more, **counted}


def test_each_page_of_answers_is_read_once(world: Members) -> None:
    account = world.enrolled(ALICE)
    pages = [page("agreed", "refused", more=True, start=1, **COUNTED), page("none", more=False, start=3)]
    world.server.instead["GET escrow/policy-answers"] = lambda _body: (200, pages.pop(0))
    read = answers.read(account)
    assert [one.answer for one in read.answers] == ["agreed", "refused", "none"]
    assert (read.people, read.none, pages) == (3, 1, [])


def test_answer_that_there_is_not_is_refused(world: Members) -> None:
    account = world.enrolled(ALICE)
    lie = page("perhaps", more=False, start=1, **COUNTED)
    world.server.instead["GET escrow/policy-answers"] = lambda _body: (200, lie)
    with pytest.raises(AnswerRefused):
        answers.read(account)
