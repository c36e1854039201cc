# SPDX-License-Identifier: Apache-2.0
"""The app of the platform's operators, and Django's admin as they find it."""

from __future__ import annotations

from django.apps import AppConfig
from django.contrib.admin.apps import SimpleAdminConfig


class OperatorsConfig(AppConfig):
    default = True  # of the two in this module
    name = "operators"
    verbose_name = "Operators"

    def ready(self) -> None:
        from operators import tasks  # noqa: F401 — handlers register themselves


class AdminConfig(SimpleAdminConfig):
    """Django's admin on our own site. It asks no app what to list but ours: others would list passwords and secrets."""

    default_site = "operators.site.OperatorSite"

    def ready(self) -> None:
        super().ready()
        from audit import admin as _audit  # noqa: F401 — each registers what it lists
        from kernel import admin as _kernel  # noqa: F401
        from keys import admin as _keys  # noqa: F401
        from tenants import admin as _tenants  # noqa: F401
