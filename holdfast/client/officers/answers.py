# SPDX-License-Identifier: Apache-2.0
"""Who has answered the newest policy: the server's list, for officers who look after those that never did.

Implements ESCROW "Officers change". Believes nothing of it: each consent counts by its own signature, in each deposit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from holdfast.client.errors import AnswerRefused
from holdfast.client.profile.account import Account
from holdfast.client.server import answers

_PATH: Final = "escrow/policy-answers"
_SAID: Final = ("agreed", "refused", "older", "none")


@dataclass(frozen=True)
class Answer:
    """One person's last word by the server's list: agreed, refused, older (to another version) or none. at: UTC."""

    person_id: UUID
    name: str
    answer: str
    at: int | None


@dataclass(frozen=True)
class Answers:
    """The people of a tenant by their answer to a policy version. until: UTC seconds, by when they were asked to."""

    version: int
    until: int
    people: int
    agreed: int
    refused: int
    older: int
    none: int
    answers: list[Answer]


def read(account: Account) -> Answers:
    """Read all pages of the list. Raises AnswerRefused for an answer that is none of the four."""
    rows: list[Answer] = []
    first = account.api.get(_PATH)
    for row in _rows(account, first):
        if row.text("answer") not in _SAID:
            raise AnswerRefused("The server names an answer that there is not.")
        at = row.time("at") if "at" in row else None
        rows.append(Answer(UUID(bytes=row.identifier("person_id")), row.text("name"), row.text("answer"), at))
    return Answers(
        version=first.number("version"),
        until=first.time("until"),
        people=first.number("people"),
        agreed=first.number("agreed"),
        refused=first.number("refused"),
        older=first.number("older"),
        none=first.number("none"),
        answers=rows,
    )


def _rows(account: Account, first: answers.Answer) -> Iterator[answers.Answer]:
    last = ""
    for row in first.many("answers"):
        last = row.text("person_id")
        yield row
    if first.flag("more") and last:
        yield from account.api.pages(_PATH, "answers", "person_id", query={"after": last})
