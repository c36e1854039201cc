# SPDX-License-Identifier: Apache-2.0
from django.contrib import admin

from kernel.admin import ReadOnlyAdmin
from keys.models import ChainHead, Device, PreKeyBatch


@admin.register(Device)
class DeviceAdmin(ReadOnlyAdmin):
    list_display = ("id", "user_id", "state", "suite", "created_at", "tenant_id")
    list_filter = ("state",)


@admin.register(ChainHead)
class ChainHeadAdmin(ReadOnlyAdmin):
    list_display = ("user_id", "seq", "updated_at", "tenant_id")


@admin.register(PreKeyBatch)
class PreKeyBatchAdmin(ReadOnlyAdmin):
    list_display = ("device", "size", "stored_at", "tenant_id")
