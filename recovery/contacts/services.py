# SPDX-License-Identifier: Apache-2.0
"""Getting a vault back by trusted contacts: the manifest, a device's request, contacts' shares, veto and end.

Implements PROTOCOL section 6 (contacts door) on the server; FAULTS R3, R5, R6, R7, R14. What it adds to the contacts'
own care is time and notice: it opens no share and cannot tell a right one from a wrong one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID, uuid4

from django.conf import settings
from django.db import IntegrityError, transaction

from audit import services as audit
from holdfast.core.signed.cose import Purpose, Sign1
from holdfast.core.signed.payloads import check_time
from holdfast.core.vault.share_manifest import MAX_REQUEST_SECONDS, Manifest, ShareRequest
from kernel.actors import Actor
from kernel.clock import database_now
from kernel.errors import NotFound
from kernel.paging import PAGE
from kernel.scope import current_tenant
from kernel.transitions import advance
from keys import access as keys
from keys import chains, notices
from keys.services import open_record, seal_record
from recovery.contacts import access
from recovery.errors import ContactRequestMoved, ContactsRefused, ContactsStale, TooManyContactRequests
from recovery.models import ContactAnswer, ContactRequest, ContactSet
from recovery.states import COLLECTABLE, CONTACT_REQUEST, ContactRequestState
from tenants import access as tenants
from tenants.limits import count_against

MAX_OPEN: Final = 5
# Each request is a mail to the owner and a notice to their contacts; each answer asks the HSM.
REQUESTS_PER_DAY: Final = 10
ANSWERS_PER_HOUR: Final = 10
SHARE_KIND: Final = "contact-share"
S = ContactRequestState


# The manifest.


def verify_manifest(*, statement: bytes, actor: Actor) -> Manifest:
    """Check that a manifest is the actor's, by the identity key in force. Call it before the transaction.

    Raises ContactsRefused for another user's, or one that names somebody who is not of this tenant; Malformed,
    InvalidSignature.
    """
    user_id = keys.own_user(actor, _person(actor))
    signed = Sign1.parse(statement)
    signed.verify(chains.chain_state(user_id).aik, purpose=Purpose.SHARE_MANIFEST)
    manifest = Manifest.from_payload(signed.payload)
    if (manifest.header.tenant, manifest.header.user) != (current_tenant().bytes, user_id.bytes):
        raise ContactsRefused("The manifest is another person's.", field="manifest")
    people = {UUID(bytes=contact) for contact in manifest.contacts}
    if set(tenants.people_by_id(people)) != people:
        # One answer for a person of another tenant and for nobody.
        raise ContactsRefused("A contact is not a person of this tenant.", field="manifest")
    return manifest


def store_manifest(*, statement: bytes, manifest: Manifest, expected_version: int, actor: Actor) -> int:
    """Store a verified manifest as the next version and return its number.

    The same manifest again, when its answer was lost, changes nothing. Raises ContactsStale for another version.
    """
    user_id = _person(actor)
    with transaction.atomic():
        row = access.contact_set(user_id)
        stored = row.version if row else 0
        if row and stored == expected_version + 1 and bytes(row.manifest) == statement:
            return stored
        if stored != expected_version:
            raise ContactsStale("Read them again, then write.", version=stored)
        _put_manifest(user_id, stored + 1, statement, manifest.hash)
        audit.append(
            tag="recovery:contacts:store",
            actor=actor,
            subject=str(user_id),
            body={"version": stored + 1, "manifest": manifest.hash, "k": manifest.k, "n": manifest.n},
        )
    return stored + 1


def _put_manifest(user_id: UUID, version: int, statement: bytes, manifest_hash: bytes) -> None:
    values = {"version": version, "manifest": statement, "manifest_hash": manifest_hash}
    if version == 1:
        try:
            with transaction.atomic():
                ContactSet.objects.create(user_id=user_id, **values)
        except IntegrityError as error:
            raise ContactsStale("Read them again, then write.") from error
    elif ContactSet.objects.filter(user_id=user_id, version=version - 1).update(**values) != 1:
        raise ContactsStale("Read them again, then write.")


# A request.


def count_request(*, actor: Actor) -> None:
    """Count one request in a person's name; call it before the transaction. Raises Throttled."""
    count_against(f"contact-requests:{_person(actor)}", limit=REQUESTS_PER_DAY, seconds=86_400)


