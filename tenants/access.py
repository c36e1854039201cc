# SPDX-License-Identifier: Apache-2.0
"""Rows of this app for whoever may see them: fetched in the open tenant scope, NotFound otherwise.

Implements ORGANISATION "Tenants": another tenant's id and an unknown id are the same refusal. Writes nothing.
"""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Collection, Iterable
from datetime import datetime
from uuid import UUID

from django.db.models import Q, QuerySet
from django.db.models.functions import Now

from holdfast.core.escrow.sponsors import still_behind
from kernel.actors import Actor
from kernel.errors import NotFound
from kernel.paging import page
from kernel.scope import current_tenant
from tenants.models import Credential, EnrolmentCode, Person, ServiceAccount, Sponsorship, Tenant
from tenants.roles import GUARDED_ROLES, Role
from tenants.states import ENTERED_STATES, CredentialState, PersonState


def tenant() -> Tenant:
    """Return the tenant whose scope is open."""
    return Tenant.objects.get(pk=current_tenant())


def entered_tenant_by_slug(slug: str) -> Tenant | None:
    """Return a tenant whose people are let in, by its slug. It says where to look, and authorizes nothing."""
    return Tenant.objects.filter(slug=slug, state__in=ENTERED_STATES).first()


def person_by_address(tenant: Tenant | None, email_key: str) -> Person | None:
    """Return the person with an address in a tenant: one query, whether tenant and person exist or not."""
    tenant_id = tenant.pk if tenant else uuid.uuid4()
    found: Person | None = Person.unscoped.filter(tenant_id=tenant_id, email_key=email_key).first()
    return found


def reachable_by_address(email_key: str, states: Collection[str]) -> Person | None:
    """Return whom the tenant's directory knows under an address, in one of these states. One query, whoever asks."""
    found: Person | None = Person.objects.filter(email_key=email_key, state__in=states).first()
    return found


def addresses_here(email_keys: Collection[str]) -> set[str]:
    """Return which of these addresses a person of the tenant has, in whatever state. One query."""
    return set(Person.objects.filter(email_key__in=email_keys).values_list("email_key", flat=True))


def people_after(after: UUID | None, *, limit: int) -> list[Person]:
    """Return up to `limit` people of the tenant by id, above one, in whatever state. One query."""
    rows = Person.objects.order_by("pk")
    return list((rows.filter(pk__gt=after) if after is not None else rows)[:limit])


def count_people() -> int:
    """Count the tenant's people, in whatever state."""
    return Person.objects.count()


def development_slugs() -> list[str]:
    """List the tenants, at most ten, that were founded for development and must not be in production."""
    return list(Tenant.objects.filter(is_development=True).order_by("slug").values_list("slug", flat=True)[:10])


def person(person_id: UUID) -> Person:
    """Return a person of the tenant, in whatever state. Raises NotFound."""
    found: Person | None = Person.objects.filter(pk=person_id).first()
    if found is None:
        raise NotFound
    return found


def person_to_write_to(person_id: UUID) -> Person | None:
    """Return a person of the open scope's tenant with the tenant, in whatever state, or None."""
    found: Person | None = Person.objects.select_related("tenant").filter(pk=person_id).first()
    return found


def person_for_update(person_id: UUID) -> Person:
    """Return a person, locked until the transaction ends. Raises NotFound."""
    found: Person | None = Person.objects.select_for_update().filter(pk=person_id).first()
    if found is None:
        raise NotFound
    return found


def person_for_enrolment(actor: Actor, person_id: UUID) -> Person:
    """Return a person for whom `actor` may issue an enrolment code, locked. Raises NotFound for a suspended one too."""
    found = person_for_update(person_id)
    if found.state not in (PersonState.INVITED, PersonState.ACTIVE) or found.tenant_id != actor.tenant_id:
        raise NotFound
    return found


def code_for_confirmation(actor: Actor, code_id: UUID) -> EnrolmentCode:
    """Return a code that is neither used nor expired, locked until the transaction ends. Raises NotFound."""
    rows = EnrolmentCode.objects.select_for_update().filter(pk=code_id, used_at=None, expires_at__gt=Now())
    found: EnrolmentCode | None = rows.first()
    if found is None or found.tenant_id != actor.tenant_id:
        raise NotFound
    return found


def open_code(code_id: UUID) -> EnrolmentCode:
    """Return a code that is neither used nor expired, with its person. Raises NotFound."""
    rows = EnrolmentCode.objects.select_related("person").filter(pk=code_id, used_at=None, expires_at__gt=Now())
    found: EnrolmentCode | None = rows.first()
    if found is None:
        raise NotFound
    return found


def open_codes(person_id: UUID) -> list[EnrolmentCode]:
    """List a person's codes that are neither used nor expired, with the person, the newest first, at most a hundred."""
    rows = EnrolmentCode.objects.filter(person_id=person_id, used_at=None, expires_at__gt=Now())
    return list(rows.select_related("person").order_by("-created_at", "pk")[:100])


def has_active_device(person_id: UUID) -> bool:
    """Tell whether a device of a person's acts for them now."""
    rows = Credential.objects.filter(person_id=person_id, state=CredentialState.ACTIVE)
    return bool(rows.exists())


def has_open_code(person_id: UUID) -> bool:
    """Tell whether a person has an enrolment code that is neither used nor expired."""
    return bool(EnrolmentCode.objects.filter(person_id=person_id, used_at=None, expires_at__gt=Now()).exists())


