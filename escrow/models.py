# SPDX-License-Identifier: Apache-2.0
"""Rows of custody: policies, officers, escrow keys, deposits. Signed bytes are kept as they were received.

Implements ESCROW "Policy and officers", "Keys" and "Deposit". A row proves nothing: the release process
believes a statement by its signatures and its hash in the log (FAULTS P16).
"""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import F, Q

from escrow.states import OfficerState
from kernel.scope import ChosenId, TenantModel


class Policy(TenantModel):
    """One version of the tenant's escrow policy; the highest version that stands and whose time has come is in force.

    published_at, in_force_from and withdrawn_at are the database's time: they decide what other processes do.
    """

    version = models.PositiveIntegerField()
    hash = models.BinaryField(max_length=32)
    statement = models.BinaryField()
    m = models.PositiveSmallIntegerField()
    n = models.PositiveSmallIntegerField()
    published_at = models.DateTimeField()
    # Later than published when it lowers a guard: a lowering cools off first (FAULTS P6).
    in_force_from = models.DateTimeField()
    # Set once, before it was in force: it counts nowhere, and its number stays taken.
    withdrawn_at = models.DateTimeField(null=True)

    class Meta(TenantModel.Meta):
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["tenant_id", "version"], name="policy_version_once"),
            models.UniqueConstraint(fields=["tenant_id", "hash"], name="policy_hash_once"),
            # FAULTS P15, the last fence behind the signed statement's own check.
            models.CheckConstraint(
                condition=Q(m__gte=2) & Q(n__gte=3) & Q(n__lte=16) & Q(m__lte=F("n") - 1),
                name="policy_quorum",
            ),
        ]


class PolicyOfficer(TenantModel):
    """One place in one policy's roster. A person's state is the same in every policy that names them."""

    policy = models.ForeignKey(Policy, on_delete=models.PROTECT, related_name="officers", db_index=False)
    index = models.PositiveSmallIntegerField()
    person_id = models.UUIDField()
    signing_key = models.BinaryField(max_length=66)
    sealing_key = models.BinaryField(max_length=1217)
    state = models.CharField(max_length=10, choices=OfficerState.choices, default=OfficerState.ACTIVE)
    # End of the cooling-off, for this person with these keys; none for a founder, whom the pin names (FAULTS P8).
    counts_from = models.DateTimeField(null=True)
    # When the person revoked a device as lost that may have led to these keys: they never count again. Another version
    # with other keys has the person back, and nothing else does.
    keys_lost_at = models.DateTimeField(null=True)

    class Meta(TenantModel.Meta):
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["policy", "index"], name="officer_index_once"),
            # Approvals are counted by person, never by key or account (FAULTS P1).
            models.UniqueConstraint(fields=["policy", "person_id"], name="officer_person_once"),
            models.CheckConstraint(condition=Q(index__gte=1) & Q(index__lte=16), name="officer_index"),
            models.CheckConstraint(condition=Q(state__in=OfficerState.values), name="officer_state"),
        ]
        indexes: ClassVar = [models.Index(fields=["tenant_id", "person_id"], name="officer_by_person")]


class OfficerStatement(TenantModel):
    """What an officer signed about their own standing, or about another's; append-only."""

    hash = models.BinaryField(max_length=32)
    # Whom it is about, and who signed.
    person_id = models.UUIDField()
    signer_id = models.UUIDField()
    standing = models.PositiveSmallIntegerField()
    reason = models.TextField()
    statement = models.BinaryField()
    # By its own date, and when it was taken.
    issued_at = models.DateTimeField()
    at = models.DateTimeField()

    class Meta(TenantModel.Meta):
        constraints: ClassVar = [
            # For ever: a statement is used once.
            models.UniqueConstraint(fields=["tenant_id", "hash"], name="officer_statement_once"),
        ]
        indexes: ClassVar = [models.Index(fields=["tenant_id", "person_id", "at"], name="officer_statement_by_person")]


class OfficerKeyStatement(TenantModel):
    """What a person's account says of their keys as an officer; append-only, and the newest counts."""

    person_id = models.UUIDField()
    hash = models.BinaryField(max_length=32)
    statement = models.BinaryField()
    at = models.DateTimeField()

    class Meta(TenantModel.Meta):
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["tenant_id", "hash"], name="officer_key_statement_once"),
        ]
        indexes: ClassVar = [models.Index(fields=["tenant_id", "person_id", "at"], name="officer_keys_by_person")]


class Resolution(TenantModel):
    """One resolution with the signatures it has so far; its statement only grows, and not any more once it passed."""

    hash = models.BinaryField(max_length=32)
    act = models.PositiveSmallIntegerField()
    policy_hash = models.BinaryField(max_length=32)
    # An array of its signers' statements, as a policy's.
    statement = models.BinaryField()
    proposer_id = models.UUIDField()
    proposed_at = models.DateTimeField()
    # 30 days after its own date.
    ends_at = models.DateTimeField()
    passed_at = models.DateTimeField(null=True)
    # The device that it suspends, repeated from the statement: asked at every veto.
    device_id = models.UUIDField(null=True)

    class Meta(TenantModel.Meta):
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["tenant_id", "hash"], name="resolution_once"),
        ]
        indexes: ClassVar = [
            models.Index(fields=["tenant_id", "proposed_at"], name="resolution_by_date"),
            models.Index(fields=["tenant_id", "device_id"], condition=~Q(device_id=None), name="resolution_by_device"),
        ]


