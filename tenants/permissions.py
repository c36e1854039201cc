# SPDX-License-Identifier: Apache-2.0
"""Who may do what: the one permission matrix, and the class that applies it to every REST request.

Implements ORGANISATION "People". Whether *this object* is the actor's own is asked in each app's `access.py`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request

from audit.errors import LogRestored
from kernel.actors import Actor
from kernel.errors import Denied, MethodNotAllowed, Unauthenticated
from tenants.roles import SERVICE_ROLE, Role
from tenants.states import WORKING_STATES, CredentialState, TenantState


class PermissionName(StrEnum):
    """Every permission of the product, `<subject>:<verb>`, in alphabetical order."""

    AUDIT_READ = "audit:read"
    CASE_APPROVE = "case:approve"
    CASE_COLLECT = "case:collect"
    CASE_OPEN = "case:open"
    CASE_READ = "case:read"
    CASE_VETO = "case:veto"
    CHAIN_READ = "chain:read"
    CHAIN_WRITE = "chain:write"
    CONSOLE_ENTER = "console:enter"
    CONTACTS_ANSWER = "contacts:answer"
    CONTACTS_ASK = "contacts:ask"
    CONTACTS_READ = "contacts:read"
    CONTACTS_VETO = "contacts:veto"
    CONTACTS_WRITE = "contacts:write"
    COVERAGE_READ = "coverage:read"
    DEPOSIT_READ = "deposit:read"
    DEPOSIT_WRITE = "deposit:write"
    DEVICE_READ = "device:read"
    DEVICE_SUSPEND = "device:suspend"
    DEVICE_WRITE = "device:write"
    ENROLMENT_CREATE = "enrolment:create"
    ESCROW_READ = "escrow:read"
    LETTER_SEND = "letter:send"
    ME_READ = "me:read"
    MESSAGE_READ = "message:read"
    MESSAGE_SEND = "message:send"
    OFFICER_SIGN = "officer:sign"
    PERSON_ADMINISTER = "person:administer"
    PERSON_FIND = "person:find"
    PERSON_READ = "person:read"
    POLICY_PROPOSE = "policy:propose"
    PREKEY_CLAIM = "prekey:claim"
    PREKEY_WRITE = "prekey:write"
    STATEMENT_READ = "statement:read"
    STATEMENT_WRITE = "statement:write"
    TENANT_ADMINISTER = "tenant:administer"
    TENANT_KEEP = "tenant:keep"
    VAULT_READ = "vault:read"
    VAULT_WRITE = "vault:write"


P = PermissionName
_LOOK = frozenset({P.CHAIN_READ, P.DEVICE_READ, P.ESCROW_READ, P.STATEMENT_READ})
# The pages about oneself: of every person in every role, and of no program.
_SELF = frozenset({P.ME_READ})
# The upkeep of one's own keys; letters go between one's own devices.
_KEYS = frozenset(
    {P.CHAIN_WRITE, P.CONTACTS_ASK, P.CONTACTS_READ, P.CONTACTS_VETO, P.CONTACTS_WRITE, P.DEVICE_WRITE, P.LETTER_SEND,
     P.MESSAGE_READ, P.PREKEY_WRITE, P.STATEMENT_WRITE, P.VAULT_READ, P.VAULT_WRITE}
)  # fmt: skip
_MEMBER = _LOOK | _KEYS | _SELF | {
    P.CASE_COLLECT, P.CASE_OPEN, P.CASE_READ, P.CASE_VETO, P.CONTACTS_ANSWER, P.DEPOSIT_READ, P.DEPOSIT_WRITE,
    P.MESSAGE_SEND, P.PERSON_FIND, P.PREKEY_CLAIM,
}  # fmt: skip
_DECIDING = frozenset(
    {P.CASE_APPROVE, P.DEVICE_SUSPEND, P.ENROLMENT_CREATE, P.OFFICER_SIGN, P.POLICY_PROPOSE, P.TENANT_KEEP}
)
_OVERSIGHT = frozenset({P.AUDIT_READ, P.CASE_READ, P.CONSOLE_ENTER, P.COVERAGE_READ, P.PERSON_READ})
# Acts of administration: each with a one-time code for exactly what was shown (`acts.engine`).
_ADMINISTRATION = frozenset({P.DEVICE_SUSPEND, P.PERSON_ADMINISTER, P.TENANT_ADMINISTER, P.TENANT_KEEP})

MATRIX: dict[str, frozenset[str]] = {
    Role.OWNER: _MEMBER | _OVERSIGHT | _ADMINISTRATION | {P.ENROLMENT_CREATE, P.POLICY_PROPOSE},
    Role.OFFICER: _MEMBER | _OVERSIGHT | _DECIDING,
    Role.REVIEWER: _MEMBER | _OVERSIGHT,
    # Reads, and keeps the keys it signs its requests with; starts nothing.
    Role.AUDITOR: _LOOK | _KEYS | _OVERSIGHT | _SELF | {P.PERSON_FIND},
    # Hands out codes, which a second person confirms for an owner or officer.
    Role.HELPDESK: _SELF | {P.CONSOLE_ENTER, P.DEVICE_READ, P.ENROLMENT_CREATE, P.PERSON_FIND, P.PERSON_READ},
    Role.SUPPORT: _SELF | {P.CONSOLE_ENTER, P.DEVICE_READ, P.PERSON_FIND, P.PERSON_READ},
    Role.MEMBER: _MEMBER,
    SERVICE_ROLE: _LOOK | {P.AUDIT_READ, P.COVERAGE_READ, P.PREKEY_CLAIM},
}

# A device that its owner's chain does not list yet: enough to be listed, to open a door of the vault, or to ask for a
# recovery. Without `message:send` its letters reach its own user's devices only.
PENDING_DEVICE = frozenset(
    {P.CASE_COLLECT, P.CASE_OPEN, P.CASE_READ, P.CHAIN_READ, P.CHAIN_WRITE, P.CONTACTS_ASK, P.CONTACTS_READ,
     P.DEPOSIT_READ, P.DEVICE_READ, P.ESCROW_READ, P.LETTER_SEND, P.MESSAGE_READ, P.STATEMENT_READ, P.VAULT_READ}
)  # fmt: skip
# A tenant that is being founded: its people make keys, doors and the first policy. Nobody's key is in custody, and
# nothing is opened, before the founders' policy stands (ORGANISATION "Founding, at different desks").
FOUNDING = _LOOK | _KEYS | _OVERSIGHT | _ADMINISTRATION | _SELF | {
    P.ENROLMENT_CREATE, P.OFFICER_SIGN, P.PERSON_FIND, P.POLICY_PROPOSE,
}  # fmt: skip
# What nobody does in a locked tenant: let somebody in, or start to open a key (ORGANISATION "Lock"). Denials, vetoes,
# revocations and suspensions go on; `case:open` and `case:collect` are asked again by the verbs, which say why.
LOCKED_AWAY = frozenset({P.ENROLMENT_CREATE})
# To read a case about its owner, veto it, and hold that veto to the log: what every device of a person may, also a
# suspended one for the methods that admit it. No one person's act ends a veto, and a change of role is such an act
# (ESCROW "Case").
OBJECTION = frozenset({P.CASE_READ, P.CASE_VETO, P.STATEMENT_READ})
# A log token pulls the audit log, as an auditor's device may, and is nobody who could be let into anything else.
LOG_TOKEN = frozenset({P.AUDIT_READ})
# A console session looks, and administers behind a step-up. What needs a key is signed by a device, never clicked.
SESSION = _LOOK | _OVERSIGHT | _ADMINISTRATION | _SELF | {P.ENROLMENT_CREATE}


def device_permissions(role: str, credential_state: str, tenant_state: str = TenantState.ACTIVE) -> frozenset[str]:
    """Return what a device's or service's requests may do: nothing for a role or a state that is not listed."""
    granted = _granted(role, tenant_state)
    if credential_state == CredentialState.ACTIVE:
        return granted | suspended_permissions(role, tenant_state)
    return granted & PENDING_DEVICE if credential_state == CredentialState.PENDING else frozenset()


def suspended_permissions(role: str, tenant_state: str = TenantState.ACTIVE) -> frozenset[str]:
    """Return what is left to a suspended device's requests, whatever its owner's role: nothing to a program's."""
    return OBJECTION if role in Role.values and tenant_state in WORKING_STATES else frozenset()


