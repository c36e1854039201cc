# SPDX-License-Identifier: Apache-2.0
"""The verbs of custody: publish policies and keys, act as officers, take consents and deposits, read them, re-wrap.

Implements ESCROW "Deposit"; FAULTS C10, P19. It releases nothing: `recovery` decides, and of its callers only
the release process holds the PIN without which `rewrap_half` is refused by the HSM.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, cast
from uuid import UUID

from django.db import IntegrityError, transaction
from django.utils import timezone

from audit import services as audit
from escrow import access
from escrow.acts import Progress, progress_of, resolve_again, sign_resolution, state_again, state_officer
from escrow.coverage import (
    DepositCoverage,
    UserCoverage,
    coverage_totals,
    tenant_coverage,
    user_coverage,
)
from escrow.errors import (
    ConsentBinding,
    ConsentRefused,
    DepositRefused,
    DepositRepeated,
    EscrowEnded,
    EscrowPaused,
    GenerationSealed,
    PolicyStale,
    RecordUnreadable,
)
from escrow.models import Consent, Deposit, EscrowKey, Policy, Receipt
from escrow.officers import state_officer_keys
from escrow.policies import ends_with_an_office, publish_escrow_key, publish_policy, withdraw_policy
from escrow.proposals import (
    KeyProgress,
    PolicyProgress,
    complete_founding,
    founder_words,
    key_progress,
    policy_progress,
    propose_escrow_key,
    propose_policy,
    roster_people,
    sign_escrow_key,
    sign_policy,
    withdraw_policy_proposal,
)
from holdfast.core.base.encoding import Fields, decode, encode
from holdfast.core.base.errors import HoldfastError, Malformed, UnwrapFailed
from holdfast.core.crypto.keys import KeyKind, PublicKey
from holdfast.core.escrow.deposit import Deposit as Record
from holdfast.core.identity.policy import MIN_OFFICERS, NEVER
from holdfast.core.log.log_entry import BodyValue
from holdfast.core.signed import statements
from holdfast.core.signed.cose import Purpose, Sign1
from holdfast.core.signed.statements import DepositStatement, DeviceStatement, check_time
from hsm import registry
from hsm.backend import EscrowKeyRef, OaepAlgorithm
from kernel.actors import Actor
from kernel.clock import database_now
from kernel.errors import Denied, LimitReached
from kernel.rows import insert
from kernel.scope import current_tenant
from keys import access as keys
from keys import chains
from keys.models import TenantMasterKey
from keys.services import StoredRecord, open_record, seal_record
from tenants.states import PersonState

__all__ = [
    "AcceptedDeposit",
    "DepositCoverage",
    "KeyProgress",
    "PolicyProgress",
    "PreparedDeposit",
    "Progress",
    "UserCoverage",
    "accept_deposit",
    "complete_founding",
    "coverage_totals",
    "ends_with_an_office",
    "flag_deposits",
    "founder_words",
    "give_consent",
    "keep_receipt",
    "key_progress",
    "note_reading",
    "open_deposit",
    "policy_progress",
    "prepare_deposit",
    "progress_of",
    "propose_escrow_key",
    "propose_policy",
    "publish_escrow_key",
    "publish_policy",
    "refuse_receipt",
    "require_escrow_key",
    "resolve_again",
    "rewrap_half",
    "roster_people",
    "seal_generations",
    "sign_escrow_key",
    "sign_policy",
    "sign_resolution",
    "state_again",
    "state_officer",
    "state_officer_keys",
    "tenant_coverage",
    "user_coverage",
    "withdraw_policy",
    "withdraw_policy_proposal",
]

_KIND = "escrow-deposit"
_MAX_SEALED = 96 * 1024


# Deposits of one generation of a person's key under one policy and escrow key. One is enough; each of a person's
# devices, at most 64, might make its own.
MAX_DEPOSITS: Final = 100
# Answers of a person to one policy. Past it only a withdrawal is taken, which follows a consent and so comes once.
MAX_CONSENTS: Final = 100


@dataclass(frozen=True)
class PreparedDeposit:
    """A deposit that was verified and encrypted for storage, not stored yet."""

    record: Record
    record_hash: bytes
    sealed: bytes


@dataclass(frozen=True)
class AcceptedDeposit:
    """A deposit as it was received: the record (at most 64 KiB) and its device's statement over it."""

    record: bytes
    statement: bytes


