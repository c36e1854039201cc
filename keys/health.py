# SPDX-License-Identifier: Apache-2.0
"""How the key directory stands, for many devices and users at once: what the console shows on one page.

PLATFORM "Console". A fixed number of queries, however many devices are asked for. It writes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db.models import Count, Exists, Min, OuterRef, Q, QuerySet

from holdfast.core.base.words import eight_words
from holdfast.core.vault.blob import Section
from keys.models import ChainFork, Claim, Device, OneTimePreKey, SignedPreKey, VaultDoor
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
    """The whole tenant: active devices, what they lack, forks kept.

    exhausted: without a one-time pre-key. unsigned: without a signed pre-key that still holds. failing: either or both.
    """

    devices: int
    exhausted: int
    unsigned: int
    failing: int
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


def of_directory(now: datetime) -> DirectoryHealth:
    """Tell how the tenant's directory stands. Two queries, none of which walks the one-time pre-keys."""
    active = Device.objects.filter(state=DeviceState.ACTIVE).annotate(has_pool=_has_pool(), is_signed=_is_signed(now))
    counted = active.aggregate(
        devices=Count("pk"),
        exhausted=Count("pk", filter=Q(has_pool=False)),
        unsigned=Count("pk", filter=Q(is_signed=False)),
        failing=Count("pk", filter=Q(has_pool=False) | Q(is_signed=False)),
    )
    return DirectoryHealth(**counted, forks=ChainFork.objects.count())


def failing_devices(now: datetime, *, order: Sequence[str], start: int, limit: int) -> tuple[list[DeviceHealth], int]:
    """List a page of the active devices that nobody can write to at their best, and count all of them.

    Those without a one-time pre-key, or without a signed one that still holds. order: names of fields, the last of them
    unique. Five queries.
    """
    rows = Device.objects.filter(~_has_pool() | ~_is_signed(now), state=DeviceState.ACTIVE).order_by(*order)
    return of_devices(list(rows[start : start + limit]), now=now), rows.count()


def _has_pool() -> Exists:
    return Exists(OneTimePreKey.objects.filter(device_id=OuterRef("id"), epoch=OuterRef("pre_key_epoch")))


def _is_signed(now: datetime) -> Exists:
    signed = SignedPreKey.objects.filter(device_id=OuterRef("id"), is_current=True)
    return Exists(signed.filter(expires_at__gt=int(now.timestamp())))


def users_with_devices() -> QuerySet[Any, Any]:
    """Return the ids of those who have an active device, as a part of another app's query."""
    return Device.objects.filter(state=DeviceState.ACTIVE).values("user_id")


def users_with_two_doors() -> QuerySet[Any, Any]:
    """Return the ids of those who have two doors or more to their vault, as a part of another app's query."""
    return _vault_doors().values("user_id").annotate(n=Count("id")).filter(n__gte=2).values("user_id")


def doors_of(user_ids: Iterable[UUID]) -> dict[UUID, list[str]]:
    """Return the kinds of doors to their vaults that some users have. One query."""
    found: dict[UUID, list[str]] = {}
    for user_id, kind in (
        _vault_doors().filter(user_id__in=list(user_ids)).order_by("kind").values_list("user_id", "kind")
    ):
        found.setdefault(user_id, []).append(kind)
    return found


def _vault_doors() -> QuerySet[VaultDoor]:
    rows: QuerySet[VaultDoor] = VaultDoor.objects.exclude(kind__startswith=f"{Section.OFFICERS.value}-")
    return rows
