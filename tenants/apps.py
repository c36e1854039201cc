# SPDX-License-Identifier: Apache-2.0
from django.apps import AppConfig


class TenantsConfig(AppConfig):
    name = "tenants"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from tenants import openapi, tasks  # noqa: F401 — they register themselves
        from tenants.acts import act, people

        act.register(*people.ACTS)
