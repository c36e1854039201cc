# SPDX-License-Identifier: Apache-2.0
"""Rows of this app for whoever may see them: fetched in the open tenant scope, NotFound otherwise.

Implements ORGANISATION "Tenants": another tenant's id and an unknown id are the same refusal. Writes nothing.
"""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final
from uuid import UUID

from django.db.models import Q, QuerySet
from django.db.models.functions import Now

from holdfast.core.escrow.sponsors import still_behind
from kernel import statements
from kernel.actors import Actor
from kernel.errors import NotFound
from kernel.paging import page
from kernel.scope import current_tenant, in_their_tenants
from tenants import names
from tenants.errors import TenantEnds, TenantLocked
from tenants.models import (
    Credential,
    EnrolmentCode,
    FormerAddress,
    Invitation,
    Person,
    ServiceAccount,
    Sponsorship,
    Tenant,
)
from tenants.roles import GUARDED_ROLES, Role
from tenants.states import ENTERED_STATES, CredentialState, PersonState, TenantState


def tenant() -> Tenant:
    """Return the tenant whose scope is open."""
    return Tenant.objects.get(pk=current_tenant())


_STATE: Final = f"SELECT state FROM {Tenant._meta.db_table} WHERE id = %s"  # noqa: S608 — our own table's name


def tenant_state() -> str:
    """Return the state of the tenant whose scope is open."""
    ((state,),) = statements.run(_STATE, [statements.parameter(current_tenant())])
    return str(state)


def entered_tenant_by_slug(slug: str) -> Tenant | None:
    """Return a tenant whose people are let in, by its slug. It says where to look, and authorizes nothing."""
    return Tenant.objects.filter(slug=slug, state__in=ENTERED_STATES).first()


def require_unlocked() -> None:
    """Raise TenantLocked while the open scope's tenant is locked: for what lets somebody in, or opens a key."""
    if tenant().state == TenantState.LOCKED:
        raise TenantLocked


def require_letting_in() -> None:
    """Raise TenantLocked while the open scope's tenant is locked, and TenantEnds while it ends."""
    require_unlocked()
    if tenant().state == TenantState.ENDING:
        raise TenantEnds


def person_by_address(tenant: Tenant | None, email_key: str) -> Person | None:
    """Return the person with an address in a tenant: one query, whether tenant and person exist or not.

    Nobody who has left: the address is free, and may be somebody else's by now.
    """
    tenant_id = tenant.pk if tenant else uuid.uuid4()
    rows = Person.unscoped.filter(tenant_id=tenant_id, email_key=email_key)
    found: Person | None = rows.exclude(state=PersonState.LEFT).first()
    return found


def reachable_by_address(email_key: str, states: Collection[str]) -> Person | None:
    """Return whom the tenant's directory knows under an address, in one of these states. One query, whoever asks."""
    found: Person | None = Person.objects.filter(email_key=email_key, state__in=states).first()
    return found


def addresses_here(email_keys: Collection[str]) -> set[str]:
    """Return which of these addresses somebody of the tenant has who has not left. One query."""
    rows = Person.objects.filter(email_key__in=email_keys).exclude(state=PersonState.LEFT)
    return set(rows.values_list("email_key", flat=True))


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


# For statements of other apps' own that read whether people are active with what they rest on.
PERSON_TABLE: Final = Person._meta.db_table


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


def count_ways_in(person_id: UUID) -> int:
    """Count a person's invitations and enrolment codes that are neither used nor expired. Two queries."""
    unused = {"person_id": person_id, "used_at": None, "expires_at__gt": Now()}
    return int(Invitation.objects.filter(**unused).count() + EnrolmentCode.objects.filter(**unused).count())


def service_accounts_of(person_id: UUID) -> list[ServiceAccount]:
    """List by name the service accounts that a person made."""
    return list(ServiceAccount.objects.filter(created_by=person_id).order_by("name"))


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


def former_addresses(person_id: UUID) -> list[str]:
    """List the addresses that a person had until lately, at which they are told as well, the newest first."""
    rows = FormerAddress.objects.filter(person_id=person_id, told_until__gt=Now()).order_by("-told_until")
    return list(dict.fromkeys(rows.values_list("email", flat=True)))


def people_by_id(person_ids: Iterable[UUID]) -> dict[UUID, Person]:
    """Return those of the people that are of this tenant, by id: one query for a page of names."""
    return {row.pk: row for row in Person.objects.filter(pk__in=list(person_ids))}


def active_officers() -> list[Person]:
    """List the people who count as officers now: role officer and state active, nothing else (FAULTS P9)."""
    return people(roles=[Role.OFFICER], state=PersonState.ACTIVE)


def active_officers_of(tenant_ids: Iterable[UUID]) -> set[UUID]:
    """Return who of `active_officers` there is in some tenants: for loops over all tenants. One query."""
    rows = Person.unscoped.filter(tenant_id__in=list(tenant_ids), role=Role.OFFICER, state=PersonState.ACTIVE)
    return set(rows.values_list("pk", flat=True))


# The condition that a person counts as an officer by the tenant's own word, as a part of another statement.
ACTIVE_OFFICER: Final = f"role = '{Role.OFFICER.value}' AND state = '{PersonState.ACTIVE.value}'"


def active_among(named: Iterable[tuple[UUID, UUID]]) -> set[UUID]:
    """Return which persons, named by (tenant, id), are active: for loops over all tenants. One query for thousands."""
    rows = Person.unscoped.filter(state=PersonState.ACTIVE)
    return {pk for those in in_their_tenants("pk", named) for pk in rows.filter(those).values_list("pk", flat=True)}


