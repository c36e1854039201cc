# SPDX-License-Identifier: Apache-2.0
"""Enrolment codes that the server makes: to be shown once, or for a mail.

Implements ORGANISATION "Devices". Such a code passed through the server, so it pins nothing: `tofu`, and never better.
Only its hash is kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from django.db import transaction
from django.db.models.functions import Now

from holdfast.core.base.secret import SecretBytes
from holdfast.core.signed.enrolment import EnrolmentCode as Code
from kernel.actors import Actor
from tenants import access, mails, services
from tenants.errors import TooManyCodes
from tenants.models import EnrolmentCode, Mail, Person
from tenants.permissions import PermissionName, session_permissions
from tenants.states import PersonState, TenantState

MAIL_KIND: Final = "enrolment-code"


@dataclass(frozen=True)
class Made:
    """A code: its line of text, a secret until used, and its row."""

    text: SecretBytes
    row: EnrolmentCode


def make(*, person: Person, actor: Actor) -> Made:
    """Make a code for a person, good once and for a week. Raises what `services.issue_enrolment_code` does."""
    # No pin and no log key: whatever the server put there would be its own word.
    code = Code.new(tenant=person.tenant_id.bytes, person=person.pk.bytes)
    row = services.issue_enrolment_code(person=person, code_hash=code.hash, actor=actor, trust=EnrolmentCode.Trust.TOFU)
    return Made(SecretBytes(code.text().encode()), row)


def promise(*, person: Person, actor: Actor) -> Mail:
    """Promise a person a code by mail, in the act's transaction. It is made when the mail is handed over."""
    return mails.promise(kind=MAIL_KIND, to=person, actor=actor)


def code_of(mail: Mail, actor: Actor) -> mails.Link | None:
    """Make the code that a mail brings, when it is handed over; None for whoever may have none any more.

    It is issued by whoever asked for the mail, and replaces the one of an earlier try of the same mail.
    """
    person = access.person(mail.person_id)
    issuer = access.people_by_id([mail.by_id]).get(mail.by_id) if mail.by_id else None
    may_have = person.state in (PersonState.INVITED, PersonState.ACTIVE) and person.pk != mail.by_id
    if not may_have or issuer is None or access.tenant().state != TenantState.ACTIVE:
        return None
    may = issuer.state == PersonState.ACTIVE and PermissionName.ENROLMENT_CREATE in session_permissions(issuer.role)
    if not may:
        return None
    behind = Actor(person.tenant_id, "person", issuer.pk, person_id=issuer.pk, role=issuer.role)
    with transaction.atomic():
        earlier = EnrolmentCode.objects.filter(
            person=person,
            issuer_id=issuer.pk,
            trust=EnrolmentCode.Trust.TOFU,
            created_at__gt=mail.created_at,
            used_at=None,
        )
        if mail.attempts:
            earlier.update(expires_at=Now())
        try:
            made = make(person=person, actor=behind)
        except TooManyCodes:
            return None
    return mails.Link(made.text, made.row.expires_at)
