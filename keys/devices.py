# SPDX-License-Identifier: Apache-2.0
"""The verbs of devices: enrol by a code, register a successor, and become what the account chain says.

Implements PROTOCOL sections 2 and 5; FAULTS A12, I9a. Which devices a chain lists is decided in `services`; here its
word becomes a state, a credential that signs or does not, and a mailbox that goes on or ends.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID

from django.db import IntegrityError, transaction
from django.utils import timezone

from audit import access as audit_access
from audit import services as audit
from holdfast.core.base.secret import SecretBytes
from holdfast.core.identity.entries import Reason, is_loss
from holdfast.core.signed.cose import Sign1
from holdfast.core.signed.payloads import check_time
from holdfast.core.signed.statements import DeviceStatement
from kernel.actors import Actor, system_actor
from kernel.clock import database_now
from kernel.errors import Conflict, LimitReached
from kernel.queue import apart
from kernel.scope import at_work, current_tenant
from kernel.transitions import advance
from keys import access, chains, mailbox, notices
from keys.errors import ChainRefused, DeviceKnown, DeviceMismatch, SuccessorStale
from keys.models import Device, OneTimePreKey, SignedPreKey
from keys.states import DEVICE, DeviceState
from tenants import access as tenants_access
from tenants import services as tenants
from tenants.sponsors import let_in
from tenants.states import CredentialState, PersonState

# Devices of one person that wait for the chain to list them, of those whose codes have the same people behind them. An
# honest person has one or two.
MAX_WAITING: Final = 10
# How long they wait: a pairing takes minutes, and what takes weeks, a case or the contacts, is asked after.
WAITING_LIFE: Final = timedelta(days=30)
# People whose messages a revoked device did not fetch, of whom its owner is told: half of the notices that are kept of
# one event, so that two devices lost at once leave each other's in place.
MAX_TOLD_SENDERS: Final = 50


@dataclass(frozen=True)
class PreparedDevice:
    """A new device's statement, verified by itself; whether its code is good is not known yet."""

    statement: bytes
    statement_hash: bytes
    device: DeviceStatement


def prepare_device(*, tenant_id: UUID, statement: bytes) -> PreparedDevice:
    """Verify a new device's statement by itself. Call it before `tenants.services.begin_enrolment`.

    It asks no row, so that its refusals say nothing about which tenants there are (FAULTS I9a). Raises DeviceMismatch
    for a statement of another tenant or of a user that is not its person, and what DeviceStatement.open raises.
    """
    signed = Sign1.parse(statement)
    device = DeviceStatement.open(signed)
    check_time(device.header, int(timezone.now().timestamp()))
    if device.header.tenant != tenant_id.bytes or device.header.user != device.person:
        raise DeviceMismatch(
            "The statement names another tenant, or a user who is not its person.", field="device_statement"
        )
    return PreparedDevice(statement, signed.payload_hash, device)


def enrol_device(*, prepared: PreparedDevice, code_secret: SecretBytes) -> Device:
    """Register a device by its own signed statement and a single-use code; it is pending until a chain lists it.

    Call `tenants.services.begin_enrolment` first. Where MAX_WAITING that the same people let in wait already, the one
    that has waited longest is ended, unless an account is being recovered on it. Raises EnrolmentRefused for the code,
    DeviceMismatch for a statement that names another code, DeviceKnown, LimitReached when all wait for a recovery,
    Conflict when the chain lists the one that was to be ended right now.
    """
    device = prepared.device
    user_id, device_id = UUID(bytes=device.header.user), UUID(bytes=device.header.device)
    with transaction.atomic():
        code = tenants.consume_enrolment_code(tenant_id=current_tenant(), person_id=user_id, secret=code_secret)
        if device.enrolment_hash != bytes(code.code_hash):
            raise DeviceMismatch("The statement names another enrolment code.", field="device_statement")
        # A device acts for its owner from here on; the credential's own state keeps it to what a pending one may.
        actor = Actor(current_tenant(), "device", device_id, person_id=user_id, role=code.person.role)
        by = {"issuer": code.issuer_id, "confirmer": code.confirmer_id}
        # As it is now: what others let these people in for afterwards had no part in it.
        behind = sorted(map(str, let_in(user_id, by.values())))
        _make_room(user_id, behind, actor)
        row = _register(prepared, actor, behind=behind)
        audit.append(
            tag="keys:device:enrol",
            actor=actor,
            subject=str(device_id),
            body={
                "user": str(user_id),
                "statement": prepared.statement_hash,
                "trust": str(code.trust),
                "code": str(code.pk),
                **{name: str(person_id) for name, person_id in by.items() if person_id},
            },
        )
        # At once, and not when the chain lists it: what it asks for in the person's name, it asks for before.
        notices.owe(person_ids=[user_id], with_mail=[user_id], event="device-enrolled", device_id=str(device_id))
    return row


