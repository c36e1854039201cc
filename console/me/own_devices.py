# SPDX-License-Identifier: Apache-2.0
"""A person's devices as they themselves know them: which one, in use or not, and whether its pre-keys last."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Final
from uuid import UUID

from keys import access, health
from keys.health import DeviceHealth
from keys.states import DeviceState
from tenants import access as tenants
from tenants.states import CredentialState

# Longer than a holiday: a device that was silent for so long may be lost, and its keys still open what is sent to it.
STALE: Final = timedelta(days=30)


@dataclass(frozen=True)
class OwnDevice:
    """One device. used_on: the day of its last request, None before that was noted. pool: ok, low or empty."""

    standing: DeviceHealth
    used_on: date | None
    is_suspended: bool
    is_stale: bool
    pool: str


def of(person_id: UUID, *, now: datetime, limit: int) -> tuple[list[OwnDevice], bool]:
    """List a person's devices, those that are not revoked first, and say whether there are more. Five queries."""
    devices, has_more = access.devices_of(person_id, limit=limit)
    uses = tenants.credential_uses([device.id for device in devices])
    listed = []
    for standing in health.of_devices(devices, now=now):
        device = standing.device
        state, used_on = uses.get(device.id, ("", None))
        # Of one older than the record of use, nothing but its beginning is known.
        since = used_on or (device.activated_at or device.created_at).date()
        listed.append(
            OwnDevice(
                standing=standing,
                used_on=used_on,
                is_suspended=state == CredentialState.SUSPENDED,
                is_stale=device.state == DeviceState.ACTIVE and since < (now - STALE).date(),
                pool=standing.state_at(now),
            )
        )
    return listed, has_more
