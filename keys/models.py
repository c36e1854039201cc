# SPDX-License-Identifier: Apache-2.0
"""Rows of the key directory: devices, account chains, pre-keys, claims, mailboxes, vaults, tenant master keys.

PROTOCOL sections 2, 5, 6 and 7. Signed structures are kept as the exact bytes received; a private key of a
user stands in no column, and what stands in `sealed` is a client's ciphertext under a record key.
"""

from __future__ import annotations

import uuid
from typing import Any, ClassVar

from django.db import models
from django.db.models import F, Q

from kernel.scope import ChosenId, ScopedManager, TenantModel
from keys.states import DeviceState, KeyState


class Device(ChosenId, TenantModel):
    """A device of a user: `id` is the credential that signs its requests, `user_id` the person."""

    user_id = models.UUIDField()
    name = models.CharField(max_length=64)
    suite = models.PositiveSmallIntegerField()
    state = models.CharField(max_length=10, choices=DeviceState.choices, default=DeviceState.PENDING)
    statement = models.BinaryField()
    statement_hash = models.BinaryField(max_length=32)
    # Grows when what may have been handed out is voided: keys of an older epoch are never handed out.
    pre_key_epoch = models.PositiveIntegerField(default=0)
    # The active device that registered this one in its own place, if one did: it inherits what waits for that one.
    successor_of = models.UUIDField(null=True)
    # Who stands behind the enrolment of it, or of the device that it follows: ids of persons, in their order. Empty of
    # a device older than this column.
    behind: models.JSONField[Any, Any] = models.JSONField(null=True)
    created_at = models.DateTimeField()
    # By the database's clock, as the cases are that these are compared with.
    activated_at = models.DateTimeField(null=True)
    revoked_at = models.DateTimeField(null=True)

    class Meta(TenantModel.Meta):
        abstract = False
        indexes: ClassVar = [
            models.Index(fields=["tenant_id", "user_id", "state"], name="device_of_user"),
            # Leads the sweep to the few that wait, however many do not.
            models.Index(fields=["created_at"], condition=Q(state=DeviceState.PENDING), name="device_waiting"),
            # As to these, of whose deposits the worker asks: the state is in it so that no row has to be read for it.
            models.Index(
                fields=["tenant_id", "id", "state"], condition=Q(state=DeviceState.REVOKED), name="device_revoked"
            ),
        ]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["tenant_id", "id"], name="device_id_once"),
            models.UniqueConstraint(fields=["tenant_id", "statement_hash"], name="device_statement_once"),
        ]


class ChainHead(TenantModel):
    """The newest entry of a user's account chain: the row that appends lock and compare.

    state, state_mac: what the chain says at this head, as `kept_chains` wrote it, so that nobody verifies it from its
    genesis again; none, or one that does not fit, until somebody does.
    """

    user_id = models.UUIDField()
    seq = models.PositiveIntegerField()
    head = models.BinaryField(max_length=32)
    state = models.BinaryField(null=True)
    state_mac = models.BinaryField(max_length=32, null=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta(TenantModel.Meta):
        abstract = False
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["tenant_id", "user_id"], name="one_chain_per_user"),
        ]


class ChainEntry(TenantModel):
    """One accepted entry, as received: a Sign1, or an array of them when several keys sign."""

    user_id = models.UUIDField()
    seq = models.PositiveIntegerField()
    kind = models.PositiveSmallIntegerField()
    entry = models.BinaryField()
    entry_hash = models.BinaryField(max_length=32)
    appended_by = models.UUIDField()
    # By the database's clock, as the cases are that it is compared with.
    appended_at = models.DateTimeField()

    class Meta(TenantModel.Meta):
        abstract = False
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["tenant_id", "user_id", "seq"], name="chain_one_successor"),
        ]


