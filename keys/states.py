# SPDX-License-Identifier: Apache-2.0
"""The states of a device and of a tenant master key, and which may follow which.

PROTOCOL section 5 (what the chain says of a device) and NIST SP 800-57 part 1 section 7 (key states).
Moves are made by `kernel.transitions.advance`; nothing here touches a row.
"""

from __future__ import annotations

from django.db import models

from kernel.transitions import TransitionTable


class DeviceState(models.TextChoices):
    PENDING = "pending"  # enrolled with a code; no chain names it yet
    ACTIVE = "active"  # the account chain lists it
    REVOKED = "revoked"  # the account chain revoked it, or a re-genesis left it behind


DEVICE = TransitionTable(
    {
        DeviceState.PENDING: frozenset({DeviceState.ACTIVE, DeviceState.REVOKED}),
        DeviceState.ACTIVE: frozenset({DeviceState.REVOKED}),
    }
)


class KeyState(models.TextChoices):
    ACTIVE = "active"  # new records are written under it
    DEACTIVATED = "deactivated"  # opens what was written under it, and nothing new


TENANT_KEY = TransitionTable({KeyState.ACTIVE: frozenset({KeyState.DEACTIVATED})})