def open_codes_until(person_ids: Iterable[UUID]) -> dict[UUID, datetime]:
    """Return, of these people, who has an enrolment code to use, and until when the longest of each. One query."""
    open_ones = EnrolmentCode.objects.filter(person_id__in=person_ids, used_at=None, expires_at__gt=Now())
    return dict(open_ones.order_by("expires_at").values_list("person_id", "expires_at"))


def has_credential(person_id: UUID) -> bool:
    """Tell whether a person has ever enrolled a device."""
    return bool(Credential.objects.filter(person_id=person_id).exists())


def awaits_second(code: EnrolmentCode, person: Person) -> bool:
    """Tell whether nobody can enrol with a code before a second person has confirmed it.

    As it is for the role that its person has now. A ceremony's code, and one of their own device, needs nobody else.
    """
    if person.role not in GUARDED_ROLES or code.confirmer_id is not None:
        return False
    # Who made it is asked as well: of a code older than issuers, that is all there is.
    return code.issuer_id != person.pk if code.issuer_id else not code.created_by.startswith("system:")


def sponsors_of(person_ids: Iterable[UUID]) -> dict[UUID, dict[UUID, int]]:
    """Return who came to stand behind each of these people, and when they last did, in UTC seconds. One query."""
    found: dict[UUID, dict[UUID, int]] = defaultdict(dict)
    for row in Sponsorship.objects.filter(person_id__in=person_ids):
        found[row.person_id][row.sponsor_id] = int(row.at.timestamp())
    return found


def standing_behind(person_id: UUID, now: datetime) -> frozenset[UUID]:
    """Return who stands behind a person now: whoever let them in within 90 days, directly or not. One query."""
    return still_behind(sponsors_of([person_id]).get(person_id, {}), int(now.timestamp()))


def people(*, roles: Iterable[str] = (), state: str = "") -> list[Person]:
    """List the tenant's people by name, of some roles or one state when given."""
    rows = Person.objects.order_by("name", "id")
    if roles := list(roles):
        rows = rows.filter(role__in=roles)
    return list(rows.filter(state=state) if state else rows)


def people_by_id(person_ids: Iterable[UUID]) -> dict[UUID, Person]:
    """Return those of the people that are of this tenant, by id: one query for a page of names."""
    return {row.pk: row for row in Person.objects.filter(pk__in=list(person_ids))}


def active_officers() -> list[Person]:
    """List the people who count as officers now: role officer and state active, nothing else (FAULTS P9)."""
    return people(roles=[Role.OFFICER], state=PersonState.ACTIVE)


def is_active_officer(person_id: UUID) -> bool:
    """Tell whether a person counts as an officer at this moment."""
    return bool(Person.objects.filter(pk=person_id, role=Role.OFFICER, state=PersonState.ACTIVE).exists())


def credential_for_update(credential_id: UUID) -> Credential:
    """Return a credential, locked until the transaction ends. Raises NotFound."""
    found: Credential | None = Credential.objects.select_for_update().filter(id=credential_id).first()
    if found is None:
        raise NotFound
    return found


def credential_state(credential_id: UUID) -> str:
    """Return the state of a credential. Raises NotFound."""
    state: str | None = Credential.objects.filter(id=credential_id).values_list("state", flat=True).first()
    if state is None:
        raise NotFound
    return state


def person_behind(actor: Actor) -> UUID | None:
    """Return whose act an actor's is: of a program, whoever made its account. None for a process of ours."""
    if actor.kind != "service":
        return actor.person_id
    account = ServiceAccount.objects.filter(pk=actor.id).first()
    return account.created_by if account else None


def acting_credentials(credential_ids: Collection[UUID]) -> set[UUID]:
    """Return which of these credentials are active."""
    rows = Credential.objects.filter(id__in=credential_ids, state=CredentialState.ACTIVE)
    return set(rows.values_list("id", flat=True))


def service_accounts() -> list[ServiceAccount]:
    """List the tenant's service accounts by name."""
    return list(ServiceAccount.objects.order_by("name"))


def people_found(text: str, role: str, *, start: int, limit: int) -> tuple[list[Person], int]:
    """Search the tenant's people by a part of name or address: one page by name, and how many there are."""
    rows = Person.objects.order_by("name", "id")
    if text:
        rows = rows.filter(Q(name__icontains=text) | Q(email__icontains=text))
    if role:
        rows = rows.filter(role=role)
    return list(rows[start : start + limit]), rows.count()


def active_people_page(*, after: UUID | None, limit: int) -> tuple[list[Person], bool]:
    """List a page of the active people by name, and say whether there are more. Raises NotFound."""
    return page(Person.objects.filter(state=PersonState.ACTIVE), ("name", "id"), after=after, limit=limit)


def active_people_after(after: UUID | None, *, limit: int) -> list[UUID]:
    """Return up to `limit` active people by id, above one who need not be active, or there, any more: for the worker.

    One query.
    """
    rows = Person.objects.filter(state=PersonState.ACTIVE)
    if after is not None:
        rows = rows.filter(pk__gt=after)
    return list(rows.order_by("pk").values_list("pk", flat=True)[:limit])


def active_people_ids() -> QuerySet[Person, dict[str, UUID]]:
    """Return the ids of the active people, as a part of another app's query."""
    return Person.objects.filter(state=PersonState.ACTIVE).values("pk")


def count_active_people() -> int:
    """Count the people who may have something to lose: active, in whatever role."""
    return Person.objects.filter(state=PersonState.ACTIVE).count()
