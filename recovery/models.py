# SPDX-License-Identifier: Apache-2.0
"""Rows of getting out: cases, what officers signed, vetoes, notices, releases, attestations; contacts and their shares.

Implements ESCROW "Case", and PROTOCOL section 6 (contacts door). Signed bytes are kept as received; a row proves
nothing by itself (FAULTS P16).
"""

from __future__ import annotations

from typing import Any, ClassVar

from django.db import models
from django.db.models import Q

from kernel.scope import ChosenId, TenantModel
from recovery.states import CaseState, ContactRequestState, NoticeState


class Case(ChosenId, TenantModel):
    """One request to open named deposits to one recipient device. Its terms stand in `statement`, not here.

    Its id is the case id of the statement. Columns beside it repeat the statement for queries.
    """

    state = models.CharField(max_length=16, choices=CaseState.choices, default=CaseState.REQUESTED)
    q = models.BinaryField(max_length=32)
    statement = models.BinaryField()
    subject_id = models.UUIDField()
    requester_id = models.UUIDField()
    recipient_device_id = models.UUIDField()
    recipient_person_id = models.UUIDField()
    # Who stands behind the recipient's device or the requester, as it was opened: ids of persons, in their order. Empty
    # of a case older than this column: SQLite adds one that may be so without making the table, and its trigger, anew.
    behind: models.JSONField[Any, Any] = models.JSONField(null=True)
    purpose = models.CharField(max_length=64)
    policy_hash = models.BinaryField(max_length=32)
    opened_at = models.DateTimeField()
    notice_at = models.DateTimeField()
    not_before = models.DateTimeField()
    expiry = models.DateTimeField()
    # Of a disclosure, when it ends; of one that is older than this column the statement alone says it.
    disclosed_until = models.DateTimeField(null=True)
    # The identity key that the subject proposes after collection, and the chain head it would follow.
    successor_key = models.BinaryField(max_length=66, null=True)
    successor_head = models.BinaryField(max_length=32, null=True)
    quorate_at = models.DateTimeField(null=True)
    # When its recipient first collected: what was released counts as exposed from then on, whatever they say of it.
    collected_at = models.DateTimeField(null=True)
    # When what was exposed was found renewed, or was sealed.
    renewed_at = models.DateTimeField(null=True)
    # Known once the case is waiting: when the release process will act, by the server's reckoning.
    release_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)
    # A fixed word of ours, never a person's text: why the case is held or came back.
    why = models.CharField(max_length=64, default="")
    why_since = models.DateTimeField(null=True)

    class Meta(TenantModel.Meta):
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["tenant_id", "id"], name="case_id_once"),
            models.UniqueConstraint(fields=["tenant_id", "q"], name="case_q_once"),
            models.CheckConstraint(condition=Q(state__in=CaseState.values), name="case_state"),
        ]
        indexes: ClassVar = [
            models.Index(fields=["tenant_id", "state"], name="case_by_state"),
            models.Index(fields=["tenant_id", "subject_id"], name="case_by_subject"),
            models.Index(fields=["tenant_id", "requester_id", "state"], name="case_by_requester"),
            # Lead the worker, over all tenants, to the few that are not over, however many are.
            models.Index(fields=["state", "expiry"], name="case_in_state"),
            models.Index(fields=["collected_at"], condition=Q(renewed_at=None), name="case_unrenewed"),
            # The list of cases in its order, those not over and those over: no page of it sorts or passes over others.
            models.Index(
                fields=["tenant_id", "opened_at", "id"], condition=Q(ended_at__isnull=True), name="case_open_by_date"
            ),
            models.Index(
                fields=["tenant_id", "opened_at", "id"], condition=Q(ended_at__isnull=False), name="case_over_by_date"
            ),
            models.Index(fields=["tenant_id", "recipient_person_id"], name="case_by_recipient"),
        ]


