# SPDX-License-Identifier: Apache-2.0
"""The console's lists of what people lack: devices without pre-keys, and people without two doors.

Implements PLATFORM "Console". Pages only look: devices and people's own clients set right what stands here.
"""

from __future__ import annotations

from typing import Final

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone

from console.frame import console_page
from console.paging import PAGE, Column, Listing
from kernel.actors import Actor
from keys import health
from tenants import access as tenants
from tenants.permissions import PermissionName
from tenants.states import PersonState

DEVICE_COLUMNS: Final = (
    Column("Device", "name", ("name", "pk")),
    Column("Person"),
    Column("One-time pre-keys"),
    Column("Signed pre-key"),
    Column("Added", "added", ("activated_at", "pk")),
)
PEOPLE_COLUMNS: Final = (
    Column("Person", "name", ("search", "id")),
    Column("Role", "role", ("role", "search", "id")),
    Column("Doors"),
    Column("Devices", is_number=True),
)


@console_page(PermissionName.DEVICE_READ)
def failing_devices(request: HttpRequest, actor: Actor) -> HttpResponse:
    """List the active devices without a one-time pre-key, or without a signed one that still holds."""
    now = timezone.now()
    listing = Listing.of(request, DEVICE_COLUMNS, by_default="added")
    rows, total = health.failing_devices(now, order=listing.order, start=listing.start, limit=PAGE)
    context = {
        "rows": rows,
        "seconds": int(now.timestamp()),
        "people": tenants.people_by_id({row.device.user_id for row in rows}),
        "sees_coverage": actor.can(PermissionName.COVERAGE_READ),
    }
    return render(request, "console/people/devices.html", listing.shown(total, **context))


@console_page(PermissionName.PERSON_READ)
def few_doors(request: HttpRequest, actor: Actor) -> HttpResponse:
    """List the active people who have a device, and fewer than two doors to their vault."""
    listing = Listing.of(request, PEOPLE_COLUMNS, by_default="name")
    found, total = tenants.people_found(
        state=PersonState.ACTIVE,
        among=health.users_with_devices(),
        without=health.users_with_two_doors(),
        order=listing.order,
        start=listing.start,
        limit=PAGE,
    )
    ids = [person.pk for person in found]
    doors, counts = health.doors_of(ids), health.device_counts(ids)
    rows = [
        {"person": person, "doors": doors.get(person.pk, []), "devices": counts.get(person.pk, health.DeviceCount())}
        for person in found
    ]
    context = {"rows": rows, "sees_coverage": actor.can(PermissionName.COVERAGE_READ)}
    return render(request, "console/people/doors.html", listing.shown(total, **context))
