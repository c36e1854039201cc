# SPDX-License-Identifier: Apache-2.0
"""The app that gets a key out of custody: cases, approvals, notices, releases."""

from __future__ import annotations

from django.apps import AppConfig


class RecoveryConfig(AppConfig):
    name = "recovery"
    verbose_name = "Recovery"

    def ready(self) -> None:
        from audit.access import keep_fresh_by, withhold_by
        from escrow.services import ends_with_an_office
        from keys.services import register_regenesis_rules
        from recovery import access, exporting, tasks  # noqa: F401 — handlers register themselves
        from recovery.cases.endings import end_approvals
        from recovery.cases.regenesis import Rules
        from recovery.leaving import acts
        from tenants.acts.act import register
        from tenants.exporting import exports

        ends_with_an_office(end_approvals)
        register_regenesis_rules(Rules())
        withhold_by(access.withheld_entries)
        exports(*exporting.SOURCES)
        keep_fresh_by(access.tenants_waiting)
        register(*acts.ACTS)
