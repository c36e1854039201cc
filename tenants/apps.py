# SPDX-License-Identifier: Apache-2.0
from django.apps import AppConfig


class TenantsConfig(AppConfig):
    name = "tenants"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from audit.access import sign_when_asked_by
        from tenants import codes, invitations, mails, resets, tasks  # noqa: F401 — they register themselves
        from tenants.acts import act, people, programs, tenant
        from tenants.acts import codes as code_acts
        from tenants.authentication import heard_lately
        from tenants.imports import act as imports

        act.register(*people.ACTS, *code_acts.ACTS, *imports.ACTS, *programs.ACTS, *tenant.ACTS)
        mails.links_by(codes.MAIL_KIND, codes.code_of)
        mails.links_by("invitation", invitations.link_of)
        mails.links_by("password-reset", resets.link_of)
        sign_when_asked_by(heard_lately)
