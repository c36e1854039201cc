# SPDX-License-Identifier: Apache-2.0
"""The console's page of one device: what it signed about itself, its pre-keys and how long they last.

Implements PLATFORM "Console". It only looks.
"""

from __future__ import annotations

from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone

from console.frame import console_page
from holdfast.core.base.errors import HoldfastError
from holdfast.core.crypto.suites import Suite
from holdfast.core.signed.cose import Sign1
from holdfast.core.signed.statements import DeviceStatement
from kernel.actors import Actor
from keys import access, health
from tenants import access as tenants
from tenants.acts import engine
from tenants.permissions import PermissionName
from tenants.states import CredentialState

SUITES = {
    Suite.CLASSICAL: "1 · Ed25519, X25519",
    Suite.HYBRID: "2 · Ed25519, X25519 with ML-KEM-768",
    Suite.CLASSICAL_P256: "3 · P-256",
    Suite.HYBRID_P256: "4 · P-256 with ML-KEM-768",
}


@console_page(PermissionName.DEVICE_READ)
def device_page(request: HttpRequest, actor: Actor, device_id: UUID) -> HttpResponse:
    """Show one device."""
    device, now = access.device(device_id), timezone.now()
    (standing,) = health.of_devices([device], now=now)
    try:
        signed, refusal = DeviceStatement.open(Sign1.parse(bytes(device.statement))), ""
    except HoldfastError as error:
        signed, refusal = None, str(error)
    context = {
        "device": device,
        "is_suspended": tenants.credential_state(device.id) == CredentialState.SUSPENDED,
        "standing": standing,
        "pool_state": standing.state_at(now),
        "signed": signed,
        "refusal": refusal,
        "suite": SUITES[signed.suite] if signed else "",
        "acts": engine.offered(actor, "device", device),
        "people": tenants.people_by_id([device.user_id]),
    }
    return render(request, "console/people/device.html", context)
