# SPDX-License-Identifier: Apache-2.0
"""Tenants, their people and service accounts, and what each of these proves itself with.

Implements ORGANISATION "People". No row holds a private key; passwords are Argon2id hashes, codes are hashes.
"""

from __future__ import annotations

import uuid
from typing import Any, ClassVar

from django.contrib.auth.base_user import AbstractBaseUser
from django.db import models
from django.utils.crypto import salted_hmac

from kernel.scope import ChosenId, TenantModel
from tenants.roles import Role
from tenants.states import CredentialState, ExportState, MailState, PendingState, PersonState, TenantState


class Tenant(models.Model):
    """One organisation. Its root key and pin are those of its ceremony and never change by a request."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    slug = models.CharField(max_length=40, unique=True)
    # What the slug looks like at a glance, so that "acme" and "acrne" never stand side by side.
    slug_skeleton = models.CharField(max_length=40, unique=True)
    name = models.CharField(max_length=100)
    state = models.CharField(max_length=10, choices=TenantState.choices, default=TenantState.ACTIVE)
    is_development = models.BooleanField(default=False)
    root_key = models.BinaryField(max_length=66, null=True)
    root_pin = models.BinaryField(max_length=32, null=True)
    created_at = models.DateTimeField(auto_now_add=True)
    # Since when it is locked; when an unlocking that two owners asked for takes effect; when the last one did. All
    # by the database's clock. The release process believes none of it: it has the log.
    locked_at = models.DateTimeField(null=True)
    unlock_at = models.DateTimeField(null=True)
    unlocked_at = models.DateTimeField(null=True)
    # When its 30 days are over, while it ends; and when a ceremony ended it.
    ends_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return f"Tenant {self.pk}"


class TenantOwned(TenantModel):
    """A row of this app: it names its tenant by a foreign key, which other apps' rows do not."""

    tenant_id: Any = None
    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, related_name="+", editable=False)

    class Meta(TenantModel.Meta):
        abstract = True


class Person(TenantOwned, AbstractBaseUser):
    """A human being in one tenant. Whoever is in two tenants is two people, as far as anything here can tell."""

    email = models.CharField(max_length=254)
    # The form in which addresses are compared (names.email_key).
    email_key = models.CharField(max_length=254)
    name = models.CharField(max_length=100)
    role = models.CharField(max_length=10, choices=Role.choices, default=Role.MEMBER)
    state = models.CharField(max_length=10, choices=PersonState.choices, default=PersonState.INVITED)
    created_at = models.DateTimeField(auto_now_add=True)
    # Since when they count without a break; empty for whoever never did. By the database's clock.
    active_since = models.DateTimeField(null=True)

    # Unique over all tenants, unlike an address.
    USERNAME_FIELD = "id"
    REQUIRED_FIELDS: ClassVar[list[str]] = []

    class Meta(TenantOwned.Meta):
        abstract = False
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["tenant", "email_key"], name="person_once_per_address"),
        ]

    def __str__(self) -> str:
        return f"Person {self.pk}"

    def _get_session_auth_hash(self, secret: str | None = None) -> str:
        # A session ends at the next request after a new password, role or state (FAULTS A5, A6).
        bound = "|".join((self.password, self.role, self.state))
        return salted_hmac("tenants.Person.session", bound, secret=secret, algorithm="sha256").hexdigest()


class ServiceAccount(TenantOwned):
    """A program of the tenant's. It signs requests like a device, and can never act as an officer."""

    name = models.CharField(max_length=100)
    created_by = models.UUIDField(null=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta(TenantOwned.Meta):
        abstract = False
        constraints: ClassVar = [models.UniqueConstraint(fields=["tenant", "name"], name="service_once_per_name")]


class Credential(ChosenId, TenantOwned):
    """The public key under which requests of one device or service account are verified.

    Its id is the device's or the service account's own. `person` is empty for service accounts.
    """

    class Kind(models.TextChoices):
        DEVICE = "device"
        SERVICE = "service"

    kind = models.CharField(max_length=10, choices=Kind.choices)
    person = models.ForeignKey(Person, on_delete=models.PROTECT, null=True, related_name="credentials")
    public_key = models.BinaryField(max_length=66)
    state = models.CharField(max_length=10, choices=CredentialState.choices, default=CredentialState.PENDING)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta(TenantOwned.Meta):
        abstract = False
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=models.Q(kind="device", person__isnull=False) | models.Q(kind="service", person__isnull=True),
                name="credential_of_person_or_service",
            ),
            models.UniqueConstraint(fields=["tenant", "id"], name="credential_id_once"),
            # One signature never fits two tenants: the same id with the same key is of one. The look-up by id uses it.
            models.UniqueConstraint(fields=["id", "public_key"], name="credential_key_once"),
        ]