def prepare_deposit(*, record: bytes, statement: bytes, actor: Actor) -> PreparedDeposit:
    """Verify a deposit and encrypt it for storage; call it before the transaction, since it asks the HSM.

    Raises DepositRefused for a record that does not fit its statement, its device, the account chain, the consent
    or the policy; PolicyStale when policy or escrow key are no longer the newest; HsmUnavailable.
    """
    # To take a deposit we must know:
    #
    # (1) that the actor's own active device signed for exactly this record;
    # (2) that the record is of this tenant, user and device, and of nobody else;
    # (3) that it is made for the newest policy and escrow key, and its half fits that key;
    # (4) that the key inside is one that the user's chain announces, and that the user agreed to this policy.
    if actor.kind != "device":
        raise DepositRefused("Only a device deposits.")
    own = keys.own(actor)
    try:
        deposit = _require_signed(record, statement, own)  # (1), (2)
        ground = access.deposit_ground(own.user_id, deposit.header.consent_hash)
        _require_newest(deposit, ground)  # (3)
    except HoldfastError as error:
        raise DepositRefused(str(error), field="record") from error
    _require_announced(deposit, own, ground)  # (4)
    sealed = seal_record(
        encode([record, statement]),
        user_id=own.user_id,
        object_id=UUID(bytes=deposit.header.deposit_id),
        kind=_KIND,
        version=1,
        key=own.tenant_key,
    )
    return PreparedDeposit(deposit, hashlib.sha256(record).digest(), sealed)


def _require_signed(record: bytes, statement: bytes, own: keys.Own) -> Record:
    device = DeviceStatement.open(Sign1.parse(own.statement))
    signed = Sign1.parse(statement)
    said = DepositStatement.from_payload(signed.verify(device.signing_key, purpose=Purpose.DEPOSIT))
    check_time(said.header, int(timezone.now().timestamp()))
    deposit = Record.from_record(record)
    head = deposit.header
    whose = (device.header.tenant, device.header.user, device.header.device)
    if (head.tenant, head.user, head.device) != whose or (
        said.header.tenant,
        said.header.user,
        said.header.device,
    ) != whose:
        raise DepositRefused("The record or its statement names another tenant, user or device.", field="record")
    if not hmac.compare_digest(said.record_hash, hashlib.sha256(record).digest()):
        raise DepositRefused("The statement is about another record.", field="statement")
    return deposit


def _require_newest(deposit: Record, ground: access.DepositGround) -> None:
    policy, key, head = ground.policy, ground.key, deposit.header
    _require_lasting(policy, key)
    if head.policy_hash != bytes(policy.hash) or head.escrow_key_hash != bytes(key.hash):
        raise PolicyStale
    if (head.m, head.n) != (policy.m, policy.n):
        raise DepositRefused("The record asks for another number of officers than its policy.", field="record")
    deposit.require_half_for(PublicKey(KeyKind.RSA_3072, bytes(key.spki)))


def _require_lasting(policy: Policy, key: EscrowKey) -> None:
    """Refuse what would be sealed under a policy or a key that ran out, when its month of grace is over as well."""
    for ending in access.endings(policy, key, timezone.now()):
        if ending.is_over:
            raise EscrowEnded(
                f"The {ending.what} of your organisation has run out, and its month of grace with it. What is in "
                "escrow stays, and can be released. Officers have to sign a new one: holdfast officer policy propose, "
                "or the operator's ceremony for a key. Then deposit again."
            )


