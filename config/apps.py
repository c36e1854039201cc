# SPDX-License-Identifier: Apache-2.0
"""The composition root as an app: it wires the packages together when Django is ready."""

from __future__ import annotations

from django.apps import AppConfig

from config.memory import left_out

# Its client for the tests of others: with what that imports, 5 MiB of each process.
with left_out("requests"):
    import rest_framework.compat  # noqa: F401 — before whatever imports more of it


class ConfigConfig(AppConfig):
    name = "config"
    verbose_name = "Holdfast"

    def ready(self) -> None:
        from config import checks, wiring  # noqa: F401 — checks register themselves

        wiring.wire()