class Nonce(models.Model):
    """A request signature that was used. Kept until the signature is too old to be taken anyway."""

    pk = models.CompositePrimaryKey("tenant_id", "credential_id", "nonce")
    credential_id = models.UUIDField()
    nonce = models.BinaryField(max_length=16)
    tenant_id = models.UUIDField()
    expires_at = models.DateTimeField(db_index=True)

    def __str__(self) -> str:
        return f"Nonce of {self.credential_id}"


class EnrolmentCode(TenantOwned):
    """Leave for one person to enrol one device. The code itself was never here: only its hash."""

    class Trust(models.TextChoices):
        PINNED = "pinned"  # made by an officer's client or a ceremony, carries the root pin
        FOUNDING = "founding"  # of a tenant that is being founded: carries its root, there is no policy to pin yet
        TOFU = "tofu"  # sent by the server itself: the client trusts what it meets first, and says so

    person = models.ForeignKey(Person, on_delete=models.PROTECT, related_name="enrolment_codes")
    code_hash = models.BinaryField(max_length=32)
    trust = models.CharField(max_length=10, choices=Trust.choices, default=Trust.PINNED)
    created_by = models.CharField(max_length=60)
    # Whose act it is, and who has confirmed it: nobody's when a ceremony made it.
    issuer_id = models.UUIDField(null=True)
    confirmer_id = models.UUIDField(null=True)
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True)

    class Meta(TenantOwned.Meta):
        abstract = False
        constraints: ClassVar = [models.UniqueConstraint(fields=["tenant", "code_hash"], name="enrolment_code_once")]


class Invitation(TenantOwned):
    """Leave for one person to set their first password and second factor. The link itself was never here."""

    person = models.ForeignKey(Person, on_delete=models.PROTECT, related_name="+")
    token_hash = models.BinaryField(max_length=32)
    created_by = models.CharField(max_length=60)
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True)

    class Meta(TenantOwned.Meta):
        abstract = False
        constraints: ClassVar = [models.UniqueConstraint(fields=["tenant", "token_hash"], name="invitation_once")]


class RecoveryCode(TenantOwned):
    """One of the codes that stand in for a lost authenticator, each once. The code itself was never here."""

    person = models.ForeignKey(Person, on_delete=models.PROTECT, related_name="+")
    code_hash = models.BinaryField(max_length=32)
    used_at = models.DateTimeField(null=True)

    class Meta(TenantOwned.Meta):
        abstract = False
        constraints: ClassVar = [models.UniqueConstraint(fields=["tenant", "code_hash"], name="recovery_code_once")]


class Mail(TenantOwned):
    """One mail that was promised to a person, and what became of it. Links are made when it is handed over, never here.

    address: where to, when not to the person's address of then. by_id: whose act it tells of. act: of what, for whoever
    asks about an act's mails.
    """

    class Why(models.TextChoices):
        AWAY = "away"
        REFUSED = "refused"

    kind = models.CharField(max_length=30)
    person = models.ForeignKey(Person, on_delete=models.PROTECT, related_name="+", db_index=False)
    address = models.CharField(max_length=254, default="")
    by_id = models.UUIDField(null=True)
    act = models.CharField(max_length=64, default="")
    # Short texts that the template shows, as they were at the act.
    values: models.JSONField[Any, Any] = models.JSONField(default=dict)
    state = models.CharField(max_length=12, choices=MailState.choices, default=MailState.WAITING)
    # What stood in the way of the last try; empty before one failed.
    why = models.CharField(max_length=10, choices=Why.choices, default="")
    attempts = models.PositiveIntegerField(default=0)
    created_at = models.DateTimeField(auto_now_add=True)
    settled_at = models.DateTimeField(null=True)

    class Meta(TenantOwned.Meta):
        abstract = False
        indexes: ClassVar = [
            models.Index(fields=["tenant", "person", "created_at"], name="mail_of_person"),
            models.Index(fields=["tenant", "act"], condition=~models.Q(act=""), name="mail_of_act"),
            # Leads the sweep to what is over.
            models.Index(fields=["settled_at"], condition=models.Q(settled_at__isnull=False), name="mail_settled"),
        ]


class Sponsorship(TenantOwned):
    """One person stands behind another: they, or whom they stand behind, let them in. One row for two people."""

    person_id = models.UUIDField()
    sponsor_id = models.UUIDField()
    # When they last did. By the database's clock, as the cases are that it is compared with.
    at = models.DateTimeField()

    class Meta(TenantOwned.Meta):
        abstract = False
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["tenant", "person_id", "sponsor_id"], name="sponsorship_once")
        ]


