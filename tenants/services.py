# SPDX-License-Identifier: Apache-2.0
"""Verbs on tenants and people: the only writer of their rows, each with its audit entry in the same transaction.

Implements ORGANISATION "People". Callers have authorized through `access`; devices' own rows belong to `keys`.
"""

from __future__ import annotations

import hmac
import uuid
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from axes.helpers import get_cool_off
from axes.models import AccessAttempt
from django.contrib.auth.hashers import make_password
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.db.models import OuterRef, QuerySet
from django.db.models.functions import Now
from django.utils import timezone

from audit import services as audit
from audit.access import is_tenant_restored
from audit.errors import LogRestored
from holdfast.core.base import typed
from holdfast.core.base.errors import Mistyped
from holdfast.core.base.secret import SecretBytes
from holdfast.core.crypto.keys import SIGNING_KINDS, decode_public_key
from holdfast.core.signed.enrolment import code_hash as code_hash_of
from kernel.actors import Actor
from kernel.clock import database_now
from kernel.errors import Conflict, Invalid
from kernel.scope import open_scope, tenant_scope
from kernel.sweeps import delete_in_batches
from kernel.transitions import advance
from tenants import access, locking, names
from tenants.errors import (
    ConfirmationRefused,
    EnrolmentRefused,
    LastOfficer,
    NameTaken,
    PasswordRefused,
    RootPinned,
    TooManyCodes,
)
from tenants.limits import count_against
from tenants.lockout import PLACE_LIFE
from tenants.models import (
    Authenticator,
    ConsoleSession,
    Credential,
    EnrolmentCode,
    FormerAddress,
    Invitation,
    Nonce,
    PasswordReset,
    PendingAct,
    Person,
    RateWindow,
    RecoveryCode,
    ServiceAccount,
    SignInPlace,
    Tenant,
    TokenBucket,
)
from tenants.roles import GUARDED_ROLES, Role
from tenants.sponsors import all_let_in, let_in
from tenants.states import (
    CREDENTIAL,
    ENROLLING_STATES,
    PERSON,
    SUSPENDABLE_STATES,
    TENANT,
    CredentialState,
    PersonState,
    TenantState,
)

CODE_LIFE: Final = timedelta(days=7)
MAX_CODE_LIFE: Final = timedelta(days=30)
MAX_OPEN_CODES: Final = 10
# How long an act that waited for a second person is kept after its end: it is seen on the next working day.
PENDING_KEPT: Final = timedelta(days=3)
ENROLMENTS_PER_SOURCE: Final = 120  # in ten minutes; a code has 128 bits, this only keeps the noise down
# Addresses that one person looks up in an hour. A client asks again for one at most every five minutes, and whoever
# tries a list of names gets through little of it.
SEARCHES_PER_PERSON: Final = 600


def create_tenant(
    *,
    slug: str,
    name: str,
    actor: Actor,
    tenant_id: UUID | None = None,
    is_development: bool = False,
    state: TenantState = TenantState.ACTIVE,
) -> Tenant:
    """Create a tenant, with no people and no root yet.

    state: `founding` until its officers have signed its first policy.
    Raises NameRefused for a slug or name that cannot be used, NameTaken for one in use or that looks like one.
    """
    folded = names.slug(slug)
    tenant_id = tenant_id or uuid.uuid4()
    with tenant_scope(tenant_id), transaction.atomic():
        try:
            with transaction.atomic():
                tenant = Tenant.objects.create(
                    id=tenant_id,
                    slug=folded,
                    slug_skeleton=names.skeleton(folded),
                    name=names.display_name(name),
                    is_development=is_development,
                    state=state,
                )
        except IntegrityError as error:
            raise NameTaken("Another tenant has this slug, or one that looks like it.", field="slug") from error
        audit.append(tag="tenants:tenant:create", actor=actor, subject=str(tenant_id), body={"slug": folded})
    return tenant


def show_root(*, root_key: bytes) -> None:
    """Have the open scope's tenant show its root, the encoded public key, to those who found it.

    Their clients believe it by their codes alone, which hold its hash; nothing is pinned by it. Raises RootPinned when
    another root stands there already; the same root again changes nothing.
    """
    with transaction.atomic():
        tenant = Tenant.objects.select_for_update().get(pk=access.tenant().pk)
        _require_root(tenant, root_key)
        tenant.root_key = root_key
        tenant.save(update_fields=["root_key"])


