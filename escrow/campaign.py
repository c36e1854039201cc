# SPDX-License-Identifier: Apache-2.0
"""Telling everybody that a policy version was published, and who has answered it.

Implements ESCROW "Officers change" (clients are told, ask consent, renew): one mail to a person for a version, and no
reminder. It takes no answer: `services.give_consent` does.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from django.db import transaction
from django.db.models import Exists, OuterRef

from escrow import access
from escrow.models import Consent, Policy
from kernel.paging import PAGE
from kernel.queue import enqueue
from keys import notices
from tenants import access as tenants

ANNOUNCE_JOB: Final = "escrow.announce"
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
    given = Consent.objects.filter(user_id__in=[person.pk for person in people]).order_by("given_at", "pk")
    last = {consent.user_id: consent for consent in given.defer("statement")}
    return [_answer(row, person.pk, person.name, last.get(person.pk)) for person in people], more


def _answer(row: Policy, person_id: UUID, name: str, consent: Consent | None) -> Answer:
    if consent is None:
        return Answer(person_id, name, "none", None)
    said = "agreed" if consent.agreed else "refused"
    is_of_this = bytes(consent.policy_hash) == bytes(row.hash)
    return Answer(person_id, name, said if is_of_this else "older", consent.given_at)


def answer_totals(row: Policy) -> AnswerTotals:
    """Count the active people by their last word, in the database; four queries."""
    newer = Consent.objects.filter(user_id=OuterRef("user_id"), given_at__gt=OuterRef("given_at"))
    last = Consent.objects.filter(~Exists(newer), user_id__in=tenants.active_people_ids())
    of_this = last.filter(policy_hash=bytes(row.hash))
    return AnswerTotals(
        people=tenants.count_active_people(),
        agreed=of_this.filter(agreed=True).values("user_id").distinct().count(),
        refused=of_this.filter(agreed=False).values("user_id").distinct().count(),
        older=last.exclude(policy_hash=bytes(row.hash)).values("user_id").distinct().count(),
    )