class ChainFork(TenantModel):
    """A second, validly signed entry for a place that is taken: kept as evidence, never served as chain."""

    user_id = models.UUIDField()
    seq = models.PositiveIntegerField()
    entry = models.BinaryField()
    entry_hash = models.BinaryField(max_length=32)
    received_from = models.UUIDField()
    received_at = models.DateTimeField(auto_now_add=True)

    class Meta(TenantModel.Meta):
        abstract = False
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["tenant_id", "user_id", "entry_hash"], name="chain_fork_once"),
        ]


class SignedPreKey(TenantModel):
    """A signed pre-key of a device. Old ones stay for as long as a claim may be kept whose answer names them."""

    device_id = models.UUIDField()
    key_id = models.PositiveBigIntegerField()
    statement = models.BinaryField()
    statement_hash = models.BinaryField(max_length=32)
    issued_at = models.PositiveBigIntegerField()
    expires_at = models.PositiveBigIntegerField()
    is_current = models.BooleanField(default=True)
    retired_at = models.DateTimeField(null=True, db_index=True)

    class Meta(TenantModel.Meta):
        abstract = False
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["tenant_id", "device_id", "key_id"], name="signed_pre_key_id_once"),
            models.UniqueConstraint(
                fields=["tenant_id", "device_id"], condition=Q(is_current=True), name="one_current_signed_pre_key"
            ),
        ]


class PreKeyBatch(TenantModel):
    """A batch statement and the range of key ids it covers: the tombstone that outlives its keys.

    number: which of its device's batches it is, from 1, so that of two at once one finds its number taken.
    """

    device_id = models.UUIDField()
    number = models.PositiveIntegerField()
    batch_id = models.BinaryField(max_length=16)
    statement = models.BinaryField()
    statement_hash = models.BinaryField(max_length=32)
    first_key_id = models.PositiveBigIntegerField()
    last_key_id = models.PositiveBigIntegerField()
    size = models.PositiveSmallIntegerField()
    epoch = models.PositiveIntegerField()
    stored_at = models.DateTimeField()

    class Meta(TenantModel.Meta):
        abstract = False
        indexes: ClassVar = [
            # Leads past the batches of before to those whose ids a new one can meet.
            models.Index(fields=["tenant_id", "device_id", "last_key_id"], name="pre_key_batch_ids"),
        ]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["tenant_id", "device_id", "batch_id"], name="pre_key_batch_once"),
            models.UniqueConstraint(fields=["tenant_id", "device_id", "number"], name="pre_key_batch_number"),
            models.CheckConstraint(condition=Q(first_key_id__lte=F("last_key_id")), name="pre_key_range_ordered"),
        ]


class OneTimePreKey(models.Model):
    """A one-time pre-key that nobody has: the row is deleted in the transaction that hands it out.

    The leaf's proof is computed at upload, so that a claim does no cryptography.
    """

    id = models.BigAutoField(primary_key=True)
    tenant_id = models.UUIDField(editable=False)
    device_id = models.UUIDField()
    epoch = models.PositiveIntegerField()
    # No constraint of the database: an upload would check the row that it has just written, once for each key.
    batch = models.ForeignKey(
        PreKeyBatch, on_delete=models.PROTECT, db_index=False, db_constraint=False, related_name="+"
    )
    key_id = models.PositiveBigIntegerField()
    index = models.PositiveSmallIntegerField()
    leaf = models.BinaryField()
    proof = models.BinaryField()

    unscoped: ClassVar[models.Manager[OneTimePreKey]] = models.Manager()
    objects: ClassVar[ScopedManager] = ScopedManager()

    class Meta:
        default_manager_name = "unscoped"
        base_manager_name = "unscoped"
        indexes: ClassVar = [
            models.Index(fields=["tenant_id", "device_id", "epoch", "id"], name="one_time_pre_key_next"),
        ]

    def __str__(self) -> str:
        return f"OneTimePreKey {self.pk}"


