# SPDX-License-Identifier: Apache-2.0
"""Django's own admin for platform operators: read-only, metadata only (FAULTS T11)."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import BinaryField, QuerySet
from django.http import HttpRequest

from kernel.models import Job


class ReadOnlyAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Lists rows of all tenants, and can neither add, change nor delete one. Octets are not shown."""

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows: QuerySet[Any] = self.model._base_manager.all()
        return rows

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return [field.name for field in self.model._meta.fields if not isinstance(field, BinaryField)]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Job)
class JobAdmin(ReadOnlyAdmin):
    list_display = ("kind", "queue", "state", "attempts", "run_at", "tenant_id")
    list_filter = ("state", "queue")