def _require_announced(deposit: Record, own: keys.Own, ground: access.DepositGround) -> None:
    head, chain = deposit.header, chains.chain_state_at(own.user_id, own.head)
    announced = {archive.generation: archive.commitment for archive in chain.generations}
    if announced.get(head.generation) != head.ak_commitment:
        raise DepositRefused("Your account chain does not announce this key for this generation.", field="record")
    if ground.named != (True, head.policy_hash):
        raise DepositRefused("The record names no consent of yours to this policy.", field="record")
    if not ground.newest:
        raise DepositRefused("You have withdrawn your consent.", field="record")


def accept_deposit(*, prepared: PreparedDeposit, actor: Actor) -> Deposit:
    """Store a prepared deposit and log it, in the caller's transaction, which ends with what this raises.

    Raises DepositRepeated, LimitReached, PolicyStale if the policy moved on, EscrowPaused if too few officers are left,
    GenerationSealed for a key that a case has opened when nobody was left to replace it.
    """
    head = prepared.record.header
    access.lock_policies()
    # A statement after the lock: it sees whatever was done by those who had it before.
    room = access.deposit_room(head, prepared.record.half_hash, timezone.now())
    if room is None or room.policy_hash != head.policy_hash:
        raise PolicyStale
    if room.officers < MIN_OFFICERS:
        raise EscrowPaused
    if room.is_known:
        raise DepositRepeated
    # Under the lock that whoever records their leaving holds: nothing comes into custody after that.
    if room.person_state != PersonState.ACTIVE:
        raise Denied("Whoever has left, or is suspended, puts nothing into escrow. What is there is kept.")
    if room.is_exposed:
        raise GenerationSealed
    if room.alike >= MAX_DEPOSITS:
        raise LimitReached(
            "This key is in custody under this policy as often as it may be. It needs no further deposit.",
            field="record",
            limit="deposits",
            most=MAX_DEPOSITS,
        )
    row = _store_deposit(prepared)
    audit.append(
        tag="escrow:deposit:accept",
        actor=actor,
        subject=str(row.user_id),
        body={
            "deposit": str(row.id),
            "device": str(row.device_id),
            "generation": row.generation,
            "record_hash": prepared.record_hash,
            "half_hash": prepared.record.half_hash,
            "policy": head.policy_hash,
            "escrow_key": head.escrow_key_hash,
        },
    )
    return row


def _store_deposit(prepared: PreparedDeposit) -> Deposit:
    head = prepared.record.header
    row = Deposit(
        id=UUID(bytes=head.deposit_id),
        user_id=UUID(bytes=head.user),
        device_id=UUID(bytes=head.device),
        generation=head.generation,
        record_hash=prepared.record_hash,
        half_hash=prepared.record.half_hash,
        ak_commitment=head.ak_commitment,
        policy_hash=head.policy_hash,
        escrow_key_hash=head.escrow_key_hash,
        sealed=prepared.sealed,
        created_at=timezone.now(),
    )
    try:
        insert(row)
    except IntegrityError as error:
        # Two uploads of it at once: both saw none.
        raise DepositRepeated from error
    return row


def shred_deposits(*, user_id: UUID, now: datetime, limit: int) -> int:
    """Empty up to `limit` of a user's deposits for good, and return how many: nobody opens them any more.

    With its record go both of its halves, the HSM's and the officers', and the record key. Ids and hashes stay: no half
    is ever deposited twice. In the caller's transaction, which says why.
    """
    rows = Deposit.objects.filter(user_id=user_id, shredded_at=None).order_by("pk").values_list("pk", flat=True)
    return int(Deposit.objects.filter(pk__in=list(rows[:limit])).update(sealed=b"", shredded_at=now))


def open_deposit(deposit: Deposit, *, key: TenantMasterKey | None = None) -> AcceptedDeposit:
    """Return a deposit's signed bytes from storage; call it outside transactions, since it asks the HSM.

    key: the tenant's key in use, from whoever has just read it. Raises RecordUnreadable when the row was changed or
    moved, HsmUnavailable.
    """
    try:
        value = decode(
            open_record(
                bytes(deposit.sealed), user_id=deposit.user_id, object_id=deposit.id, kind=_KIND, version=1, key=key
            ),
            max_size=_MAX_SEALED,
        )
        row = Fields.of_row(value, "stored deposit", 2)
        opened = AcceptedDeposit(row.octets(0), row.octets(1))
    except (UnwrapFailed, Malformed) as error:
        raise RecordUnreadable from error
    if hashlib.sha256(opened.record).digest() != bytes(deposit.record_hash):
        raise RecordUnreadable
    return opened