class Claim(TenantModel):
    """What one claim handed out, enough to give the same answer again for 30 days (FAULTS D3).

    A claim for a user is one row per device, numbered by `ordinal`. Without a one-time key, `batch` is null.
    """

    requester_id = models.UUIDField()
    key = models.CharField(max_length=64)
    ordinal = models.PositiveSmallIntegerField()
    target_id = models.UUIDField()
    device_id = models.UUIDField()
    chain_head = models.BinaryField(max_length=32)
    signed_pre_key_id = models.UUIDField()
    batch_id = models.UUIDField(null=True)
    key_id = models.PositiveBigIntegerField(null=True)
    index = models.PositiveSmallIntegerField(null=True)
    leaf = models.BinaryField(null=True)
    proof = models.BinaryField(null=True)
    claimed_at = models.DateTimeField(db_index=True)

    class Meta(TenantModel.Meta):
        abstract = False
        # An hour's limits are counted from these.
        indexes: ClassVar = [
            models.Index(fields=["tenant_id", "device_id", "claimed_at"], name="claim_rate"),
            models.Index(fields=["tenant_id", "requester_id", "claimed_at"], name="claim_rate_of_requester"),
        ]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["tenant_id", "requester_id", "key", "ordinal"], name="claim_once_per_key"),
            # The database's own word that no key leaves twice, whatever the code above it does.
            models.UniqueConstraint(fields=["batch_id", "key_id"], name="one_time_pre_key_once"),
        ]


class ClaimBudget(TenantModel):
    """How many messages one person sent in one hour (FAULTS X9). An hour's claims are counted from their own rows."""

    subject_id = models.UUIDField()
    side = models.CharField(max_length=9)  # "sender"
    hour = models.PositiveIntegerField()  # hours since 1970
    taken = models.PositiveIntegerField()

    class Meta(TenantModel.Meta):
        abstract = False
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["tenant_id", "side", "subject_id", "hour"], name="claim_budget_row"),
        ]


class MessageKind(models.TextChoices):
    MESSAGE = "message"  # of a session, to every device of a user
    SYNC = "sync"  # a letter: the vault key for a device of the same user
    SHARE = "share"  # a letter: a contact's share of somebody's vault key
    PAIRING = "pairing"  # a letter: two devices of one user meet
    NOTICE = "notice"  # JSON text by the server itself


class MessageSort(models.IntegerChoices):
    """What a message counts as in its mailbox: each sort has room of its own. A notice takes none."""

    NOTICE = 0
    MESSAGE = 1
    LETTER = 2
    OWN = 3  # of whatever kind, from a device of the mailbox's owner


class MessageContent(TenantModel):
    """A large ciphertext, stored once for all messages that name it, and deleted with the last of them."""

    ciphertext = models.BinaryField()
    created_at = models.DateTimeField(db_index=True)

    class Meta(TenantModel.Meta):
        abstract = False


class Message(models.Model):
    """A sealed message that waits in one device's mailbox, as its sender encrypted it; fetched, it is deleted.

    It is not sealed again at rest: it is ciphertext, and no HSM stands in the way of a delivery. `device_id` moves to a
    successor, `addressed_to` never. A notice has no sender.
    """

    seq = models.BigAutoField(primary_key=True)
    id = models.UUIDField(unique=True, default=uuid.uuid4, editable=False)
    tenant_id = models.UUIDField(editable=False)
    device_id = models.UUIDField()
    addressed_to = models.UUIDField()
    kind = models.CharField(max_length=8, choices=MessageKind.choices)
    sort = models.PositiveSmallIntegerField(choices=MessageSort.choices)
    sender_user = models.UUIDField(null=True)
    sender_device = models.UUIDField(null=True)
    # Of a notice: what its body says first, so that one event's notices are bounded.
    event = models.CharField(max_length=40, default="")
    body = models.BinaryField()
    # Not a foreign key: a delivery would check the row that it has just written, once for each device.
    content_id = models.UUIDField(null=True, db_index=True)
    size = models.PositiveIntegerField()
    received_at = models.DateTimeField(db_index=True)

    unscoped: ClassVar[models.Manager[Any]] = models.Manager()
    objects: ClassVar[ScopedManager] = ScopedManager()

    class Meta:
        default_manager_name = "unscoped"
        base_manager_name = "unscoped"
        indexes: ClassVar = [models.Index(fields=["tenant_id", "device_id", "seq"], name="message_next")]
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(kind__in=MessageKind.values), name="message_kind"),
        ]

    def __str__(self) -> str:
        return f"Message {self.id}"


