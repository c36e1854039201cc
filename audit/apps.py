# SPDX-License-Identifier: Apache-2.0
from django.apps import AppConfig


class AuditConfig(AppConfig):
    name = "audit"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from audit import access, tasks  # noqa: F401 — its periodic work registers itself
        from kernel.scope import rest_by

        rest_by(access.restored_tenants)
