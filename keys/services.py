# SPDX-License-Identifier: Apache-2.0
"""The verbs of the key directory: enrol, append to a chain, publish, store, claim, keep a vault.

PROTOCOL sections 2, 5, 6 and 7. The only writer of this app's rows. Each verb verifies with `holdfast.core` before it
stores the exact bytes received, and appends its audit entry in the same transaction.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from django.db import transaction
from django.db.models import F, OuterRef, Subquery
from django.utils import timezone

from audit import services as audit
from holdfast.core.base.encoding import label
from holdfast.core.identity.chain import ChainState
from holdfast.core.identity.entries import Entry, Reason, RevokeDevice
from holdfast.core.messages.bundle import VerifiedBatch, verify_batch_upload, verify_signed_pre_key
from holdfast.core.signed.cose import Sign1
from holdfast.core.signed.payloads import MAX_AHEAD_SECONDS
from holdfast.core.signed.statements import DeviceStatement
from kernel.actors import Actor
from kernel.api import ANSWER_LIFE
from kernel.clock import database_now
from kernel.errors import LimitReached
from kernel.queue import enqueue
from kernel.sweeps import delete_in_batches
from keys import access, chains, devices, notices
from keys.batches import MAX_UNISSUED, StoredBatch, store_batch
from keys.chains import ChainView, register_regenesis_rules
from keys.claims import ClaimAnswer, claim_device, claim_user
from keys.devices import (
    PreparedDevice,
    ends_with_a_loss,
    enrol_device,
    prepare_device,
    register_successor,
    revoke_again,
    stop_all,
)
from keys.entries import (
    MAX_BEHIND_SECONDS,
    MAX_CHAIN,
    appending_device,
    head_of,
    record_fork,
    require_may_append,
    require_room,
    require_waited,
    stale,
    store,
    verify,
)
from keys.errors import (
    ChainRefused,
    PreKeyOlder,
    PreKeyReused,
    PreKeyStale,
    RegenesisRefused,
)
from keys.models import (
    Claim,
    ClaimBudget,
    Device,
    OneTimePreKey,
    SignedPreKey,
)
from keys.records import (
    StoredRecord,
    bind_tenant_keys,
    create_tenant_master_key,
    has_tenant_master_key,
    open_record,
    seal_record,
    tenant_key,
    unbound_tenant_keys,
)
from keys.restored import GivenBack, LostFork, come_back, give_back, tell
from keys.states import DeviceState
from keys.vaults import (
    DOOR_KINDS,
    delete_door,
    destroy_vault,
    door_kind,
    keeps_doors_of,
    open_door,
    open_vault,
    prove_door,
    seal_door,
    seal_proven_door,
    seal_vault,
    store_door,
    store_vault,
)

__all__ = [
    "DOOR_KINDS",
    "MAX_CHAIN",
    "MAX_UNISSUED",
    "ChainView",
    "ClaimAnswer",
    "GivenBack",
    "Held",
    "LostFork",
    "PreparedDevice",
    "StoredBatch",
    "StoredRecord",
    "append_chain",
    "bind_tenant_keys",
    "claim_device",
    "claim_user",
    "come_back",
    "create_tenant_master_key",
    "delete_door",
    "destroy_vault",
    "door_kind",
    "ends_with_a_loss",
    "enrol_device",
    "give_back",
    "has_tenant_master_key",
    "keeps_doors_of",
    "open_door",
    "open_record",
    "open_vault",
    "prepare_device",
    "prove_door",
    "publish_signed_pre_key",
    "record_fork",
    "register_regenesis_rules",
    "register_successor",
    "revoke_again",
    "seal_door",
    "seal_proven_door",
    "seal_record",
    "seal_vault",
    "server_holds",
    "stop_all",
    "store_batch",
    "store_door",
    "store_vault",
    "sweep_claims",
    "sweep_voided",
    "tell",
    "tenant_key",
    "unbound_tenant_keys",
    "verify_batch",
    "void_unissued",
]


# Signed pre-keys of a device that are kept, the current one among them. Clients publish one in some days, and what is
# replaced is kept for a month.
MAX_SIGNED_PRE_KEYS: Final = 50
# How long a claim's answer is given again: as long as any stored answer (kernel.api.ANSWER_LIFE).
CLAIM_LIFE: Final = ANSWER_LIFE


def _now() -> int:
    return int(timezone.now().timestamp())


# Account chains.


def append_chain(*, user_id: UUID, entries: Sequence[bytes], expected_head: bytes | None, actor: Actor) -> ChainView:
    """Append entries to the actor's own chain, all of them or none. The caller's transaction is the act's.

    expected_head: the head the entries were made on, None before the first. Raises ChainStale with the newer head,
    ChainFork (the second entry is kept as evidence), ChainRefused for entries this device may not bring, LimitReached,
    and what the verification raises. Devices and their credentials follow the chain in the same transaction.
    """
    parsed = chains.parse_entries(entries)
    if not parsed:
        raise ChainRefused("Send at least one entry.", field="entries")
    head = access.chain_head_for_update(user_id)
    known = bytes(head.head) if head else None
    if known != expected_head:
        raise stale(**head_of(head))
    device = appending_device(actor)
    before = chains.chain_state(user_id).state if head else None
    now = database_now()
    _require_dated_now(parsed, before, now)
    require_waited(user_id, before, parsed, now=now)
    require_room(parsed)
    after = verify(user_id, before, parsed, is_of_today=True)
    require_may_append(device, after)
    pairs = list(zip(entries, parsed, strict=True))
    store(user_id, head, after, pairs, tag="keys:chain:append", now=now, actor=actor)
    if before is not None and device.state == DeviceState.PENDING:
        # Said before the entries take effect: to the devices that they may be about to revoke, as well.
        notices.owe(person_ids=[user_id], with_mail=[user_id], event="device-joined", device_id=str(device.id))
    _follow(user_id, before, after, parsed, actor)
    return ChainView.of(user_id, after)


def _require_dated_now(parsed: Sequence[Entry], before: ChainState | None, at: datetime) -> None:
    """Keep the chain's dates true: a recovery key's seven days are counted on them (PROTOCOL section 5).

    By the database's clock. An entry that lies in the future, since some clock was wrong when it was made, closes its
    chain to nobody: those after it take its date until that is past, and every wait gets longer by as much.
    """
    now = int(at.timestamp())
    earliest, latest = now - MAX_BEHIND_SECONDS, max(now + MAX_AHEAD_SECONDS, before.time if before else 0)
    if not all(earliest <= entry.header.issued_at <= latest for entry in parsed):
        raise ChainRefused(
            "An entry is dated over three hours ago or five minutes ahead. Set this device's clock, and sign anew.",
            field="entries",
            server_time=at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        )


def _follow(
    user_id: UUID, before: ChainState | None, after: ChainState, entries: Sequence[Entry], actor: Actor
) -> None:
    """Make devices and credentials what the chain says they are."""
    if after.re_genesis is not None and after.re_genesis != (before.re_genesis if before else None):
        _require_regenesis(user_id, after)
    listed = before.devices if before else {}
    for device_id, statement_hash in after.devices.items():
        if device_id not in listed:
            devices.activate(user_id, UUID(bytes=device_id), statement_hash, actor)
    # After the additions: what waits for a revoked device goes to its successor, if this upload lists it.
    reasons = {entry.body.device: entry.body.reason for entry in entries if isinstance(entry.body, RevokeDevice)}
    # An account that begins anew was lost with every device, and names none of them.
    gone = {UUID(bytes=one): reasons.get(one, Reason.RECOVERY) for one in listed if one not in after.devices}
    devices.revoke_all(user_id, gone, actor)


def _require_regenesis(user_id: UUID, after: ChainState) -> None:
    rules = chains.regenesis_rules()
    mark = after.re_genesis
    if rules is None or mark is None:
        raise RegenesisRefused("No officer of this tenant can attest a new identity.")
    device_hash = after.attested_device or next(iter(after.devices.values()), b"")
    rules.require(user_id=user_id, case_id=UUID(bytes=mark.case_id), device_hash=device_hash)


# Pre-keys.


def publish_signed_pre_key(*, device: Device, statement: bytes, expected: bytes, actor: Actor) -> SignedPreKey:
    """Publish the actor's device's signed pre-key; the one before is kept for answers already given.

    expected: the 32-byte hash of the current one as the device read it, none before the first. The same statement again
    changes nothing. Raises PreKeyStale when another is current: a profile restored from a backup, or running twice,
    replaces nothing that it has not seen. Raises PreKeyReused for an id used for another key, PreKeyOlder for one
    issued before the current, LimitReached, and what verify_signed_pre_key raises.
    """
    signed = Sign1.parse(statement)
    verified = verify_signed_pre_key(signed, device=_statement(device), now=_now())
    with transaction.atomic():
        same = access.signed_pre_key(device.id, verified.key_id)
        if same is not None:
            if bytes(same.statement_hash) != signed.payload_hash:
                raise PreKeyReused("Give each signed pre-key an id of its own.", field="signed_pre_key")
            return same
        current = access.current_signed_pre_key(device.id)
        if (bytes(current.statement_hash) if current else b"") != expected:
            raise PreKeyStale
        # One of the future, made under a clock that was ahead, is taken by nobody: it bars no honest one.
        if current is not None and verified.header.issued_at < current.issued_at <= _now() + MAX_AHEAD_SECONDS:
            raise PreKeyOlder("Publish one that was issued later.", field="signed_pre_key")
        held = SignedPreKey.objects.filter(device_id=device.id)
        if held.count() >= MAX_SIGNED_PRE_KEYS:
            raise LimitReached(
                "This device published as many signed pre-keys as are kept for a month. The current one goes on.",
                field="signed_pre_key",
                limit="signed-pre-keys",
                most=MAX_SIGNED_PRE_KEYS,
            )
        held.filter(is_current=True).update(is_current=False, retired_at=timezone.now())
        row: SignedPreKey = SignedPreKey.objects.create(
            device_id=device.id,
            key_id=verified.key_id,
            statement=statement,
            statement_hash=signed.payload_hash,
            issued_at=verified.header.issued_at,
            expires_at=verified.header.expires_at,
        )
        audit.append(
            tag="keys:signed-pre-key:publish",
            actor=actor,
            subject=str(device.id),
            body={"key_id": verified.key_id, "statement": signed.payload_hash},
        )
    return row


def verify_batch(*, device: Device, statement: bytes, leaves: bytes) -> tuple[Sign1, VerifiedBatch]:
    """Check an uploaded batch against its device. Pure work, done before any transaction is open."""
    signed = Sign1.parse(statement)
    return signed, verify_batch_upload(signed, leaves, device=_statement(device), now=_now())


@dataclass(frozen=True)
class Held:
    """What the server can still hand out for a device, and a digest of it: (batch id, key ids) in order.

    epoch: how often everything was voided, so that a device tells voided keys from claimed ones.
    """

    digest: bytes
    signed_pre_key_hash: bytes
    epoch: int
    batches: list[tuple[bytes, list[int]]]

    @property
    def count(self) -> int:
        """The number of one-time pre-keys."""
        return sum(len(key_ids) for _, key_ids in self.batches)


def server_holds(device: Device) -> Held:
    """Return what can still be handed out, for the device to compare.

    The ids are named beside the digest: which keys were claimed, and in which order, a device cannot know.
    """
    remaining = access.remaining_by_batch(device)
    current = access.current_signed_pre_key(device.id)
    spk_hash = bytes(current.statement_hash) if current else b""
    rows = [[batch_id, key_ids] for batch_id, key_ids in remaining]
    digest = hashlib.sha256(label("server-holds", device.id.bytes, spk_hash, rows)).digest()
    return Held(digest, spk_hash, device.pre_key_epoch, remaining)


def void_unissued(*, actor: Actor) -> int:
    """Void every one-time pre-key of the open tenant, since a lost database may have handed them out.

    To be called after a restore or a failover that may have lost commits. Devices find out by `check` or their count
    and upload fresh ones. Returns the number of devices (FAULTS D10, D11).
    """
    with transaction.atomic():
        # One statement: no key of the old epoch leaves after this commit, however many rows wait to be swept.
        devices = Device.objects.exclude(state=DeviceState.REVOKED).update(pre_key_epoch=F("pre_key_epoch") + 1)
        audit.append(tag="keys:pre-key:void", actor=actor, body={"devices": devices})
        enqueue("keys.sweep-voided", unique="keys.sweep-voided")
    return devices


def sweep_voided() -> int:
    """Delete the open tenant's voided one-time pre-keys, which nothing hands out any more; return how many."""
    current = Device.objects.filter(id=OuterRef("device_id")).values("pre_key_epoch")
    return delete_in_batches(OneTimePreKey.objects.filter(epoch__lt=Subquery(current)))


def sweep_claims() -> int:
    """Delete, of every tenant, claims that nobody asks for again and the signed pre-keys that only these named.

    Returns the number of claims. No one-time pre-key can leave a second time: its row went with the claim, and its
    batch, which stays, takes its id from no other upload.
    """
    now = database_now()
    gone = delete_in_batches(Claim.unscoped.filter(claimed_at__lt=now - CLAIM_LIFE))
    # An hour more: a claim that was under way when a pre-key was replaced names it still.
    retired = now - CLAIM_LIFE - timedelta(hours=1)
    delete_in_batches(SignedPreKey.unscoped.filter(is_current=False, retired_at__lt=retired))
    return gone


def _statement(device: Device) -> DeviceStatement:
    return DeviceStatement.from_payload(Sign1.parse(bytes(device.statement)).payload)


def sweep_budgets() -> int:
    """Delete the counts of hours that are over, of every tenant, and return how many."""
    hour = int(database_now().timestamp()) // 3600
    return delete_in_batches(ClaimBudget.unscoped.filter(hour__lt=hour - 1))
