# SPDX-License-Identifier: Apache-2.0
"""Django's admin, read-only: metadata of devices and of tenant master keys (FAULTS T11).

Mailboxes are not here: when something came for whom is what nobody but its reader has to know.
"""

from __future__ import annotations

from django.contrib import admin

from kernel.admin import ReadOnlyAdmin
from keys.models import Device, TenantMasterKey


@admin.register(Device)
class DeviceAdmin(ReadOnlyAdmin):
    list_display = ("id", "user_id", "state", "suite", "created_at", "tenant_id")
    list_filter = ("state", "suite")
    ordering = ("-created_at",)
    shown = ("id", "tenant_id", "user_id", "state", "suite", "created_at", "activated_at", "revoked_at")


@admin.register(TenantMasterKey)
class TenantMasterKeyAdmin(ReadOnlyAdmin):
    """How far a rotation has come: which version of a tenant's key stands under which of the installation's."""

    list_display = ("tenant_id", "version", "master_version", "state", "created_at")
    list_filter = ("state", "master_version")
    ordering = ("tenant_id", "-version")
    shown = ("tenant_id", "version", "master_version", "state", "created_at")
