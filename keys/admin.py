# SPDX-License-Identifier: Apache-2.0
"""Django's admin, read-only: metadata of devices and of tenant master keys (DESIGN section 10)."""

from __future__ import annotations

from django.contrib import admin

from kernel.admin import ReadOnlyAdmin
from keys.models import ChainHead, Device, PreKeyBatch, TenantMasterKey


@admin.register(Device)
class DeviceAdmin(ReadOnlyAdmin):
    list_display = ("id", "user_id", "state", "suite", "created_at", "tenant_id")
    list_filter = ("state", "suite")


@admin.register(ChainHead)
class ChainHeadAdmin(ReadOnlyAdmin):
    list_display = ("user_id", "seq", "updated_at", "tenant_id")


@admin.register(PreKeyBatch)
class PreKeyBatchAdmin(ReadOnlyAdmin):
    list_display = ("id", "device_id", "size", "stored_at", "tenant_id")


@admin.register(TenantMasterKey)
class TenantMasterKeyAdmin(ReadOnlyAdmin):
    list_display = ("tenant_id", "version", "master_version", "state", "created_at")