class FormerAddress(TenantOwned):
    """An address that a person had until lately: what is told to them is told there as well, until it is forgotten."""

    person = models.ForeignKey(Person, on_delete=models.PROTECT, related_name="+")
    email = models.CharField(max_length=254)
    told_until = models.DateTimeField(db_index=True)

    class Meta(TenantOwned.Meta):
        abstract = False


class PendingAct(TenantOwned):
    """An act of administration that waits for a second person. `given` is what was typed for it, never a secret."""

    act = models.CharField(max_length=40)
    subject_id = models.UUIDField(null=True)
    # The person whom it is about: they cannot be the second.
    concerns_id = models.UUIDField(null=True)
    given = models.JSONField(default=dict)
    state = models.CharField(max_length=10, choices=PendingState.choices, default=PendingState.PROPOSED)
    proposer_id = models.UUIDField()
    second_id = models.UUIDField(null=True)
    proposed_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)

    class Meta(TenantOwned.Meta):
        abstract = False
        indexes: ClassVar = [models.Index(fields=["tenant", "state", "proposed_at"], name="pending_act_waiting")]


class LogToken(TenantOwned):
    """Leave for a program that cannot sign requests to pull the audit log. The token itself was never here."""

    name = models.CharField(max_length=100)
    # Found by it, in whatever tenant: 256 random bits are of one token alone.
    token_hash = models.BinaryField(max_length=32, unique=True)
    created_by = models.UUIDField(null=True)
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField()
    revoked_at = models.DateTimeField(null=True)
    # The UTC day on which it was used last; to the day, so that a pull writes the row once a day.
    last_used_on = models.DateField(null=True)

    class Meta(TenantOwned.Meta):
        abstract = False
        indexes: ClassVar = [models.Index(fields=["tenant", "created_at"], name="log_token_of_tenant")]


class TenantExport(TenantOwned):
    """An export of the whole tenant, for whoever asked for it. file and after: how far the worker has come."""

    asked_by = models.UUIDField()
    state = models.CharField(max_length=10, choices=ExportState.choices, default=ExportState.WAITING)
    created_at = models.DateTimeField(auto_now_add=True)
    ended_at = models.DateTimeField(null=True)
    expires_at = models.DateTimeField(db_index=True)
    file = models.PositiveIntegerField(default=0)
    after = models.CharField(max_length=80, default="")
    pieces = models.PositiveIntegerField(default=0)
    lines = models.PositiveIntegerField(default=0)
    size = models.BigIntegerField(default=0)  # octets, before they are packed

    class Meta(TenantOwned.Meta):
        abstract = False


class ExportPiece(TenantOwned):
    """Some lines of one file of an export; pieces side by side with one name are one file."""

    export = models.ForeignKey(TenantExport, on_delete=models.PROTECT, related_name="+", db_index=False)
    number = models.PositiveIntegerField()
    file = models.CharField(max_length=60)
    octets = models.BinaryField()

    class Meta(TenantOwned.Meta):
        abstract = False
        constraints: ClassVar = [models.UniqueConstraint(fields=["export", "number"], name="export_piece_once")]


class SignInPlace(models.Model):
    """A source from which an account has signed in completely: failures of others there do not keep it out."""

    pk = models.CompositePrimaryKey("account", "source")
    account = models.CharField(max_length=64)  # SHA-256 in hex, as lockout names accounts
    source = models.CharField(max_length=45)
    last_at = models.DateTimeField(db_index=True)

    def __str__(self) -> str:
        return f"SignInPlace of {self.account[:8]}"


class RateWindow(models.Model):
    """How often something was tried from one source in one stretch of time."""

    pk = models.CompositePrimaryKey("key", "window")
    key = models.CharField(max_length=120)
    window = models.BigIntegerField()
    count = models.PositiveIntegerField(default=0)
    expires_at = models.DateTimeField(db_index=True)

    def __str__(self) -> str:
        return f"RateWindow {self.key}"


class TokenBucket(models.Model):
    """How far the requests of one credential, person, tenant or source are ahead of their rate.

    full_at: microseconds since 1970, at which all its tokens are there again. A row of the past says what no row says,
    so it is swept; an index on it would cost every request a second write.
    """

    key = models.CharField(max_length=80, primary_key=True)
    full_at = models.BigIntegerField()

    def __str__(self) -> str:
        return f"TokenBucket {self.key}"