def open_request(*, payload: bytes, actor: Actor) -> ContactRequest:
    """Open a request of the device that asks, for the shares of its user's contacts, and tell all who must be told.

    The same request again is returned as it stands; another one of this device cancels its first. Raises Malformed,
    Expired, ContactsRefused, naming what does not fit, TooManyContactRequests.
    """
    device = keys.device(actor.id or uuid4())
    request = ShareRequest.from_payload(payload)
    with transaction.atomic():
        # The owner's set is the lock: requests of their devices are opened one after another.
        held = access.contact_set_for_update(device.user_id)
        same = access.contact_request_by_hash(actor, request.hash)
        if same is not None:
            return same
        now = database_now()
        check_time(request.header, int(now.timestamp()))
        whose = (current_tenant().bytes, device.user_id.bytes, device.id.bytes)
        if (request.header.tenant, request.header.user, request.header.device) != whose:
            raise ContactsRefused("The request is another tenant's, user's or device's.", field="request")
        if request.device_hash != bytes(device.statement_hash):
            raise ContactsRefused("The request names another statement of this device.", field="request")
        if held is None or bytes(held.manifest_hash) != request.manifest_hash:
            raise ContactsRefused("The request names other contacts than those of now: read them.", field="request")
        return _open(request, payload, Manifest.from_payload(Sign1.parse(bytes(held.manifest)).payload), now, actor)


def _open(request: ShareRequest, payload: bytes, manifest: Manifest, now: datetime, actor: Actor) -> ContactRequest:
    owner_id = _person(actor)
    not_before = now + timedelta(seconds=settings.HOLDFAST_CONTACTS_DELAY_SECONDS)
    longest = now + timedelta(seconds=MAX_REQUEST_SECONDS)
    expires_at = min(longest, datetime.fromtimestamp(min(request.header.expires_at, int(longest.timestamp())), UTC))
    if expires_at <= not_before:
        raise ContactsRefused("The request expires before the delay is over.", field="request")
    for earlier in access.open_contact_requests(owner_id, device_id=actor.id):
        _end(earlier, S.CANCELLED, actor)
    if len(access.open_contact_requests(owner_id)) >= MAX_OPEN:
        raise TooManyContactRequests
    row: ContactRequest = ContactRequest.objects.create(
        owner_id=owner_id,
        device_id=actor.id,
        request=payload,
        request_hash=request.hash,
        k=manifest.k,
        opened_at=now,
        not_before=not_before,
        expires_at=expires_at,
    )
    contacts = [UUID(bytes=contact) for contact in manifest.contacts]
    ContactAnswer.objects.bulk_create(
        ContactAnswer(tenant_id=row.tenant_id, request=row, contact_id=contact) for contact in contacts
    )
    _append("open", row, actor, device=str(row.device_id), manifest=manifest.hash)
    _tell(row, "contacts-request", [owner_id, *contacts], with_mail=True)
    return row


def cancel_request(*, request_id: UUID, actor: Actor) -> ContactRequest:
    """End a request by the word of the device that opened it. Raises NotFound, ContactRequestMoved."""
    return _end_by(request_id, S.CANCELLED, actor)


def veto_request(*, request_id: UUID, actor: Actor) -> ContactRequest:
    """End a request by the word of any active device of its owner. Raises NotFound, ContactRequestMoved."""
    return _end_by(request_id, S.VETOED, actor)