def register_successor(*, device_id: UUID, prepared: PreparedDevice, expected: bytes, actor: Actor) -> Device:
    """Register a new device in the actor's own device's place, without a code; pending until the chain lists it.

    expected: the 32-byte hash of the statement of the successor that waits already, as the device read it; none when
    none does. The same statement again changes nothing; another takes the place of the one that is named. Raises
    SuccessorStale when another waits, NotFound unless the actor's device is active, DeviceMismatch for a statement of
    another user or with a code, DeviceKnown.
    """
    with transaction.atomic():
        # The chain's lock first, as in an append, which could be listing or revoking either of the two right now.
        access.lock_chain_of_device(device_id)
        device = access.own_device_for_update(actor, device_id)
        if UUID(bytes=prepared.device.header.user) != device.user_id or prepared.device.enrolment_hash:
            raise DeviceMismatch(
                "A successor is its owner's, and its statement names no enrolment code.", field="device_statement"
            )
        waiting = access.pending_successors(device_id)
        for same in waiting:
            if bytes(same.statement_hash) == prepared.statement_hash:
                return same
        if [bytes(row.statement_hash) for row in waiting] != ([expected] if expected else []):
            raise SuccessorStale
        for replaced in waiting:
            _end(replaced, actor)
        row = _register(prepared, actor, successor_of=device_id, behind=device.behind)
        audit.append(
            tag="keys:device:succeed",
            actor=actor,
            subject=str(row.id),
            body={"user": str(device.user_id), "statement": prepared.statement_hash, "device": str(device_id)},
        )
    return row


def activate(user_id: UUID, device_id: UUID, statement_hash: bytes, actor: Actor) -> None:
    """Let a device act that the chain has listed. Raises ChainRefused for one that did not enrol like this."""
    device = Device.objects.filter(id=device_id, user_id=user_id, state=DeviceState.PENDING).first()
    if device is None or bytes(device.statement_hash) != statement_hash:
        raise ChainRefused("The chain adds a device that has not enrolled with this statement.", field="entries")
    advance(device, DEVICE, DeviceState.ACTIVE, activated_at=database_now())
    tenants.activate_credential(credential_id=device_id, actor=actor)
    audit.append(
        tag="keys:device:activate",
        actor=actor,
        subject=str(device_id),
        body={"user": str(user_id), "statement": statement_hash},
    )


# What an app above knows and this one cannot: what else a person held on a device that they lost.
_ends_with_a_loss: list[Callable[[UUID], None]] = []


def ends_with_a_loss(end: Callable[[UUID], None]) -> None:
    """Say once, at start, what of a person's ends when a device of theirs is revoked as lost, in that transaction."""
    _ends_with_a_loss.append(end)


def bring_back(prepared: PreparedDevice, actor: Actor) -> DeviceState | None:
    """Register a device again that a restored database lost and that its chain lists; return what it is then.

    None for one that is not brought back: another has its id or its keys, or its person is suspended or has left. What
    the log says of it counts: revoked it comes back revoked, and suspended it stays. Whoever calls has seen to it that
    the log of before had the entry that lists it.
    """
    device_id, user_id = UUID(bytes=prepared.device.header.device), UUID(bytes=prepared.device.header.user)
    person = tenants_access.person(user_id)
    if person.state not in (PersonState.INVITED, PersonState.ACTIVE):
        return None
    try:
        with transaction.atomic():
            # Who had let it in is lost; of a device that its chain lists nobody asks.
            row = _register(prepared, actor, behind=None)
    except Conflict:
        return None
    audit.append(
        tag="keys:device:restore",
        actor=actor,
        subject=str(device_id),
        body={"user": str(user_id), "statement": prepared.statement_hash},
    )
    if person.state == PersonState.INVITED:
        # They had enrolled, or no log would have an entry of theirs: their first sign of life was lost as well.
        tenants.activate_person(person=person, actor=actor)
    if was_ended(device_id):
        _end(row, actor)
        return DeviceState.REVOKED
    list_again(row, actor)
    notices.owe(person_ids=[user_id], with_mail=[user_id], event="device-restored", device_id=str(device_id))
    return DeviceState.ACTIVE


