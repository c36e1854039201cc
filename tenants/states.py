# SPDX-License-Identifier: Apache-2.0
"""The states of tenants, people and credentials, and the moves between them.

ORGANISATION "People"; FAULTS P9: whoever is not `active` counts for nothing, whatever a later state is called.
"""

from __future__ import annotations

from typing import Final

from django.db import models

from kernel.transitions import TransitionTable


class TenantState(models.TextChoices):
    FOUNDING = "founding"  # its people make keys and sign the first policy; nothing else can be done yet
    ACTIVE = "active"
    SUSPENDED = "suspended"  # nobody of it is let in; nothing of it is lost
    LOCKED = "locked"  # by an owner: no release, no new case, nobody let in; what stops something goes on
    ENDING = "ending"  # its people have 30 days to take home what is theirs
    ENDED = "ended"  # nobody is let in any more, ever


# Whose people are let in. In `founding` they may do less (`permissions.FOUNDING`), and in `locked` they let nobody in.
ENTERED_STATES: Final = (TenantState.ACTIVE, TenantState.FOUNDING, TenantState.LOCKED, TenantState.ENDING)
# Whose people do what members do with keys of their own.
WORKING_STATES: Final = (TenantState.ACTIVE, TenantState.LOCKED, TenantState.ENDING)
# In which somebody new sets a password: who opens an invitation.
INVITING_STATES: Final = (TenantState.ACTIVE, TenantState.FOUNDING)
# In which a code enrols a device. While a tenant ends, who lost theirs still gets at what is theirs.
ENROLLING_STATES: Final = (TenantState.ACTIVE, TenantState.FOUNDING, TenantState.ENDING)


class PersonState(models.TextChoices):
    INVITED = "invited"  # has a code or an invitation, has proved nothing yet
    ACTIVE = "active"
    SUSPENDED = "suspended"
    LEFT = "left"  # for ever; their rows stay, and name them in the log


class PendingState(models.TextChoices):
    PROPOSED = "proposed"
    CONFIRMED = "confirmed"
    WITHDRAWN = "withdrawn"


class ImportState(models.TextChoices):
    READ = "read"  # nothing is done yet
    RUNNING = "running"
    DONE = "done"
    STOPPED = "stopped"  # whoever confirmed it could not invite anybody any more


class CredentialState(models.TextChoices):
    PENDING = "pending"  # enrolled by a code, not yet in its owner's account chain
    ACTIVE = "active"
    SUSPENDED = "suspended"
    REVOKED = "revoked"  # for ever: its owner's chain says so


class ExportState(models.TextChoices):
    WAITING = "waiting"  # it is being made
    READY = "ready"
    FAILED = "failed"  # whoever asked may not have it any more


class MailState(models.TextChoices):
    WAITING = "waiting"  # the mail system has not taken it yet
    HANDED_OVER = "handed-over"  # the mail system took it: nothing is said of reading
    FAILED = "failed"  # for good: its address was refused, or the mail system was away to the end
    NEEDLESS = "needless"  # what it was to bring had been done, or could not be done any more


# What an operator may suspend. One that ends is not: its owners have to be able to stop that.
SUSPENDABLE_STATES: Final = (TenantState.ACTIVE, TenantState.LOCKED)

TENANT = TransitionTable(
    {
        TenantState.FOUNDING: frozenset({TenantState.ACTIVE, TenantState.ENDED}),
        TenantState.ACTIVE: frozenset({TenantState.SUSPENDED, TenantState.LOCKED, TenantState.ENDING}),
        # A locked one that was suspended goes back to its lock, never past it.
        TenantState.SUSPENDED: frozenset({TenantState.ACTIVE, TenantState.LOCKED}),
        TenantState.LOCKED: frozenset({TenantState.ACTIVE, TenantState.SUSPENDED}),
        TenantState.ENDING: frozenset({TenantState.ACTIVE, TenantState.ENDED}),
        TenantState.ENDED: frozenset(),
    }
)

PERSON = TransitionTable(
    {
        PersonState.INVITED: frozenset({PersonState.ACTIVE, PersonState.SUSPENDED, PersonState.LEFT}),
        PersonState.ACTIVE: frozenset({PersonState.SUSPENDED, PersonState.LEFT}),
        # Back to where they were: whoever had proved nothing is invited again.
        PersonState.SUSPENDED: frozenset({PersonState.ACTIVE, PersonState.INVITED, PersonState.LEFT}),
        PersonState.LEFT: frozenset(),
    }
)

PENDING_ACT = TransitionTable(
    {
        PendingState.PROPOSED: frozenset({PendingState.CONFIRMED, PendingState.WITHDRAWN}),
        PendingState.CONFIRMED: frozenset(),
        PendingState.WITHDRAWN: frozenset(),
    }
)

IMPORT = TransitionTable(
    {
        ImportState.READ: frozenset({ImportState.RUNNING}),
        ImportState.RUNNING: frozenset({ImportState.DONE, ImportState.STOPPED}),
        ImportState.DONE: frozenset(),
        ImportState.STOPPED: frozenset(),
    }
)
_C = CredentialState
CREDENTIAL = TransitionTable(
    {
        _C.PENDING: frozenset({_C.ACTIVE, _C.SUSPENDED, _C.REVOKED}),
        _C.ACTIVE: frozenset({_C.SUSPENDED, _C.REVOKED}),
        _C.SUSPENDED: frozenset({_C.ACTIVE, _C.REVOKED}),
        _C.REVOKED: frozenset(),
    }
)

EXPORT = TransitionTable(
    {
        ExportState.WAITING: frozenset({ExportState.READY, ExportState.FAILED}),
        ExportState.READY: frozenset(),
        ExportState.FAILED: frozenset(),
    }
)

MAIL = TransitionTable(
    {
        MailState.WAITING: frozenset({MailState.HANDED_OVER, MailState.FAILED, MailState.NEEDLESS}),
        MailState.HANDED_OVER: frozenset(),
        MailState.FAILED: frozenset(),
        MailState.NEEDLESS: frozenset(),
    }
)