def expire_request(*, request_id: UUID, actor: Actor) -> None:
    """End a request whose time is over, and destroy the shares that were given for it, also for a complete one."""
    with transaction.atomic():
        row = access.contact_request_for_update(request_id)
        if row.expires_at > database_now():
            return
        if row.state == S.OPEN:
            _end(row, S.EXPIRED, actor)
        _destroy_shares(row)


def end_requests_of(*, owner_id: UUID, actor: Actor) -> int:
    """End the requests in the name of a person who leaves, destroy the shares given for any, and return how many ended.

    In the caller's transaction. Their devices collect nothing any more.
    """
    ended = 0
    for request_id in access.collectable_requests(owner_id):
        row = access.contact_request_for_update(request_id)
        if row.state == S.OPEN:
            _end(row, S.CANCELLED, actor)
            ended += 1
        else:
            _destroy_shares(row)
    return ended


def tell_of_leaving(*, person_id: UUID, after: UUID | None) -> UUID | None:
    """Tell those of the next hundred people with trusted contacts who chose a person who has left; return the last.

    None when there are no more. A crash tells a hundred twice.
    """
    rows = access.contact_sets_after(after, limit=PAGE)
    chose = [row.user_id for row in rows if person_id in _chosen(row)]
    with transaction.atomic():
        notices.owe(person_ids=chose, with_mail=chose, event="contact-left", by=str(person_id))
    return rows[-1].user_id if len(rows) == PAGE else None


def _chosen(row: ContactSet) -> set[UUID]:
    manifest = Manifest.from_payload(Sign1.parse(bytes(row.manifest)).payload)
    return {UUID(bytes=contact) for contact in manifest.contacts}


def destroy_contacts(owner_id: UUID) -> tuple[int, int]:
    """Destroy a person's set of trusted contacts, and every share that contacts gave them; return how many of each.

    In the caller's transaction, which says why. What they hold for others stays: it is not theirs.
    """
    shares = ContactAnswer.objects.filter(request__owner_id=owner_id, sealed__isnull=False).update(sealed=None)
    sets, _ = ContactSet.objects.filter(user_id=owner_id).delete()
    return sets, shares


def _end_by(request_id: UUID, state: ContactRequestState, actor: Actor) -> ContactRequest:
    with transaction.atomic():
        row = access.contact_request_for_update(request_id)
        if row.state == state:
            return row
        if row.state != S.OPEN:
            raise ContactRequestMoved(f"The request is {row.state}.", state=row.state)
        _end(row, state, actor)
    return row


def _end(row: ContactRequest, state: ContactRequestState, actor: Actor) -> None:
    """End an open request: its shares must not add up with those of the next. In the caller's transaction."""
    advance(row, CONTACT_REQUEST, state, ended_at=database_now())
    _destroy_shares(row)
    verb = {S.VETOED: "veto", S.CANCELLED: "cancel", S.EXPIRED: "expire"}[state]
    _append(verb, row, actor)
    _tell(row, "contacts-request-ended", [row.owner_id, *access.contacts_of(row)], state=str(state))


def _destroy_shares(row: ContactRequest) -> None:
    ContactAnswer.objects.filter(request=row).update(sealed=None)


# Shares.


@dataclass(frozen=True)
class SealedShare:
    """A contact's answer, encrypted at rest for one version of their row."""

    answer_id: UUID
    version: int
    sealed: bytes


def seal_share(*, request_id: UUID, share: bytes, actor: Actor) -> SealedShare:
    """Encrypt a contact's share at rest. It asks the HSM; call it before the transaction.

    Raises NotFound for whoever is no contact of that request, Throttled.
    """
    row, answer = access.contact_answer(request_id, _person(actor))
    count_against(f"contact-answers:{answer.pk}", limit=ANSWERS_PER_HOUR, seconds=3600)
    version = answer.version + 1
    sealed = seal_record(share, user_id=row.owner_id, object_id=answer.pk, kind=SHARE_KIND, version=version)
    return SealedShare(answer.pk, version, sealed)


