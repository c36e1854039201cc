# SPDX-License-Identifier: Apache-2.0
"""Django's admin, read-only: how far each tenant's logs are (FAULTS T11).

Entries are not here: who did what to whom is the tenant's to read, and theirs alone.
"""

from __future__ import annotations

from django.contrib import admin

from audit.models import LogHead
from kernel.admin import ReadOnlyAdmin


@admin.register(LogHead)
class LogHeadAdmin(ReadOnlyAdmin):
    list_display = ("tenant_id", "log", "size", "signed_size")
    list_filter = ("log",)
    ordering = ("tenant_id", "log")
    shown = ("tenant_id", "log", "size", "signed_size")
