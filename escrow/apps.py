# SPDX-License-Identifier: Apache-2.0
"""The app that puts archive keys into custody and keeps them there."""

from __future__ import annotations

from django.apps import AppConfig


class EscrowConfig(AppConfig):
    name = "escrow"
    verbose_name = "Escrow"

    def ready(self) -> None:
        from escrow import (
            device_acts,
            exporting,
            policies,
            tasks,  # noqa: F401 — periodic work registers itself
            tenant_acts,
        )
        from escrow.access import keeps_doors
        from keys.services import ends_with_a_loss, keeps_doors_of
        from tenants.acts.act import register
        from tenants.exporting import exports
        from tenants.services import ends_with_a_person

        exports(*exporting.SOURCES)
        register(*device_acts.ACTS, *tenant_acts.ACTS)
        ends_with_a_loss(policies.lose_keys)
        ends_with_a_person(policies.suspend_officer)
        keeps_doors_of(keeps_doors)