def newest_records(most: int) -> list[StoredRecord]:
    """Return the open tenant's newest deposits as they lie at rest, to see by them whose a tenant key is."""
    return [StoredRecord(bytes(row.sealed), row.user_id, row.id, _KIND, 1) for row in access.newest_deposits(most)]


def note_reading(*, deposit: Deposit, actor: Actor) -> None:
    """Log that a deposit is read, before its bytes leave (FAULTS L10); once an hour for one actor."""
    with transaction.atomic():
        audit.append_first(
            tag="escrow:deposit:read",
            actor=actor,
            subject=str(deposit.user_id),
            apart=str(deposit.id),
            body={"deposit": str(deposit.id)},
        )


def give_consent(*, statement: bytes, actor: Actor) -> Consent:
    """Store a user's signed answer to the newest policy, in the caller's transaction.

    Raises ConsentRefused, PolicyStale, LimitReached; ConsentBinding for a yes that is taken back before its policy
    lets it be.
    """
    if actor.person_id is None or actor.kind != "device":
        raise ConsentRefused("Only a person's own device gives consent.")
    user_id = actor.person_id
    try:
        signed = Sign1.parse(statement)
        payload = signed.verify(chains.chain_state(user_id).aik, purpose=Purpose.CONSENT)
        said = statements.Consent.from_payload(payload)
        check_time(said.header, int(timezone.now().timestamp()))
    except HoldfastError as error:
        raise ConsentRefused(str(error), field="statement") from error
    if (said.header.tenant, said.header.user) != (actor.tenant_id and actor.tenant_id.bytes, user_id.bytes):
        raise ConsentRefused("The statement names another tenant or user.", field="statement")
    newest = access.newest_policy_for_update()
    if newest is None or bytes(newest.hash) != said.policy_hash:
        raise PolicyStale
    now = database_now()
    known = access.consent_named(user_id, signed.payload_hash)
    if known is not None:
        return known
    held = access.newest_consent(user_id)
    is_withdrawal = not said.agreed and held is not None and held.agreed
    if is_withdrawal and held is not None and bytes(held.policy_hash) == said.policy_hash:
        _require_unbound(user_id, newest, now)
    if access.consents_to(user_id, said.policy_hash) >= MAX_CONSENTS and not is_withdrawal:
        raise LimitReached(
            "You have answered this policy as often as one may. A consent can be withdrawn; a new policy asks.",
            field="statement",
            limit="consents",
            most=MAX_CONSENTS,
        )
    row: Consent = Consent.objects.create(
        user_id=user_id,
        hash=signed.payload_hash,
        policy_hash=said.policy_hash,
        text_hash=said.text_hash,
        agreed=said.agreed,
        statement=statement,
        given_at=now,
    )
    audit.append(
        tag="escrow:consent:give",
        actor=actor,
        subject=str(user_id),
        body={"hash": signed.payload_hash, "policy": said.policy_hash, "agreed": int(said.agreed)},
    )
    return row


def _require_unbound(user_id: UUID, newest: Policy, now: datetime) -> None:
    """Refuse to take a yes back that binds its person still. A no to another version than they agreed to is free."""
    terms = access.reading(newest).terms
    if not terms.consent_binds_seconds:
        return
    # From when it was first said: clients say it again after each rotation, and no wait is lengthened by that.
    until = terms.bound_until(int(access.agreed_since(user_id, bytes(newest.hash)).timestamp()))
    if until <= now.timestamp():
        return
    when = "while this version stands"
    if until < NEVER:
        when = f"before {datetime.fromtimestamp(until, UTC):%Y-%m-%d %H:%M UTC}"
    raise ConsentBinding(
        f"By the policy that you agreed to, your yes cannot be taken back {when}. Nothing was changed. You are asked "
        "anew when officers publish another version.",
        field="statement",
    )