def _require_root(tenant: Tenant, root_key: bytes) -> None:
    if tenant.root_key is not None and bytes(tenant.root_key) != root_key:
        raise RootPinned("A successor is signed by the old root and the officers; it is not set here.")


def pin_root(*, root_key: bytes, root_pin: bytes, actor: Actor) -> Tenant:
    """Record the root of the open scope's tenant, once: encoded public key, and the 32 bytes that clients pin.

    Raises RootPinned when another root stands there already; the same root again changes nothing.
    """
    if len(root_pin) != 32:
        raise ValueError("a root pin has 32 bytes")
    with transaction.atomic():
        tenant = Tenant.objects.select_for_update().get(pk=access.tenant().pk)
        _require_root(tenant, root_key)
        if tenant.root_pin is not None:
            if bytes(tenant.root_pin) == root_pin:
                return tenant
            raise RootPinned("The founders of another policy are pinned with this root already.")
        tenant.root_key, tenant.root_pin = root_key, root_pin
        tenant.save(update_fields=["root_key", "root_pin"])
        audit.append(tag="tenants:root:pin", actor=actor, subject=str(tenant.pk), body={"root_pin": root_pin})
    return tenant


def finish_founding(*, actor: Actor) -> None:
    """Let the open scope's tenant begin its work. Raises Conflict unless it is being founded."""
    _end_founding(TenantState.ACTIVE, "tenants:tenant:found", actor)


def abandon_founding(*, actor: Actor) -> None:
    """End the founding of the open scope's tenant for ever. Raises Conflict once it is founded."""
    _end_founding(TenantState.ENDED, "tenants:tenant:abandon", actor)


def _end_founding(target: TenantState, tag: str, actor: Actor) -> None:
    with transaction.atomic():
        tenant = Tenant.objects.select_for_update().get(pk=access.tenant().pk)
        if tenant.state == target:
            return
        if not TENANT.allows(tenant.state, target) or tenant.state != TenantState.FOUNDING:
            raise Conflict(f"The tenant is {tenant.state}, and not being founded.")
        advance(tenant, TENANT, target)
        audit.append(tag=tag, actor=actor, subject=str(tenant.pk))


def suspend_tenant(*, actor: Actor) -> None:
    """Let nobody of the open scope's tenant in any more, from their next request; nothing of it is lost.

    Raises Conflict unless it is active or locked.
    """
    with transaction.atomic():
        tenant = Tenant.objects.select_for_update().get(pk=access.tenant().pk)
        if tenant.state not in SUSPENDABLE_STATES:
            raise Conflict(f"The tenant is {tenant.state}, and neither active nor locked.")
        _move_tenant(tenant, TenantState.SUSPENDED, "tenants:tenant:suspend", actor)


def resume_tenant(*, actor: Actor) -> None:
    """Let the people of the open scope's tenant in again, and a locked one back to its lock, never past it.

    Raises Conflict unless it is suspended.
    """
    with transaction.atomic():
        tenant = Tenant.objects.select_for_update().get(pk=access.tenant().pk)
        if tenant.state != TenantState.SUSPENDED:
            raise Conflict(f"The tenant is {tenant.state}, and not suspended.")
        target = TenantState.LOCKED if tenant.locked_at else TenantState.ACTIVE
        _move_tenant(tenant, target, "tenants:tenant:resume", actor)


def _move_tenant(tenant: Tenant, target: TenantState, tag: str, actor: Actor) -> None:
    advance(tenant, TENANT, target)
    audit.append(tag=tag, actor=actor, subject=str(tenant.pk))


