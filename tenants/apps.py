# SPDX-License-Identifier: Apache-2.0
from django.apps import AppConfig


class TenantsConfig(AppConfig):
    name = "tenants"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from tenants import invitations, mails, openapi, resets, tasks  # noqa: F401 — the last two register themselves
        from tenants.acts import act, people, programs, tenant

        act.register(*people.ACTS, *programs.ACTS, *tenant.ACTS)
        mails.links_by("invitation", invitations.link_of)
        mails.links_by("password-reset", resets.link_of)
