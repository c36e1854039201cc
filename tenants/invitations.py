# SPDX-License-Identifier: Apache-2.0
"""Invitations: a link that lets one person set their first password and second factor for the console, once.

Implements ORGANISATION "Founding, at different desks" and "People". The link's token was never here: only its hash.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet
from django.db.models.functions import Now

from audit import services as audit
from audit.access import is_restored
from audit.errors import LogRestored
from holdfast.core.base.encoding import b64u, label, unb64u
from holdfast.core.base.errors import HoldfastError
from holdfast.core.base.secret import SecretBytes
from kernel.actors import Actor
from kernel.clock import database_now
from kernel.scope import tenant_scope
from tenants import access, mails, sign_in
from tenants.errors import InvitationRefused
from tenants.limits import count_against
from tenants.models import Invitation, Mail, Person
from tenants.services import activate_person, set_password
from tenants.sponsors import let_in
from tenants.states import INVITING_STATES, PersonState

LIFE: Final = timedelta(hours=72)
_TOKEN_SIZE: Final = 16  # bytes: 128 bits, never guessed in three days
TRIES_PER_SOURCE: Final = 60  # in ten minutes: an office that begins together, and no more noise than that


@dataclass(frozen=True)
class Link:
    """What the person opens. text is the whole address, a secret until used; expires_at is UTC."""

    text: SecretBytes
    invitation: Invitation


def invite(*, person: Person, actor: Actor) -> Link:
    """Make a person's link, good for 72 hours; every earlier one of theirs stops.

    It changes nothing about the person before they have opened it and finished, but for who stands behind them.
    """
    token = secrets.token_bytes(_TOKEN_SIZE)
    with transaction.atomic():
        now = database_now()
        _end_open(person, now)
        row: Invitation = Invitation.objects.create(
            person=person, token_hash=_hash(person.tenant_id, token), expires_at=now + LIFE, created_by=actor.label
        )
        # Whoever makes a link may be the one who opens it.
        let_in(person.pk, [access.person_behind(actor)])
        audit.append(
            tag="tenants:invitation:issue", actor=actor, subject=str(person.pk), body={"invitation": str(row.pk)}
        )
    path = f"/console/invitation/{person.tenant_id}/{b64u(token)}/"
    return Link(SecretBytes(f"{settings.HOLDFAST_PUBLIC_URL}{path}".encode()), row)


def promise(*, person: Person, actor: Actor) -> Mail:
    """Promise a person their link by mail, in the act's transaction; every link of theirs stops at once.

    The link itself is made when the mail is handed over, and again when that has to be tried again.
    """
    with transaction.atomic():
        _end_open(person, database_now())
        mail = mails.promise(kind="invitation", to=person, actor=actor)
        let_in(person.pk, [access.person_behind(actor)])
        audit.append(tag="tenants:invitation:promise", actor=actor, subject=str(person.pk), body={"mail": str(mail.pk)})
    return mail


def promise_each(*, people: Collection[Person], actor: Actor) -> None:
    """Promise people who have no link yet theirs by mail, in the transaction that creates them."""
    with transaction.atomic():
        for mail in mails.promise_each(kind="invitation", people=people, actor=actor):
            audit.append(
                tag="tenants:invitation:promise",
                actor=actor,
                subject=str(mail.person_id),
                body={"mail": str(mail.pk)},
            )


def link_of(mail: Mail, actor: Actor) -> mails.Link | None:
    """Make the link that a mail brings, when it is handed over; None for whoever has used one since, or may not."""
    person = access.person(mail.person_id)
    # A mail that is sent twice brings no second link to whoever has used the first.
    is_used = Invitation.objects.filter(person=person, used_at__gte=mail.created_at).exists()
    if is_used or person.state not in (PersonState.INVITED, PersonState.ACTIVE):
        return None
    made = invite(person=person, actor=actor)
    return mails.Link(made.text, made.invitation.expires_at)


def _end_open(person: Person, now: datetime) -> None:
    Invitation.objects.filter(person=person, used_at=None, expires_at__gt=now).update(expires_at=now)


def has_open(person: Person) -> bool:
    """Tell whether a person has a link that can still be used."""
    return _open().filter(person=person).exists()


def count_try(*, source: str) -> None:
    """Count one opening of a link, or try to finish, from a source. Raises Throttled. Call it outside transactions."""
    count_against(f"invitation:{source}", limit=TRIES_PER_SOURCE, seconds=600)


def find(*, tenant_id: UUID, token: str) -> Invitation:
    """Return the invitation whose link this is, with its person. Raises InvitationRefused for all others alike."""
    try:
        digest = _hash(tenant_id, unb64u(token, max_size=_TOKEN_SIZE))
    except HoldfastError as error:
        raise InvitationRefused from error
    with tenant_scope(tenant_id):
        rows = _open().select_related("person", "tenant").filter(token_hash=digest)
        found: Invitation | None = rows.first()
    if found is None or not hmac.compare_digest(bytes(found.token_hash), digest):
        raise InvitationRefused
    return found


def accept(
    *, tenant_id: UUID, invitation_id: UUID, password: SecretBytes, totp_key: SecretBytes, code: str
) -> tuple[str, ...]:
    """Set a person's password and authenticator by their link, use it up, and return their recovery codes.

    All or nothing; of simultaneous calls one succeeds. Raises InvitationRefused, PasswordRefused, CodeRefused,
    FactorsAway, and LogRestored while the tenant is read-only.
    """
    with tenant_scope(tenant_id):
        found: Invitation | None = _open().select_related("person").filter(pk=invitation_id).first()
        if found is None:
            raise InvitationRefused
        if is_restored():
            raise LogRestored
        # Before the transaction: it asks the HSM.
        sealed = sign_in.seal_key(person=found.person, key=totp_key)
    with tenant_scope(tenant_id), transaction.atomic():
        row: Invitation | None = _open().select_for_update(of=("self",)).filter(pk=invitation_id).first()
        if row is None:
            raise InvitationRefused
        person = access.person_for_update(row.person_id)
        if person.state not in (PersonState.INVITED, PersonState.ACTIVE):
            raise InvitationRefused
        used = Invitation.objects.filter(pk=row.pk, used_at=None).update(used_at=database_now())
        if used != 1:
            raise InvitationRefused
        # One that was made at the same moment as this one would set both factors anew.
        _end_open(person, database_now())
        actor = Actor(tenant_id, "person", person.pk, person_id=person.pk, role=person.role)
        audit.append(
            tag="tenants:invitation:accept", actor=actor, subject=str(person.pk), body={"invitation": str(row.pk)}
        )
        set_password(person=person, password=password, actor=actor)
        sign_in.confirm_totp(person=person, key=totp_key, code=code, actor=actor, sealed=sealed)
        if person.state == PersonState.INVITED:
            activate_person(person=person, actor=actor)
        return sign_in.make_recovery_codes(person=person, actor=actor)


def _open() -> QuerySet[Invitation]:
    return Invitation.objects.filter(used_at=None, expires_at__gt=Now(), tenant__state__in=INVITING_STATES)


def _hash(tenant_id: UUID, token: bytes) -> bytes:
    # 128 random bits: a stolen hash tells nothing and needs no slow hashing. The tenant is in it, so that a row moved
    # to another tenant fits no link.
    return hashlib.sha256(label("invitation", tenant_id.bytes, token)).digest()