def create_person(
    *, email: str, name: str, actor: Actor, role: str = Role.MEMBER, person_id: UUID | None = None
) -> Person:
    """Add a person to the open scope's tenant, invited: they count for nothing until activated.

    Raises NameRefused, NameTaken for an address in use, ValueError for a role that does not exist.
    """
    role = Role(role)
    key = names.email_key(email)
    with transaction.atomic():
        try:
            with transaction.atomic():
                person: Person = Person.objects.create(
                    id=person_id or uuid.uuid4(),
                    email=email.strip(),
                    email_key=key,
                    name=names.display_name(name),
                    role=role,
                    password=make_password(None),  # fits no password
                )
        except IntegrityError as error:
            raise NameTaken("A person with this address is here already.", field="email") from error
        let_in(person.pk, [access.person_behind(actor)])
        audit.append(tag="tenants:person:create", actor=actor, subject=str(person.pk), body={"role": str(role)})
    return person


@dataclass(frozen=True)
class NewPerson:
    """Somebody to be added. email: as it was typed; key: the form in which it is compared (`names.email_key`)."""

    email: str
    key: str
    name: str
    role: str


def create_people(*, people: Collection[NewPerson], actor: Actor) -> list[Person]:
    """Add people as `create_person` does, each with their entry, and return those who were not here already.

    Names and addresses are checked by the caller. One whom somebody else adds at this moment fails all of them, with
    IntegrityError: done again, it leaves that one out.
    """
    with transaction.atomic():
        here = access.addresses_here([one.key for one in people])
        made: list[Person] = Person.objects.bulk_create(
            Person(
                id=uuid.uuid4(),
                email=one.email,
                email_key=one.key,
                name=one.name,
                role=one.role,
                search=names.search_key(one.name, one.email),
                password=make_password(None),  # fits no password
            )
            for one in people
            if one.key not in here
        )
        all_let_in([one.pk for one in made], [access.person_behind(actor)])
        for one in made:
            audit.append(tag="tenants:person:create", actor=actor, subject=str(one.pk), body={"role": one.role})
    return made


def activate_person(*, person: Person, actor: Actor) -> None:
    """Let an invited or suspended person act. Raises Conflict when somebody else moved them meanwhile."""
    _move(person, PersonState.ACTIVE, "tenants:person:activate", actor)


def suspend_person(*, person: Person, actor: Actor) -> None:
    """Stop a person: their sessions and their devices' requests end with the next one.

    Raises LastOfficer for the last active owner or officer, and Conflict when somebody moved them meanwhile.
    """
    with transaction.atomic():
        require_another(person)
        _move(person, PersonState.SUSPENDED, "tenants:person:suspend", actor)
        _stopped(person)


def leave_person(*, person: Person, actor: Actor) -> None:
    """End a person's time in the tenant for ever: sessions, devices' requests, invitations and codes stop.

    Nothing of theirs is deleted. Raises LastOfficer and Conflict as suspend_person does.
    """
    with transaction.atomic():
        require_another(person)
        void_invitations(person)
        _move(person, PersonState.LEFT, "tenants:person:leave", actor)
        _stopped(person)


def forget_sign_in(person: Person) -> None:
    """Delete what a person who has left signed in with: password, authenticator, recovery codes.

    In the caller's transaction, which says why.
    """
    Authenticator.objects.filter(user_id=person.pk).delete()
    RecoveryCode.objects.filter(person=person).delete()
    person.set_unusable_password()
    person.save(update_fields=["password"])


def void_invitations(person: Person) -> None:
    """End a person's open invitation and enrolment codes, in the transaction of the act that makes them wrong."""
    now = database_now()
    Invitation.objects.filter(person=person, used_at=None, expires_at__gt=now).update(expires_at=now)
    _open_codes(person.pk).update(expires_at=now)


def change_role(*, person: Person, role: str, actor: Actor) -> None:
    """Give a person another role, which counts from their next request. Raises LastOfficer as suspend_person does."""
    role = Role(role)
    with transaction.atomic():
        require_another(person)
        before = person.role
        person.role = role
        person.save(update_fields=["role"])
        let_in(person.pk, [access.person_behind(actor)])
        audit.append(
            tag="tenants:person:change-role",
            actor=actor,
            subject=str(person.pk),
            body={"from": str(before), "to": str(role)},
        )
        if before == Role.OFFICER:
            _stopped(person)


# What an app above knows and this one cannot: how a person is told, at all their devices and by mail.
Telling = Callable[[UUID, str, dict[str, str]], None]
_tellings: list[Telling] = []


