# SPDX-License-Identifier: Apache-2.0
"""Django's admin, read-only: metadata of devices and of tenant master keys (FAULTS T11)."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from kernel.admin import ReadOnlyAdmin
from keys.models import ChainHead, Device, Message, PreKeyBatch, TenantMasterKey


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


@admin.register(Message)
class MessageAdmin(ReadOnlyAdmin):
    """How full mailboxes are. Who wrote to whom is not an operator's to read here."""

    list_display = ("id", "device_id", "kind", "size", "received_at", "tenant_id")
    list_filter = ("kind",)

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return [name for name in super().get_fields(request, obj) if not name.startswith("sender_")]


@admin.register(TenantMasterKey)
class TenantMasterKeyAdmin(ReadOnlyAdmin):
    list_display = ("tenant_id", "version", "master_version", "state", "created_at")