class PolicyProposal(TenantModel):
    """A policy version that officers are asked to sign; its signatures only grow, and not any more once it is over."""

    hash = models.BinaryField(max_length=32)
    payload = models.BinaryField()
    # What it says of its place: number, the version that it follows, and the one that it holds to be in force.
    version = models.PositiveIntegerField()
    predecessor = models.BinaryField(max_length=32)
    held_in_force = models.BinaryField(max_length=32)
    # An array of its signers' statements, as a policy's; empty before the first.
    statement = models.BinaryField(default=b"")
    proposer_id = models.UUIDField()
    proposed_at = models.DateTimeField()
    # 30 days after its own date: what is signed later is refused.
    ends_at = models.DateTimeField()
    # Deposits for which it changes who could release them, counted then and not at every look; null in older rows.
    touches = models.PositiveIntegerField(null=True)
    published_at = models.DateTimeField(null=True)
    # By the proposer, who has another in mind.
    withdrawn_at = models.DateTimeField(null=True)

    class Meta(TenantModel.Meta):
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["tenant_id", "hash"], name="policy_proposal_once"),
        ]
        indexes: ClassVar = [
            models.Index(fields=["tenant_id", "proposed_at"], name="policy_proposal_by_date"),
        ]


class EscrowKeyProposal(TenantModel):
    """An escrow key that the tenant root has signed and officers are asked to; made by the ceremony alone."""

    hash = models.BinaryField(max_length=32)
    version = models.PositiveIntegerField()
    policy_hash = models.BinaryField(max_length=32)
    # An array of its signers' statements: the root's first.
    statement = models.BinaryField()
    cka_id = models.BinaryField(max_length=16)
    proposed_at = models.DateTimeField()
    ends_at = models.DateTimeField()
    published_at = models.DateTimeField(null=True)

    class Meta(TenantModel.Meta):
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["tenant_id", "hash"], name="escrow_key_proposal_once"),
        ]
        indexes: ClassVar = [
            models.Index(fields=["tenant_id", "proposed_at"], name="key_proposal_by_date"),
        ]


class EscrowKey(TenantModel):
    """One version of the tenant's escrow key; the highest version takes new deposits, all stay openable."""

    version = models.PositiveIntegerField()
    hash = models.BinaryField(max_length=32)
    statement = models.BinaryField()
    algorithm = models.CharField(max_length=16)
    spki = models.BinaryField()
    # Names the private half in the HSM; random, so that two keys are never confused (FAULTS H9).
    cka_id = models.BinaryField(max_length=16)
    published_at = models.DateTimeField()

    class Meta(TenantModel.Meta):
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["tenant_id", "version"], name="escrow_key_version_once"),
            models.UniqueConstraint(fields=["tenant_id", "hash"], name="escrow_key_hash_once"),
        ]


class Deposit(ChosenId, TenantModel):
    """One archive key in custody; append-only. `sealed` holds statement and record, encrypted at rest.

    Its id is the deposit id of the record's header.
    """

    user_id = models.UUIDField()
    device_id = models.UUIDField()
    generation = models.PositiveIntegerField()
    record_hash = models.BinaryField(max_length=32)
    half_hash = models.BinaryField(max_length=32)
    ak_commitment = models.BinaryField(max_length=32)
    policy_hash = models.BinaryField(max_length=32)
    escrow_key_hash = models.BinaryField(max_length=32)
    sealed = models.BinaryField()
    created_at = models.DateTimeField()
    # Set when the device that made it is revoked: it stays releasable, and whoever opens it is told.
    flagged_at = models.DateTimeField(null=True)
    # Set on every deposit of a generation that a case opened when no device is left to replace the key.
    exposed_at = models.DateTimeField(null=True)
    # Set when its owner, who has left, had their keys shredded: `sealed` is empty then, and nobody opens it any more.
    shredded_at = models.DateTimeField(null=True)

    class Meta(TenantModel.Meta):
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["tenant_id", "id"], name="deposit_id_once"),
            # For ever: one user cannot carry another's half into a deposit of their own.
            models.UniqueConstraint(fields=["tenant_id", "half_hash"], name="deposit_half_once"),
            models.UniqueConstraint(fields=["tenant_id", "record_hash"], name="deposit_record_once"),
        ]
        indexes: ClassVar = [
            models.Index(fields=["tenant_id", "user_id", "generation"], name="deposit_by_user"),
            # Leads to the deposits of the few policies that too few officers could open, however many others there are.
            models.Index(fields=["tenant_id", "policy_hash"], name="deposit_by_policy"),
            # Leads from the revoked devices to what is to be flagged of theirs.
            models.Index(fields=["tenant_id", "device_id"], condition=Q(flagged_at=None), name="deposit_unflagged"),
        ]


class Receipt(TenantModel):
    """The release process's signed word that a deposit's half is that deposit's own; with none signed, its refusal."""

    deposit_id = models.UUIDField()
    statement = models.BinaryField()
    at = models.DateTimeField()

    class Meta(TenantModel.Meta):
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["tenant_id", "deposit_id"], name="receipt_once"),
        ]


class Consent(TenantModel):
    """A user's signed answer to one policy in one wording: a yes, or a no."""

    user_id = models.UUIDField()
    hash = models.BinaryField(max_length=32)
    policy_hash = models.BinaryField(max_length=32)
    text_hash = models.BinaryField(max_length=32)
    agreed = models.BooleanField()
    statement = models.BinaryField()
    given_at = models.DateTimeField()

    class Meta(TenantModel.Meta):
        constraints: ClassVar = [models.UniqueConstraint(fields=["tenant_id", "user_id", "hash"], name="consent_once")]