def tell_by(tell: Telling) -> None:
    """Say once, at start, how a person is told of an event (its name, ids), in the transaction of the act."""
    _tellings.append(tell)


# What an app above knows and this one cannot: what else ends with a person's standing, in the same transaction.
_ends_with_a_person: list[Callable[[UUID], None]] = []


def ends_with_a_person(end: Callable[[UUID], None]) -> None:
    """Say once, at start, what ends when a person is suspended, or is an officer no more."""
    _ends_with_a_person.append(end)


def _stopped(person: Person) -> None:
    for end in _ends_with_a_person:
        end(person.pk)


def set_password(*, person: Person, password: SecretBytes, actor: Actor) -> None:
    """Set the console password (UTF-8), stored as an Argon2id hash; every session of theirs ends.

    Raises PasswordRefused, saying what to change, for a short or common one.
    """
    try:
        text = typed.password(typed.text_of(password.reveal(), "the password"))
        validate_password(text, person)
    except Mistyped as error:
        raise PasswordRefused("A password is text, of at most 1,024 characters.", field="password") from error
    except ValidationError as error:
        raise PasswordRefused(" ".join(error.messages), field="password") from error
    with transaction.atomic():
        person.set_password(text)
        person.save(update_fields=["password"])
        let_in(person.pk, [access.person_behind(actor)])
        audit.append(tag="tenants:password:set", actor=actor, subject=str(person.pk))


def create_service_account(*, name: str, public_key: bytes, actor: Actor) -> ServiceAccount:
    """Add a program of the tenant's with its encoded signing key, active at once.

    Raises NameRefused, NameTaken, and holdfast.core.base.errors.Malformed for a key that is not safe to use.
    """
    key = decode_public_key(public_key, expect=SIGNING_KINDS).encoded
    with transaction.atomic():
        try:
            with transaction.atomic():
                account: ServiceAccount = ServiceAccount.objects.create(
                    name=names.display_name(name), created_by=actor.person_id
                )
        except IntegrityError as error:
            raise NameTaken("A service account has this name.", field="name") from error
        Credential.objects.create(
            id=account.pk, kind=Credential.Kind.SERVICE, public_key=key, state=CredentialState.ACTIVE
        )
        audit.append(tag="tenants:service-account:create", actor=actor, subject=str(account.pk))
    return account


def register_credential(*, credential_id: UUID, person_id: UUID, public_key: bytes, actor: Actor) -> Credential:
    """Register a new device's encoded identity signing key, pending, under the device's id.

    Raises holdfast.core.base.errors.Malformed for a key that is not safe to use, NotFound for a person of nobody's,
    and Conflict for an id in use in the tenant, or in another with the very same key.
    """
    key = decode_public_key(public_key, expect=SIGNING_KINDS).encoded
    with transaction.atomic():
        person = access.person(person_id)
        try:
            with transaction.atomic():
                credential: Credential = Credential.objects.create(
                    id=credential_id, kind=Credential.Kind.DEVICE, person=person, public_key=key
                )
        except IntegrityError as error:
            raise Conflict("This device id is in use. Make a new one and enrol again.") from error
        audit.append(
            tag="tenants:credential:register",
            actor=actor,
            subject=str(credential_id),
            body={"person": str(person_id)},
        )
    return credential


def activate_credential(*, credential_id: UUID, actor: Actor) -> None:
    """Let a pending or suspended credential act for its owner. Raises NotFound, and Conflict unless it may."""
    _move_credential(credential_id, CredentialState.ACTIVE, "tenants:credential:activate", actor)


def suspend_credential(*, credential_id: UUID, actor: Actor) -> None:
    """Stop a credential from its next request on. Raises NotFound, and Conflict unless it is pending or active."""
    _move_credential(credential_id, CredentialState.SUSPENDED, "tenants:credential:suspend", actor)


def revoke_credential(*, credential_id: UUID, actor: Actor) -> None:
    """Stop a credential for ever. Raises NotFound, and Conflict when it is revoked already."""
    _move_credential(credential_id, CredentialState.REVOKED, "tenants:credential:revoke", actor)


