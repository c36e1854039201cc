# SPDX-License-Identifier: Apache-2.0
"""The acts on programs: service accounts, which sign their requests, and log tokens, for those that cannot.

Implements ORGANISATION "People". The verbs stand in `services` and `log_tokens`.
"""

from __future__ import annotations

from datetime import timedelta
from typing import ClassVar, Final
from uuid import UUID

from django.utils import timezone

from holdfast.core.base.encoding import unb64u
from holdfast.core.base.errors import HoldfastError
from holdfast.core.crypto.keys import SIGNING_KINDS, PublicKey, decode_public_key
from kernel.actors import Actor
from kernel.clock import database_now
from kernel.errors import Conflict, Invalid
from tenants import access, log_tokens, names, services
from tenants.acts.act import Act, Done, Field, Given, Words
from tenants.errors import NameTaken
from tenants.models import LogToken
from tenants.permissions import PermissionName
from tenants.states import CREDENTIAL, CredentialState

_MAX_KEY: Final = 200  # characters: 66 octets in hex, with the spaces of whoever copies it
_LIVES: Final = ((30, "30 days"), (90, "90 days"), (180, "180 days"), (365, "a year, the longest"))


def _public_key(text: str) -> PublicKey:
    """Read an encoded signing key as it is pasted: in base64url or hex. Raises Invalid."""
    packed = "".join(text.split())
    for read in (bytes.fromhex, unb64u):
        try:
            return decode_public_key(read(packed), expect=SIGNING_KINDS)
        except (ValueError, HoldfastError):
            continue
    raise Invalid(
        "This is no public signing key. Paste the encoded key, Ed25519 or P-256, in base64url or hex.",
        field="public_key",
    )


class _OnTenant(Act):
    """An act that makes a program's account or token."""

    kind = "programs"
    permission = PermissionName.TENANT_ADMINISTER

    def load(self, actor: Actor, subject_id: UUID | None, *, lock: bool) -> None:
        return None


class CreateServiceAccount(_OnTenant):
    """Let a program in that signs its requests."""

    name = "service-account-create"
    title = "Add a service account"
    summary = "Let a program in by the public half of its signing key."
    lets_in = True

    def form(self) -> tuple[Field, ...]:
        return (
            Field("name", "Name", "What the program is called, as in the log: payroll-export.", most=names.MAX_NAME),
            Field(
                "public_key",
                "Its public signing key",
                "The encoded key, Ed25519 or P-256, in base64url or hex. The private half stays with the program.",
                kind="long",
                most=_MAX_KEY,
            ),
        )

    def words(self, actor: Actor, subject: None, given: Given) -> Words:
        name, key = names.display_name(given["name"]), _public_key(given["public_key"])
        if access.has_service_account(name):
            raise NameTaken("A service account has this name.", field="name")
        lines = (
            f"The program {name} is let in at once: whatever is signed with this key is its request.",
            "It reads the log, coverage and public keys, and claims pre-keys. It decides nothing and opens nothing.",
        )
        facts = (("Name", name), ("Public key", key.encoded.hex()))
        return Words(f"Add the service account {name}", lines, facts)

    def do(self, actor: Actor, subject: None, given: Given) -> Done:
        key = _public_key(given["public_key"])
        account = services.create_service_account(name=given["name"], public_key=key.encoded, actor=actor)
        text = f"The service account {account.name} is added. Its requests name the id {account.pk}."
        return Done(text, "Revoke it.", account.pk)


class _OnServiceAccount(Act):
    kind = "service-account"
    permission = PermissionName.TENANT_ADMINISTER
    target: ClassVar[CredentialState]
    lines: ClassVar[tuple[str, ...]]
    # What it comes to, and how it is taken back.
    outcome: ClassVar[str]
    undo: ClassVar[str] = ""
    warnings: ClassVar[tuple[str, ...]] = ()

    def load(self, actor: Actor, subject_id: UUID | None, *, lock: bool) -> access.Program:
        assert subject_id is not None
        found = access.program(subject_id)
        if lock:
            access.credential_for_update(subject_id)
            found = access.program(subject_id)
        return found

    def is_offered(self, actor: Actor, subject: access.Program) -> bool:
        return CREDENTIAL.allows(subject.state, self.target)

    def words(self, actor: Actor, subject: access.Program, given: Given) -> Words:
        name = subject.account.name
        if not CREDENTIAL.allows(subject.state, self.target):
            raise Conflict(f"{name} is {subject.state}: there is nothing to do.")
        facts = (("Service account", name), ("Id", str(subject.account.pk)), ("State", subject.state))
        return Words(f"{self.title}: {name}", self.lines, facts, self.warnings)

    def do(self, actor: Actor, subject: access.Program, given: Given) -> Done:
        verbs = {
            CredentialState.ACTIVE: services.activate_credential,
            CredentialState.SUSPENDED: services.suspend_credential,
            CredentialState.REVOKED: services.revoke_credential,
        }
        verbs[self.target](credential_id=subject.account.pk, actor=actor)
        return Done(f"{subject.account.name} {self.outcome}.", self.undo, subject.account.pk)