def flag_deposits(*, device_id: UUID, now: datetime, actor: Actor) -> int:
    """Flag the deposits of a device that was revoked; they stay releasable. Returns how many were flagged."""
    with transaction.atomic():
        rows = list(Deposit.objects.filter(device_id=device_id, flagged_at=None).values_list("id", flat=True))
        for deposit_id in rows:
            Deposit.objects.filter(id=deposit_id).update(flagged_at=now)
            audit.append(
                tag="escrow:deposit:flag",
                actor=actor,
                subject=str(device_id),
                body={"deposit": str(deposit_id)},
            )
    return len(rows)


def seal_generations(*, user_id: UUID, generations: Collection[int], now: datetime) -> None:
    """Mark the deposits of these generations as opened, with no device left to replace the key: none is added.

    In the caller's transaction, which holds the lock of `newest_policy_for_update`, as whoever deposits does.
    """
    rows = Deposit.objects.filter(user_id=user_id, generation__in=generations, exposed_at=None)
    rows.update(exposed_at=now)


def keep_receipt(*, deposit_id: UUID, statement: Sign1, actor: Actor) -> None:
    """Keep the release process's receipt of a deposit, once, and log it."""
    with transaction.atomic():
        _, is_new = Receipt.objects.get_or_create(
            tenant_id=current_tenant(),
            deposit_id=deposit_id,
            defaults={"statement": statement.encode(), "at": database_now()},
        )
        if is_new:
            body: dict[str, BodyValue] = {"statement": statement.payload_hash}
            audit.append(tag="escrow:deposit:receipt", actor=actor, subject=str(deposit_id), body=body)


def refuse_receipt(*, deposit_id: UUID, actor: Actor) -> None:
    """Log, once, that a deposit gets no receipt, and keep it so that its owner is told to make another."""
    with transaction.atomic():
        _, is_new = Receipt.objects.get_or_create(
            tenant_id=current_tenant(), deposit_id=deposit_id, defaults={"statement": b"", "at": database_now()}
        )
        if is_new:
            audit.append(tag="escrow:deposit:refuse", actor=actor, subject=str(deposit_id))


def require_escrow_key(*, tenant_id: UUID, key: statements.EscrowKey, cka_id: bytes) -> None:
    """See that the HSM shows an escrow key's private half, without asking it for anything.

    tenant_id, key, cka_id: as in `rewrap_half`. Raises HsmRefused for a key of another tenant, HsmUnavailable and the
    other HsmErrors.
    """
    registry.escrow().require(_escrow_key_ref(tenant_id, key, cka_id))


def rewrap_half(
    *, tenant_id: UUID, key: statements.EscrowKey, cka_id: bytes, sealed_half: bytes, ctx: bytes, recipient: PublicKey
) -> bytes:
    """Have the HSM re-wrap r_h from an escrow key to a case's recipient key; its plaintext never leaves the HSM.

    tenant_id: whose case it is, and the only tenant whose key the HSM may use for it. key: the verified statement of
    the escrow key; cka_id: 16 bytes that name its private half, which the HSM holds against the statement's public key.
    sealed_half: 384 bytes; ctx: 32 bytes, of its deposit, for a key whose halves bear it as label. Returns 384 bytes.
    **The only caller of the HSM's re-wrap in the product** (FAULTS P19): a test pins it, and only the release process
    was given the token. Call it outside transactions, and only after intent and audit are committed. Raises HsmRefused
    for a half that does not open or a key of another tenant, HsmUnavailable and the other HsmErrors.
    """
    ref = _escrow_key_ref(tenant_id, key, cka_id)
    return registry.escrow().rewrap(ref, sealed_half, recipient.raw, ctx=ctx)


def _escrow_key_ref(tenant_id: UUID, key: statements.EscrowKey, cka_id: bytes) -> EscrowKeyRef:
    algorithm = cast(OaepAlgorithm, key.algorithm)
    return EscrowKeyRef(str(tenant_id), cka_id, hashlib.sha256(key.key.raw).digest(), algorithm)