def take_again(*, tag: str, subject: UUID, role: str = "") -> None:
    """Do to the rows what an entry says that a restored database had lost: suspend, revoke, change a role.

    In the transaction that put the entry back, which is the record of it. What is not there any more, or is so already,
    is left; the last owner is not spared, as the act has happened.
    """
    match tag:
        case "tenants:credential:revoke" | "tenants:credential:suspend":
            state = CredentialState.REVOKED if tag.endswith("revoke") else CredentialState.SUSPENDED
            for credential in Credential.objects.filter(id=subject):
                if CREDENTIAL.allows(credential.state, state):
                    advance(credential, CREDENTIAL, state)
        case "tenants:person:suspend" | "tenants:person:leave":
            stopped = PersonState.LEFT if tag.endswith("leave") else PersonState.SUSPENDED
            for person in Person.objects.filter(id=subject):
                if PERSON.allows(person.state, stopped):
                    advance(person, PERSON, stopped)
        case "tenants:tenant:lock":
            locking.lock_again()
        case "tenants:person:change-role":
            # Of one that this version does not know, the entry alone is put back.
            if role in Role.values:
                Person.objects.filter(id=subject).update(role=role)


def issue_enrolment_code(
    *,
    person: Person,
    code_hash: bytes,
    actor: Actor,
    expires_at: datetime | None = None,
    trust: str = EnrolmentCode.Trust.PINNED,
) -> EnrolmentCode:
    """Record leave for one person to enrol one device: the code's 32-byte hash, for at most 30 days (7 unless said).

    While the tenant is being founded, every code is of the kind `founding`, whatever `trust` says, and for an owner or
    officer. Raises Invalid for another person then, or for another expiry; TooManyCodes above ten open ones of
    one issuer, and Conflict for a hash seen before.
    """
    if len(code_hash) != 32:
        raise ValueError("a code's hash has 32 bytes")
    now = timezone.now()
    expires_at = expires_at or now + CODE_LIFE
    if not now < expires_at <= now + MAX_CODE_LIFE:
        raise Invalid("Must lie in the future, at most 30 days ahead.", field="expires_at")
    if access.tenant().state == TenantState.FOUNDING:
        trust = EnrolmentCode.Trust.FOUNDING
        if person.role not in GUARDED_ROLES:
            raise Invalid(
                "Until the tenant is founded, only its owners and officers are let in. Issue it afterwards.",
                field="person_id",
            )
    with transaction.atomic():
        issuer_id = require_room_for_a_code(person=person, actor=actor)
        try:
            with transaction.atomic():
                code: EnrolmentCode = EnrolmentCode.objects.create(
                    person=person,
                    code_hash=code_hash,
                    trust=trust,
                    created_by=actor.label,
                    issuer_id=issuer_id,
                    expires_at=expires_at,
                )
        except IntegrityError as error:
            raise Conflict("This code was issued before. Make a new one.", field="code_hash") from error
        # Whoever is let in is told by whom while there is time: a code in a stranger's hands is their device.
        for tell in _tellings:
            tell(person.pk, "code-issued", {"by": str(code.issuer_id or "")})
        audit.append(
            tag="tenants:enrolment-code:issue",
            actor=actor,
            subject=str(person.pk),
            body={"code": str(code.pk), "trust": str(trust), "expires_at": int(expires_at.timestamp())},
        )
    return code


def require_room_for_a_code(*, person: Person, actor: Actor) -> UUID | None:
    """Return whose act a code of this actor's would be. Raises TooManyCodes when ten of theirs are unused."""
    issuer_id = access.person_behind(actor)
    # Of this issuer: nobody's codes keep out the one that somebody else makes for the person's own new device.
    if _open_codes(person.pk).filter(issuer_id=issuer_id).count() >= MAX_OPEN_CODES:
        raise TooManyCodes(
            f"This person has {MAX_OPEN_CODES} unused codes of yours; let them be used or expire, or have somebody "
            "else issue one."
        )
    return issuer_id


def void_codes(*, person: Person, actor: Actor) -> int:
    """End a person's codes that nobody has used, whoever issued them, and return how many there were."""
    with transaction.atomic():
        count = _open_codes(person.pk).update(expires_at=database_now())
        audit.append(tag="tenants:enrolment-code:void", actor=actor, subject=str(person.pk), body={"count": count})
    return count