def list_again(device: Device, actor: Actor) -> None:
    """Make a waiting device what its chain says again that it is; one that was suspended signs nothing by it."""
    advance(device, DEVICE, DeviceState.ACTIVE, activated_at=database_now())
    state = tenants_access.credential_state(device.id)
    is_suspended = state == CredentialState.SUSPENDED or _was_suspended(device.id)
    # Of one that may not act the entry names nobody: whoever reads the log must not take it for somebody's.
    owner = {} if is_suspended else {"user": str(device.user_id)}
    audit.append(
        tag="keys:device:activate",
        actor=actor,
        subject=str(device.id),
        body={"statement": bytes(device.statement_hash), **owner},
    )
    if state == CredentialState.PENDING:
        move = tenants.suspend_credential if is_suspended else tenants.activate_credential
        move(credential_id=device.id, actor=actor)


def was_ended(device_id: UUID) -> bool:
    """Tell whether the log says that a device, or its credential, was revoked: also of one without a row."""
    tags = ("keys:device:revoke", "tenants:credential:revoke")
    return any(audit_access.last_entry(str(device_id), tag=tag) is not None for tag in tags)


def _was_suspended(device_id: UUID) -> bool:
    suspended = audit_access.last_entry(str(device_id), tag="tenants:credential:suspend")
    let_in = audit_access.last_entry(str(device_id), tag="tenants:credential:activate")
    return suspended is not None and (let_in is None or let_in.seq < suspended.seq)


def revoke_all(user_id: UUID, gone: Mapping[UUID, Reason], actor: Actor) -> None:
    """End devices that a person's chain lists no more, each for the reason that its entry gives.

    One whose row a restored database lost, or whose end the ceremony has put back, has nothing left to end.
    """
    rows = {row.id: row.state for row in Device.objects.filter(id__in=gone)}
    ended = {one for one in gone if rows.get(one) == DeviceState.REVOKED or (one not in rows and was_ended(one))}
    # First of all: the lock of what officers decide is taken before that of any device.
    _tell_of_loss(user_id, *(reason for device_id, reason in gone.items() if device_id not in ended))
    here = {device_id: reason for device_id, reason in gone.items() if device_id in rows and device_id not in ended}
    dropped = {device_id: _revoke_listed(device_id, reason, actor) for device_id, reason in here.items()}
    # To the devices that remain, which is known when all that go have gone.
    for device_id, of_senders in dropped.items():
        for sender, number in list(of_senders.items())[:MAX_TOLD_SENDERS]:
            notices.owe(
                person_ids=[user_id],
                event="messages-dropped",
                device_id=str(device_id),
                by=str(sender),
                messages=str(number),
            )


def _tell_of_loss(user_id: UUID, *reasons: int) -> None:
    if any(map(is_loss, reasons)):
        for end in _ends_with_a_loss:
            end(user_id)


def _revoke_listed(device_id: UUID, reason: Reason, actor: Actor) -> dict[UUID, int]:
    """End a device that the chain lists no more: it signs nothing, and nothing of its pre-keys is handed out.

    What waits in its mailbox goes to the successor that the chain lists, and is deleted without one (FAULTS X3).
    Returns of which user how many messages were deleted.
    """
    _end(access.device(device_id), actor, reason=int(reason))
    # Whoever stole the device may have registered a successor before its owner revoked it: that goes with it.
    for waiting in access.pending_successors(device_id):
        _end(waiting, actor)
    successor = access.active_successor(device_id)
    return mailbox.leave(device_id=device_id, successor_id=successor.id if successor else None)


def stop_all(*, user_id: UUID, actor: Actor) -> int:
    """Stop all devices of a person who leaves, and return how many that are.

    No chain is written: that is its owner's to do. Their requests are refused from the next one on, but for a veto,
    which no one person's act ends (ESCROW "Case"). Their pre-keys are handed out no more, so that nobody begins to
    write to them; those that wait for the chain end.
    """
    with transaction.atomic():
        # The chain's lock first, as in an append, which could be listing or revoking one of them right now.
        access.chain_head_for_update(user_id)
        live = list(Device.objects.select_for_update().filter(user_id=user_id).exclude(state=DeviceState.REVOKED))
        for device in live:
            if device.state == DeviceState.PENDING:
                _end_waiting(device, actor)
            elif tenants_access.credential_state(device.id) == CredentialState.ACTIVE:
                tenants.suspend_credential(credential_id=device.id, actor=actor)
        gone = [device.id for device in live]
        OneTimePreKey.objects.filter(device_id__in=gone).delete()
        current = SignedPreKey.objects.filter(device_id__in=gone, is_current=True)
        current.update(is_current=False, retired_at=database_now())
    return len(live)