class SuspendServiceAccount(_OnServiceAccount):
    """Stop a program for now."""

    name = "service-account-suspend"
    title = "Suspend"
    summary = "Its requests are refused for now."
    target = CredentialState.SUSPENDED
    lines = ("Its requests stop with the next one. Nothing of it is deleted.",)
    outcome = "is suspended"
    undo = "Let it go on."


class ResumeServiceAccount(_OnServiceAccount):
    """Let a suspended program go on."""

    name = "service-account-resume"
    title = "Let it go on"
    summary = "Its requests are answered again."
    lets_in = True
    target = CredentialState.ACTIVE
    lines = ("Its requests, signed with the same key, are taken again.",)
    outcome = "goes on"
    undo = "Suspend it."


class RevokeServiceAccount(_OnServiceAccount):
    """Stop a program for ever."""

    name = "service-account-revoke"
    title = "Revoke"
    summary = "For good: the program needs a new account."
    target = CredentialState.REVOKED
    is_dangerous = True
    lines = ("Its requests stop with the next one, for ever. Its name stays taken, and in the log.",)
    warnings = ("This cannot be taken back: the program needs a new account under another name.",)
    outcome = "is revoked"


class CreateLogToken(_OnTenant):
    """Let a program that cannot sign requests pull the audit log."""

    name = "log-token-create"
    title = "Make a log token"
    summary = "For a collector that reads the audit log and cannot sign."
    lets_in = True

    def form(self) -> tuple[Field, ...]:
        return (
            Field("name", "Name", "Where it is used: the SIEM of the security team.", most=names.MAX_NAME),
            Field(
                "days",
                "It works for",
                kind="choice",
                choices=tuple((str(days), words) for days, words in _LIVES),
                value="90",
            ),
        )

    def words(self, actor: Actor, subject: None, given: Given) -> Words:
        name, life = names.display_name(given["name"]), timedelta(days=int(given["days"]))
        log_tokens.require_room()
        lines = (
            "Whoever has the token reads the whole audit log over REST, and nothing else. Each read is an entry.",
            "It is shown to you once, and to nobody ever again: the server keeps its hash.",
            f"It stops after {life.days} days, when it is revoked, or when the organisation is suspended.",
        )
        warnings = (
            "It is not bound to a key: keep it where the program alone reads it, and send it in the header "
            "Authorization, never in an address. A service account is safer where the program can sign.",
        )
        facts = (("Name", name), ("Works until", f"{database_now() + life:%Y-%m-%d} (UTC)"))
        return Words(f"Make the log token {name}", lines, facts, warnings)

    def do(self, actor: Actor, subject: None, given: Given) -> Done:
        made = log_tokens.create(name=given["name"], life=timedelta(days=int(given["days"])), actor=actor)
        return Done(
            f"The log token {made.row.name} works from now on.",
            "Revoke it.",
            made.row.pk,
            once_label=f"The token {made.row.name}, until {made.row.expires_at:%Y-%m-%d %H:%M} UTC",
            once=made.text,
        )


class RevokeLogToken(Act):
    """End a log token before its time."""

    name = "log-token-revoke"
    title = "Revoke"
    summary = "For good: the collector needs a new token."
    kind = "log-token"
    permission = PermissionName.TENANT_ADMINISTER
    is_dangerous = True

    def load(self, actor: Actor, subject_id: UUID | None, *, lock: bool) -> LogToken:
        assert subject_id is not None
        return log_tokens.token(subject_id, lock=lock)

    def is_offered(self, actor: Actor, subject: LogToken) -> bool:
        # A button alone: what is done goes by the database's clock.
        return log_tokens.is_open(subject, timezone.now())

    def words(self, actor: Actor, subject: LogToken, given: Given) -> Words:
        if not log_tokens.is_open(subject, database_now()):
            raise Conflict("The token has ended already: there is nothing to do.")
        facts = (("Log token", subject.name), ("Made", f"{subject.created_at:%Y-%m-%d %H:%M} UTC"))
        lines = ("It reads nothing from the next request on. Whatever uses it needs a new one.",)
        return Words(f"Revoke the log token {subject.name}", lines, facts, ("This cannot be taken back.",))

    def do(self, actor: Actor, subject: LogToken, given: Given) -> Done:
        log_tokens.revoke(token=subject, actor=actor)
        return Done(f"The log token {subject.name} is revoked.")


ACTS: tuple[Act, ...] = (
    CreateServiceAccount(),
    SuspendServiceAccount(),
    ResumeServiceAccount(),
    RevokeServiceAccount(),
    CreateLogToken(),
    RevokeLogToken(),
)