def _granted(role: str, tenant_state: str) -> frozenset[str]:
    granted = MATRIX.get(role, frozenset())
    if tenant_state in WORKING_STATES:
        return _unless_locked(granted, tenant_state)
    return granted & FOUNDING if tenant_state == TenantState.FOUNDING else frozenset()


def log_token_permissions(tenant_state: str) -> frozenset[str]:
    """Return what a log token's requests may do: nothing unless its tenant is active, locked or ending."""
    return LOG_TOKEN if tenant_state in WORKING_STATES else frozenset()


def session_permissions(role: str, tenant_state: str = TenantState.ACTIVE) -> frozenset[str]:
    """Return what a signed-in session may see: of a role that does not enter the console, the pages about oneself."""
    granted = _unless_locked(MATRIX.get(role, frozenset()), tenant_state)
    return granted & (SESSION if P.CONSOLE_ENTER in granted else _SELF)


def _unless_locked(granted: frozenset[str], tenant_state: str) -> frozenset[str]:
    return granted - LOCKED_AWAY if tenant_state == TenantState.LOCKED else granted


def roles_with(permission: str) -> list[str]:
    """Return the roles of people that hold a permission."""
    return [role for role, granted in MATRIX.items() if permission in granted and role in Role.values]


class DeclaredPermission(BasePermission):
    """Holds every REST request against the permission that its view declares for the method.

    A method that is not declared is refused, so that a handler nobody thought about answers nobody.
    """

    def has_permission(self, request: Request, view: Any) -> bool:
        """Return True, or raise MethodNotAllowed, Unauthenticated, Denied, or LogRestored for a change meanwhile."""
        method = "GET" if request.method == "HEAD" else request.method or ""
        if getattr(view, "tenancy", "tenant") != "tenant":
            return True
        name = getattr(view, "permission_names", {}).get(method)
        if name is None:
            raise MethodNotAllowed("This address does not take this method. See /api/schema/.")
        actor: Actor = request.user  # type: ignore[assignment]
        if not isinstance(actor, Actor) or not actor.is_authenticated:
            raise Unauthenticated
        if not actor.can(name):
            raise Denied
        is_change = method not in SAFE_METHODS or method in getattr(view, "taking_methods", ())
        if actor.is_restored and is_change and method not in getattr(view, "restored_methods", ()):
            raise LogRestored
        return True
