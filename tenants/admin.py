# SPDX-License-Identifier: Apache-2.0
"""Django's admin, read-only: metadata of tenants and people for platform operators (FAULTS T11)."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from kernel.admin import ReadOnlyAdmin
from tenants.models import Credential, Person, ServiceAccount, Tenant


@admin.register(Tenant)
class TenantAdmin(ReadOnlyAdmin):
    list_display = ("slug", "state", "is_development", "created_at")


@admin.register(Person)
class PersonAdmin(ReadOnlyAdmin):
    list_display = ("id", "role", "state", "tenant_id", "created_at")

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        # A password hash is no metadata.
        return [name for name in super().get_fields(request, obj) if name != "password"]


@admin.register(ServiceAccount, Credential)
class PrincipalAdmin(ReadOnlyAdmin):
    list_display = ("id", "tenant_id", "created_at")