def confirm_enrolment_code(*, code: EnrolmentCode, actor: Actor) -> None:
    """Be the second person behind a code for an owner or officer; from then on it can be used.

    code: from `access.code_for_confirmation`. Done again by the same person, it changes nothing. Raises
    ConfirmationRefused for whoever issued it, is its person, or let in the issuer or was let in by them within 90 days;
    Conflict for a code that needs nobody, or has another already.
    """
    if code.confirmer_id is not None and code.confirmer_id == actor.person_id:
        return
    require_second(code=code, actor=actor)
    with transaction.atomic():
        code.confirmer_id = actor.person_id
        code.save(update_fields=["confirmer_id"])
        audit.append(
            tag="tenants:enrolment-code:confirm",
            actor=actor,
            subject=str(code.person_id),
            body={"code": str(code.pk)},
        )


def require_second(*, code: EnrolmentCode, actor: Actor) -> None:
    """Raise what `confirm_enrolment_code` does, unless this actor can be the second person behind a code."""
    person_id = actor.person_id
    if not access.awaits_second(code, code.person):
        raise Conflict("This code needs no second person, or has one.")
    if person_id is None or person_id in (code.person_id, code.issuer_id):
        raise ConfirmationRefused("Whoever issued a code, and whoever it is for, cannot confirm it: ask another.")
    issuer_id, now = code.issuer_id, database_now()
    if issuer_id is None:
        raise ConfirmationRefused("This code is older than the record of who issues codes: have a new one made.")
    # Two who are one behind the scenes are one.
    if person_id in access.standing_behind(issuer_id, now) or issuer_id in access.standing_behind(person_id, now):
        raise ConfirmationRefused(
            "One of you let the other in within 90 days, directly or not: a third person has to confirm it."
        )


def count_enrolment(*, source: str) -> None:
    """Count an enrolment attempt from a source, before anything of it is read: whoever enrols has no standing yet.

    Call it outside the act's transaction. Raises Throttled.
    """
    count_against(f"enrolment:{source}", limit=ENROLMENTS_PER_SOURCE, seconds=600)


def count_search(actor: Actor) -> None:
    """Count one look-up of an address by a person, whoever it finds, before anything is looked for. Raises Throttled.

    Call it outside any transaction.
    """
    assert actor.tenant_id is not None
    asking = actor.person_id or actor.id
    count_against(f"find:{actor.tenant_id.hex}:{asking.hex if asking else ''}", limit=SEARCHES_PER_PERSON, seconds=3600)


def begin_enrolment(*, tenant_id: UUID) -> None:
    """Open the scope of the tenant that is named, for the rest of the request, whether there is such a one or not.

    It asks nothing: a tenant that takes nobody has no code that could be used, and says so where and when all do.
    """
    open_scope(tenant_id)


def consume_enrolment_code(*, tenant_id: UUID, person_id: UUID, secret: SecretBytes) -> EnrolmentCode:
    """Use up a person's code inside the caller's transaction, and activate them if they were invited.

    Returns the code's row (`person`, `trust`, `code_hash`). Of any number of simultaneous calls one succeeds.
    Raises EnrolmentRefused for every other case alike: wrong, used, expired, not for an invited or active person, of a
    tenant that lets nobody in, for anybody but owners and officers of one that is being founded, or of a founding that
    is over. Raises LogRestored for a right code while the tenant is read-only.
    """
    offered = code_hash_of(tenant=tenant_id.bytes, person=person_id.bytes, secret=secret)
    with tenant_scope(tenant_id), transaction.atomic():
        # Compared here, not in the query, so that how much of a hash was right shows in no index look-up's time.
        # The tenant's state stands in the same query: an unknown tenant costs what a known one does (FAULTS I9a).
        rows = _open_codes(person_id).filter(tenant__state__in=ENROLLING_STATES).select_related("tenant")
        rows = rows.annotate(is_restored=is_tenant_restored(OuterRef("tenant_id")))
        codes = [row for row in rows if hmac.compare_digest(bytes(row.code_hash), offered)]
        if not codes:
            raise EnrolmentRefused
        if codes[0].is_restored:
            raise LogRestored
        used = EnrolmentCode.objects.filter(pk=codes[0].pk, used_at=None).update(used_at=timezone.now())
        person = access.person_for_update(person_id)
        if used != 1 or person.state not in (PersonState.INVITED, PersonState.ACTIVE):
            raise EnrolmentRefused
        is_founding = codes[0].tenant.state == TenantState.FOUNDING
        if is_founding and person.role not in GUARDED_ROLES:
            raise EnrolmentRefused
        # It names the root alone: whoever comes when there is a policy gets a code that pins it.
        if codes[0].trust == EnrolmentCode.Trust.FOUNDING and not is_founding:
            raise EnrolmentRefused
        # By the role of today: whoever became an officer since the code was made is guarded as one.
        if access.awaits_second(codes[0], person):
            raise EnrolmentRefused
        actor = Actor(tenant_id, "person", person_id, person_id=person_id, role=person.role)
        audit.append(
            tag="tenants:enrolment-code:use",
            actor=actor,
            subject=str(person_id),
            body={"code": str(codes[0].pk)},
        )
        if person.state == PersonState.INVITED:
            activate_person(person=person, actor=actor)
    codes[0].person = person
    return codes[0]


