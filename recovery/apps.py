# SPDX-License-Identifier: Apache-2.0
"""The app that gets a key out of custody: cases, approvals, notices, releases."""

from __future__ import annotations

from django.apps import AppConfig


class RecoveryConfig(AppConfig):
    name = "recovery"
    verbose_name = "Recovery"
