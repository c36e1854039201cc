# SPDX-License-Identifier: Apache-2.0
"""The acts on the tenant's lock: one owner locks or keeps it locked, two have it end after the policy's long delay.

Implements ORGANISATION "Lock". They stand in this app because the long delay is a term of the policy.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Final
from uuid import UUID

from escrow import access
from escrow.errors import EscrowOff
from holdfast.core.base.text import duration
from holdfast.core.escrow.locks import DEFAULT_DELAY_SECONDS
from kernel.actors import Actor
from kernel.clock import database_now
from kernel.errors import Conflict
from tenants import access as tenants
from tenants import locking, mails
from tenants.acts.act import Act, Done, Given, Words
from tenants.models import Tenant
from tenants.permissions import PermissionName, roles_with
from tenants.roles import Role
from tenants.states import PersonState, TenantState

# Whoever runs the organisation, and whoever decides in it: they hear of a lock at once.
_TOLD: Final = (Role.OWNER, Role.OFFICER)


def long_delay() -> timedelta:
    """Return how long an unlocking waits: the long delay of the policy in force, or two weeks without a policy."""
    try:
        policy = access.reading(access.policy_in_force(database_now()))
    except EscrowOff:
        return timedelta(seconds=DEFAULT_DELAY_SECONDS)
    return timedelta(seconds=policy.terms.undelivered_delay_seconds)


class _OnTenant(Act):
    kind = "tenant"
    permission = PermissionName.TENANT_ADMINISTER

    def load(self, actor: Actor, subject_id: UUID | None, *, lock: bool) -> Tenant:
        # The engine holds the row's lock already.
        return tenants.tenant()


class Lock(_OnTenant):
    """Stop releases, new cases and enrolments."""

    name = "tenant-lock"
    title = "Lock the organisation"
    summary = "Stops releases, new cases and enrolments at once. One owner is enough."
    is_dangerous = True

    def is_offered(self, actor: Actor, subject: Tenant) -> bool:
        return subject.state == TenantState.ACTIVE

    def takes_two(self, subject: Tenant) -> bool:
        return locking.is_soon_again(subject, database_now())

    def words(self, actor: Actor, subject: Tenant, given: Given) -> Words:
        if subject.state != TenantState.ACTIVE:
            raise Conflict(f"The organisation is {subject.state}: there is nothing to lock.")
        lines = (
            "Nothing is released, no case is opened, and nobody is let in: no invitation, enrolment code or program.",
            "Vetoes, denials, revocations and suspensions go on. The delays of cases stand still.",
            "People go on signing in and writing to each other. Every page of the console says that it is locked.",
            f"Two owners have it end, {duration(int(long_delay().total_seconds()))} after the second confirmed.",
        )
        return Words(f"Lock {subject.name}", lines, _facts(subject), _nobody_unlocks())

    def do(self, actor: Actor, subject: Tenant, given: Given) -> Done:
        locking.lock(actor=actor)
        _tell("tenant-locked", actor, {})
        return Done("The organisation is locked. Owners and officers are told.", "Two owners unlock it, with a delay.")


class KeepLocked(_OnTenant):
    """End an unlocking that two owners asked for, before it takes effect."""

    name = "tenant-keep-locked"
    title = "Keep it locked"
    summary = "Takes back the unlocking that is under way."

    def is_offered(self, actor: Actor, subject: Tenant) -> bool:
        return subject.state == TenantState.LOCKED and subject.unlock_at is not None

    def words(self, actor: Actor, subject: Tenant, given: Given) -> Words:
        if not self.is_offered(actor, subject):
            raise Conflict("No unlocking of the organisation is on its way.")
        kept = "The unlocking that two owners asked for is over; the organisation stays locked."
        return Words(f"Keep {subject.name} locked", (kept,), _facts(subject))

    def do(self, actor: Actor, subject: Tenant, given: Given) -> Done:
        locking.lock(actor=actor)
        _tell("tenant-locked", actor, {})
        return Done("The organisation stays locked. Owners and officers are told.", "Two owners ask anew.")


class Unlock(_OnTenant):
    """Have the lock end after the long delay."""

    name = "tenant-unlock"
    title = "Unlock the organisation"
    summary = "Takes two owners, and then the long delay of the policy."
    needs_two = True
    takes_recovery_code = False

    def is_offered(self, actor: Actor, subject: Tenant) -> bool:
        return subject.state == TenantState.LOCKED and subject.unlock_at is None

    def words(self, actor: Actor, subject: Tenant, given: Given) -> Words:
        if not self.is_offered(actor, subject):
            raise Conflict("The organisation is not locked, or its unlocking runs already.")
        lines = (
            f"{duration(int(long_delay().total_seconds()))} after a second owner has confirmed it, the lock ends by "
            "itself. Until then every owner can keep it locked.",
            "Cases go on where they were: the time in the lock counts for none of their delays.",
            "The release process counts the same delay for itself, and believes only owners who did not let each other "
            "in within 90 days.",
        )
        warnings = ("Locking again within 30 days afterwards takes two owners.",)
        return Words(f"Unlock {subject.name}", lines, _facts(subject), warnings)

    def do(self, actor: Actor, subject: Tenant, given: Given) -> Done:
        raise Conflict("An unlocking takes two owners.")

    def do_together(self, actor: Actor, subject: Tenant, given: Given, *, proposer_id: UUID) -> Done:
        at = locking.ask_unlock(proposer_id=proposer_id, delay=long_delay(), actor=actor)
        _tell("tenant-unlocking", actor, {"until": mails.written_time(at)})
        text = f"The lock ends {mails.written_time(at)}. Owners and officers are told."
        return Done(text, "Keep it locked, before then.")


def _facts(tenant: Tenant) -> tuple[tuple[str, str], ...]:
    facts = [("Organisation", tenant.name), ("State", tenant.get_state_display())]
    if tenant.unlock_at is not None:
        facts.append(("Unlocks", mails.written_time(tenant.unlock_at)))
    return tuple(facts)


def _nobody_unlocks() -> tuple[str, ...]:
    owners = tenants.people(roles=roles_with(PermissionName.TENANT_ADMINISTER), state=PersonState.ACTIVE)
    if len(owners) >= 2:
        return ()
    return (
        "You are the only owner. Without a second one, whom you did not let in within 90 days, nobody can unlock it.",
    )


def _tell(kind: str, actor: Actor, values: dict[str, str]) -> None:
    for person in tenants.people(roles=_TOLD, state=PersonState.ACTIVE):
        mails.promise(kind=kind, to=person, actor=actor, values=values)


ACTS: tuple[Act, ...] = (Lock(), KeepLocked(), Unlock())
