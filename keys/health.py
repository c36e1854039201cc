# SPDX-License-Identifier: Apache-2.0
"""How the key directory stands, for many devices and users at once: what the console shows on one page.

PLATFORM "Console". A fixed number of queries, however many devices are asked for. It writes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.db.models import Count, Exists, Min, OuterRef, Q

from holdfast.core.base.words import eight_words
from keys.models import ChainFork, Claim, Device, OneTimePreKey, SignedPreKey
from keys.states import DeviceState

FORECAST_DAYS = 7
# Below this many days of supply, or of a signed pre-key's life, the console says so.
LOW_DAYS = 3


@dataclass(frozen=True)
class DeviceCount:
    """How many devices a user has, by state."""

    active: int = 0
    pending: int = 0
    revoked: int = 0


@dataclass(frozen=True)
class DeviceHealth:
    """One device: its words, its pool of one-time pre-keys, when that runs out, its signed pre-key."""

    device: Device
    words: tuple[str, ...]
    count: int
    oldest_at: datetime | None
    per_day: float
    empty_at: datetime | None
    signed_pre_key: SignedPreKey | None

    @property
    def is_active(self) -> bool:
        """Whether the chain lists the device, so that peers send to it."""
        return str(self.device.state) == DeviceState.ACTIVE

    def state_at(self, now: datetime) -> str:
        """Say how the pool stands: `ok`, `low` (three days or less) or `empty`."""
        if not self.count:
            return "empty"
        return "low" if self.empty_at is not None and self.empty_at < now + timedelta(days=LOW_DAYS) else "ok"


@dataclass(frozen=True)
class DirectoryHealth:
    """The whole tenant: active devices, how many of them have no one-time or no signed pre-key, forks kept."""

    devices: int
    exhausted: int
    unsigned: int
    forks: int


def device_counts(user_ids: Iterable[UUID]) -> dict[UUID, DeviceCount]:
    """Count the devices of several users. One query."""
    rows = (
        Device.objects.filter(user_id__in=list(user_ids))
        .values("user_id")
        .annotate(**{state: Count("id", filter=Q(state=state)) for state in DeviceState.values})
        .order_by("user_id")
    )
    return {row.pop("user_id"): DeviceCount(**row) for row in rows}


def devices_by_id(device_ids: Iterable[UUID]) -> dict[UUID, Device]:
    """Return those of the devices that are of this tenant, by id. One query."""
    return {row.id: row for row in Device.objects.filter(id__in=list(device_ids))}


def of_devices(devices: Sequence[Device], *, now: datetime) -> list[DeviceHealth]:
    """Tell how several devices stand, in the order given. Three queries."""
    ids = [device.id for device in devices]
    pools = {
        (row["device_id"], row["epoch"]): row
        for row in OneTimePreKey.objects.filter(device_id__in=ids)
        .values("device_id", "epoch")
        .annotate(count=Count("id"), oldest=Min("batch__stored_at"))
        .order_by("device_id")
    }
    taken = {
        row["device_id"]: row["taken"] / FORECAST_DAYS
        for row in Claim.objects.filter(
            device_id__in=ids, claimed_at__gte=now - timedelta(days=FORECAST_DAYS), batch_id__isnull=False
        )
        .values("device_id")
        .annotate(taken=Count("id"))
        .order_by("device_id")
    }
    signed = {row.device_id: row for row in SignedPreKey.objects.filter(device_id__in=ids, is_current=True)}
    found = []
    for device in devices:
        # Keys of an older epoch were voided: they are never handed out, so they are not counted.
        pool = pools.get((device.id, device.pre_key_epoch), {})
        count, per_day = int(pool.get("count", 0)), float(taken.get(device.id, 0))
        found.append(
            DeviceHealth(
                device=device,
                words=eight_words(bytes(device.statement_hash)),
                count=count,
                oldest_at=pool.get("oldest"),
                per_day=per_day,
                empty_at=now + timedelta(days=count / per_day) if count and per_day else None,
                signed_pre_key=signed.get(device.id),
            )
        )
    return found


def of_directory() -> DirectoryHealth:
    """Tell how the tenant's directory stands. Four queries, none of which walks the one-time pre-keys."""
    active = Device.objects.filter(state=DeviceState.ACTIVE)
    pool = OneTimePreKey.objects.filter(device_id=OuterRef("id"), epoch=OuterRef("pre_key_epoch"))
    signed = SignedPreKey.objects.filter(device_id=OuterRef("id"), is_current=True)
    return DirectoryHealth(
        devices=active.count(),
        exhausted=active.filter(~Exists(pool)).count(),
        unsigned=active.filter(~Exists(signed)).count(),
        forks=ChainFork.objects.count(),
    )
