# SPDX-License-Identifier: Apache-2.0
"""Tenants, their people and service accounts, and what each of these proves itself with.

Implements ORGANISATION "People". No row holds a private key; passwords are Argon2id hashes, codes are hashes.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable
from typing import Any, ClassVar

from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.sessions.base_session import AbstractBaseSession
from django.db import models
from django.utils.crypto import salted_hmac
from django_otp.models import Device, ThrottlingMixin, TimestampMixin
from django_otp.oath import TOTP

from holdfast.core.base.secret import SecretBytes
from kernel.scope import ChosenId, TenantModel
from tenants import factors
from tenants.names import search_key
from tenants.roles import Role
from tenants.states import (
    CredentialState,
    ExportState,
    ImportState,
    MailState,
    PendingState,
    PersonState,
    TenantState,
)


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
    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, related_name="+", db_index=False, editable=False)

    class Meta(TenantModel.Meta):
        abstract = True


class Person(TenantOwned, AbstractBaseUser):  # type: ignore[django-manager-missing]  # of django-otp's untyped device
    """A human being in one tenant. Whoever is in two tenants is two people, as far as anything here can tell."""

    email = models.CharField(max_length=254)
    # The form in which addresses are compared (names.email_key).
    email_key = models.CharField(max_length=254)
    name = models.CharField(max_length=100)
    role = models.CharField(max_length=10, choices=Role.choices, default=Role.MEMBER)
    state = models.CharField(max_length=10, choices=PersonState.choices, default=PersonState.INVITED)
    # Name and address as they are searched for, and sorted by (names.search_key). Kept by `save`.
    search = models.TextField(default="", editable=False)
    created_at = models.DateTimeField(auto_now_add=True)
    # Since when they count without a break; empty for whoever never did. By the database's clock.
    active_since = models.DateTimeField(null=True)

    # Unique over all tenants, unlike an address.
    USERNAME_FIELD = "id"
    REQUIRED_FIELDS: ClassVar[list[str]] = []

    class Meta(TenantOwned.Meta):
        abstract = False
        constraints: ClassVar = [
            # Whoever left has given their address back: whoever comes with it is somebody else.
            models.UniqueConstraint(
                fields=["tenant", "email_key"],
                condition=~models.Q(state=PersonState.LEFT),
                name="person_once_per_address",
            ),
        ]
        # A part of a name is looked for in every name of the tenant, which no index of both databases spares. What
        # these spare is sorting all of them for one page.
        indexes: ClassVar = [
            models.Index(fields=["tenant", "search", "id"], name="person_by_search"),
            models.Index(fields=["tenant", "created_at", "id"], name="person_by_date"),
        ]

    def __str__(self) -> str:
        return f"Person {self.pk}"

    def save(self, *args: Any, update_fields: Iterable[str] | None = None, **options: Any) -> None:
        """Store the row, and what it is searched by with its name or address."""
        self.search = search_key(self.name, self.email)
        if update_fields is not None and {"name", "email"} & set(update_fields):
            update_fields = {*update_fields, "search"}
        super().save(*args, update_fields=update_fields, **options)

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
    # The day, in UTC, of the last request that it signed. To the hour it would say when somebody works and sleeps.
    last_used_on = models.DateField(null=True)
    # Whose turn it is (`holdfast.core.signed.turns.Kept`): 8 random bytes each.
    turn_mark = models.BinaryField(max_length=8, default=b"")
    turn_before = models.BinaryField(max_length=8, default=b"")
    turn_breaks = models.PositiveIntegerField(default=0)
    turn_is_break = models.BooleanField(default=False)
    turn_since = models.BigIntegerField(default=0)

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


class PasswordReset(TenantOwned):
    """Leave for one person to set a new password, if they have their second factor. The link was never here."""

    person = models.ForeignKey(Person, on_delete=models.PROTECT, related_name="+")
    token_hash = models.BinaryField(max_length=32)
    # What the person's password and address were: with another of either, the link is over.
    bound = models.BinaryField(max_length=32)
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField(db_index=True)
    used_at = models.DateTimeField(null=True)

    class Meta(TenantOwned.Meta):
        abstract = False
        constraints: ClassVar = [models.UniqueConstraint(fields=["tenant", "token_hash"], name="password_reset_once")]


class Authenticator(ThrottlingMixin, TimestampMixin, Device):  # type: ignore[misc]  # they have no types
    """A person's TOTP authenticator, as a device of django-otp. Its key is sealed under the tenant's master key.

    Its id is a number, since django-otp asks for one; `serial` is what the sealed key is bound to, beside person and
    tenant. Reached through its person, who names the tenant.
    """

    STEP_SECONDS: ClassVar = 30
    # RFC 6238 section 5.2: one step for the time that a person and the network take.
    TOLERANCE: ClassVar = 1

    serial = models.UUIDField(default=uuid.uuid4, editable=False, unique=True)
    sealed = models.BinaryField(max_length=200, null=True)
    # The key of an authenticator from before keys were sealed, until the worker or its next use has sealed it.
    unsealed = models.BinaryField(max_length=40, null=True)
    # The step of the last code that was taken: only later ones are.
    last_t = models.BigIntegerField(default=-1)

    # The key while it is in use, kept by nothing that is stored.
    opened: SecretBytes | None = None

    class Meta(Device.Meta):  # type: ignore[misc]
        abstract = False
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=models.Q(sealed__isnull=True, unsealed__isnull=False)
                | models.Q(sealed__isnull=False, unsealed__isnull=True),
                name="authenticator_key_sealed_or_not",
            )
        ]

    def __str__(self) -> str:
        return f"Authenticator {self.pk}"

    def open(self) -> SecretBytes:
        """Return the key, asking the HSM the first time: call it outside transactions. Raises what `unseal` does."""
        if self.opened is None:
            if self.unsealed is not None:
                self.opened = SecretBytes(bytes(self.unsealed))
            else:
                assert self.sealed is not None
                self.opened = factors.unseal(
                    bytes(self.sealed),
                    tenant_id=self.user.tenant_id,
                    person_id=self.user_id,
                    serial=self.serial,
                )
        return self.opened

    def verify_token(self, token: str) -> bool:
        """Tell whether these digits are a code of now that was not used, and remember either answer (django-otp)."""
        is_allowed, _ = self.verify_is_allowed()
        if not is_allowed:
            return False
        totp = TOTP(self.open().reveal(), step=self.STEP_SECONDS, digits=6)
        totp.time = time.time()
        if not totp.verify(int(token), self.TOLERANCE, self.last_t + 1):
            self.throttle_increment()
            return False
        self.last_t = totp.t()
        self.throttle_reset(commit=False)
        self.set_last_used_timestamp(commit=False)
        self.save()
        return True

    def get_throttle_factor(self) -> int:
        """Return the seconds to wait after the first wrong code, doubled after each further one (django-otp)."""
        return 1


class RecoveryCode(TenantOwned):
    """One of the codes that stand in for a lost authenticator, each once. The code itself was never here.

    is_waiting: it was shown, stands in for nothing, and begins to count when its person has shown that they have it.
    """

    person = models.ForeignKey(Person, on_delete=models.PROTECT, related_name="+")
    code_hash = models.BinaryField(max_length=32)
    used_at = models.DateTimeField(null=True)
    is_waiting = models.BooleanField(default=False)

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
    """An act of administration that waits for a second person. `given` is what was typed for it, never a secret.

    shown: the hash of what its first person was shown. It is done as that, or not at all.
    """

    act = models.CharField(max_length=40)
    subject_id = models.UUIDField(null=True)
    # The person whom it is about: they cannot be the second.
    concerns_id = models.UUIDField(null=True)
    given = models.JSONField(default=dict)
    # Empty in rows from before it was kept: these are proposed anew.
    shown = models.BinaryField(max_length=32, default=b"")
    state = models.CharField(max_length=10, choices=PendingState.choices, default=PendingState.PROPOSED)
    proposer_id = models.UUIDField()
    second_id = models.UUIDField(null=True)
    proposed_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)

    class Meta(TenantOwned.Meta):
        abstract = False
        indexes: ClassVar = [models.Index(fields=["tenant", "state", "proposed_at"], name="pending_act_waiting")]


class ConsoleSession(AbstractBaseSession):
    """What the server keeps of one browser, and of whoever is signed in there: nobody between the two steps.

    agent: the family of browser and system, never the whole text. source: the address as limits count it. It stands in
    no scope: whose it is, is asked before there is one.
    """

    # By person, for all of theirs; empty for the account of an operator, which is no person's.
    person_id = models.UUIDField(null=True, db_index=True)
    tenant_id = models.UUIDField(null=True)
    agent = models.CharField(max_length=40, default="")
    source = models.CharField(max_length=45, default="")
    started_at = models.DateTimeField()
    # In steps: a write for every page would say more than anybody needs, and cost it.
    last_seen_at = models.DateTimeField()

    class Meta(AbstractBaseSession.Meta):
        abstract = False

    def __str__(self) -> str:
        # Not its key, which is what the browser proves itself with.
        return f"ConsoleSession of {self.person_id}"


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


class Import(TenantOwned):
    """A file of people that was read: whom it would invite, and what came of it. Its lines stand in chunks.

    digest: SHA-256 of the lines to invite, which is what is confirmed. roles: how many of them get which role.
    """

    by_id = models.UUIDField()
    digest = models.BinaryField(max_length=32)
    good = models.PositiveIntegerField()
    bad = models.PositiveIntegerField()
    roles: models.JSONField[Any, Any] = models.JSONField(default=dict)
    state = models.CharField(max_length=10, choices=ImportState.choices, default=ImportState.READ)
    # How many of the good lines were gone through, and how many people that made.
    done = models.PositiveIntegerField(default=0)
    created = models.PositiveIntegerField(default=0)
    created_at = models.DateTimeField(auto_now_add=True)
    confirmed_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)
    expires_at = models.DateTimeField(db_index=True)

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


class ImportChunk(TenantOwned):
    """Some hundred lines of a file of people, good or bad, in their order."""

    of = models.ForeignKey(Import, on_delete=models.CASCADE, related_name="+", db_index=False)
    is_good = models.BooleanField()
    number = models.PositiveIntegerField()
    lines: models.JSONField[Any, Any] = models.JSONField(default=list)

    class Meta(TenantOwned.Meta):
        abstract = False
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["of", "is_good", "number"], name="import_chunk_once"),
        ]


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
