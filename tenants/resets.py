# SPDX-License-Identifier: Apache-2.0
"""A new password for whoever forgot theirs: a link by mail, and the second factor on its page.

Implements ORGANISATION "Signing in" and FAULTS A2, A3, A5. Asking costs the same for everybody and says nothing. The
link alone changes nothing; it is made when the mail is written, and its token was never here: only its hash.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from datetime import timedelta
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
from kernel.queue import MAIL, enqueue
from kernel.scope import tenant_scope
from tenants import access, mails, sign_in
from tenants.errors import CodeRefused, ResetRefused
from tenants.limits import count_against, count_in_window
from tenants.models import Authenticator, Mail, PasswordReset, Person
from tenants.services import set_password
from tenants.states import ENTERED_STATES, PersonState

LIFE: Final = timedelta(minutes=30)
ASKED_JOB: Final = "tenants.password-reset"
_TOKEN_SIZE: Final = 16  # bytes: 128 bits, never guessed in half an hour
ASKED_PER_SOURCE: Final = 20  # in ten minutes: an office on a Monday, and no more mail than that
# In an hour. Whoever asks for links in somebody's name fills no mailbox; those who wait for theirs have three tries.
ASKED_PER_ACCOUNT: Final = 3
TRIES_PER_SOURCE: Final = 60  # in ten minutes, as for invitations
# Whose jobs those are that are promised for a tenant which does not exist: they do nothing, and wait in one line.
_NOBODYS: Final = UUID(int=0)


def ask(*, slug: str, email_key: str, account: str, source: str) -> None:
    """Promise a mail with a link, if an active person has this address; done alike, statement by statement, if not.

    slug, email_key: folded, as at the sign-in. account: the opaque name of both. Above three an hour for an account,
    nothing is promised, and nothing said. Raises Throttled for a source that asks too often.
    """
    count_against(f"password-reset-from:{source}", limit=ASKED_PER_SOURCE, seconds=600)
    count, _ = count_in_window(f"password-reset-of:{account}", seconds=3600)
    if count > ASKED_PER_ACCOUNT:
        return
    tenant = access.entered_tenant_by_slug(slug)
    person = access.person_by_address(tenant, email_key)
    # Whether the person may have one is asked when the mail is written, far from whoever measures this answer.
    with tenant_scope(tenant.pk if tenant else _NOBODYS), transaction.atomic():
        enqueue(ASKED_JOB, queue=MAIL, person=str(person.pk if person else _NOBODYS), source=source)


def promise(*, person_id: UUID, source: str, actor: Actor) -> None:
    """Promise the mail with a link that somebody asked for; nothing for whoever may not sign in, or is nobody."""
    with transaction.atomic():
        person: Person | None = Person.objects.select_related("tenant").filter(pk=person_id).first()
        if person is not None and _may_sign_in(person):
            mails.promise(kind="password-reset", to=person, actor=actor, values={"source": source})


def link_of(mail: Mail, actor: Actor) -> mails.Link | None:
    """Make the link that a promised mail brings, good for 30 minutes; None for whoever may not sign in any more.

    Whoever asked again has as many links; the first one used ends the others.
    """
    person = access.person(mail.person_id)
    if not _may_sign_in(person):
        return None
    token = secrets.token_bytes(_TOKEN_SIZE)
    with transaction.atomic():
        row: PasswordReset = PasswordReset.objects.create(
            person=person,
            token_hash=_hash(person.tenant_id, token),
            bound=_bound(person),
            expires_at=database_now() + LIFE,
        )
        audit.append(
            tag="tenants:password-reset:issue",
            actor=actor,
            subject=str(person.pk),
            body={"reset": str(row.pk), "source": mail.values["source"]},
        )
    path = f"/console/password-reset/{person.tenant_id}/{b64u(token)}/"
    return mails.Link(SecretBytes(f"{settings.HOLDFAST_PUBLIC_URL}{path}".encode()), row.expires_at)


def _may_sign_in(person: Person) -> bool:
    return person.state == PersonState.ACTIVE and person.tenant.state in ENTERED_STATES


def count_try(*, source: str) -> None:
    """Count one opening of a link, or try to finish, from a source. Raises Throttled. Call it outside transactions."""
    count_against(f"password-reset:{source}", limit=TRIES_PER_SOURCE, seconds=600)


def find(*, tenant_id: UUID, token: str) -> PasswordReset:
    """Return the reset whose link this is, with its person and tenant. Raises ResetRefused for all others alike."""
    try:
        digest = _hash(tenant_id, unb64u(token, max_size=_TOKEN_SIZE))
    except HoldfastError as error:
        raise ResetRefused from error
    with tenant_scope(tenant_id):
        rows = _open().select_related("person__tenant").filter(token_hash=digest)
        found: PasswordReset | None = rows.first()
    if found is None or not hmac.compare_digest(bytes(found.token_hash), digest) or not _stands(found, found.person):
        raise ResetRefused
    return found


def accept(*, tenant_id: UUID, reset_id: UUID, password: SecretBytes, code: str) -> None:
    """Set a person's password by their link and a code of theirs, and use both up; every session of theirs ends.

    All or nothing, but that a wrong code counts; of simultaneous calls one succeeds. The person is told by mail. Raises
    ResetRefused, PasswordRefused, CodeRefused, and FactorsAway and LogRestored, by which nothing is used up or counted.
    """
    with tenant_scope(tenant_id):
        person = _require(_open().select_related("person").filter(pk=reset_id).first()).person
        if is_restored():
            raise LogRestored
        # Before the transaction: it asks the HSM. A recovery code needs none.
        opened = None if sign_in.is_recovery_code(code) else sign_in.open_authenticator(person)
        with transaction.atomic():
            row = _require(_open().select_for_update(of=("self",)).filter(pk=reset_id).first())
            person = access.person_for_update(row.person_id)
            if not _stands(row, person):
                raise ResetRefused
            is_right = _is_right(person, code, opened)
            if is_right:
                row.used_at = database_now()
                row.save(update_fields=["used_at"])
                actor = Actor(tenant_id, "person", person.pk, person_id=person.pk, role=person.role)
                audit.append(
                    tag="tenants:password-reset:accept",
                    actor=actor,
                    subject=str(person.pk),
                    body={"reset": str(row.pk)},
                )
                set_password(person=person, password=password, actor=actor)
                mails.promise(kind="password-changed", to=person, actor=actor)
    # After the commit: that the code was wrong is remembered.
    if not is_right:
        raise CodeRefused("This code did not match, or was used before. Wait for the next one.", field="code")


def _is_right(person: Person, code: str, opened: Authenticator | None) -> bool:
    if opened is None and not sign_in.is_recovery_code(code):
        return False
    return sign_in.accept_code(person=person, code=code, opened=opened) is not None


def _open() -> QuerySet[PasswordReset]:
    return PasswordReset.objects.filter(used_at=None, expires_at__gt=Now(), tenant__state__in=ENTERED_STATES)


def _require(row: PasswordReset | None) -> PasswordReset:
    if row is None:
        raise ResetRefused
    return row


def _stands(row: PasswordReset, person: Person) -> bool:
    """Tell whether a link is still its person's: active, with the password and address that they had."""
    return person.state == PersonState.ACTIVE and hmac.compare_digest(bytes(row.bound), _bound(person))


def _bound(person: Person) -> bytes:
    bound = label("password-reset-bound", person.tenant_id.bytes, person.pk.bytes, person.email_key, person.password)
    return hashlib.sha256(bound).digest()


def _hash(tenant_id: UUID, token: bytes) -> bytes:
    # 128 random bits, as an invitation's.
    return hashlib.sha256(label("password-reset", tenant_id.bytes, token)).digest()