class MailboxSize(models.Model):
    """How much of one sort waits in one mailbox: of all senders together (`sender` is zero), and of each of them.

    It changes in the transaction in which messages come or go, and always says what a count of them would say. A row of
    nothing is deleted. sender: the sending person, or of the owner's own devices the device.
    """

    id = models.BigAutoField(primary_key=True)
    tenant_id = models.UUIDField(editable=False)
    device_id = models.UUIDField()
    sort = models.PositiveSmallIntegerField(choices=MessageSort.choices)
    sender = models.UUIDField()
    # Signed: what goes is added as well, with a minus.
    messages = models.IntegerField()
    octets = models.BigIntegerField()

    unscoped: ClassVar[models.Manager[Any]] = models.Manager()
    objects: ClassVar[ScopedManager] = ScopedManager()

    class Meta:
        default_manager_name = "unscoped"
        base_manager_name = "unscoped"
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["tenant_id", "device_id", "sort", "sender"], name="mailbox_size_once"),
        ]

    def __str__(self) -> str:
        return f"MailboxSize {self.pk}"


class Vault(TenantModel):
    """A section of a user's vault: dCBOR[statement, blob] of the client, sealed at rest. `version` is its ETag.

    epoch: of the section's key, as the blob says; none for a vault that was stored before this was kept.
    """

    user_id = models.UUIDField()
    section = models.CharField(max_length=8, default="vault")
    epoch = models.PositiveBigIntegerField(null=True)
    version = models.PositiveIntegerField()
    sealed = models.BinaryField()
    blob_hash = models.BinaryField(max_length=32)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta(TenantModel.Meta):
        abstract = False
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["tenant_id", "user_id", "section"], name="one_vault_of_a_section")
        ]


class VaultDoor(TenantModel):
    """One way into a section of a vault: the client's blob, sealed at rest. `version` is its ETag.

    Of a door of the officers' section, epoch is that of the key behind it, as the door says, and proof the statement by
    which its owner last said that they had opened it.
    """

    user_id = models.UUIDField()
    kind = models.CharField(max_length=20)
    epoch = models.PositiveBigIntegerField(null=True)
    proof = models.BinaryField(null=True)
    proved_at = models.DateTimeField(null=True)
    version = models.PositiveIntegerField()
    sealed = models.BinaryField()
    blob_hash = models.BinaryField(max_length=32)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta(TenantModel.Meta):
        abstract = False
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["tenant_id", "user_id", "kind"], name="one_door_of_a_kind"),
        ]


class TenantMasterKey(TenantModel):
    """A tenant master key as the HSM gave it out: wrapped, with the check value that names it.

    wrapped: 40 bytes AES-KW under master key `master_version`. key_check_value: 3 bytes. mac: 32 bytes by which the HSM
    knows that all this belongs to this tenant and version; none until the ceremony that binds older keys.
    """

    version = models.PositiveIntegerField()
    wrapped = models.BinaryField(max_length=40)
    key_check_value = models.BinaryField(max_length=3)
    master_version = models.PositiveIntegerField()
    mac = models.BinaryField(max_length=32, null=True)
    state = models.CharField(max_length=12, choices=KeyState.choices, default=KeyState.ACTIVE)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta(TenantModel.Meta):
        abstract = False
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["tenant_id", "version"], name="tenant_key_version_once"),
            models.UniqueConstraint(
                fields=["tenant_id"], condition=Q(state=KeyState.ACTIVE), name="one_active_tenant_key"
            ),
        ]
