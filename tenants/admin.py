# SPDX-License-Identifier: Apache-2.0
"""Django's admin, read-only: metadata of tenants and people for platform operators (FAULTS T11).

People and programs are counted by what they are and do; nobody's name or address is shown.
"""

from __future__ import annotations

from django.contrib import admin

from kernel.admin import ReadOnlyAdmin
from tenants.models import Credential, Person, ServiceAccount, Tenant


@admin.register(Tenant)
class TenantAdmin(ReadOnlyAdmin):
    list_display = ("slug", "state", "is_development", "created_at")
    list_filter = ("state", "is_development")
    ordering = ("slug",)
    shown = ("id", "slug", "name", "state", "is_development", "created_at")


@admin.register(Person)
class PersonAdmin(ReadOnlyAdmin):
    list_display = ("id", "role", "state", "tenant_id", "created_at")
    list_filter = ("role", "state")
    ordering = ("-created_at",)
    shown = ("id", "tenant_id", "role", "state", "created_at")


@admin.register(ServiceAccount)
class ServiceAccountAdmin(ReadOnlyAdmin):
    list_display = ("id", "tenant_id", "created_at")
    ordering = ("-created_at",)
    shown = ("id", "tenant_id", "created_at")


@admin.register(Credential)
class CredentialAdmin(ReadOnlyAdmin):
    list_display = ("id", "kind", "state", "tenant_id", "created_at")
    list_filter = ("kind", "state")
    ordering = ("-created_at",)
    shown = ("id", "tenant_id", "kind", "state", "created_at")