def sweep_waiting() -> int:
    """End, in every tenant, the devices that have waited WAITING_LIFE for the chain; return how many.

    One that a case or a request to contacts is to bring back waits as long as that does.
    """
    count, before = 0, database_now() - WAITING_LIFE
    due = at_work(Device.unscoped.filter(state=DeviceState.PENDING, successor_of=None, created_at__lt=before))
    for tenant_id, device_id in list(due.order_by("created_at").values_list("tenant_id", "id")):
        # One that the chain lists at this moment raises Conflict, which is named in the log like any other trouble.
        with apart(tenant_id, f"end of the waiting device {device_id}"), transaction.atomic():
            device = access.device(device_id)
            if device.state != DeviceState.PENDING or chains.is_being_recovered(device_id, device.user_id):
                continue
            _end_waiting(device, system_actor(tenant_id, "worker"))
            count += 1
    return count


def _make_room(user_id: UUID, behind: list[str], actor: Actor) -> None:
    """End the devices that have waited longest, so that one more may. The caller holds the person's row.

    Of those that the same people let in: nobody's codes end what a code of somebody else's let in, or keep it out.
    """
    waiting = [device for device in access.waiting_devices(user_id) if access.let_in_by(device) == tuple(behind)]
    surplus = len(waiting) + 1 - MAX_WAITING
    if surplus <= 0:
        return
    # Codes are made by officers: ten of them must not end a recovery that others have approved or wait for.
    free = [device for device in waiting if not chains.is_being_recovered(device.id, user_id)]
    if len(free) < surplus:
        raise LimitReached(
            "As many devices of this person wait as the same people may let in, each for a recovery that is under way. "
            "Let one end first, or have somebody else issue the code.",
            field="device_statement",
            limit="waiting-devices",
            most=MAX_WAITING,
        )
    for oldest in free[:surplus]:
        _end_waiting(oldest, actor)


def _end_waiting(device: Device, actor: Actor) -> None:
    _end(device, actor)
    mailbox.leave(device_id=device.id, successor_id=None)


def revoke_again(*, device_id: UUID, user_id: UUID, reason: int | None) -> None:
    """Revoke a device in the rows whose revocation a restored database had lost; the entry put back is the record.

    Whoever encrypts asks the account chain, which its owner uploads again; the server hands it nothing more meanwhile.
    user_id, reason: as the entry names them; none by one of a device that no chain listed, or older than reasons.
    """
    if reason is not None:
        _tell_of_loss(user_id, reason)
    for device in Device.objects.filter(id=device_id).exclude(state=DeviceState.REVOKED):
        _revoke(device)
        tenants.take_again(tag="tenants:credential:revoke", subject=device_id)


def _revoke(device: Device) -> None:
    advance(device, DEVICE, DeviceState.REVOKED, revoked_at=database_now())
    OneTimePreKey.objects.filter(device_id=device.id).delete()


def _end(device: Device, actor: Actor, **why: int) -> None:
    _revoke(device)
    if tenants_access.credential_state(device.id) != "revoked":
        tenants.revoke_credential(credential_id=device.id, actor=actor)
    owner = str(device.user_id)
    audit.append(tag="keys:device:revoke", actor=actor, subject=str(device.id), body={"user": owner, **why})


def _register(
    prepared: PreparedDevice, actor: Actor, *, behind: list[str] | None, successor_of: UUID | None = None
) -> Device:
    device = prepared.device
    user_id, device_id = UUID(bytes=device.header.user), UUID(bytes=device.header.device)
    tenants.register_credential(
        credential_id=device_id, person_id=user_id, public_key=device.signing_key.encoded, actor=actor
    )
    try:
        with transaction.atomic():
            row: Device = Device.objects.create(
                id=device_id,
                user_id=user_id,
                name=device.name,
                suite=int(device.suite),
                statement=prepared.statement,
                statement_hash=prepared.statement_hash,
                successor_of=successor_of,
                behind=behind,
                created_at=timezone.now(),
            )
    except IntegrityError as error:
        raise DeviceKnown("Make a new device id and enrol again.", field="device_statement") from error
    return row
