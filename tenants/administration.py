# SPDX-License-Identifier: Apache-2.0
"""Verbs by which people are administered beyond letting them in and stopping them.

Implements ORGANISATION "People". Called by `acts`, inside the transaction of an act that was confirmed.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from django.db import IntegrityError, transaction

from audit import services as audit
from kernel.actors import Actor
from kernel.clock import database_now
from kernel.errors import LimitReached
from kernel.transitions import advance
from tenants import access, names
from tenants.errors import NameTaken
from tenants.models import FormerAddress, Person
from tenants.services import activate_person, void_invitations
from tenants.sponsors import let_in
from tenants.states import PERSON, PersonState

# ORGANISATION "People": whoever took a mailbox over to hide a case from somebody has to hide it for a month.
TOLD_FORMERLY: Final = timedelta(days=30)
# Of one person at a time: each mail to them goes to every one of these. Whoever moves twice in a month is not near it,
# and none of the older ones is given up for a newer.
MAX_FORMER: Final = 5


def rename(*, person: Person, name: str, actor: Actor) -> None:
    """Give a person another name. Raises NameRefused."""
    person.name = names.display_name(name)
    with transaction.atomic():
        person.save(update_fields=["name"])
        audit.append(tag="tenants:person:rename", actor=actor, subject=str(person.pk))


def change_address(*, person: Person, email: str, actor: Actor) -> None:
    """Give a person another e-mail address; the old one is told what they are told for 30 days more.

    Their open invitation and codes stop: they went to the old one. Raises NameRefused, NameTaken, and LimitReached for
    whoever has five addresses of before that are told still.
    """
    key, former = names.email_key(email), person.email
    if len(access.former_addresses(person.pk)) >= MAX_FORMER:
        raise LimitReached(
            "This address was changed five times in 30 days. Wait until the oldest of them is told no more.",
            limit="former-addresses",
            most=MAX_FORMER,
            field="email",
        )
    with transaction.atomic():
        try:
            with transaction.atomic():
                person.email, person.email_key = email.strip(), key
                person.save(update_fields=["email", "email_key"])
        except IntegrityError as error:
            raise NameTaken("A person with this address is here already.", field="email") from error
        FormerAddress.objects.create(person=person, email=former, told_until=database_now() + TOLD_FORMERLY)
        void_invitations(person)
        let_in(person.pk, [access.person_behind(actor)])
        audit.append(tag="tenants:person:change-address", actor=actor, subject=str(person.pk))


def resume(*, person: Person, actor: Actor) -> None:
    """Let a suspended person go on where they were: active, or invited if they had proved nothing yet.

    Raises Conflict when somebody moved them meanwhile.
    """
    if person.active_since is not None:
        activate_person(person=person, actor=actor)
        return
    with transaction.atomic():
        advance(person, PERSON, PersonState.INVITED)
        audit.append(tag="tenants:person:resume", actor=actor, subject=str(person.pk))
