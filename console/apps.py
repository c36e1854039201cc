# SPDX-License-Identifier: Apache-2.0
"""The app of the HTML pages. It stands on top of the others, and has no rows of its own."""

from __future__ import annotations

from django.apps import AppConfig


class ConsoleConfig(AppConfig):
    name = "console"
    verbose_name = "Console"