class CaseDeposit(TenantModel):
    """A deposit that a case names, with the hash of its record as the case's signer saw it."""

    case_id = models.UUIDField()
    position = models.PositiveSmallIntegerField()
    deposit_id = models.UUIDField()
    record_hash = models.BinaryField(max_length=32)
    generation = models.PositiveIntegerField()

    class Meta(TenantModel.Meta):
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["tenant_id", "case_id", "deposit_id"], name="case_deposit_once")
        ]


class Approval(TenantModel):
    """One officer's signed decision on one case. An approval stands as long as all shares that it names are kept.

    Of one person only one stands: after a suspension, or once a share of theirs was void, they approve anew.
    """

    case_id = models.UUIDField()
    # Their number in the roster of the case's policy: for people to read, and nothing goes by it.
    index = models.PositiveSmallIntegerField()
    person_id = models.UUIDField()
    decision = models.CharField(max_length=10)
    statement = models.BinaryField()
    statement_hash = models.BinaryField(max_length=32)
    at = models.DateTimeField()

    class Meta(TenantModel.Meta):
        constraints: ClassVar = [
            # For ever: an approval that has ended is not given again.
            models.UniqueConstraint(fields=["tenant_id", "case_id", "statement_hash"], name="approval_statement_once"),
            models.CheckConstraint(condition=Q(decision__in=["approve", "deny"]), name="approval_decision"),
        ]


class SealedShare(TenantModel):
    """A share as the officer sent it, outer sealing on, encrypted at rest; destroyed if the case fails.

    index: its number in the deposit, by the roster of the deposit's own policy.
    """

    approval = models.ForeignKey(Approval, on_delete=models.PROTECT, related_name="shares", db_index=False)
    deposit_id = models.UUIDField()
    index = models.PositiveSmallIntegerField()
    sealed = models.BinaryField()

    class Meta(TenantModel.Meta):
        constraints: ClassVar = [models.UniqueConstraint(fields=["approval", "deposit_id"], name="share_once")]


class Veto(TenantModel):
    """The subject's refusal, from one of their devices. counts: whether the case had its quorum by then.

    delays: m officers had suspended the device, so that it ends nothing, and gives the long delay.
    """

    case_id = models.UUIDField()
    device_id = models.UUIDField()
    statement = models.BinaryField(null=True)
    reason = models.CharField(max_length=500, default="")
    at = models.DateTimeField()
    counts = models.BooleanField(default=False)
    delays = models.BooleanField(default=False)

    class Meta(TenantModel.Meta):
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["tenant_id", "case_id", "device_id"], name="veto_once")
        ]


class Notice(TenantModel):
    """One message that one person is owed about one case; its hand-over is a fact in the log, not a hope."""

    case_id = models.UUIDField()
    person_id = models.UUIDField()
    kind = models.CharField(max_length=20)
    state = models.CharField(max_length=12, choices=NoticeState.choices, default=NoticeState.PENDING)
    due_at = models.DateTimeField()
    attempts = models.PositiveSmallIntegerField(default=0)
    settled_at = models.DateTimeField(null=True)

    class Meta(TenantModel.Meta):
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["tenant_id", "case_id", "person_id", "kind"], name="notice_once"),
            models.CheckConstraint(condition=Q(state__in=NoticeState.values), name="notice_state"),
        ]


class Release(TenantModel):
    """The HSM's half of one deposit, re-wrapped to the case's recipient. At most one, for ever.

    The row stays; half is empty once it was destroyed, and its shares are gone then. at: when it was released, or a
    share of the case replaced since.
    """

    case_id = models.UUIDField()
    deposit_id = models.UUIDField()
    half = models.BinaryField()
    at = models.DateTimeField()
    destroyed_at = models.DateTimeField(null=True)

    class Meta(TenantModel.Meta):
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["tenant_id", "case_id", "deposit_id"], name="release_once")
        ]
        # What is still kept, oldest first: the sweep does not look through all that ever was.
        indexes: ClassVar = [models.Index(fields=["at"], condition=Q(destroyed_at=None), name="release_kept")]