def people_gone() -> QuerySet[Person]:
    """Select the people of every tenant who are suspended or have left, as a part of another query: for the worker."""
    return Person.unscoped.filter(state__in=(PersonState.SUSPENDED, PersonState.LEFT))


def acting_among(named: Iterable[tuple[UUID, UUID]]) -> set[tuple[UUID, UUID]]:
    """Return which credentials, named by (tenant, id), are active: for loops over all tenants."""
    rows = Credential.unscoped.filter(state=CredentialState.ACTIVE)
    return {
        found for those in in_their_tenants("id", named) for found in rows.filter(those).values_list("tenant_id", "id")
    }


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


def credential_uses(credential_ids: Collection[UUID]) -> dict[UUID, tuple[str, date | None]]:
    """Return the state of each of these credentials, and the day in UTC on which it was last used, if it is noted."""
    rows = Credential.objects.filter(id__in=credential_ids)
    return {pk: (state, used_on) for pk, state, used_on in rows.values_list("id", "state", "last_used_on")}


def service_accounts() -> list[ServiceAccount]:
    """List the tenant's service accounts by name."""
    return list(ServiceAccount.objects.order_by("name"))


@dataclass(frozen=True)
class Program:
    """A service account with the state of its credential."""

    account: ServiceAccount
    state: str


def programs(*, order: Sequence[str] = ("name", "id"), start: int, limit: int) -> tuple[list[Program], int]:
    """List one page of the service accounts in an order, whose last field is unique, and say how many there are."""
    rows = ServiceAccount.objects.order_by(*order)
    found = list(rows[start : start + limit])
    states = dict(Credential.objects.filter(id__in=[one.pk for one in found]).values_list("id", "state"))
    return [Program(one, states[one.pk]) for one in found], rows.count()


def program(account_id: UUID) -> Program:
    """Return a service account, in whatever state. Raises NotFound."""
    found: ServiceAccount | None = ServiceAccount.objects.filter(pk=account_id).first()
    if found is None:
        raise NotFound
    return Program(found, credential_state(account_id))


def has_service_account(name: str) -> bool:
    """Tell whether a service account has, or had, this name."""
    return bool(ServiceAccount.objects.filter(name=name).exists())


def people_found(
    text: str = "",
    role: str = "",
    *,
    state: str = "",
    has_no_link: bool = False,
    among: QuerySet[Any, Any] | None = None,
    without: QuerySet[Any, Any] | None = None,
    order: Sequence[str] = ("search", "id"),
    start: int = 0,
    limit: int,
) -> tuple[list[Person], int]:
    """Search the tenant's people by a part of name or address: one page in an order, and how many there are.

    has_no_link: invited, and no invitation of theirs works any more. among, without: queries for ids of people, of
    whom they are, or are not. order: names of fields, the last of them unique. Two queries.
    """
    rows = _searched(text, role, state).order_by(*order)
    if has_no_link:
        rows = rows.filter(_without_link())
    if among is not None:
        rows = rows.filter(pk__in=among)
    if without is not None:
        rows = rows.exclude(pk__in=without)
    return list(rows[start : start + limit]), rows.count()


def people_page(text: str, role: str, *, state: str, email_key: str, after: UUID | None) -> tuple[list[Person], bool]:
    """List a page of the people by name, and say whether there are more. Raises NotFound for an `after` not in it.

    Each of text, role, state and email_key is held to unless it is empty. email_key: one address, whole.
    """
    rows = _searched(text, role, state)
    if email_key:
        rows = rows.filter(email_key=email_key)
    return page(rows, ("search", "id"), after=after)


def _searched(text: str, role: str, state: str) -> QuerySet[Person]:
    rows: QuerySet[Person] = Person.objects.all()
    if text:
        # Not an empty text: an accent alone folds to nothing, and is in no name.
        rows = rows.filter(search__contains=key) if (key := names.search_key(text)) else rows.none()
    if role:
        rows = rows.filter(role=role)
    return rows.filter(state=state) if state else rows


def _without_link() -> Q:
    usable = Invitation.objects.filter(used_at=None, expires_at__gt=Now())
    return Q(state=PersonState.INVITED) & ~Q(pk__in=usable.values("person_id"))


def people_without_link(person_ids: Iterable[UUID]) -> set[UUID]:
    """Return which of these people are invited, and hold no invitation that still works. One query."""
    rows = Person.objects.filter(_without_link(), pk__in=list(person_ids))
    return set(rows.values_list("pk", flat=True))


def count_people_without_link() -> int:
    """Count the people who are invited, and hold no invitation that still works. One query."""
    return Person.objects.filter(_without_link()).count()


def count_active_among(ids: QuerySet[Any, Any], *, without: QuerySet[Any, Any]) -> int:
    """Count the active people whose ids are in one query and not in another. One query."""
    return Person.objects.filter(state=PersonState.ACTIVE, pk__in=ids).exclude(pk__in=without).count()


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


def left_people_ids() -> QuerySet[Person, dict[str, UUID]]:
    """Return the ids of the people who have left, as a part of another app's query."""
    return Person.objects.filter(state=PersonState.LEFT).values("pk")


def count_active_people() -> int:
    """Count the people who may have something to lose: active, in whatever role."""
    return Person.objects.filter(state=PersonState.ACTIVE).count()
