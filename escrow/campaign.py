# SPDX-License-Identifier: Apache-2.0
"""Telling everybody that a policy version was published, who has answered it, and officers when one nears its end.

Implements ESCROW "Officers change" (clients are told, ask consent, renew): one mail to a person for a version, and no
reminder; an alarm before a policy or an escrow key runs out. It takes no answer: `services.give_consent` does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final
from uuid import UUID

from django.db import transaction
from django.db.models import Exists, OuterRef, QuerySet

from escrow import access
from escrow.models import Consent, EscrowKey, Policy
from holdfast.core.identity.trust import NOTICE_SECONDS
from holdfast.core.signed.payloads import Header
from kernel.paging import PAGE
from kernel.queue import enqueue
from keys import notices
from tenants import access as tenants
from tenants.roles import Role
from tenants.states import PersonState

if TYPE_CHECKING:
    from tenants.models import Person

ANNOUNCE_JOB: Final = "escrow.announce"
ENDING_JOB: Final = "escrow.ending"
# A month to agree on the next one and have a ceremony for a key; a week for those who let the first mail lie.
_WARN_BEFORE: Final = (timedelta(seconds=NOTICE_SECONDS), timedelta(days=7))
# For so long a deposit under the policy before counts as stale and not as missing: by then people should have answered.
ANSWER_WITHIN: Final = timedelta(days=90)


def promise(row: Policy) -> None:
    """Promise that everybody is told of a version, in the transaction that publishes it."""
    enqueue(ANNOUNCE_JOB, policy=bytes(row.hash).hex(), after="")


def announce(*, policy_hash: bytes, after: UUID | None) -> None:
    """Tell the next hundred people of a version, in their mailboxes and by one mail each, and promise the rest.

    Nobody is told of a version that another has followed, or that was withdrawn. A crash tells a hundred twice.
    """
    with transaction.atomic():
        row = access.newest_policy()
        if bytes(row.hash) != policy_hash:
            return
        told = tenants.active_people_after(after, limit=PAGE)
        until = (row.published_at + ANSWER_WITHIN).strftime("%Y-%m-%d")
        notices.owe(person_ids=told, with_mail=told, event="policy-published", version=str(row.version), until=until)
        # A full page may have been the last one: the next job then tells nobody.
        if len(told) == PAGE:
            enqueue(ANNOUNCE_JOB, policy=policy_hash.hex(), after=str(told[-1]))


def promise_warnings(row: Policy | EscrowKey, header: Header, *, now: datetime) -> None:
    """Promise a mail to officers and owners 30 and 7 days before a policy or an escrow key ends, where it has an end.

    In the transaction that publishes it. What is nearer than that already, those who signed it have just read. A job
    that waits costs nothing until it is due, however many policies and keys there are.
    """
    if not header.expires_at:
        return
    end = datetime.fromtimestamp(header.expires_at, UTC)
    what = "policy" if isinstance(row, Policy) else "key"
    for before in _WARN_BEFORE:
        if end - before > now:
            until = end.strftime("%Y-%m-%d")
            enqueue(ENDING_JOB, run_at=end - before, what=what, hash=bytes(row.hash).hex(), until=until)


def warn_of_end(*, what: str, row_hash: bytes, until: str) -> None:
    """Tell the active officers and owners that the policy or escrow key with this hash runs out.

    what: policy or key. until: the day. Nobody is told of one that another has followed, or that was withdrawn. A crash
    tells them twice.
    """
    with transaction.atomic():
        row: Policy | EscrowKey = access.newest_policy() if what == "policy" else access.escrow_key_in_force()
        if bytes(row.hash) != row_hash:
            return
        people = tenants.people(roles=[Role.OFFICER, Role.OWNER], state=PersonState.ACTIVE)
        told = [person.pk for person in people]
        notices.owe(
            person_ids=told, with_mail=told, event="escrow-ending", kind=what, version=str(row.version), until=until
        )


@dataclass(frozen=True)
class Answer:
    """One person's last word on a version. answer: agreed, refused, older (to another version) or none."""

    person_id: UUID
    name: str
    answer: str
    at: datetime | None


@dataclass(frozen=True)
class AnswerTotals:
    """The tenant's active people by their last word on a version."""

    people: int
    agreed: int
    refused: int
    older: int

    @property
    def none(self) -> int:
        """How many have never answered any version."""
        return self.people - self.agreed - self.refused - self.older


def answers(row: Policy, *, after: UUID | None = None, limit: int = PAGE) -> tuple[list[Answer], bool]:
    """List a page of the active people by name with their last word, and say whether there are more; three queries.

    Raises NotFound for an `after` that is not among them.
    """
    people, more = tenants.active_people_page(after=after, limit=limit)
    return _answers(row, people), more


def answers_found(
    row: Policy, answer: str = "", *, order: Sequence[str], start: int, limit: int
) -> tuple[list[Answer], int]:
    """List a page of the active people in an order with their last word on a version, and count them; three queries.

    answer: only those with this one, as `Answer` names them. order: names of a person's fields, the last one unique.
    """
    among = _last_words(row)[answer].values("user_id") if answer in ("agreed", "refused", "older") else None
    people, total = tenants.people_found(
        state=PersonState.ACTIVE,
        among=among,
        without=Consent.objects.values("user_id") if answer == "none" else None,
        order=order,
        start=start,
        limit=limit,
    )
    return _answers(row, people), total


def count_unanswered() -> int:
    """Count the active people who have never answered any version. One query."""
    return tenants.count_active_among(tenants.active_people_ids(), without=Consent.objects.values("user_id"))


def _answers(row: Policy, people: Sequence[Person]) -> list[Answer]:
    given = Consent.objects.filter(user_id__in=[person.pk for person in people]).order_by("given_at", "-agreed")
    last = {consent.user_id: consent for consent in given.defer("statement")}
    return [_answer(row, person.pk, person.name, last.get(person.pk)) for person in people]


def answer_of(row: Policy, person_id: UUID) -> Answer:
    """Return one person's last word on a version; one query. The name is left out."""
    return _answer(row, person_id, "", access.newest_consent(person_id))


def _answer(row: Policy, person_id: UUID, name: str, consent: Consent | None) -> Answer:
    if consent is None:
        return Answer(person_id, name, "none", None)
    said = "agreed" if consent.agreed else "refused"
    is_of_this = bytes(consent.policy_hash) == bytes(row.hash)
    return Answer(person_id, name, said if is_of_this else "older", consent.given_at)


def _last_words(row: Policy) -> dict[str, QuerySet[Consent]]:
    """Return everybody's last answer by what it comes to."""
    newer = Consent.objects.filter(user_id=OuterRef("user_id"), given_at__gt=OuterRef("given_at"))
    last = Consent.objects.filter(~Exists(newer))
    of_this = last.filter(policy_hash=bytes(row.hash))
    return {
        "agreed": of_this.filter(agreed=True),
        "refused": of_this.filter(agreed=False),
        "older": last.exclude(policy_hash=bytes(row.hash)),
    }


def answer_totals(row: Policy) -> AnswerTotals:
    """Count the active people by their last word, in the database; four queries."""
    active = tenants.active_people_ids()
    counted = {
        name: rows.filter(user_id__in=active).values("user_id").distinct().count()
        for name, rows in _last_words(row).items()
    }
    return AnswerTotals(people=tenants.count_active_people(), **counted)