class ReleasedShare(TenantModel):
    """A share whose outer sealing the release process took off; still sealed to the recipient alone."""

    release = models.ForeignKey(Release, on_delete=models.PROTECT, related_name="shares", db_index=False)
    index = models.PositiveSmallIntegerField()
    sealed = models.BinaryField()
    # When the recipient said that it is wrong: it is void then, and another takes its place.
    blamed_at = models.DateTimeField(null=True)

    class Meta(TenantModel.Meta):
        constraints: ClassVar = [models.UniqueConstraint(fields=["release", "index"], name="released_share_once")]


class Attestation(TenantModel):
    """An officer's signed word that a new identity is the case's subject, for the re-genesis of their chain."""

    case_id = models.UUIDField()
    index = models.PositiveSmallIntegerField()
    person_id = models.UUIDField()
    statement = models.BinaryField()
    at = models.DateTimeField()

    class Meta(TenantModel.Meta):
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["tenant_id", "case_id", "index"], name="attestation_index_once")
        ]


class Shredding(TenantModel):
    """One person's keys, shredded for good: promised by two persons' act, done by the worker. `done` is its progress.

    done: how many of each kind were destroyed so far.
    """

    person_id = models.UUIDField()
    asked_at = models.DateTimeField()
    done: models.JSONField[Any, Any] = models.JSONField(default=dict)
    finished_at = models.DateTimeField(null=True)

    class Meta(TenantModel.Meta):
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["tenant_id", "person_id"], name="shredding_once"),
        ]


class ContactSet(TenantModel):
    """The manifest of a user's trusted contacts, as their identity key signed it. `version` is its ETag."""

    user_id = models.UUIDField()
    version = models.PositiveIntegerField()
    manifest = models.BinaryField()
    manifest_hash = models.BinaryField(max_length=32)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta(TenantModel.Meta):
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["tenant_id", "user_id"], name="one_contact_set_per_user"),
        ]


class ContactRequest(TenantModel):
    """One device's request for its user's shares. Its terms are fixed when it is opened (FAULTS R5)."""

    state = models.CharField(max_length=10, choices=ContactRequestState.choices, default=ContactRequestState.OPEN)
    owner_id = models.UUIDField()
    device_id = models.UUIDField()
    request = models.BinaryField()
    request_hash = models.BinaryField(max_length=32)
    k = models.PositiveSmallIntegerField()
    opened_at = models.DateTimeField()
    not_before = models.DateTimeField()
    expires_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)

    class Meta(TenantModel.Meta):
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["tenant_id", "request_hash"], name="contact_request_once"),
            # A second request of a device takes the place of its first.
            models.UniqueConstraint(
                fields=["tenant_id", "device_id"],
                condition=Q(state=ContactRequestState.OPEN),
                name="one_open_request_per_device",
            ),
            models.CheckConstraint(condition=Q(state__in=ContactRequestState.values), name="contact_request_state"),
        ]
        indexes: ClassVar = [
            models.Index(fields=["tenant_id", "owner_id"], name="contact_request_owner"),
            models.Index(fields=["state", "expires_at"], name="contact_request_due"),
        ]


class ContactAnswer(TenantModel):
    """One contact's part in a request: empty until they give their share, sealed to the request and again at rest."""

    request = models.ForeignKey(ContactRequest, on_delete=models.PROTECT, related_name="answers", db_index=False)
    contact_id = models.UUIDField()
    # How often they have given one; a share is sealed at rest for its version.
    version = models.PositiveSmallIntegerField(default=0)
    sealed = models.BinaryField(null=True)
    answered_at = models.DateTimeField(null=True)
    collected_at = models.DateTimeField(null=True)

    class Meta(TenantModel.Meta):
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["request", "contact_id"], name="contact_answer_once"),
        ]
        indexes: ClassVar = [
            models.Index(fields=["tenant_id", "contact_id"], name="contact_answer_of"),
            # Leads to the shares that are kept, however many requests have ended.
            models.Index(fields=["request"], condition=Q(sealed__isnull=False), name="contact_answer_sealed"),
        ]