def give_share(*, request_id: UUID, prepared: SealedShare, actor: Actor) -> ContactRequest:
    """Store a contact's share: their first, or one in place of it. Raises ContactRequestMoved, ContactsStale."""
    with transaction.atomic():
        row = access.contact_request_for_update(request_id)
        now = database_now()
        if row.state not in COLLECTABLE or row.expires_at <= now:
            raise ContactRequestMoved(f"The request is {row.state}.", state=row.state)
        mine = ContactAnswer.objects.filter(
            pk=prepared.answer_id, request=row, contact_id=actor.person_id, version=prepared.version - 1
        )
        values = {"version": prepared.version, "sealed": prepared.sealed, "answered_at": now, "collected_at": None}
        if mine.update(**values) != 1:
            raise ContactsStale("Another device of yours gave your share at the same moment.")
        _append("answer", row, actor, contact=str(actor.person_id))
    return row


@dataclass(frozen=True)
class Collected:
    """A request as the asking device sees it, with (contact, share sealed to the request) for each that was given.

    shares is None once the request has ended without them.
    """

    row: ContactRequest
    shares: list[tuple[UUID, bytes]] | None


def open_shares(row: ContactRequest) -> list[tuple[ContactAnswer, bytes]] | None:
    """Return the shares that may be collected now, from storage; None during the delay and after the end.

    It asks the HSM; call it outside transactions. Raises UnwrapFailed for a row that was changed.
    """
    now = database_now()
    if row.state not in COLLECTABLE or not row.not_before <= now < row.expires_at:
        return None
    return [(answer, _open_share(row, answer)) for answer in access.given_answers(row)]


def _open_share(row: ContactRequest, answer: ContactAnswer) -> bytes:
    return open_record(
        bytes(answer.sealed or b""),
        user_id=row.owner_id,
        object_id=answer.pk,
        kind=SHARE_KIND,
        version=answer.version,
    )


def collect(*, request_id: UUID, opened: Sequence[tuple[ContactAnswer, bytes]], actor: Actor) -> Collected:
    """Hand opened shares to the device that asked, unless the request was ended meanwhile; each first time is an entry.

    With the share that makes k the request is complete, and the owner is told by mail.
    """
    with transaction.atomic():
        row = access.contact_request_for_update(request_id)
        now = database_now()
        if row.state not in COLLECTABLE or row.expires_at <= now:
            return Collected(row, None)
        fresh = [answer for answer, _ in opened if answer.collected_at is None]
        if fresh:
            for answer in fresh:
                ContactAnswer.objects.filter(pk=answer.pk, version=answer.version).update(collected_at=now)
            _append("collect", row, actor, answers=len(fresh))
            if row.state == S.OPEN and access.count_collected(row) >= row.k:
                advance(row, CONTACT_REQUEST, S.COMPLETE, ended_at=now)
                _append("complete", row, actor)
                _tell(row, "contacts-collected", [row.owner_id, *access.contacts_of(row)], with_mail=True)
    return Collected(row, [(answer.contact_id, share) for answer, share in opened])


def _append(verb: str, row: ContactRequest, actor: Actor, **body: str | int | bytes) -> None:
    named = {"request": str(row.pk), **body}
    audit.append(tag=f"recovery:contact-request:{verb}", actor=actor, subject=str(row.owner_id), body=named)


def _tell(row: ContactRequest, event: str, people: Sequence[UUID], *, with_mail: bool = False, state: str = "") -> None:
    ids = {"request_id": str(row.pk), "owner": str(row.owner_id), "device_id": str(row.device_id)}
    ids |= {"state": state} if state else {}
    notices.owe(person_ids=people, with_mail=[row.owner_id] if with_mail else [], event=event, **ids)


def _person(actor: Actor) -> UUID:
    if actor.kind != "device" or actor.person_id is None:
        raise NotFound
    return actor.person_id
