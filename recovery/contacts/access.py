# SPDX-License-Identifier: Apache-2.0
"""Who may read and lock what of the trusted contacts: their owner's set, and the requests to them.

Implements PROTOCOL section 6 (contacts door). Another person's set or request is answered like an unknown one.
"""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from django.db.models import Q, QuerySet

from kernel.actors import Actor
from kernel.errors import NotFound
from kernel.paging import page_in_parts
from recovery.models import ContactAnswer, ContactRequest, ContactSet
from recovery.states import COLLECTABLE, ContactRequestState
from tenants.states import CredentialState


def contact_set(user_id: UUID) -> ContactSet | None:
    """Return the manifest of a user's trusted contacts, if they have stored one."""
    return ContactSet.objects.filter(user_id=user_id).first()


def contact_set_for_update(user_id: UUID) -> ContactSet | None:
    """Lock the manifest of a user's trusted contacts, if they have stored one."""
    return ContactSet.objects.select_for_update().filter(user_id=user_id).first()


def own_contact_set(actor: Actor) -> ContactSet:
    """Return the manifest of the actor's own contacts, for their device in any live state. Raises NotFound."""
    row = contact_set(actor.person_id) if actor.kind == "device" and actor.person_id else None
    if row is None:
        raise NotFound
    return row


def contact_requests_of(actor: Actor, *, after: UUID | None = None) -> tuple[list[ContactRequest], bool]:
    """List the requests in the actor's own name, open ones first, then newest first, and say whether there are more.

    To a device that is pending, its own ones only. Raises NotFound for an `after` that is not among them.
    """
    rows = ContactRequest.objects.filter(owner_id=actor.person_id)
    if actor.credential_state != CredentialState.ACTIVE:
        rows = rows.filter(device_id=actor.id)
    return _page(rows, after)


def contact_requests_to(actor: Actor, *, after: UUID | None = None) -> tuple[list[ContactRequest], bool]:
    """List the requests in which the actor is one of the contacts, as `contact_requests_of` does.

    To an active device only. Raises NotFound.
    """
    if actor.credential_state != CredentialState.ACTIVE:
        return [], False
    return _page(ContactRequest.objects.filter(answers__contact_id=actor.person_id), after)


def _page(rows: QuerySet[ContactRequest], after: UUID | None) -> tuple[list[ContactRequest], bool]:
    is_open = Q(state=ContactRequestState.OPEN)
    return page_in_parts(rows, (is_open, ~is_open), ("-opened_at", "-pk"), after=after)


def contact_request_for_reading(actor: Actor, request_id: UUID) -> ContactRequest:
    """Return a request for its owner's devices and its contacts', as the lists show it. Raises NotFound."""
    row: ContactRequest | None = ContactRequest.objects.filter(pk=request_id).first()
    if row is None or actor.kind != "device":
        raise NotFound
    is_active = actor.credential_state == CredentialState.ACTIVE
    is_own = row.owner_id == actor.person_id and (is_active or row.device_id == actor.id)
    if not is_own and not (is_active and actor.person_id in contacts_of(row)):
        raise NotFound
    return row


def contact_request_of_owner(actor: Actor, request_id: UUID) -> ContactRequest:
    """Return a request in the actor's own name, for any of their devices that may veto it. Raises NotFound."""
    row: ContactRequest | None = ContactRequest.objects.filter(pk=request_id, owner_id=actor.person_id).first()
    if row is None or actor.kind != "device":
        raise NotFound
    return row


def contact_request_of_device(actor: Actor, request_id: UUID) -> ContactRequest:
    """Return a request that the very device that asks has opened. Raises NotFound."""
    row: ContactRequest | None = ContactRequest.objects.filter(pk=request_id, device_id=actor.id).first()
    if row is None or actor.kind != "device":
        raise NotFound
    return row


def contact_request_for_update(request_id: UUID) -> ContactRequest:
    """Return a request, locked until the transaction ends, as it is now. Raises NotFound."""
    row: ContactRequest | None = ContactRequest.objects.select_for_update().filter(pk=request_id).first()
    if row is None:
        raise NotFound
    return row


def contact_request_by_hash(actor: Actor, request_hash: bytes) -> ContactRequest | None:
    """Return the request with these very octets, if the actor's own device opened it."""
    return ContactRequest.objects.filter(request_hash=request_hash, device_id=actor.id).first()


def open_contact_requests(owner_id: UUID, *, device_id: UUID | None = None) -> list[ContactRequest]:
    """List the open requests in a user's name, or those of one of their devices."""
    rows = ContactRequest.objects.filter(owner_id=owner_id, state=ContactRequestState.OPEN)
    return list(rows.filter(device_id=device_id) if device_id else rows)


def collectable_requests(owner_id: UUID) -> list[UUID]:
    """List the requests in a user's name for which shares are given or collected, by id."""
    rows = ContactRequest.objects.filter(owner_id=owner_id, state__in=COLLECTABLE)
    return list(rows.order_by("pk").values_list("pk", flat=True))


def contact_sets_after(after: UUID | None, *, limit: int) -> list[ContactSet]:
    """Return up to `limit` sets of trusted contacts by their owners' ids, above one: for the worker."""
    rows = ContactSet.objects.order_by("user_id")
    return list((rows.filter(user_id__gt=after) if after else rows)[:limit])


def open_requests_to(person_id: UUID, *, limit: int) -> list[ContactRequest]:
    """List the open requests in which a person is one of the contacts and has given nothing yet, newest first."""
    asked = ContactAnswer.objects.filter(contact_id=person_id, answered_at=None).values("request_id")
    rows = ContactRequest.objects.filter(pk__in=asked, state=ContactRequestState.OPEN)
    return list(rows.order_by("-opened_at", "pk")[:limit])


def contacts_of(row: ContactRequest) -> list[UUID]:
    """List the contacts whom a request asks."""
    return list(ContactAnswer.objects.filter(request=row).values_list("contact_id", flat=True))


def contact_answer(request_id: UUID, contact_id: UUID) -> tuple[ContactRequest, ContactAnswer]:
    """Return a request and one contact's part in it. Raises NotFound for whoever is no contact of it."""
    rows = ContactAnswer.objects.select_related("request").filter(request_id=request_id, contact_id=contact_id)
    answer: ContactAnswer | None = rows.first()
    if answer is None:
        raise NotFound
    return answer.request, answer


def given_answers(row: ContactRequest) -> list[ContactAnswer]:
    """List the parts of a request in which a share was given, in the order in which they were."""
    return list(ContactAnswer.objects.filter(request=row, sealed__isnull=False).order_by("answered_at", "id"))


def count_given(row: ContactRequest) -> int:
    """Count the contacts who gave their share."""
    return ContactAnswer.objects.filter(request=row, answered_at__isnull=False).count()


def count_collected(row: ContactRequest) -> int:
    """Count the shares that the asking device has."""
    return ContactAnswer.objects.filter(request=row, collected_at__isnull=False).count()


def contact_requests_past_expiry(now: datetime) -> list[tuple[UUID, UUID]]:
    """List (request, tenant) whose time is over and that still hold something, in every tenant: for the worker."""
    unended = ContactRequest.unscoped.filter(state=ContactRequestState.OPEN, expires_at__lte=now)
    # From the shares that are kept, which are few, and not from all requests that ever ended.
    holding = ContactAnswer.unscoped.filter(sealed__isnull=False, request__expires_at__lte=now)
    return sorted({*unended.values_list("pk", "tenant_id"), *holding.values_list("request_id", "request__tenant_id")})