def sweep() -> int:
    """Delete nonces of signatures that are too old to be taken, full buckets, and all else that has run out.

    Returns the number of nonces. It looks at no tenant's content, so it needs no scope.
    """
    now = database_now()
    gone = delete_in_batches(Nonce.objects.filter(expires_at__lt=now), of_all=True)
    # No index leads to full buckets, and every request would pay for one: this reads all, which are those of a minute.
    delete_in_batches(TokenBucket.objects.filter(full_at__lt=int(now.timestamp() * 1_000_000)), of_all=True)
    delete_in_batches(RateWindow.objects.filter(expires_at__lt=now), of_all=True)
    # Failed sign-ins count until they have cooled off; django-axes itself deletes them only at the next sign-in.
    cool_off = get_cool_off()
    assert cool_off is not None
    delete_in_batches(AccessAttempt.objects.filter(attempt_time__lt=now - cool_off), of_all=True)
    delete_in_batches(ConsoleSession.objects.filter(expire_date__lt=now), of_all=True)
    delete_in_batches(PasswordReset.unscoped.filter(expires_at__lt=now))
    delete_in_batches(SignInPlace.objects.filter(last_at__lt=now - PLACE_LIFE), of_all=True)
    delete_in_batches(FormerAddress.unscoped.filter(told_until__lt=now))
    # What was proposed and what became of it stands in the log.
    delete_in_batches(PendingAct.unscoped.filter(expires_at__lt=now - PENDING_KEPT))
    return gone


def _open_codes(person_id: UUID) -> QuerySet[EnrolmentCode]:
    return EnrolmentCode.objects.filter(person_id=person_id, used_at=None, expires_at__gt=Now())


def _move_credential(credential_id: UUID, target: CredentialState, tag: str, actor: Actor) -> None:
    with transaction.atomic():
        credential = access.credential_for_update(credential_id)
        if not CREDENTIAL.allows(credential.state, target):
            raise Conflict(f"The credential is {credential.state}.")
        advance(credential, CREDENTIAL, target)
        audit.append(tag=tag, actor=actor, subject=str(credential_id))


def _move(person: Person, target: PersonState, tag: str, actor: Actor) -> None:
    # Since when they count: a second person behind an act has to be settled (ORGANISATION "Acts").
    since = {"active_since": database_now()} if target == PersonState.ACTIVE else {}
    with transaction.atomic():
        advance(person, PERSON, target, **since)
        audit.append(tag=tag, actor=actor, subject=str(person.pk))


def require_another(person: Person) -> None:
    """Raise LastOfficer for the last active owner or officer. The tenant's row is the lock of this decision."""
    Tenant.objects.select_for_update().get(pk=person.tenant_id)
    if person.state != PersonState.ACTIVE or person.role not in (Role.OWNER, Role.OFFICER):
        return
    others = [other for other in access.people(roles=[person.role], state=PersonState.ACTIVE) if other.pk != person.pk]
    if not others:
        raise LastOfficer(f"Appoint another {person.role} first: without one the tenant could not act at all.")
