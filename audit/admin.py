# SPDX-License-Identifier: Apache-2.0
from django.contrib import admin

from audit.models import Checkpoint, Entry
from kernel.admin import ReadOnlyAdmin


@admin.register(Entry)
class EntryAdmin(ReadOnlyAdmin):
    list_display = ("leaf_index", "log", "tag", "actor", "subject", "time", "tenant_id")
    list_filter = ("log", "tag")


@admin.register(Checkpoint)
class CheckpointAdmin(ReadOnlyAdmin):
    list_display = ("log", "size", "signed_at", "tenant_id")
